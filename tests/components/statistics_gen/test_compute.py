"""Our statistics are the stock component's: from columns, from examples, on real and on odd rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.example_gen.columns import columns_of
from components.example_gen.read import read_batches
from components.example_gen.sidecar import COLUMNS_FOLDER, read_columns
from components.statistics_gen.quantiles import QUANTILES_STATISTIC
from tests.components.examples import RECORDS_FILE
from tests.components.statistics_gen.conftest import WEIGHTS, artifact_at
from tests.workbench import REPOSITORY

ERROR_IN_RANK = 0.01  # of TFDV's quantiles, as a share of the values


@pytest.fixture(scope="session")
def real(examples_of, tmp_path_factory):
    """The taxi rows and the penguins, as Examples artifacts."""

    def one(name):
        schema = (REPOSITORY / f"schemas/{name}/schema.pbtxt").read_text()
        (file,) = (REPOSITORY / f"data/{name}").glob("*.csv")
        return examples_of(read_batches(file, "csv", columns_of(schema)), tmp_path_factory.mktemp(name))

    return {name: one(name) for name in ("taxi", "penguin")}


def odd_batches():
    """Rows with all that columns can hold: two batches, the second with one column more."""
    rng = np.random.default_rng(7)
    rows = 3000
    floats = rng.normal(size=rows).astype(np.float32)
    floats[::7], floats[1::11], floats[2::13] = np.nan, np.inf, -np.inf
    texts = rng.choice(["a", "bb", "", "ü", "z" * 2000], rows).tolist()
    first = pa.record_batch(
        {
            "id": pa.array(range(rows), pa.int64()),
            "constant": pa.array([5] * rows, pa.int64()),
            "zeros": pa.array(np.zeros(rows, np.float32)),
            "sparse": pa.array([n if n % 3 else None for n in range(rows)], pa.int64()),
            "odd": pa.array(floats, from_pandas=False),
            "nan": pa.array(np.full(rows, np.nan, np.float32), from_pandas=False),
            "inf": pa.array(np.full(rows, np.inf, np.float32)),
            "large": pa.array([2**62 + n for n in range(rows)], pa.int64()),
            "never": pa.nulls(rows, pa.int64()),
            "never_text": pa.nulls(rows, pa.large_binary()),
            "text": pa.array([t.encode() if i % 5 else None for i, t in enumerate(texts)], pa.large_binary()),
            "bytes": pa.array([b"\xff\xfe" if i % 2 else b"ok" for i in range(rows)], pa.large_binary()),
            "name": pa.array([b"n%d" % (i // 2) for i in range(rows)], pa.large_binary()),
        }
    )
    second = first.append_column("late", pa.array([i % 2 for i in range(rows)], pa.int64()))
    return [first, second]


@pytest.fixture(scope="session")
def odd(examples_of, tmp_path_factory):
    return examples_of(odd_batches(), tmp_path_factory.mktemp("odd"))


def loaded(artifact, split):
    """Through TFX's own reader; one data set."""
    from tfx.components.statistics_gen import stats_artifact_utils

    found = stats_artifact_utils.load_statistics(artifact, split).proto()
    assert len(found.datasets) == 1
    return found.datasets[0]


def by_path(dataset):
    return {tuple(feature.path.step): feature for feature in dataset.features}


def assert_same(mine, theirs, values):
    """Every statistic of every feature is equal; quantiles within their error, against the values themselves."""
    assert mine.num_examples == theirs.num_examples
    assert mine.weighted_num_examples == theirs.weighted_num_examples
    features, expected = by_path(mine), by_path(theirs)
    assert features.keys() == expected.keys()
    for path, feature in features.items():
        other = expected[path]
        assert (feature.type, feature.WhichOneof("stats")) == (other.type, other.WhichOneof("stats")), path
        if feature.WhichOneof("stats") == "string_stats":
            assert feature.string_stats == other.string_stats, path
        else:
            assert_same_numbers(feature.num_stats, other.num_stats, values(path[0]), path)
        assert [one for one in feature.custom_stats if one.name != QUANTILES_STATISTIC] == list(other.custom_stats)


