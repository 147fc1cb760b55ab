"""A split read and transformed: by columns as by examples, every row once, and what is refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from components.example_gen.sidecar import SplitColumns
from components.trainer.blocks import Blocks
from components.trainer.inputs import layout_of
from components.trainer.preprocessing import Preprocessing
from components.trainer.rows import Reader, Split, rows_stated
from schemas.errors import DataError
from tests.components.trainer.tiny import LABEL, RAW_SPEC, Tiny, example, write_raw

ROWS = range(40)


def reader(tiny: Tiny, **forms: object) -> Reader:
    layout = layout_of(tiny.transformed, LABEL)
    return Reader(Preprocessing(tiny.transformed.transform_savedmodel_dir), layout, {**RAW_SPEC, **forms})


def read(reader: Reader, folder: Path, rows: int | None = None) -> Split:
    return reader.read([f"{folder}/Split-train/*"], 8, 1 << 20, folder / "rows", rows)


def held(split: Split) -> list[np.ndarray]:
    return list(split.blocks.read(np.arange(split.blocks.count)))


def test_rows_come_in_the_order_of_the_files(tiny: Tiny) -> None:
    """Transformed as tf.Transform's layer does it, gzipped or not; the range of the label is found on the way."""
    split = reader(tiny).read([tiny.train], 8, 1 << 20, Path("nowhere"), 37)
    raw = tf.io.parse_example([example(index) for index in range(37)], RAW_SPEC)
    expected = layout_of(tiny.transformed, LABEL).as_columns(tiny.transformed.transform_features_layer()(raw))
    for array, tensor in zip(held(split), expected.values(), strict=True):
        np.testing.assert_array_equal(array, tensor)
    assert (split.blocks.rows, split.lowest, split.highest) == (37, 0, 1)


def test_several_patterns_are_one_split(tiny: Tiny) -> None:
    """TFX hands over one pattern for each artifact."""
    split = reader(tiny).read([tiny.train, tiny.validate], 8, 1 << 20, Path("nowhere"), 47)
    assert split.blocks.rows == 47


def scalar_only(tiny: Tiny) -> Reader:
    """A reader of the tiny set, of which all but `pair` can be columns; `pair` is made to."""
    made = reader(tiny)
    made._layout.spec.pop("pair")
    made._layout.features.pop("pair")
    layout = made._layout
    spec = {name: form for name, form in RAW_SPEC.items() if name != "pair"}
    return Reader(made._preprocessing, layout, spec)


def columns(rows: range, **changed: list[object]) -> pa.RecordBatch:
    """What ExampleGen writes beside the examples of `tests.components.trainer.tiny.example`."""
    values = {
        "one": pa.array([0.25 * i for i in rows], pa.float32()),
        "flat": pa.array([3.0 - i for i in rows], pa.float32()),
        "word": pa.array([b"w" * i if i % 2 else None for i in rows], pa.large_binary()),
        "whole.number": pa.array([i if i % 3 else None for i in rows], pa.int64()),
        "2nd real": pa.array([0.1 * i if i % 4 else None for i in rows], pa.float32()),
        "target": pa.array([i % 2 for i in rows], pa.int64()),
        "answer": pa.array([None for _ in rows], pa.float32()),
    }
    values |= {name: pa.array(column, values[name].type) for name, column in changed.items()}
    return pa.RecordBatch.from_pydict(values)


def write_columns(folder: Path, *batches: pa.RecordBatch) -> None:
    with SplitColumns(["train"], folder / "columns") as sidecar:
        for batch in batches:
            sidecar.add("train", batch)


def test_columns_give_what_examples_give(tiny: Tiny, tmp_path: Path) -> None:
    """To the last bit, with all that may be missing missing somewhere."""
    write_raw(tmp_path / "examples" / "Split-train" / "data", ROWS)
    write_columns(tmp_path / "columns", columns(range(25)), columns(range(25, 40)))
    of_examples, of_columns = (read(scalar_only(tiny), tmp_path / name, 40) for name in ("examples", "columns"))
    for one, other in zip(held(of_examples), held(of_columns), strict=True):
        np.testing.assert_array_equal(one, other)
    assert of_columns.blocks.rows == 40


