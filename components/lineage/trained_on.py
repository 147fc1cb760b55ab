"""Which statistics describe the data that a model was trained on, found through the lineage. Imports no TFX."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ml_metadata.proto import metadata_store_pb2

from components.lineage.served import newest_push

__all__ = ["DIGEST_PROPERTY", "STATISTICS_FILE", "TrainedOn", "examples_of", "statistics_of", "trained_on"]

STATISTICS_FILE = "FeatureStats.pb"
"""Name of the file, in a folder for each split, that an ExampleStatistics artifact holds."""
DIGEST_PROPERTY = "sha256_"
"""Beginning of the custom property that holds the SHA-256 of a split's file; the split's name follows."""

_EXAMPLES, _STATISTICS = "Examples", "ExampleStatistics"
_KEY = "statistics"
"""Output key of StatisticsGen; what a Transform says of its own inputs stands under others."""

_Event = metadata_store_pb2.Event
_Artifact = metadata_store_pb2.Artifact


@dataclass(frozen=True)
class TrainedOn:
    """What a resolver finds.

    Attributes:
        push: the newest push record, an `ml_metadata` Artifact proto; None where nothing was pushed.
        statistics: of the data that the pushed model was trained on; None where they are not known any more.
    """

    push: Any | None
    statistics: Any | None


def trained_on(store: Any, pushes: list[Any], base_path: str) -> TrainedOn:
    """The push record of the model now served, and the statistics of its training data.

    Args:
        store: the metadata store.
        pushes: every PushedModel artifact of the pipeline, as protos.
        base_path: of the watch directory; what was pushed elsewhere does not count.
    """
    push = newest_push(pushes, base_path)
    if push is None:
        return TrainedOn(None, None)
    return TrainedOn(push, statistics_of(store, push.custom_properties["model_id"].int_value))


def statistics_of(store: Any, model_id: int) -> Any | None:
    """The newest live statistics of the examples from which a model came about; None where there are none.

    Args:
        store: the metadata store.
        model_id: of the Model artifact.
    """
    found = [
        artifact
        for examples in _examples_behind(store, model_id)
        for artifact in _statistics_from(store, examples)
        if artifact.state == _Artifact.LIVE
    ]
    return max(found, key=lambda artifact: int(artifact.id), default=None)


def examples_of(store: Any, model_id: int) -> Any | None:
    """The newest examples from which a model came about, an `ml_metadata` Artifact proto; None where there are none.

    Args:
        store: the metadata store.
        model_id: of the Model artifact.
    """
    found = sorted(_examples_behind(store, model_id))
    return next(iter(store.get_artifacts_by_id(found[-1:])), None) if found else None


def _examples_behind(store: Any, artifact_id: int) -> Iterator[int]:
    """Ids of the Examples artifacts upstream of an artifact, through the executions that made each of them first."""
    seen, todo = {artifact_id}, [artifact_id]
    while todo:
        made = [one for one in store.get_events_by_artifact_ids(todo) if one.type == _Event.OUTPUT]
        makers = {artifact: min(e.execution_id for e in made if e.artifact_id == artifact) for artifact in _ids(made)}
        events = store.get_events_by_execution_ids(sorted(set(makers.values()))) if makers else []
        inputs = {one.artifact_id for one in events if one.type == _Event.INPUT} - seen
        seen |= inputs
        todo = sorted(inputs)
        for artifact in store.get_artifacts_by_id(todo) if todo else []:
            if artifact.type == _EXAMPLES:
                yield artifact.id


def _statistics_from(store: Any, examples_id: int) -> list[Any]:
    """The statistics that were made of an Examples artifact."""
    readers = {one.execution_id for one in store.get_events_by_artifact_ids([examples_id]) if one.type == _Event.INPUT}
    events = store.get_events_by_execution_ids(sorted(readers)) if readers else []
    made = {one.artifact_id for one in events if one.type == _Event.OUTPUT and one.path.steps[0].key == _KEY}
    artifacts = store.get_artifacts_by_id(sorted(made)) if made else []
    return [artifact for artifact in artifacts if artifact.type == _STATISTICS]


def _ids(events: list[Any]) -> set[int]:
    return {event.artifact_id for event in events}
