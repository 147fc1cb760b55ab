"""The executor: find models and examples, evaluate in this process; leave to TFMA on Beam what does not fit, and say why."""

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor, base_executor
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components import progress
from components.evaluator.fit import Unsupported, check_config
from schemas.decision import FIGURES_FILE, Figure, Figures
from schemas.errors import shorten
from serving import payload

__all__ = ["Executor", "raw_types_of"]

_METHODS = {"jackknife": "JACKKNIFE", "poisson_bootstrap": "POISSON_BOOTSTRAP"}

_FAIL_ON_UNKNOWN_CLASSES = {"SparseCategoricalCrossentropy"}
_CAUSE_SHOWN = 300

_log = logging.getLogger(__name__)

Artifacts = dict[str, list[types.Artifact]]


class Executor(base_beam_executor.BaseBeamExecutor):
    """Executor of `Evaluator`."""

    def __init__(self, context: base_beam_executor.BaseBeamExecutor.Context | None = None) -> None:
        """Without packing TFX up for Beam's workers, which takes a second and is for those alone who use Beam."""
        base_executor.BaseExecutor.__init__(self, context)

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        """Write metrics, configuration and figures into the evaluation's folder."""
        candidate = _digest(artifact_utils.get_single_instance(input_dict["model"]))
        baseline = input_dict.get("baseline_model") or []
        champion = _digest(baseline[0]) if baseline else ""
        why_not = ""
        try:
            ill = self._evaluate(input_dict, output_dict, exec_properties)
        except Exception as error:
            if not baseline:
                raise
            _log.warning("Evaluating again without the champion", exc_info=True)
            # Whatever is wrong with the candidate as well, is raised here.
            ill = self._evaluate({**input_dict, "baseline_model": []}, output_dict, exec_properties)
            why_not = f"it can no longer be evaluated: {_in_short(error)}"
            champion = ""
        folder = artifact_utils.get_single_uri(output_dict["evaluation"])
        figures = _figures(folder, candidate, champion, why_not, ill)
        Path(folder, FIGURES_FILE).write_text(figures.model_dump_json(indent=1), encoding="utf-8")
        _tell_spans(input_dict["examples"], artifact_utils.get_single_instance(output_dict["evaluation"]))

    def _evaluate(
        self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]
    ) -> dict[str, str]:
        """By model, what is wrong with its answers; only of the models whose answers are not all numbers."""
        config = _eval_config(exec_properties)
        started = time.monotonic()
        try:
            count, ill = _evaluate(config, input_dict, output_dict, exec_properties)
        except Unsupported as reason:
            _log.warning("Evaluating with TFMA on Beam, which takes longer: %s", reason)
            self._evaluate_on_beam(config, input_dict, output_dict, exec_properties)
            return {}
        _log.info("Evaluated %d rows in %.1f s", count, time.monotonic() - started)
        return ill

    def _evaluate_on_beam(
        self, config: Any, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]
    ) -> None:
        from tfx.components import Evaluator as _  # noqa: F401 - completes tfma, where the package was left closed
        from tfx.components.evaluator import executor as stock
        from tfx.utils import proto_utils

        properties = {
            "eval_config": proto_utils.proto_to_json(config),
            "example_splits": exec_properties["example_splits"],
        }
        stock.Executor(self._context).Do(input_dict, output_dict, properties)


def _tell_spans(examples: list[types.Artifact], evaluation: types.Artifact) -> None:
    """Hands on which spans the data have, to the Gate; nothing where they have none."""
    for artifact in examples:
        if artifact.has_custom_property("spans"):
            evaluation.set_int_custom_property("span", artifact.get_int_custom_property("span"))
            evaluation.set_string_custom_property("spans", artifact.get_string_custom_property("spans"))


def _figures(folder: str, candidate: str, champion: str, why_not: str, ill: Mapping[str, str]) -> Figures:
    """What was written, as the Gate reads it, under the digests of the bytes that were loaded."""
    from components.evaluation.eval_config import CHAMPION
    from components.evaluation.figures import read_figures

    of_candidate = next((why for name, why in ill.items() if name != CHAMPION), "")
    figures = _told(read_figures(folder, candidate, champion=False), of_candidate)
    if champion:
        figures += _told(read_figures(folder, champion, champion=True), ill.get(CHAMPION, ""))
    return Figures(candidate=candidate, champion=champion, figures=tuple(figures), why_no_champion=why_not)


def _told(figures: list[Figure], why_not: str) -> list[Figure]:
    """The figures, with the reason for what could not be measured where no other is known."""
    if not why_not:
        return figures
    return [
        one if one.value is not None or one.why_not else one.model_copy(update={"why_not": why_not}) for one in figures
    ]


