"""Whatever a measuring process does, there is an answer or a reason in words, and no process is left."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from components.profiler.spawn import Child

MODULE = "tests.resources.child"


def test_what_a_child_answers(tmp_path: Path) -> None:
    """A JSON object, from a process of its own that knows its parent."""
    outcome = Child(MODULE, {"how": "answer"}, tmp_path, "one").wait(60)
    assert outcome.problem == ""
    assert outcome.result is not None
    assert outcome.result["parent"] == os.getpid() != outcome.result["pid"]


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("problem", "ValueError: no"),
        ("half", "its process ended with status 0 and without a result"),
        ("nothing", "its process ended with status 0 and without a result"),
        ("killed", "its process was killed by SIGKILL (out of memory?)"),
        ("crash", "its process was killed by SIGABRT"),
    ],
)
def test_what_became_of_a_child(how: str, problem: str, tmp_path: Path) -> None:
    """In words; there is no result."""
    outcome = Child(MODULE, {"how": how}, tmp_path, "one").wait(60)
    assert (outcome.result, outcome.problem) == (None, problem)


def test_a_child_that_hangs_is_stopped(tmp_path: Path) -> None:
    """After the time that it has."""
    child = Child(MODULE, {"how": "hang"}, tmp_path, "one")
    begun = time.monotonic()
    outcome = child.wait(0.5)
    assert outcome.problem == "did not answer within 0.5 s and was stopped"
    assert time.monotonic() - begun < 30
    assert child._process.poll() is not None
    child.kill()


def test_a_child_may_be_given_its_job_later(tmp_path: Path) -> None:
    """It waits for it; one that has ended before tells what became of it."""
    child = Child(MODULE, None, tmp_path, "later")
    assert not list(tmp_path.iterdir())
    child.give({"how": "answer"})
    outcome = child.wait(60)
    assert outcome.result is not None
    assert outcome.result["parent"] == os.getpid()
    ended = Child(MODULE, None, tmp_path, "gone")
    os.kill(ended._process.pid, 9)
    ended._process.wait()
    ended.give({"how": "answer"})
    assert ended.wait(60).problem == "its process was killed by SIGKILL (out of memory?)"
