"""What the local engine reuses, what it runs again, and why, on the small taxi pipeline."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ml_metadata.proto import metadata_store_pb2

from components.lineage.store import open_store
from schemas.config import MetadataConfig, SqliteConfig
from tests.workbench import Answer, Bench, satisfice, taxi_bench

MODEL = "mine_taxi"


def ran(answer: Answer) -> set[str]:
    """The nodes that ran; the looks at who is served, and on what it was trained, do not count."""
    return {node["node"] for node in answer.json["nodes"] if node["state"] == "ran"} - {"Champion", "Baseline"}


def reasons(answer: Answer) -> dict[str, str]:
    return {node["node"]: node["reason"] for node in answer.json["nodes"]}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A pipeline of its own, with the model module beside the configuration, that has run twice."""
    made = taxi_bench(tmp_path_factory.mktemp("engine"), rows=1200)
    source = Path(__file__).parents[2] / "pipeline" / "models" / "taxi.py"
    shutil.copy(source, made.folder / f"{MODEL}.py")
    made.edit(lambda raw: raw["model"].update(module=MODEL))
    made.edit(lambda raw: raw["gates"].update(satisfy=[{"metric": "auc", "min": 0.01}], optimize=None))
    first = made.run()
    assert (first.code, first.json["outcome"]) == (0, "pushed"), first.out
    second = made.run()
    assert second.json["outcome"] == "already_served"
    assert ran(second) == {"DataGate", "Gate", "Pusher"}, "what is served has changed, and nothing else"
    logs = {file.name for file in Path(second.json["log"]).parent.iterdir()}
    assert "template.log" not in logs, "neither takes TFX, so no worker has imported it"
    return made


def change_model(bench: Bench, old: str, new: str) -> None:
    file = bench.folder / f"{MODEL}.py"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_an_unchanged_run_starts_no_worker(bench: Bench) -> None:
    """Nothing runs, so TFX is not imported; and it says so of each node."""
    answer = bench.run()
    assert ran(answer) == set()
    assert reasons(answer)["Trainer"] == "same inputs, parameters and code"
    assert all(node["peak_memory_mb"] is None for node in answer.json["nodes"])


def test_another_limit_is_judged_without_a_worker(bench: Bench) -> None:
    """Gate and Pusher run in the runner's own process."""
    answer = bench.run("gates.satisfy.0.min=0.02")
    assert ran(answer) == {"Gate", "Pusher"}
    assert all(node["peak_memory_mb"] is None for node in answer.json["nodes"])


def test_a_file_that_was_only_touched_runs_nothing(bench: Bench) -> None:
    """Content counts, not times."""
    text = bench.data.read_bytes()
    bench.data.unlink()
    bench.data.write_bytes(text)
    assert ran(bench.run()) == set()


def test_explain_tells_and_writes_nothing(bench: Bench) -> None:
    """The plan of a changed parameter, and not a byte in the store."""
    before = (bench.folder / "metadata.db").read_bytes()
    plan = satisfice("run", bench.config, "--explain", "--json", "--set", "training.seed=5").json
    told = {one["node"]: (one["action"], one["reason"]) for one in plan}
    assert told["Transform"][0] == "reuse"
    assert told["Trainer"] == ("run", "parameter custom_config changed")
    assert told["Evaluator"][0] == "unknown"
    assert (bench.folder / "metadata.db").read_bytes() == before


def test_a_change_of_build_model_runs_the_trainer_and_what_follows(bench: Bench) -> None:
    """Nothing above it, for the fingerprint is of each function alone."""
    change_model(bench, 'activation="relu"', 'activation="elu"')
    answer = bench.run()
    assert ran(answer) == {"Trainer", "Evaluator", "Gate", "Pusher"}
    assert reasons(answer)["Trainer"] == "parameter custom_config changed"


def test_a_damaged_artifact_is_found_marked_and_made_anew(bench: Bench) -> None:
    """One flipped byte in a vocabulary that Transform left."""
    bench.run()
    words = next(iter((bench.folder / "pipelines/taxi/Transform/transform_graph").rglob("assets/company")))
    content = bytearray(words.read_bytes())
    content[len(content) // 2] ^= 1
    words.write_bytes(bytes(content))
    answer = bench.run()
    assert "Transform" in ran(answer)
    assert reasons(answer)["Transform"].startswith(
        "what is kept of it is damaged: transform_graph/transform_fn/assets/company"
    )
    store = open_store(MetadataConfig(sqlite=SqliteConfig(path=str(bench.folder / "metadata.db"))))
    damaged = [one for one in store.get_artifacts() if one.uri and str(words).startswith(one.uri + "/")]
    assert [one.state for one in damaged] == [metadata_store_pb2.Artifact.DELETED]
    assert answer.json["outcome"] in ("already_served", "pushed")


def test_from_a_node_on_everything_runs(bench: Bench) -> None:
    """Whatever is known of it."""
    bench.run()
    answer = bench.run(options=("--from", "Evaluator"))
    assert ran(answer) == {"Evaluator", "Gate", "Pusher"}
    assert reasons(answer)["Evaluator"] == "asked for"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--from", "Trainr"), "--from: is not a node"),
        (("--resume",), "there is no run to resume"),
        (("--resume", "--runner", "tfx-local"), "is not available with --runner tfx-local"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(bench: Bench, options: tuple[str, ...], words: str) -> None:
    """With the reason; nothing is recorded."""
    before = len(satisfice("runs", bench.config, "--json").json)
    answer = satisfice("run", bench.config, *options)
    assert answer.code in (1, 2)
    assert words in answer.err
    assert len(satisfice("runs", bench.config, "--json").json) == before


def test_a_run_whose_finished_nodes_would_be_others_is_run_anew(bench: Bench) -> None:
    """Its Transform had finished with other code: what is still right is reused under a new run, which says why."""
    bench.edit(lambda raw: raw["model"]["hyperparameters"].update(hidden_units=[9]))
    change_model(bench, "    settings = Hyperparameters(**hyperparameters)\n    inputs", "    1 / 0\n    inputs")
    failed = bench.run()
    assert failed.code == 1
    change_model(bench, "    1 / 0\n    inputs", "    settings = Hyperparameters(**hyperparameters)\n    inputs")
    change_model(bench, "num_buckets=32", "num_buckets=8")
    anew = bench.run(options=("--resume",))
    assert anew.code == 0, anew.out + anew.err
    assert anew.json["run"] != failed.json["run"]
    states = {node["node"]: node["state"] for node in anew.json["nodes"]}
    assert (states["ExampleGen"], states["Transform"]) == ("cached", "ran")
