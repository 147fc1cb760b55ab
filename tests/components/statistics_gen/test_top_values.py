"""Distinct and most frequent values, exact and estimated."""

from __future__ import annotations

import logging

import pyarrow as pa
import pytest

from components.statistics_gen.top_values import TopValuesGenerator


def batches(texts, size):
    for start in range(0, len(texts), size):
        lists = pa.array([[text] for text in texts[start : start + size]], pa.large_list(pa.large_binary()))
        yield pa.record_batch({"t": lists})


def statistics(texts, size=100, **kwargs):
    generator = TopValuesGenerator(**{"top_values": 3, "ranks": 5, **kwargs})
    accumulator = generator.create_accumulator()
    for batch in batches(texts, size):
        accumulator = generator.add_input(accumulator, batch)
    (feature,) = generator.extract_output(accumulator).features
    return feature.string_stats


def test_ties_go_to_the_greater_value():
    """As TFDV orders them."""
    found = statistics([b"a", b"c", b"b", b"b", b"d", b"c"])
    assert [(top.value, top.frequency) for top in found.top_values] == [("c", 2), ("b", 2), ("d", 1)]
    assert [(bucket.label, bucket.sample_count) for bucket in found.rank_histogram.buckets][3:] == [("a", 1)]
    assert found.unique == 4


def test_many_values_are_merged_as_they_come():
    """Counts are right however often the tables were merged."""
    texts = [b"%d" % (i % 70_000) for i in range(150_000)]
    found = statistics(texts, size=20_000)
    assert found.unique == 70_000
    assert [top.frequency for top in found.top_values] == [3, 3, 3]


@pytest.mark.parametrize("size", [50_000, 200_000])
def test_too_many_values_are_estimated(size, caplog):
    """Within the sketches' error, whether the limit is met under way or at the end; and a warning says so."""
    texts = [b"often" if i % 4 == 0 else b"%d" % i for i in range(200_000)]
    with caplog.at_level(logging.WARNING):
        found = statistics(texts, size=size, exact_values=1000)
    assert found.unique == pytest.approx(150_001, rel=0.05)
    assert found.top_values[0].value == "often"
    assert found.top_values[0].frequency == pytest.approx(50_000, rel=0.05)
    assert caplog.text.count("are estimates") == 1


def counted(texts, **kwargs):
    generator = TopValuesGenerator(**{"top_values": 3, "ranks": 5, **kwargs})
    accumulator = generator.create_accumulator()
    for batch in batches(texts, 70_000):
        accumulator = generator.add_input(accumulator, batch)
    return generator, accumulator


def test_accumulators_merge_to_what_one_would_hold():
    """Counts are exact, whichever part saw a value; a part without the feature adds nothing."""
    texts = [b"%d" % (i % 90_000) for i in range(200_000)]
    parts = [counted(texts[:130_000])[1], {}, counted(texts[130_000:])[1]]
    generator, _ = counted([])
    assert generator.extract_output(generator.merge_accumulators(parts)).features[0].string_stats == statistics(texts)


@pytest.mark.parametrize("estimated", [0, 1, 2])
def test_estimates_merge_with_counts_and_with_estimates(estimated):
    """Whichever of the parts have gone over to estimates: within the sketches' error."""
    often, rare = [b"often"] * 3_000, [b"%d" % i for i in range(40_000)]
    few, many = often[:1500] + rare[:900], often[1500:] + rare[900:]
    parts = {0: (few, rare[:10]), 1: (few, many), 2: (many, rare[:5_000])}[estimated]
    generator, _ = counted([], exact_values=1000)
    merged = generator.merge_accumulators([counted(part, exact_values=1000)[1] for part in parts])
    (feature,) = generator.extract_output(merged).features
    assert feature.string_stats.unique == pytest.approx(len({*parts[0], *parts[1]}), rel=0.05)
    assert feature.string_stats.top_values[0].value == "often"
    assert feature.string_stats.top_values[0].frequency == pytest.approx(1500 if estimated != 1 else 3000, rel=0.05)
