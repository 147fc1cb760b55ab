"""Files become batches of the schema's types, whole, or are refused with the line that is wrong."""

import contextlib
import datetime as dt
import decimal
import re
import sys
import time
import traceback

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.example_gen import csv_files
from components.example_gen.columns import ColumnType
from components.example_gen.csv_faults import NulByteError
from components.example_gen.read import infer_columns, read_batches
from components.example_gen.source_files import find_files
from schemas.errors import BadValueError, DataError, MissingColumnError

INT, FLOAT, BYTES = ColumnType.INT, ColumnType.FLOAT, ColumnType.BYTES
COLUMNS = {"n": INT, "x": FLOAT, "t": BYTES}


@pytest.fixture
def csv_file(tmp_path):
    """Writes a CSV file of the given bytes or text and gives its path."""

    def write(content, name="rows.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def parquet_file(tmp_path):
    """Writes a Parquet file of the given columns and gives its path."""

    def write(columns, name="rows.parquet"):
        pq.write_table(pa.table(columns), tmp_path / name)
        return tmp_path / name

    return write


def rows_of(file, columns=COLUMNS, format="csv", extras=None):
    """All rows of a file, as one dict of lists."""
    return pa.Table.from_batches(list(read_batches(file, format, columns, extras))).to_pydict()


# --- files


def test_files_are_found_in_order(tmp_path):
    """Sorted by path, folders left out."""
    for name in ("b.csv", "a.csv", "c.txt"):
        (tmp_path / name).write_text("n\n1\n")
    (tmp_path / "z.csv").mkdir()
    assert [file.name for file in find_files(str(tmp_path / "*.csv"))] == ["a.csv", "b.csv"]


def test_a_pattern_without_a_match_is_named(tmp_path):
    """The pattern and the key of the configuration are in the message; a folder is recognised."""
    with pytest.raises(DataError, match=r"nothing.*matches no file.*data\.source\.path"):
        find_files(str(tmp_path / "nothing*.csv"))
    with pytest.raises(DataError, match=r"It is a folder: set data\.source\.path to '.*\*'"):
        find_files(str(tmp_path))


def test_an_unreadable_file_is_named(tmp_path):
    """A link that leads nowhere matches the pattern and cannot be opened."""
    (tmp_path / "a.csv").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match=r"a\.csv: cannot be read \(No such file"):
        find_files(str(tmp_path / "*.csv"))


# --- CSV: what is read


def test_types_follow_from_the_schema(csv_file):
    """Whole numbers in a FLOAT column are floats, digits in a BYTES column are text."""
    (batch,) = read_batches(csv_file("n,x,t\n1,2,3\n"), "csv", COLUMNS)
    assert batch.schema == pa.schema([("n", pa.int64()), ("x", pa.float32()), ("t", pa.large_binary())])
    assert batch.to_pylist() == [{"n": 1, "x": 2.0, "t": b"3"}]


def test_an_empty_cell_is_missing(csv_file):
    """For numbers and for text, quoted or not; other words for "missing" are values."""
    rows = rows_of(csv_file('n,x,t\n,,\n1,nan,NA\n"","",""\n'))
    assert rows["n"] == [None, 1, None]
    assert rows["x"][0] is None
    assert rows["x"][1] != rows["x"][1]
    assert rows["t"] == [None, b"NA", None]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_newlines_quotes_and_commas_in_values(csv_file, newline):
    """All three newlines; values that hold a newline, a comma or a quote; no newline at the end; a BOM."""
    text = newline.join(["n,x,t", f'1,.5,"a{newline}b"', '2,,"c,""d"""'])
    rows = rows_of(csv_file("\ufeff" + text))
    assert rows == {"n": [1, 2], "x": [0.5, None], "t": [f"a{newline}b".encode(), b'c,"d"']}


