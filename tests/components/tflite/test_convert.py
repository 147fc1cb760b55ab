"""The ladder of variants, what is told of each, and what becomes of a model that does not convert."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from components.tflite import convert, interpret
from schemas.errors import SatisficeError
from schemas.tflite import EXPORT_FILE, VARIANTS, Export
from serving import payload, tflite_file
from tests.components.tflite import models

ROWS = models.tabular_rows(50)


@pytest.fixture(scope="module")
def source(ladder):
    with convert.opened(ladder.saved_model) as source:
        yield source


def convert_one(saved_model, variant, rows, folder):
    with convert.opened(saved_model) as source:
        return convert.convert(source, variant, rows, folder)


def test_every_variant_is_made_and_told_of(ladder):
    """Digest, size and operators of a record are those of the file beside it."""
    assert [one.variant for one in ladder.record.variants] == list(VARIANTS)
    for one in ladder.record.variants:
        path = ladder.file(one.variant)
        assert one.shippable, one.problems
        assert one.digest == payload.digest(path)
        assert one.size_bytes == path.stat().st_size
        assert 0 < one.compressed_bytes < one.size_bytes
        assert one.operators == tflite_file.read(path).operators
        assert not one.needs_flex
        assert not one.custom
    assert Export.model_validate_json((ladder.folder / EXPORT_FILE).read_bytes()) == ladder.record
    assert ladder.record.saved_model == payload.digest(ladder.saved_model)
    assert ladder.record.before_calling == ("as it is",)
    assert ladder.record.representative_rows == 200


def test_variants_get_smaller(ladder):
    """Half the weights' bytes in float16, a quarter in int8."""
    size = {one.variant: one.size_bytes for one in ladder.record.variants}
    assert size["float16"] < size["float32"]
    assert size["int8"] < size["float16"]


def test_arguments_and_results_keep_their_names_and_types(ladder):
    """What is called by name is called by the same name in each variant; integers stay as they are."""
    plain, whole = ladder.record.of("float32"), ladder.record.of("int8")
    assert plain.inputs.keys() == whole.inputs.keys() == {"number", "pair", "word"}
    assert plain.outputs.keys() == whole.outputs.keys() == {"outputs"}
    assert (plain.inputs["number"].dtype, plain.inputs["number"].scale) == ("float32", None)
    assert plain.inputs["pair"].shape == (-1, 2)
    assert whole.inputs["number"].dtype == whole.outputs["outputs"].dtype == "int8"
    assert whole.inputs["number"].scale > 0
    assert whole.inputs["word"].dtype == "int64"
    assert ladder.record.of("int16x8").inputs["number"].dtype == "int16"


def test_fused_activations_are_counted(ladder):
    """Two of the three layers run their ReLU inside."""
    assert ladder.record.of("float32").fused == {"FULLY_CONNECTED+RELU": 2}


def test_batch_normalization_folds_into_the_convolution(tmp_path):
    """One operator is left of convolution, normalization and activation, and the record says what was folded."""
    saved_model = models.image(tf_keras, tmp_path / "model")
    record = convert_one(saved_model, "float32", {}, tmp_path)
    assert record.fused == {"CONV_2D+RELU": 1}
    assert record.folded == ("FusedBatchNormV3",)
    assert not {"MUL", "ADD", "RELU"} & record.operators.keys()


@pytest.mark.parametrize("library", [tf_keras, keras], ids=["tf_keras", "keras3"])
@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_weights_are_in_the_file(library, variant, tmp_path):
    """A model of either Keras, saved as a module, answers as its SavedModel does: nothing is lost on the way."""
    saved_model = models.tabular(library, tmp_path / "model")
    with convert.opened(saved_model) as source:
        record = convert.convert(source, variant, ROWS, tmp_path)
        reference = source.function(**ROWS)["outputs"].numpy()
    assert record.shippable, record.problems
    predictions = interpret.predict(convert.file_of(tmp_path, variant), ROWS)
    assert np.abs(predictions - reference).max() < (1e-5 if variant == "float32" else 0.05)


def test_a_file_that_lost_its_weights_is_told(tmp_path):
    """The converter's own way with a Keras 3 module succeeds, and the file's operators give it away."""
    saved_model = models.tabular(keras, tmp_path / "model")
    content = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=["transformed"]).convert()
    with convert.opened(saved_model) as source:
        flaws = list(convert._flaws(source, tflite_file.parse(content)))
    assert len(flaws) == 1
    assert "lost its weights: READ_VARIABLE and VAR_HANDLE" in flaws[0]


