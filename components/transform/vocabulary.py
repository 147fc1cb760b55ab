"""Vocabularies as tf.Transform makes them: words counted, merged, pruned, put in order and written.

Follows `_VocabularyAccumulateImpl`, `_VocabularyMergeImpl`, `_VocabularyPruneImpl` and `_VocabularyOrderAndWriteImpl` of
`tensorflow_transform.beam.analyzer_impls`, whose formulas for mutual information are called as they stand.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_transform import analyzers, tf_utils
from tensorflow_transform.analyzers import _VocabOrderingType as Ordering
from tensorflow_transform.beam.analyzer_impls import (
    _calculate_mutual_information_for_feature_value as mutual_information,
)
from tensorflow_transform.beam.analyzer_impls import _count_and_token_to_bytes as count_and_word
from tensorflow_transform.beam.analyzer_impls import _flatten_to_key_and_means_accumulator_list as means_of
from tensorflow_transform.beam.analyzer_impls import _WeightedMeanCombineFn as WeightedMean
from tensorflow_transform.beam.analyzer_impls import maybe_add_empty_vocabulary_dummy

__all__ = ["ORDERINGS", "accumulator_for", "lines", "merge", "prune", "write"]

_INFORMATION = (Ordering.MUTUAL_INFORMATION, Ordering.WEIGHTED_MUTUAL_INFORMATION)
ORDERINGS = frozenset({Ordering.FREQUENCY, Ordering.WEIGHTED_FREQUENCY, *_INFORMATION})
"""What is supported. The one that is left out (labelled weights) belongs to an experimental transform."""

_SENTINELS = (tf_utils.GLOBAL_Y_COUNT_SENTINEL_STRING, tf_utils.GLOBAL_Y_COUNT_SENTINEL_INT)
"""In a word's place: it carries the counts of the label over all rows."""

Pairs = list[tuple[Any, Any]]


# --- counting ---------------------------------------------------------------------------------------------------------


class _Frequencies:
    """How often each word is there."""

    def __init__(self) -> None:
        self._counts: Counter[Any] = Counter()

    def add(self, values: Sequence[npt.NDArray[Any]]) -> None:
        (words,) = values
        self._counts.update(words.tolist())

    def elements(self) -> Pairs:
        return list(self._counts.items())


class _Weights:
    """The sum of the weights of each word."""

    def __init__(self) -> None:
        self._sums: defaultdict[Any, float] = defaultdict(int)

    def add(self, values: Sequence[npt.NDArray[Any]]) -> None:
        words, weights = values
        for word, weight in zip(words.tolist(), weights.tolist(), strict=True):
            self._sums[word] += weight

    def elements(self) -> Pairs:
        return list(self._sums.items())


class _Means:
    """For each word the weighted means of the label's classes."""

    def __init__(self, weighted: bool) -> None:
        self._weighted = weighted
        self._combiner = WeightedMean(output_shape=(None,), compute_weighted=weighted)
        self._means: dict[Any, Any] = {}

    def add(self, values: Sequence[npt.NDArray[Any]]) -> None:
        for word, mean in means_of(values, compute_weighted=self._weighted):
            known = self._means[word] if word in self._means else self._combiner.create_accumulator()
            self._means[word] = self._combiner.add_input(known, mean)

    def elements(self) -> Pairs:
        return [(word, self._combiner.extract_output(mean)) for word, mean in self._means.items()]


def accumulator_for(ordering: int) -> _Frequencies | _Weights | _Means:
    """A new accumulator for a vocabulary of that ordering."""
    if ordering in _INFORMATION:
        return _Means(weighted=ordering == Ordering.WEIGHTED_MUTUAL_INFORMATION)
    return _Weights() if ordering == Ordering.WEIGHTED_FREQUENCY else _Frequencies()


# --- merging ----------------------------------------------------------------------------------------------------------


def merge(pairs: Pairs, ordering: int, adjusted: bool, min_difference: float | None) -> Pairs:
    """The words of all accumulators, each once.

    Args:
        pairs: (word, accumulated) of every accumulator.
        ordering: of the vocabulary.
        adjusted, min_difference: as `tft.vocabulary` takes them; for mutual information only.

    Returns:
        (measure, word); the measure is a count, a sum of weights, or (information, frequency).
    """
    if ordering in _INFORMATION:
        weighted = ordering == Ordering.WEIGHTED_MUTUAL_INFORMATION
        return _informative(_merged_means(pairs, weighted), adjusted, min_difference)
    totals: defaultdict[Any, float] = defaultdict(int)
    for word, count in pairs:
        totals[word] += count
    return [(count, word) for word, count in totals.items()]


def _merged_means(pairs: Pairs, weighted: bool) -> dict[Any, Any]:
    combiner = WeightedMean(output_shape=(None,), compute_weighted=weighted)
    merged: dict[Any, Any] = {}
    for word, mean in pairs:
        known = merged[word] if word in merged else combiner.create_accumulator()
        merged[word] = combiner.add_input(known, mean)
    return {word: combiner.extract_output(mean) for word, mean in merged.items()}


