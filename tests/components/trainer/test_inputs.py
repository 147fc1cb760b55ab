"""Transformed rows as batches: what the model is told of them, and that every row comes once."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.trainer.blocks import Blocks, Collector, memory_budget_bytes, window
from components.trainer.inputs import Layout, block_rows, dataset, layout_of
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


def blocks(rows: int, block_rows: int = 4, file: Path | None = None) -> Blocks:
    """Rows that hold their number, and its last bit as the label; in a file where there is one."""
    collector = Collector(0 if file else 1 << 30, block_rows, file or Path("nowhere"))
    numbers = np.arange(rows).reshape(-1, 1)
    for start in range(0, rows, 7):
        part = numbers[start : start + 7]
        collector.add((part, part % 2))
    return collector.finish()


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


def test_a_label_that_is_text_is_refused_with_the_remedy() -> None:
    """No loss takes it, and TensorFlow says so of one of its nodes."""
    with pytest.raises(DataError, match=r"label 'y': is text; expected numbers.*the number of its class"):
        layout_of(Transformed({"x": FLOAT, "y": tf.io.FixedLenFeature([], tf.string)}), "y")


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


def test_every_row_comes_once_a_pass_in_order() -> None:
    """The last batch holds what is left, and a second pass gives the same; features and label belong together."""
    batches = dataset(blocks(10), NUMBERED, 4)
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    assert numbers(batches) == numbers(batches) == list(range(10))
    assert all((features["number"].numpy() % 2 == labels.numpy()).all() for features, labels in batches)
    assert int(batches.cardinality()) == 3
    assert batches.element_spec[0]["number"].shape.as_list() == [None, 1]


@pytest.mark.parametrize("window_bytes", [1 << 20, 1], ids=["one window", "a window a block"])
@pytest.mark.parametrize("filed", [False, True], ids=["in memory", "in a file"])
def test_each_epoch_has_an_order_of_its_own_that_follows_from_the_seed(
    window_bytes: int, filed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row is lost or doubled by shuffling, features and label stay together; where the rows lie makes no difference."""
    monkeypatch.setattr("components.trainer.inputs._WINDOW_BYTES", window_bytes)

    def epochs(seed: int, file: Path | None) -> list[list[int]]:
        tf.random.set_seed(0)
        batches = dataset(blocks(50, 8, file), NUMBERED, 8, shuffle_seed=seed)
        assert all((features["number"].numpy() % 2 == labels.numpy()).all() for features, labels in batches)
        assert [len(labels) for _, labels in batches] == [8] * 6 + [2]
        return [numbers(batches) for _ in range(3)]

    first = epochs(1, tmp_path / "rows" if filed else None)
    assert all(sorted(epoch) == list(range(50)) for epoch in first)
    assert len({tuple(epoch) for epoch in first}) == 3
    assert epochs(1, None) == first
    assert epochs(2, None) != first


def test_rows_of_one_window_are_all_mixed() -> None:
    """A row can come anywhere, not only near to where it was."""
    tf.random.set_seed(0)
    (epoch,) = [numbers(dataset(blocks(4000, 400), NUMBERED, 40, shuffle_seed=3))]
    assert np.abs(np.corrcoef(epoch, np.arange(4000))[0, 1]) < 0.1


def test_a_pass_that_lacks_rows_fails(tmp_path: Path) -> None:
    """And is no short epoch: of the file, or of what is read of it."""
    held = blocks(12, 4, tmp_path / "rows")
    shorter = blocks(8, 4, tmp_path / "shorter")
    held.file = shorter.file
    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.UnknownError)):
        numbers(dataset(held, NUMBERED, 4))


