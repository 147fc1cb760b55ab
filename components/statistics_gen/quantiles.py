"""Fine quantiles of numeric features, beside TFDV's own statistics: what distances between data sets are measured on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import tfx  # noqa: F401  # first: it stands in for a module of tfx_bsl that TFDV imports and that is gone
from tensorflow_data_validation.arrow import arrow_util
from tensorflow_data_validation.statistics.generators import stats_generator
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx_bsl.arrow import array_util
from tfx_bsl.sketches import QuantilesSketch

__all__ = ["QUANTILES_STATISTIC", "QuantilesGenerator"]

QUANTILES_STATISTIC = "satisfice.quantiles"
"""Name of the custom statistic."""

_QUANTILES = 200
_ERROR = 0.001
_MOST_VALUES = 1 << 32


class QuantilesGenerator(stats_generator.CombinerStatsGenerator):
    """A custom statistic of each numeric feature: a histogram whose cumulative counts are known at its edges.

    TFDV's ten buckets do not tell how many values are equal to an edge, nor what is inside a bucket that one outlier has
    made a thousand times wider: two random halves of one data set can be "far" from each other by them.

    The first bucket holds the values that are the least; each other one those above its low and up to its high value.
    """

    def __init__(self) -> None:
        super().__init__("QuantilesGenerator")

    def create_accumulator(self) -> dict[Any, QuantilesSketch]:
        return {}

    def add_input(
        self, accumulator: dict[Any, QuantilesSketch], input_record_batch: pa.RecordBatch
    ) -> dict[Any, QuantilesSketch]:
        for path, array, _ in arrow_util.enumerate_arrays(input_record_batch, None, enumerate_leaves_only=True):
            values, _ = array_util.flatten_nested(array)
            if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
                if path not in accumulator:
                    accumulator[path] = QuantilesSketch(_ERROR, _MOST_VALUES, 1)
                accumulator[path].AddValues(_numbers(values))
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[dict[Any, QuantilesSketch]]) -> dict[Any, QuantilesSketch]:
        merged: dict[Any, QuantilesSketch] = self.create_accumulator()
        for accumulator in accumulators:
            for path, sketch in accumulator.items():
                if path in merged:
                    merged[path].Merge(sketch)
                else:
                    merged[path] = sketch
        return merged

    def extract_output(self, accumulator: dict[Any, QuantilesSketch]) -> statistics_pb2.DatasetFeatureStatistics:
        result = statistics_pb2.DatasetFeatureStatistics()
        for path, sketch in accumulator.items():
            found, counts = sketch.GetQuantilesAndCumulativeWeights(_QUANTILES)
            edges, cumulative = found.flatten().to_pylist(), counts.flatten().to_pylist()
            if not edges:
                continue
            feature = result.features.add()
            feature.path.CopyFrom(path.to_proto())
            statistic = feature.custom_stats.add(name=QUANTILES_STATISTIC)
            _fill(statistic.histogram, edges, cumulative)
        return result


def _numbers(values: pa.Array) -> pa.Array:
    """Without nulls and NaN, which have no place in an order."""
    values = values.drop_null()
    if pa.types.is_floating(values.type):
        values = values.filter(pc.invert(pc.is_nan(values)))
    return values.cast(pa.float64(), safe=False)


def _fill(histogram: Any, edges: list[float], cumulative: list[float]) -> None:
    """One bucket for each edge that is not the one before."""
    histogram.type = statistics_pb2.Histogram.QUANTILES
    low, below = edges[0], 0.0
    for edge, count in zip(edges, cumulative, strict=True):
        if count > below:
            histogram.buckets.add(low_value=low, high_value=edge, sample_count=count - below)
        low, below = edge, max(count, below)
