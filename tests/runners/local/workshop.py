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

from components.artifact_types import Profile, TFLiteModels
from components.gate.component import Gate, TFLiteFiles
from components.lineage import writer
from components.lineage.reader import Lineage
from components.lineage.served import newest_push
from components.lineage.store import open_store
from components.pusher.component import Pusher
from runners.local.graph import Graph, read_graph
from runners.local.light import run_here
from runners.local.records import Records
from runners.local.template import Done
from schemas.config import GatesConfig, MetadataConfig, PushConfig, SqliteConfig, TFLiteConfig
from schemas.decision import FIGURES_FILE, TRAINING_FILE, Figure, Figures, Rehearsal
from schemas.tflite import EXPORT_FILE, Export, Variant, VariantRecord
from serving.payload import digest

VARIANTS: dict[Variant, float] = {"int8": 0.01, "float32": 0.0}
"""What is made for devices, and how much worse it is than the SavedModel."""

KINDS = {
    "Model": standard_artifacts.Model,
    "ModelRun": standard_artifacts.ModelRun,
    "ModelEvaluation": standard_artifacts.ModelEvaluation,
}


class Workshop:
    """A folder with a store, a watch directory and a candidate."""

    def __init__(self, folder: Path, *, edge: bool = False) -> None:
        """Makes the candidate; with `edge`, with two files for devices, whose gates are on their AUC."""
        self.folder, self.edge = folder, edge
        self.forget_devices = False
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
        figures = figures.model_copy(update={"rehearsal": Rehearsal(digest=self.digest)})  # it is no model to load
        (self.candidate / "ModelEvaluation" / FIGURES_FILE).write_text(figures.model_dump_json())
        if self.edge:
            self._convert(graph, auc)

    def _convert(self, graph: str, auc: float) -> None:
        """Makes files for devices: a small one that is a little worse, and a large one."""
        files, records, figures = self.candidate / "TFLiteModels", [], []
        for variant, loss in VARIANTS.items():
            (files / variant).mkdir(parents=True)
            content = b"\x1c\x00\x00\x00TFL3" + f"{graph} {variant}".encode()
            (files / variant / "model.tflite").write_bytes(content)
            name = digest(files / variant / "model.tflite")
            records.append(VariantRecord(variant=variant, digest=name, size_bytes=len(content)))
            figures.append(Figure(metric="auc", value=auc - loss, payload="tflite", digest=name, n=100))
        export = Export(
            saved_model=self.digest,
            takes="transformed",
            before_calling=(),
            representative_rows=1,
            variants=tuple(records),
        )
        (files / EXPORT_FILE).write_text(export.model_dump_json())
        (self.candidate / "Profile").mkdir()
        self._measure(figures)

    def _measure(self, figures: list[Figure], champion: Figure | None = None, why_not: str = "") -> None:
        profile = Figures(
            candidate=self.digest,
            champion=champion.digest if champion else "",
            figures=(*figures, *([champion] if champion else [])),
            why_no_champion=why_not,
        )
        (self.candidate / "Profile" / FIGURES_FILE).write_text(profile.model_dump_json())

    def _measure_champion(self, pushed: Any) -> None:
        """What the TFLiteEvaluator finds out about the file that devices have."""
        file = self.candidate / "Profile" / FIGURES_FILE
        own = list(Figures.model_validate_json(file.read_bytes()).figures)
        if self.forget_devices:
            self._measure(own, why_not="devices/1 is gone")
        else:
            name = pushed.custom_properties["digest"].string_value
            self._measure(own, Figure(metric="auc", value=0.9, payload="tflite", digest=name, n=100))

    @property
    def kinds(self) -> dict[str, Any]:
        """What is given to the pipeline."""
        return {**KINDS, **({"TFLiteModels": TFLiteModels, "Profile": Profile} if self.edge else {})}

    def pipeline(
        self, minimum: float = 0.5, confirm: dict[str, Any] | None = None, approval: str = "none"
    ) -> pipeline.Pipeline:
        given = {
            name: importer.Importer(source_uri=str(self.candidate / name), artifact_type=kind).with_id(name)
            for name, kind in self.kinds.items()
        }
        model, run, evaluation, *files = (one.outputs["result"] for one in given.values())
        served = Channel(type=standard_artifacts.PushedModel)
        satisfy = [{"metric": "auc", "min": minimum}, {"metric": "auc", "payload": "tflite", "max_drop": 0.02}]
        raw = {"satisfy": satisfy[: 1 + self.edge], "approval": approval}
        gates = GatesConfig.model_validate(raw, strict=False)
        ladder = TFLiteFiles(*files, TFLiteConfig(variants=tuple(VARIANTS)), served) if files else None
        gate = Gate(model, run, evaluation, served, gates, "c0ffee", tflite=ladder)
        edge = {"base_path": str(self.devices)} if self.edge else None
        push = PushConfig.model_validate(
            {"serving": {"base_path": str(self.served), "confirm": confirm}, "edge": edge}, strict=False
        )
        pusher = Pusher(model, gate.outputs["decision"], push, "small", tflite=files[0] if files else None)
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
    def devices(self) -> Path:
        return self.folder / "devices"

    @property
    def store(self) -> Any:
        return open_store(self.metadata)

    @property
    def lineage(self) -> Lineage:
        return Lineage(self.metadata, "small", self.store)

    def imported(self, graph: Graph, records: Records) -> dict[str, Any]:
        """The model and what belongs to it, as importers put them out."""
        found = {}
        for name in self.kinds:
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
        pushes = store.get_artifacts_by_type("PushedModel") if started_ms > 1 else []
        found = [newest_push(pushes, str(path)) for path in (self.served, self.devices)]
        served, served_file = ([one] if one is not None else [] for one in found)
        if served_file:
            self._measure_champion(served_file[0])
        _, inputs = judged(self, graph, records, served, served_file)
        assert self.here(graph, "Pusher", inputs, records).result == {}
        decision = self.lineage.decision(run_id)
        assert decision is not None
        outcome, code = {"push": ("pushed", 0), "pending": ("pending", 4), "block": ("blocked", 3)}.get(
            decision.outcome, (decision.outcome, 0)
        )
        writer.close_run(store, execution, outcome, code, [])


def judged(
    shop: Workshop,
    graph: Graph,
    records: Records,
    served: list[Any] | None = None,
    served_file: list[Any] | None = None,
) -> tuple[Done, dict[str, list[Any]]]:
    """Runs the Gate; how it ended, and what the Pusher needs."""
    given = shop.imported(graph, records)
    model = [given["Model"]]
    inputs = {"model": model, "model_run": [given["ModelRun"]], "evaluation": [given["ModelEvaluation"]]}
    files = {"tflite": [given["TFLiteModels"]]} if shop.edge else {}
    if shop.edge:
        inputs |= {**files, "tflite_profile": [given["Profile"]], "served_file": served_file or []}
    done = shop.here(graph, "Gate", {**inputs, "served": served or []}, records)
    execution = records.execution_of(graph.node("Gate"))
    return done, {
        "model": model,
        **files,
        **{key: records.outputs_of(execution)[key] for key in ("decision",) if not done.result},
    }
