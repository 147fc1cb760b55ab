"""What the members of a group that failed have written stays, and the error says where."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from components import progress
from components.trainer.cluster import Task, raise_what_stays
from components.trainer.kept_logs import logs_kept
from schemas.errors import SatisficeError


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The output folder of a node, with the logs of two members, of which one has failed for good."""
    logs = tmp_path / "Trainer" / "model_run" / "7" / "workers"
    logs.mkdir(parents=True)
    for name in ("worker-0", "worker-1"):
        (logs / f"{name}.log").write_text(f"of {name}\n")
    (logs / "worker-1.failure.json").write_text('{"error": null, "retry": false, "cause": "ValueError: no"}')
    return logs.parent


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[Path]:
    """Where the node reports, beside its own log."""
    found = tmp_path / "logs" / "run" / "Trainer.progress"
    found.parent.mkdir(parents=True)
    progress.report_to(found)
    yield found
    progress.report_to(None)


def fail(output: Path) -> SatisficeError:
    """What a failing training raises; TFX then removes the node's output."""
    logs = output / "workers"
    with pytest.raises(SatisficeError) as caught, logs_kept(logs):
        raise_what_stays([Task("worker", 0), Task("worker", 1)], logs)
    shutil.rmtree(output)
    return caught.value


def test_beside_the_log_of_the_node(output: Path, channel: Path) -> None:
    """The message, its remedy and its JSON name a file that is there; what an attempt before left there is gone."""
    kept = channel.parent / "Trainer.workers"
    kept.mkdir()
    (kept / "chief-0.log").write_text("of an attempt before")
    error = fail(output)
    assert error.remedy == f"Its log is {kept / 'worker-1.log'}."
    assert str(error).endswith(error.remedy)
    assert error.as_dict()["remedy"] == error.remedy
    assert {one.name: one.read_text() for one in kept.iterdir()} == {
        "worker-0.log": "of worker-0\n",
        "worker-1.log": "of worker-1\n",
    }


def test_beside_the_output_where_the_node_has_no_log_of_its_own(output: Path) -> None:
    """So under TFX's own runner, and in a container whose volume outlives it."""
    error = fail(output)
    kept = output.with_name("7.workers")
    assert error.remedy == f"Its log is {kept / 'worker-1.log'}."
    assert (kept / "worker-1.log").read_text() == "of worker-1\n"


def test_what_cannot_be_kept_hides_no_failure(output: Path, channel: Path) -> None:
    """The error is the training's, and says what it said."""
    (channel.parent / "Trainer.workers").write_text("a file in the way")
    error = fail(output)
    assert "ValueError: no" in str(error)
    assert str(output / "workers" / "worker-1.log") in error.remedy


def test_nothing_is_kept_of_what_went_well(output: Path, channel: Path) -> None:
    """The logs lie in the node's output then."""
    with logs_kept(output / "workers"):
        pass
    assert list(channel.parent.iterdir()) == []
