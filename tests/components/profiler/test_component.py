"""The Profiler in a pipeline: it measures once for each machine, and what it finds is judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.profiler.component import is_needed, needs_of
from components.profiler.machine import machine
from runners.local import known
from schemas.config import GatesConfig
from schemas.decision import FIGURES_FILE, Figures
from tests.workbench import Bench

# TFX and what it imports warn of much that is not ours.
pytestmark = pytest.mark.filterwarnings("ignore")


def gates(*satisfy: str) -> GatesConfig:
    return GatesConfig.model_validate_json(f'{{"satisfy": [{", ".join(satisfy)}]}}')


def test_what_gates_need_has_no_limits() -> None:
    """Batch sizes and slices of rows, once each and in order."""
    given = gates(
        '{"metric": "auc", "slice_by": ["hour"], "min": 0.5}',
        '{"metric": "latency_p99_ms", "batch_size": 64, "max": 5}',
        '{"metric": "throughput_per_s", "batch_size": 8, "min": 5}',
        '{"metric": "latency_p50_ms", "batch_size": 8, "max": 5}',
        '{"metric": "class_agreement", "against": "trained", "slice_by": ["b", "a"], "min": 1}',
        '{"metric": "feature_skew", "slice_by": ["feature"], "max": 0}',
    )
    assert needs_of(given) == {"batch_sizes": [8, 64], "slices": [("b", "a")]}
    assert is_needed(given)
    assert not is_needed(gates('{"metric": "auc", "min": 0.5}'))


def test_the_machine_is_part_of_what_the_engine_looks_up() -> None:
    """As the driver adds it under TFX's own runner."""
    assert known._DRIVERS["components.profiler.component.Profiler"]({}, {}) == {"machine": machine()}


@pytest.fixture(scope="module")
def profiled(taxi: Bench, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The small pipeline, with gates on what is profiled."""
    bench = taxi.copy(tmp_path_factory.mktemp("profiled") / "taxi")

    def more(raw: dict[str, Any]) -> None:
        raw["gates"]["satisfy"] += [
            {"metric": "size_mb", "max": 5},
            {"metric": "latency_p50_ms", "batch_size": 4, "max": 1000},
            {"metric": "feature_skew", "slice_by": ["feature"], "max": 0},
        ]

    bench.edit(more)
    return bench


def test_a_pipeline_with_gates_on_what_is_profiled(profiled: Bench) -> None:
    """Every gate is judged on what was measured; an unchanged run measures nothing again, another machine does."""
    first = profiled.run()
    assert first.code == 0, first.out + first.err
    judged = {gate["metric"]: gate for gate in first.json["decision"]["gates"]}
    assert {judged[name]["verdict"] for name in ("size_mb", "latency_p50_ms", "feature_skew")} == {"pass"}
    assert judged["latency_p50_ms"]["n"] >= 40
    (file,) = Path(profiled.folder).rglob(f"Profiler/profile/*/{FIGURES_FILE}")
    figures = Figures.model_validate_json(file.read_bytes())
    assert figures.candidate == first.json["decision"]["digest"]
    assert {one.machine for one in figures.figures if one.metric == "latency_p50_ms"} == {machine()}
    again = profiled.run()
    assert again.code == 0, again.out + again.err
    states = {node["node"]: node["state"] for node in again.json["nodes"]}
    assert states["Profiler"] == "cached"


def test_an_unreachable_limit_blocks_without_measuring_again(profiled: Bench) -> None:
    """The gate is named first."""
    profiled.run()
    answer = profiled.run("gates.satisfy.2.max=0.001")
    assert answer.code == 3
    assert answer.json["decision"]["gates"][0]["gate"] == "gates.satisfy.2"
    assert answer.json["decision"]["gates"][0]["metric"] == "size_mb"
    assert {node["node"]: node["state"] for node in answer.json["nodes"]}["Profiler"] == "cached"
