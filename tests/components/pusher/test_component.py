"""The Pusher as a node: three runs of a small pipeline, with its cache, and a look at what lands in ML Metadata."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler import compiler
from tfx.dsl.components.common import importer
from tfx.orchestration import metadata, pipeline
from tfx.orchestration.local import local_dag_runner
from tfx.types import artifact, standard_artifacts

from components.artifact_types import Decision as DecisionArtifact
from components.lineage.reader import RECORD_PROPERTY
from components.pusher.component import Pusher
from components.pusher.executor import Executor
from schemas.config import EdgeConfig, PushConfig, ServingPushConfig
from schemas.decision import DECISION_FILE, PUSH_RESULT_FILE, Decision, PushResult, Rehearsal
from schemas.errors import DigestMismatchError
from serving.payload import digest
from serving.store import VersionStore


class Workshop:
    """A candidate, a decision on it, and a pipeline that pushes it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = root / "serving_models" / "taxi"
        self.model = root / "model" / "Format-Serving"
        self.model.mkdir(parents=True)
        (self.model / "saved_model.pb").write_text("graph")
        self.decide("push")

    def decide(self, outcome: str) -> Decision:
        decision = Decision(
            outcome=outcome,  # type: ignore[arg-type]
            digest=digest(self.model),
            gates=(),
            reasons=("auc is below 0.75",),
            config_digest="c0ffee",
            rehearsal=Rehearsal(digest=digest(self.model)),  # it is no model to load
        )
        folder = self.root / outcome
        folder.mkdir(exist_ok=True)
        (folder / DECISION_FILE).write_text(decision.model_dump_json())
        return decision

    @property
    def push(self) -> PushConfig:
        return PushConfig(
            serving=ServingPushConfig(base_path=str(self.base)), edge=EdgeConfig(base_path=str(self.root / "edge"))
        )

    def pipeline(self, outcome: str) -> pipeline.Pipeline:
        model = importer.Importer(source_uri=str(self.root / "model"), artifact_type=standard_artifacts.Model)
        decision = importer.Importer(source_uri=str(self.root / outcome), artifact_type=DecisionArtifact)
        pusher = Pusher(
            model.with_id("Model").outputs["result"], decision.with_id("Gate").outputs["result"], self.push, "taxi"
        )
        return pipeline.Pipeline(
            pipeline_name="taxi",
            pipeline_root=str(self.root / "root"),
            components=[model, decision, pusher],
            enable_cache=True,
            metadata_connection_config=metadata.sqlite_metadata_connection_config(str(self.root / "metadata.db")),
        )

    def run(self, outcome: str = "push") -> tuple[PushResult, bool]:
        """Run once; the push result, and whether it came from the cache."""
        local_dag_runner.LocalDagRunner().run(self.pipeline(outcome))
        execution = max(self.store.get_executions_by_type(Pusher.__module__ + ".Pusher"), key=lambda one: one.id)
        cached = execution.last_known_state == metadata_store_pb2.Execution.CACHED
        assert cached or execution.last_known_state == metadata_store_pb2.Execution.COMPLETE
        events = self.store.get_events_by_execution_ids([execution.id])
        (output,) = (event for event in events if event.type == metadata_store_pb2.Event.OUTPUT)
        (self.pushed_model,) = self.store.get_artifacts_by_id([output.artifact_id])
        return PushResult.model_validate_json(Path(self.pushed_model.uri, PUSH_RESULT_FILE).read_bytes()), cached

    @property
    def store(self) -> metadata_store.MetadataStore:
        config = metadata.sqlite_metadata_connection_config(str(self.root / "metadata.db"))
        return metadata_store.MetadataStore(config)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def test_a_cached_push_is_reused_only_while_the_watch_directory_holds_it(workshop: Workshop) -> None:
    """Pushed, found served, then cached; and pushed anew when the directory is emptied or damaged."""
    result, cached = workshop.run()
    assert (result.outcome, result.version, cached) == ("pushed", 1, False)

    result, cached = workshop.run()
    assert (result.outcome, result.version, cached) == ("already_served", 1, False)
    result, cached = workshop.run()
    assert (result.outcome, result.version, cached) == ("already_served", 1, True)

    shutil.rmtree(workshop.base)  # as it was before the first push, which is in the cache
    result, cached = workshop.run()
    assert (result.outcome, result.version, cached) == ("pushed", 1, False)

    (workshop.base / "1" / "saved_model.pb").write_text("GRAPH")
    result, cached = workshop.run()
    assert (result.outcome, result.version, cached) == ("pushed", 2, False)


