"""The noise goes to the log, what is meant for a person to the screen, and afterwards all is as it was."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from runners.local.quiet import noise_to


def open_descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def test_what_c_code_writes_goes_to_the_log(tmp_path, capfd) -> None:
    """Descriptors 1 and 2, whether Python, the C library or a child process writes to them."""
    log = tmp_path / "logs" / "run.log"
    libc = ctypes.CDLL(None)
    with noise_to(log) as screen:
        libc.write(1, b"from C, 1\n", 10)
        libc.write(2, b"from C, 2\n", 10)
        subprocess.run([sys.executable, "-S", "-c", "print('from a child')"], check=True)
        screen.write("for a person\n")
    assert log.read_text() == "from C, 1\nfrom C, 2\nfrom a child\n"
    seen = capfd.readouterr()
    assert (seen.out, seen.err) == ("for a person\n", "")


def test_the_log_is_continued(tmp_path) -> None:
    """What was there stays."""
    log = tmp_path / "run.log"
    log.write_text("earlier\n")
    with noise_to(log):
        os.write(1, b"later\n")
    assert log.read_text() == "earlier\nlater\n"


def test_no_log_throws_the_noise_away(capfd) -> None:
    """And still lets the screen through."""
    with noise_to(None) as screen:
        os.write(2, b"noise\n")
        screen.write("said\n")
    assert capfd.readouterr() == ("said\n", "")


def test_restored_after_an_exception(tmp_path, capfd) -> None:
    """Both descriptors are what they were, and none is left open."""
    places, before = [os.fstat(1), os.fstat(2)], open_descriptors()
    with pytest.raises(ValueError, match="of the run"), noise_to(tmp_path / "run.log"):
        raise ValueError("of the run")
    assert [os.fstat(1).st_ino, os.fstat(2).st_ino] == [place.st_ino for place in places]
    assert open_descriptors() == before
    os.write(1, b"out again\n")
    assert capfd.readouterr().out == "out again\n"


def test_restored_where_the_log_cannot_be_made(tmp_path, capfd) -> None:
    """The error is the caller's; no descriptor is lost on the way."""
    (tmp_path / "file").touch()
    before = open_descriptors()
    with pytest.raises(OSError, match="file"), noise_to(tmp_path / "file" / "run.log"):
        pytest.fail("there is no such folder")
    assert open_descriptors() == before


def test_the_screen_takes_any_text(tmp_path, capfd) -> None:
    """In UTF-8, whatever the locale says, and at once."""
    with noise_to(tmp_path / "run.log") as screen:
        screen.write("✓ ≥ 0.5\n")
        assert capfd.readouterr().out == "✓ ≥ 0.5\n"
