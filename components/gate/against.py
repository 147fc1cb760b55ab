"""Holds a decision that was made without a champion against one that was kept. Pure: measures nothing.

What two decisions have in common are the figures in their results: from these the comparisons are judged, by the same
code as in a run with a champion.
"""

from __future__ import annotations

from collections.abc import Sequence

from components.gate.decide import Champion, decide, ranked
from components.gate.words import label
from schemas.config import GatesConfig
from schemas.decision import Decision, EdgeDecision, Figure, GateResult, Payload, Rung
from schemas.metrics import PROFILED

__all__ = ["held_against"]

_COMPARISONS = ("at_least_champion_minus", "max_drop", "max_ratio_to_champion")


def held_against(
    base: Decision,
    decision: Decision,
    gates: GatesConfig,
    *,
    name: str,
    machine: str = "",
    blocks_saved_model: bool = False,
) -> Decision:
    """The decision with every comparison judged against the figures of a base.

    A figure that the base lacks is `not_measured`, as it is of a champion; so is one of time or memory, of which it is
    not known that it was measured on this machine.

    Args:
        base: a decision that was kept.
        decision: of a run without a champion.
        gates: the section of the configuration by which it was made.
        name: of the base, in words.
        machine: why the base's figures of time and memory do not count; "" where they do.
        blocks_saved_model: `export.tflite.blocks_saved_model`.
    """
    judge = _Judge(gates, name, machine)
    judged = judge.judged(decision.digest, decision.gates, base.digest, base.gates, "saved_model")
    edge = judge.of_files(decision.edge, base.edge) if decision.edge is not None else None
    blocking = [result for result in judged if result.blocks]
    told = tuple(f"{one.gate}: {label(one)} {one.verdict}: {one.reason}" for one in blocking)
    no_file = blocks_saved_model and edge is not None and edge.outcome == "block"
    if no_file and not (decision.edge is not None and decision.edge.outcome == "block"):
        told += ("no .tflite variant passes its gates, and export.tflite.blocks_saved_model is set",)
    blocked_before = decision.outcome == "block" and not any(one.blocks for one in decision.gates)
    reasons = told + (decision.reasons if blocked_before or not told else ())
    outcome = "block" if told or blocked_before else decision.outcome
    return decision.model_copy(update={"gates": judged, "edge": edge, "outcome": outcome, "reasons": reasons})


class _Judge:
    """Judges the comparisons alone."""

    def __init__(self, gates: GatesConfig, name: str, machine: str) -> None:
        satisfy = [gate if gate.condition in _COMPARISONS else None for gate in gates.satisfy]
        self.places = [f"gates.satisfy.{index}" for index, gate in enumerate(satisfy) if gate is not None]
        self.gates = gates.model_copy(update={"satisfy": tuple(gate for gate in satisfy if gate is not None)})
        self.name, self.machine = name, machine

    def judged(
        self,
        digest: str,
        results: Sequence[GateResult],
        base_digest: str,
        base: Sequence[GateResult],
        payload: Payload,
        variant: str = "",
    ) -> tuple[GateResult, ...]:
        """The results, with those of comparisons judged anew."""
        champion = Champion(
            base_digest,
            None,
            [figure for figure in _figures(base, base_digest) if not self._is_elsewhere(figure)],
            why_not=f"it has no such figure{f', or {self.machine}' if self.machine else ''}",
            called=self.name,
        )
        anew = decide(self.gates, digest, _figures(results, digest), champion, payload=payload, variant=variant).gates
        others = [one for one in results if one.condition not in _COMPARISONS]
        return ranked([*others, *map(self._placed, anew)])

    def of_files(self, edge: EdgeDecision, base: EdgeDecision | None) -> EdgeDecision:
        """The ladder judged anew, and the smallest file that passes chosen from it."""
        theirs = next((one for one in base.ladder if one.verdict == "chosen"), None) if base is not None else None
        ladder = [self._rung(one, theirs) for one in edge.ladder]
        chosen = next((one for one in ladder if one.verdict == "passes"), None)
        if chosen is None:
            return edge.model_copy(
                update={
                    "outcome": "block",
                    "variant": "",
                    "digest": "",
                    "ladder": tuple(ladder),
                    "reasons": (_NO_FILE,),
                }
            )
        rungs = tuple(one.model_copy(update={"verdict": "chosen"}) if one is chosen else one for one in ladder)
        same = chosen.variant == edge.variant
        reasons = edge.reasons if same else (f"{chosen.variant} is the smallest that passes, held against {self.name}",)
        found = {"variant": chosen.variant, "digest": chosen.digest, "ladder": rungs, "reasons": reasons}
        return edge.model_copy(update=found)

    def _rung(self, rung: Rung, theirs: Rung | None) -> Rung:
        if rung.verdict == "unfit":
            return rung
        base, digest = (theirs.gates, theirs.digest) if theirs is not None else ((), "")
        gates = self.judged(rung.digest, rung.gates, digest, base, "tflite", rung.variant)
        blocked = any(one.blocks for one in gates)
        return rung.model_copy(update={"gates": gates, "verdict": "blocked" if blocked else "passes"})

    def _placed(self, result: GateResult) -> GateResult:
        """Under the path of its gate among all of the configuration's."""
        if not result.gate.startswith("gates.satisfy."):
            return result
        return result.model_copy(update={"gate": self.places[int(result.gate.rpartition(".")[2])]})

    def _is_elsewhere(self, figure: Figure) -> bool:
        return bool(self.machine) and _is_of_machine(figure.metric)


_NO_FILE = "no .tflite variant passes its gates"


def _is_of_machine(metric: str) -> bool:
    return metric in PROFILED and (PROFILED[metric].unit in ("ms", "1/s") or metric == "peak_memory_mb")


def _figures(results: Sequence[GateResult], digest: str) -> list[Figure]:
    """What was measured, each figure once; of a comparison the interval is not the figure's own."""
    found: dict[tuple[object, ...], Figure] = {}
    for one in sorted(results, key=lambda result: result.condition in _COMPARISONS):
        if one.condition == "max_gap":
            continue
        key = (one.metric, one.payload, tuple(sorted(one.slice.items())), one.batch_size, one.against)
        own = one.interval if one.champion is None else None
        figure = Figure(
            metric=one.metric,
            value=one.value,
            unit=one.unit,
            payload=one.payload,
            digest=digest,
            slice=one.slice,
            n=one.n,
            interval=own,
            batch_size=one.batch_size,
            against=one.against,
            why_not=one.reason.rpartition("could not be measured: ")[2] if one.value is None else "",
        )
        found.setdefault(key, figure)
    return list(found.values())
