"""One run at a time on a root: between processes, and for no longer than the process lives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runners.local.lock import exclusive
from schemas.errors import RootLockedError
from tests.workbench import REPOSITORY

HOLD = """
import sys
from pathlib import Path
from runners.local.lock import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Starts a process that holds a root until its input ends."""
    started: list[subprocess.Popen[str]] = []

    def start(root: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_process_is_refused(tmp_path, holder) -> None:
    """The root and the process that holds it are named, with what to do; afterwards the root is free."""
    root = tmp_path / "pipelines" / "taxi"
    root.mkdir(parents=True)
    (root / ".lock").write_text("123456789 of an earlier run\n")
    process = holder(root)
    with pytest.raises(RootLockedError) as refusal, exclusive(root):
        pytest.fail("two hold the root")
    assert str(refusal.value) == (
        f"{root}: another run holds this pipeline root (process {process.pid}). "
        "Wait for it to end, or give this run a root of its own: --root DIR."
    )
    process.communicate("")
    with exclusive(root):
        pass


def test_another_root_is_free(tmp_path, holder) -> None:
    """Each root has a lock of its own."""
    holder(tmp_path / "one")
    with exclusive(tmp_path / "other"):
        pass


def test_the_lock_dies_with_a_killed_process(tmp_path, holder) -> None:
    """Nothing needs to be cleaned up after a kill, though the file still names the dead."""
    process = holder(tmp_path)
    process.kill()
    process.wait()
    assert (tmp_path / ".lock").read_text() == f"{process.pid}\n"
    with exclusive(tmp_path):
        pass


def test_an_error_lets_go(tmp_path) -> None:
    """Whatever ends the run."""
    with pytest.raises(ValueError, match="of the run"), exclusive(tmp_path):
        raise ValueError("of the run")
    with exclusive(tmp_path):
        pass


def test_one_process_holds_it_once(tmp_path) -> None:
    """A second run within the same process is refused as well."""
    with exclusive(tmp_path), pytest.raises(RootLockedError), exclusive(tmp_path):
        pytest.fail("held twice")