def test_blank_lines_and_blanks_around_numbers(csv_file):
    """Are passed over."""
    assert rows_of(csv_file("\nn,x,t\n\n 1 ,\t2 , a\n\n"))["n"] == [1]


def test_blocks_without_rows_are_passed_over(csv_file, monkeypatch):
    """However many blank lines there are."""
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", (64,))
    file = csv_file("n,x,t\n1,2,3\n" + "\n" * 500 + "4,5,6\n")
    assert all(batch.num_rows for batch in read_batches(file, "csv", COLUMNS))
    assert rows_of(file)["n"] == [1, 4]


def test_columns_are_matched_by_name(csv_file):
    """Whatever their order in the file, they come in the order of the schema."""
    assert rows_of(csv_file("t,n,x\na,1,2\n")) == {"n": [1], "x": [2.0], "t": [b"a"]}


def test_a_float_is_rounded_once(csv_file):
    """Parsed as a double, then rounded to float32; "inf" is a value."""
    rows = rows_of(csv_file("n,x,t\n,1400269500.7,\n,inf,\n"))
    assert rows["x"] == [pa.scalar(1400269500.7, pa.float32()).as_py(), float("inf")]


@given(
    st.lists(
        st.tuples(st.integers(-(2**63), 2**63 - 1), st.text(st.characters(exclude_characters="\0\r", codec="utf-8")))
    )
)
def test_what_was_written_is_read_in_blocks_of_any_size(tmp_path_factory, rows):
    """Rows written by pyarrow come back, whatever newlines, commas and quotes they hold."""
    file = tmp_path_factory.mktemp("csv") / "rows.csv"
    rows = [(0, "first"), *rows]
    with file.open("w", newline="") as out:
        out.write("n,t\n")
        out.writelines('{},"{}"\n'.format(n, t.replace('"', '""')) for n, t in rows)
    got = rows_of(file, {"n": INT, "t": BYTES})
    assert got == {"n": [n for n, _ in rows], "t": [t.encode() or None for _, t in rows]}


def test_types_do_not_depend_on_blocks(csv_file, monkeypatch):
    """A column that looks like INT for many blocks and then is not gets one type for the whole file."""
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", (64,))
    file = csv_file("n,extra,other\n" + "1,2,\n" * 100 + "1,2.5,x\n")
    batches = list(read_batches(file, "csv", {"n": INT}))
    assert len(batches) > 2
    assert {batch.schema for batch in batches} == {
        pa.schema([("n", pa.int64()), ("extra", pa.float32()), ("other", pa.large_binary())])
    }
    assert sum(batch.num_rows for batch in batches) == 101


# --- columns that the schema lacks


def test_types_of_unknown_columns_hold_for_all_files(csv_file):
    """The widest of all files; a column without values is BYTES; a file may lack it."""
    assert infer_columns([csv_file("big\n1e39\n")], "csv", []) == {"big": BYTES}  # float32 cannot hold it
    files = [csv_file("n,a,b,c\n1,1,2,\n", "1.csv"), csv_file("n,b,a\n1,x,1.5\n", "2.csv"), csv_file("n\n1\n", "3.csv")]
    extras = infer_columns(files, "csv", ["n"])
    assert extras == {"a": FLOAT, "b": BYTES, "c": BYTES}
    assert rows_of(files[0], {"n": INT}, extras=extras) == {"n": [1], "a": [1.0], "b": [b"2"], "c": [None]}
    assert rows_of(files[2], {"n": INT}, extras=extras) == {"n": [1]}


def test_unknown_columns_of_a_parquet_file(parquet_file):
    """Follow from the file's own types."""
    columns = {
        "i": pa.array([1], pa.int8()),
        "b": [True],
        "f": [0.5],
        "d": [decimal.Decimal("1.5")],
        "s": ["x"],
        "c": pa.array(["x"]).dictionary_encode(),
        "e": pa.nulls(1),
        "w": [dt.date(2020, 1, 1)],
    }
    file = parquet_file(columns)
    assert infer_columns([file], "parquet", []) == {
        **dict.fromkeys("ib", INT),
        **dict.fromkeys("fd", FLOAT),
        **dict.fromkeys("scew", BYTES),
    }
    assert rows_of(file, {}, "parquet") == {
        "i": [1],
        "b": [1],
        "f": [0.5],
        "d": [1.5],
        "s": [b"x"],
        "c": [b"x"],
        "e": [None],
        "w": [b"2020-01-01"],
    }