def test_features_of_several_values_are_read_from_examples(tiny: Tiny, tmp_path: Path) -> None:
    """Columns could not hold them."""
    write_raw(tmp_path / "Split-train" / "data", ROWS)
    write_columns(tmp_path, columns(range(3)))
    assert read(reader(tiny), tmp_path).blocks.rows == 40


def test_a_required_value_that_is_missing_is_named(tiny: Tiny, tmp_path: Path) -> None:
    """With how often it is missing."""
    write_columns(tmp_path, columns(range(5), one=[1.0, None, 2.0, None, 3.0]))
    with pytest.raises(DataError, match=r"Split-train: feature 'one': is missing in 2 of 5 rows"):
        read(scalar_only(tiny), tmp_path)
    write_columns(tmp_path / "without", columns(range(5)).drop_columns(["flat"]))
    with pytest.raises(DataError, match=r"feature 'flat': is missing in 5 of 5 rows"):
        read(scalar_only(tiny), tmp_path / "without")


def test_a_preprocessing_that_drops_or_refuses_rows_is_an_error(tiny: Tiny, tmp_path: Path) -> None:
    """It would not serve them either; whichever way they are read."""
    write_raw(tmp_path / "examples" / "Split-train" / "data", ROWS)
    write_columns(tmp_path / "columns", columns(ROWS))
    made = scalar_only(tiny)

    class Halving(Preprocessing):
        def __call__(self, raw: Mapping[str, Any], outputs: Collection[str]) -> dict[str, Any]:
            return {name: tensor[::2] for name, tensor in super().__call__(raw, outputs).items()}

    class Refusing(Preprocessing):
        def __call__(self, raw: Mapping[str, Any], outputs: Collection[str]) -> dict[str, Any]:
            with tf.control_dependencies([tf.debugging.assert_less(raw["one"], 9.0, "too large")]):
                return {name: tf.identity(tensor) for name, tensor in super().__call__(raw, outputs).items()}

    folder = tiny.transformed.transform_savedmodel_dir
    for name in ("examples", "columns"):
        with pytest.raises(DataError, match="has 20 rows for a batch of 40"):
            read(Reader(Halving(folder), made._layout, made._spec), tmp_path / name)
        with pytest.raises(DataError, match=r"Split-train.* cannot be transformed: .*too large") as caught:
            read(Reader(Refusing(folder), made._layout, made._spec), tmp_path / name)
        assert 'File "' not in str(caught.value)
        assert "{{" not in str(caught.value)


@pytest.mark.parametrize("rows", [39, 41])
def test_rows_that_are_lost_or_doubled_are_an_error(rows: int, tiny: Tiny, tmp_path: Path) -> None:
    """Whichever way they are read."""
    write_raw(tmp_path / "examples" / "Split-train" / "data", ROWS)
    write_columns(tmp_path / "columns", columns(ROWS))
    for name in ("examples", "columns"):
        with pytest.raises(DataError, match=f"does not give the rows.*expected {rows} rows; got 40"):
            read(scalar_only(tiny), tmp_path / name, rows)


@pytest.mark.parametrize("pattern", ["/nowhere/Split-train/*"])
def test_no_file_is_no_row(tiny: Tiny, pattern: str) -> None:
    """Which the check then refuses by the name of the split."""
    split = reader(tiny).read([pattern], 8, 1 << 20, Path("nowhere"), None)
    assert split == Split(split.blocks, None, None)
    assert split.blocks.rows == 0
    with pytest.raises(DataError, match="split 'validate': holds no rows"):
        split.check("y", "validate")


def test_what_cannot_be_learned_from_is_refused() -> None:
    """One class only; with the split, the number of rows and what to look at."""
    blocks = Blocks(1234, 8, (), None, [])
    with pytest.raises(DataError, match="one class only: all 1,234 rows of the train split hold 0") as caught:
        Split(blocks, 0, 0).check("big_tipper", "train")
    assert caught.value.thing == "label 'big_tipper'"
    assert "preprocessing_fn" in caught.value.remedy
    Split(blocks, 0, 1).check("y", "train")
    Split(blocks, b"no", b"yes").check("y", "train")


def test_how_many_rows_there_should_be(tmp_path: Path) -> None:
    """As Transform wrote it down; nothing where it did not."""
    assert rows_stated(str(tmp_path)) == {}
    (tmp_path / "rows.json").write_text('{"train": 5}')
    assert rows_stated(str(tmp_path)) == {"train": 5}
