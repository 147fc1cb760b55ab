"""What TFMA's metrics add up over rows, added up by columns.

A metric of TFMA is a Beam CombineFn that takes one row at a time, and what it accumulates are sums. For the combiners
below, what rows add is computed for some ten thousand at once, so that nothing is held of all rows but their labels and
predictions; the sums over some rows are then put into TFMA's own accumulator, from which its own code goes on. Each of these short cuts is held against the combiner itself on some of the
rows before it is used; a combiner that is not known here, or whose figures differ, is driven row by row.
"""

from __future__ import annotations

import itertools
import logging
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.metrics import calibration_histogram, metric_types, metric_util

from components.evaluator.fit import Unsupported
from components.evaluator.rows import Indices, Rows

__all__ = [
    "Accumulate",
    "Buckets",
    "ByColumns",
    "accumulate_by_rows",
    "accumulator_of",
    "extracted_in_columns",
    "leaving_out_each",
]

Array = npt.NDArray[Any]
Sums = npt.NDArray[np.float64]

_CHUNK_ROWS = 65_536
_CHECKED_ROWS = 64
_KERAS_ROWS = 4096
_TOLERANCE = 1e-5  # Keras adds up in float32
_NUMBERS = (numbers.Number, np.ndarray)

_log = logging.getLogger(__name__)


class Accumulate(Protocol):
    """Gives TFMA's accumulator of the rows with the given indices."""

    def __call__(self, rows: Indices, /) -> Any: ...


@dataclass(frozen=True)
class ByColumns:
    """Accumulates by sums over rows, some ten thousand at a time: whatever is worked out for a row is let go.

    Attributes:
        add: the sums over some rows, as many as are to be held at a time.
        fill: TFMA's accumulator from sums.
    """

    add: Callable[[Indices], Sums]
    fill: Callable[[Sums], Any]

    def __call__(self, rows: Indices, /) -> Any:
        return self.fill(self.sums(rows))

    def sums(self, rows: Indices) -> Sums:
        """The sums over any number of rows."""
        total = self.add(rows[:_CHUNK_ROWS])
        for start in range(_CHUNK_ROWS, len(rows), _CHUNK_ROWS):
            total += self.add(rows[start : start + _CHUNK_ROWS])
        return total


def leaving_out_each(accumulate: Accumulate, groups: Sequence[Indices]) -> Iterator[Any]:
    """Accumulators of the rows of all groups, and then of all but the first, but the second and so on.

    What can be added up by columns is worked out once for each row, not once for each accumulator.
    """
    if not isinstance(accumulate, ByColumns):
        yield accumulate(np.sort(np.concatenate(groups)))
        for number in range(len(groups)):
            yield accumulate(np.sort(np.concatenate([*groups[:number], *groups[number + 1 :]])))
        return
    sums = [accumulate.sums(group) for group in groups]
    before = list(itertools.accumulate(sums))
    after = list(itertools.accumulate(reversed(sums)))  # added, never subtracted: nothing cancels out
    nothing = np.zeros_like(sums[0])
    yield accumulate.fill(before[-1])
    for below, above in zip([nothing, *before[:-1]], [*after[-2::-1], nothing], strict=True):
        yield accumulate.fill(below + above)


class _NotByColumns(Exception):  # noqa: N818  # no fault: the metric is driven row by row
    """Why a computation has no short cut on these rows."""


def accumulator_of(computation: Any, rows: Rows) -> Accumulate:
    """The fastest right way to accumulate.

    Args:
        computation: a `metric_types.MetricComputation`.
        rows: all rows.

    Raises:
        Unsupported: the computation needs more than labels and predictions.
    """
    _check_preprocessors(computation)
    computation.combiner.setup()
    by_rows = accumulate_by_rows(computation.combiner, rows)
    try:
        by_columns = _by_columns(computation, rows)
        _hold_against(by_rows, by_columns, computation.combiner, rows.count)
    except _NotByColumns as reason:
        _log.warning("%s is computed row by row: %s", ", ".join(sorted({k.name for k in computation.keys})), reason)
        return by_rows
    return by_columns


def accumulate_by_rows(combiner: Any, rows: Rows) -> Accumulate:
    """TFMA's own way, without Beam: one row after the other."""

    def accumulate(indices: Indices) -> Any:
        accumulator = combiner.create_accumulator()
        for index in indices.tolist():
            accumulator = combiner.add_input(accumulator, _inputs(rows, index))
        return accumulator

    return accumulate


