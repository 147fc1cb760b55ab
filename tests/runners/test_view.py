"""What a person sees: tables and lines on decisions made by hand, as plain text."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from components.lineage.reader import NodeRecord, OutputRecord, RunRecord
from components.progress import Progress
from components.trainer.strategy import Machine, make_plan
from runners.local.engine import NodeResult
from runners.run import RunResult
from runners.view import (
    ProgressView,
    SilentView,
    console_on,
    data_report,
    data_table,
    gate_table,
    nodes_table,
    outcome_lines,
    running_line,
    runs_table,
    training_report,
)
from schemas.config import TrainingConfig
from schemas.decision import Anomaly, Baseline, Comparison, DataDecision, Decision, GateResult, PushResult
from schemas.errors import NodeFailedError


def gate(verdict: Any = "pass", name: str = "gates.satisfy.0", **fields: Any) -> GateResult:
    values = {"condition": "min", "metric": "auc", "value": 0.8, "limit": 0.7, "margin": 0.1, "n": 12345}
    return GateResult(gate=name, verdict=verdict, reason="so", **{**values, **fields})


def decision(*gates: GateResult, outcome: Any = "push", **fields: Any) -> Decision:
    return Decision(outcome=outcome, digest="d", gates=gates, **{"reasons": (), **fields})


def printed(*things: Any) -> list[str]:
    """The lines that a file would get."""
    stream = io.StringIO()
    for thing in things:
        console_on(stream).print(thing, soft_wrap=isinstance(thing, str))
    assert "\x1b" not in stream.getvalue()
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def rows(*gates: GateResult, every_slice: bool = False) -> list[str]:
    """The gate table without title and header."""
    return printed(gate_table(decision(*gates), every_slice=every_slice))[2:]


def result(outcome: Any, **fields: Any) -> RunResult:
    values = {"nodes": [], "decision": None, "data_decision": None, "push": None, "log": Path("run.log")}
    return RunResult("run-1", outcome, **{**values, **fields})


# --- the gate table ---------------------------------------------------------------------------------------------------


def test_a_row_of_the_gate_table() -> None:
    """Verdict, metric, value, limit with its direction, margin with its sign, champion, number of examples, gate."""
    (row,) = rows(gate(champion=0.75))
    assert row.split() == ["pass", "auc", "0.8", "≥", "0.7", "+0.1", "0.75", "12,345", "gates.satisfy.0"]


def test_a_limit_that_is_just_met_has_no_sign_of_less() -> None:
    """Nothing less nothing is not less than nothing."""
    (row,) = rows(gate(value=0.0, limit=0.0, margin=-0.0))
    assert row.split()[2:6] == ["0", "≥", "0", "+0"]


def test_what_there_is_none_of_stays_empty() -> None:
    """No champion, no value, no limit: no number is made up."""
    (row,) = rows(gate("not_measured", value=None, limit=None, margin=None, n=None))
    assert row.split() == ["not_measured", "auc", "gates.satisfy.0"]


@pytest.mark.parametrize(
    ("condition", "metric", "sign"),
    [
        ("min", "auc", "≥"),
        ("max", "mean_squared_error", "≤"),
        ("min", "mean_squared_error", "≥"),
        ("max_gap", "auc", "≤"),
        ("max_ratio_to_champion", "mean_squared_error", "≤"),
        ("max_drop", "auc", "≥"),
        ("max_drop", "mean_squared_error", "≤"),
        ("max_drop", "size_mb", "≤"),
        ("at_least_champion_minus", "auc", "≥"),
        ("at_least_champion_minus", "binary_crossentropy", "≤"),
    ],
)
def test_the_limit_shows_its_direction(condition: str, metric: str, sign: str) -> None:
    """The side on which a value is good follows from the condition, and for a comparison from the metric."""
    (row,) = rows(gate(condition=condition, metric=metric))
    assert f"{sign} 0.7" in row


def test_the_order_is_the_decisions() -> None:
    """Those that block come first because the decision lists them first."""
    found = rows(gate("fail", "gates.satisfy.1", margin=-0.1), gate("pass"), gate("no_champion", "gates.optimize"))
    assert [row.split()[0] for row in found] == ["fail", "pass", "no_champion"]


def sliced(*verdicts: Any) -> list[GateResult]:
    return [gate(verdict, slice={"hour": str(hour)}) for hour, verdict in enumerate(verdicts)]


def test_slices_that_do_not_block_are_collapsed() -> None:
    """The first is shown, which is the nearest to failing; the rest are counted by their verdict."""
    found = rows(*sliced("pass", "pass", "pass", "too_few_examples"), gate(name="gates.satisfy.1"))
    assert len(found) == 2
    assert "hour=0 (+ 2 pass, 1 too few examples)" in found[0]
    assert "(+" not in found[1]


def test_every_slice_that_blocks_is_shown() -> None:
    """And the rest counted once, on the gate's first line."""
    found = rows(*sliced("fail", "not_measured", "pass", "pass"))
    assert [row.split()[0] for row in found] == ["fail", "not_measured"]
    assert "hour=0 (+ 2 pass)" in found[0]
    assert "(+" not in found[1]


