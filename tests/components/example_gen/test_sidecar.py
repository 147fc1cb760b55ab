"""The columns beside the examples are the rows, in the records' order."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from components.example_gen import sidecar
from components.example_gen.sidecar import SplitColumns, read_columns


def written(folder, batches, indexes, splits=("train", "eval")):
    with SplitColumns(splits, folder / sidecar.COLUMNS_FOLDER) as columns:
        for batch, index in zip(batches, indexes, strict=True):
            for number, split in enumerate(splits):
                chosen = np.flatnonzero(np.array(index) == number)
                if len(chosen):
                    columns.add(split, batch.take(pa.array(chosen)))
    return {split: read_columns(folder, split) for split in splits}


@given(st.lists(st.lists(st.tuples(st.integers(0, 1), st.none() | st.integers()), min_size=1, max_size=9), max_size=9))
def test_every_row_is_in_its_split_in_order(tmp_path_factory, rows):
    """However the rows came in batches, and however many are held."""
    folder = tmp_path_factory.mktemp("columns")
    values = [[None if v is None else v % 2**31 for _, v in part] for part in rows]
    batches = [pa.record_batch({"n": pa.array(part, pa.int64())}) for part in values]
    found = written(folder, batches, [[split for split, _ in part] for part in rows])
    for index, split in enumerate(("train", "eval")):
        meant = [
            v for part, vs in zip(rows, values, strict=True) for (s, _), v in zip(part, vs, strict=True) if s == index
        ]
        got = [v for batch in found[split] or [] for v in batch.column("n").to_pylist()]
        assert got == meant
        assert (found[split] is None) == (not meant)


def test_other_columns_start_another_part(tmp_path):
    """Also where rows of the same columns had been written to disk before; names with dashes stay apart."""
    narrow = pa.record_batch({"n": pa.array(range(sidecar._BATCH_ROWS), pa.int64())})
    wide = narrow.append_column("t", pa.array([b"x"] * narrow.num_rows, pa.large_binary())).slice(0, 3)
    batches = [narrow, wide, narrow.slice(0, 2)]
    indexes = [[0] * batch.num_rows for batch in batches]
    found = written(tmp_path, batches, indexes, ("a", "a-00000"))
    assert [(batch.num_rows, batch.schema.names) for batch in found["a"]] == [
        (sidecar._BATCH_ROWS, ["n"]),
        (3, ["n", "t"]),
        (2, ["n"]),
    ]
    assert found["a-00000"] is None
    assert len(list((tmp_path / sidecar.COLUMNS_FOLDER).iterdir())) == 3
