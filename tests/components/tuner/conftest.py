"""A search that was killed and gone on with, on the tiny data set, made once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.tuner.search import Files, Places, Sections, search
from schemas.config import GatesConfig, ModelConfig, TrainingConfig
from schemas.tuning import Search

_DEADLINE_S = 240
_SPACE = {"units": {"choices": [4, 5000]}, "behaviour": {"choices": ["fine", "raises", "dies"]}}
SECTIONS = Sections(
    ModelConfig(module="tests.resources.tuned_model", label="label", hyperparameters={"units": 4, "behaviour": "fine"}),
    TrainingConfig.model_validate(
        {
            "backend": "keras3",
            "global_batch_size": 8,
            "epochs": 3,
            "early_stopping": {"metric": "val_loss"},
            "tune": {"trials": 6, "objective": "binary_accuracy", "space": _SPACE, "parallel": 2},
        },
        strict=False,
    ),
    GatesConfig.model_validate(
        {"satisfy": [{"metric": "parameters", "max": 1000}, {"metric": "size_mb", "max": 5}]}, strict=False
    ),
)
PLACES = Places(({"CUDA_VISIBLE_DEVICES": "-1"},) * 2, 1)


@dataclass(frozen=True)
class CutOff:
    """What was there after the search had been killed, and what came of it in the end.

    Attributes:
        before: numbers of the trials that had ended.
        orphans: command lines of workers that outlived the search.
        found: the record.
    """

    before: list[int]
    orphans: list[str]
    found: Search


@pytest.fixture(scope="session")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> CutOff:
    """There is no `eval` split: whoever opened it would fail."""
    from components.tuner.study import Rules, Study
    from tests.components.trainer.tiny import write_tiny

    tiny = write_tiny(tmp_path_factory.mktemp("tuner"))
    assert not (tiny.folder / "Split-eval").exists()
    folder = tiny.folder / "search"
    code = (
        "import sys; from pathlib import Path; from tests.components.tuner.conftest import begin; "
        "begin(Path(sys.argv[1]))"
    )
    root = Path(__file__).parents[3]
    runner = subprocess.Popen(
        [sys.executable, "-c", code, str(tiny.folder)], cwd=root, env={**os.environ, "PYTHONPATH": str(root)}
    )
    try:
        _until(lambda: _ended_in(folder / "study.log") >= 1, runner)
    finally:
        runner.send_signal(signal.SIGKILL)
        runner.wait()
    orphans = _workers_of(folder)
    tune = SECTIONS.tune
    before = Study(folder / "study.log", Rules(tune.space, tune.better, 0, tune.trials, 3)).ended()
    found = begin(tiny.folder)
    return CutOff([one.number for one in before], orphans, found)


def begin(tiny: Path) -> Search:
    """Begins the search, or goes on with it."""
    return search(
        SECTIONS, Files(tiny, tiny, tiny / "schema.pbtxt", sys.path), PLACES, tiny / "search", tiny / "scratch"
    )


def _until(condition: object, runner: subprocess.Popen[bytes]) -> None:
    assert callable(condition)
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        assert runner.poll() is None, "the search ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _ended_in(journal: Path) -> int:
    return journal.read_text(encoding="utf-8").count('"record"') if journal.exists() else 0


def _workers_of(folder: Path) -> list[str]:
    """Command lines of the processes that work below a folder, once the kernel has had a moment to end them."""
    deadline = time.monotonic() + 120
    while True:
        found = []
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if "components.tuner.worker" in line and str(folder) in line:
                found.append(line)
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)
