"""A window of spans through ExampleGen: what is read, what is taken over, what the artifact tells."""

import json
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
import pytest

from components.example_gen.fingerprint import identity_of
from components.example_gen.record import RECORD_FILE
from components.example_gen.spans import files_of
from schemas.config import SourceConfig
from schemas.errors import DataError

WEIGHTS = {"train": 7, "validate": 1, "eval": 2}
FIRST = date(2026, 11, 1)
ROWS = 400


@pytest.fixture(scope="session")
def taxi_days(taxi_csv):
    """Real rows, ROWS of them a day, as one table a day."""
    table = pyarrow.csv.read_csv(taxi_csv)
    return [table.slice(day * ROWS, ROWS) for day in range(6)]


def write(table, file, format="csv"):
    """The rows as a file of a format."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if format == "csv":
        pyarrow.csv.write_csv(table, file)
    elif format == "parquet":
        pyarrow.parquet.write_table(table, file)
    elif format == "arrow":
        with pyarrow.ipc.new_file(str(file), table.schema) as sink:
            sink.write_table(table)
    else:
        write_records(table, file)


def write_records(table, file):
    """As tf.Examples, by the encoder that ExampleGen has."""
    from components.example_gen.encode import encode
    from components.example_gen.read import infer_columns, read_batches
    from components.example_gen.records import RecordFile, framed

    plain = file.with_suffix(".csv")
    write(table, plain)
    with RecordFile(file) as records:
        for batch in read_batches(plain, "csv", {}, infer_columns([plain], "csv", [])):
            records.write(framed(encode(batch)))
    plain.unlink()


@pytest.fixture
def place(tmp_path, taxi_schema):
    """A folder with a schema and an executor's surroundings."""
    return Place(tmp_path, taxi_schema)


class Place:
    """Runs ExampleGen's driver and executor as TFX does, one artifact after the other."""

    def __init__(self, folder: Path, schema: str) -> None:
        self.folder, self.schema = folder, schema
        self.runs = 0

    def day(self, day: int, table: pa.Table, format: str = "csv") -> None:
        write(table, self.folder / "data" / f"{FIRST + timedelta(days=day)}.{format}", format)

    def source(self, **more) -> SourceConfig:
        named = self.folder / "data" / f"{{YYYY}}-{{MM}}-{{DD}}.{more.get('format', 'csv')}"
        return SourceConfig(**{"format": "csv", "path": str(named), **more})

    def run(self, source: SourceConfig, outputs: str = "outputs", began: dict | None = None, **more):
        """The artifact, and its record."""
        from tfx.types import standard_artifacts

        from components.example_gen.columns import ingest_schema
        from components.example_gen.executor import Executor
        from components.example_gen.fingerprint import code_of_ingest

        self.runs += 1
        examples = standard_artifacts.Examples()
        examples.uri = str(self.folder / outputs / "examples" / f"{self.runs:03}")
        properties = {
            "source": source.model_dump_json(),
            "splits": json.dumps(WEIGHTS),
            "schema": ingest_schema(self.schema),
            "code_fingerprint": code_of_ingest(),
            **(began or identity_of(source)),
            **more,
        }
        Executor().Do({}, {"examples": [examples]}, properties)
        return examples, json.loads((Path(examples.uri) / RECORD_FILE).read_text())


def contents(examples) -> dict[str, bytes]:
    """The rows of each split, byte for byte, and the columns beside them."""
    root = Path(examples.uri)
    files = sorted([*root.glob("Split-*/*"), *root.glob("columns/*")])
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


def test_a_window_that_moves_reads_the_new_span_alone(place, taxi_days, monkeypatch):
    """Byte for byte what a fresh ingest of the same window makes; every row of every span is counted, in and out."""
    for day in range(3):
        place.day(day, taxi_days[day])
    source = place.source(window={"last_spans": 3})
    first, _ = place.run(source)
    assert first.get_int_custom_property("rows_read") == 3 * ROWS
    assert first.get_string_custom_property("spans_read") == "2026-11-01, 2026-11-02, 2026-11-03"

    place.day(3, taxi_days[3])
    read = []
    from components.example_gen import ingest

    read_batches = ingest.read_batches
    monkeypatch.setattr(ingest, "read_batches", lambda file, *rest: read.append(file.name) or read_batches(file, *rest))
    moved, record = place.run(source)
    assert read == ["2026-11-04.csv"]
    assert moved.get_string_custom_property("spans_read") == "2026-11-04"
    assert [(one["name"], one["rows_in"]) for one in record["spans"]] == [
        ("2026-11-02", ROWS),
        ("2026-11-03", ROWS),
        ("2026-11-04", ROWS),
    ]
    assert all(sum(one["rows"].values()) == one["rows_in"] for one in record["spans"])
    assert (moved.get_int_custom_property("rows_in"), moved.get_int_custom_property("rows_read")) == (3 * ROWS, ROWS)
    assert moved.span == (date(2026, 11, 4) - date(1970, 1, 1)).days
    assert {file.name.rsplit("-", 1)[0] for file in Path(moved.uri).glob("Split-train/*")} == {
        f"data_tfrecord-{n:05}-of" for n in range(3)
    }

    fresh, same = place.run(source, "elsewhere")
    assert len(read) == 4
    assert contents(moved) == contents(fresh)
    assert record == same
    assert contents(first) != contents(moved)


