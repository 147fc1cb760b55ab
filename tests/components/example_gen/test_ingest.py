"""Files become one artifact: what has not changed is taken over, what changes meanwhile is noticed, Beam gives the same."""

import json
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.example_gen import ingest as ingest_module
from components.example_gen.columns import ColumnType
from components.example_gen.fingerprint import Snapshot, content_fingerprint
from components.example_gen.ingest import Recipe, ingest, work_here
from components.example_gen.records import RecordFile, framed
from components.example_gen.shards import MANIFEST_FILE, keys_of_records, kinds_in, read_shards
from components.example_gen.sidecar import read_columns
from components.example_gen.source_files import find_files
from schemas.errors import BadValueError, DataError
from tests.workbench import REPOSITORY

WEIGHTS = {"train": 7, "validate": 1, "eval": 2}
COLUMNS = {"n": ColumnType.INT, "t": ColumnType.BYTES}


def write(file, numbers):
    file.parent.mkdir(exist_ok=True)
    file.write_text("n,t\n" + "".join(f"{n},text {n}\n" for n in numbers))


def values(folder, split):
    return pa.Table.from_batches(list(read_columns(folder, split))).to_pylist()


@pytest.fixture
def run(tmp_path):
    """Makes artifact after artifact of the CSV files in a folder; gives its folder, what was written, and the rows read."""
    made = iter(range(1, 100))

    def one(format="csv", code="code", columns=COLUMNS, **options):
        files = find_files(str(tmp_path / "in/*"))
        folder = tmp_path / "examples" / str(next(made))
        earlier = sorted(path.parent for path in folder.parent.glob(f"*/{MANIFEST_FILE}"))
        snapshot = Snapshot.of(files)
        recipe = Recipe.of(snapshot.digests, format, columns, WEIGHTS, code, options.get("earlier", earlier))
        written, rows_read = ingest(recipe, snapshot, folder, **{"earlier": earlier, **options})
        return folder, written, rows_read

    return one


# --- shard by shard


def test_each_file_has_its_shards(tmp_path, run, decode):
    """In the order of the files; the list in the artifact names what is there, with keys of the content."""
    write(tmp_path / "in/a.csv", range(200))
    write(tmp_path / "in/b.csv", range(200, 500))
    folder, written, rows_read = run()
    assert written.rows_in == rows_read == sum(written.rows.values()) == 500
    first, second = read_shards(folder)
    assert (first.rows_in, second.rows_in) == (200, 300)
    assert sorted(path.name for path in (folder / "Split-train").iterdir()) == [
        "data_tfrecord-00000-of-00002",
        "data_tfrecord-00001-of-00002",
    ]
    assert keys_of_records(folder)["Split-train/data_tfrecord-00001-of-00002"] == second.key != first.key
    for split in WEIGHTS:
        rows = values(folder, split)
        records = [decode(folder / shard.records[split], COLUMNS)["n"] for shard in (first, second)]
        assert [row["n"] for row in rows] == records[0] + records[1] == sorted(records[0] + records[1])
    assert not (folder / ".unfinished").exists()


def test_types_of_other_columns_are_inferred_once_for_each_content(tmp_path, run, monkeypatch):
    """A file that has not changed is not read for its types; a new one may widen them for all, which are then read."""
    from components.example_gen import csv_files

    looked_at, kinds = [], csv_files.kinds
    monkeypatch.setattr(csv_files, "kinds", lambda file, names: looked_at.append(file.name) or kinds(file, names))
    only = {"n": ColumnType.INT}
    for name in "ab":
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / f"in/{name}.csv").write_text("n,x,y\n" + "".join(f"{n},{n},\n" for n in range(100, 200)))
    _, written, rows_read = run(columns=only)
    assert (looked_at, rows_read) == (["a.csv", "b.csv"], 200)
    (tmp_path / "in/c.csv").write_text("n,x\n" + "".join(f"{n},{n}.5\n" for n in range(100)))
    folder, written, rows_read = run(columns=only)
    assert looked_at == ["a.csv", "b.csv", "c.csv"]
    assert (written.rows_in, rows_read) == (300, 300)  # x is FLOAT now, in all files
    assert {shard.columns["x"] for shard in read_shards(folder)} == {"FLOAT"}
    assert {shard.columns.get("y") for shard in read_shards(folder)} == {"BYTES", None}
    run(columns=only)
    assert len(looked_at) == 3
    run(columns=only, code="other")
    assert len(looked_at) == 6


@pytest.mark.parametrize("told", ["none", {"code": "code"}, {"code": "code", "kinds": {"d": {"x": "WIDE"}}}, []])
def test_what_an_artifact_tells_of_types_is_read_with_care(tmp_path, told):
    """Whatever stands there, nothing fails: it is looked for again."""
    (tmp_path / MANIFEST_FILE).write_text(json.dumps({"version": 1, "shards": [], "inferred": told}))
    assert kinds_in([tmp_path, tmp_path / "nowhere"], "code") == {}