def assert_same_numbers(mine, theirs, values, path):
    assert mine.common_stats == theirs.common_stats, path
    for name in ("mean", "std_dev"):
        if not np.isfinite(getattr(theirs, name)):  # inf or NaN, as the batches happen to fall, in the stock one too
            assert not np.isfinite(getattr(mine, name)), (path, name)
            continue
        rounding = 1e-12 * max(abs(theirs.min), abs(theirs.max)) if np.isfinite(theirs.min + theirs.max) else 0
        np.testing.assert_allclose(
            getattr(mine, name), getattr(theirs, name), rtol=1e-9, atol=rounding, err_msg=str(path)
        )
    for name in ("num_zeros", "min", "max"):
        assert getattr(mine, name) == getattr(theirs, name), (path, name)
    assert [h.type for h in mine.histograms] == [h.type for h in theirs.histograms]
    assert [h.num_nan for h in mine.histograms] == [h.num_nan for h in theirs.histograms]
    values = np.sort(values[~np.isnan(values)])
    if not len(values):
        assert mine == theirs
        return
    slack = ERROR_IN_RANK * len(values) + 1
    assert_rank(values, mine.median, 0.5 * len(values), slack)
    for histogram, other in zip(mine.histograms, theirs.histograms, strict=True):
        counts = np.array([bucket.sample_count for bucket in histogram.buckets])
        assert counts.sum() == pytest.approx(sum(bucket.sample_count for bucket in other.buckets), rel=1e-6)
        if histogram.type == histogram.STANDARD:
            assert [(b.low_value, b.high_value) for b in histogram.buckets] == [
                (b.low_value, b.high_value) for b in other.buckets
            ]
            others = np.array([bucket.sample_count for bucket in other.buckets])
            np.testing.assert_allclose(counts, others, atol=4 * slack, err_msg=str(path))
        else:
            assert len(histogram.buckets) == len(other.buckets)
            for bucket, count in zip(histogram.buckets, np.cumsum(counts), strict=True):
                assert_rank(values, bucket.high_value, count, slack)


def assert_rank(values, value, rank, slack):
    """The value is at about this rank among the values; one that lies between two counts as either."""
    assert np.searchsorted(values, value, "left") - slack <= rank <= np.searchsorted(values, value, "right") + slack


def values_in(examples, split):
    table = pa.concat_tables(
        [pa.Table.from_batches([batch]) for batch in read_columns(Path(examples.uri), split)], promote_options="default"
    )
    return lambda name: table[name].drop_null().to_numpy().astype(np.float64)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # the stock component's, of inf
@pytest.mark.parametrize("name", ["taxi", "penguin", "odd"])
def test_statistics_are_the_stock_component_s(name, real, odd, stock, ours, tmp_path):
    """On every split, by columns as well as by examples; with span and split names of the input."""
    examples = odd if name == "odd" else real[name]
    theirs = stock(examples, tmp_path / "stock")
    by_columns = ours(examples, tmp_path / "columns")
    plain = artifact_at(tmp_path, list(WEIGHTS))
    plain.uri = examples.uri
    by_examples = ours(plain, tmp_path / "examples")
    for mine in (by_columns, by_examples):
        assert (mine.split_names, mine.span) == (theirs.split_names, theirs.span)
        rates, expected = (json.loads(a.get_json_value_custom_property("sample_rate_by_split")) for a in (mine, theirs))
        assert rates == expected
        for split in WEIGHTS:
            assert_same(loaded(mine, split), loaded(theirs, split), values_in(examples, split))


@pytest.mark.slow
def test_examples_of_other_makers_are_read_too(stock, ours, tmp_path):
    """Lists of several values, features that only some rows have, compressed files, two of them, and an empty split."""
    import tensorflow as tf

    def write(path, rows):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
            for features in rows:
                example = tf.train.Example()
                for name, values in features.items():
                    kind = "bytes_list" if isinstance(values[0], bytes) else "int64_list"
                    getattr(example.features.feature[name], kind).value.extend(values)
                writer.write(example.SerializeToString())

    rows = [{"n": list(range(i % 4 + 1)), **({"t": [b"x", b"y"]} if i % 3 else {})} for i in range(50)]
    write(tmp_path / "in/Split-train/data-0.gz", rows)
    write(tmp_path / "in/Split-train/data-1.gz", rows[:10])
    write(tmp_path / "in/Split-eval/data-0.gz", [])
    examples = artifact_at(tmp_path / "in", ["train", "eval"])
    theirs, mine = stock(examples, tmp_path / "stock"), ours(examples, tmp_path / "ours")
    numbers = np.array([n for row in [*rows, *rows[:10]] for n in row["n"]], np.float64)
    assert_same(loaded(mine, "train"), loaded(theirs, "train"), lambda name: numbers)
    assert_same(loaded(mine, "eval"), loaded(theirs, "eval"), lambda name: None)


