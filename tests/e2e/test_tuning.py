"""A search in the pipeline: its winner is trained, stands in the lineage, and is found in the cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.workbench import Bench, satisfice, taxi_bench

SPACE = {
    "hidden_units": {"choices": [[16], [8]]},
    "learning_rate": {"min": 0.005, "max": 0.05, "log": True},
    "embedding_size": {"min": 2, "max": 6},
}


def _search(raw: dict[str, Any]) -> None:
    raw["model"]["hyperparameters"].update(hidden_units=[16], embedding_size=4)
    raw["training"]["epochs"] = 2
    raw["training"]["tune"] = {"trials": 4, "objective": "auc", "space": SPACE, "parallel": 2}
    raw["gates"]["satisfy"] += [
        {"metric": "parameters", "max": 1_000_000},
        {"metric": "size_mb", "max": 50},
        {"metric": "latency_p50_ms", "max": 60_000},
    ]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, dict[str, Any]]:
    """The small taxi pipeline with a search of four trials, and what its run answered."""
    bench = taxi_bench(tmp_path_factory.mktemp("tuned"))
    bench.edit(_search)
    answer = bench.run()
    assert answer.code == 0, answer.out + answer.err
    return bench, answer.json


def _shown(bench: Bench) -> dict[str, Any]:
    answer = satisfice("show", "latest", bench.config, "--json")
    assert answer.code == 0, answer.err
    found: dict[str, Any] = answer.json
    return found


def _winner(tuning: dict[str, Any]) -> dict[str, Any]:
    return next(one for one in tuning["trials"] if one["number"] == tuning["best"])


def test_all_trials_are_in_the_lineage(tuned: tuple[Bench, dict[str, Any]]) -> None:
    """Each with its values, what became of it, and the digest of its configuration; `run` and `show` tell the same."""
    bench, ran = tuned
    tuning = _shown(bench)["tuning"]
    assert tuning == ran["tuning"]
    assert len(tuning["trials"]) == 4
    assert {one["state"] for one in tuning["trials"]} <= {"complete", "pruned"}
    assert all(set(one["values"]) == set(SPACE) and len(one["digest"]) == 64 for one in tuning["trials"])
    assert tuning["trials"][0]["values"]["hidden_units"] == [16], "the configuration's own come first"


def test_the_trainer_takes_the_winner(tuned: tuple[Bench, dict[str, Any]]) -> None:
    """Over the configuration's values, and trains it to the objective that its trial had."""
    shown = _shown(tuned[0])
    winner, training = _winner(shown["tuning"]), shown["training"]
    assert training["hyperparameters"] == {**training["hyperparameters"], **winner["values"]}
    assert training["hyperparameters"]["dropout"] == 0.3
    assert training["history"]["val_auc"][-1] == pytest.approx(winner["objective"], abs=5e-3)


def test_the_artifact_is_tfx_s(tuned: tuple[Bench, dict[str, Any]]) -> None:
    """One file, in keras-tuner's form."""
    bench, _ = tuned
    outputs = {output["key"]: output for node in _shown(bench)["nodes"] for output in node["outputs"]}
    (file,) = Path(outputs["best_hyperparameters"]["uri"]).iterdir()
    assert file.name == "best_hyperparameters.txt"
    assert set(json.loads(file.read_text())["values"]) == set(SPACE)
    assert outputs["best_hyperparameters"]["type"] == "HyperParameters"


def test_what_a_trial_is_held_against_is_what_ships(tuned: tuple[Bench, dict[str, Any]]) -> None:
    """Parameters to the last one, the size to a hundredth, although the trial's payload was not trained."""
    _, ran = tuned
    winner = _winner(ran["tuning"])
    gates = {gate["metric"]: gate["value"] for gate in ran["decision"]["gates"]}
    assert winner["figures"]["parameters"] == gates["parameters"]
    assert winner["figures"]["size_mb"] == pytest.approx(gates["size_mb"], rel=0.01)
    assert 0 < winner["figures"]["latency_p50_ms"] < 60_000


def test_the_leaderboard_is_printed(tuned: tuple[Bench, dict[str, Any]]) -> None:
    """The winner first, with why the others did not win."""
    answer = satisfice("show", "latest", tuned[0].config)
    assert answer.code == 0, answer.err
    lines = [line.strip() for line in answer.out.splitlines()]
    first = lines[lines.index("Trials") + 2]
    assert first.split()[:2] == [str(tuned[1]["tuning"]["best"]), "best"]
    assert "tuning: 4 trials: " in answer.out


def test_why_tells_of_the_search(tuned: tuple[Bench, dict[str, Any]]) -> None:
    """Which trial won, with which values, and why others did not."""
    bench, ran = tuned
    answer = satisfice("why", "latest", bench.config)
    assert answer.code == 0, answer.err
    winner = _winner(ran["tuning"])
    assert f"best: trial {winner['number']}, with hidden_units {winner['values']['hidden_units']}" in answer.out
    assert satisfice("why", "latest", bench.config, "--json").json["tuning"] == ran["tuning"]


def test_an_unchanged_search_is_not_made_again(tuned: tuple[Bench, dict[str, Any]]) -> None:
    """Nor is the training; the same model is served already."""
    answer = tuned[0].run()
    states = {node["node"]: node["state"] for node in answer.json["nodes"]}
    assert (states["Tuner"], states["Trainer"]) == ("cached", "cached")
    assert answer.json["outcome"] == "already_served"
    assert answer.json["tuning"] == tuned[1]["tuning"]