def test_all_shows_each_slice() -> None:
    """Nothing is collapsed."""
    found = rows(*sliced("fail", "pass", "too_few_examples"), every_slice=True)
    assert [row.split()[2] for row in found] == ["hour=0", "hour=1", "hour=2"]
    assert not any("(+" in row for row in found)


def test_a_slice_value_is_no_markup() -> None:
    """Square brackets in the data are text."""
    (row,) = rows(gate(slice={"company": "[red]Cabs[/red] & [Sons]"}))
    assert "company=[red]Cabs[/red] & [Sons]" in row


# --- the outcome ------------------------------------------------------------------------------------------------------


def test_pushed() -> None:
    """The version, where it is, what is worth knowing, and how to serve it."""
    push = PushResult(
        pushed=True, outcome="pushed", digest="d", version=7, destination="/srv/[a]/taxi/7", reason="Published."
    )
    lines = printed(
        *outcome_lines(result("pushed", decision=decision(notes=("3 rows are in no slice",)), push=push), "c.yaml")
    )
    assert lines[:3] == ["Pushed version 7.", "  /srv/[a]/taxi/7", "Note: 3 rows are in no slice."]
    assert lines[3].startswith("Next: ")
    assert lines[3].endswith("--model_base_path=/srv/[a]/taxi")


def test_already_served() -> None:
    """As which version, and that nothing was pushed."""
    push = PushResult(
        pushed=False, outcome="already_served", digest="d", version=7, destination="/srv/taxi/7", reason="so"
    )
    lines = printed(*outcome_lines(result("already_served", decision=decision(), push=push), "c.yaml"))
    assert lines == ["Already served as version 7: nothing was pushed.", "  /srv/taxi/7"]


def test_blocked() -> None:
    """Every reason, and the file in which the gate stands."""
    blocked = decision(outcome="block", reasons=("gates.satisfy.0: auc fail: 0.6 is not at least 0.7",))
    lines = printed(*outcome_lines(result("blocked", decision=blocked), "conf/[x].yaml"))
    assert lines[:2] == ["Blocked: nothing was pushed.", "  gates.satisfy.0: auc fail: 0.6 is not at least 0.7"]
    assert "change the gate in conf/[x].yaml" in lines[-1]


def test_blocked_by_the_data() -> None:
    """The reasons, at most twenty of them, and what can be done."""
    one = Anomaly(split="train", feature="hour", kind="KIND", reason="reason", severity="block")
    reasons = tuple(f"hour (train): reason {n} [KIND]" for n in range(30))
    data = DataDecision(outcome="block", anomalies=(one,), reasons=reasons)
    lines = printed(*outcome_lines(result("data_blocked", data_decision=data), "c.yaml"))
    assert lines[0] == "Blocked by the data gate: nothing was trained, nothing was pushed."
    assert lines[1] == "  hour (train): reason 0 [KIND]"
    assert len(lines) == 22
    assert "data.validate.anomalies: warn" in lines[-1]


def test_failed() -> None:
    """The error's own words, in one line."""
    error = NodeFailedError("node Trainer", "ValueError: [odd] things", remedy="The log is run.log.")
    assert printed(*outcome_lines(result("failed", error=error), "c.yaml")) == [
        "Failed: node Trainer: ValueError: [odd] things. The log is run.log."
    ]