def _check_preprocessors(computation: Any) -> None:
    for preprocessor in computation.preprocessors or []:
        if type(preprocessor) is not metric_types.StandardMetricInputsPreprocessor:
            raise Unsupported(f"a metric prepares its rows with {type(preprocessor).__name__}")
        more = set(preprocessor.include_filter) - {
            constants.LABELS_KEY, constants.PREDICTIONS_KEY, constants.EXAMPLE_WEIGHTS_KEY
        }  # fmt: skip
        if more:
            raise Unsupported(f"a metric needs {', '.join(sorted(more))} of its rows")
    for key in computation.keys:
        if isinstance(key, metric_types.PlotKey | metric_types.AttributionsKey) and not key.name.startswith("_"):
            raise Unsupported(f"{key.name} is a plot")


def _inputs(rows: Rows, index: int) -> Any:
    """One row as TFMA's extractors would give it."""
    labels = {name: column[index] for name, column in rows.labels.items()}
    predictions = {name: column[index] for name, column in rows.predictions.items()}
    alone = len(labels) == 1
    return metric_util.to_standard_metric_inputs(
        {
            constants.LABELS_KEY: next(iter(labels.values())) if alone else labels,
            constants.PREDICTIONS_KEY: next(iter(predictions.values())) if alone else predictions,
            constants.EXAMPLE_WEIGHTS_KEY: None,
        }
    )


# --- short cuts -------------------------------------------------------------------------------------------------------


def _by_columns(computation: Any, rows: Rows) -> Accumulate:
    combiner = computation.combiner
    name = f"{type(combiner).__module__.rpartition('.')[2]}.{type(combiner).__name__}"
    make = _MAKERS.get(name)
    if make is None:
        raise _NotByColumns(f"there is no short cut for {name}")
    key = computation.keys[0]
    if key.output_name or key.sub_key is not None or key.aggregation_type is not None or key.example_weighted:
        raise _NotByColumns("only a part of the outputs counts, or rows have weights")
    if getattr(combiner, "_class_weights", None):
        raise _NotByColumns("classes have weights")
    label, prediction = rows.labels[key.model_name], rows.predictions[key.model_name]
    if label.dtype.kind not in "iufb" or prediction.dtype.kind not in "iuf":
        raise _NotByColumns("labels or predictions are no numbers")
    return make(combiner, label, prediction)


def _setting(combiner: Any, name: str) -> Any:
    """A setting that TFMA's combiner keeps to itself."""
    try:
        return getattr(combiner, f"_{name}")
    except AttributeError as error:
        raise _NotByColumns(f"{type(combiner).__name__} has no setting {name!r} in this version") from error


def _column(array: Array) -> Array:
    """One value per row, as double."""
    return array[:, 0].astype(np.float64)


def _check_single(*arrays: Array) -> None:
    for array in arrays:
        if array.shape[1:] != (1,):
            raise _NotByColumns(f"there is not one value per row, but {array.shape[1:]}")


def _check_shares(label: Array) -> None:
    """Labels must be the share of a row that is positive."""
    if not (label.min() >= 0 and label.max() <= 1):
        raise _NotByColumns("labels are not between 0 and 1")


def _histogram(combiner: Any, label: Array, prediction: Array) -> Accumulate:
    """Predictions in buckets of equal width, as AUC needs them."""
    buckets, left, width = (_setting(combiner, name) for name in ("num_buckets", "left", "range"))
    if not _setting(combiner, "prediction_based_bucketing"):
        raise _NotByColumns("buckets are made by labels")
    key = _setting(combiner, "key")
    _check_single(label, prediction)
    if _setting(combiner, "fractional_labels"):
        _check_shares(label)
    if np.isnan(prediction).any():
        raise _NotByColumns("some predictions are NaN")

    def add(rows: Indices) -> Sums:
        labels, predictions = _column(label[rows]), _column(prediction[rows])
        index = np.clip((predictions - left) / width * buckets + 1, 0, buckets + 1).astype(np.int64)
        found = [np.bincount(index, values, buckets + 2) for values in (None, labels, predictions)]
        return np.stack(found).astype(np.float64, copy=False)

    return ByColumns(add, lambda sums: Buckets(key, sums))


class Buckets(Sequence[Any]):
    """A histogram of TFMA by columns: the same buckets, made one by one only for those who ask for them.

    Attributes:
        key: of the metric.
        examples, labels, predictions: sums of every bucket, empty ones too, shape [buckets + 2]; the first and the last
            bucket are for predictions out of range.
    """

    def __init__(self, key: Any, sums: Sums) -> None:
        """Take the three sums, shape [3, buckets + 2]."""
        self.key = key
        self.examples, self.labels, self.predictions = sums

    def __len__(self) -> int:
        return len(self._filled)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._filled)

    def __getitem__(self, index: Any) -> Any:
        return self._filled[index]

    def values(self) -> list[Any]:
        """The buckets, as TFMA's accumulator gives them."""
        return self._filled

    @cached_property
    def _filled(self) -> list[Any]:
        """The buckets that hold rows, ascending."""
        ids = np.flatnonzero(self.examples)
        sums = (column[ids].tolist() for column in (self.labels, self.predictions, self.examples))
        return list(map(calibration_histogram.Bucket, ids.tolist(), *sums))


