"""The same rows in every format give the same splits and the same values; a damaged file names the place."""

import datetime as dt
import gzip
import re

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from components.example_gen import arrow_files, parquet_files, tfrecord_files
from components.example_gen.columns import ColumnType
from components.example_gen.encode import encode
from components.example_gen.read import column_names, has_rows, infer_columns, pieces_of, read_batches
from components.example_gen.sidecar import read_columns
from components.example_gen.source_files import Piece
from schemas.errors import BadValueError, DataError, MissingColumnError
from tests.components.examples import RECORDS_FILE, write_splits

INT, FLOAT, BYTES = ColumnType.INT, ColumnType.FLOAT, ColumnType.BYTES
WEIGHTS = {"train": 7, "validate": 1, "eval": 2}


def write_arrow(file, table, kind="file", rows=None, **options):
    opened = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with opened(file, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=rows)
    return file


def write_records(file, records, compression=""):
    with tf.io.TFRecordWriter(str(file), compression) as writer:
        for record in records:
            writer.write(record)
    return file


def example(**values):
    """A serialized tf.Example; None is a feature without a kind."""
    lists = {int: ("int64_list", tf.train.Int64List), float: ("float_list", tf.train.FloatList)}
    features = {}
    for name, value in values.items():
        some = value if isinstance(value, list) else [value]
        key, kind = lists.get(type(some[0]) if some else bytes, ("bytes_list", tf.train.BytesList))
        features[name] = tf.train.Feature(**({} if value is None else {key: kind(value=some)}))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def rows_of(file, format, columns, **options):
    batches = list(read_batches(file, format, columns, **options))
    return pa.Table.from_batches(batches).to_pydict()


# --- the taxi rows


@pytest.fixture(scope="session")
def taxi_table(taxi_csv, taxi_columns):
    return pa.Table.from_batches(list(read_batches(taxi_csv, "csv", taxi_columns)))


@pytest.fixture(scope="session")
def taxi_split(taxi_csv, taxi_columns, tmp_path_factory):
    """The values of each split, by the columns and by the examples, as CSV gives them."""
    return written(taxi_csv, "csv", taxi_columns, tmp_path_factory.mktemp("csv"))


def written(file, format, columns, folder):
    result = write_splits(read_batches(file, format, columns, infer_columns([file], format, columns)), WEIGHTS, folder)
    values = {split: pa.Table.from_batches(list(read_columns(folder, split))).to_pydict() for split in WEIGHTS}
    return result, values, folder


def write_taxi(kind, table, folder):
    """The rows in a format, in the types that its users have: text, dictionaries, narrow numbers."""
    as_users_do = table.set_column(0, table.schema.names[0], table.column(0).cast(pa.int32()))
    for index, field in enumerate(as_users_do.schema):
        if pa.types.is_large_binary(field.type):
            as_users_do = as_users_do.set_column(
                index, field.name, as_users_do.column(index).cast(pa.string()).dictionary_encode()
            )
    if kind == "parquet":
        pq.write_table(as_users_do, folder / "taxi", row_group_size=1000)
    elif kind in ("file", "stream"):
        write_arrow(folder / "taxi", as_users_do.unify_dictionaries(), kind, 4000)
    elif kind == "compressed":
        write_arrow(folder / "taxi", table, rows=4000, compression="zstd")
    else:
        records = [record for batch in table.to_batches() for record in encode(batch).to_pylist()]
        write_records(folder / "taxi", records, kind)
    return folder / "taxi"


@pytest.mark.parametrize(
    ("format", "kind"),
    [
        ("parquet", "parquet"),
        ("arrow", "file"),
        ("arrow", "stream"),
        ("arrow", "compressed"),
        ("tfrecord", ""),
        ("tfrecord", "GZIP"),
    ],
)
def test_the_taxi_rows_are_the_same_in_every_format(
    taxi_table, taxi_split, taxi_columns, tmp_path, decode, format, kind
):
    """15,002 rows, the same ones in each split, in the same order, each value the same, by columns and by examples."""
    file = write_taxi(kind, taxi_table, tmp_path)
    assert has_rows(file, format)
    assert sorted(column_names(file, format)) == sorted(taxi_columns)
    result, values, folder = written(file, format, taxi_columns, tmp_path / "out")
    expected, wanted, csv_folder = taxi_split
    assert result == expected
    assert result.rows_in == 15_002
    assert values == wanted
    one, other = (decode(place / "Split-eval" / RECORDS_FILE, taxi_columns) for place in (folder, csv_folder))
    assert one == other


