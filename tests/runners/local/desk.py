"""What a run of the tiny pipeline needs around it: a root, a store, a cache; and nodes that are done without TFX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_metadata.proto import metadata_store_pb2

from components.lineage.store import connection_config, open_store
from runners.local.cache import Cache
from runners.local.choice import Chooser
from runners.local.graph import Graph, Node, read_graph
from runners.local.records import Artifacts, Records
from schemas.config import MetadataConfig, SqliteConfig
from tests.runners.local.tiny import compiled

Execution, Artifact = metadata_store_pb2.Execution, metadata_store_pb2.Artifact


class Desk:
    """A pipeline root in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.root = folder / "root"
        self.metadata = MetadataConfig(sqlite=SqliteConfig(path=str(folder / "metadata.db")))
        self.store = open_store(self.metadata)
        self.ir = compiled(self.root, self.connection)
        self.cache = Cache(self.root / "cache")

    @property
    def connection(self) -> Any:
        return connection_config(self.metadata)

    def graph(self, run_id: str = "run-1", ir: bytes | None = None) -> Graph:
        return read_graph(ir or self.ir, run_id)

    def chooser(self, **options: Any) -> Chooser:
        """Of a new run, with what is the same in all of them."""
        given = {"libraries": {"tfx": "1"}, "code_of": lambda node: "code", "custom_drivers": set(), **options}
        return Chooser(Records(self.store), self.cache, **given)

    def artifact(
        self, node: Node, key: str, files: Mapping[str, str] | None = None, place: str = "1", **properties: int
    ) -> Any:
        """An artifact that is not in the store yet, with its files."""
        spec = node.proto.outputs.outputs[key].artifact_spec.type
        type_id = self.store.put_artifact_type(spec, can_add_fields=True, can_omit_fields=True)
        uri = self.root / node.id / key / place
        uri.mkdir(parents=True, exist_ok=True)
        for name, text in (files or {"file.txt": f"{node.id} {key}"}).items():
            (uri / name).parent.mkdir(parents=True, exist_ok=True)
            (uri / name).write_text(text)
        artifact = Artifact(type_id=type_id, type=spec.name, uri=str(uri), state=Artifact.LIVE)
        for name, value in properties.items():
            artifact.properties[name].int_value = value
        return artifact

    def outputs(self, node: Node, place: str = "1", files: Mapping[str, str] | None = None) -> Artifacts:
        """One artifact for each output of a node; a judge's lets the rest proceed."""
        return {
            key: [self.artifact(node, key, files, place, **({"proceed": 1} if kind == "DataDecision" else {}))]
            for key, kind in node.outputs.items()
        }

    def launch(
        self, graph: Graph, name: str, inputs: Artifacts | None = None, files: Mapping[str, str] | None = None
    ) -> Artifacts:
        """Does a node, and records it as TFX's launcher does."""
        node, records = graph.node(name), Records(self.store)
        execution = records.begin(node, inputs or {}, node.parameters)
        outputs = self.outputs(node, str(execution.id), files)
        records.complete(node, execution, outputs)
        return outputs

    def executions(self, run_id: str = "run-1") -> list[Any]:
        """Those of a run, in the order in which they were registered."""
        context = self.store.get_context_by_type_and_name("pipeline_run", run_id)
        found = self.store.get_executions_by_context(context.id) if context else []
        return sorted(found, key=lambda one: one.id)
