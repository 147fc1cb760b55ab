"""Real payloads in real processes: a sound one passes, and each planted fault is found by the gate that should find it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.planted import plant
from components import turn
from components.gate.decide import Champion, decide
from components.profiler.machine import machine
from components.profiler.measure import Limits, Measured, Needs, Trained, _Session, profile
from components.profiler.rows import Rows, read_rows
from components.profiler.spawn import Child, Outcome
from components.trainer.reference import REFERENCE_SPLIT, Reference, read_reference
from schemas.config import GatesConfig
from schemas.decision import TRAINING_FILE, Decision, Figure, Figures
from schemas.metrics import OF_FILES, PROFILED
from serving import payload
from tests.components.first_run import FirstRun

# TFX and what it imports warn of much that is not ours.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

QUICK = Limits(timeout_s=300, budget_s=0.4, precision=0.1)
OF_SAVED_MODEL = set(PROFILED) - OF_FILES
GATES = GatesConfig.model_validate_json(
    json.dumps(
        {
            "satisfy": [
                {"metric": "latency_p50_ms", "batch_size": 1, "max_ratio_to_champion": 1.5, "on_inconclusive": "pass"},
                {"metric": "size_mb", "max": 20},
                {"metric": "peak_memory_mb", "max": 160},
                {"metric": "max_abs_difference", "against": "trained", "max": 1e-4},
                {"metric": "max_abs_difference", "against": "serving_examples", "max": 1e-4},
                {"metric": "class_agreement", "against": "trained", "min": 0.9},
                {"metric": "feature_skew", "slice_by": ["feature"], "max": 0},
            ]
        }
    )
)
LATENCY, SIZE, MEMORY, TRAINED, EXAMPLES, AGREEMENT, SKEW = (f"gates.satisfy.{index}" for index in range(7))


class Taxi:
    """The small pipeline's model, and what it is measured with."""

    def __init__(self, run: FirstRun) -> None:
        self.model = run.saved_model
        folder = run.uris["Trainer", "model_run"]
        self.reference = read_reference(folder)
        assert self.reference is not None
        examples = run.uris["ExampleGen", "examples"]
        names = json.loads((folder / TRAINING_FILE).read_text())["serving_features"]
        self.columns = {name: column for column, name in names.items()}
        self.requests = read_rows(examples, "eval", 256)
        self.trained = Trained(read_rows(examples, REFERENCE_SPLIT, self.reference.rows), self.reference)

    def profile(self, candidate: Path, champion: Path | None = None, **changes: Any) -> Figures:
        arguments: dict[str, Any] = {
            "candidate": Measured(str(candidate), payload.digest(candidate)),
            "champion": Measured(str(champion), "champion") if champion else None,
            "requests": self.requests,
            "trained": self.trained,
            "columns": self.columns,
            "needs": Needs(),
            "machine": machine(),
            "limits": QUICK,
        }
        return profile(**arguments | changes)


@pytest.fixture(scope="module")
def measured(first_run: FirstRun) -> Taxi:
    return Taxi(first_run)


@pytest.fixture(scope="module")
def sound(measured: Taxi) -> Figures:
    """The model beside itself; a busy machine has the time for as many calls as a quiet one makes."""
    limits = Limits(timeout_s=300, budget_s=2, precision=0.1)
    return measured.profile(measured.model, measured.model, needs=Needs((7,), (("payment_type",),)), limits=limits)


def find(figures: Figures, metric: str, **wanted: Any) -> Figure:
    """The one figure of the candidate that is meant."""
    wanted = {"slice": {}, **wanted}
    (found,) = [
        one
        for one in figures.of(figures.candidate)
        if one.metric == metric and all(getattr(one, key) == value for key, value in wanted.items())
    ]
    return found


def judged(figures: Figures) -> Decision:
    champion = Champion(figures.champion, 1, figures.of(figures.champion)) if figures.champion else None
    return decide(GATES, figures.candidate, figures.of(figures.candidate), champion)


def blocked_by(decision: Decision) -> set[str]:
    return {result.gate for result in decision.gates if result.blocks}