def _informative(means: dict[Any, Any], adjusted: bool, min_difference: float | None) -> Pairs:
    of_all = next((mean for word, mean in means.items() if word in _SENTINELS), None)
    words = [(word, mean) for word, mean in means.items() if word not in _SENTINELS]
    if of_all is None:
        if words:
            raise ValueError("a vocabulary by mutual information lacks the counts of its label")
        return []
    if min_difference is None:
        min_difference = analyzers.calculate_recommended_min_diff_from_avg(of_all.count * of_all.weight)
    result = []
    for pair in words:
        word, (information, _expected, frequency) = mutual_information(
            pair, of_all, use_adjusted_mutual_info=adjusted, min_diff_from_avg=min_difference
        )
        result.append(((information, frequency), word))
    return result


# --- pruning ----------------------------------------------------------------------------------------------------------


def prune(words: Pairs, operation: Any) -> Pairs:
    """The words that are often and telling enough, as (measure, word).

    Args:
        words: (measure, word) of each.
        operation: a `VocabularyPrune`.
    """
    _check_limits(operation)
    kept = _above(words, operation.frequency_threshold, operation.informativeness_threshold, operation.input_dtype)
    if operation.top_k is not None:
        kept = maybe_add_empty_vocabulary_dummy(heapq.nlargest(operation.top_k, kept), operation.input_dtype)
    if not operation.key_fn:
        return kept
    covering = _above(
        words,
        operation.coverage_frequency_threshold,
        operation.coverage_informativeness_threshold,
        operation.input_dtype,
    )
    if operation.coverage_top_k is not None:
        covering = _largest_per_key(covering, operation.key_fn, operation.coverage_top_k)
    return list(dict.fromkeys([*kept, *covering]))


def _check_limits(operation: Any) -> None:
    for name in ("top_k", "frequency_threshold", "coverage_top_k", "coverage_frequency_threshold"):
        value = getattr(operation, name)
        if value is not None and value < 0:
            raise ValueError(f"{name} of a vocabulary must be >= 0 or None, got {value}")


def _above(words: Pairs, frequency: float, information: float, dtype: str) -> Pairs:
    """The words within the thresholds, with the first of their measures, as bytes."""
    if frequency > 0 or information > float("-inf"):
        words = [pair for pair in words if _within(pair[0], frequency, information)]
    words = [(measure[0] if isinstance(measure, tuple) else measure, word) for measure, word in words]
    if dtype != tf.string.name:
        words = [(measure, tf.compat.as_bytes(tf.compat.as_str_any(word))) for measure, word in words]
    return words


def _within(measure: Any, frequency: float, information: float) -> bool:
    informative, count = measure if isinstance(measure, tuple) else (float("inf"), measure)
    return bool(count >= frequency and informative >= information)


def _largest_per_key(words: Pairs, key_of: Any, top_k: int) -> Pairs:
    by_key: defaultdict[Any, Pairs] = defaultdict(list)
    for measure, word in words:
        by_key[key_of(word)].append((float(measure) if isinstance(measure, np.float64) else measure, word))
    return [pair for pairs in by_key.values() for pair in heapq.nlargest(top_k, pairs)]


# --- writing ----------------------------------------------------------------------------------------------------------


def lines(words: Pairs, operation: Any, reserved: Iterable[bytes] | None) -> list[bytes]:
    """A vocabulary's lines: the most frequent or most telling first, equals by the word, later letters first.

    Args:
        words: (measure, word), pruned.
        operation: a `VocabularyOrderAndWrite`.
        reserved: words that come first, whether they were seen or not.
    """
    first = list(reserved) if reserved is not None else []
    taken = set(first)
    words = [pair for pair in words if pair[1] not in taken]
    if operation.input_is_sorted and reserved is None:
        pass  # and may be no tuples
    elif operation.fingerprint_shuffle:
        words.sort(key=lambda pair: hashlib.sha1(pair[1], usedforsecurity=False).digest())
    else:
        words.sort(reverse=True)
    words = maybe_add_empty_vocabulary_dummy([*((-1, word) for word in first), *words], operation.input_dtype)
    return [count_and_word(measure, word) if operation.store_frequency else word for measure, word in words]


def write(words: Sequence[bytes], file: Path, file_format: str) -> Path:
    """Writes a vocabulary and gives the file's name, to which a format of records adds its suffix."""
    if file_format == "tfrecord_gzip":
        file = file.with_name(f"{file.name}.tfrecord.gz")
        with tf.io.TFRecordWriter(str(file), "GZIP") as writer:
            for word in words:
                writer.write(word)
    else:
        with file.open("wb") as text:
            text.writelines(word + b"\n" for word in words)
    return file