def test_statistics_of_a_window_are_those_of_a_fresh_run(place, taxi_days):
    """To the last bit, whether its spans were read or taken over."""
    from components.statistics_gen.compute import split_statistics

    source = place.source(window={"last_spans": 3})
    for day in range(4):
        place.day(day, taxi_days[day])
        taken_over, _ = place.run(source)
    fresh, _ = place.run(source, "elsewhere")
    for split in WEIGHTS:
        found = split_statistics(taken_over, split)
        assert found.SerializeToString(deterministic=True) == split_statistics(fresh, split).SerializeToString(
            deterministic=True
        )
        assert found.datasets[0].num_examples == fresh.get_int_custom_property(f"rows_{split}")


@pytest.mark.parametrize("format", ["parquet", "arrow", "tfrecord"])
def test_other_formats(place, taxi_days, format):
    """A window of any format that is read here."""
    for day in range(3):
        place.day(day, taxi_days[day], format)
    source = place.source(format=format, window={"last_spans": 2})
    _, record = place.run(source.model_copy(update={"span": "2026-11-02"}))
    assert [(one["name"], one["rows_in"]) for one in record["spans"]] == [("2026-11-01", ROWS), ("2026-11-02", ROWS)]
    moved, _ = place.run(source)
    assert (moved.get_string_custom_property("spans_read"), moved.get_int_custom_property("rows_read")) == (
        "2026-11-03",
        ROWS,
    )


def test_on_beam(place, taxi_days):
    """The same rows, in the same files; a piece of a span that was read before is not read again."""
    for day in range(3):
        place.day(day, taxi_days[day], "parquet")
    source = place.source(format="parquet", window={"last_spans": 2})
    here, _ = place.run(source, "here")
    place.run(source.model_copy(update={"span": "2026-11-02"}), "beam", on_beam=1)
    beam, _ = place.run(source, "beam", on_beam=1)
    assert beam.get_string_custom_property("spans_read") == "2026-11-03"
    assert contents(beam) == contents(here)


def test_no_window_is_the_newest_span(place, taxi_days):
    """As in stock TFX; `span` names another one."""
    for day in range(3):
        place.day(day, taxi_days[day])
    assert [file.stem for file in files_of(place.source())] == ["2026-11-03"]
    assert [file.stem for file in files_of(place.source(span="2026-11-02"))] == ["2026-11-02"]
    assert len(files_of(place.source(window={"last_spans": "all"}))) == 3


def test_identity_of_what_is_read(place, taxi_days):
    """A new version, a span that arrives late in the window, or one whose bytes stood under another day: each is news."""
    path = str(place.folder / "data" / "{SPAN:2}-v{VERSION}.csv")

    def put(name, day):
        write(taxi_days[day], place.folder / "data" / name)

    put("01-v1.csv", 0)
    put("03-v1.csv", 1)
    source = place.source(path=path, window={"last_spans": 4})
    found = [identity_of(source)]
    assert {key: found[0][key] for key in found[0] if key != "input_fingerprint"} == {
        "span": 3,
        "version": 1,
        "spans": "1 v1, 3 v1",
        "missing_spans": "2",
        "short_spans": 1,
    }
    put("02-v1.csv", 2)
    found.append(identity_of(source))
    put("03-v2.csv", 1)
    found.append(identity_of(source))
    assert [one["spans"] for one in found[1:]] == ["1 v1, 2 v1, 3 v1", "1 v1, 2 v1, 3 v2"]
    assert [one["missing_spans"] for one in found[1:]] == ["", ""]
    assert identity_of(source) == found[2]
    put("04-v1.csv", 3)
    put("02-v1.csv", 4)
    assert identity_of(source.model_copy(update={"span": 3}))["input_fingerprint"] != found[2]["input_fingerprint"]


def test_a_span_that_arrives_once_the_run_began_is_left_to_the_next(place, taxi_days):
    """The window is that of the driver; a span of it that changes meanwhile is refused."""
    place.day(0, taxi_days[0])
    source = place.source(window={"last_spans": 2})
    began = identity_of(source)
    place.day(1, taxi_days[1])
    _, record = place.run(source, began=began)
    assert [one["name"] for one in record["spans"]] == ["2026-11-01"]
    place.day(0, taxi_days[2])
    with pytest.raises(DataError, match="the files are not those with which the run began"):
        place.run(source, began=began)


def test_a_record_that_was_damaged_is_read_again(place, taxi_days):
    """A shard whose bytes are no longer those of its digest is not taken over."""
    for day in range(2):
        place.day(day, taxi_days[day])
    source = place.source(window={"last_spans": 2})
    first, _ = place.run(source)
    damaged = sorted(Path(first.uri).glob("Split-train/*"))[0]
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    second, _ = place.run(source)
    assert second.get_string_custom_property("spans_read") == "2026-11-01"
    assert sorted(Path(second.uri).glob("Split-train/*"))[0].read_bytes() == content
