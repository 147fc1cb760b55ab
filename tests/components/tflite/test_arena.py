"""The arena holds what is held at once, and no more than it must."""

from hypothesis import given
from hypothesis import strategies as st

from components.tflite.arena import Span, arena_bytes, layout, spans
from serving import tflite_file

held = st.lists(
    st.tuples(st.integers(1, 500), st.integers(0, 8), st.integers(0, 8)).map(
        lambda found: Span(found[0], min(found[1:]), max(found[1:]))
    ),
    max_size=12,
)


@given(held)
def test_between_what_is_held_at_once_and_all_of_it(found):
    """Never less than the fullest step needs, never more than no reuse at all with its alignment."""
    fullest = max((sum(s.size for s in found if s.first <= step <= s.last) for step in range(9)), default=0)
    assert fullest <= layout(found) <= sum(-(-span.size // 64) * 64 for span in found)


def test_memory_is_used_again():
    """Two tensors that never meet share their place."""
    assert layout([Span(64, 0, 1), Span(64, 2, 3)]) == 64
    assert layout([Span(64, 0, 2), Span(64, 2, 3)]) == 128


def test_of_a_file(ladder):
    """Arguments, results and what lies between; eight bits take a quarter of the place of 32 but for the integers."""
    plain, whole = (tflite_file.read(ladder.file(name)) for name in ("float32", "int8"))
    assert 32 * 4 * 2 <= arena_bytes(plain) < 4000
    assert arena_bytes(whole) < arena_bytes(plain)
    assert max(span.last for span in spans(plain.graphs[0])) == len(plain.graphs[0].operators)