def test_what_waits_says_how_to_approve() -> None:
    """With the run and the configuration in the command."""
    lines = printed(
        *outcome_lines(result("pending", decision=decision(outcome="pending", notes=("9 lack it",))), "c.yaml")
    )
    assert lines == [
        "Waits for approval: every gate admits it; nothing is pushed until a person approves.",
        "Note: 9 lack it.",
        "Next: satisfice approve run-1 c.yaml --by NAME --reason WHY   (or reject)",
    ]


def test_a_block_says_what_would_have_to_change() -> None:
    """With the amount."""
    failed = gate("fail", value=0.6, margin=-0.1, slice={"hour": "3"})
    lines = printed(*outcome_lines(result("blocked", decision=decision(failed, outcome="block")), "c.yaml"))
    assert "  To pass: auc[hour=3] has to rise by 0.1, to 0.7." in lines


# --- while it runs ----------------------------------------------------------------------------------------------------


def progress(node: NodeResult) -> str:
    stream = io.StringIO()
    view = ProgressView(console_on(stream))
    view.node_started(node.node)
    assert stream.getvalue() == ""
    view.node_ended(node)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("state", "mark"), [("ran", "✓"), ("cached", "="), ("skipped", "-"), ("failed", "✗"), ("running", " ")]
)
def test_one_line_per_node(state: str, mark: str) -> None:
    """Mark, name, state, seconds; plain text where nobody watches."""
    assert progress(NodeResult("Trainer", state, 12.34)).rstrip() == f"{mark} Trainer          {state:<8}   12.3 s"


def test_a_reason_stays_in_one_line() -> None:
    """However many lines it has, and whatever brackets."""
    line = progress(NodeResult("Trainer", "failed", 0.1, "two faults:\n  - [a] one\n  - two"))
    assert line.count("\n") == 1
    assert line.endswith("two faults: - [a] one - two\n")


def test_the_note_of_a_finished_node() -> None:
    """Where there is no reason, what it put out is told."""
    record = NodeRecord(
        "Gate", "ran", 0, 0, outputs=(OutputRecord("decision", "Decision", 1, "", {"outcome": "push"}),)
    )
    assert progress(NodeResult("Gate", "ran", 0.1, "", record)).endswith("push\n")


def report(channels: Path, node: str, **fields: Any) -> None:
    """What a node's process leaves for the view, with a clock that is ahead: what it says is never old."""
    values = {"unit": "rows", "done": 500, "total": 2000, "seconds": 2.0, "at": time.time() + 3600, **fields}
    (channels / f"{node}.progress").write_text(json.dumps(values))


