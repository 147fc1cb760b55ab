"""The order of things: what runs when, what waits, what a failure stops, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runners.local import engine as engine_module
from runners.local.engine import Engine, NodeResult
from runners.local.template import Done
from tests.runners.local.desk import Artifact, Desk, Execution

End = Callable[[Desk, Any, str], Done]


def well(desk: Desk, graph: Any, name: str, files: dict[str, str] | None = None) -> Done:
    """A worker that did its node."""
    desk.launch(graph, name, files=files)
    return Done(name, {}, 0, 321.5, 1.0)


def raising(desk: Desk, graph: Any, name: str, *, retry: bool = True) -> Done:
    """A worker whose node raised; TFX's launcher has marked it."""
    from runners.local.records import Records

    records = Records(desk.store)
    node = graph.node(name)
    records.fail(records.unfinished(node) or records.begin(node, {}, {}))
    return Done(name, {"cause": "ValueError: no", "traceback": "Traceback: no", "retry": retry}, 0, 99.0, 1.0)


def killed(desk: Desk, graph: Any, name: str) -> Done:
    """A worker that was killed in the middle of its node."""
    from runners.local.records import Records

    node, records = graph.node(name), Records(desk.store)
    if records.unfinished(node) is None:
        records.begin(node, {}, {})
    return Done(name, None, -9, 99.0, 1.0)


class Workers:
    """Does each node at once when it is waited for, in the order in which it was handed over, or in the reverse."""

    def __init__(self, desk: Desk, graph: Any, ends: dict[str, list[End]] | None = None, *, last_first: bool = False):
        self.desk, self.graph = desk, graph
        self.ends = {name: iter(given) for name, given in (ends or {}).items()}
        self.last_first = last_first
        self.pending: list[str] = []
        self.submitted: list[str] = []
        self.most_at_once = 0
        self.arguments: dict[str, dict[str, Any]] = {}

    def submit(self, work: str, job: str, arguments: dict[str, Any], log: Path) -> None:
        assert job == "runners.local.jobs:launch"
        self.pending.append(work)
        self.submitted.append(work)
        self.arguments[work] = arguments
        self.most_at_once = max(self.most_at_once, len(self.pending))

    def wait(self, timeout_s: float | None = None) -> Done | None:
        name = self.pending.pop(-1 if self.last_first else 0)
        ends: Iterator[End] = self.ends.get(name, iter(()))
        return next(ends, well)(self.desk, self.graph, name)


@pytest.fixture
def patience(monkeypatch) -> list[float]:
    """No waiting; the pauses that would have been made."""
    pauses: list[float] = []
    clock = [1000.0]

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(engine_module, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: clock[0]))
    return pauses


def engine(desk: Desk, run_id: str = "run-1", max_parallel: int = 2, retries: int = 0, **options: Any) -> Engine:
    from components.lineage.reader import Lineage

    lineage = Lineage(desk.metadata, "tiny", desk.store)
    return Engine(
        graph=desk.graph(run_id),
        chooser=desk.chooser(**options),
        read_node=lambda node: lineage.node(run_id, node),
        ir_file=desk.folder / "pipeline.pb",
        folder=desk.folder,
        metadata=desk.metadata.model_dump_json(),
        log_of=lambda node: desk.folder / f"{node}.log",
        max_parallel=max_parallel,
        retries=retries,
    )


def run(made: Engine, workers: Workers) -> dict[str, NodeResult]:
    """The results by node; what was told while it ran is checked against them."""
    started: list[str] = []
    ended: list[NodeResult] = []
    results = made.run(workers, started.append, ended.append)
    assert [one.node for one in results] == [node.id for node in made.graph.nodes]
    assert sorted(started) == sorted(one.node for one in results)
    assert {one.node: one for one in ended} == {one.node: one for one in results}
    return {one.node: one for one in results}


