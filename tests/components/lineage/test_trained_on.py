"""From a push record to the statistics of the data that its model was trained on."""

from __future__ import annotations

from typing import Any

from ml_metadata.proto import metadata_store_pb2 as pb

from components.lineage.trained_on import statistics_of, trained_on
from tests.components.lineage.ledger import Event, Execution, Ledger

BASE = "/srv/taxi"


def link(ledger: Ledger, execution: int, artifact: int, key: str, kind: Any = Event.INPUT) -> None:
    path = Event.Path(steps=[Event.Path.Step(key=key), Event.Path.Step(index=0)])
    ledger.store.put_events([Event(artifact_id=artifact, execution_id=execution, type=kind, path=path)])


def train(ledger: Ledger, run: str) -> dict[str, int]:
    """One run, from examples to a model, by way of transformed examples; ids of its artifacts."""
    made = {"examples": ledger.artifact(ledger.execution(run, "ExampleGen"), "examples", "Examples")}
    node = ledger.execution(run, "StatisticsGen")
    link(ledger, node, made["examples"], "examples")
    made["statistics"] = ledger.artifact(node, "statistics", "ExampleStatistics")
    node = ledger.execution(run, "Transform")
    link(ledger, node, made["examples"], "examples")
    made["transformed"] = ledger.artifact(node, "transformed_examples", "Examples")
    ledger.artifact(node, "pre_transform_stats", "ExampleStatistics")
    node = ledger.execution(run, "Trainer")
    link(ledger, node, made["transformed"], "examples")
    made["model"] = ledger.artifact(node, "model", "Model")
    return made


def push(ledger: Ledger, run: str, model: int, pushed: int = 1, base_path: str = BASE) -> int:
    properties = {"pushed": pushed, "model_id": model, "base_path": base_path, "version": 1}
    return ledger.artifact(ledger.execution(run, "Pusher"), "pushed_model", "PushedModel", properties)


def found(ledger: Ledger, base_path: str = BASE) -> tuple[int | None, int | None]:
    """Ids of the push record and the statistics."""
    result = trained_on(ledger.store, ledger.store.get_artifacts_by_type("PushedModel"), base_path)
    return (result.push and result.push.id, result.statistics and result.statistics.id)


def test_nothing_is_served(ledger: Ledger) -> None:
    """Nothing was pushed, or into another directory."""
    made = train(ledger, "run-1")
    push(ledger, "run-1", made["model"], base_path="/elsewhere")
    push(ledger, "run-2", made["model"], pushed=0)
    assert found(ledger) == (None, None)


def test_the_statistics_of_what_is_served(ledger: Ledger) -> None:
    """Not of the newest data, and not what Transform says of its inputs."""
    first = train(ledger, "run-1")
    record = push(ledger, "run-1", first["model"])
    train(ledger, "run-2")
    assert found(ledger) == (record, first["statistics"])


def test_a_model_that_was_reused(ledger: Ledger) -> None:
    """The execution that made it counts, not one that only gave it out again beside other inputs."""
    first, second = train(ledger, "run-1"), train(ledger, "run-2")
    again = ledger.execution("run-3", "Trainer", Execution.CACHED)
    link(ledger, again, second["transformed"], "examples")
    link(ledger, again, first["model"], "model", Event.OUTPUT)
    push(ledger, "run-3", first["model"])
    assert found(ledger)[1] == first["statistics"]


def test_statistics_that_were_made_twice(ledger: Ledger) -> None:
    """The newest that are live; none where all were marked as damaged."""
    made = train(ledger, "run-1")
    node = ledger.execution("run-2", "StatisticsGen")
    link(ledger, node, made["examples"], "examples")
    newer = ledger.artifact(node, "statistics", "ExampleStatistics")

    def mark(artifact_id: int, state: Any) -> None:
        (artifact,) = ledger.store.get_artifacts_by_id([artifact_id])
        artifact.state = state
        ledger.store.put_artifacts([artifact])

    states = pb.Artifact
    for artifact_id in (made["statistics"], newer):
        mark(artifact_id, states.LIVE)
    assert statistics_of(ledger.store, made["model"]).id == newer
    mark(newer, states.DELETED)
    assert statistics_of(ledger.store, made["model"]).id == made["statistics"]
    mark(made["statistics"], states.DELETED)
    assert statistics_of(ledger.store, made["model"]) is None


def test_a_model_of_unknown_origin(ledger: Ledger) -> None:
    """Nothing is made up."""
    assert statistics_of(ledger.store, 99) is None
