"""What a payload holds is read without running it, and a damaged one is told as such."""

import json
import subprocess
import sys

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import NotAPayloadError, SatisficeError
from serving import payload, saved_model_file, tflite_file
from serving.inspect import inspect


class Doubler(tf.Module):
    """Two variables, one of them trained, and a file."""

    def __init__(self, asset):
        super().__init__()
        self.weight = tf.Variable([[2.0, 3.0]], name="weight")
        self.steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="steps")
        self.asset = tf.saved_model.Asset(str(asset))

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name="number")])
    def double(self, number):
        return {"doubled": tf.matmul(number, self.weight)}


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspect")
    (folder / "words").write_text("a\nb\n")
    module = Doubler(folder / "words")
    tf.saved_model.save(module, str(folder / "model"), signatures={"double": module.double})
    return folder / "model"


@pytest.fixture(scope="module")
def tflite(saved_model, tmp_path_factory):
    file = tmp_path_factory.mktemp("inspect") / "model.tflite"
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=["double"])
    file.write_bytes(converter.convert())
    return file


def test_a_saved_model(saved_model):
    """Signatures with types and shapes, variables with sizes, assets, operators, TensorFlow's version, digest."""
    found = inspect(saved_model)
    assert (found.kind, found.digest) == ("saved_model", payload.digest(saved_model))
    (graph,) = found.content.meta_graphs
    assert graph.tags == ("serve",)
    assert graph.tensorflow == tf.__version__
    signature = next(one for one in graph.signatures if one.name == "double")
    assert (signature.inputs["number"].dtype, signature.inputs["number"].shape) == ("float32", (-1, 1))
    assert signature.outputs["doubled"].shape == (-1, 2)
    variables = {one.name: (one.dtype, one.shape, one.trainable, one.bytes) for one in graph.variables}
    assert variables == {"weight": ("float32", (1, 2), True, 8), "steps": ("int64", (), False, 8)}
    assert [(asset.name, asset.bytes) for asset in graph.assets] == [("words", 4)]
    assert graph.operators["MatMul"] >= 1
    assert found.content.problems == ()


def test_what_is_missing_is_told(saved_model, tmp_path):
    """A copy without its variables and assets is still read, and says what it lacks."""
    (tmp_path / "saved_model.pb").write_bytes((saved_model / "saved_model.pb").read_bytes())
    problems = saved_model_file.read(tmp_path).problems
    assert problems[0].startswith("variables/variables.index is not there")
    assert problems[1] == "assets/words is not there"


def test_a_tflite_file(tflite):
    """Signature, tensors, operators, sizes; the version directory that holds it is as good as the file."""
    found = inspect(tflite)
    assert (found.kind, found.size_bytes) == ("tflite", tflite.stat().st_size)
    assert found.content.operators["FULLY_CONNECTED"] == 1
    assert found.content.arguments()["number"].shape == (-1, 1)
    assert found.content.results()["doubled"].dtype == "float32"
    assert not found.content.needs_flex
    assert inspect(tflite.parent).digest == found.digest
    assert json.loads(json.dumps(found.as_dict()))["operators"] == found.content.operators


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9])
def test_a_cut_off_saved_model_is_told(saved_model, tmp_path, share):
    """With the path and what to do, whatever is left of it."""
    content = (saved_model / "saved_model.pb").read_bytes()
    (tmp_path / "saved_model.pb").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(NotAPayloadError, match=r"saved_model\.pb"):
        inspect(tmp_path)


def test_another_file_is_told(tmp_path):
    """A name does not make a `.tflite` file."""
    file = tmp_path / "model.tflite"
    file.write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(NotAPayloadError, match=r"is no \.tflite file; expected TFL3 in bytes 4 to 8"):
        inspect(file)


@given(st.data())
def test_no_bytes_make_it_fail_otherwise(tflite, data):
    """A damaged file is read or refused; nothing else is raised, and it does not hang."""
    content = bytearray(tflite.read_bytes())
    for _ in range(data.draw(st.integers(1, 20))):
        content[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(8, len(content)))
    try:
        tflite_file.parse(bytes(content[:cut]))
    except SatisficeError as error:
        assert "damaged" in str(error)  # noqa: PT017 - it may be whole as well


def test_the_command_imports_no_tensorflow(saved_model, tflite):
    """It answers at once, and runs nothing of the model."""
    code = (
        "import sys; from runners.cli import app; "
        "app(sys.argv[1:], standalone_mode=False); assert 'tensorflow' not in sys.modules"
    )
    for path, told in ((saved_model, "weight: float32 [1, 2], 8 bytes"), (tflite, "FULLY_CONNECTED")):
        done = subprocess.run([sys.executable, "-c", code, "inspect", str(path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert told in done.stdout
        assert payload.digest(path) in done.stdout