# --- CSV: what is refused

BAD = [
    ("", DataError, "has no rows. Fill the file"),
    ("\n\n", DataError, "has no rows"),
    ("n,x,t\n", DataError, "has no rows"),
    ("n,x\n1,2\n", MissingColumnError, "lacks the column 't' of the schema; got the columns n, x"),
    ("n,x,text,tt\n1,2,3,4\n", MissingColumnError, "Did you mean its column 'tt'?"),
    ("n;x;t\n1;2;3\n", MissingColumnError, "Its header is one cell: separate the cells by commas."),
    ("n,x,t,n\n1,2,3,4\n", DataError, "has more than one column named 'n'"),
    (",n,x,t\n0,1,2,3\n", DataError, "column 1 has no name in the header"),
    ("n,x,t\n1,2,3\n1.5,2,3\n", BadValueError, "line 3, column 'n': the value does not parse; expected a whole number"),
    (
        'n,x,t\n1,2,"a\n\nb"\n1,abc,3\n',
        BadValueError,
        "line 5, column 'x': the value does not parse; expected a number",
    ),
    ("n,x,t\n1,1e39,\n", BadValueError, "line 2, column 'x': the value does not parse; expected a number (FLOAT); got"),
    (
        "n,x,t\n9223372036854775808,,\n",
        BadValueError,
        "got '9223372036854775808'. Mend the value, leave the cell empty",
    ),
    ("n,x,t\n1,z,\nz,1,\n", BadValueError, "line 2, column 'x'"),
    ("n,x,t\n1,2\n", DataError, "line 2 has another number of columns than the header; expected 3 columns; got 2: 1,2"),
    ("n,x,t\n1,2,3\n1,2,3,4\n", DataError, "line 3 has another number of columns than the header"),
    ("n,x,t\nz,2,3\n1,2,3,4\n", BadValueError, "line 2, column 'n'"),
    (b"n,x,t\n1,2,3\n1,2,\xe9\n", DataError, "line 3 is not UTF-8; got the byte 0xE9 at position 5 of the line"),
    (b"n,x,t\xe9\n1,2,3\n", DataError, "line 1 is not UTF-8"),
    (b"n,x,t\n1,2,\0\n", DataError, "line 2 holds a NUL byte. Save the file as plain UTF-8 text"),
    ("n,x,t\n1,2,3\n".encode("utf-16"), DataError, "line 1 holds a NUL byte"),
    ('"n,x,t\n1,2,3\n', DataError, "line 1: a double quote is opened and not closed properly"),
    ('"n,x,t\n' + "1,2,3\n" * 50_000, DataError, "line 1: a double quote is opened and not closed properly"),
    ('"n"o,x,t\n1,2,3\n', DataError, "cannot be read as CSV; got ',' expected after"),
    ('n,x,t\n1,2,3\n1,2,"a\n3,4,5\n', DataError, "line 3: a double quote is opened and not closed properly"),
    ('n,x,t\n1,2,"a\n3,4,"b\n', DataError, "line 2: a double quote is opened and not closed properly"),
    ('n,x,t\n"1,2,3\n3,4,5\n6,7,8\n', DataError, "line 2: a double quote is opened and not closed properly"),
]


@pytest.mark.parametrize(("content", "error", "message"), BAD)
def test_a_bad_csv_file_is_refused_with_the_place(csv_file, content, error, message):
    """One clear message that names the file, the line and what to do."""
    file = csv_file(content)
    with pytest.raises(error, match=re.escape(message)) as caught:
        rows_of(file)
    assert type(caught.value) is error
    assert str(file) in str(caught.value)
    assert caught.value.remedy


