"""Workers are started when they are needed, or before, where that is known; and end with their context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runners.local import workers as workers_module
from runners.local.template import Done
from runners.local.workers import Workers, compiled_in, logs_of, started_early


class Started:
    """Stands for the worker template: tells what was asked of it."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def __call__(self, log: Path, path: list[str]) -> Started:
        log.write_text("a warning of an import")
        self.told.append("start")
        return self

    def submit(self, work: str, job: str, arguments: dict[str, Any], log: Path) -> None:
        self.told.append(work)

    def wait(self, timeout_s: float | None = None) -> Done:
        return Done("a", {}, 0, 1.0, 1.0)

    def close(self, grace_s: float = 0.0) -> None:
        self.told.append("close")


@pytest.fixture
def template(monkeypatch) -> Started:
    started = Started()
    monkeypatch.setattr(workers_module, "Template", started)
    return started


@pytest.fixture
def root(tmp_path) -> Path:
    """A pipeline root in which a run has a folder for its logs."""
    logs_of(tmp_path, "run-1").mkdir(parents=True)
    return tmp_path


def test_a_first_run_has_its_workers_started_at_once(template, root) -> None:
    """And they are those that its work goes to."""
    with started_early(root, "run-1", root) as workers:
        assert template.told == ["start"]
        workers.submit("a", "module:job", {}, logs_of(root, "run-1") / "a.log")
        assert workers.wait() is not None
    assert template.told == ["start", "a", "close"]
    assert (logs_of(root, "run-1") / "template.log").is_file()


def test_a_run_that_may_reuse_everything_starts_none_before_there_is_work(template, root) -> None:
    """Something was compiled in its root before."""
    compiled_in(root).mkdir(parents=True)
    (compiled_in(root) / "a.pb").touch()
    with started_early(root, "run-1", root) as workers:
        assert template.told == []
        workers.submit("a", "module:job", {}, logs_of(root, "run-1") / "a.log")
    assert template.told == ["start", "a", "close"]


def test_a_run_that_is_refused_leaves_nothing_of_its_workers(template, root) -> None:
    """Neither what they said while they imported, nor a folder that was not there."""
    with started_early(root, "run-1", root):
        pass
    assert template.told == ["start", "close"]
    assert not list(logs_of(root, "run-1").iterdir())
    with started_early(root, "run-2", root):
        pass
    assert not logs_of(root, "run-2").exists()
    assert template.told == ["start", "close"]


def test_workers_without_work_end_without_a_word(template, tmp_path) -> None:
    """None was started."""
    Workers(tmp_path / "logs", []).close()
    assert template.told == []
    assert not (tmp_path / "logs").exists()
