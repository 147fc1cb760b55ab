"""What a failed node says: the cause, and not where in a library it came up."""

import pytest

from runners.local.jobs import cause_of
from schemas.errors import DataError

OF_A_GRAPH = """Graph execution error:

Detected at node while/mean_squared_error/Cast defined at (most recent call last):
  File "<frozen runpy>", line 198, in _run_module_as_main

  File "/somewhere/training.py", line 1804, in fit

Cast string to float is not supported
\t [[{{node while/mean_squared_error/Cast}}]] [Op:__inference_train_function_1]"""

OF_AUTOGRAPH = """in user code:

    File "/somewhere/training.py", line 1439, in train_function  *
        for _ in tf.range(self._steps_per_execution):
    File "/somewhere/mine.py", line 3, in call
        return self.dense(inputs)

    ValueError: Shapes (None, 1) and (None, 3) are incompatible
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            OF_A_GRAPH,
            "ValueError: Graph execution error: Cast string to float is not supported "
            "[[{{node while/mean_squared_error/Cast}}]] [Op:__inference_train_function_1]",
        ),
        (OF_AUTOGRAPH, "ValueError: ValueError: Shapes (None, 1) and (None, 3) are incompatible"),
        ("a  plain\n    one", "ValueError: a plain one"),
        ('  File "x.py", line 3, in f', 'ValueError: File "x.py", line 3, in f'),
        ("", "ValueError: "),
    ],
)
def test_frames_of_libraries_are_left_out(text: str, told: str) -> None:
    """TensorFlow puts them before what it has to say, which is then cut off."""
    assert cause_of(ValueError(text)) == told


def test_ours_counts_before_what_is_wrapped_around_it() -> None:
    """And a foreign one is bounded."""
    wrapper = RuntimeError("in a library")
    wrapper.__cause__ = DataError("rides.csv", "is gone")
    assert cause_of(wrapper) == "rides.csv: is gone"
    assert len(cause_of(ValueError("x" * 5000))) < 450
