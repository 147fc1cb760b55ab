"""The study: what is proposed, what is ended early, and what is left of it after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.tuner.study import Asked, Rules, Study, first_rung
from schemas.config import DimensionConfig
from schemas.tuning import Trial, Violation

SPACE = {"rate": DimensionConfig(min=0.0, max=1.0), "units": DimensionConfig(choices=(8, 16))}
RULES = Rules(SPACE, "max", seed=3, trials=12, epochs=9)


def asked(study: Study) -> Asked:
    found = study.ask()
    assert found is not None
    return found


def ended(one: Asked, objective: float | None, state: str = "complete", epochs: int = 9) -> Trial:
    return Trial.model_validate(
        {
            "number": one.number,
            "values": one.values,
            "objective": objective,
            "epochs": epochs,
            "state": state,
            "digest": "d",
        }
    )


def over(one: Asked, objective: float) -> Trial:
    """A trial that exceeds a limit by as much as its objective is above a half."""
    limit = Violation(gate="gates.satisfy.0", metric="size_mb", value=objective + 0.5, limit=1, upper=True, unit="MB")
    return ended(one, objective, "infeasible").model_copy(update={"violations": (limit,)})


def test_the_hyperparameters_of_the_configuration_come_first(tmp_path: Path) -> None:
    """As far as the space holds them; what it does not hold is drawn."""
    study = Study(tmp_path / "log", RULES)
    study.begin_with({"rate": 0.25, "units": 99, "other": 1})
    assert asked(study).values["rate"] == 0.25


def test_the_seed_fixes_the_proposals(tmp_path: Path) -> None:
    """Two studies that hear the same propose the same; another seed proposes something else."""

    def proposals(name: str, seed: int) -> list[Asked]:
        study = Study(tmp_path / name, Rules(SPACE, "max", seed, 12, 9))
        found = []
        for _ in range(8):
            found.append(asked(study))
            study.finish(ended(found[-1], float(str(found[-1].values["rate"]))))
        return found

    assert proposals("a", 3) == proposals("b", 3)
    assert proposals("c", 4) != proposals("a2", 3)


@pytest.mark.parametrize(("better", "sign"), [("max", 1.0), ("min", -1.0)])
def test_the_worst_are_ended_at_the_first_rung(tmp_path: Path, better: str, sign: float) -> None:
    """Whichever way is better: of trials that come to a rung, one in three goes on, and never one that is behind them all."""
    study = Study(tmp_path / "log", Rules(SPACE, better, 3, 12, 9))  # type: ignore[arg-type]
    first = [asked(study) for _ in range(4)]
    went_on = [study.report(one.number, first_rung(9), sign * (10 - place)) for place, one in enumerate(first)]
    assert went_on == [True, False, False, False]
    assert study.report(asked(study).number, first_rung(9), sign * 11)


def test_what_a_gate_forbids_ends_no_other(tmp_path: Path) -> None:
    """Its objective was better at the rung, and it has ended since; what others are held against are those that may win."""
    study = Study(tmp_path / "log", RULES)
    forbidden, small, smaller = (asked(study) for _ in range(3))
    assert study.report(forbidden.number, first_rung(9), 0.9)
    study.finish(over(forbidden, 0.9))
    assert study.report(small.number, first_rung(9), 0.5)
    assert not study.report(smaller.number, first_rung(9), 0.4)


def test_the_search_does_not_go_where_a_gate_forbids(tmp_path: Path) -> None:
    """Although the objective is best there: most draws stay in the half of the space that is allowed, or near it."""
    study = Study(tmp_path / "log", Rules({"rate": SPACE["rate"]}, "max", 3, 16, 9))
    drawn = []
    for _ in range(24):
        one = asked(study)
        rate = float(str(one.values["rate"]))
        drawn.append(rate)
        study.finish(over(one, rate) if rate > 0.5 else ended(one, rate))
    assert sum(rate <= 0.5 for rate in drawn[4:]) >= 8


def test_nothing_is_ended_where_nothing_is_compared(tmp_path: Path) -> None:
    """As random search does it in the benchmark."""
    study = Study(tmp_path / "log", Rules(SPACE, "max", 3, 12, 9, "random", prunes=False))
    assert all(study.report(asked(study).number, 1, -place) for place in range(4))


def test_an_epoch_that_is_told_again_is_passed_over(tmp_path: Path) -> None:
    """A trial whose process was killed begins anew under its number."""
    study = Study(tmp_path / "log", RULES)
    leader, second = asked(study), asked(study)
    assert study.report(leader.number, 1, 5.0)
    assert study.report(leader.number, 1, 0.0)
    assert not study.report(second.number, 1, 4.0)


def test_a_set_is_trained_once_and_a_small_space_ends(tmp_path: Path) -> None:
    """Four sets are four trials, each of them different; then there is nothing left to ask for."""
    space = {"a": DimensionConfig(choices=(1, 2)), "b": DimensionConfig(choices=("x", "y"))}
    study = Study(tmp_path / "log", Rules(space, "max", 0, 20, 9))
    found = []
    while (one := study.ask()) is not None:
        found.append(one.values)
        study.finish(ended(one, 0.5))
    assert sorted(map(str, found)) == sorted(str({"a": a, "b": b}) for a in (1, 2) for b in ("x", "y"))


def test_a_study_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    """What had ended is kept as it was; what had not comes first, with the values that it had; a torn line does no harm."""
    file = tmp_path / "log"
    study = Study(file, RULES)
    first, second, third, cut_off = (asked(study) for _ in range(4))
    kept = [ended(first, 0.5), ended(second, 0.4, "pruned", 3), ended(third, None, "failed", 0)]
    for one in kept:
        study.finish(one)
    study.report(cut_off.number, 1, 0.9)
    with file.open("ab") as torn:
        torn.write(b'{"op_code": 4, "wor')
    again = Study(file, RULES)
    assert again.ended() == kept
    again.begin_with({"rate": 0.1})
    retried = asked(again)
    assert retried.values == cut_off.values
    assert retried.number > cut_off.number
    again.finish(ended(retried, 0.6))
    assert [one.objective for one in Study(file, RULES).ended()] == [0.5, 0.4, None, 0.6]


def test_nothing_in_the_journal_is_pickled(tmp_path: Path) -> None:
    """Each line is JSON."""
    import json

    file = tmp_path / "log"
    study = Study(file, RULES)
    study.finish(ended(asked(study), 0.5))
    assert all(json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())
