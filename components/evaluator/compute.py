"""The metrics of each slice, from columns to figures, as TFMA's evaluator would give them."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorflow_model_analysis.api import types
from tensorflow_model_analysis.evaluators.confidence_intervals_util import SampleMetrics
from tensorflow_model_analysis.evaluators.jackknife import _FULL_SAMPLE_ID as _JACKKNIFE_FULL
from tensorflow_model_analysis.evaluators.jackknife import _JackknifeSampleCombineFn
from tensorflow_model_analysis.evaluators.poisson_bootstrap import _FULL_SAMPLE_ID as _BOOTSTRAP_FULL
from tensorflow_model_analysis.evaluators.poisson_bootstrap import _BootstrapSampleCombineFn
from tensorflow_model_analysis.metrics import metric_specs, metric_types
from tensorflow_model_analysis.proto import config_pb2
from tensorflow_model_analysis.utils import model_util

from components.evaluator.columnar import Accumulate, accumulator_of, extracted_in_columns, leaving_out_each
from components.evaluator.derived import fast
from components.evaluator.fit import Unsupported
from components.evaluator.rows import Indices, Rows, SliceKey

__all__ = ["SAMPLES", "metrics_per_slice"]

SAMPLES = 20
"""Parts of the rows, or draws of them, that an interval is made of; TFMA's own number."""

_CHECKED_ROWS = 4096
_OF_LABELS = ("example_count", "weighted_example_count", "mean_label", "__ERROR__")
"""Metrics that no answer of a model has a part in."""

Metrics = dict[Any, Any]
Accumulators = list[Any]
Finish = Callable[[Accumulators], Metrics]


def metrics_per_slice(rows: Rows, eval_config: Any, schema: Any, seed: int = 0) -> Iterator[tuple[SliceKey, Metrics]]:
    """The metrics of every slice, the whole first.

    Where a model's answers are not numbers, nor are its metrics: all of them are NaN in each slice with such a row, but
    those of the labels alone.

    Args:
        rows: all rows.
        eval_config: a `tfma.EvalConfig` with its defaults filled in. Its options say whether there are intervals.
        schema: of the data, or None.
        seed: of the parts of the rows, or the draws of them, that intervals are made of.

    Raises:
        Unsupported: some metric cannot be computed here.
    """
    bad = rows.not_numbers()
    answers = {
        name: np.where(np.isfinite(found), found, 0) if name in bad else found
        for name, found in rows.predictions.items()
    }
    plan = _plan(replace(rows, predictions=answers), eval_config, schema)
    smallest = eval_config.options.min_slice_size.value
    resample = _resampling(eval_config, rows.count, seed)
    # Without anything that follows from intervals, those of what nobody sees are not made.
    finish: Finish = plan.metrics if plan.from_intervals else lambda found: _public(plan.metrics(found))
    for key, indices in rows.slices.items():
        if len(indices) >= smallest:
            metrics = finish(plan.accumulate(indices)) if resample is None else resample(plan, finish, indices)
            for derive in plan.from_intervals:
                metrics.update(derive(metrics))
            ill = {name for name, rows_of in bad.items() if rows_of[indices].any()}
            yield key, _without_numbers(_public(metrics), ill)


def _without_numbers(metrics: Metrics, models: set[str]) -> Metrics:
    """The same metrics, NaN where they follow from the answers of some models."""

    def ill(key: Any) -> bool:
        return key.name not in _OF_LABELS and (key.model_name in models or key.is_diff)

    return {key: math.nan if ill(key) else value for key, value in metrics.items()} if models else metrics


@dataclass(frozen=True)
class _Plan:
    """What is to be computed, in order.

    Attributes:
        sums: what is added up over rows: the computation's combiner, and how its accumulator is filled.
        derived: metrics from metrics.
        from_intervals: the same, computed after the intervals.
        baseline: name of the champion among the models, or None.
    """

    sums: list[tuple[Any, Accumulate]]
    derived: list[Callable[[Metrics], Metrics]]
    from_intervals: list[Callable[[Metrics], Metrics]]
    baseline: str | None

    def accumulate(self, rows: Indices) -> Accumulators:
        """What some rows add up to."""
        return [accumulate(rows) for _, accumulate in self.sums]

    def leaving_out_each(self, groups: list[Indices]) -> Iterator[Accumulators]:
        """What the rows of all groups add up to, and then those of all groups but one, each in turn."""
        found = [leaving_out_each(accumulate, groups) for _, accumulate in self.sums]
        for _ in range(len(groups) + 1):
            yield [next(one) for one in found]

    def metrics(self, accumulators: Accumulators) -> Metrics:
        """All metrics of what was accumulated, the differences to the champion's among them."""
        metrics: Metrics = {}
        for (combiner, _), found in zip(self.sums, accumulators, strict=True):
            # Without anything that follows from intervals, nobody but other metrics sees a histogram.
            extracted = combiner.extract_output(found) if self.from_intervals else extracted_in_columns(combiner, found)
            metrics.update(extracted)
        for derive in self.derived:
            metrics.update(derive(metrics))
        if self.baseline:
            metrics.update(_differences(metrics, self.baseline))
        return metrics