def test_the_line_is_found_far_down(csv_file, monkeypatch):
    """Past blocks and chunks, newlines within values counted."""
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", (1024,))
    file = csv_file("n,x,t\n" + '1,2,"a\nb"\n' * 5000 + "1,2,3\n1,oops,3\n")
    with pytest.raises(BadValueError, match=r"line 10003, column 'x'.*got 'oops'"):
        rows_of(file)


def test_a_torn_quote_in_a_large_file(csv_file, monkeypatch):
    """Swallows more than a block, and is found nevertheless."""
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", (1024,))
    with pytest.raises(DataError, match="line 3: a double quote is opened"):
        rows_of(csv_file('n,x,t\n1,2,3\n1,2,"a\n' + "1,2,3\n" * 50_000))


def test_a_row_longer_than_a_block(csv_file, monkeypatch):
    """Is refused in the reader's own words, as nothing is wrong with it."""
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", (64,))
    with pytest.raises(DataError, match="cannot be read as CSV"):
        rows_of(csv_file('n,x,t\n1,2,"' + "a" * 500 + '"\n1,2,3\n'))


def test_a_row_longer_than_a_small_block(csv_file, monkeypatch):
    """Larger blocks are tried from where it stands: each row comes once, in order."""
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", (64, 4096))
    rows = [f"{number},2,{'a' * (500 if number in (40, 90) else 3)}\n" for number in range(120)]
    assert rows_of(csv_file("n,x,t\n" + "".join(rows)))["n"] == list(range(120))


def test_a_header_longer_than_a_small_block(csv_file, monkeypatch):
    """Is a row like any other."""
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", (64, 4096))
    assert rows_of(csv_file("n,x," + "a" * 500 + ",t\n1,2,3,4\n"))["t"] == [b"4"]


def test_little_is_read_ahead():
    """Arrow reads 32 blocks ahead: of a file of any size that is 64 MB."""
    assert 32 * csv_files._BLOCK_BYTES[0] <= 64 << 20


def test_a_disk_that_fails_under_way_is_named(csv_file, monkeypatch):
    """The reader's own thread sees the fault; the message names the file."""

    def fail(self, size=-1):
        raise OSError(5, "Input/output error")

    file = csv_file("n,x,t\n1,2,3\n")
    monkeypatch.setattr(csv_files._WatchedFile, "read", fail)
    with pytest.raises(DataError, match=r"rows\.csv: cannot be read \(Input/output error\)"):
        rows_of(file)


def test_lines_are_counted_as_they_go_by(csv_file):
    """A last line without a newline counts; a NUL byte stops the reading."""
    with csv_files._WatchedFile(csv_file("a\nb\nc")) as watched:
        assert watched.readable()
        assert watched.read(3) == b"a\nb"
        assert watched.lines == 2
        assert watched.read() == b"\nc"
        assert watched.read() == b""
        assert watched.lines == 3
    with csv_files._WatchedFile(csv_file(b"a\n\0")) as watched, pytest.raises(NulByteError):
        watched.read()


def test_odd_quotes_within_a_line_are_text(csv_file):
    """A quote in the middle of an unquoted value stands for itself, also in a file with newlines in values."""
    rows = rows_of(csv_file('n,x,t\n1,2,5" disk\n1,2,"a"b\n1,2,"c\nd"\n'))
    assert rows["t"] == [b'5" disk', b"ab", b"c\nd"]


def test_an_unknown_format_is_refused(csv_file):
    """With those that are read."""
    with pytest.raises(DataError, match="unknown format; expected csv or parquet or arrow or tfrecord; got avro"):
        rows_of(csv_file("n\n1\n"), format="avro")


# --- Parquet