def first(desk: Desk, ends: dict[str, list[End]] | None = None, **options: Any) -> dict[str, NodeResult]:
    made = engine(desk, **options)
    return run(made, Workers(desk, made.graph, ends))


def states(results: dict[str, NodeResult]) -> dict[str, str]:
    return {name: one.state for name, one in results.items()}


def test_every_node_runs_once(desk) -> None:
    """After all that it needs, and the result tells of its process and its log."""
    made = engine(desk)
    workers = Workers(desk, made.graph)
    results = run(made, workers)
    assert set(states(results).values()) == {"ran"}
    assert sorted(workers.submitted) == ["Compare", "Fit", "Judge", "Numbers", "Report"]
    order = workers.submitted.index
    assert order("Numbers") < order("Judge") < order("Fit") < order("Compare")
    fit = results["Fit"]
    assert (fit.peak_memory_mb, fit.cpu_s, fit.log, fit.record.state) == (321.5, 1.0, desk.folder / "Fit.log", "ran")
    assert (results["Champion"].peak_memory_mb, results["Champion"].cpu_s, results["Champion"].log) == (
        None,
        None,
        None,
    )


def test_an_unchanged_run_hands_nothing_to_workers(desk) -> None:
    """All is published again; the resolver looks up what is served."""
    first(desk)
    made = engine(desk, "run-2")
    workers = Workers(desk, made.graph)
    results = run(made, workers)
    assert workers.submitted == []
    assert states(results) == {name: "ran" if name == "Champion" else "cached" for name in results}
    assert results["Fit"].reason == "same inputs, parameters and code"


def test_results_come_in_the_order_of_the_graph(desk) -> None:
    """Whichever ends first."""
    made = engine(desk)
    run(made, Workers(desk, made.graph, last_first=True))


class Turns(Workers):
    """Tells, of each node that ends, whether `Report` had been begun by then, and whether it was its turn."""

    def __init__(self, desk: Desk, graph: Any, ends: dict[str, list[End]] | None = None) -> None:
        super().__init__(desk, graph, ends)
        self.told: dict[str, tuple[bool, bool]] = {}

    def wait(self, timeout_s: float | None = None) -> Done | None:
        given = Path(self.arguments.get("Report", {}).get("turn", "") or self.desk.folder / "none")
        self.told[self.pending[0]] = ("Report" in self.submitted, given.exists())
        return super().wait(timeout_s)


def out_of_the_way(made: Engine, monkeypatch, *names: str) -> Engine:
    """`Report` measures: it comes after nodes whose outputs it does not need."""
    report = made.graph.node("Report")
    monkeypatch.setattr(engine_module, "_WAITS_FOR_ITS_TURN", (report.type,))
    nodes = [replace(one, upstream=(*one.upstream, *names)) if one is report else one for one in made.graph.nodes]
    made.graph = replace(made.graph, nodes=tuple(nodes))
    return made


def test_a_node_that_measures_gets_ready_beside_what_has_to_be_out_of_its_way(desk, monkeypatch) -> None:
    """It is told of its turn when that has ended, not before; what it does not read it does not wait for to begin."""
    made = out_of_the_way(engine(desk), monkeypatch, "Fit")
    workers = Turns(desk, made.graph)
    results = run(made, workers)
    assert set(states(results).values()) == {"ran"}
    assert workers.told["Judge"] == (False, False)
    assert workers.told["Fit"] == (True, False)
    assert workers.told["Report"] == (True, True)
    assert not list(desk.folder.glob("*.turn"))


def test_a_node_that_measures_has_its_turn_though_what_was_before_it_failed(desk, monkeypatch) -> None:
    """It needs nothing of it."""
    made = out_of_the_way(engine(desk), monkeypatch, "Fit")
    workers = Turns(desk, made.graph, {"Fit": [raising]})
    results = run(made, workers)
    assert states(results)["Fit"] == "failed"
    assert states(results)["Report"] == "ran"
    assert (workers.told["Fit"], workers.told["Report"]) == ((True, False), (True, True))


