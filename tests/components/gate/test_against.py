"""Comparisons with a decision that was kept: every one is judged where both hold the figure, and none passes unjudged."""

import pytest

from components.gate.against import held_against
from components.gate.decide import decide
from schemas.config import GatesConfig
from schemas.decision import EdgeDecision, Figure, Rung

OURS, THEIRS = "a" * 64, "b" * 64


def config(*satisfy, optimize=None):
    return GatesConfig.model_validate({"optimize": optimize, "satisfy": list(satisfy)}, strict=False)


def figure(metric, value, digest=OURS, **others):
    return Figure(metric=metric, value=value, digest=digest, n=500, **others)


def kept(gates, *figures):
    """A decision without a champion."""
    digest = figures[0].digest
    return decide(gates, digest, figures, None)


def verdicts(decision):
    return {result.gate: (result.verdict, result.champion) for result in decision.gates}


@pytest.mark.parametrize(
    ("metric", "ours", "theirs", "verdict"),
    [
        ("auc", 0.8, 0.85, "pass"),
        ("auc", 0.8, 0.9, "fail"),
        ("binary_crossentropy", 0.8, 0.7, "fail"),
        ("binary_crossentropy", 0.8, 0.9, "pass"),
    ],
)
def test_the_metric_to_optimize(metric, ours, theirs, verdict):
    """Worse by more than is allowed fails, in the metric's direction."""
    gates = config(optimize={"metric": metric, "at_least_champion_minus": 0.06})
    base = kept(gates, figure(metric, theirs, THEIRS))
    judged = held_against(base, kept(gates, figure(metric, ours)), gates, name="the base")
    assert verdicts(judged) == {"gates.optimize": (verdict, theirs)}
    assert judged.outcome == ("push" if verdict == "pass" else "block")


def test_every_comparison():
    """Drops and ratios too, by slice and by size of a request; limits stay as they were judged."""
    gates = config(
        {"metric": "auc", "min": 0.5},
        {"metric": "binary_accuracy", "max_drop": 0.01, "slice_by": ["hour"]},
        {"metric": "size_mb", "max_ratio_to_champion": 1.2},
        {"metric": "latency_p50_ms", "batch_size": 1, "max_ratio_to_champion": 1.5},
    )

    def figures(digest, scale):
        yield figure("auc", 0.9, digest)
        yield figure("binary_accuracy", 0.9, digest)
        yield figure("binary_accuracy", 0.8 / scale, digest, slice={"hour": "3"})
        yield figure("size_mb", 1.0 * scale, digest, unit="MB")
        yield figure("latency_p50_ms", 1.0 * scale, digest, unit="ms", batch_size=1)

    base = kept(gates, *figures(THEIRS, 1.0))
    judged = held_against(base, kept(gates, *figures(OURS, 1.3)), gates, name="the base")
    assert verdicts(judged) == {
        "gates.satisfy.0": ("pass", None),
        "gates.satisfy.1": ("fail", 0.8),
        "gates.satisfy.2": ("fail", 1.0),
        "gates.satisfy.3": ("pass", 1.0),
    }
    assert judged.outcome == "block"
    assert judged.reasons[0].startswith("gates.satisfy.1: binary_accuracy[hour=3] fail: ")
    assert judged.gates[0].blocks


def test_a_figure_that_the_base_lacks():
    """Is not measured, which is no pass; and so is a time of another machine."""
    gates = config(
        {"metric": "size_mb", "max_ratio_to_champion": 1.2}, {"metric": "latency_p50_ms", "max_ratio_to_champion": 1.2}
    )
    ours = kept(gates, figure("size_mb", 1.0, unit="MB"), figure("latency_p50_ms", 1.0, unit="ms", batch_size=1))
    theirs = kept(gates, figure("latency_p50_ms", 1.0, THEIRS, unit="ms", batch_size=1))
    judged = held_against(
        theirs, ours, gates, name="the base (kept.json)", machine="it was measured on another machine"
    )
    assert verdicts(judged) == {"gates.satisfy.0": ("not_measured", None), "gates.satisfy.1": ("not_measured", None)}
    assert "latency_p50_ms of the base (kept.json) was not measured: " in judged.gates[-1].reason
    assert "it was measured on another machine" in judged.gates[-1].reason
    assert verdicts(held_against(theirs, ours, gates, name="the base"))["gates.satisfy.1"] == ("pass", 1.0)


def test_noise_is_inconclusive():
    """Both figures' own intervals count, as they were measured apart."""
    gates = config(optimize={"metric": "auc", "at_least_champion_minus": 0.01})
    base = kept(gates, figure("auc", 0.81, THEIRS, interval=(0.78, 0.84)))
    judged = held_against(base, kept(gates, figure("auc", 0.79, interval=(0.76, 0.82))), gates, name="the base")
    assert judged.gates[0].verdict == "inconclusive"
    assert judged.outcome == "block"


def test_files_for_devices():
    """The ladder is climbed anew: what is worse than the base's file makes way for the next."""
    gates = config({"metric": "auc", "payload": "tflite", "max_drop": 0.01})

    def rung(variant, digest, value, verdict):
        own = [figure("auc", value, digest, payload="tflite")]
        judged = decide(gates, digest, own, None, payload="tflite", variant=variant)
        return Rung(variant=variant, digest=digest, verdict=verdict, gates=judged.gates)

    def edge(digests, values):
        ladder = (rung("int8", digests[0], values[0], "chosen"), rung("float32", digests[1], values[1], "passes"))
        return EdgeDecision(
            outcome="push", variant="int8", digest=digests[0], ladder=ladder, reasons=("int8 is smallest",)
        )

    whole = kept(gates, figure("auc", 0.8))
    base = whole.model_copy(update={"digest": THEIRS, "edge": edge(("c" * 64, "d" * 64), (0.8, 0.8))})
    ours = whole.model_copy(update={"edge": edge(("e" * 64, "f" * 64), (0.7, 0.8))})
    judged = held_against(base, ours, gates, name="the base")
    assert judged.edge.variant == "float32"
    assert [one.verdict for one in judged.edge.ladder] == ["blocked", "chosen"]
    worse = whole.model_copy(update={"edge": edge(("e" * 64, "f" * 64), (0.7, 0.7))})
    nothing = held_against(base, worse, gates, name="the base", blocks_saved_model=True)
    assert nothing.edge.outcome == nothing.outcome == "block"
    assert "blocks_saved_model is set" in nothing.reasons[0]