def test_a_terminal_gets_living_lines(tmp_path: Path) -> None:
    """One for each running node, within 80 columns; they are gone when the nodes have ended."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, color_system="standard", width=80)
    report(tmp_path, "Trainer", unit="steps", phase="epoch 8/20", figures={"val_auc": 0.95}, may_end_early=True)
    with ProgressView(console, tmp_path) as view:
        for node in ("Trainer", "Evaluator"):
            view.node_started(node)
        with console.capture() as capture:
            console.print(view._lines())
        lines = Text.from_ansi(capture.get()).plain.splitlines()
        view.node_ended(NodeResult("Trainer", "ran", 1.0))
        view.node_ended(NodeResult("Evaluator", "failed", 1.0, "no"))
        assert view._live is None
    assert any("Trainer" in line and "250 steps/s  at most 0:06 left  500 of 2,000" in line for line in lines)
    assert all(len(line) <= 80 for line in lines)
    assert "\x1b[" in stream.getvalue()
    assert Text.from_ansi(stream.getvalue()).plain.splitlines()[-1].startswith("✗ Evaluator")


def test_a_terminal_is_given_back_when_a_run_breaks_off(tmp_path: Path) -> None:
    """Whatever was raised: the cursor is shown again, no thread goes on."""
    stream = io.StringIO()
    view = ProgressView(Console(file=stream, force_terminal=True, width=80), tmp_path)

    def broken_off() -> None:
        with view:
            view.node_started("Trainer")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert view._live is None
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h") == 1


def test_plain_lines_where_nobody_has_a_terminal(tmp_path: Path) -> None:
    """Now and then, of what runs; no thread is left behind."""
    stream = io.StringIO()
    report(tmp_path, "Trainer")
    with ProgressView(console_on(stream), tmp_path, every_s=0.02) as view:
        view.node_started("Trainer")
        deadline = time.monotonic() + 120
        while "250 rows/s" not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert view._teller is not None
    assert not view._teller.is_alive()
    first = stream.getvalue().splitlines()[0]
    assert first.startswith("… Trainer ")
    assert "250 rows/s  0:06 left  500 of 2,000 rows" in first


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "Trainer            12.0 s  250 rows/s  0:06 left  500 of 2,000 rows"),
        ({"total": None}, "Trainer            12.0 s  250 rows/s  500 rows"),
        ({"total": 100}, "Trainer            12.0 s  250 rows/s  500 rows"),
        ({"total": 10_000_000}, "Trainer            12.0 s  250 rows/s  11:06:38 left  500 of 10,000,000 rows"),
        ({"done": 3, "total": None}, "Trainer            12.0 s  1.5 rows/s  3 rows"),
        ({"done": 0, "phase": "analysis"}, "Trainer            12.0 s  analysis"),
        ({"at": 995.0}, "Trainer            12.0 s  250 rows/s  0:01 left  500 of 2,000 rows"),
        ({"estimated": True}, "Trainer            12.0 s  250 rows/s  about 0:06 left  500 of about 2,000 rows"),
        ({"at": 900.0}, "Trainer            12.0 s  250 rows/s  no news for 100 s  500 of 2,000 rows"),
        ({"at": 2000.0}, "Trainer            12.0 s  250 rows/s  0:06 left  500 of 2,000 rows"),
    ],
    ids=[
        "known",
        "unknown total",
        "more than expected",
        "hours",
        "slow",
        "not begun",
        "a while ago",
        "an estimate",
        "stale",
        "clock",
    ],
)
def test_a_running_node(fields: dict[str, Any], line: str) -> None:
    """Rate, what is left, how far: as much of it as is known, and never less than nothing."""
    values = {"unit": "rows", "done": 500, "total": 2000, "seconds": 2.0, "at": 1000.0, **fields}
    assert running_line("Trainer", 12.0, Progress(**values), now=1000.0) == line


def test_a_running_node_that_has_not_reported() -> None:
    """Its name and its time."""
    assert running_line("Trainer", 1.0, None) == "Trainer             1.0 s"


def test_the_rate_of_a_finished_node() -> None:
    """Stands in its line, before what it put out."""
    done = Progress("rows", 15_002, None, 0.5)
    assert "   0.7 s     30,004 rows/s" in progress(NodeResult("ExampleGen", "ran", 0.7, progress=done))


def test_the_silent_view_says_nothing(capfd) -> None:
    """Standard output belongs to the JSON document."""
    SilentView().node_started("Trainer")
    SilentView().node_ended(NodeResult("Trainer", "ran", 1.0))
    assert capfd.readouterr() == ("", "")


# --- runs, nodes, anomalies -------------------------------------------------------------------------------------------


def run(run_id: str = "20261122-032013-13b9aa", **fields: Any) -> RunRecord:
    values = {
        "pipeline": "taxi",
        "outcome": "pushed",
        "exit_code": 0,
        "started_ms": 1_000_000_000_000,
        "ended_ms": 1_000_000_012_340,
        "runner": "local",
        "user": "ann",
        "host": "desk",
        "config_digest": "",
    }
    return RunRecord(run_id, **{**values, **fields})


def test_runs() -> None:
    """When, how long, what came out, with which exit code, how and by whom."""
    lines = printed(runs_table([run(), run("second", outcome="unfinished", exit_code=None)]))
    assert lines[1].split() == [
        "20261122-032013-13b9aa", "2001-09-09", "01:46:40", "UTC", "12.3", "pushed", "0", "local", "ann@desk",
    ]  # fmt: skip
    assert lines[2].split()[-3:] == ["unfinished", "local", "ann@desk"]


def test_nodes() -> None:
    """What each put out, by key and number, and how fast; or why it was skipped."""
    counted = {"unit": "steps", "done": 2000, "seconds": 2.0, "per_second": 1000.0}
    outputs = (OutputRecord("model", "Model", 5, "/x"), OutputRecord("model_run", "ModelRun", 6, "/y"))
    lines = printed(
        nodes_table(
            [
                NodeRecord("Trainer", "ran", 1000, 3500, outputs=outputs, progress=counted),
                NodeRecord("Pusher", "skipped", 0, 0, "needs [Gate], which failed"),
            ]
        )
    )
    assert lines[1].split() == ["Trainer", "ran", "2.5", "1,000", "steps/s", "model", "#5,", "model_run", "#6"]
    assert lines[2].split() == ["Pusher", "skipped", "needs", "[Gate],", "which", "failed"]


def test_anomalies() -> None:
    """Feature, split, kind and TFDV's words; what concerns the whole set is said so."""
    found = [
        Anomaly(split="train", feature="hour", kind="INT_TYPE_BIG_INT", reason="Too [large]: 31.", severity="block"),
        Anomaly(split="eval", feature="", kind="DATASET_LOW", reason="Too few.", severity="warn"),
    ]
    lines = printed(data_table(DataDecision(outcome="block", anomalies=tuple(found))))
    assert lines[2].split() == ["block", "hour", "train", "INT_TYPE_BIG_INT", "Too", "[large]:", "31."]
    assert lines[3].split() == ["warn", "(data", "set)", "eval", "DATASET_LOW", "Too", "few."]


