"""Light nodes: what they leave is what TFX's launcher leaves, and a failure is told as a worker's is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler import compiler
from tfx.dsl.components.common import importer
from tfx.orchestration import metadata, pipeline
from tfx.orchestration.local import local_dag_runner
from tfx.types import standard_artifacts
from tfx.types.channel import Channel

from components.gate.component import Gate
from components.lineage.store import open_store
from components.pusher.component import Pusher
from components.pusher.work import publish_candidate
from components.work import Call
from runners.local.graph import Graph, read_graph
from runners.local.light import is_light, run_here
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
BY_TFX = ("tfx_version", "is_external")
"""What TFX adds to each artifact, and nothing here reads."""


class Workshop:
    """A model, its figures, and a pipeline that judges and pushes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = str(folder / "metadata.db")
        model = folder / "Model" / "Format-Serving"
        for name in KINDS:
            (folder / name).mkdir(parents=True)
        model.mkdir()
        (model / "saved_model.pb").write_text("graph")
        self.digest = digest(model)
        (folder / "ModelRun" / TRAINING_FILE).write_text(json.dumps({"digest": self.digest}))
        figures = Figures(candidate=self.digest, figures=(Figure(metric="auc", value=0.9, digest=self.digest),))
        (folder / "ModelEvaluation" / FIGURES_FILE).write_text(figures.model_dump_json())

    def pipeline(self, minimum: float = 0.5, confirm: dict[str, Any] | None = None) -> pipeline.Pipeline:
        given = {
            name: importer.Importer(source_uri=str(self.folder / name), artifact_type=kind).with_id(name)
            for name, kind in KINDS.items()
        }
        model, run, evaluation = (one.outputs["result"] for one in given.values())
        gates = GatesConfig.model_validate({"satisfy": [{"metric": "auc", "min": minimum}]}, strict=False)
        gate = Gate(model, run, evaluation, Channel(type=standard_artifacts.PushedModel), gates, "c0ffee")
        serving = {"base_path": str(self.folder / "served"), "confirm": confirm}
        push = PushConfig.model_validate({"serving": serving}, strict=False)
        pusher = Pusher(model, gate.outputs["decision"], push, "small")
        return pipeline.Pipeline(
            pipeline_name="small",
            pipeline_root=str(self.folder / "root"),
            components=[*given.values(), gate, pusher],
            metadata_connection_config=metadata.sqlite_metadata_connection_config(self.database),
        )

    def graph(self, **options: Any) -> Graph:
        compiled = compiler.Compiler().compile(self.pipeline(**options))
        return read_graph(compiled.SerializeToString(deterministic=True), "run-1")

    @property
    def store(self) -> Any:
        return open_store(MetadataConfig(sqlite=SqliteConfig(path=self.database)))

    def imported(self, graph: Graph, records: Records) -> dict[str, Any]:
        """The model and what belongs to it, as importers put them out."""
        found = {}
        for name in KINDS:
            node = graph.node(name)
            execution = records.begin(node, {}, {})
            found[name] = records.output(node, "result", str(self.folder / name))
            records.complete(node, execution, {"result": [found[name]]})
        return found

    def here(self, graph: Graph, node: str, inputs: dict[str, list[Any]], records: Records) -> Done:
        return run_here(
            graph.node(node), records, inputs, graph.root, graph.run_id, self.folder / f"{node}.log"
        )  # fmt: skip


def judged(shop: Workshop, graph: Graph, records: Records) -> tuple[Done, dict[str, list[Any]]]:
    """Runs the Gate; how it ended, and what the Pusher needs."""
    given = shop.imported(graph, records)
    model = [given["Model"]]
    inputs = {"model": model, "model_run": [given["ModelRun"]], "evaluation": [given["ModelEvaluation"]]}
    done = shop.here(graph, "Gate", inputs, records)
    execution = records.execution_of(graph.node("Gate"))
    return done, {
        "model": model,
        **{key: records.outputs_of(execution)[key] for key in ("decision",) if not done.result},
    }