def test_every_profiled_metric_is_measured(sound: Figures) -> None:
    """Of the candidate all of them, of the champion what it costs; each in its unit, from its own bytes."""
    assert {one.metric for one in sound.of(sound.candidate)} == OF_SAVED_MODEL
    assert {one.metric for one in sound.of("champion")} == {
        name for name, metric in PROFILED.items() if metric.slices == "none" and name not in OF_FILES
    }
    for one in sound.figures:
        assert one.value is not None, (one.metric, one.why_not)
        assert one.unit == PROFILED[one.metric].unit
        assert one.how.startswith("profiler: ")
        timed = one.unit in ("ms", "1/s") or one.metric == "peak_memory_mb"
        assert one.machine == (machine() if timed else "")


def test_a_sound_model_passes(sound: Figures) -> None:
    """Every gate; and beside itself it is as fast."""
    assert blocked_by(judged(sound)) == set()
    latency = find(sound, "latency_p50_ms", batch_size=1)
    assert latency.ratio_interval is not None
    assert latency.ratio_interval[0] < 1.2
    assert latency.ratio_interval[1] > 0.8


def test_latency_has_batch_sizes_repetitions_and_intervals(sound: Figures) -> None:
    """Those that a gate names and those that are always measured; percentiles in their order."""
    for size in (1, 7, 64):
        p50, p95, p99 = (find(sound, f"latency_p{q}_ms", batch_size=size) for q in (50, 95, 99))
        assert 0 < p50.value <= p95.value <= p99.value
        assert p50.n == p95.n >= 40
        assert p50.interval[0] <= p50.value <= p50.interval[1]
    assert find(sound, "throughput_per_s", batch_size=64).value > find(sound, "throughput_per_s", batch_size=1).value
    assert find(sound, "first_call_ms").value > find(sound, "latency_p50_ms", batch_size=1).value


def test_size_and_parameters_are_those_of_the_payload(sound: Figures, measured: Taxi, first_run: FirstRun) -> None:
    """Counted, not estimated."""
    assert find(sound, "size_mb").value == payload.size_bytes(measured.model) / 1e6
    record = json.loads((first_run.uris["Trainer", "model_run"] / TRAINING_FILE).read_text())
    assert find(sound, "parameters").value == record["parameters"]


def test_it_serves_what_was_trained(sound: Figures) -> None:
    """On the whole and on every slice, which have all rows between them; no feature differs."""
    for against in ("trained", "serving_examples"):
        assert find(sound, "max_abs_difference", against=against).value < 1e-5
        assert find(sound, "class_agreement", against=against).value == 1.0
    whole = find(sound, "mean_abs_difference", against="trained")
    slices = [
        one
        for one in sound.of(sound.candidate)
        if one.metric == whole.metric and one.against == "trained" and set(one.slice) == {"payment_type"}
    ]
    assert {"Cash", "Credit Card"} <= {one.slice["payment_type"] for one in slices}
    assert sum(one.n or 0 for one in slices) == whole.n
    assert find(sound, "feature_skew").value == 0
    assert len([one for one in sound.figures if set(one.slice) == {"feature"}]) == 11