def test_nothing_gets_ready_where_one_node_runs_at_a_time(desk, monkeypatch) -> None:
    """Nor does a node that only publishes earlier work again."""
    made = out_of_the_way(engine(desk, max_parallel=1), monkeypatch, "Fit")
    workers = Turns(desk, made.graph)
    run(made, workers)
    assert workers.told["Fit"] == (False, False)
    assert workers.arguments["Report"]["turn"] == ""
    again = out_of_the_way(engine(desk, "run-2", forced=frozenset({"Fit"})), monkeypatch, "Fit")
    workers = Turns(desk, again.graph)
    assert states(run(again, workers))["Report"] == "cached"
    assert "Report" not in workers.submitted


@pytest.mark.parametrize("bound", [1, 2, 8])
def test_no_more_nodes_at_once_than_allowed(desk, bound) -> None:
    """And as many as the graph lets."""
    made = engine(desk, max_parallel=bound)
    workers = Workers(desk, made.graph)
    run(made, workers)
    assert workers.most_at_once == min(bound, 2)


def test_a_failure_stops_only_what_needs_it(desk) -> None:
    """The others run, and each that did not says which node it needed."""
    results = first(desk, {"Judge": [raising]})
    assert states(results) == {
        "Numbers": "ran",
        "Judge": "failed",
        "Report": "ran",
        "Fit": "skipped",
        "Champion": "skipped",
        "Compare": "skipped",
    }
    failed = results["Judge"]
    assert (failed.reason, failed.traceback) == ("ValueError: no", "Traceback: no")
    assert failed.record.state == "failed"
    assert {results[name].reason for name in ("Fit", "Champion", "Compare")} == {"needs Judge, which failed"}


def test_a_condition_that_is_not_met_skips_what_stands_in_it(desk) -> None:
    """And nothing is handed to a worker."""

    def stops(desk: Desk, graph: Any, name: str) -> Done:
        from runners.local.records import Records

        node, records = graph.node(name), Records(desk.store)
        execution = records.begin(node, {}, {})
        records.complete(node, execution, {"decision": [desk.artifact(node, "decision", proceed=0)]})
        return Done(name, {}, 0, 1.0, 1.0)

    results = first(desk, {"Judge": [stops]})
    assert states(results) == {
        "Numbers": "ran",
        "Judge": "ran",
        "Report": "ran",
        "Fit": "skipped",
        "Champion": "skipped",
        "Compare": "skipped",
    }
    assert {results[name].reason for name in ("Fit", "Champion", "Compare")} == {"Judge decided so (proceed is 0)"}


def test_a_killed_worker_is_told_with_its_signal(desk) -> None:
    """The execution does not stay RUNNING for ever."""
    results = first(desk, {"Fit": [killed]})
    assert (results["Fit"].state, results["Fit"].reason) == ("failed", "its process was killed by signal 9")
    assert results["Fit"].record.state == "failed"
    assert results["Compare"].state == "skipped"


def test_a_worker_that_ends_without_a_word_has_failed(desk) -> None:
    """With the status that it left."""
    results = first(desk, {"Report": [lambda desk, graph, name: Done(name, None, 3, 1.0, 1.0)]})
    assert (results["Report"].state, results["Report"].reason) == ("failed", "its process ended with status 3")


def test_a_failure_that_the_launcher_swallows_is_found(desk) -> None:
    """TFX's launcher does not raise where inputs cannot be resolved: the state in the store tells."""

    def swallowed(desk: Desk, graph: Any, name: str) -> Done:
        raising(desk, graph, name)
        return Done(name, {}, 0, 1.0, 1.0)

    results = first(desk, {"Report": [swallowed]})
    assert (results["Report"].state, results["Report"].reason) == ("failed", "its inputs could not be resolved")