def extracted_in_columns(combiner: Any, accumulator: Any) -> dict[Any, Any]:
    """What TFMA's combiner extracts; a histogram stays in columns."""
    if isinstance(accumulator, Buckets):
        return {accumulator.key: accumulator}
    extracted: dict[Any, Any] = combiner.extract_output(accumulator)
    return extracted


def _matrices(combiner: Any, label: Array, prediction: Array) -> Accumulate:
    """True and false positives and negatives at some thresholds."""
    if _setting(combiner, "example_id_key"):
        raise _NotByColumns("rows are named by an id")
    thresholds = _setting(_setting(combiner, "binary_confusion_matrices"), "thresholds")
    if not _setting(combiner, "enable_fractional_labels"):
        raise _NotByColumns("labels are compared with the threshold")
    _check_single(label, prediction)
    _check_shares(label)
    (empty,) = combiner.extract_output(combiner.create_accumulator()).values()
    entry = empty[thresholds[0]]

    def add(rows: Indices) -> Sums:
        yes, found = _column(label[rows]), _column(prediction[rows])
        sums = np.empty((len(thresholds), 4))
        for number, threshold in enumerate(thresholds):
            over = found > threshold
            positive, negative = yes[over], yes[~over]
            sums[number] = positive.sum(), (1.0 - positive).sum(), negative.sum(), (1.0 - negative).sum()
        return sums

    def fill(sums: Sums) -> Any:
        accumulator = combiner.create_accumulator()
        for threshold, (tp, fp, fn, tn) in zip(thresholds, sums.tolist(), strict=True) if sums.any() else ():
            accumulator[threshold] = entry._replace(matrix=entry.matrix._replace(tp=tp, fp=fp, fn=fn, tn=tn))
        return accumulator

    return ByColumns(add, fill)


_Columns = Callable[[Array, Array], Mapping[str, Array]]
"""From labels and predictions of some rows to what each adds, by the names that the combiner's accumulator has for the sums."""


def _sums(columns: _Columns) -> Callable[[Any, Array, Array], Accumulate]:
    """Plain sums."""

    def make(combiner: Any, label: Array, prediction: Array) -> Accumulate:
        _check_single(label, prediction)
        names = list(columns(label[:0], prediction[:0]))
        if set(_attributes(combiner.create_accumulator())) != set(names):
            raise _NotByColumns(f"{type(combiner).__name__} adds up other things in this version")

        def add(rows: Indices) -> Sums:
            with np.errstate(all="ignore"):
                found = columns(label[rows], prediction[rows])
            return np.array([found[name].sum() for name in names])

        def fill(sums: Sums) -> Any:
            accumulator = combiner.create_accumulator()
            for name, value in zip(names, sums.tolist(), strict=True):
                setattr(accumulator, name, value)
            return accumulator

        return ByColumns(add, fill)

    return make


def _calibration(label: Array, prediction: Array) -> Mapping[str, Array]:
    return {
        "total_weighted_labels": _column(label),
        "total_weighted_predictions": _column(prediction),
        "total_weighted_examples": np.ones(len(label)),
    }


def _tjur(label: Array, prediction: Array) -> Mapping[str, Array]:
    labels, predictions = _column(label), _column(prediction)
    return {
        "total_negative_weighted_labels": 1.0 - labels,
        "total_positive_weighted_labels": labels,
        "total_negative_weighted_predictions": (1.0 - labels) * predictions,
        "total_positive_weighted_predictions": labels * predictions,
    }


def _pearson(label: Array, prediction: Array) -> Mapping[str, Array]:
    labels, predictions = _column(label), _column(prediction)
    return {
        "total_weighted_labels": labels,
        "total_weighted_predictions": predictions,
        "total_weighted_squared_labels": labels**2,
        "total_weighted_squared_predictions": predictions**2,
        "total_weighted_labels_times_predictions": labels * predictions,
        "total_weighted_examples": np.ones(len(label)),
    }


def _regression(error: Callable[[Array, Array], Array]) -> Callable[[Any, Array, Array], Accumulate]:
    """A mean of errors; rows whose error is NaN do not count. Errors are computed in the types that the columns have."""

    def columns(label: Array, prediction: Array) -> Mapping[str, Array]:
        errors = _column(error(label, prediction))
        counted = ~np.isnan(errors)
        return {
            "total_regression_error": np.where(counted, errors, 0.0),
            "total_example_weights": counted.astype(np.float64),
        }

    return _sums(columns)


