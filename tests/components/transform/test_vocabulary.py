"""Words pruned, put in order and written; `test_parity` holds all of it against Beam."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_transform.analyzers import _VocabOrderingType as Ordering

from components.transform import vocabulary

WORDS = [(3, b"c"), (3, b"a"), (1, b"b"), (7, b"d")]
DUMMY = b"49d0cd50-04bb-48c0-bc6f-5b575dce351a"


def pruning(**changed):
    defaults = {
        "top_k": None,
        "frequency_threshold": 0,
        "informativeness_threshold": float("-inf"),
        "coverage_top_k": None,
        "coverage_frequency_threshold": 0,
        "coverage_informativeness_threshold": float("-inf"),
        "key_fn": None,
        "input_dtype": "string",
    }
    return SimpleNamespace(**defaults | changed)


def writing(**changed):
    defaults = {
        "fingerprint_shuffle": False,
        "input_is_sorted": False,
        "store_frequency": False,
        "input_dtype": "string",
    }
    return SimpleNamespace(**defaults | changed)


@given(st.lists(st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=6), max_size=5))
def test_counts_do_not_depend_on_the_batches(batches):
    """Counted in one accumulator, or in one for each batch and merged."""
    one = vocabulary.accumulator_for(Ordering.FREQUENCY)
    pieces = []
    for batch in batches:
        one.add((np.array(batch, object),))
        piece = vocabulary.accumulator_for(Ordering.FREQUENCY)
        piece.add((np.array(batch, object),))
        pieces += piece.elements()
    merged = vocabulary.merge(one.elements(), Ordering.FREQUENCY, adjusted=False, min_difference=None)
    assert sorted(merged) == sorted(vocabulary.merge(pieces, Ordering.FREQUENCY, adjusted=False, min_difference=None))


def test_thresholds_and_top_k():
    """Rare words go first, then all but the most frequent; equals by the word."""
    assert vocabulary.prune(WORDS, pruning()) == WORDS
    assert vocabulary.prune(WORDS, pruning(frequency_threshold=3)) == [(3, b"c"), (3, b"a"), (7, b"d")]
    assert vocabulary.prune(WORDS, pruning(top_k=2)) == [(7, b"d"), (3, b"c")]
    assert vocabulary.prune(WORDS, pruning(top_k=2, frequency_threshold=8)) == [(1, DUMMY)]
    told = [((0.5, 3), b"a"), ((0.1, 9), b"b")]
    assert vocabulary.prune(told, pruning(informativeness_threshold=0.2)) == [(0.5, b"a")]
    assert vocabulary.prune([(2, 10), (1, 9)], pruning(input_dtype="int64")) == [(2, b"10"), (1, b"9")]


def test_words_that_cover_a_key_are_kept():
    """The most frequent of each key, beside the most frequent of all; each once."""
    words = [(9, b"a1"), (8, b"a2"), (1, b"b1"), (2, b"b2")]
    operation = pruning(top_k=1, coverage_top_k=1, key_fn=lambda word: word[:1])
    assert vocabulary.prune(words, operation) == [(9, b"a1"), (2, b"b2")]


@pytest.mark.parametrize("name", ["top_k", "frequency_threshold", "coverage_top_k", "coverage_frequency_threshold"])
def test_a_limit_below_zero_is_refused(name):
    """By its name."""
    with pytest.raises(ValueError, match=f"^{name} of a vocabulary must be >= 0 or None, got -1"):
        vocabulary.prune(WORDS, pruning(**{name: -1}))


def test_the_order_of_the_lines():
    """By measure, then by the word, both downwards; by a hash; or as they come; reserved words first and once."""
    assert vocabulary.lines(WORDS, writing(), None) == [b"d", b"c", b"a", b"b"]
    assert vocabulary.lines(WORDS, writing(store_frequency=True), None) == [b"7 d", b"3 c", b"3 a", b"1 b"]
    assert vocabulary.lines(WORDS, writing(input_is_sorted=True), None) == [b"c", b"a", b"b", b"d"]
    assert vocabulary.lines(WORDS, writing(input_is_sorted=True), [b"?", b"c"]) == [b"?", b"c", b"d", b"a", b"b"]
    assert sorted(vocabulary.lines(WORDS, writing(fingerprint_shuffle=True), None)) == [b"a", b"b", b"c", b"d"]
    assert vocabulary.lines([], writing(), None) == [DUMMY]


def test_mutual_information_without_a_label_is_an_error():
    """Words without the counts of the label over all rows."""
    words = vocabulary.accumulator_for(Ordering.MUTUAL_INFORMATION)
    words.add((np.array([b"a"], object), np.array([[1.0, 2.0]]), np.array([3])))
    with pytest.raises(ValueError, match="lacks the counts of its label"):
        vocabulary.merge(words.elements(), Ordering.MUTUAL_INFORMATION, adjusted=False, min_difference=None)
    assert vocabulary.merge([], Ordering.MUTUAL_INFORMATION, adjusted=False, min_difference=None) == []