def test_another_attempt_follows_with_a_growing_pause(desk, patience) -> None:
    """For a foreign failure and for a killed worker; the last attempt decides."""
    results = first(desk, {"Numbers": [raising, killed, well]}, retries=2)
    assert set(states(results).values()) == {"ran"}
    assert patience == [1.0, 2.0]
    assert [one.last_known_state for one in desk.executions()] == [Execution.COMPLETE] * 6


def test_attempts_have_an_end(desk, patience) -> None:
    """As many as were asked for after the first."""
    made = engine(desk, retries=2)
    workers = Workers(desk, made.graph, {"Numbers": [raising] * 9})
    results = run(made, workers)
    assert workers.submitted == ["Numbers"] * 3
    assert results["Numbers"].state == "failed"


def test_a_failure_of_ours_is_not_tried_again(desk, patience) -> None:
    """Bad data stays bad."""
    made = engine(desk, retries=5)
    workers = Workers(desk, made.graph, {"Numbers": [lambda *given: raising(*given, retry=False)]})
    results = run(made, workers)
    assert workers.submitted == ["Numbers"]
    assert results["Numbers"].state == "failed"
    assert patience == []


def test_others_run_while_one_waits_for_its_next_attempt(desk, patience) -> None:
    """It holds its place among those that run, and no other's."""
    made = engine(desk, retries=1)
    workers = Workers(desk, made.graph, {"Report": [raising, well]})
    results = run(made, workers)
    assert set(states(results).values()) == {"ran"}
    assert workers.submitted.count("Report") == 2


def test_what_a_killed_attempt_left_is_cleared(desk, patience) -> None:
    """TFX runs it again in the same folders, and a stray file there would be read with the rest."""

    def half(desk: Desk, graph: Any, name: str) -> Done:
        done = killed(desk, graph, name)
        (execution,) = desk.executions()
        stray = desk.root / name / "examples" / str(execution.id) / "Split-train" / "data-00001"
        stray.parent.mkdir(parents=True)
        stray.write_text("half a row")
        strays.append(stray)
        return done

    def again(desk: Desk, graph: Any, name: str) -> Done:
        assert not strays[0].exists()
        from runners.local.records import Records

        node, records = graph.node(name), Records(desk.store)
        execution = records.unfinished(node)
        records.complete(node, execution, desk.outputs(node, str(execution.id)))
        return Done(name, {}, 0, 1.0, 1.0)

    strays: list[Path] = []
    results = first(desk, {"Numbers": [half, again]}, retries=1)
    assert results["Numbers"].state == "ran"
    (output,) = results["Numbers"].record.outputs
    assert [file.name for file in Path(output.uri).iterdir()] == ["file.txt"]


def test_damaged_work_is_discarded_and_done_again(desk) -> None:
    """The damaged artifact is no longer live; what it came to again is what was there, so the rest is reused."""
    results = first(desk)
    (output,) = results["Fit"].record.outputs
    Path(output.uri, "file.txt").write_text("flipped")
    again = first(desk, run_id="run-2")
    assert states(again) == {
        "Numbers": "cached",
        "Judge": "cached",
        "Report": "cached",
        "Fit": "ran",
        "Champion": "ran",
        "Compare": "cached",
    }
    assert again["Fit"].reason == "what is kept of it is damaged: model/file.txt was changed"
    (artifact,) = desk.store.get_artifacts_by_id([output.id])
    assert artifact.state == Artifact.DELETED
    assert set(states(first(desk, run_id="run-3")).values()) == {"cached", "ran"}


def test_what_was_made_of_something_else_is_not_kept(desk) -> None:
    """Code or data that changed while the node ran would else be found under the name of what it was before."""
    results = first(desk, stale=lambda node: node.id == "Fit")
    assert results["Fit"].state == "ran"
    again = first(desk, run_id="run-2")
    assert {name for name, state in states(again).items() if state == "ran"} == {"Fit", "Champion"}


