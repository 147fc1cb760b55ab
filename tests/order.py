"""The order of the test files where several processes share them: those that took longest first, so that none begins last.

`--renew-durations` writes what each file that runs takes into `tests/durations.json`.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

DURATIONS = Path(__file__).with_name("durations.json")


def file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def longest_first(items: list) -> None:
    """Sorts the tests by what their file took, in place, a file that is not known first; within a file the order stays."""
    seconds = json.loads(DURATIONS.read_text())
    items.sort(key=lambda item: -seconds.get(file_of(item.nodeid), math.inf))


class Recorder:
    """Adds up what the files take; on the process that hears of all tests."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report):
        self.seconds[file_of(report.nodeid)] += report.duration

    def pytest_sessionfinish(self):
        known = json.loads(DURATIONS.read_text())
        kept = {file: took for file, took in known.items() if (DURATIONS.parent.parent / file).exists()}
        found = {**kept, **{file: round(took) for file, took in self.seconds.items()}}
        longest = sorted((-took, file) for file, took in found.items())
        DURATIONS.write_text(json.dumps({file: -took for took, file in longest}, indent=2) + "\n")