def test_parquet_is_read_in_the_types_of_the_schema(parquet_file):
    """Wider and narrower numbers, dictionaries and missing values."""
    file = parquet_file(
        {
            "t": pa.array(["a", None, "b"]).dictionary_encode(),
            "n": pa.array([1.0, None, 3.0]),
            "x": pa.array([1, 2, None], pa.int32()),
        }
    )
    (batch,) = read_batches(file, "parquet", COLUMNS)
    assert batch.schema.types == [pa.int64(), pa.float32(), pa.large_binary()]
    assert batch.to_pydict() == {"n": [1, None, 3], "x": [1.0, 2.0, None], "t": [b"a", None, b"b"]}


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"n": pa.array([], pa.int64())}, DataError, "has no rows"),
        ({"m": [1]}, MissingColumnError, "lacks the column 'n'"),
        (
            {"n": [1.0, 1.5]},
            BadValueError,
            "row 2, column 'n': the value does not fit the schema's type; expected a whole",
        ),
        ({"n": ["1", "x"]}, BadValueError, "got 'x' (string)"),
        ({"n": [dt.date(2020, 1, 1)]}, BadValueError, "got '2020-01-01' (date32[day])"),
        ({"n": [1], "l": [[1]]}, DataError, "column 'l' is nested; expected one value per row; got list"),
    ],
)
def test_a_bad_parquet_file_is_refused(parquet_file, columns, error, message):
    """Rows have numbers here, as a Parquet file has no lines."""
    with pytest.raises(error, match=re.escape(message)):
        rows_of(parquet_file(columns), {"n": INT}, "parquet")


def test_what_is_no_parquet_file_is_refused(csv_file, parquet_file):
    """Another format, and a file that is damaged inside."""
    with pytest.raises(DataError, match=r"is no readable Parquet file.*Check data\.source\.format"):
        rows_of(csv_file("n\n1\n"), {"n": INT}, "parquet")
    file = parquet_file({"n": list(range(10_000))})
    content = bytearray(file.read_bytes())
    content[4:2000] = bytes(1996)
    file.write_bytes(content)
    with pytest.raises(DataError, match="is damaged"):
        rows_of(file, {"n": INT}, "parquet")


@pytest.mark.parametrize("text", ["a,b\n1,2\n3,4\n", "a,b\n1,2\n3\n"], ids=["whole", "torn"])
def test_nobody_holds_a_file_that_was_read(csv_file, monkeypatch, text):
    """Arrow reads ahead in threads of its own: one that still holds the file while the interpreter ends aborts it."""
    files = []

    class Slow(csv_files._WatchedFile):
        def __init__(self, file):
            super().__init__(file)
            self.begun = self.ended = 0
            files.append(self)

        def read(self, size=-1):
            self.begun += 1
            time.sleep(0.05)
            block = super().read(size)
            self.ended += 1
            return block

    monkeypatch.setattr(csv_files, "_WatchedFile", Slow)
    file = csv_file(text)
    with contextlib.suppress(DataError):
        list(csv_files.batches(file, {"a": INT, "b": INT}))
    (source,) = files
    assert source.begun == source.ended > 0
    assert sys.getrefcount(source) == 3  # the list, the name and the argument


@pytest.mark.parametrize("error", [NulByteError(), OSError(5, "Input/output error")], ids=["nul", "disk"])
def test_what_a_reader_raised_does_not_hold_its_file(csv_file, monkeypatch, error):
    """Or whoever waits until all have let go would wait for himself."""

    class Broken(csv_files._WatchedFile):
        def read(self, size=-1):
            raise error

    monkeypatch.setattr(csv_files, "_WatchedFile", Broken)
    with pytest.raises(DataError):
        list(csv_files.batches(csv_file("a,b\n1,2\n"), {"a": INT, "b": INT}))
    raised_in = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code is Broken.read.__code__]
    assert raised_in
    assert not any(frame.f_locals for frame in raised_in)