def test_a_resumed_run_goes_on(desk) -> None:
    """What had finished is kept; the failed one runs again, in its own execution."""
    first(desk, {"Fit": [raising]})
    before = {one.id: one.last_update_time_since_epoch for one in desk.executions()}

    def mended(desk: Desk, graph: Any, name: str) -> Done:
        from runners.local.records import Records

        node, records = graph.node(name), Records(desk.store)
        execution = records.unfinished(node)
        records.complete(node, execution, desk.outputs(node, str(execution.id)))
        return Done(name, {}, 0, 1.0, 1.0)

    made = engine(desk, resumed=True)
    workers = Workers(desk, made.graph, {"Fit": [mended]})
    results = run(made, workers)
    assert states(results) == {
        "Numbers": "kept",
        "Judge": "kept",
        "Report": "kept",
        "Fit": "ran",
        "Champion": "ran",
        "Compare": "ran",
    }
    assert workers.submitted == ["Fit", "Compare"]
    after = {one.id: one.last_update_time_since_epoch for one in desk.executions()}
    kept = sorted(before)[:3]
    assert [after[one] for one in kept] == [before[one] for one in kept]


def test_tfx_own_cache_answers_only_where_ours_cannot(desk) -> None:
    """Two caches with two keys would contradict each other."""
    made = engine(desk, custom_drivers={"Report"})
    workers = Workers(desk, made.graph)
    run(made, workers)
    assert workers.arguments["Report"]["use_cache"] is True
    assert workers.arguments["Fit"]["use_cache"] is False


def test_a_plan_tells_what_a_run_would_do(desk) -> None:
    """As far as it can be known, and nothing is written."""
    plans = {one.node: one for one in engine(desk).explain()}
    assert (plans["Numbers"].action, plans["Numbers"].reason) == ("run", "nothing of it is kept")
    assert (plans["Judge"].action, plans["Judge"].reason) == ("unknown", "hangs on Numbers, which has to run")
    assert desk.store.get_executions() == desk.store.get_contexts() == []

    first(desk)
    written = len(desk.store.get_executions())
    plans = {one.node: one for one in engine(desk, "run-2").explain()}
    assert {name: one.action for name, one in plans.items()} == {
        name: "resolve" if name == "Champion" else "reuse" for name in plans
    }
    plans = {one.node: one for one in engine(desk, "run-2", forced=frozenset({"Fit", "Compare"})).explain()}
    assert (plans["Fit"].action, plans["Fit"].reason) == ("run", "asked for")
    assert plans["Compare"].action == "unknown"
    assert plans["Report"].action == "reuse"
    assert len(desk.store.get_executions()) == written


def test_what_a_node_counted_is_in_its_result(desk) -> None:
    """Its last report, whose file goes; and one that a killed attempt left behind is not taken for news."""
    graph = desk.graph()
    channels: dict[str, Path] = {}

    def counting(desk: Desk, graph: Any, name: str) -> Done:
        channel = Path(workers.arguments[name]["channel"])
        channels[name] = channel
        assert not channel.exists(), "of an earlier attempt"
        channel.write_text('{"unit": "rows", "done": 7, "seconds": 2.0}')
        return well(desk, graph, name)

    def killed_while_counting(desk: Desk, graph: Any, name: str) -> Done:
        Path(workers.arguments[name]["channel"]).write_text('{"unit": "rows", "done": 3')
        return killed(desk, graph, name)

    workers = Workers(desk, graph, {"Numbers": [counting], "Fit": [killed_while_counting]})
    made = engine(desk)
    stale = made.log_of("Numbers").with_suffix(".progress")
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.write_text('{"unit": "rows", "done": 999, "seconds": 1.0}')
    results = {one.node: one for one in made.run(workers, lambda _: None, lambda _: None)}
    assert results["Numbers"].progress is not None
    assert (results["Numbers"].progress.done, results["Numbers"].progress.per_second) == (7, 3.5)
    assert (results["Fit"].state, results["Fit"].progress) == ("failed", None)
    assert results["Judge"].progress is None
    assert not list(stale.parent.glob("*.progress"))
