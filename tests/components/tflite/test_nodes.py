"""The nodes on a pipeline's own artifacts: a file that was quantized by wrong rows is made, measured, and blocked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx.types import standard_artifacts

from components.artifact_types import Profile, TFLiteModels
from components.evaluation.eval_config import eval_config
from components.gate.work import judge
from components.tflite import representative
from components.tflite.evaluator import TFLiteEvaluator
from components.tflite.exporter import TFLiteExporter
from components.work import Call
from schemas.config import GatesConfig, TFLiteConfig
from schemas.decision import DECISION_FILE, FIGURES_FILE, Decision, EdgeDecision, Figures
from schemas.tflite import EXPORT_FILE, Export
from tests.workbench import Bench

GATES = GatesConfig.model_validate(
    {
        "satisfy": [
            {"metric": "auc", "min": 0.0},
            {"metric": "auc", "payload": "tflite", "min": 0.5},
            {"metric": "max_abs_difference", "payload": "tflite", "against": "saved_model", "max": 0.2},
        ]
    },
    strict=False,
)
KINDS = {
    "ExampleGen/examples": standard_artifacts.Examples,
    "Transform/transform_graph": standard_artifacts.TransformGraph,
    "Trainer/model": standard_artifacts.Model,
    "Trainer/model_run": standard_artifacts.ModelRun,
    "CuratedSchema/schema": standard_artifacts.Schema,
    "Evaluator/evaluation": standard_artifacts.ModelEvaluation,
}


class Nodes:
    """The outputs of a pipeline that has run, and the nodes that make and measure files of its model."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.folder = folder
        self.given = {key.partition("/")[2]: [self._output(bench, key, kind)] for key, kind in KINDS.items()}

    def _output(self, bench: Bench, key: str, kind: Any) -> Any:
        artifact = kind()
        artifact.uri = str(min((bench.folder / "pipelines" / "taxi" / key).iterdir(), key=lambda one: int(one.name)))
        if kind is standard_artifacts.Examples:
            artifact.split_names = '["train", "validate", "eval"]'
        return artifact

    def _made(self, kind: Any, name: str) -> Any:
        artifact = kind()
        artifact.uri = str(self.folder / name)
        Path(artifact.uri).mkdir(parents=True)
        return artifact

    def convert(self, *variants: str) -> Export:
        """Runs the exporter."""
        self.config = TFLiteConfig.model_validate({"variants": variants}, strict=False)
        files = self._made(TFLiteModels, "files")
        inputs = {key: self.given[key] for key in ("model", "examples", "transform_graph")}
        TFLiteExporter.EXECUTOR_SPEC.executor_class().Do(
            inputs, {"tflite": [files]}, {"export": self.config.model_dump_json()}
        )
        self.given["tflite"] = [files]
        return Export.model_validate_json(Path(files.uri, EXPORT_FILE).read_bytes())

    def pushed(self, base_path: Path) -> Any:
        """The record of a push whose file is gone."""
        record = standard_artifacts.PushedModel()
        record.set_string_custom_property("digest", "gone")
        record.set_string_custom_property("base_path", str(base_path))
        record.set_int_custom_property("version", 4)
        return record

    def measure(self, devices: Any = None) -> Figures:
        """Runs the evaluator; `devices` is the record of the push of the file that devices have."""
        profile = self._made(Profile, "profile")
        inputs = {key: self.given[key] for key in ("tflite", "model", "examples", "schema")}
        node = TFLiteEvaluator(*(_channel(one) for one in inputs.values()), eval_config(GATES, "big_tipper", "tflite"))
        parameters = {**node.exec_properties, "machine": "this one"}
        given = {**inputs, "devices": [devices] if devices else []}
        TFLiteEvaluator.EXECUTOR_SPEC.executor_class().Do(given, {"profile": [profile]}, parameters)
        self.given["tflite_profile"] = [profile]
        return Figures.model_validate_json(Path(profile.uri, FIGURES_FILE).read_bytes())

    def decide(self) -> EdgeDecision:
        """Runs the Gate."""
        keys = ("model", "model_run", "evaluation", "tflite", "tflite_profile")
        inputs = {key: [one.mlmd_artifact for one in self.given[key]] for key in keys}
        outputs = {key: metadata_store_pb2.Artifact(uri=str(self.folder / key)) for key in ("decision", "blessing")}
        parameters = {
            "gates": GATES.model_dump_json(by_alias=True),
            "config_digest": "c",
            "export": self.config.model_dump_json(),
        }
        judge(Call(inputs, outputs, parameters))
        decision = Decision.model_validate_json((self.folder / "decision" / DECISION_FILE).read_bytes())
        assert decision.edge is not None
        return decision.edge


def _channel(artifacts: list[Any]) -> Any:
    from tfx.types import channel_utils

    return channel_utils.as_channel(artifacts)


@pytest.fixture
def nodes(taxi: Bench, tmp_path: Path) -> Nodes:
    return Nodes(taxi, tmp_path)


def test_a_file_that_was_quantized_by_wrong_rows_is_blocked_by_parity(nodes: Nodes, monkeypatch: Any) -> None:
    """Rows a hundred times too small clip every real one: the next variant ships, and the ladder has the numbers."""
    right = representative.features_of

    def scaled(*arguments: Any) -> Any:
        return {
            name: values * 0.01 if values.dtype.kind == "f" else values for name, values in right(*arguments).items()
        }

    monkeypatch.setattr(representative, "features_of", scaled)
    export = nodes.convert("int8", "float16")
    assert all(one.shippable for one in export.variants)
    assert "log_fare: float32 of shape [1], made by preprocessing_fn of fare" in export.before_calling
    figures = nodes.measure()
    edge = nodes.decide()
    assert (edge.outcome, edge.variant) == ("push", "float16")
    planted, chosen = edge.ladder
    assert (planted.variant, planted.verdict, chosen.verdict) == ("int8", "blocked", "chosen")
    (blocking,) = [result for result in planted.gates if result.blocks and result.metric == "max_abs_difference"]
    measured = next(
        figure for figure in figures.of(planted.digest) if figure.metric == "max_abs_difference" and not figure.slice
    )
    assert blocking.value == measured.value
    assert measured.value is not None
    assert blocking.reason == f"{measured.value:.6g} is not at most 0.2"
    assert planted.figures["max_abs_difference"] == measured.value
    assert {"size_mb", "latency_p50_ms", "peak_memory_mb", "auc"} <= planted.figures.keys() & chosen.figures.keys()


def test_constant_rows_are_told_and_nothing_ships_where_nothing_else_is_made(
    nodes: Nodes, tmp_path: Path, monkeypatch: Any
) -> None:
    """The variant is unfit, and the run goes on to a decision, although the file that devices had is gone as well."""
    right = representative.features_of

    def constant(*arguments: Any) -> Any:
        return {name: values * 0 for name, values in right(*arguments).items()}

    monkeypatch.setattr(representative, "features_of", constant)
    (record,) = nodes.convert("int8").variants
    assert record.problems[0].startswith("the representative set is constant: log_fare is 0 in all 500 rows")
    figures = nodes.measure(nodes.pushed(tmp_path / "devices"))
    assert figures.figures == ()
    assert figures.why_no_champion == f"{tmp_path / 'devices' / '4' / 'model.tflite'} does not exist"
    edge = nodes.decide()
    assert (edge.outcome, edge.variant, edge.ladder[0].verdict) == ("block", "", "unfit")
    assert edge.reasons[0].startswith("int8: the representative set is constant")
