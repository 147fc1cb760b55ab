"""Which `.tflite` file ships: the smallest of those that pass every gate. Pure: measures nothing, imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

from components.gate.decide import Champion, decide
from schemas.config import GatesConfig
from schemas.decision import Decision, EdgeDecision, Figure, Outcome, Rung
from schemas.tflite import Export, VariantRecord

__all__ = ["choose", "joined"]

_SHOWN = (
    "size_mb",
    "compressed_size_mb",
    "latency_p50_ms",
    "peak_memory_mb",
    "max_abs_difference",
    "class_agreement",
)
"""What the ladder shows of each variant, beside the quality metrics that gates name."""


def choose(export: Export, figures: Sequence[Figure], gates: GatesConfig, champion: Champion | None) -> EdgeDecision:
    """Judges every variant, and takes the smallest that passes.

    Args:
        export: what was made.
        figures: of all variants, each with its file's digest.
        gates: the configuration's section; those on `payload: tflite` count.
        champion: the file that devices have now, with its figures; None on the first run.

    Returns:
        `block` where no variant passes; `already_served` where the smallest that does is the champion's; else `pending`
        where a person has to approve; else `push`.
    """
    order = sorted(export.variants, key=lambda one: (not one.digest, one.size_bytes))
    rungs = [_rung(one, figures, gates, champion) for one in order]
    chosen = next((rung for rung in rungs if rung.verdict == "passes"), None)
    known = {
        "champion_digest": champion.digest if champion else "",
        "champion_version": champion.version if champion else None,
    }
    if chosen is None:
        return EdgeDecision(outcome="block", ladder=tuple(rungs), reasons=tuple(map(_why_not, rungs)), **known)
    ladder = tuple(rung.model_copy(update={"verdict": "chosen"}) if rung is chosen else rung for rung in rungs)
    served = champion is not None and champion.digest == chosen.digest
    admitted: Outcome = "pending" if gates.approval == "required" else "push"
    return EdgeDecision(
        outcome="already_served" if served else admitted,
        variant=chosen.variant,
        digest=chosen.digest,
        ladder=ladder,
        reasons=(_why(chosen, rungs, served),),
        **known,
    )


def joined(decision: Decision, edge: EdgeDecision, *, blocks_saved_model: bool) -> Decision:
    """Both payloads' decisions in one: a model that is not good enough ships in no form.

    Args:
        decision: on the SavedModel.
        edge: on the files that are made of it. It is blocked where the SavedModel is, and waits where that waits.
        blocks_saved_model: where no file passes, the SavedModel is not pushed either.
    """
    own = edge.outcome
    if decision.outcome in ("block", "pending") and own in ("push", "already_served"):
        why = "is blocked" if decision.outcome == "block" else "waits for approval"
        reason = f"the SavedModel that {edge.variant} is made of {why}"
        edge = edge.model_copy(update={"outcome": decision.outcome, "reasons": (reason, *edge.reasons)})
    if own == "block" and blocks_saved_model:
        reason = "no .tflite variant passes its gates, and export.tflite.blocks_saved_model is set"
        reasons = (*decision.reasons, reason) if decision.outcome == "block" else (reason,)
        decision = decision.model_copy(update={"outcome": "block", "reasons": reasons})
    return decision.model_copy(update={"edge": edge})


def _rung(made: VariantRecord, figures: Sequence[Figure], gates: GatesConfig, champion: Champion | None) -> Rung:
    own = [figure for figure in figures if figure.digest == made.digest and figure.payload == "tflite"]
    problems = (*made.problems, *_ailments(own)) if made.digest else made.problems
    if problems or not made.digest:
        return Rung(
            variant=made.variant, digest=made.digest, verdict="unfit", problems=problems, figures=_shown(own, gates)
        )
    judged = decide(gates, made.digest, own, champion, payload="tflite", variant=made.variant)
    return Rung(
        variant=made.variant,
        digest=made.digest,
        verdict="blocked" if judged.outcome == "block" else "passes",
        figures=_shown(own, gates),
        gates=judged.gates,
    )


def _ailments(figures: Sequence[Figure]) -> tuple[str, ...]:
    """What was found wrong with a file when it was run: answers that are none cannot be compared."""
    return tuple(
        figure.why_not
        for figure in figures
        if figure.metric == "max_abs_difference" and not figure.slice and figure.value is None and figure.why_not
    )


def _shown(figures: Sequence[Figure], gates: GatesConfig) -> dict[str, float]:
    named = [gate.metric for gate in gates.satisfy if gate.payload == "tflite"]
    if gates.optimize:
        named.insert(0, gates.optimize.metric)
    values = {figure.metric: figure.value for figure in reversed(figures) if not figure.slice}
    found = {name: values.get(name) for name in dict.fromkeys((*_SHOWN, *named))}
    return {name: value for name, value in found.items() if value is not None}


def _why_not(rung: Rung) -> str:
    if rung.problems:
        return f"{rung.variant}: {rung.problems[0]}"
    blocking = [result for result in rung.gates if result.blocks]
    more = f" (and {len(blocking) - 1} more)" if len(blocking) > 1 else ""
    return f"{rung.variant}: {blocking[0].metric} {blocking[0].verdict}: {blocking[0].reason}{more}"


def _why(chosen: Rung, rungs: Sequence[Rung], served: bool) -> str:
    smaller = [rung.variant for rung in rungs[: rungs.index(chosen)]]
    passed = f"{chosen.variant} is the smallest that passes"
    if smaller:
        passed += f"; {', '.join(smaller)} {'is' if len(smaller) == 1 else 'are'} smaller and {'does' if len(smaller) == 1 else 'do'} not"
    return f"{passed}; devices have it already" if served else passed