def test_columns_that_are_not_the_rows_are_not_used(examples_of, ours, tmp_path, caplog):
    """Lost, damaged or too few: the examples count, and a warning says so where columns are there."""
    batch = pa.record_batch({"n": pa.array(range(500), pa.int64())})
    examples = examples_of([batch], tmp_path / "in")
    whole = [loaded(ours(examples, tmp_path / "whole"), split) for split in WEIGHTS]
    file = tmp_path / "in" / COLUMNS_FOLDER / "train-00000.arrow"
    content = file.read_bytes()

    file.write_bytes(content[: len(content) // 2])
    assert [loaded(ours(examples, tmp_path / "damaged"), split) for split in WEIGHTS] == whole
    assert "'train': its columns cannot be read" in caplog.text

    caplog.clear()
    file.write_bytes((file.parent / "eval-00000.arrow").read_bytes())
    assert [loaded(ours(examples, tmp_path / "few"), split) for split in WEIGHTS] == whole
    assert "rows by columns" in caplog.text

    caplog.clear()
    file.unlink()
    assert [loaded(ours(examples, tmp_path / "gone"), split) for split in WEIGHTS] == whole
    assert not caplog.text
    assert (tmp_path / "in/Split-train" / RECORDS_FILE).exists()


def test_what_is_merged_is_what_one_accumulator_comes_to():
    """The same rows in many batches, whose parts are merged, and in one: every statistic, by TFDV's rounding."""
    from components.statistics_gen.compute import statistics_of
    from components.statistics_gen.rows import as_decoded

    whole = pa.Table.from_batches([odd_batches()[0]]).combine_chunks().to_batches()[0]
    pieces = [whole.slice(start, 371) for start in range(0, whole.num_rows, 371)]
    merged, alone = (statistics_of(map(as_decoded, batches)) for batches in (pieces, [whole]))

    def values(name):
        column = whole.column(name).drop_null()
        return column.to_numpy(zero_copy_only=False).astype(np.float64)

    quantiles = fine_quantiles(merged)
    assert quantiles.keys() == fine_quantiles(alone).keys() >= {"id", "odd", "large"}
    for feature in alone.datasets[0].features:
        del feature.custom_stats[:]  # sketches, of which the merged one is held against the values below
    assert_same(merged.datasets[0], alone.datasets[0], values)
    for name, histogram in quantiles.items():
        ranked, buckets = np.sort(values(name)[~np.isnan(values(name))]), histogram.buckets
        counts = np.cumsum([bucket.sample_count for bucket in buckets])
        for bucket, count in zip(buckets, counts, strict=True):
            assert_rank(ranked, bucket.high_value, count, 0.002 * len(ranked) + 1)


def fine_quantiles(found):
    return {one.path.step[0]: one.custom_stats[0].histogram for one in found.datasets[0].features if one.custom_stats}


def test_statistics_do_not_depend_on_how_threads_take_turns():
    """Twice the same to the last byte."""
    from components.statistics_gen.compute import statistics_of
    from components.statistics_gen.rows import as_decoded

    batches = [as_decoded(batch) for batch in odd_batches() * 3]
    first, second = (statistics_of(batches).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_few_batches_are_held_at_a_time(monkeypatch):
    """However many there are: those that are added, and those that are read meanwhile."""
    from components.statistics_gen import compute

    added, ahead = [], []
    add = compute._Part.add
    monkeypatch.setattr(compute._Part, "add", lambda part, batch: (add(part, batch), added.append(1))[0])

    def batches():
        for number in range(1, 21):
            ahead.append(number - len(added))
            yield pa.record_batch({"x": pa.array([[float(number)]], pa.large_list(pa.float32()))})

    assert compute.statistics_of(batches()).datasets[0].num_examples == 20
    assert max(ahead) <= 2 * compute._PARTS
