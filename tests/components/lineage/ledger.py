"""A metadata store as TFX's launcher leaves one, written with ml_metadata alone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb

from components.lineage.reader import Lineage
from components.lineage.store import open_store
from schemas.config import MetadataConfig, SqliteConfig

Execution, Event = pb.Execution, pb.Event


class Ledger:
    """A store in a folder, and what a launcher would put into it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metadata.db"
        self.config = MetadataConfig(sqlite=SqliteConfig(path=str(self.path)))
        self.store: metadata_store.MetadataStore = open_store(self.config)

    def lineage(self, pipeline: str = "taxi") -> Lineage:
        """As a command that only reads opens it."""
        return Lineage(self.config, pipeline)

    def execution(self, run_id: str, node: str | None, state: Any = Execution.COMPLETE, pipeline: str = "taxi") -> int:
        """An execution of a node in a run; without a node it belongs to the run alone."""
        time.sleep(0.003)  # ML Metadata counts milliseconds, and nodes are told apart by when they began
        type_id = self.store.put_execution_type(pb.ExecutionType(name=f"type of {node}"))
        contexts = [self._context("pipeline_run", run_id)]
        if node:
            contexts.append(self._context("node", f"{pipeline}.{node}"))
        (found,) = self.store.put_executions([Execution(type_id=type_id, last_known_state=state)])
        self.store.put_attributions_and_associations(
            [], [pb.Association(execution_id=found, context_id=context) for context in contexts]
        )
        return int(found)

    def artifact(
        self,
        execution: int,
        key: str,
        type_name: str,
        properties: Mapping[str, Any] | None = None,
        event: Any = Event.OUTPUT,
    ) -> int:
        """An artifact under a key of an execution; its properties are custom ones."""
        type_id = self.store.put_artifact_type(pb.ArtifactType(name=type_name))
        artifact = pb.Artifact(type_id=type_id, uri=f"/somewhere/{type_name}", state=pb.Artifact.LIVE)
        for name, value in (properties or {}).items():
            artifact.custom_properties[name].CopyFrom(value if isinstance(value, pb.Value) else _value(value))
        (found,) = self.store.put_artifacts([artifact])
        path = Event.Path(steps=[Event.Path.Step(key=key), Event.Path.Step(index=0)])
        self.store.put_events([Event(artifact_id=found, execution_id=execution, type=event, path=path)])
        return int(found)

    def _context(self, type_name: str, name: str) -> int:
        found = self.store.get_context_by_type_and_name(type_name, name)
        if found is not None:
            return int(found.id)
        type_id = self.store.put_context_type(pb.ContextType(name=type_name))
        (created,) = self.store.put_contexts([pb.Context(type_id=type_id, name=name)])
        return int(created)


def _value(value: str | float) -> pb.Value:
    if isinstance(value, str):
        return pb.Value(string_value=value)
    return pb.Value(int_value=value) if isinstance(value, int) else pb.Value(double_value=value)
