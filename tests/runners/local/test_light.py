"""Light nodes: what they leave is what TFX's launcher leaves, and a failure is told as a worker's is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration.local import local_dag_runner

from components.pusher.work import publish_candidate
from components.work import Call
from runners.local.light import is_light
from runners.local.records import Records
from tests.runners.local.workshop import Workshop, judged

BY_TFX = ("tfx_version", "is_external")
"""What TFX adds to each artifact, and nothing here reads."""


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
    (shop.candidate / "Model" / "Format-Serving" / "saved_model.pb").write_text("trained since")
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


def test_what_is_light(tmp_path: Path) -> None:
    """A push too that asks servers: it takes no TensorFlow."""
    graph = Workshop(tmp_path).graph(confirm={"instances": [{"grpc": "127.0.0.1:8500"}]})
    assert is_light(graph.node("Pusher"))
    assert is_light(graph.node("Gate"))
    assert not is_light(graph.node("Model"))
