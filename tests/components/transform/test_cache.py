"""A file that was analyzed before is not read again, and the outcome is the same to the last bit."""

import json
import os
import time
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_transform import analyzers
from tfx_bsl import sketches

from components.example_gen.shards import MANIFEST_FILE, Shard
from components.transform.cache import AnalyzerCache, Entry, NotKeptError, decode, encode
from tests.components.transform.workbench import FUNCTIONS, SCHEMA, example, transform

SLOW = pytest.mark.slow  # each run traces and saves a graph anew
ROWS = {"a": 400, "b": 300, "c": 500}


def through(value):
    """The value after a way to the disk and back."""
    arrays = []
    described = json.loads(json.dumps(encode(value, arrays)))
    return decode(described, {f"array_{index}": array for index, array in enumerate(arrays)})


def write_examples(folder, sources):
    """An artifact of examples with a shard for each source, in order: `a`, `b`, `c`, or another name for other rows."""
    shards = []
    for index, source in enumerate(sources):
        rng = np.random.default_rng(list(source.encode()))
        paths = {}
        for split, rows in (("train", ROWS.get(source, 200)), ("eval", 20)):
            paths[split] = f"Split-{split}/data_tfrecord-{index:05}-of-{len(sources):05}"
            (folder / paths[split]).parent.mkdir(parents=True, exist_ok=True)
            with tf.io.TFRecordWriter(str(folder / paths[split])) as writer:
                for _ in range(rows):
                    writer.write(example(rng))
        rows = {"train": ROWS.get(source, 200), "eval": 20}
        shards.append(
            Shard(f"key of {source}", sum(rows.values()), rows, {}, paths, {}, dict.fromkeys(paths.values(), ""))
        )
    (folder / MANIFEST_FILE).write_text(json.dumps({"version": 1, "shards": [asdict(shard) for shard in shards]}))
    return folder


@pytest.fixture
def analyzed(tmp_path):
    """Transforms the examples of some sources in a folder; numbers its runs."""
    runs = iter(range(1, 100))

    def run(sources, place="node", function="numbers"):
        number = next(runs)
        examples = write_examples(tmp_path / f"examples-{number}", sources)
        return transform(examples, SCHEMA, f"{FUNCTIONS}.{function}", tmp_path / place, run=number)

    return run


def check_equal(one, other):
    """Vocabularies and transformed values, to the last bit."""
    assert one.assets == other.assets
    mine, theirs = one.rows("train"), other.rows("train")
    assert mine.keys() == theirs.keys()
    for name, values in mine.items():
        np.testing.assert_equal(values, theirs[name], err_msg=name)


# --- through the node


@pytest.mark.parametrize(
    "function",
    ["numbers", *(pytest.param(name, marks=SLOW) for name in ("buckets", "vocabularies", "various"))],
)
def test_an_added_file_costs_its_own_rows_only(analyzed, function):
    """Analyzers of every kind: only the third file is read, and the outcome is that of all three from scratch."""
    assert analyzed("ab", function=function).rows_analyzed == ROWS["a"] + ROWS["b"]
    added = analyzed("abc", function=function)
    assert added.rows_analyzed == ROWS["c"]
    scratch = analyzed("abc", "elsewhere", function=function)
    assert scratch.rows_analyzed == sum(ROWS.values())
    check_equal(added, scratch)


def test_a_window_that_moves_costs_its_new_file(analyzed):
    """The first file went, a last one came: that one alone is read, and the outcome is that of a fresh run."""
    analyzed("ab")
    moved = analyzed("bc")
    assert moved.rows_analyzed == ROWS["c"]
    check_equal(moved, analyzed("bc", "elsewhere"))


@SLOW
def test_a_file_in_the_middle_and_one_that_went(analyzed):
    """The order of the files decides in which order is merged, not that of the runs."""
    analyzed("ac")
    added = analyzed("abc")
    assert added.rows_analyzed == ROWS["b"]
    check_equal(added, analyzed("abc", "elsewhere"))
    fewer = analyzed("bc")
    assert fewer.rows_analyzed == 0
    check_equal(fewer, analyzed("bc", "elsewhere"))


def test_an_edited_file_is_analyzed_again(analyzed):
    """Another content has another key."""
    analyzed("ab")
    edited = analyzed("ax")
    assert edited.rows_analyzed == 200
    check_equal(edited, analyzed("ax", "elsewhere"))


def test_another_function_or_schema_knows_nothing(analyzed, tmp_path):
    """What was found is of the function that found it."""
    analyzed("a")
    assert analyzed("a", function="buckets").rows_analyzed == ROWS["a"]
    examples = write_examples(tmp_path / "again", "a")
    other = transform(examples, SCHEMA.replace('"unused"', '"idle"'), f"{FUNCTIONS}.numbers", tmp_path / "node", run=90)
    assert other.rows_analyzed == ROWS["a"]


def test_a_damaged_entry_is_made_anew(analyzed, tmp_path, caplog):
    """It is never used; the next run finds a sound one."""
    analyzed("ab")
    (one, _) = (tmp_path / "node/analyzer_cache").iterdir()
    one.write_bytes(one.read_bytes()[:-9])
    again = analyzed("ab")
    assert again.rows_analyzed in (ROWS["a"], ROWS["b"])
    assert "cannot be used, and is made anew" in caplog.text
    check_equal(again, analyzed("ab", "elsewhere"))