def test_how_many_rows_there_are_is_estimated(tmp_path, run, monkeypatch):
    """By the bytes of the files that are to be read, and said to be about right; exact where a file tells."""
    from components import progress
    from components.example_gen import read

    told = []
    monkeypatch.setattr(progress, "begin", lambda unit, total, estimated: told.append((unit, total, estimated)))
    monkeypatch.setattr(read, "_SAMPLED_BYTES", 2000)
    write(tmp_path / "in/a.csv", range(10_000, 20_000))
    write(tmp_path / "in/b.csv", range(10_000, 12_000))
    run()
    assert told[0][::2] == ("rows", True)
    assert told[0][1] == pytest.approx(12_000, rel=0.01)
    write(tmp_path / "in/c.csv", range(10_000, 11_000))
    run()
    assert told[1][1] == pytest.approx(1_000, rel=0.02)
    table = pa.table({"n": range(77), "t": ["x"] * 77})
    pq.write_table(table, tmp_path / "rows.parquet")
    assert read.rows_about(tmp_path / "rows.parquet", "parquet") == 77
    assert read.rows_about(tmp_path / "rows.arrow", "arrow") is None
    with RecordFile(tmp_path / "records") as file:
        for _ in range(30):
            file.write(framed(pa.array([b"x" * 100] * 10, pa.large_binary())))
    assert read.rows_about(tmp_path / "records", "tfrecord") == 300


def test_an_added_file_is_read_and_the_others_are_not(tmp_path, run, monkeypatch):
    """Same rows as from scratch; without a copy where the file system has hard links."""
    write(tmp_path / "in/b.csv", range(200))
    first, _, _ = run()
    write(tmp_path / "in/a.csv", range(200, 300))
    second, written, rows_read = run()
    assert (written.rows_in, rows_read) == (300, 100)
    scratch, expected, all_read = run(earlier=())
    assert all_read == 300
    assert written == expected
    for split in WEIGHTS:
        assert values(second, split) == values(scratch, split)
    (old,), (_, new) = read_shards(first), read_shards(second)
    assert new.key == old.key
    assert (second / new.records["eval"]).samefile(first / old.records["eval"])

    def no_links(*_):
        raise OSError

    monkeypatch.setattr(os, "link", no_links)
    third, _, rows_read = run()
    assert rows_read == 0
    assert values(third, "train") == values(second, "train")


def test_what_has_changed_is_read_again(tmp_path, run):
    """The content, the types, the code; not the time or the name."""
    write(tmp_path / "in/a.csv", range(200))
    write(tmp_path / "in/b.csv", range(200, 300))
    run()
    os.utime(tmp_path / "in/a.csv", (0, 0))
    (tmp_path / "in/b.csv").rename(tmp_path / "in/c.csv")
    assert run()[2] == 0
    write(tmp_path / "in/c.csv", range(200, 299))
    assert run()[2] == 99
    assert run(code="other")[2] == 299
    assert run(columns={**COLUMNS, "n": ColumnType.BYTES})[2] == 299


@pytest.mark.parametrize("damage", ["Split-train/data_tfrecord-00000-of-00001", "columns/eval-00000.arrow"])
def test_a_damaged_shard_is_not_taken_over(tmp_path, run, damage):
    """A byte that changed, or a file that went."""
    write(tmp_path / "in/a.csv", range(200))
    folder, _, _ = run()
    content = bytearray((folder / damage).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / damage).write_bytes(content)
    second, written, rows_read = run()
    assert rows_read == written.rows_in == 200
    shutil.rmtree(second / damage.split("/")[0])
    third, _, _ = run(earlier=[second])
    assert len(values(third, "train")) == written.rows["train"]


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.update(version=2),
        lambda manifest: manifest["shards"][0].update(rows_in=7),
        lambda manifest: manifest["shards"][0]["records"].update(train="../../elsewhere"),
        lambda manifest: manifest["shards"][0].pop("key"),
        lambda manifest: manifest.pop("shards"),
    ],
)
def test_a_list_that_is_none_lists_nothing(tmp_path, run, change):
    """Another version, counts that do not fit, a path that leads away: all rows are read."""
    write(tmp_path / "in/a.csv", range(200))
    folder, _, _ = run()
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    change(manifest)
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
    assert read_shards(folder) == []
    assert run(earlier=[folder])[2] == 200


# --- files that change


