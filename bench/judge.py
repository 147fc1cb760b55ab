"""How good a pushed model of stock TFX's template is, on the rows that it has kept for evaluation. Not part of any timing.

python -m bench.judge --model DIR --examples 'PATTERN'
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from bench.process import REPOSITORY, python
from bench.quality import quality

__all__ = ["judge", "main"]

_BATCH = 4096
_SHARE = 0.2


def main() -> None:
    """Command line. Prints one JSON line."""
    parser = argparse.ArgumentParser(description="Judge a model of stock TFX's taxi template.")
    parser.add_argument("--model", type=Path, required=True, help="a SavedModel that takes serialized tf.Examples")
    parser.add_argument("--examples", required=True, help="pattern of gzipped TFRecord files with raw trips")
    arguments = parser.parse_args()
    print(json.dumps(_judge(arguments.model, arguments.examples)))


def judge(model: Path, examples: str) -> dict[str, float]:
    """`auc`, `accuracy` and `rows`, found in a process of its own."""
    command = [python(), "-m", "bench.judge", "--model", str(model), "--examples", examples]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def _judge(model: Path, examples: str) -> dict[str, Any]:
    import tensorflow as tf
    import tensorflow_transform  # noqa: F401 - registers the operations that a template's model may hold

    signature = tf.saved_model.load(str(model)).signatures["serving_default"]
    spec = {name: tf.io.FixedLenFeature([], tf.float32, 0.0) for name in ("tips", "fare")}
    labels, scores = [], []
    for serialized in tf.data.TFRecordDataset(tf.io.gfile.glob(examples), "GZIP").batch(_BATCH):
        parsed = tf.io.parse_example(serialized, spec)
        labels.append((parsed["tips"] > parsed["fare"] * _SHARE).numpy())
        (outputs,) = signature(tf.constant(serialized)).values()
        scores.append(outputs.numpy()[:, 0])
    return quality(np.concatenate(labels).astype(np.int64), np.concatenate(scores))


if __name__ == "__main__":
    main()