def _percentage(label: Array, prediction: Array) -> Array:
    return np.where(label == 0, np.nan, 100.0 * np.absolute((label - prediction) / label))


def _binary_crossentropy(combiner: Any, label: Array, prediction: Array) -> Accumulate:
    if _setting(combiner, "from_logits") or _setting(combiner, "label_smoothing"):
        raise _NotByColumns("predictions are logits, or labels are smoothed")
    return _sums(_crossentropy)(combiner, label, prediction)


def _crossentropy(label: Array, prediction: Array) -> Mapping[str, Array]:
    label = label * 1.0
    loss = -label * np.log(prediction) - (1 - label) * np.log(1 - prediction)
    return {"total_cross_entropy": _column(loss), "total_example_weights": np.ones(len(label))}


def _count(combiner: Any, _label: Array, _prediction: Array) -> Accumulate:
    return ByColumns(
        lambda rows: np.array([float(len(rows))]), lambda sums: combiner.create_accumulator() + float(sums[0])
    )


def _keras(combiner: Any, label: Array, prediction: Array) -> Accumulate:
    """Metrics of Keras, which take a batch at a time; some thousand rows, as they add up in float32."""
    outputs, metrics = _setting(combiner, "output_names"), _setting(combiner, "metrics")
    if outputs != [""]:
        raise _NotByColumns("the model has several outputs")

    def accumulate(rows: Indices) -> Any:
        accumulator = combiner.create_accumulator()
        for start in range(0, len(rows), _KERAS_ROWS):
            part = rows[start : start + _KERAS_ROWS]
            weights = np.ones((len(part), 1), np.float32)
            for index, metric in enumerate(metrics[""]):
                metric.reset_state()
                metric.update_state(label[part], prediction[part], weights)
                accumulator.add_weights(0, index, metric.get_weights())
        return accumulator

    return accumulate


_MAKERS: dict[str, Callable[[Any, Array, Array], Accumulate]] = {
    "calibration._WeightedLabelsPredictionsExamplesCombiner": _sums(_calibration),
    "calibration_histogram._CalibrationHistogramCombiner": _histogram,
    "binary_confusion_matrices._BinaryConfusionMatrixCombiner": _matrices,
    "cross_entropy_metrics._BinaryCrossEntropyCombiner": _binary_crossentropy,
    "example_count._ExampleCountCombiner": _count,
    "mean_regression_error._MeanAbsoluteErrorCombiner": _regression(lambda label, found: np.absolute(label - found)),
    "mean_regression_error._MeanAbsolutePercentageErrorCombiner": _regression(_percentage),
    "mean_regression_error._MeanSquaredErrorCombiner": _regression(
        lambda label, found: np.absolute(label - found).astype(np.float64) ** 2
    ),
    "mean_regression_error._MeanSquaredLogarithmicErrorCombiner": _regression(
        lambda label, found: (np.log(label + 1) - np.log(found + 1)).astype(np.float64) ** 2
    ),
    "squared_pearson_correlation._SquaredPearsonCorrelationCombiner": _sums(_pearson),
    "tf_metric_wrapper._CompilableMetricsCombiner": _keras,
    "tjur_discrimination._TjurDiscriminationCombiner": _sums(_tjur),
}


# --- trust, but check -------------------------------------------------------------------------------------------------


def _hold_against(by_rows: Accumulate, by_columns: Accumulate, combiner: Any, count: int) -> None:
    """Makes sure that both ways give the same on rows from everywhere."""
    some = np.unique(np.linspace(0, count - 1, min(count, _CHECKED_ROWS)).astype(np.int64))
    with np.errstate(all="ignore"):
        wanted, got = (combiner.extract_output(accumulate(some)) for accumulate in (by_rows, by_columns))
    if not _same(wanted, got):
        raise _NotByColumns("the short cut gives other figures than TFMA")


def _same(one: Any, other: Any) -> bool:
    """Whether two results are equal up to rounding, whatever they are made of."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, _NUMBERS) and isinstance(other, _NUMBERS):
        got, wanted = np.asarray(other, np.float64), np.asarray(one, np.float64)
        return got.shape == wanted.shape and bool(np.allclose(got, wanted, rtol=_TOLERANCE, atol=0, equal_nan=True))
    attributes = _attributes(one)
    return _same(attributes, _attributes(other)) if attributes and type(one) is type(other) else bool(one == other)


def _attributes(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in [*getattr(one, "__slots__", ()), *getattr(one, "__dict__", ())]}
