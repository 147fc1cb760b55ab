"""Approval by a person, and a champion that is gone, on the small taxi pipeline, as its user sees it."""

from __future__ import annotations

import shutil

import pytest

from tests.workbench import Answer, Bench, satisfice, taxi_bench

OTHER = "training.seed=5"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A pipeline of its own, where a person has to approve, and nothing has run."""
    made = taxi_bench(tmp_path_factory.mktemp("approval"), rows=1200)
    optimize = {"metric": "auc", "at_least_champion_minus": 0.5}
    made.edit(lambda raw: raw.update(gates={"optimize": optimize, "approval": "required"}))
    return made


def settle(verb: str, run: str, bench: Bench) -> Answer:
    return satisfice(verb, run, bench.config, "--by", "Ada", "--reason", "looked at it", "--json")


def test_nothing_is_pushed_until_a_person_approves(bench: Bench) -> None:
    """Exit code 4, also of an unchanged run; what is approved is the newest; the next run finds it served."""
    first = bench.run()
    assert (first.code, first.json["outcome"], first.json["push"]["outcome"]) == (4, "pending", "not_pushed")
    assert not bench.served.exists()
    second = bench.run()
    assert (second.code, second.json["outcome"]) == (4, "pending")
    assert {node["node"] for node in second.json["nodes"] if node["state"] == "ran"} <= {"Baseline", "Champion"}

    overtaken = settle("approve", first.json["run"], bench)
    assert overtaken.code == 1
    assert overtaken.json["error"] == "ApprovalError"
    assert f"superseded by run {second.json['run']}" in overtaken.json["problem"]

    approved = settle("approve", "latest", bench)
    assert (approved.code, approved.json["push"]["version"]) == (0, 1)
    assert (bench.served / "1" / "saved_model.pb").is_file()
    told = satisfice("why", "1", bench.config)
    assert "approved by Ada on " in told.out
    assert "looked at it" in told.out
    assert satisfice("show", "latest", bench.config, "--json").json["decision"]["approval"]["by"] == "Ada"
    assert settle("approve", "latest", bench).code == settle("reject", "latest", bench).code == 1

    third = bench.run()
    assert (third.code, third.json["outcome"]) == (0, "already_served")


def test_a_champion_that_is_gone_blocks_until_a_person_accepts_that(bench: Bench) -> None:
    """Nothing it would be compared with can be loaded: the reason stands in the decision and in the parameters."""
    for model in (bench.folder / "pipelines/taxi/Trainer/model").iterdir():
        shutil.rmtree(model)
    blocked = bench.run(OTHER)
    (gate,) = blocked.json["decision"]["gates"]
    assert (blocked.code, gate["gate"], gate["verdict"]) == (3, "gates.optimize", "not_measured")
    assert "auc of the champion (version 1) was not measured" in gate["reason"]

    accepted = bench.run(OTHER, options=("--accept-without-champion", "its files were lost"))
    (gate,) = accepted.json["decision"]["gates"]
    assert (accepted.code, gate["verdict"]) == (4, "no_champion")
    assert gate["reason"] == "accepted without champion: its files were lost"
    assert "accepted without champion: its files were lost" in accepted.json["decision"]["notes"][0]
    assert settle("reject", "latest", bench).code == 0
    assert satisfice("runs", bench.config, "--json").json[0]["outcome"] == "rejected"
    assert settle("approve", "latest", bench).code == 1
    assert [path.name for path in bench.served.iterdir() if path.name.isdigit()] == ["1"]
