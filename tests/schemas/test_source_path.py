"""What TFX's placeholders are in a source's path; what they find is in `tests/components/example_gen/test_spans.py`."""

import pytest

from schemas.source_path import uses_spans


@pytest.mark.parametrize(
    ("path", "has"),
    [
        ("data/{SPAN}/*.csv", True),
        ("data/{YYYY}-{MM}-{DD}.csv", True),
        ("v{VERSION:2}.csv", True),
        ("data/*.csv", False),
        ("data/{a,b}.csv", False),
        ("", False),
    ],
)
def test_uses_spans(path, has):
    """Only TFX's placeholders are spans; other braces are part of the name."""
    assert uses_spans(path) is has