def test_a_file_that_changes_while_it_is_read(tmp_path, run):
    """Is named; nothing is published."""
    write(tmp_path / "in/a.csv", range(200))
    write(tmp_path / "in/b.csv", range(200))

    def meddle(works):
        work_here(works)
        write(tmp_path / "in/b.csv", range(201))

    with pytest.raises(DataError, match=r"b\.csv: has changed while it was read. Run again once nothing writes"):
        run(run=meddle)
    assert not list((tmp_path / "examples/1").iterdir())
    snapshot = Snapshot.of(find_files(str(tmp_path / "in/*")))
    (tmp_path / "in/a.csv").unlink()
    with pytest.raises(DataError, match=r"a\.csv: has changed while it was read"):
        snapshot.check(tmp_path / "in/a.csv")


def test_files_that_have_changed_since_the_driver_saw_them(tmp_path):
    """The one that was changed last is named; the same content passes."""
    for name in "ab":
        write(tmp_path / f"in/{name}.csv", range(9))
    files = find_files(str(tmp_path / "in/*"))
    seen = content_fingerprint(files)
    os.utime(files[0], (0, 0))
    Snapshot.of(files).check_fingerprint(seen)
    write(files[1], range(10))
    with pytest.raises(DataError, match=r"b\.csv: the files are not those with which the run began"):
        Snapshot.of(files).check_fingerprint(seen)


def test_a_shard_that_got_lost_is_noticed(tmp_path, run):
    """Whoever did the work did not do it all."""
    write(tmp_path / "in/a.csv", range(200))
    write(tmp_path / "in/b.csv", range(200, 300))
    with pytest.raises(DataError, match=r"b\.csv: its rows did not arrive where the examples are written"):
        run(run=lambda works: work_here(works[:1]))


def test_types_that_differ_between_files(tmp_path, run):
    """Of a feature that the schema lacks: TFRecords say the type of each value."""
    import tensorflow as tf

    from components.example_gen.encode import encode

    (tmp_path / "in").mkdir()
    for name, other in (("a", pa.array([1] * 9)), ("b", pa.array([1.5] * 9, pa.float32()))):
        with tf.io.TFRecordWriter(str(tmp_path / "in" / name)) as writer:
            for record in encode(pa.record_batch({"n": pa.array(range(9)), "x": other})).to_pylist():
                writer.write(record)
    with pytest.raises(DataError, match=r"column 'x': has different types in the files.*; got INT and FLOAT"):
        run("tfrecord", columns={"n": ColumnType.INT})


# --- on Beam


def on_beam(*args):
    """What has the work done on one of Beam's own engines."""
    from apache_beam import Pipeline
    from apache_beam.options.pipeline_options import PipelineOptions

    from components.example_gen.on_beam import run_on

    options = PipelineOptions(["--runner=FnApiRunner", *args])
    return lambda works: run_on(Pipeline(options=options), works)


@pytest.fixture
def files_of_both_kinds(tmp_path):
    """Rows as two Parquet files of several row groups."""
    (tmp_path / "in").mkdir()
    for name, numbers in (("a", range(1000)), ("b", range(1000, 1300))):
        table = pa.table({"n": pa.array(numbers), "t": [f"text {n}" for n in numbers], "x": [n / 2 for n in numbers]})
        pq.write_table(table, tmp_path / "in" / name, row_group_size=100)


def check_same(one, other):
    (mine, written, _), (theirs, expected, _) = one, other
    assert written == expected
    for split in WEIGHTS:
        assert values(mine, split) == values(theirs, split)


def test_beam_gives_the_same_artifact(files_of_both_kinds, run, monkeypatch):
    """A file in several pieces: the same rows per split, in the same order, the same values; taken over as well."""
    here = run("parquet")
    beam = run("parquet", run=on_beam(), piece_rows=300, earlier=())
    assert [shard.rows_in for shard in read_shards(beam[0])] == [300, 300, 300, 100, 300]
    check_same(beam, here)
    monkeypatch.setattr(ingest_module.Work, "do", None)
    again = run("parquet", run=on_beam(), piece_rows=300)
    assert again[2] == 0
    check_same(again, here)


@pytest.mark.slow
def test_beam_in_other_processes_gives_the_same_artifact(files_of_both_kinds, run, monkeypatch):
    """Two workers, each a process that begins with nothing imported."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    args = ["--direct_running_mode=multi_processing", "--direct_num_workers=2", "--beam_plugin=tfx"]
    check_same(run("parquet", run=on_beam(*args), piece_rows=300, earlier=()), run("parquet", earlier=()))


def test_a_fault_on_beam_is_our_own(tmp_path, run):
    """As from the direct reader: file, line and column; nothing is published."""
    write(tmp_path / "in/a.csv", range(200))
    (tmp_path / "in/b.csv").write_text("n,t\n1,x\ny,z\n")
    with pytest.raises(BadValueError, match=r"b\.csv: line 3, column 'n': the value does not parse"):
        run(run=on_beam(), piece_rows=300)
    assert not list((tmp_path / "examples/1").iterdir())
