"""An evaluation of two models, made of an evaluation of one."""

from __future__ import annotations

import shutil
from pathlib import Path

import tensorflow as tf
from tensorflow_model_analysis.proto import metrics_for_slice_pb2

from components.evaluation.eval_config import CANDIDATE, CHAMPION, LABEL


def evaluation_of_both(alone: Path, folder: Path, champion_shift: float) -> Path:
    """As TFMA writes it for candidate and champion: the champion's figures are the candidate's, shifted; the labels are the same."""
    shutil.copytree(alone, folder)
    (file,) = folder.glob("metrics-*")
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(file))]
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in records:
            one = metrics_for_slice_pb2.MetricsForSlice.FromString(record)
            both = metrics_for_slice_pb2.MetricsForSlice(slice_key=one.slice_key)
            for name, shift in ((CANDIDATE, 0.0), (CHAMPION, champion_shift)):
                for metric in one.metric_keys_and_values:
                    added = both.metric_keys_and_values.add()
                    added.CopyFrom(metric)
                    added.key.model_name = name
                    added.value.double_value.value += 0.0 if metric.key.name == LABEL else shift
            writer.write(both.SerializeToString())
    return folder
