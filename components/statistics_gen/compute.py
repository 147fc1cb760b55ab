"""The statistics of a split: TFDV's own generators, driven over large batches in this process."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import tfx  # noqa: F401  # first: it stands in for a module of tfx_bsl that TFDV imports and that is gone
from tensorflow_data_validation.statistics import stats_impl, stats_options
from tensorflow_metadata.proto.v0 import statistics_pb2

from components import progress
from components.statistics_gen.quantiles import QuantilesGenerator
from components.statistics_gen.rows import from_columns, from_records
from components.statistics_gen.top_values import TopValuesGenerator

__all__ = ["split_statistics", "statistics_of"]

_SKETCHED = "TopKUniquesSketchStatsGenerator"
_PARTS = 2
"""Threads, each with accumulators of its own; a fixed number, so that sums are rounded alike on every machine."""

_log = logging.getLogger(__name__)


def split_statistics(examples: Any, split: str) -> statistics_pb2.DatasetFeatureStatisticsList:
    """The statistics of a split of an Examples artifact.

    Columns are trusted only where they are whole: as many rows as the artifact says, and not damaged. Else the
    examples themselves are read.
    """
    columns = from_columns(examples, split)
    if columns is not None:
        try:
            found = statistics_of(columns)
        except (pa.ArrowException, OSError) as error:
            _log.warning("Split %r: its columns cannot be read, so its examples are decoded: %s", split, error)
        else:
            rows, expected = found.datasets[0].num_examples, examples.get_int_custom_property(f"rows_{split}")
            if rows == expected:
                return found
            _log.warning("Split %r: %d rows by columns, %d examples: the examples are decoded", split, rows, expected)
    return statistics_of(from_records(examples, split))


def statistics_of(batches: Iterable[pa.RecordBatch]) -> statistics_pb2.DatasetFeatureStatisticsList:
    """The statistics of rows, as TFDV computes them with its default options.

    Args:
        batches: list columns, as tfx_bsl's decoder gives them. They are read once and let go; each second one is added
            up beside the others, and what comes of both is merged.

    Returns:
        A list of one data set. Quantiles, and the histograms made of them, are TFDV's sketch's: off by 1 % of the rows
        in rank at most. Everything else is exact, up to `top_values.EXACT_VALUES` distinct texts per feature. Numeric
        features have one custom statistic more, `quantiles.QUANTILES_STATISTIC`.
    """
    parts = [_Part() for _ in range(_PARTS)]
    rest = iter(batches)
    with ThreadPoolExecutor(_PARTS) as threads:
        adding: list[Future[int]] = []
        while group := list(itertools.islice(rest, _PARTS)):  # read while those before are added
            progress.advance(sum(one.result() for one in adding))
            adding = [threads.submit(part.add, batch) for part, batch in zip(parts, group, strict=False)]
        progress.advance(sum(one.result() for one in adding))
    with np.errstate(invalid="ignore"):  # the variance of infinite values is NaN, as it should be
        return _merged([parts[0], *(part for part in parts[1:] if part.batches)])


class _Part:
    """What some of the batches come to; for one thread at a time.

    Attributes:
        generators: of the statistics.
        accumulators: one for each.
        batches: how many were added.
    """

    def __init__(self) -> None:
        self.generators = _generators()
        self.accumulators = [generator.create_accumulator() for generator in self.generators]
        self.batches = 0

    def add(self, batch: pa.RecordBatch) -> int:
        """Adds a batch; the number of its rows."""
        with np.errstate(invalid="ignore"):
            self.accumulators = [
                generator.add_input(accumulator, batch)
                for generator, accumulator in zip(self.generators, self.accumulators, strict=True)
            ]
        self.batches += 1
        return int(batch.num_rows)


def _merged(parts: Sequence[_Part]) -> statistics_pb2.DatasetFeatureStatisticsList:
    generators = parts[0].generators
    accumulators = zip(*(part.accumulators for part in parts), strict=True)
    whole = [
        generator.merge_accumulators(found) if len(found) > 1 else found[0]
        for generator, found in zip(generators, accumulators, strict=True)
    ]
    return stats_impl.extract_statistics_output(whole, generators)


def _generators() -> list[Any]:
    """TFDV's default generators. In a process it would take estimates of top values; on Beam they are exact, as here."""
    options = stats_options.StatsOptions()
    generators = [one for one in stats_impl.get_generators(options, in_memory=True) if one.name != _SKETCHED]
    top_values = TopValuesGenerator(options.num_top_values, options.num_rank_histogram_buckets)
    return [*generators, top_values, QuantilesGenerator()]
