"""The section is made of what was measured: medians, a ratio for each turn, and what was not run is said."""

from __future__ import annotations

import pytest

from bench import distributed
from bench.distributed import CASES, section
from schemas.config import TrainingConfig


def measured(way: str, rate: float) -> dict[str, object]:
    about = {"cpu_s_per_million": 3.0, "parameters": 7973} if way == "ours" else {"cpu_s_per_million": 2.0}
    return {"model": "taxi", "way": way, "examples_per_s": rate, "whole_examples_per_s": rate / 2, **about}


def test_each_turn_has_its_ratio() -> None:
    """The median of them stands first."""
    turns = [measured("ours", 90.0), measured("bare", 100.0), measured("bare", 200.0), measured("ours", 220.0)]
    text = section({"one_device": [*turns, measured("ours", 95.0), measured("bare", 100.0)]}, "a machine", "a command")
    assert "| one_device | taxi | 95 | 100 | **0.95** (0.90, 1.10, 0.95) | 0.95 | 1.50 |" in text
    assert "taxi (7,973 parameters)" in text
    assert "a machine. `a command`" in text


def test_what_was_not_run_is_said() -> None:
    """A GPU is not at hand everywhere."""
    assert "| mirrored over GPUs |  | not run: no GPU |" in section({"mirrored over GPUs": None}, "", "")


@pytest.mark.parametrize(
    ("asked", "recorded"), [([], True), (["--cases", "one_device"], False), (["--models", "taxi"], False)]
)
def test_a_part_of_the_cases_does_not_take_the_place_of_all(
    asked: list[str], recorded: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is printed."""
    written: list[str] = []
    monkeypatch.setattr("sys.argv", ["bench.distributed", *asked])
    monkeypatch.setattr(distributed, "_run", lambda name, models, turns: [measured(w, 9.0) for w in ("ours", "bare")])
    monkeypatch.setattr(distributed, "write_section", lambda name, text: written.append(name))
    distributed.main()
    assert bool(written) is recorded
    assert "| one_device | taxi | 9 | 9 |" in capsys.readouterr().out


def test_a_script_trains_by_fit_where_it_can() -> None:
    """Keras 3 in one process does; its loop of its own would be another script."""
    by_loop = [
        name for name, case in CASES.items() if distributed._has_no_fit(TrainingConfig.model_validate(case.training))
    ]
    assert by_loop == ["multi_worker_mirrored, 2 workers, Keras 3", "parameter_server, 1 server, 2 workers, Keras 3"]


def test_every_case_is_a_configuration() -> None:
    """That can be trained."""
    assert all(TrainingConfig.model_validate(case.training) for case in CASES.values())
