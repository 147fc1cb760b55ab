"""What a node's process reports, and what is read of it."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from components import progress
from components.progress import Progress


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[Path]:
    """A file that is reported to; the process is left as it was."""
    path = tmp_path / "Node.progress"
    progress.report_to(path)
    yield path
    progress.report_to(None)


def test_what_was_counted_is_read_back(channel: Path) -> None:
    """Unit, number, total, phase and figures; the last count is never lost."""
    progress.begin("steps", 100, phase="epoch 1/2", may_end_early=True)
    progress.advance(30)
    progress.advance(5, phase="epoch 2/2", figures={"val_auc": 0.9})
    progress.advance(1)
    progress.end()
    found = progress.read(channel)
    assert found is not None
    assert (found.unit, found.done, found.total, found.may_end_early) == ("steps", 36, 100, True)
    assert (found.phase, found.figures) == ("epoch 2/2", {"val_auc": 0.9})
    assert found.at == pytest.approx(time.time(), abs=60)
    assert found.per_second == pytest.approx(36 / found.seconds)
    assert not list(channel.parent.glob("*.half"))


def test_it_is_written_a_few_times_a_second(channel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is advanced."""
    clock = [100.0]
    written: list[int] = []
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock[0], time=time.time))
    monkeypatch.setattr(progress, "_write", lambda path, found: written.append(found.done))
    progress.begin("rows")
    for _ in range(10_000):
        clock[0] += 0.0001
        progress.advance(1)
    assert 3 <= len(written) <= 5
    progress.end()
    assert written[-1] == 10_000


def test_a_new_count_begins_from_nothing(channel: Path) -> None:
    """A node that does two things one after the other has the rate of the last."""
    progress.begin("rows", 10, phase="analysis")
    progress.advance(10)
    progress.begin("rows", 0)
    progress.end()
    assert progress.read(channel) is None
    progress.advance(3)
    progress.end()
    found = progress.read(channel)
    assert found is not None
    assert (found.done, found.total, found.phase) == (3, None, "")


def test_without_a_channel_it_is_logged_now_and_then(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a runner that does not watch: a line every half minute."""
    clock = [100.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock[0], time=time.time))
    progress.report_to(None)
    progress.begin("rows", 1000)
    with caplog.at_level(logging.INFO, logger="components.progress"):
        for _ in range(100):
            clock[0] += 1.0
            progress.advance(1)
        progress.end()
    assert [record.message.split(",")[0] for record in caplog.records] == [
        "30 of 1000 rows",
        "60 of 1000 rows",
        "90 of 1000 rows",
    ]


def test_a_channel_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    """The work is what counts."""
    progress.report_to(tmp_path / "gone" / "Node.progress")
    progress.begin("rows")
    progress.advance(1)
    progress.end()
    progress.report_to(None)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"done": 1}', '{"unit": "rows", "unheard": 1}'])
def test_half_a_report_is_none(tmp_path: Path, text: str) -> None:
    """Nor is one of another version, or a file that is not there."""
    path = tmp_path / "Node.progress"
    assert progress.read(path) is None
    path.write_text(text)
    assert progress.read(path) is None


@pytest.mark.parametrize(
    ("found", "rate", "left"),
    [
        (Progress("rows", 500, 2000, 2.0), 250.0, 6.0),
        (Progress("rows", 0, 2000, 2.0), None, None),
        (Progress("rows", 500, None, 2.0), 250.0, None),
        (Progress("rows", 500, 100, 2.0), 250.0, None),
        (Progress("rows", 500, 500, 2.0), 250.0, 0.0),
        (Progress("rows", 500, 2000, 0.0), None, None),
        (Progress("rows", 500, 2000, 10.0, first=100, first_s=8.0), 50.0, 7.5),
        (Progress("rows", 100, 2000, 10.0, first=100, first_s=8.0), 10.0, None),
    ],
)
def test_rate_and_what_is_left(found: Progress, rate: float | None, left: float | None) -> None:
    """As far as they are known."""
    assert (found.per_second, found.left_s) == (rate, left)
    assert found.as_dict()["per_second"] == rate


def test_imports_nothing_heavy() -> None:
    """Every node imports it."""
    code = "import sys, components.progress; print([m for m in ('numpy', 'pydantic', 'tfx') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
