"""The sample: its size, its order, that it is the same each time, and that nothing is lost where all rows are wanted."""

import pyarrow as pa
import pyarrow.ipc
import pytest

from runners.ci.sample import write_sample
from schemas.config import SourceConfig

SCHEMA = 'feature { name: "x" type: INT } feature { name: "name" type: BYTES }'


def source(folder, counts, extra=""):
    for number, count in enumerate(counts):
        head = f"name,x{',more' if extra else ''}\n"
        rows = (f"n{number},{number * 1000 + one}{',' + extra if extra else ''}\n" for one in range(count))
        (folder / f"{number}.csv").write_text(head + "".join(rows))
    return SourceConfig(format="csv", path=str(folder / "*.csv"))


def rows_in(file):
    return pyarrow.ipc.open_file(pa.memory_map(str(file))).read_all()


@pytest.mark.parametrize("rows", [1, 10, 499, 500])
def test_so_many_rows_in_their_order(tmp_path, rows):
    """Each from anywhere in the source."""
    sample = write_sample(source(tmp_path, [300, 200]), SCHEMA, rows, tmp_path / "a.arrow")
    found = rows_in(sample.file)["x"].to_pylist()
    assert (sample.rows, sample.of, len(set(found))) == (rows, 500, rows)
    assert found == sorted(found)


def test_all_rows(tmp_path):
    """0 is for all; a column that the schema lacks comes along."""
    sample = write_sample(source(tmp_path, [3, 2], extra="y"), SCHEMA, 0, tmp_path / "a.arrow")
    assert (sample.rows, sample.of) == (5, 5)
    assert rows_in(sample.file)["more"].to_pylist() == [b"y"] * 5


def test_the_window_alone_is_sampled(tmp_path):
    """Of a path with spans, what a run would read."""
    source(tmp_path, [3, 2, 4])
    spans = SourceConfig(format="csv", path=str(tmp_path / "{SPAN}.csv"), window={"last_spans": 2}, span=1)
    sample = write_sample(spans, SCHEMA, 0, tmp_path / "a.arrow")
    assert rows_in(sample.file)["x"].to_pylist() == [0, 1, 2, 1000, 1001]


def test_the_same_again(tmp_path):
    """The same files give the same rows, and others' share is even."""
    one = write_sample(source(tmp_path, [500, 500]), SCHEMA, 200, tmp_path / "a.arrow")
    two = write_sample(source(tmp_path, [500, 500]), SCHEMA, 200, tmp_path / "b.arrow")
    assert one.file.read_bytes() == two.file.read_bytes()
    assert 60 < rows_in(one.file)["name"].to_pylist().count(b"n0") < 140