def written(store: Any, folder: Path) -> dict[str, Any]:
    """What stands in the store of Gate and Pusher, without ids, times and what never occurs twice."""
    found = {}
    for execution in store.get_executions():
        name = execution.type.rpartition(".")[2]
        if name not in ("Gate", "Pusher"):
            continue
        contexts = sorted((one.type, one.name) for one in store.get_contexts_by_execution(execution.id))
        events = []
        for event in store.get_events_by_execution_ids([execution.id]):
            (artifact,) = store.get_artifacts_by_id([event.artifact_id])
            kind = store.get_artifact_type(artifact.type)
            custom = {k: v for k, v in plain(artifact.custom_properties).items() if k not in (*BY_TFX, "pushed_at")}
            place = artifact.uri.replace(str(folder), "").rpartition("/")[0]
            path = [(step.key, step.index) for step in event.path.steps]
            properties = {"own": plain(artifact.properties), "custom": custom}
            type_ = [kind.name, kind.base_type, sorted(kind.properties)]
            files = sorted(file.name for file in Path(artifact.uri).iterdir())
            events.append([event.type, path, place, artifact.state, type_, files, told(properties, folder)])
        parameters = {k: v for k, v in plain(execution.custom_properties).items() if k != "served_state"}
        state = [execution.last_known_state, [one for one in contexts if one[0] in ("pipeline", "node")]]
        found[name] = [state, told(parameters, folder), sorted(events, key=str)]
    return found


def plain(properties: Any) -> dict[str, Any]:
    return {name: getattr(value, value.WhichOneof("value")) for name, value in properties.items()}


def told(values: Any, folder: Path) -> str:
    return json.dumps(values, sort_keys=True).replace(str(folder), "")


@pytest.mark.parametrize("minimum", [0.5, 0.95])
def test_the_same_records_as_by_tfx(tmp_path: Path, minimum: float) -> None:
    """Executions, events, artifacts, their types, properties and files: for a push and for a block."""
    by_tfx, light = Workshop(tmp_path / "tfx"), Workshop(tmp_path / "light")
    local_dag_runner.LocalDagRunner().run(by_tfx.pipeline(minimum))

    graph, records = light.graph(minimum=minimum), Records(light.store)
    done, inputs = judged(light, graph, records)
    assert (done.result, done.status, done.peak_memory_mb) == ({}, 0, None)
    assert light.here(graph, "Pusher", inputs, records).result == {}

    assert written(light.store, light.folder) == written(by_tfx.store, by_tfx.folder)
    assert (light.folder / "served" / "1").exists() == (by_tfx.folder / "served" / "1").exists() == (minimum < 0.9)


def test_a_failure_of_ours(tmp_path: Path) -> None:
    """The cause in words, the traceback in the log, a FAILED execution, no outputs; another attempt would not help."""
    shop = Workshop(tmp_path)
    (tmp_path / "Model" / "Format-Serving" / "saved_model.pb").write_text("trained since")
    graph, records = shop.graph(), Records(shop.store)
    done, _ = judged(shop, graph, records)
    assert done.result is not None
    assert "does not hold the bytes that were trained" in done.result["cause"]
    assert done.result["retry"] is False
    assert "DigestMismatchError" in (tmp_path / "Gate.log").read_text()
    assert records.unfinished(graph.node("Gate")).last_known_state == metadata_store_pb2.Execution.FAILED
    assert records.outputs_of(records.unfinished(graph.node("Gate"))) == {}


def test_a_foreign_failure_is_tried_again_in_the_same_execution(tmp_path: Path, monkeypatch: Any) -> None:
    """And what the attempt had written is gone."""
    shop = Workshop(tmp_path)
    graph, records = shop.graph(), Records(shop.store)
    _, inputs = judged(shop, graph, records)

    def torn(call: Call) -> None:
        publish_candidate(call)
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("components.pusher.work.publish_candidate", torn)
        done = shop.here(graph, "Pusher", inputs, records)
    assert done.result is not None
    assert (done.result["cause"], done.result["retry"]) == ("OSError: the disk is full", True)
    assert not list((tmp_path / "root" / "Pusher" / "pushed_model").iterdir())

    failed = records.unfinished(graph.node("Pusher"))
    assert shop.here(graph, "Pusher", inputs, records).result == {}
    execution = records.execution_of(graph.node("Pusher"))
    assert execution.id == failed.id
    (pushed,) = records.outputs_of(execution)["pushed_model"]
    assert (pushed.custom_properties["version"].int_value, pushed.custom_properties["pushed"].int_value) == (1, 1)


def test_a_push_that_asks_servers_is_left_to_a_worker(tmp_path: Path) -> None:
    """It takes TensorFlow's messages."""
    graph = Workshop(tmp_path).graph(confirm={"instances": [{"grpc": "127.0.0.1:8500"}]})
    assert not is_light(graph.node("Pusher"))
    assert is_light(graph.node("Gate"))
    assert not is_light(graph.node("Model"))
