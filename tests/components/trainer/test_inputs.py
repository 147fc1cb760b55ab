"""Transformed examples as batches: what the model is told of them, and that every row comes once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import schema_pb2

from components.trainer.inputs import Layout, Survey, dataset, layout_of, survey
from schemas.errors import DataError
from schemas.user_model import Feature
from tests.components.trainer.tiny import LABEL, Tiny

FLOAT, INT, WORD = (tf.io.FixedLenFeature([1], dtype) for dtype in (tf.float32, tf.int64, tf.string))
NUMBERED = Layout({"number": INT, "y": INT}, {"number": Feature("number", "int64", (1,))}, "y")


class Transformed:
    """What `layout_of` asks of a `tft.TFTransformOutput`."""

    def __init__(self, spec: Mapping[str, Any], schema: str = "") -> None:
        self._spec = dict(spec)
        self.transformed_metadata = SimpleNamespace(schema=text_format.Parse(schema, schema_pb2.Schema()))

    def transformed_feature_spec(self) -> dict[str, Any]:
        return self._spec


def write(path: Path, numbers: range) -> str:
    """Examples that hold their number, and its last bit as the label."""
    with tf.io.TFRecordWriter(str(path), "GZIP" if path.suffix == ".gz" else "") as writer:
        for number in numbers:
            features = {
                name: tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
                for name, value in (("number", number), ("y", number % 2))
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return str(path)


def numbers(batches: Any) -> list[int]:
    return [int(number) for features, _ in batches for number in features["number"].numpy().reshape(-1)]


# --- layout -----------------------------------------------------------------------------------------------------------


def test_what_the_model_is_told_of_each_feature() -> None:
    """Name, type and shape, in the order of the names and without the label; a scalar is one of one."""
    spec = {
        "words": WORD,
        "y": INT,
        "flat": tf.io.FixedLenFeature([], tf.float32),
        "image": tf.io.FixedLenFeature([8, 8], tf.float32),
    }
    layout = layout_of(Transformed(spec), "y")
    assert list(layout.features.values()) == [
        Feature("flat", "float32", (1,)),
        Feature("image", "float32", (8, 8)),
        Feature("words", "string", (1,)),
    ]
    assert (layout.label, set(layout.spec)) == ("y", set(spec))


@pytest.mark.parametrize(
    ("domain", "cardinality"),
    [
        ("int_domain { min: 0 max: 9 }", 10),
        ("int_domain { max: 9 }", 10),
        ("int_domain { min: 1 max: 12 }", 13),
        ("int_domain { min: -1 max: 9 }", None),
        ("int_domain { min: 0 }", None),
        ("", None),
    ],
)
def test_the_cardinality_is_where_an_embedding_may_rely_on_it(domain: str, cardinality: int | None) -> None:
    """All values lie in `[0, cardinality)`; a vocabulary that numbers unknown words -1 has none."""
    schema = f'feature {{ name: "y" type: INT }} feature {{ name: "x" type: INT {domain} }}'
    layout = layout_of(Transformed({"x": INT, "y": INT}, schema), "y")
    assert layout.features["x"].cardinality == cardinality


def test_a_number_with_a_fraction_has_no_cardinality() -> None:
    """Whatever the schema says of it."""
    schema = 'feature { name: "x" type: INT int_domain { min: 0 max: 9 } }'
    assert layout_of(Transformed({"x": FLOAT, "y": INT}, schema), "y").features["x"].cardinality is None


@pytest.mark.parametrize(
    ("label", "hint"),
    [("big_tiper", "Did you mean 'big_tipper'? Let preprocessing_fn"), ("y", "log_fare. Let preprocessing_fn")],
)
def test_a_label_that_is_not_there(label: str, hint: str) -> None:
    """The message lists what there is, and has the near match where there is one."""
    with pytest.raises(DataError) as caught:
        layout_of(Transformed({"log_fare": FLOAT, "big_tipper": INT}), label)
    assert f"label {label!r}: is not among the transformed features" in str(caught.value)
    assert "expected one of big_tipper, log_fare" in str(caught.value)
    assert hint in str(caught.value)


def test_a_sparse_feature_is_refused_with_the_remedy() -> None:
    """Keras would fail on it later, with other words."""
    with pytest.raises(DataError, match=r"transformed feature 'words': is sparse.*tf\.sparse\.to_dense"):
        layout_of(Transformed({"words": tf.io.VarLenFeature(tf.string), "y": INT}), "y")


def test_a_label_alone_is_nothing_to_learn_from() -> None:
    """There must be a feature."""
    with pytest.raises(DataError, match="preprocessing_fn: returns nothing but the label 'y'"):
        layout_of(Transformed({"y": INT}), "y")


def test_the_layout_of_a_real_transform_output(tiny: Tiny) -> None:
    """As tf.Transform wrote it."""
    layout = layout_of(tiny.transformed, LABEL)
    shapes = {name: feature.shape for name, feature in layout.features.items()}
    assert shapes == {"flat": (1,), "letters": (1,), "number": (1,), "pair": (2,), "real": (1,), "sum": (1,)}


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"], ids=["plain", "gzipped"])
def test_every_row_comes_once_a_pass_in_the_order_of_the_files(tmp_path: Path, suffix: str) -> None:
    """The last batch holds what is left, and a second pass gives the same."""
    write(tmp_path / f"part-1{suffix}", range(4, 10))
    write(tmp_path / f"part-0{suffix}", range(4))
    batches = dataset([f"{tmp_path}/part-*"], NUMBERED, 4, rows=10)
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    assert numbers(batches) == numbers(batches) == list(range(10))
    assert int(batches.cardinality()) == 3


def test_several_patterns_are_one_data_set(tmp_path: Path) -> None:
    """TFX hands over one pattern for each split."""
    patterns = [write(tmp_path / "a", range(3)), write(tmp_path / "b", range(3, 5))]
    assert numbers(dataset(patterns, NUMBERED, 2)) == list(range(5))


def test_features_and_label_as_the_model_takes_them(tiny: Tiny) -> None:
    """Features by name without the label, `[batch, …]` each; a scalar is `[batch, 1]`."""
    layout = layout_of(tiny.transformed, LABEL)
    features, labels = next(iter(dataset([tiny.train], layout, 8)))
    assert {name: tuple(tensor.shape) for name, tensor in features.items()} == {
        "flat": (8, 1), "letters": (8, 1), "number": (8, 1), "pair": (8, 2), "real": (8, 1), "sum": (8, 1)
    }  # fmt: skip
    assert labels.numpy().tolist() == [[0], [1]] * 4
    np.testing.assert_array_equal(features["flat"].numpy()[:, 0], 3.0 - np.arange(8))


def test_each_epoch_has_an_order_of_its_own_that_follows_from_the_seed(tmp_path: Path) -> None:
    """No row is lost or doubled by shuffling."""
    pattern = write(tmp_path / "rows", range(50))

    def epochs(seed: int) -> list[list[int]]:
        tf.random.set_seed(0)
        batches = dataset([pattern], NUMBERED, 8, shuffle_seed=seed, rows=50)
        return [numbers(batches) for _ in range(3)]

    first = epochs(1)
    assert all(sorted(epoch) == list(range(50)) for epoch in first)
    assert len({tuple(epoch) for epoch in first}) == 3
    assert epochs(1) == first
    assert epochs(2) != first


@pytest.mark.parametrize("rows", [4, 12])
def test_a_wrong_number_of_rows_fails(tmp_path: Path, rows: int) -> None:
    """A pass that yields fewer or more batches than it should is an error and no short epoch."""
    pattern = write(tmp_path / "rows", range(8))
    with pytest.raises(tf.errors.FailedPreconditionError, match="expected to contain"):
        numbers(dataset([pattern], NUMBERED, 4, rows=rows))


@pytest.mark.parametrize("patterns", [[], ["/nowhere/part-*"]])
def test_no_file_is_an_empty_pass(patterns: list[str]) -> None:
    """Which the survey then refuses by the name of the split."""
    assert survey(dataset(patterns, NUMBERED, 4)) == Survey(0, None, None)


def test_columns_of_parsed_examples() -> None:
    """Scalars become `[batch, 1]`; whatever else was parsed is left out."""
    parsed = {"number": tf.constant([1, 2]), "y": tf.constant([[0], [1]]), "other": tf.constant([0, 0])}
    features, label = NUMBERED.columns(parsed)
    assert {name: tensor.numpy().tolist() for name, tensor in features.items()} == {"number": [[1], [2]]}
    assert label.numpy().tolist() == [[0], [1]]


# --- survey -----------------------------------------------------------------------------------------------------------


def labels_of(values: Any, batch: int = 2) -> tf.data.Dataset:
    labels = np.asarray(values).reshape(-1, 1)
    return tf.data.Dataset.from_tensor_slices(({"x": np.zeros(len(labels))}, labels)).batch(batch)


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=9), st.integers(1, 4))
def test_the_survey_counts_rows_and_finds_the_range(values: list[int], batch: int) -> None:
    """Whatever the batches."""
    assert survey(labels_of(values, batch)) == Survey(len(values), min(values), max(values))


def test_the_survey_of_other_labels_and_of_none() -> None:
    """Words have an order as well; no row has no range."""
    assert survey(labels_of([0.5, -0.5, 0.25])) == Survey(3, -0.5, 0.5)
    assert survey(labels_of(np.array([b"no", b"yes"], dtype=object))) == Survey(2, b"no", b"yes")
    assert survey(labels_of([1.0]).take(0)) == Survey(0, None, None)


def test_what_cannot_be_learned_from_is_refused() -> None:
    """No rows, or one class only; with the split, the number of rows and what to look at."""
    with pytest.raises(DataError, match="split 'validate': holds no rows"):
        Survey(0, None, None).check("y", "validate")
    with pytest.raises(DataError, match="one class only: all 1,234 rows of the train split hold 0") as caught:
        Survey(1234, 0, 0).check("big_tipper", "train")
    assert caught.value.thing == "label 'big_tipper'"
    assert "preprocessing_fn" in caught.value.remedy
    Survey(2, 0, 1).check("y", "train")
