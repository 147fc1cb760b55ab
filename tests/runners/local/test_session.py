"""The compiled pipeline is reused as long as nothing of which it is made has changed, and a run is of one piece."""

from __future__ import annotations

import base64
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.lineage.reader import Lineage
from components.lineage.store import open_store
from pipeline.check import check
from pipeline.user_module import locate_user_module
from runners.local import session as session_module
from runners.local import workers as workers_module
from runners.local.cache import Cache, Ingredients
from runners.local.records import Records
from runners.local.session import Session, made_of, why_not_resumed
from runners.local.template import Done
from schemas.errors import ConfigError, NodeFailedError, SatisficeError, UserModuleError
from schemas.load import load_config
from tests.runners.local.tiny import compiled
from tests.workbench import Bench, taxi_bench

MODEL = """
import session_parts

def preprocessing_fn(inputs):
    return session_parts.clean(inputs)

def build_model(keras, features, hyperparameters):
    return None
"""
PARTS = """
def clean(inputs):
    return inputs
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Bench:
    """The taxi pipeline with its model module beside the configuration; nothing has run."""
    bench = taxi_bench(tmp_path_factory.mktemp("session"), rows=20)
    (bench.folder / "session_model.py").write_text(MODEL)
    (bench.folder / "session_parts.py").write_text(PARTS)
    bench.edit(lambda raw: raw["model"].update(module="session_model"))
    return bench


@pytest.fixture
def bench(made, tmp_path, monkeypatch) -> Bench:
    """A copy to change; what a session appends to the path is taken back."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    copy = made.copy(tmp_path / "bench")
    for name in ("session_model.py", "session_parts.py"):
        shutil.copy(made.folder / name, copy.folder)
    return copy


class Builds:
    """Stands for the worker template: answers each build with a tiny pipeline, and counts."""

    def __init__(self) -> None:
        self.count = 0
        self.answer: Callable[[dict[str, Any]], Done] = lambda arguments: Done(
            "(build)", {"ir": base64.b64encode(compiled(Path(arguments["root"]))).decode()}, 0, 1.0, 1.0
        )

    def __call__(self, log: Path, path: list[str]) -> Builds:
        assert path
        return self

    def submit(self, work: str, job: str, arguments: dict[str, Any], log: Path) -> None:
        assert job == "runners.local.jobs:build"
        self.count += 1
        self.arguments = arguments

    def wait(self, timeout_s: float | None = None) -> Done:
        return self.answer(self.arguments)

    def close(self, grace_s: float = 0.0) -> None:
        pass


@pytest.fixture
def builds(monkeypatch) -> Builds:
    counted = Builds()
    monkeypatch.setattr(workers_module, "Template", counted)
    return counted


def prepared(bench: Bench, *overrides: str, run_id: str = "run-1", **options: Any) -> Session:
    """A session that was entered and left."""
    loaded = load_config(bench.config, overrides)
    root = bench.folder / "root"
    module = check(loaded, root, locate_user_module)
    store = open_store(loaded.config.metadata)
    lineage = Lineage(loaded.config.metadata, loaded.config.name, store)
    made = Session(loaded, module, root, run_id, store, lineage, list(overrides), **options)
    with made:
        return made


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_what_was_compiled_is_read_back(bench, builds) -> None:
    """Without a worker, and with the run id of the run that reads it."""
    first = prepared(bench)
    second = prepared(bench, run_id="run-2")
    assert builds.count == 1
    ids = [made.engine.graph.ir.runtime_spec.pipeline_run_id.field_value.string_value for made in (first, second)]
    assert ids == ["run-1", "run-2"]


def test_a_touched_file_is_the_same(bench, builds) -> None:
    """Content counts, not time."""
    prepared(bench)
    for name in ("session_model.py", "schema.pbtxt", "satisfice.yaml", "data.csv"):
        (bench.folder / name).touch()
    prepared(bench)
    assert builds.count == 1


@pytest.mark.parametrize("what", ["module", "schema", "configuration", "override", "libraries", "imported", "our code"])
def test_it_is_compiled_again_when_something_changes(bench, builds, monkeypatch, what) -> None:
    """Module, what it imports, data schema, configuration, library versions, our own code; and then kept again."""
    prepared(bench)
    overrides: tuple[str, ...] = ()
    match what:
        case "module":
            edit(bench.folder / "session_model.py", "def build_model", "# another comment\ndef build_model")
        case "schema":
            edit(bench.folder / "schema.pbtxt", "feature {", "# edited\nfeature {")
        case "configuration":
            bench.edit(lambda raw: raw["training"].update(epochs=5))
        case "override":
            overrides = ("training.epochs=5",)
        case "libraries":
            monkeypatch.setattr(session_module, "library_versions", lambda: {"tfx": "9.9"})
        case "imported":
            edit(bench.folder / "session_parts.py", "return inputs", "return dict(inputs)")
        case "our code":
            monkeypatch.setattr(session_module, "sources_digest", lambda: "other")
    prepared(bench, *overrides)
    prepared(bench, *overrides)
    assert builds.count == 2


def test_a_half_written_pipeline_is_not_read(bench, builds) -> None:
    """It gets its name when it is whole."""
    prepared(bench)
    (compiled_file,) = (bench.folder / "root" / "cache" / "compiled").glob("*.pb")
    compiled_file.rename(compiled_file.with_suffix(".half"))
    prepared(bench)
    assert builds.count == 2


