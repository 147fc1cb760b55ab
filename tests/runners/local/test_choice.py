"""What is chosen about a node, and the reason that is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from runners.local.records import Records
from tests.runners.local.desk import Desk, Execution


def done(desk: Desk, graph, chooser, name: str, inputs=None, files=None) -> None:
    """Chooses about a node, does what was chosen as the engine does, and remembers it."""
    node = graph.node(name)
    choice = chooser.choose(node)
    if choice.action == "run":
        outputs = desk.launch(graph, name, choice.inputs, files)
        entry = desk.cache.keep(name, choice.ingredients, outputs)
        chooser.remember(node, outputs, entry)
    else:
        if choice.action == "reuse":
            chooser.records.reuse(node, choice.inputs, choice.outputs, node.parameters)
        elif choice.action == "resolve":
            chooser.records.resolve(node, choice.outputs)
        chooser.remember(node, choice.outputs, choice.entry)


def first_run(desk: Desk, *names: str):
    """Some nodes of a first run, which is kept."""
    graph, chooser = desk.graph("run-0"), desk.chooser()
    for name in names or ("Numbers", "Judge", "Fit", "Champion", "Compare", "Report"):
        done(desk, graph, chooser, name)
    return chooser


def test_a_first_run_runs(desk) -> None:
    """With nothing to compare with."""
    choice = desk.chooser().choose(desk.graph().node("Numbers"))
    assert (choice.action, choice.reason) == ("run", "")
    assert choice.ingredients is not None


def test_the_same_work_is_reused(desk) -> None:
    """The artifacts that the first run put out, by all that hangs on them too."""
    first_run(desk)
    graph, chooser = desk.graph(), desk.chooser()
    for name in ("Numbers", "Judge", "Fit", "Champion", "Compare", "Report"):
        choice = chooser.choose(graph.node(name))
        wanted = "resolve" if name == "Champion" else "reuse"
        assert (name, choice.action) == (name, wanted)
        done(desk, graph, chooser, name)
    assert chooser.choose(graph.node("Fit")).reason == "same inputs, parameters and code"
    assert len(desk.store.get_artifacts()) == 5


def test_changed_parameters_run(desk) -> None:
    """And what hangs on them runs where the content is another."""
    from tests.runners.local.tiny import compiled

    first_run(desk)
    graph, chooser = desk.graph(ir=compiled(desk.root, desk.connection, start=4)), desk.chooser()
    choice = chooser.choose(graph.node("Numbers"))
    assert (choice.action, choice.reason) == ("run", "parameter start changed")
    done(desk, graph, chooser, "Numbers", files={"file.txt": "others"})
    choice = chooser.choose(graph.node("Judge"))
    assert (choice.action, choice.reason) == ("run", "input examples changed")


def test_work_that_comes_to_the_same_content_is_not_passed_on(desk) -> None:
    """What hangs on it is reused: content counts, not the id of the artifact."""
    from tests.runners.local.tiny import compiled

    first_run(desk)
    graph, chooser = desk.graph(ir=compiled(desk.root, desk.connection, start=4)), desk.chooser()
    done(desk, graph, chooser, "Numbers")
    assert chooser.choose(graph.node("Judge")).action == "reuse"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"libraries": {"tfx": "2"}}, "library tfx changed"),
        ({"code_of": lambda node: "new code"}, "its code changed"),
        ({"forced": frozenset({"Numbers"})}, "asked for"),
    ],
)
def test_each_reason_to_run_is_told(desk, options, reason) -> None:
    """In words."""
    first_run(desk, "Numbers")
    choice = desk.chooser(**options).choose(desk.graph().node("Numbers"))
    assert (choice.action, choice.reason) == ("run", reason)
    assert choice.ingredients is not None


def test_a_driver_that_is_not_ours_leaves_it_to_tfx(desk) -> None:
    """The engine cannot know what it adds to the key."""
    choice = desk.chooser(custom_drivers={"Numbers"}).choose(desk.graph().node("Numbers"))
    assert (choice.action, choice.reason, choice.ingredients) == ("run", "TFX decides about it", None)


def test_a_condition_that_is_not_met_skips(desk) -> None:
    """The node that decided is named, and the value."""
    graph, chooser = desk.graph(), desk.chooser()
    done(desk, graph, chooser, "Numbers")
    decision = desk.artifact(graph.node("Judge"), "decision", proceed=0)
    chooser.remember(graph.node("Judge"), {"decision": [decision]})
    for name in ("Fit", "Champion"):
        choice = chooser.choose(graph.node(name))
        assert (choice.action, choice.reason) == ("skip", "Judge decided so (proceed is 0)")
    assert chooser.choose(graph.node("Report")).action == "run"


def test_a_property_that_is_not_there_skips(desk) -> None:
    """Nothing is trained on a decision that says nothing."""
    graph, chooser = desk.graph(), desk.chooser()
    done(desk, graph, chooser, "Numbers")
    chooser.remember(graph.node("Judge"), {"decision": [desk.artifact(graph.node("Judge"), "decision")]})
    assert chooser.choose(graph.node("Fit")).reason == "Judge decided so (proceed is None)"


def test_a_resumed_run_keeps_what_it_had_finished(desk) -> None:
    """Also what a resolver had chosen, and what is not in the cache: it was cut off before it got there."""
    graph, before = desk.graph(), desk.chooser()
    for name in ("Numbers", "Judge", "Fit", "Champion"):
        done(desk, graph, before, name)
    examples = before._outputs["Numbers"]
    outputs = desk.launch(graph, "Report", examples)

    chooser = desk.chooser(resumed=True)
    for name in ("Numbers", "Judge", "Fit", "Champion", "Report"):
        choice = chooser.choose(graph.node(name))
        assert (name, choice.action) == (name, "keep")
        assert choice.reason == "finished before the run was resumed"
        chooser.remember(graph.node(name), choice.outputs)
    assert [one.id for one in choice.outputs["schema"]] == [one.id for one in outputs["schema"]]
    assert chooser.choose(graph.node("Compare")).action == "run"


@pytest.mark.parametrize("state", [Execution.RUNNING, Execution.FAILED])
def test_a_resumed_run_does_not_keep_what_was_unfinished(desk, state) -> None:
    """It runs again, in its own execution."""
    graph, records = desk.graph(), Records(desk.store)
    execution = records.begin(graph.node("Numbers"), {}, {})
    execution.last_known_state = state
    desk.store.put_executions([execution])
    assert desk.chooser(resumed=True).choose(graph.node("Numbers")).action == "run"


def test_another_run_keeps_nothing(desk) -> None:
    """Only the resumed one does; to others it is earlier work."""
    first_run(desk, "Numbers")
    assert desk.chooser(resumed=True).choose(desk.graph("run-1").node("Numbers")).action == "reuse"
    assert desk.chooser().choose(desk.graph("run-0").node("Numbers")).action == "reuse"


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda file: file.write_text("numbers"), "examples/file.txt was changed"),
        (lambda file: file.unlink(), "examples/file.txt is gone"),
        (lambda file: file.with_name("new").touch(), "examples/new was added"),
    ],
)
def test_damaged_files_are_not_reused(desk, harm, words) -> None:
    """The entry is named, so that it can be discarded."""
    first = first_run(desk, "Numbers")
    harm(Path(first._outputs["Numbers"]["examples"][0].uri, "file.txt"))
    choice = desk.chooser().choose(desk.graph().node("Numbers"))
    assert (choice.action, choice.reason) == ("run", f"what is kept of it is damaged: {words}")
    assert choice.damaged is not None


def test_what_is_no_longer_live_is_not_reused(desk) -> None:
    """Somebody marked it so."""
    first = first_run(desk, "Numbers")
    first.records.discard(first._outputs["Numbers"]["examples"])
    choice = desk.chooser().choose(desk.graph().node("Numbers"))
    assert choice.action == "run"
    assert choice.reason == "what is kept of it is not in the metadata store any more"


def test_an_entry_of_another_store_is_not_reused(desk, tmp_path) -> None:
    """The same id means another artifact there: the place has to be the same too."""
    first_run(desk, "Numbers")
    other = Desk(tmp_path / "other")
    other.launch(other.graph(), "Numbers")
    chooser = other.chooser()
    chooser.cache = desk.cache
    choice = chooser.choose(other.graph("run-2").node("Numbers"))
    assert (choice.action, choice.reason) == ("run", "what is kept of it is not in the metadata store any more")


def test_a_resolver_of_another_strategy_is_left_to_tfx(desk, monkeypatch) -> None:
    """The engine does not guess."""
    from runners.local import known

    graph, chooser = desk.graph(), desk.chooser()
    for name in ("Numbers", "Judge", "Fit"):
        done(desk, graph, chooser, name)
    monkeypatch.setattr(known, "_STRATEGIES", {})
    choice = chooser.choose(graph.node("Champion"))
    assert (choice.action, choice.outputs) == ("run", {})


def test_a_resolver_finds_no_champion_at_first(desk) -> None:
    """The candidate goes through; nothing is served."""
    graph, chooser = desk.graph(), desk.chooser()
    for name in ("Numbers", "Judge", "Fit"):
        done(desk, graph, chooser, name)
    choice = chooser.choose(graph.node("Champion"))
    assert choice.action == "resolve"
    assert [len(choice.outputs[key]) for key in ("candidate", "served", "champion")] == [1, 0, 0]


def test_work_holds_while_nothing_changes(desk) -> None:
    """And is not kept where what it was made of was changed while it waited or ran."""
    node = desk.graph().node("Numbers")
    chooser = desk.chooser()
    choice = chooser.choose(node)
    assert chooser.still_holds(node, choice)
    chooser.stale = lambda node: True
    assert not chooser.still_holds(node, choice)
    changed = desk.chooser(code_of=lambda node: "new code")
    assert not changed.still_holds(node, choice)
    decided_by_tfx = desk.chooser(custom_drivers={"Numbers"})
    assert not decided_by_tfx.still_holds(node, decided_by_tfx.choose(node))