def test_examples_without_keys_are_analyzed_in_every_run(analyzed, tmp_path):
    """Those of another ExampleGen."""
    examples = write_examples(tmp_path / "examples", "a")
    (examples / MANIFEST_FILE).unlink()
    for run in (1, 2):
        assert (
            transform(examples, SCHEMA, f"{FUNCTIONS}.numbers", tmp_path / "node", run=run).rows_analyzed == ROWS["a"]
        )
    assert not (tmp_path / "node/analyzer_cache").exists()


# --- entries

_PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=9) | st.text(max_size=9)
_PAIRS = st.lists(st.tuples(st.binary(max_size=9), st.integers(0, 9) | st.floats()))


@given(st.recursive(_PLAIN, lambda some: st.lists(some, max_size=4) | st.tuples(some, some)) | _PAIRS)
def test_plain_values_come_back(value):
    """With their types; a float to the last bit."""
    np.testing.assert_equal(through(value), value)
    assert repr(through(value)) == repr(value)


def test_arrays_and_accumulators_come_back():
    """With dtype and shape; tf.Transform's own tuples as such."""
    for array in (np.float32([[1.5, np.nan]]), np.int64(7), np.array([b"x", b""], object), np.zeros((0, 3))):
        back = through(array)
        np.testing.assert_equal(back, array)
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
    moments = analyzers._WeightedMeanAndVarAccumulator(*(np.float64(n) for n in range(4)))
    assert type(through([moments])[0]) is type(moments)
    assert through([moments]) == [moments]


def test_a_sketch_comes_back():
    """With the same quantiles, and with the same when more is merged into it."""
    sketch, more, again = (sketches.QuantilesSketch(0.01, 1 << 32, 1) for _ in range(3))
    sketch.AddValues(pa.array(np.arange(5000.0)))
    for one in (more, again):
        one.AddValues(pa.array(np.arange(-3000.0, 0)))
    first, second = through(sketch), through(sketch)
    first.Merge(more)
    second.Merge(again)
    assert first.GetQuantiles(10) == second.GetQuantiles(10)
    assert first.GetQuantiles(10).to_pylist()[0][5] == pytest.approx(1000, abs=100)


def test_what_is_not_known_is_not_kept(tmp_path):
    """A user's own accumulator has no form on disk: the run goes on with what it has."""
    with pytest.raises(NotKeptError, match="a AnalyzerCache has no form on disk"):
        encode([AnalyzerCache(tmp_path, {}, [])], [])
    cache = AnalyzerCache(tmp_path / "cache", {"file": "key"}, [])
    entry = Entry(3, [[{1, 2}]])
    assert cache.keep("file", ["sum"], entry) is entry
    assert cache.find("file", ["sum"]) is None


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-9], lambda b: b[:50] + b"\0" + b[51:], lambda b: b"", lambda b: b[:32], lambda b: b[32:], None],
)
def test_what_is_damaged_is_no_entry(tmp_path, damage):
    """Cut off, with another byte, empty; nor is the sound entry of another file."""
    cache = AnalyzerCache(tmp_path, {"file": "key", "other": "another"}, [])
    entries = {name: Entry(rows, [[np.arange(9.0)]]) for name, rows in (("file", 1), ("other", 2))}
    paths = {}
    for name, entry in entries.items():
        cache.keep(name, ["sum"], entry)
        (paths[name],) = set(tmp_path.iterdir()) - set(paths.values())
    assert cache.find("file", ["sum"]).rows == 1
    assert cache.find("file", ["mean"]) is None
    other = paths["other"].read_bytes()
    paths["file"].write_bytes(damage(paths["file"].read_bytes()) if damage else other)
    assert cache.find("file", ["sum"]) is None
    cache.keep("file", ["sum"], entries["file"])
    assert cache.find("file", ["sum"]).rows == 1


def test_entries_that_were_used_last_stay(tmp_path):
    """The others go once there are too many."""
    names = "abcd"
    cache = AnalyzerCache(tmp_path, {name: name for name in names}, [])
    for name in names:
        cache.keep(name, [], Entry(1, []))
    assert cache.find("a", []) == Entry(1, [])
    size = next(tmp_path.iterdir()).stat().st_size
    cache.prune(2 * size)
    assert [name for name in names if cache.find(name, [])] == ["a", "d"]


def test_what_a_killed_run_has_left_goes(tmp_path):
    """Once no run can still be writing it; an entry of another run that goes meanwhile is no fault."""
    cache = AnalyzerCache(tmp_path, {"file": "key"}, [])
    cache.keep("file", [], Entry(1, []))
    for name, age_s in (("old", 4000), ("new", 0)):
        (tmp_path / f"{name}.1-ab.half").touch()
        os.utime(tmp_path / f"{name}.1-ab.half", (time.time() - age_s,) * 2)
    (tmp_path / "gone.npz").symlink_to(tmp_path / "nowhere")
    cache.prune()
    assert not (tmp_path / "old.1-ab.half").exists()
    assert (tmp_path / "new.1-ab.half").exists()
    assert cache.find("file", []) == Entry(1, [])


def test_a_cache_that_cannot_be_written_keeps_nothing(tmp_path, caplog):
    """The node has what it needs all the same, and the log says why the next one will not."""
    (tmp_path / "cache").touch()
    cache = AnalyzerCache(tmp_path / "cache", {"file": "key"}, [])
    assert cache.keep("file", [], Entry(1, [])) == Entry(1, [])
    assert "The analysis of file is not kept" in caplog.text
    assert cache.find("file", []) is None
    cache.prune()
