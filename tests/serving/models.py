"""Small SavedModels for tests of servers: `python -m tests.serving.models DIR` writes them with a `models.config`."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

__all__ = ["write_models", "write_savedmodel"]


def write_savedmodel(folder: Path, add: float) -> None:
    """A model that halves and adds: Predict with one and with several inputs, text, Classify, Regress, and a failure."""
    import tensorflow as tf
    from tensorflow.python.saved_model.method_name_updater import MethodNameUpdater

    floats, texts = tf.TensorSpec([None], tf.float32, name="x"), tf.TensorSpec([None], tf.string, name="inputs")

    class Model(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.half = tf.Variable(0.5)
            self.add = tf.Variable(add)

        @tf.function(input_signature=[floats])
        def predict(self, x):
            return {"y": x * self.half + self.add}

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 2], tf.float32, name="a"),
                tf.TensorSpec([None], tf.int64, name="b"),
                tf.TensorSpec([None], tf.string, name="s"),
            ]
        )
        def several(self, a, b, s):
            return {
                "sum": tf.reduce_sum(a, 1) + tf.cast(b, tf.float32),
                "twice": b * 2,
                "text": tf.strings.join([s, s]),
                "raw_bytes": s,
            }

        @tf.function(input_signature=[texts])
        def classify(self, inputs):
            x = self._parsed(inputs)
            classes = tf.repeat(tf.constant([["low", "high"]]), tf.shape(x)[0], axis=0)
            return {"classes": classes, "scores": tf.stack([1 - x, x], 1)}

        @tf.function(input_signature=[texts])
        def regress(self, inputs):
            return {"outputs": self._parsed(inputs) * self.half + self.add}

        @tf.function(input_signature=[floats])
        def positive(self, x):
            with tf.control_dependencies([tf.debugging.assert_positive(x, "x must be positive")]):
                return {"y": tf.identity(x)}

        def _parsed(self, inputs):
            return tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([], tf.float32)})["x"]

    model = Model()
    signatures = {
        "serving_default": model.predict,
        "several": model.several,
        "classify": model.classify,
        "regress": model.regress,
        "positive": model.positive,
    }
    tf.saved_model.save(model, str(folder), signatures)
    updater = MethodNameUpdater(str(folder))
    updater.replace_method_name("classify", "tensorflow/serving/classify")
    updater.replace_method_name("regress", "tensorflow/serving/regress")
    updater.save()


def write_models(folder: Path) -> Path:
    """`half` with versions 1 (adds 2), 2 and 3 (add 3), labelled; `latest` with the same; and the `models.config`."""
    for version, add in ((1, 2.0), (2, 3.0)):
        write_savedmodel(folder / "half" / str(version), add)
    shutil.copytree(folder / "half" / "2", folder / "half" / "3")
    shutil.copytree(folder / "half", folder / "latest")
    config = folder / "models.config"
    config.write_text(
        f"""model_config_list {{
  config {{
    name: 'half' base_path: '{folder.absolute()}/half' model_platform: 'tensorflow'
    model_version_policy {{ specific {{ versions: 1 versions: 2 }} }}
    version_labels {{ key: 'stable' value: 1 }} version_labels {{ key: 'canary' value: 2 }}
  }}
  config {{ name: 'latest' base_path: '{folder.absolute()}/latest' model_platform: 'tensorflow' }}
}}
"""
    )
    return config


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    print(write_models(Path(sys.argv[1])))
