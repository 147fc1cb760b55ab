"""What a run is named, which exit code it ends with, and how an outcome comes of what the nodes left."""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from runners.local.engine import NodeResult
from runners.local.workers import MADE_OF, logs_of
from runners.run import (
    EXIT_CODES,
    Beginning,
    Options,
    Outcome,
    RunResult,
    _ended_by,
    _holds_artifacts,
    _result,
    default_root,
    new_run_id,
)
from schemas.decision import DataDecision, Decision, PushResult
from schemas.errors import RootLockedError
from schemas.load import load_config
from tests.workbench import satisfice

DECISION = Decision(outcome="push", digest="d", gates=(), reasons=())
PROCEED = DataDecision(outcome="proceed")
LOADED = SimpleNamespace(file=Path("satisfice.yaml"), folder=Path("/there"), config=SimpleNamespace(name="taxi"))
LOG = Path("logs/run.log")


def pushed(outcome: Any) -> PushResult:
    return PushResult(pushed=outcome == "pushed", outcome=outcome, digest="d", reason="so")


def outcome_of(
    *nodes: NodeResult,
    decision: Decision | None = None,
    data: DataDecision | None = None,
    push: PushResult | None = None,
) -> RunResult:
    """The outcome of a run whose lineage holds these records."""
    lineage = SimpleNamespace(
        decision=lambda run_id: decision, data_decision=lambda run_id: data, push_result=lambda run_id: push
    )
    return _result("run-1", list(nodes), lineage, Options(command="satisfice run satisfice.yaml"), LOG)


def test_run_ids_sort_by_time() -> None:
    """A later second sorts later, as text."""
    first = new_run_id()
    time.sleep(1.01)
    assert first < new_run_id()
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", first)


def test_run_ids_are_not_given_twice() -> None:
    """Not within one second either."""
    ids = [new_run_id() for _ in range(10)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("outcome", "code"), [("pushed", 0), ("already_served", 0), ("blocked", 3), ("data_blocked", 3), ("failed", 1)]
)
def test_exit_codes(outcome: Outcome, code: int) -> None:
    """0 where the best model is served, 3 where something blocked, 1 where something failed."""
    assert RunResult("r", outcome, [], None, None, None, LOG).exit_code == code


def test_every_outcome_has_an_exit_code() -> None:
    """None is forgotten."""
    assert set(EXIT_CODES) == set(get_args(Outcome))


@pytest.mark.parametrize(
    ("push", "outcome"), [("pushed", "pushed"), ("already_served", "already_served"), ("not_pushed", "blocked")]
)
def test_the_pusher_tells_the_outcome(push: str, outcome: str) -> None:
    """What it did is what came out."""
    result = outcome_of(NodeResult("Pusher", "ran", 0.1), decision=DECISION, data=PROCEED, push=pushed(push))
    assert (result.outcome, result.error) == (outcome, None)


def test_the_data_gate_blocks() -> None:
    """Nothing after it ran, and nothing failed."""
    result = outcome_of(NodeResult("Transform", "skipped", 0.0), data=DataDecision(outcome="block", reasons=("so",)))
    assert (result.outcome, result.error) == ("data_blocked", None)


def test_a_failed_node_is_the_outcome_whatever_else_was_reached() -> None:
    """The first one is named, with its own log and the command that goes on from there."""
    failed = NodeResult("Trainer", "failed", 1.0, "ValueError: odd", log=Path("logs/Trainer.log"))
    result = outcome_of(failed, NodeResult("Other", "failed", 1.0, "later"), data=PROCEED, push=pushed("pushed"))
    assert result.outcome == "failed"
    assert str(result.error) == (
        "node Trainer: ValueError: odd. The log is logs/Trainer.log. "
        "What had finished is kept: `satisfice run satisfice.yaml --resume` goes on from there."
    )


def test_an_end_without_a_decision_is_a_failure() -> None:
    """A skip is not a success."""
    result = outcome_of(NodeResult("Pusher", "skipped", 0.0, "its condition is not met"), data=PROCEED)
    assert result.outcome == "failed"
    assert "ended without a decision" in str(result.error)
    assert "logs/run.log" in str(result.error)


def test_the_root_stands_beside_the_configuration() -> None:
    """Under the pipeline's name."""
    assert default_root(LOADED) == Path("/there/pipelines/taxi")


@pytest.mark.parametrize(
    ("path", "holds"),
    [
        ("ExampleGen/.ahead/1/file", False),
        ("ExampleGen/.ahead.lock/file", False),
        ("logs/run/Trainer.log", False),
        (".engine/state", False),
        ("ExampleGen/examples/1/file", True),
    ],
)
def test_what_a_killed_runner_has_read_ahead_is_no_artifact(tmp_path: Path, path: str, holds: bool) -> None:
    """A root in which a runner died before anything ran is as good as new."""
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).touch()
    assert any(_holds_artifacts(entry) for entry in tmp_path.iterdir()) is holds


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (KeyboardInterrupt(), "interrupted by whoever started it (Ctrl-C)"),
        (SystemExit(143), "told to end (SIGTERM)"),
        (SystemExit(1), "ended: whoever read its output has closed it"),
        (ValueError("odd"), "ValueError: odd"),
    ],
)
def test_what_ended_a_run_is_told_in_words(raised, words):
    """As `show` and `runs` tell it later."""
    assert _ended_by(raised) == words


@pytest.mark.parametrize(
    ("runner", "begun", "told"),
    [
        ("local", True, "Interrupted. What had finished is kept: `{} --resume` goes on from there.\n"),
        ("local", False, "Interrupted. `{}` begins anew.\n"),
        ("tfx-local", True, "Interrupted. `{}` begins anew.\n"),
    ],
)
def test_an_interrupted_run_says_how_it_goes_on(fresh_taxi, monkeypatch, runner, begun, told):
    """With the exit code of an interrupt, and no traceback; nothing goes on where nothing was kept."""

    def interrupted(loaded, root, run_id, *_):
        if begun:
            (logs_of(root, run_id) / MADE_OF).write_text("all of this")
        raise KeyboardInterrupt

    monkeypatch.setattr("runners.run.run", interrupted)
    answer = satisfice("run", fresh_taxi.config, "--set", "training.epochs=2", "--runner", runner)
    words = ["satisfice", "run", fresh_taxi.config, "--set", "training.epochs=2"]
    words += ["--runner", runner] if runner != "local" else []
    assert answer.code == 130
    assert answer.err == told.format(shlex.join(map(str, words)))


@pytest.mark.parametrize("resumed", [True, False])
def test_a_run_that_is_refused_takes_away_what_is_its_own_alone(fresh_taxi, monkeypatch, resumed):
    """Whoever resumes a run that has not ended, and so holds the root, leaves it its logs, though they are empty yet."""
    root = default_root(load_config(fresh_taxi.config))
    log = logs_of(root, "run-1") / "Trainer.log"
    log.parent.mkdir(parents=True)
    log.touch()

    def locked(*_):
        raise RootLockedError(str(root), "another run holds this pipeline root")

    monkeypatch.setattr("runners.run.begin", lambda *_: Beginning("run-1", Options(resumed=resumed)))
    monkeypatch.setattr("runners.run.run", locked)
    answer = satisfice("run", fresh_taxi.config)
    assert "another run holds this pipeline root" in answer.err
    assert log.exists() == resumed