def test_an_operator_without_kernel_is_named_with_its_layer(tmp_path):
    """The record says which operator, which layer it came from and what to do; no file is left."""
    saved_model = models.one_layer(tf_keras, tmp_path / "model", "odd_layer", tf.math.bessel_i1e)
    record = convert_one(saved_model, "float32", {}, tmp_path)
    assert not record.shippable
    assert record.digest == ""
    assert not convert.file_of(tmp_path, "float32").exists()
    (problem,) = record.problems
    assert problem.startswith("BesselI1e (layer odd_layer) has no TFLite kernel. Replace it")


def test_text_is_refused(tmp_path):
    """A text as an argument is no stack trace, but a sentence that names it."""
    saved_model = models.one_layer(
        tf_keras, tmp_path / "model", "lengths", lambda text: tf.cast(tf.strings.length(text), tf.float32), tf.string
    )
    for variant in ("float32", "int8"):
        record = convert_one(saved_model, variant, {"number": np.array([["a"]], object)}, tmp_path)
        assert record.problems == (
            "takes text (number), which no device kernel quantizes or embeds. "
            "Let preprocessing_fn turn it into a number (tft.compute_and_apply_vocabulary).",
        )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: {name: values[:0] for name, values in rows.items()}, "the representative set is empty"),
        (lambda rows: {**rows, "number": rows["number"] * 0 + 3}, "constant: number is 3 in all 50 rows"),
        (lambda rows: {**rows, "pair": rows["pair"] * np.nan}, "holds values of pair that are not finite"),
        (lambda rows: {"number": rows["number"]}, "lacks pair, word"),
        (lambda rows: {}, "lacks number, pair, word"),
    ],
)
def test_a_bad_representative_set_is_told_of_the_variants_that_need_it(source, change, told, tmp_path):
    """Quantized activations have no range then; other variants are made all the same."""
    rows = change(ROWS)
    for variant in ("int8", "int16x8"):
        record = convert.convert(source, variant, rows, tmp_path)
        assert not record.shippable
        assert told in record.problems[0]
        assert "take dynamic_int8" in record.problems[0]
    assert convert.convert(source, "dynamic_int8", rows, tmp_path).shippable


def test_integers_may_be_the_same_in_all_rows(source, tmp_path):
    """Only what is quantized needs a range."""
    rows = {**ROWS, "word": ROWS["word"] * 0}
    assert convert.convert(source, "int8", rows, tmp_path).shippable


def test_equal_sources_give_equal_bytes(source, ladder, tmp_path):
    """A variant converted again has the digest that it had."""
    again = convert.convert(source, "float32", {}, tmp_path)
    assert again.digest == ladder.record.of("float32").digest


def test_no_file_of_an_earlier_conversion_is_left(source, tmp_path):
    """A variant that fails now does not stand there as if it had not."""
    assert convert.convert(source, "int8", ROWS, tmp_path).shippable
    assert not convert.convert(source, "int8", {}, tmp_path).shippable
    assert not convert.file_of(tmp_path, "int8").exists()


def test_a_model_without_the_signature_is_refused(ladder):
    """The error names the signature and those that are there."""
    told = r"has no signature 'serving_default'.*got transformed.*Train it anew"
    with pytest.raises(SatisficeError, match=told), convert.opened(ladder.saved_model, "raw"):
        pass


def test_a_file_may_take_raw_columns(tmp_path):
    """It holds the preprocessing, and answers as the SavedModel's serving signature does."""
    saved_model = models.raw(tf_keras, tmp_path / "model")
    rows = {"fare": np.linspace(1, 40, 60, dtype=np.float32)}
    with convert.opened(saved_model, "raw") as source:
        record = convert.export(source, ("float32", "int8"), rows, tmp_path)
        reference = source.function(fare=tf.constant(rows["fare"]))["outputs"].numpy()
    assert record.takes == "raw"
    for one, far in zip(record.variants, (1e-6, 0.05), strict=True):
        assert one.shippable, one.problems
        assert one.inputs["fare"].shape == (-1,)
        assert np.abs(interpret.predict(convert.file_of(tmp_path, one.variant), rows) - reference).max() < far


def test_raw_text_is_left_to_the_device(tmp_path):
    """A preprocessing that looks words up does not convert, and the remedy is the other way to take features."""
    saved_model = models.raw(tf_keras, tmp_path / "model", tf.string)
    with convert.opened(saved_model, "raw") as source:
        record = convert.convert(source, "float32", {}, tmp_path)
    assert record.problems == (
        "takes text (fare), which no device kernel quantizes or embeds. "
        "Set export.tflite.takes to transformed: the device then does what preprocessing_fn does with it.",
    )