def test_what_lands_in_ml_metadata(workshop: Workshop) -> None:
    """The record of the push, its properties, and the id of the model that was pushed; the manifest points back."""
    result, _ = workshop.run()
    values = {
        name: getattr(value, value.WhichOneof("value"))
        for name, value in workshop.pushed_model.custom_properties.items()
    }
    (model,) = workshop.store.get_artifacts_by_type("Model")
    (run,) = workshop.store.get_contexts_by_type("pipeline_run")
    assert PushResult.model_validate_json(values.pop(RECORD_PROPERTY)) == result
    manifest = VersionStore(workshop.base).manifest(1)
    expected = {
        "pushed": 1,
        "outcome": "pushed",
        "pushed_destination": str(workshop.base / "1"),
        "pushed_version": "1",
        "version": 1,
        "digest": digest(workshop.model),
        "model_id": model.id,
        "base_path": str(workshop.base),
        "pushed_at": manifest.published_at.isoformat(),
    }
    assert {name: values[name] for name in expected} == expected
    assert manifest.provenance == {
        "pipeline": "taxi",
        "run": run.name,
        "model_id": str(model.id),
        "model_uri": model.uri,
        "config_digest": "c0ffee",
    }


def test_a_block_completes_with_its_reason(workshop: Workshop) -> None:
    """The node does not fail, and the watch directory is not even made."""
    workshop.decide("block")
    result, cached = workshop.run("block")
    assert (result.outcome, result.reason, cached) == ("not_pushed", "The gate blocked it: auc is below 0.75.", False)
    assert workshop.pushed_model.custom_properties["pushed"].int_value == 0
    assert workshop.run("block") == (result, True)
    assert not workshop.base.exists()


def an_artifact(kind: type[artifact.Artifact], uri: Path) -> list[artifact.Artifact]:
    """As TFX hands it to an executor."""
    made = kind()
    made.uri = str(uri)
    return [made]


def test_other_bytes_than_those_measured_fail_the_node(workshop: Workshop) -> None:
    """That is no block but a fault: nothing is recorded as pushed."""
    (workshop.model / "saved_model.pb").write_text("trained since")
    model = an_artifact(standard_artifacts.Model, workshop.root / "model")
    inputs = {"model": model, "decision": an_artifact(DecisionArtifact, workshop.root / "push")}
    outputs = {"pushed_model": an_artifact(standard_artifacts.PushedModel, workshop.root / "pushed")}
    with pytest.raises(DigestMismatchError, match="its bytes are not the bytes that were measured"):
        Executor().Do(inputs, outputs, {"push": workshop.push.model_dump_json(by_alias=True), "pipeline_name": "taxi"})
    assert not workshop.base.exists()
    assert not (workshop.root / "pushed").exists()


def test_the_compiled_node(workshop: Workshop) -> None:
    """Its id, its driver and its parameters are what runners and the lineage rely on."""
    compiled = compiler.Compiler().compile(workshop.pipeline("push"))
    node = compiled.nodes[-1].pipeline_node
    assert node.node_info.id == "Pusher"
    assert node.node_info.type.name == "components.pusher.component.Pusher"
    assert node.node_info.type.base_type == metadata_store_pb2.ExecutionType.DEPLOY
    assert sorted(node.parameters.parameters) == ["pipeline_name", "push"]
    stored = node.parameters.parameters["push"].field_value.string_value
    assert PushConfig.model_validate_json(stored) == workshop.push
