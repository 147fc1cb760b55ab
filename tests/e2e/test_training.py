"""Where a training begins, and what becomes of one that diverges, in whole runs of the small taxi pipeline."""

from __future__ import annotations

from typing import Any

import pytest

from components.lineage.reader import Lineage
from schemas.config import MetadataConfig, SqliteConfig
from serving import payload
from tests.workbench import Bench, satisfice, taxi_bench

WARM = "training.warm_start=champion"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    made = taxi_bench(tmp_path_factory.mktemp("training"), rows=1200)
    made.edit(lambda raw: raw["gates"].update(satisfy=[{"metric": "binary_accuracy", "min": 0.01}]))
    made.edit(lambda raw: raw["gates"]["optimize"].update(at_least_champion_minus=0.9))
    return made


def trained(bench: Bench) -> dict[str, Any]:
    record: dict[str, Any] = satisfice("show", "latest", bench.config, "--json").json["training"]
    return record


def shown(bench: Bench) -> str:
    return " ".join(satisfice("show", "latest", bench.config).out.split())


def test_a_training_begins_from_the_champion(bench: Bench) -> None:
    """The first one from nothing, and says so; the next from version 1, which is an input of it, and its loss shows that."""
    first = bench.run(WARM)
    assert (first.code, first.json["outcome"]) == (0, "pushed"), first.out + first.err
    cold = trained(bench)
    assert cold["warm_start"] == {"champion": None, "cold_start_because": "no model is served yet"}
    assert "cold start because no model is served yet" in shown(bench)
    served = payload.digest(bench.served / "1")

    second = bench.run(WARM)
    assert (second.code, second.json["outcome"]) == (0, "pushed"), second.out + second.err
    warm = trained(bench)
    assert warm["warm_start"]["champion"] == served
    assert warm["warm_start"]["variables"] > 2
    assert warm["history"]["loss"][0] < cold["history"]["loss"][0]
    assert f"warm start from the champion {served[:12]}" in shown(bench)
    assert warm["cpu_utilisation"]["trainer"] > 0
    assert [one["epoch"] for one in warm["rates"]] == [1, 2, 3, 4]

    lineage = Lineage(MetadataConfig(sqlite=SqliteConfig(path=str(bench.folder / "metadata.db"))), "taxi")
    execution = lineage.executions(second.json["run"])["Trainer"]
    store = lineage._store
    events = store.get_events_by_execution_ids([execution.id])
    assert "base_model" in {step.key for event in events for step in event.path.steps}


def test_another_architecture_begins_from_nothing(bench: Bench) -> None:
    """With the variables that differ, and their shapes."""
    answer = bench.run(WARM, "model.hyperparameters.hidden_units=[8]")
    assert answer.code == 0, answer.out + answer.err
    why = trained(bench)["warm_start"]["cold_start_because"]
    assert "the champion's" in why
    assert "x8" in why
    assert f"cold start because {why}" in shown(bench)


def test_a_model_that_has_diverged_is_blocked_with_the_reason(bench: Bench) -> None:
    """Its answers are NaN, and nothing fails on that."""
    answer = bench.run("model.hyperparameters.learning_rate=1e30")
    assert (answer.code, answer.json["outcome"]) == (3, "blocked"), answer.out + answer.err
    for gate in answer.json["decision"]["gates"]:
        assert gate["verdict"] == "not_measured"
        assert "answers of the model are not numbers" in gate["reason"]
        assert gate["value"] is None
