"""The hand-written script does the work of the pipeline: the same network, the same features, and serves what it trained."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bench import data
from tests.workbench import REPOSITORY

pytestmark = pytest.mark.skipif(not data.REAL.is_file(), reason="make data")

CHECK = """
import json, sys
import numpy as np
import pyarrow as pa
from bench import bare
import tensorflow as tf, tf_keras
from pipeline.models import taxi
from schemas.user_model import Feature

columns = bare.read(sys.argv[1])
prepared = bare.fit_preprocessing(columns)
table = bare.transform(columns, prepared)
sizes = prepared.cardinalities()
model = bare.build_model(sizes)
features = {name: Feature(name, "float32", (1,)) for name in bare.AMOUNTS}
features |= {name: Feature(name, "int64", (1,), size) for name, size in sizes.items()}
theirs = taxi.build_model(tf_keras, features, {})
same_weights = [w.shape for w in model.get_weights()] == [w.shape for w in theirs.get_weights()]
theirs.set_weights(model.get_weights())
inputs = {name: table.amounts[:, i:i+1] for i, name in enumerate(bare.AMOUNTS)}
inputs |= {name: table.codes[:, i:i+1].astype(np.int64) for i, name in enumerate(sizes)}
predicted = bare.predict(model, table)
apart = float(np.abs(predicted - theirs.predict(inputs, verbose=0)[:, 0]).max())
bare.export(model, prepared, bare.Path(sys.argv[2]))
serve = tf.saved_model.load(sys.argv[2]).signatures["serving_default"]
raw = {}
for name in serve.structured_input_signature[1]:
    text = pa.types.is_dictionary(columns[name].type)
    column = columns[name].cast(pa.string()).fill_null("") if text else columns[name].fill_null(float("nan"))
    raw[name] = tf.constant(column.to_pylist(), tf.string if text else tf.float32)
served = serve(**raw)["outputs"].numpy()[:, 0]
print(json.dumps({
    "same_weights": same_weights, "apart": apart, "served_apart": float(np.abs(served - predicted).max()),
    "share": float(table.labels.mean()), "sizes": sizes, "means": table.amounts.mean(0).tolist(),
    "ranges": [table.codes.min(0).tolist(), table.codes.max(0).tolist()], "inputs": sorted(raw),
}))
"""


@pytest.mark.slow
def test_it_is_the_same_model_and_serves_it(tmp_path):
    """The network gives what the taxi module's gives with the same weights, and the export what the model gives."""
    command = [sys.executable, "-c", CHECK, str(data.REAL), str(tmp_path / "model")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["same_weights"]
    assert found["apart"] < 1e-6
    assert found["served_apart"] < 1e-6
    assert found["means"] == pytest.approx([0, 0, 0], abs=1e-4)
    assert 0.2 < found["share"] < 0.3
    assert found["ranges"][0] == [0, 0, 0, 0, 0, 0, 0, 0]
    assert all(highest < size for highest, size in zip(found["ranges"][1], found["sizes"].values(), strict=True))
    assert "tips" not in found["inputs"]
