"""What is read ahead is taken over where it fits, and nothing depends on it."""

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from components.example_gen.ahead import FOLDER, LOCK, Ahead
from components.example_gen.columns import columns_of, ingest_schema
from components.example_gen.fingerprint import Snapshot, code_of_ingest
from components.example_gen.ingest import Recipe, ingest
from components.example_gen.read_ahead import earlier_folders, read_ahead, taken
from components.example_gen.shards import MANIFEST_FILE, read_shards
from components.example_gen.source_files import find_files
from schemas.config import DataConfig
from tests.workbench import REPOSITORY

SCHEMA = 'feature { name: "n" type: INT } feature { name: "a" type: BYTES }'


@pytest.fixture
def data(tmp_path):
    """Two CSV files with a column that the schema lacks."""
    (tmp_path / "schema.pbtxt").write_text(SCHEMA)
    for name, numbers in {"a": range(100), "b": range(100, 250)}.items():
        rows = "".join(f"{n},text {n},{n}.5\n" for n in numbers)
        (tmp_path / f"{name}.csv").write_text("n,a,x\n" + rows)
    return DataConfig(source={"format": "csv", "path": f"{tmp_path}/*.csv"}, schema=str(tmp_path / "schema.pbtxt"))


def executed(node, data, number):
    """As the executor: the artifact's folder and the rows that were read for it."""
    snapshot = Snapshot.of(find_files(data.source.path))
    columns = columns_of(ingest_schema(SCHEMA))
    folder, earlier = node / "examples" / str(number), earlier_folders(node / "examples")
    with taken(node) as ahead:
        recipe = Recipe.of(snapshot.digests, "csv", columns, data.splits, code_of_ingest(), [*earlier, *ahead])
        _, rows_read = ingest(recipe, snapshot, folder, earlier=earlier, ahead=ahead)
    return folder, rows_read


def test_what_was_read_ahead_is_taken_over(tmp_path, data, monkeypatch):
    """By the real process: the artifact is the one that would have been made, its rows count as read, nothing is left."""
    plain, _ = executed(tmp_path / "plain", data, 1)
    node = tmp_path / "ExampleGen"
    with Ahead(node, data) as ahead:
        ahead.wait()
        (made,) = {path.parent for path in node.rglob(MANIFEST_FILE)}
        inodes = {path.stat().st_ino for path in made.glob("Split-*/*")}
        monkeypatch.setattr("components.example_gen.ingest.read_batches", None)
        monkeypatch.setattr("components.example_gen.csv_files.kinds", None)
        folder, rows_read = executed(node, data, 1)
    assert rows_read == 250
    assert read_shards(folder) == read_shards(plain)
    assert {path.stat().st_ino for path in folder.glob("Split-*/*")} == inodes
    assert sorted(path.name for path in node.iterdir()) == [LOCK, "examples"]


def test_what_is_known_is_not_read_ahead(tmp_path, data):
    """Of an unchanged source nothing is; with a file more, that one alone is read."""
    node = tmp_path / "ExampleGen"
    executed(node, data, 1)
    read_ahead(node, data)
    assert not (node / FOLDER).exists()
    (tmp_path / "c.csv").write_text("n,a,x\n1,one,1.5\n")
    read_ahead(node, data)
    _, rows_read = executed(node, data, 2)
    assert rows_read == 1


def test_other_data_than_was_read_ahead_is_read(tmp_path, data):
    """What was read ahead goes unused where a file changed in between."""
    node = tmp_path / "ExampleGen"
    read_ahead(node, data)
    (tmp_path / "b.csv").write_text("n,a,x\n" + "".join(f"{n},new,1\n" for n in range(300)))
    folder, rows_read = executed(node, data, 1)
    assert (rows_read, sum(shard.rows_in for shard in read_shards(folder))) == (400, 400)
    assert not (node / FOLDER).exists()


@pytest.mark.parametrize("fault", ["bad value", "no file", "no schema"])
def test_faults_are_left_to_the_node(tmp_path, data, fault):
    """Nothing is raised and nothing is left to take."""
    if fault == "bad value":
        (tmp_path / "a.csv").write_text("n,a\nx,y\n")
    elif fault == "no file":
        data = data.model_copy(update={"source": data.source.model_copy(update={"path": "/nowhere/*.csv"})})
    else:
        (tmp_path / "schema.pbtxt").unlink()
    read_ahead(tmp_path / "ExampleGen", data)
    with taken(tmp_path / "ExampleGen") as found:
        assert found == []


def test_whoever_reads_ahead_is_waited_for(tmp_path, data):
    """As long as the lock is held; the process that is killed holds it no more, and what it left is nobody's."""
    node = tmp_path / "ExampleGen"
    node.mkdir()
    entered = threading.Event()

    def take():
        with taken(node):
            entered.set()

    with (node / LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = threading.Thread(target=take)
        waiting.start()
        assert not entered.wait(0.3)
    waiting.join(60)
    assert entered.is_set()
    with Ahead(node, endless(tmp_path, data)) as ahead:
        ahead._process.kill()
        with taken(node):
            assert ahead._process.wait() == -9
    assert not (node / FOLDER).exists()


def endless(folder, data):
    """A source on which whoever reads it hangs."""
    fifo = folder / "endless.csv"
    os.mkfifo(fifo)
    return data.model_copy(update={"source": data.source.model_copy(update={"path": str(fifo)})})


STARTER = """
import sys, time
from pathlib import Path
from components.example_gen.ahead import Ahead
from schemas.config import DataConfig
ahead = Ahead(Path(sys.argv[1]), DataConfig.model_validate_json(sys.argv[2]))
print(ahead._process.pid, flush=True)
time.sleep(600)
"""


def test_it_does_not_outlive_the_runner(tmp_path, data):
    """Which is killed and can clean up nothing; the lock is free then."""
    node, told = tmp_path / "ExampleGen", endless(tmp_path, data).model_dump_json(by_alias=True)
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(node), told], stdout=subprocess.PIPE, cwd=REPOSITORY, text=True
    )
    reader = int(starter.stdout.readline())
    assert Path(f"/proc/{reader}").exists()
    starter.kill()
    starter.wait()
    starter.stdout.close()
    with taken(node) as found:  # waits for its end
        assert found == []