def _digest(model: types.Artifact) -> str:
    return payload.digest(path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model)))


def _in_short(error: Exception) -> str:
    return shorten(" ".join(f"{type(error).__name__}: {error}".split()), _CAUSE_SHOWN)


def _eval_config(exec_properties: dict[str, Any]) -> Any:
    """The configuration, with the intervals that the node was asked for."""
    from tensorflow_model_analysis.proto import config_pb2

    config = json_format.Parse(exec_properties["eval_config"], config_pb2.EvalConfig())
    method = _METHODS.get(exec_properties["intervals"])
    if method:
        config.options.compute_confidence_intervals.value = True
        config.options.confidence_intervals.method = (
            config_pb2.ConfidenceIntervalOptions.ConfidenceIntervalMethod.Value(method)
        )
    return config


def _evaluate(
    config: Any, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]
) -> tuple[int, dict[str, str]]:
    """Evaluates in this process; the number of rows, and what is wrong with the answers of the models that are ill.

    Raises:
        Unsupported: nothing has been written, and Beam is needed.
    """
    from tensorflow_model_analysis import utils

    from components.evaluator.answers import check_answers, why_ill
    from components.evaluator.compute import metrics_per_slice
    from components.evaluator.rows import read_rows
    from components.evaluator.write import write_evaluation

    baseline = input_dict.get("baseline_model") or []
    config = utils.update_eval_config_with_defaults(config, has_baseline=bool(baseline), rubber_stamp=True)
    utils.verify_eval_config(config)
    check_config(config)
    schema = _schema(input_dict)
    models = _models(config, input_dict["model"], baseline)
    files = _files(input_dict["examples"], json.loads(exec_properties["example_splits"]))
    progress.begin("rows", _counted(input_dict["examples"], json.loads(exec_properties["example_splits"])))
    rows = read_rows(files, models, config.slicing_specs, raw_types_of(schema))
    asked = {metric.class_name for spec in config.metrics_specs for metric in spec.metrics}
    check_answers(rows.labels, rows.predictions, all_classes_known=bool(asked & _FAIL_ON_UNKNOWN_CLASSES))
    paths = {name: path for name, (path, _) in models.items()}
    folder = Path(artifact_utils.get_single_uri(output_dict["evaluation"]))
    write_evaluation(folder, config, paths, metrics_per_slice(rows, config, schema))
    ill = {
        name: f"{bad.sum():,} of {rows.count:,} answers of the model are not numbers (NaN or infinite): {why_ill(rows.labels[name])}"
        for name, bad in rows.not_numbers().items()
    }
    return rows.count, ill


def _models(config: Any, model: list[types.Artifact], baseline: list[types.Artifact]) -> dict[str, tuple[str, Any]]:
    """Path and specification of each model, by the name that TFMA knows it by: none for one alone."""
    found = {}
    for spec in config.model_specs:
        artifact = artifact_utils.get_single_instance(baseline if spec.is_baseline else model)
        path = path_utils.serving_model_path(artifact.uri, path_utils.is_old_model_artifact(artifact))
        found[spec.name if len(config.model_specs) > 1 else ""] = (path, spec)
    return found


def _files(examples: list[types.Artifact], splits: list[str]) -> list[str]:
    for artifact in examples:
        if examples_utils.get_payload_format(artifact) != example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE:
            raise Unsupported("the examples are no tf.Examples")
    patterns = [
        io_utils.all_files_pattern(uri) for split in splits for uri in artifact_utils.get_split_uris(examples, split)
    ]
    return sorted(str(file) for pattern in patterns for file in Path(pattern).parent.glob(Path(pattern).name))


def _counted(examples: list[types.Artifact], splits: list[str]) -> int:
    """How many rows there are, as far as ExampleGen has said; 0 where it has not."""
    return sum(artifact.get_int_custom_property(f"rows_{split}") for artifact in examples for split in splits)


def _schema(input_dict: Artifacts) -> Any:
    if not input_dict.get("schema"):
        return None
    uri = artifact_utils.get_single_uri(input_dict["schema"])
    return io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(uri))


def raw_types_of(schema: Any) -> dict[str, Any]:
    """TensorFlow's type of each raw feature that the schema knows."""
    import tensorflow as tf
    from tensorflow_metadata.proto.v0 import schema_pb2

    kinds = {schema_pb2.INT: tf.int64, schema_pb2.FLOAT: tf.float32, schema_pb2.BYTES: tf.string}
    return {one.name: kinds[one.type] for one in schema.feature if one.type in kinds} if schema is not None else {}
