"""Workers that are ended: nothing of them is left, and another takes the place."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from components.tuner.crew import Crew
from tests.components.trainer.tiny import write_tiny
from tests.components.tuner.conftest import PLACES, SECTIONS

_DEADLINE_S = 240


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    """Whether a process is there and is more than an exit status that nobody asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_worker_is_replaced_with_all_that_it_started(tmp_path: Path) -> None:
    """It hangs in `build_model`, which has begun a process of its own; waiting for it ends in time."""
    tiny = write_tiny(tmp_path)
    work = {
        "model": SECTIONS.model.model_dump_json(by_alias=True),
        "training": SECTIONS.training.model_dump_json(by_alias=True),
        "train_files": [str(tiny.folder / "Split-train" / "*")],
        "validate_files": [str(tiny.folder / "Split-validate" / "*")],
        "transform_graph": str(tiny.folder),
        "schema": str(tiny.folder / "schema.pbtxt"),
        "path": sys.path,
        "threads": 1,
        "parallel": 1,
        "rows": str(tmp_path / "rows"),
    }
    note = tmp_path / "pids"
    with Crew(work, PLACES.environments[:1], tmp_path / "logs") as crew:
        heard = crew.wait()
        assert heard is not None
        assert heard.message is not None
        assert "ready" in heard.message
        crew.tell(0, {"do": "train", "trial": 0, "values": {"behaviour": "hangs", "note": str(note)}})
        _until(note.exists)
        worker, child = map(int, note.read_text().split())
        assert _runs(worker)
        assert _runs(child)
        assert crew.wait(0.1) is None
        crew.replace(0)
        assert not _runs(worker)
        _until(lambda: not _runs(child))