# --- pieces


@pytest.mark.parametrize(("format", "reader"), [("parquet", parquet_files), ("arrow", arrow_files)])
def test_pieces_are_the_file(tmp_path, format, reader):
    """Together they have all rows, in order; rows of an error are counted from the file's first."""
    table = pa.table({"n": pa.array(range(1000)), "t": [str(n) for n in range(999)] + ["x"]})
    if format == "parquet":
        pq.write_table(table, tmp_path / "rows", row_group_size=100)
    else:
        write_arrow(tmp_path / "rows", table, rows=100)
    found = pieces_of(tmp_path / "rows", format, 250)
    assert found == [Piece(0, 3), Piece(3, 6), Piece(6, 9), Piece(9, 10)]
    read = [list(read_batches(tmp_path / "rows", format, {"n": INT, "t": BYTES}, piece=piece)) for piece in found]
    assert [n for batches in read for batch in batches for n in batch["n"].to_pylist()] == list(range(1000))
    with pytest.raises(BadValueError, match="row 1000, column 't'"):
        list(reader.batches(tmp_path / "rows", {"t": INT}, found[-1]))


def test_what_cannot_be_split_is_one_piece(tmp_path):
    """A stream, a CSV file, records; a file without rows has none."""
    write_arrow(tmp_path / "s", pa.table({"n": range(9)}), "stream", rows=2)
    (tmp_path / "c").write_text("n\n1\n")
    write_records(tmp_path / "r", [example(n=1)])
    for name, kind in (("s", "arrow"), ("c", "csv"), ("r", "tfrecord")):
        assert pieces_of(tmp_path / name, kind, 1) == [Piece()]
    write_arrow(tmp_path / "none", pa.table({"n": pa.array([], pa.int64())}))
    with pytest.raises(DataError, match="none: has no rows"):
        pieces_of(tmp_path / "none", "arrow", 1)


# --- Arrow


def test_unknown_columns_of_an_arrow_file(tmp_path):
    """Follow from the file's own types."""
    table = pa.table({"i": pa.array([1], pa.int8()), "f": [0.5], "s": ["x"], "w": [dt.date(2020, 1, 1)]})
    file = write_arrow(tmp_path / "rows.arrow", table)
    assert infer_columns([file], "arrow", ["f"]) == {"i": INT, "s": BYTES, "w": BYTES}
    assert rows_of(file, "arrow", {"f": FLOAT}) == {"f": [0.5], "i": [1], "s": [b"x"], "w": [b"2020-01-01"]}