def test_a_module_that_a_build_refuses_is_refused_each_time(bench, builds) -> None:
    """With the worker's own error; nothing is kept of it."""
    from schemas.errors import Fault

    error = UserModuleError("module session_model", [Fault("model.module", "lacks the function build_model")])
    builds.answer = lambda arguments: Done("(build)", {"error": error.as_dict(), "traceback": ""}, 0, 1.0, 1.0)
    for _ in range(2):
        with pytest.raises(UserModuleError, match="lacks the function build_model"):
            prepared(bench)
    assert builds.count == 2


def test_a_build_that_dies_names_its_log(bench, builds) -> None:
    """And its status."""
    builds.answer = lambda arguments: Done("(build)", None, -11, 1.0, 1.0)
    with pytest.raises(SatisficeError, match=r"ended with status -11.*build\.log"):
        prepared(bench)


def test_a_template_that_dies_is_an_error_of_ours(bench, builds) -> None:
    """It says what goes on from there."""

    def dies(arguments):
        raise EOFError("the worker template ended with status -9")

    builds.answer = dies
    with pytest.raises(NodeFailedError, match=r"ended with status -9.*--resume"):
        prepared(bench)


def test_from_an_unknown_node_is_refused(bench, builds) -> None:
    """With the nodes that there are, and the close match."""
    with pytest.raises(ConfigError, match=r"--from: is not a node.*Numbers, .*did you mean 'Report'") as caught:
        prepared(bench, from_node="Reprot")
    assert caught.value.exit_code == 2
    assert prepared(bench, from_node="Judge").engine.chooser.forced == {"Judge", "Fit", "Champion", "Compare"}


def test_code_that_changes_during_a_run_is_noticed(bench, builds) -> None:
    """By the nodes whose parameters hold the fingerprint of the function that was edited, and by no others."""
    made = prepared(bench)

    class Node:
        def __init__(self, **parameters: str) -> None:
            self.parameters = parameters

    transform = Node(config=f'{{"f": "{made.module.preprocessing_fingerprint}"}}')
    trainer = Node(config=f'{{"f": "{made.module.build_model_fingerprint}"}}')
    other = Node(config="{}")
    assert [made._stale(node) for node in (transform, trainer, other)] == [False, False, False]
    edit(bench.folder / "session_model.py", "return None", "return keras.nonesuch()")
    assert [made._stale(node) for node in (transform, trainer, other)] == [False, True, False]
    (bench.folder / "session_model.py").write_text("def f(:")
    assert [made._stale(node) for node in (transform, trainer, other)] == [True, True, False]


# --- whether a run can be resumed -----------------------------------------------------------------------------------------


@pytest.fixture
def begun(bench, builds) -> Session:
    """A run that had finished one node when it was cut off."""
    made = prepared(bench)
    made.folder.mkdir(parents=True, exist_ok=True)
    (made.folder / "made_of").write_text(made_of(made.loaded, made.module, made.root))
    return made


def why(bench: Bench, made: Session, *overrides: str, root: Path | None = None) -> str:
    loaded = load_config(bench.config, overrides)
    module = locate_user_module(loaded.config.model.module, loaded.folder)
    return why_not_resumed(made.lineage, "run-1", loaded, module, root or made.root)


def test_a_run_is_resumed_where_nothing_has_changed(bench, begun) -> None:
    """Not even the time of a file matters."""
    (bench.folder / "session_model.py").touch()
    assert why(bench, begun) == ""


def test_a_run_is_not_resumed_with_other_code(bench, begun) -> None:
    """Half of it would be made by the one, half by the other."""
    edit(bench.folder / "session_model.py", "def build_model", "WIDTH = 3\n\ndef build_model")
    assert why(bench, begun) == (
        "the model's module, the data schema, the libraries, the code of the pipeline or --accept-without-champion "
        "have changed since"
    )


def test_what_was_accepted_for_one_run_is_not_resumed_without_it(bench, begun) -> None:
    """Nor does a run that was given no reason go on with one: its Gate may have judged already."""
    loaded, module, root = begun.loaded, begun.module, begun.root
    resumed = [begun.lineage, "run-1", loaded, module, root]
    assert why_not_resumed(*resumed, "its files are lost") == "it was given no --accept-without-champion"
    (begun.folder / "made_of").write_text(made_of(loaded, module, root, "its files are lost"))
    assert why_not_resumed(*resumed, "its files are lost") == ""
    assert "--accept-without-champion have changed since" in why_not_resumed(*resumed)


def test_a_run_is_not_resumed_in_another_root(bench, begun, tmp_path) -> None:
    """Nothing of it is there."""
    assert why(bench, begun, root=tmp_path / "other") == f"nothing in {tmp_path / 'other'} says what it was made of"


def test_a_run_is_not_resumed_where_what_it_finished_is_damaged(bench, begun) -> None:
    """Neither TFX nor the engine runs a node twice in a run."""
    node = begun.engine.graph.node("Numbers")
    from tests.runners.local.desk import Desk

    desk = Desk(bench.folder / "desk")
    desk.store, desk.root = begun.store, begun.root
    outputs = {"examples": [desk.artifact(node, "examples")]}
    contexts = node.proto.contexts.contexts
    next(one for one in contexts if one.type.name == "node").name.field_value.string_value = "taxi.Numbers"
    Records(begun.store).reuse(node, {}, outputs, {})
    Cache(begun.root / "cache").keep("Numbers", Ingredients({}, {}, "", {}), outputs)
    assert why(bench, begun) == ""
    Path(outputs["examples"][0].uri, "file.txt").write_text("flipped")
    assert why(bench, begun) == "what Numbers had put out is damaged: examples/file.txt was changed"
