"""The statistics of a split: TFDV's own generators, driven over large batches in this process."""

from __future__ import annotations

import logging
from collections.abc import Iterable
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
        batches: list columns, as tfx_bsl's decoder gives them. They are read once and let go.

    Returns:
        A list of one data set. Quantiles, and the histograms made of them, are TFDV's sketch's: off by 1 % of the rows
        in rank at most. Everything else is exact, up to `top_values.EXACT_VALUES` distinct texts per feature. Numeric
        features have one custom statistic more, `quantiles.QUANTILES_STATISTIC`.
    """
    generators = _generators()
    partial = [generator.create_accumulator() for generator in generators]
    with np.errstate(invalid="ignore"):  # the variance of infinite values is NaN, as it should be
        for batch in batches:
            partial = [generator.add_input(part, batch) for generator, part in zip(generators, partial, strict=True)]
            progress.advance(batch.num_rows)
    return stats_impl.extract_statistics_output(partial, generators)


def _generators() -> list[Any]:
    """TFDV's default generators. In a process it would take estimates of top values; on Beam they are exact, as here."""
    options = stats_options.StatsOptions()
    generators = [one for one in stats_impl.get_generators(options, in_memory=True) if one.name != _SKETCHED]
    top_values = TopValuesGenerator(options.num_top_values, options.num_rank_histogram_buckets)
    return [*generators, top_values, QuantilesGenerator()]