@pytest.fixture(scope="module")
def planted(measured: Taxi, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A copy of the model with a fault in it."""

    def make(**fault: Any) -> Path:
        return plant(measured.model, tmp_path_factory.mktemp("planted") / "model", **fault)

    return make


def test_a_slow_model_is_blocked_by_latency(measured: Taxi, planted: Callable[..., Path]) -> None:
    """And by nothing else; the sound one against it is faster, several times over: twice as fast it is in any noise."""
    figures = measured.profile(planted(delay=2000), measured.model)
    assert blocked_by(judged(figures)) == {LATENCY}
    assert find(figures, "latency_p50_ms", batch_size=1).ratio_interval[0] > 2


def test_thirty_per_cent_are_told_from_none(measured: Taxi, planted: Callable[..., Path]) -> None:
    """A delay that a first comparison sizes is found again in others, with an interval beyond what noise gives."""
    first = measured.profile(planted(delay=60), measured.model, limits=Limits(timeout_s=300, budget_s=1.5))
    ratio = find(first, "latency_p50_ms", batch_size=1).ratio_to_champion
    assert ratio is not None
    slow = planted(delay=max(1, round(60 * 0.3 / (ratio - 1))))
    for seed in range(3):
        limits = Limits(timeout_s=300, budget_s=1.5, seed=seed)
        found = find(measured.profile(slow, measured.model, limits=limits), "latency_p50_ms", batch_size=1)
        assert 1.1 < found.ratio_to_champion < 1.6
        assert found.ratio_interval[0] > 1.05


def test_a_fat_model_is_blocked_by_size_and_memory(
    measured: Taxi, planted: Callable[..., Path], sound: Figures
) -> None:
    """By as much as was planted."""
    figures = measured.profile(planted(ballast_mb=120))
    assert blocked_by(judged(figures)) == {SIZE, MEMORY}
    assert find(figures, "size_mb").value == pytest.approx(find(sound, "size_mb").value + 120, abs=1)
    assert find(figures, "peak_memory_mb").value > find(sound, "peak_memory_mb").value + 100
    assert find(figures, "parameters").value == find(sound, "parameters").value + 30_000_000


def test_skewed_preprocessing_is_blocked_by_parity_and_named(measured: Taxi, planted: Callable[..., Path]) -> None:
    """The features that it falsifies, and no others."""
    figures = measured.profile(planted(scale={"fare": 3.0}))
    decision = judged(figures)
    assert {TRAINED, EXAMPLES, SKEW} <= blocked_by(decision) <= {TRAINED, EXAMPLES, SKEW, AGREEMENT}
    named = {result.slice["feature"] for result in decision.gates if result.gate == SKEW and result.blocks}
    assert named == {"log_fare", "fare_bucket"}
    assert any(note.startswith("log_fare differs between training and serving in ") for note in figures.notes)
    assert "log_fare" in find(figures, "feature_skew").how


def test_a_model_that_answers_nan_is_not_measured(measured: Taxi, planted: Callable[..., Path]) -> None:
    """Which blocks, and says why; what it costs was measured all the same."""
    figures = measured.profile(planted(nan=True))
    assert blocked_by(judged(figures)) == {TRAINED, EXAMPLES, AGREEMENT}
    found = find(figures, "max_abs_difference", against="trained")
    rows = measured.trained.rows.count
    assert (found.value, found.why_not) == (None, f"{rows:,} of {rows:,} predictions are NaN or infinite")
    assert find(figures, "latency_p50_ms", batch_size=1).value is not None


def not_measured(figures: Sequence[Figure]) -> set[str]:
    """The metrics without a value; each says why, in a few words."""
    assert all(
        one.why_not and "Traceback" not in one.why_not and len(one.why_not) < 400
        for one in figures
        if one.value is None
    )
    return {one.metric for one in figures if one.value is None}


def test_a_payload_that_does_not_load(measured: Taxi, tmp_path: Path) -> None:
    """Has a size and nothing else; the sound champion beside it is measured."""
    broken = Path(shutil.copytree(measured.model, tmp_path / "broken"))
    shutil.rmtree(broken / "variables")
    figures = measured.profile(broken, measured.model)
    assert not_measured(figures.of(figures.candidate)) == OF_SAVED_MODEL - {"size_mb"}
    assert not_measured(figures.of("champion")) == set()
    assert LATENCY in blocked_by(judged(figures))
    assert any(note.startswith("the candidate could not be measured: it ") for note in figures.notes)


def test_a_champion_that_does_not_load(measured: Taxi, tmp_path: Path) -> None:
    """Is not measured, and it is told why; the candidate is, and has no ratio."""
    broken = Path(shutil.copytree(measured.model, tmp_path / "broken"))
    shutil.rmtree(broken / "variables")
    figures = measured.profile(measured.model, broken)
    assert not_measured(figures.of("champion")) > {"latency_p50_ms", "peak_memory_mb"}
    assert figures.why_no_champion.startswith("it failed with ")
    found = find(figures, "latency_p50_ms", batch_size=1)
    assert found.value is not None
    assert found.ratio_to_champion is None


def test_a_champion_that_takes_the_process_with_it(measured: Taxi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the candidate to be timed by itself, and it is told why there is no comparison."""
    time, asked = _Session._time, []

    def crash(session: _Session, paths: Mapping[str, str], clock: Child) -> Outcome:
        asked.append(set(paths))
        return (
            Outcome(None, "its process was killed by SIGSEGV") if "champion" in paths else time(session, paths, clock)
        )

    monkeypatch.setattr(_Session, "_time", crash)
    figures = measured.profile(measured.model, measured.model)
    assert asked == [{"candidate", "champion"}, {"candidate"}]
    found = find(figures, "latency_p50_ms", batch_size=1)
    assert found.value is not None
    assert found.ratio_to_champion is None
    assert not_measured(figures.of(figures.candidate)) == set()
    (theirs,) = [one for one in figures.of("champion") if one.metric == "load_time_ms"]
    assert theirs.value is None
    assert "in turns with the candidate did not come back (its process was killed by SIGSEGV)" in theirs.why_not
    assert theirs.why_not in figures.why_no_champion


def test_a_payload_that_asks_for_other_data(measured: Taxi) -> None:
    """Is not measured, and it is told by name what it asks for."""
    columns = {name: column for name, column in measured.columns.items() if name != "fare"}
    figures = measured.profile(measured.model, None, columns=columns)
    found = find(figures, "latency_p50_ms", batch_size=1)
    assert found.value is None
    assert "asks for 'fare', which the data do not have" in found.why_not


def test_a_payload_that_takes_too_long(measured: Taxi, planted: Callable[..., Path]) -> None:
    """Is stopped and not measured."""
    figures = measured.profile(planted(delay=10**9), limits=Limits(timeout_s=25))
    assert not_measured(figures.of(figures.candidate)) == OF_SAVED_MODEL - {"size_mb"}
    assert find(figures, "peak_memory_mb").why_not == "did not answer within 25 s and was stopped"


def test_without_rows_nothing_is_sent(measured: Taxi) -> None:
    """And nothing is measured but the size."""
    nothing = Rows({}, {}, ())
    figures = measured.profile(measured.model, requests=nothing, trained=Trained(nothing, None, "no rows"))
    assert not_measured(figures.of(figures.candidate)) == OF_SAVED_MODEL - {"size_mb"}
    assert find(figures, "latency_p50_ms", batch_size=64).why_not == "was sent nothing: the eval split holds no rows"


def test_without_a_reference_parity_with_it_is_not_measured(measured: Taxi) -> None:
    """A model that an older version trained, for one; a constant model is no better."""
    figures = measured.profile(measured.model, trained=Trained(Rows({}, {}, ()), None, "the Trainer kept no answers"))
    assert find(figures, "max_abs_difference", against="trained").why_not == "the Trainer kept no answers"
    assert find(figures, "feature_skew").why_not == "the Trainer kept no answers"
    reference = measured.trained.reference
    assert reference is not None
    same = Reference(np.full_like(reference.predictions, 0.5), reference.features)
    figures = measured.profile(measured.model, trained=Trained(measured.trained.rows, same))
    assert find(figures, "class_agreement", against="trained").value is not None


def test_a_payload_that_failed_beside_other_nodes_is_measured_again_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take processors and memory from it; one that failed when it had the machine has had its chance."""
    ours, asked = tmp_path / "a.turn", []
    nothing: Any = SimpleNamespace(count=1, save=lambda file: None)

    class Scripted(_Session):
        def _child(self, name: str, measured: Measured) -> Any:
            asked.append((name, ours.exists()))
            fails = not ours.exists() and name == "champion"
            outcome = Outcome(None, "did not answer") if fails else Outcome({})
            return SimpleNamespace(wait=lambda timeout_s: outcome, kill=lambda: None)

    payloads = {name: Measured("", name) for name in ("candidate", "champion")}
    trained = Trained(nothing, None)
    session = Scripted(tmp_path, payloads, nothing, trained, {}, Needs(), "m", Limits())
    monkeypatch.setattr(turn, "_told", [ours])
    monkeypatch.setattr(turn, "wait", ours.touch)
    assert not any(outcome.problem for outcome in session._measure_alone().values())
    assert asked == [("candidate", False), ("champion", False), ("champion", True)]
    monkeypatch.setattr(turn, "_told", [])
    ours.unlink()
    assert session._measure_alone()["champion"].problem
    assert asked[3:] == [("candidate", False), ("champion", False)]
