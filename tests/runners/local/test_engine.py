"""The local engine: what fails, what is skipped for it, what runs all the same, and how it is said. On real TFX graphs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.dsl.input_resolution.strategies.latest_artifact_strategy import LatestArtifactStrategy
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.types.channel import Channel
from tfx.types.experimental.simple_artifacts import File

from components.lineage.reader import Lineage
from components.lineage.store import connection_config, open_store
from runners.local.engine import NodeResult, cause_of, run_nodes
from runners.run import _compile
from schemas.config import MetadataConfig, SqliteConfig
from schemas.errors import DataError
from tests.runners.local.nodes import Broken, Join, Source, Step

Graph = Callable[..., dict[str, NodeResult]]


@pytest.fixture
def launch(tmp_path: Path) -> Graph:
    """Runs components as a pipeline, each call as a run of its own, and gives each node's result."""
    config = MetadataConfig(sqlite=SqliteConfig(path=str(tmp_path / "metadata.db")))
    heard: list[str] = []
    count = 0

    def run(*components: Any, listener: list[str] = heard) -> dict[str, NodeResult]:
        nonlocal count
        count += 1
        run_id = f"run-{count}"
        pipeline = tfx_pipeline.Pipeline(
            "tiny",
            str(tmp_path / "root"),
            components=list(components),
            enable_cache=True,
            metadata_connection_config=connection_config(config),
        )
        lineage = Lineage(config, "tiny", open_store(config))
        results = run_nodes(
            _compile(pipeline, run_id),
            lambda node: lineage.node(run_id, node),
            lambda node: listener.append(f"started {node}"),
            lambda result: listener.append(f"ended {result.node}"),
        )
        return {result.node: result for result in results}

    return run


def states(results: dict[str, NodeResult]) -> dict[str, str]:
    return {node: result.state for node, result in results.items()}


def diamond(ours: int = 0) -> list[Any]:
    """A source with two arms, the first of which breaks; a node behind each arm, and one behind both."""
    source = Source().with_id("Top")
    broken = Broken(given=source.outputs["out"], ours=ours).with_id("Left")
    below = Step(given=broken.outputs["out"]).with_id("BelowLeft")
    lowest = Step(given=below.outputs["out"]).with_id("Lowest")
    right = Step(given=source.outputs["out"]).with_id("Right")
    behind = Step(given=right.outputs["out"]).with_id("BelowRight")
    return [source, broken, below, lowest, right, behind]


def test_a_failure_keeps_its_descendants_from_running_and_no_others(launch: Graph) -> None:
    """The reason names the node that failed, however far up it stands."""
    results = launch(*diamond())
    assert states(results) == {
        "Top": "ran",
        "Left": "failed",
        "BelowLeft": "skipped",
        "Lowest": "skipped",
        "Right": "ran",
        "BelowRight": "ran",
    }
    assert results["BelowLeft"].reason == "needs Left, which failed"
    assert results["Lowest"].reason == "needs Left, which failed"
    assert results["Left"].reason == "KeyError: 'lost'"
    assert isinstance(results["Left"].error, KeyError)
    assert results["Top"].reason == ""


def test_an_error_of_ours_is_told_in_its_own_words(launch: Graph) -> None:
    """Without the name of its class and of what wrapped it."""
    assert launch(*diamond(ours=1))["Left"].reason == "data.csv: is upside down. Turn it."


def test_a_traceback_goes_to_standard_error(launch: Graph, capfd: pytest.CaptureFixture[str]) -> None:
    """Which is the run's log; TFX alone would keep it to itself."""
    launch(*diamond())
    err = capfd.readouterr().err
    assert "Traceback" in err
    assert "nodes.py" in err
    assert "KeyError: 'lost'" in err


def test_the_next_run_takes_what_finished_from_the_cache(launch: Graph) -> None:
    """And tries again what did not."""
    launch(*diamond())
    again = states(launch(*diamond()))
    assert (again["Top"], again["Right"], again["BelowRight"]) == ("cached", "cached", "cached")
    assert again["Left"] == "failed"


def test_one_failure_among_what_a_node_needs_is_enough(launch: Graph) -> None:
    """Wherever it stands among those that ran, or that came from the cache."""

    def graph() -> list[Any]:
        source = Source().with_id("Top")
        broken = Broken(given=source.outputs["out"]).with_id("M")
        first, last = (Step(given=source.outputs["out"]).with_id(name) for name in ("A", "Z"))
        joins = [
            Join(one=step.outputs["out"], other=broken.outputs["out"]).with_id(f"Join{step.id}")
            for step in (first, last)
        ]
        return [source, broken, first, last, *joins]

    for state in ("ran", "cached"):
        results = launch(*graph())
        assert (results["A"].state, results["Z"].state) == (state, state)
        for join in ("JoinA", "JoinZ"):
            assert (results[join].state, results[join].reason) == ("skipped", "needs M, which failed")


def test_each_node_is_told_of_as_it_starts_and_ends(launch: Graph) -> None:
    """In the order of the graph, the skipped ones too."""
    heard: list[str] = []
    source = Source().with_id("Top")
    broken = Broken(given=source.outputs["out"]).with_id("Left")
    launch(source, broken, Step(given=broken.outputs["out"]).with_id("Below"), listener=heard)
    nodes = ["Top", "Left", "Below"]
    assert heard == [f"{word} {node}" for node in nodes for word in ("started", "ended")]


def test_a_condition_that_is_not_met_skips(launch: Graph) -> None:
    """The launcher leaves no trace of such a node; what stands in the same condition is skipped with the same reason."""
    source = Source().with_id("Top")
    with Cond(source.outputs["out"].future()[0].uri == "nowhere"):
        inner = Step(given=source.outputs["out"]).with_id("Inner")
        innermost = Step(given=inner.outputs["out"]).with_id("Innermost")
    results = launch(source, inner, innermost)
    assert states(results) == {"Top": "ran", "Inner": "skipped", "Innermost": "skipped"}
    assert {results["Inner"].reason, results["Innermost"].reason} == {"its condition is not met"}
    assert results["Inner"].record is None


def test_inputs_that_are_not_there_are_a_failure(launch: Graph) -> None:
    """The launcher does not raise for them; the lineage tells."""
    resolver = Resolver(strategy_class=LatestArtifactStrategy, given=Channel(type=File)).with_id("Latest")
    results = launch(resolver, Step(given=resolver.outputs["given"]).with_id("Needs"))
    assert "failed" in states(results).values()
    first = next(result for result in results.values() if result.state == "failed")
    assert first.reason == "its inputs could not be resolved"


def test_cause_of_finds_ours_in_the_chain() -> None:
    """However deep it stands below what others made of it, as a cause or as a mere context."""
    outer, middle = ValueError("TFX says so"), RuntimeError("Beam says so")
    middle.__cause__ = DataError("data.csv", "is upside down")
    outer.__context__ = middle
    assert cause_of(outer) == "data.csv: is upside down"


def test_cause_of_bounds_what_is_foreign() -> None:
    """One line with the class, and no more of it than a person reads."""
    text = cause_of(ValueError("first line\n  second line " + "x" * 5000))
    assert text.startswith("ValueError: first line second line xxx")
    assert len(text) == 400
    assert "\n" not in text