def test_bad_arrow_files(tmp_path):
    """Each is refused with its name and the place."""
    table = pa.table({"n": range(1000)})
    whole = write_arrow(tmp_path / "file", table, rows=100).read_bytes()
    stream = write_arrow(tmp_path / "stream", table, "stream", rows=100).read_bytes()

    def refused(content, message, columns=None, error=DataError):
        (tmp_path / "bad.arrow").write_bytes(content)
        with pytest.raises(error, match=re.escape(message)) as caught:
            rows_of(tmp_path / "bad.arrow", "arrow", columns or {"n": INT})
        assert type(caught.value) is error
        assert "bad.arrow: " in str(caught.value)
        assert caught.value.remedy

    refused(b"", "is empty; expected an Arrow IPC file")
    refused(b"n\n1\n2\n", "is no Arrow IPC file; expected the file format (magic 'ARROW1')")
    refused(b"FEA1" + bytes(60), "a Feather V1 or pre-1.0 file has to be written again")
    refused(whole[: len(whole) // 2], "is damaged or cut off")
    refused(stream[: len(stream) // 2], "is damaged or cut off")
    refused(stream[:-8], "ends without the mark of a stream's end, after 1000 rows")
    refused(whole, "lacks the column 'm' of the schema", {"m": INT}, MissingColumnError)
    write_arrow(tmp_path / "wrong", pa.table({"n": [1.0, 2.5]}))
    refused((tmp_path / "wrong").read_bytes(), "row 2, column 'n': the value does not fit", error=BadValueError)
    write_arrow(tmp_path / "nested", pa.table({"n": [[1], [2]]}))
    refused((tmp_path / "nested").read_bytes(), "column 'n' is nested")
    write_arrow(tmp_path / "none", table.slice(0, 0))
    refused((tmp_path / "none").read_bytes(), "has no rows")


# --- TFRecord


def test_features_come_and_go(tmp_path, monkeypatch):
    """What a record lacks is missing; other features are in the batches that have them."""
    monkeypatch.setattr(tfrecord_files, "_BLOCK_ROWS", 2)
    records = [example(n=1), example(n=None, t=b"x"), example(t=[]), example(n=4, t=b"", x=0.5), example()]
    file = write_records(tmp_path / "rows", records)
    batches = list(read_batches(file, "tfrecord", {"n": INT, "t": BYTES}))
    assert [batch.num_rows for batch in batches] == [2, 2, 1]
    assert [batch.schema.names for batch in batches] == [["n", "t"], ["n", "t", "x"], ["n", "t"]]
    assert [n for batch in batches for n in batch["n"].to_pylist()] == [1, None, None, 4, None]
    assert [t for batch in batches for t in batch["t"].to_pylist()] == [None, b"x", None, b"", None]
    assert batches[1]["x"].to_pylist() == [None, 0.5]
    assert infer_columns([file], "tfrecord", ["n"]) == {"t": BYTES, "x": FLOAT}


GOOD = [example(n=n, t=b"text") for n in range(20)]


@pytest.mark.parametrize(
    ("records", "error", "message"),
    [
        ([*GOOD, example(n=1.5)], BadValueError, "record 21, feature 'n': has another type; expected int64_list, a whole number (INT); got float_list"),
        ([example(n=b"x")], BadValueError, "record 1, feature 'n': has another type; expected int64_list"),
        ([*GOOD, example(n=1, x=1), example(x=b"y")], BadValueError, "record 22, feature 'x': has another type; expected int64_list"),
        ([*GOOD, example(n=[1, 2, 3])], BadValueError, "record 21, feature 'n': holds several values; expected one value, or none; got 3 values"),
        ([*GOOD, b"no example"], DataError, "record 21 is no tf.Example"),
        ([example(m=1)] * 3, MissingColumnError, "lacks the column 'n' of the schema; got the columns m"),
        ([], DataError, "has no rows"),
    ],
)  # fmt: skip
def test_bad_records_are_named(tmp_path, records, error, message):
    """With their number and the feature."""
    file = write_records(tmp_path / "bad.tfrecord", records)
    with pytest.raises(error, match=re.escape(message)) as caught:
        rows_of(file, "tfrecord", {"n": INT})
    assert type(caught.value) is error
    assert "bad.tfrecord: " in str(caught.value)
    assert caught.value.remedy


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda plain: plain[:-3], "record 20 is cut off"),
        (lambda plain: flipped(plain, len(plain) - 10), "record 20 is damaged"),
        (lambda plain: flipped(plain, len(plain) // 20 * 2 + 20), "record 3 is damaged"),
        (lambda plain: flipped(plain, 0), "is no TFRecord file, or its first record is damaged"),
        (lambda plain: b"n,t\n1,2\n" * 9, "Check data.source.format"),
        (lambda plain: gzip.compress(plain)[:-20], "record "),
        (lambda plain: flipped(gzip.compress(plain), 60), "record 1 is damaged"),
        (lambda plain: gzip.compress(plain) + gzip.compress(plain), "holds more than its first gzip member"),
    ],
)
def test_damaged_record_files_are_refused(tmp_path, damage, message):
    """The record at which it ends is named; no row before it counts."""
    records = [example(n=n, t=b"text") for n in range(64, 84)]  # of one length
    plain = write_records(tmp_path / "plain", records).read_bytes()
    (tmp_path / "bad.tfrecord").write_bytes(damage(plain))
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        rows_of(tmp_path / "bad.tfrecord", "tfrecord", {"n": INT})
    assert "bad.tfrecord: " in str(caught.value)