def _plan(rows: Rows, eval_config: Any, schema: Any) -> _Plan:
    """As TFMA's evaluator: the first of equal computations counts, and each keeps its place."""
    computations = dict.fromkeys(
        metric_specs.to_computations(list(eval_config.metrics_specs), eval_config=eval_config, schema=schema)
    )
    sums, derived, from_intervals = [], [], []
    known: Metrics = {}  # what some rows add up to, for what is held against TFMA
    some = np.arange(min(rows.count, _CHECKED_ROWS))
    for one in computations:
        if isinstance(one, metric_types.MetricComputation):
            accumulate = accumulator_of(one, rows)
            sums.append((one.combiner, accumulate))
            known.update(extracted_in_columns(one.combiner, accumulate(some)))
        elif isinstance(one, metric_types.CIDerivedMetricComputation):
            from_intervals.append(one.result)
        elif isinstance(one, metric_types.DerivedMetricComputation):
            derived.append(fast(one.result, known))
        elif not isinstance(one, metric_types.CrossSliceMetricComputation):  # without specs there is nothing to cross
            raise Unsupported(f"there is a computation of an unknown kind, {type(one).__name__}")
    baseline = model_util.get_baseline_model_spec(eval_config)
    return _Plan(sums, derived, from_intervals, baseline.name if baseline else None)


def _differences(metrics: Mapping[Any, Any], baseline: str) -> Metrics:
    """The candidate's figures less the champion's, for whatever is a number."""
    result = {}
    for key, value in metrics.items():
        other = key.make_baseline_key(baseline)
        compared = not _is_private(key) and not key.is_diff and key.model_name != baseline and other in metrics
        if compared and _is_number(value):
            result[key.make_diff_key()] = value - metrics[other]
    return result


def _is_number(value: Any) -> bool:
    """Whether TFMA takes it for something that can be subtracted."""
    if isinstance(value, np.ndarray):
        return bool(np.issubdtype(value.dtype, np.number))
    return isinstance(value, numbers.Number | types.StructuredMetricValue)


def _public(metrics: Metrics) -> Metrics:
    return {key: value for key, value in metrics.items() if not _is_private(key)}


def _is_private(key: Any) -> bool:
    return key.name.startswith("_") and not key.name.startswith("__")


# --- intervals --------------------------------------------------------------------------------------------------------


def _resampling(eval_config: Any, count: int, seed: int) -> Callable[[_Plan, Finish, Indices], Metrics] | None:
    """How intervals are made, or None: by TFMA's own combiners of samples, over rows that are chosen here.

    A row is in the same part, and drawn as often, in every slice.
    """
    options = eval_config.options
    if not options.compute_confidence_intervals.value:
        return None
    exact = metric_specs.metric_keys_to_skip_for_confidence_intervals(
        list(eval_config.metrics_specs), eval_config=eval_config
    )
    random = np.random.default_rng(seed)
    if options.confidence_intervals.method == config_pb2.ConfidenceIntervalOptions.JACKKNIFE:
        part = random.integers(SAMPLES, size=count).astype(np.uint8)
        combine = _JackknifeSampleCombineFn(SAMPLES, exact)
        return lambda plan, finish, rows: _combined(
            combine, _JACKKNIFE_FULL, map(finish, _all_but_one_part(plan, rows, part))
        )
    if options.confidence_intervals.method == config_pb2.ConfidenceIntervalOptions.POISSON_BOOTSTRAP:
        draws = [random.poisson(1, size=count).astype(np.uint8) for _ in range(SAMPLES)]
        combine = _BootstrapSampleCombineFn(SAMPLES, exact)
        return lambda plan, finish, rows: _combined(combine, _BOOTSTRAP_FULL, map(finish, _drawn(plan, rows, draws)))
    return None  # as TFMA: without a method there are none


def _all_but_one_part(plan: _Plan, rows: Indices, part: npt.NDArray[np.uint8]) -> Iterator[Accumulators]:
    """Of all rows, and of those that each part leaves; nothing where it leaves none, as Beam gives no result for no rows."""
    part_of = part[rows]
    groups = [rows[part_of == one] for one in range(SAMPLES)]
    accumulators = plan.leaving_out_each(groups)
    yield next(accumulators)
    for group, found in zip(groups, accumulators, strict=True):
        if len(group) < len(rows):
            yield found


def _drawn(plan: _Plan, rows: Indices, draws: Iterable[npt.NDArray[np.uint8]]) -> Iterator[Accumulators]:
    """Of all rows, and of as many of each as were drawn."""
    yield plan.accumulate(rows)
    for drawn in draws:
        yield plan.accumulate(np.repeat(rows, drawn[rows]))


def _combined(combine: Any, full: int, samples: Iterator[Metrics]) -> Metrics:
    """What TFMA makes of the metrics of all rows, which come first, and of samples."""
    accumulator = combine.create_accumulator()
    for number, metrics in enumerate(samples, start=-1):
        accumulator = combine.add_input(accumulator, SampleMetrics(metrics, number if number >= 0 else full))
    result: Metrics = combine.extract_output(accumulator)
    return result
