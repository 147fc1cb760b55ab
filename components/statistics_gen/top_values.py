"""Distinct values of text features and the most frequent ones, counted by Arrow."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import tfx  # noqa: F401  # first: it stands in for a module of tfx_bsl that TFDV imports and that is gone
from tensorflow_data_validation import constants
from tensorflow_data_validation.arrow import arrow_util
from tensorflow_data_validation.statistics.generators import stats_generator
from tensorflow_data_validation.utils import top_k_uniques_stats_util
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx_bsl.arrow import array_util
from tfx_bsl.sketches import KmvSketch, MisraGriesSketch

__all__ = ["EXACT_VALUES", "TopValuesGenerator"]

EXACT_VALUES = 1_000_000
"""Distinct values of one feature that are counted exactly, so that memory is bounded whatever the data."""

# As TFDV's own sketches (stats_impl, top_k_uniques_sketch_stats_generator).
_DISTINCT_BUCKETS = 16_384
_TOP_BUCKETS = 1_024
_LONG_TEXT_BYTES = 1_024

_log = logging.getLogger(__name__)


class TopValuesGenerator(stats_generator.CombinerStatsGenerator):
    """What TFDV's exact `TopKUniquesStatsGenerator`, which needs Beam, gives for text features."""

    def __init__(self, top_values: int, ranks: int, exact_values: int = EXACT_VALUES) -> None:
        """Take how many values to list, how many ranks the rank histogram has, and when to go over to estimates."""
        super().__init__("TopValuesGenerator")
        self._top_values = top_values
        self._ranks = ranks
        self._exact_values = exact_values

    def create_accumulator(self) -> dict[Any, _Counts]:
        return {}

    def add_input(self, accumulator: dict[Any, _Counts], input_record_batch: pa.RecordBatch) -> dict[Any, _Counts]:
        for path, array, _ in arrow_util.enumerate_arrays(input_record_batch, None, enumerate_leaves_only=True):
            values, _ = array_util.flatten_nested(array)
            if arrow_util.is_binary_like(values.type):
                counts = accumulator.setdefault(path, _Counts(str(path), self._exact_values))
                counts.add(values.cast(pa.large_binary()))
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[dict[Any, _Counts]]) -> dict[Any, _Counts]:
        merged: dict[Any, _Counts] = self.create_accumulator()
        for accumulator in accumulators:
            for path, counts in accumulator.items():
                if path in merged:
                    merged[path].merge(counts)
                else:
                    merged[path] = counts
        return merged

    def extract_output(self, accumulator: dict[Any, _Counts]) -> statistics_pb2.DatasetFeatureStatistics:
        result = statistics_pb2.DatasetFeatureStatistics()
        for path, counts in accumulator.items():
            distinct, top = counts.result(max(self._top_values, self._ranks))
            if not distinct:
                continue
            result.features.append(
                top_k_uniques_stats_util.make_feature_stats_proto_topk_uniques(
                    path,
                    num_top_values=self._top_values,
                    num_rank_histogram_buckets=self._ranks,
                    num_unique=distinct,
                    value_count_list=top,
                )
            )
        return result


class _Counts:
    """The values of one feature with how often each occurs: exact, then estimated once they are too many."""

    def __init__(self, feature: str, exact_values: int) -> None:
        self._feature = feature
        self._exact_values = exact_values
        self._counted = _count_table([])
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._sketch: _Sketch | None = None

    def add(self, values: pa.Array) -> None:
        """Counts values; nulls are none."""
        self._add(pa.Table.from_struct_array(values.drop_null().value_counts()))

    def merge(self, other: _Counts) -> None:
        """Takes over what was counted elsewhere."""
        if other._sketch is not None:
            self._estimate().merge(other._sketch)
        else:
            self._add(pa.concat_tables([other._counted, *other._pending]))

    def _add(self, counted: pa.Table) -> None:
        if self._sketch is not None:
            self._sketch.add(counted)
            return
        self._pending.append(counted)
        self._pending_rows += counted.num_rows
        # Merged only once it has doubled: the work stays linear in the number of values.
        if self._pending_rows > max(self._counted.num_rows, 65_536):
            self._sum_up()

    def result(self, top: int) -> tuple[int, list[top_k_uniques_stats_util.FeatureValueCount]]:
        """The number of distinct values, and the most frequent ones with their counts, ties by the greater value."""
        self._sum_up()
        if self._sketch is not None:
            return self._sketch.result()
        keys = [("counts", "descending"), ("values", "descending")]
        chosen = self._counted.sort_by(keys).slice(0, top)
        return self._counted.num_rows, _as_tfdv(chosen.to_pylist())

    def _sum_up(self) -> None:
        if not self._pending or self._sketch is not None:
            return
        table = pa.concat_tables([self._counted, *self._pending])
        summed = table.group_by("values").aggregate([("counts", "sum")])
        self._counted = summed.select(["values", "counts_sum"]).rename_columns(["values", "counts"])
        self._pending, self._pending_rows = [], 0
        if self._counted.num_rows > self._exact_values:
            _log.warning(
                "Feature %s has more than %d distinct values: their number and the top values are estimates",
                self._feature,
                self._exact_values,
            )
            self._estimate()

    def _estimate(self) -> _Sketch:
        """Estimates from now on; what was counted so far goes into them."""
        if self._sketch is None:
            self._sketch = _Sketch()
            for table in (self._counted, *self._pending):
                self._sketch.add(table)
            self._counted, self._pending, self._pending_rows = _count_table([]), [], 0
        return self._sketch


class _Sketch:
    """TFDV's own estimates, in bounded memory."""

    def __init__(self) -> None:
        self._distinct = KmvSketch(_DISTINCT_BUCKETS)
        self._top = MisraGriesSketch(
            num_buckets=_TOP_BUCKETS,
            invalid_utf8_placeholder=constants.NON_UTF8_PLACEHOLDER,
            large_string_threshold=_LONG_TEXT_BYTES,
            large_string_placeholder=constants.LARGE_BYTES_PLACEHOLDER,
        )

    def add(self, counted: pa.Table) -> None:
        for batch in counted.to_batches():
            self._distinct.AddValues(batch.column("values"))
            self._top.AddValues(batch.column("values"), batch.column("counts").cast(pa.float32(), safe=False))

    def merge(self, other: _Sketch) -> None:
        self._distinct.Merge(other._distinct)
        self._top.Merge(other._top)

    def result(self) -> tuple[int, list[top_k_uniques_stats_util.FeatureValueCount]]:
        return self._distinct.Estimate(), _as_tfdv(self._top.Estimate().to_pylist())


def _count_table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, pa.schema({"values": pa.large_binary(), "counts": pa.int64()}))


def _as_tfdv(rows: list[dict[str, Any]]) -> list[top_k_uniques_stats_util.FeatureValueCount]:
    return [top_k_uniques_stats_util.FeatureValueCount(row["values"], row["counts"]) for row in rows]