def comparison(verdict: Any, feature: str = "fare", **fields: Any) -> Comparison:
    values = {"kind": "drift", "measure": "jensen_shannon", "value": 0.03, "limit": 0.02, "against": "version 3"}
    return Comparison(feature=feature, verdict=verdict, reason="so", **{**values, "severity": "warn", **fields})


def data(*comparisons: Comparison, found: bool = True, **fields: Any) -> DataDecision:
    baseline = Baseline(found=found, version=3 if found else None, reason="nothing is [served] yet")
    return DataDecision(outcome="proceed", comparisons=comparisons, baseline=baseline, **fields)


def test_drift() -> None:
    """What deviates, and what is nearest to its limit; how many limits are met, and what could not be judged."""
    found = data(
        comparison("exceeded", severity="retrain"),
        comparison("not_measured", "miles", value=None),
        comparison("too_few_examples", "tract"),
        comparison("pass", "tips", value=0.01),
        comparison("pass", "hour", value=0.0),
        retrain=True,
    )
    lines = printed(*data_report(found))
    assert lines[0] == "Drift and skew"
    assert lines[2].split() == [
        "exceeded",
        "fare",
        "train",
        "jensen_shannon",
        "0.03",
        "≤",
        "0.02",
        *["version", "3", "retrain"],
    ]
    assert lines[3].split() == [
        "not_measured",
        "miles",
        "train",
        "jensen_shannon",
        "≤",
        "0.02",
        *["version", "3", "warn"],
    ]
    assert lines[4].split()[:2] == ["pass", "tips"]
    assert lines[5:] == [
        "Too few values to judge: tract.",
        "2 of 5 limits on drift and skew are met.",
        "Drift asks for a new model (data.validate.on_drift: retrain).",
    ]
    assert len(printed(*data_report(found, every=True))) == 10


def test_no_baseline() -> None:
    """Is said in capitals, with the reason, and no limit is said to be met."""
    lines = printed(*data_report(data(comparison("no_baseline", value=None), found=False)))
    assert lines == ["NO_BASELINE: 1 of 1 limits were not judged: nothing is [served] yet."]


def test_a_column_that_the_baseline_lacks() -> None:
    """Is named; the others are judged."""
    lines = printed(*data_report(data(comparison("no_baseline", "new", value=None), comparison("pass"))))
    assert "NO_BASELINE: 1 of 2 limits were not judged: not in the baseline: new." in lines


def test_without_limits_nothing_is_said_of_drift() -> None:
    """Nor without a decision."""
    assert data_report(DataDecision(outcome="proceed")) == []
    assert data_report(None) == []


def test_many_anomalies_are_cut() -> None:
    """A broken column in a wide file does not fill the screen."""
    one = Anomaly(split="train", feature="f", kind="K", reason="r", severity="warn")
    assert len(printed(data_table(DataDecision(outcome="proceed", anomalies=(one,) * 50)))) == 22


def test_a_training_is_told_by_its_plan() -> None:
    """A record from before there were plans is passed over."""
    plan = make_plan(TrainingConfig(strategy="mirrored", devices=2), Machine(4))
    assert [str(line) for line in training_report({"plan": plan.as_dict()})] == [
        "training: mirrored on cpu (asked: mirrored; found: 4 CPUs, no GPU), 2 replicas x 512 rows"
    ]
    assert training_report({"epochs": 2}) == []
