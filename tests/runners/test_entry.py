"""What every command does with wrong usage, a full disk behind its output, and an output that is closed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workbench import REPOSITORY, Bench, satisfice

FULL = Path("/dev/full")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rum"], "No such command 'rum'"),
        (["runs", "--jsn"], "No such option: --jsn"),
        (["rollback", "--to", "one", "--reason", "r"], "Invalid value for '--to'"),
        (["deploy", "rendr"], "No such command 'rendr'"),
    ],
)
def test_wrong_usage_as_json(arguments: list[str], words: str) -> None:
    """One document on standard output, and nothing else."""
    answer = satisfice(*arguments, "--json")
    assert (answer.code, answer.err) == (2, "")
    assert (answer.json["error"], answer.json["exit_code"]) == ("ConfigError", 2)
    (fault,) = answer.json["faults"]
    assert words in fault["problem"]


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("option", [[], ["--json"]])
def test_output_that_takes_no_more(fresh_taxi: Bench, option: list[str]) -> None:
    """Is said on standard error in one line; so is standard error's own, by the exit code."""
    with FULL.open("w") as full:
        done = _process(fresh_taxi, *option, stdout=full, stderr=subprocess.PIPE)
        assert (done.returncode, done.stderr) == (1, "error: the output: No space left on device\n")
        assert _process(fresh_taxi, *option, stdout=full, stderr=full).returncode == 1


def test_output_that_is_closed(fresh_taxi: Bench) -> None:
    """No file of ours gets the number of a stream, and nothing is raised."""
    command = f"{sys.executable} -c 'from runners.cli import main; main()' versions {fresh_taxi.config}"
    for closed in (">&-", "<&- >&-"):
        done = subprocess.run(["sh", "-c", f"{command} {closed}"], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
        assert (done.returncode, done.stderr) == (0, "")
    assert subprocess.run(["sh", "-c", f"{command} >&- 2>&-"], cwd=REPOSITORY).returncode == 0


def _process(bench: Bench, *options: str, **streams: object) -> subprocess.CompletedProcess[str]:
    code = "from runners.cli import main; main()"
    command = [sys.executable, "-c", code, "versions", str(bench.config), *options]
    return subprocess.run(command, text=True, cwd=REPOSITORY, env=dict(os.environ), **streams)  # type: ignore[call-overload,no-any-return]
