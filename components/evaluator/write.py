"""An evaluation on disk, as `tfma.load_eval_results` reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf import json_format
from tensorflow_model_analysis import constants, version
from tensorflow_model_analysis.proto import config_pb2
from tensorflow_model_analysis.writers import eval_config_writer, metrics_plots_and_validations_writer

__all__ = ["write_evaluation"]


def write_evaluation(
    folder: Path, eval_config: Any, models: Mapping[str, str], metrics: Iterable[tuple[Any, dict[Any, Any]]]
) -> None:
    """Writes metrics and configuration.

    Args:
        folder: uri of the ModelEvaluation artifact.
        eval_config: the `tfma.EvalConfig`.
        models: path of each model by its name.
        metrics: of each slice, by slice key.
    """
    # All is computed before anything is written: what turns out to need Beam finds an empty folder.
    protos = [metrics_plots_and_validations_writer.convert_slice_metrics_to_proto(one, None) for one in metrics]
    folder.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / f"{constants.METRICS_KEY}-00000-of-00001.tfrecord")) as writer:
        for proto in protos:
            writer.write(proto.SerializeToString())
    run = config_pb2.EvalRun(eval_config=eval_config, version=version.VERSION, model_locations=dict(models))
    name = f"{eval_config_writer.EVAL_CONFIG_FILE}.{eval_config_writer.EVAL_CONFIG_FILE_FORMAT}"
    (folder / name).write_text(json_format.MessageToJson(run) + "\n", encoding="utf-8")