def test_one_window_of_a_file_is_held_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows there are: each block is read once an epoch, and a window is let go with its last row."""
    monkeypatch.setattr("components.trainer.inputs._WINDOW_BYTES", 3 * 8 * NUMBERED.row_bytes)
    made: list[weakref.ref[Any]] = []
    most = 0

    def counted(*arguments: Any) -> Any:
        nonlocal most
        found = window(*arguments)
        made.append(weakref.ref(found))
        most = max(most, sum(one() is not None for one in made))
        return found

    monkeypatch.setattr("components.trainer.inputs.window", counted)
    batches = dataset(blocks(100, 8, tmp_path / "rows"), NUMBERED, 4, shuffle_seed=1, epochs=range(2))
    assert sorted(numbers(batches)) == sorted([*range(100)] * 2)
    assert len(made) == 2 * 5
    assert most == 1
    assert not any(one() for one in made)


@pytest.mark.parametrize("known", [True, False])
def test_rows_that_do_not_fit_are_written_as_they_come(known: bool, tmp_path: Path) -> None:
    """What is held stays below the budget, and below two blocks where it is known that there are too many."""
    collector = Collector(1000, 4, tmp_path / "rows", 1000 if known else None)
    held = []
    for start in range(0, 1000, 5):
        part = np.arange(start, start + 5).reshape(-1, 1)
        collector.add((part, part % 2))
        held.append(collector.held_bytes)
    assert max(held) <= (2 * 4 * 16 if known else 1000)
    found = collector.finish()
    assert found.file is not None
    assert found.read(np.arange(found.count))[0][:, 0].tolist() == list(range(1000))


def test_the_budget_does_not_grow_with_the_machine() -> None:
    """Memory is flat in the number of rows also where there is plenty."""
    assert 0 < memory_budget_bytes() <= 256 << 20


def test_texts_and_pictures_go_through_a_file_as_they_are(tmp_path: Path) -> None:
    """Whatever their form."""
    layout = Layout(
        {"text": WORD, "y": INT, "picture": tf.io.FixedLenFeature([2, 3], tf.float32)},
        {name: Feature(name, "", (1,)) for name in ("text", "picture")},
        "y",
    )
    texts = np.array([[b"a"], [b""], [b"\xff\x00"]], dtype=object)
    pictures = np.arange(18, dtype=np.float32).reshape(3, 2, 3)
    for budget in (0, 1 << 20):
        collector = Collector(budget, 2, tmp_path / f"rows-{budget}")
        collector.add((texts, np.array([[0], [1], [0]]), pictures))
        found = list(dataset(collector.finish(), layout, 2))
        np.testing.assert_array_equal(np.concatenate([one["text"].numpy() for one, _ in found]), texts)
        np.testing.assert_array_equal(np.concatenate([one["picture"].numpy() for one, _ in found]), pictures)


def test_a_block_is_whole_batches_of_about_a_megabyte(tiny: Tiny) -> None:
    """One batch at least."""
    layout = layout_of(tiny.transformed, LABEL)
    assert layout.row_bytes == 7 * 4 + 8
    assert block_rows(layout, 1000) == 29_000
    assert block_rows(layout, 100_000) == 100_000


def test_columns_of_transformed_features() -> None:
    """Scalars become `[batch, 1]`; whatever else there is is left out."""
    transformed = {"number": tf.constant([1, 2]), "y": tf.constant([[0], [1]]), "other": tf.constant([0, 0])}
    columns = NUMBERED.as_columns(transformed)
    assert {name: tensor.numpy().tolist() for name, tensor in columns.items()} == {
        "number": [[1], [2]],
        "y": [[0], [1]],
    }


# --- epochs and replicas ----------------------------------------------------------------------------------------------


def test_epochs_come_in_the_order_that_their_number_says() -> None:
    """So a training that is taken up at the third epoch sees what it would have seen."""
    every = numbers(dataset(blocks(37, 8), NUMBERED, 4, shuffle_seed=3, epochs=range(5)))
    later = numbers(dataset(blocks(37, 8), NUMBERED, 4, shuffle_seed=3, epochs=range(2, 5)))
    assert every[2 * 37 :] == later
    epochs = [every[start : start + 37] for start in range(0, 5 * 37, 37)]
    assert all(sorted(epoch) == list(range(37)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 8, 9, 10, 12, 15, 16, 17, 18, 33, 41])
@pytest.mark.parametrize("replicas", [1, 2, 3])
@pytest.mark.parametrize("window_bytes", [1, 1 << 20])
def test_no_replica_is_left_without_a_row(
    rows: int, replicas: int, window_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would leave one without joins the batch before; each row comes once, and the number of batches is known."""
    monkeypatch.setattr("components.trainer.inputs._WINDOW_BYTES", window_bytes)
    batches = dataset(blocks(rows, 8), NUMBERED, 4, shuffle_seed=3, replicas=replicas, epochs=range(2))
    sizes = [len(label) for _, label in batches]
    assert int(batches.cardinality()) == len(sizes)
    assert sorted(numbers(batches)) == sorted([*range(rows)] * 2)
    assert all(size >= min(replicas, rows) for size in sizes)
    assert all(size < 4 + replicas for size in sizes)
