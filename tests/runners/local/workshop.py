"""A model, its figures, and a pipeline that judges and pushes it, without anything that trains or measures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tfx.dsl.compiler import compiler
from tfx.dsl.components.common import importer
from tfx.orchestration import metadata, pipeline
from tfx.types import standard_artifacts
from tfx.types.channel import Channel

from components.gate.component import Gate
from components.lineage import writer
from components.lineage.reader import Lineage
from components.lineage.served import newest_push
from components.lineage.store import open_store
from components.pusher.component import Pusher
from runners.local.graph import Graph, read_graph
from runners.local.light import run_here
from runners.local.records import Records
from runners.local.template import Done
from schemas.config import GatesConfig, MetadataConfig, PushConfig, SqliteConfig
from schemas.decision import FIGURES_FILE, TRAINING_FILE, Figure, Figures
from serving.payload import digest

KINDS = {
    "Model": standard_artifacts.Model,
    "ModelRun": standard_artifacts.ModelRun,
    "ModelEvaluation": standard_artifacts.ModelEvaluation,
}


class Workshop:
    """A folder with a store, a watch directory and a candidate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.metadata = MetadataConfig(sqlite=SqliteConfig(path=str(folder / "metadata.db")))
        self.train("graph")

    def train(self, graph: str, auc: float = 0.9) -> None:
        """Makes another candidate, with its figures and the champion's."""
        self.candidate = self.folder / f"trained {graph}"
        for name in KINDS:
            (self.candidate / name).mkdir(parents=True)
        model = self.candidate / "Model" / "Format-Serving"
        model.mkdir()
        (model / "saved_model.pb").write_text(graph)
        self.digest = digest(model)
        (self.candidate / "ModelRun" / TRAINING_FILE).write_text(json.dumps({"digest": self.digest}))
        figures = Figures(candidate=self.digest, figures=(Figure(metric="auc", value=auc, digest=self.digest, n=100),))
        (self.candidate / "ModelEvaluation" / FIGURES_FILE).write_text(figures.model_dump_json())

    def pipeline(
        self, minimum: float = 0.5, confirm: dict[str, Any] | None = None, approval: str = "none"
    ) -> pipeline.Pipeline:
        given = {
            name: importer.Importer(source_uri=str(self.candidate / name), artifact_type=kind).with_id(name)
            for name, kind in KINDS.items()
        }
        model, run, evaluation = (one.outputs["result"] for one in given.values())
        raw = {"satisfy": [{"metric": "auc", "min": minimum}], "approval": approval}
        gates = GatesConfig.model_validate(raw, strict=False)
        gate = Gate(model, run, evaluation, Channel(type=standard_artifacts.PushedModel), gates, "c0ffee")
        push = PushConfig.model_validate({"serving": {"base_path": str(self.served), "confirm": confirm}}, strict=False)
        pusher = Pusher(model, gate.outputs["decision"], push, "small")
        return pipeline.Pipeline(
            pipeline_name="small",
            pipeline_root=str(self.folder / "root"),
            components=[*given.values(), gate, pusher],
            metadata_connection_config=metadata.sqlite_metadata_connection_config(str(self.folder / "metadata.db")),
        )

    def graph(self, run_id: str = "run-1", **options: Any) -> Graph:
        compiled = compiler.Compiler().compile(self.pipeline(**options))
        return read_graph(compiled.SerializeToString(deterministic=True), run_id)

    @property
    def served(self) -> Path:
        return self.folder / "served"

    @property
    def store(self) -> Any:
        return open_store(self.metadata)

    @property
    def lineage(self) -> Lineage:
        return Lineage(self.metadata, "small", self.store)

    def imported(self, graph: Graph, records: Records) -> dict[str, Any]:
        """The model and what belongs to it, as importers put them out."""
        found = {}
        for name in KINDS:
            node = graph.node(name)
            execution = records.begin(node, {}, {})
            found[name] = records.output(node, "result", str(self.candidate / name))
            records.complete(node, execution, {"result": [found[name]]})
        return found

    def here(self, graph: Graph, node: str, inputs: dict[str, list[Any]], records: Records) -> Done:
        """Runs a light node."""
        log = self.folder / f"{node}.log"
        return run_here(graph.node(node), records, inputs, graph.root, graph.run_id, log)

    def run(self, run_id: str, started_ms: int, **options: Any) -> None:
        """A whole run, with its record."""
        store = self.store
        execution = writer.open_run(store, run_id, started_ms, "small", "{}", "c0ffee", "local")
        graph, records = self.graph(run_id, **options), Records(store)
        pushed = newest_push(store.get_artifacts_by_type("PushedModel"), str(self.served)) if started_ms > 1 else None
        _, inputs = judged(self, graph, records, [pushed] if pushed is not None else [])
        assert self.here(graph, "Pusher", inputs, records).result == {}
        decision = self.lineage.decision(run_id)
        assert decision is not None
        outcome, code = {"push": ("pushed", 0), "pending": ("pending", 4), "block": ("blocked", 3)}.get(
            decision.outcome, (decision.outcome, 0)
        )
        writer.close_run(store, execution, outcome, code, [])


def judged(
    shop: Workshop, graph: Graph, records: Records, served: list[Any] | None = None
) -> tuple[Done, dict[str, list[Any]]]:
    """Runs the Gate; how it ended, and what the Pusher needs."""
    given = shop.imported(graph, records)
    model = [given["Model"]]
    inputs = {"model": model, "model_run": [given["ModelRun"]], "evaluation": [given["ModelEvaluation"]]}
    done = shop.here(graph, "Gate", {**inputs, "served": served or []}, records)
    execution = records.execution_of(graph.node("Gate"))
    return done, {
        "model": model,
        **{key: records.outputs_of(execution)[key] for key in ("decision",) if not done.result},
    }
