"""Judges figures by the gates of a configuration. Pure: imports neither TFX nor TensorFlow, measures nothing.

Verdicts of a single gate:

- `not_measured`: the figure is not there, or is no number. It blocks.
- `no_champion`: a comparison on the first run. It does not block.
- `already_served`: a comparison of the champion with itself. It does not block.
- `too_few_examples`: a slice below its `min_examples`. It does not block, and is reported.
- `inconclusive`: the limit lies inside the figure's interval. It blocks unless the gate says otherwise.
- `pass`, `fail`: the value on the one or the other side of the limit. The limit itself passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from schemas.config import ChampionGate, GatesConfig, SatisfyGate
from schemas.decision import Condition, Decision, Figure, GateResult, Outcome, Verdict
from schemas.metrics import direction

__all__ = ["Champion", "decide"]


@dataclass(frozen=True)
class Champion:
    """The model now served.

    Attributes:
        digest: of its payload.
        version: under which it is served.
        figures: measured on today's data; empty where the candidate is the champion.
    """

    digest: str
    version: int | None
    figures: Sequence[Figure] = ()


def decide(
    gates: GatesConfig, digest: str, figures: Sequence[Figure], champion: Champion | None, config_digest: str = ""
) -> Decision:
    """Judges every gate and decides.

    Args:
        gates: the configuration's section.
        digest: of the candidate's payload.
        figures: of the candidate, whole split and slices.
        champion: the model now served, or None on the first run.
        config_digest: of the resolved configuration, for the record.

    Returns:
        `block` where any gate blocks; else `already_served` where the candidate's bytes are the champion's; else `push`.
    """
    same = champion is not None and champion.digest == digest
    judge = _Judge(digest, _of_payload(figures, digest), champion, same)
    results: list[GateResult] = []
    if gates.optimize:
        results.append(judge.optimizing(gates.optimize))
    for index, gate in enumerate(gates.satisfy):
        results += judge.satisfying(f"gates.satisfy.{index}", gate)
    results.sort(key=_nearest_to_failing)
    blocking = [result for result in results if result.blocks]
    outcome: Outcome = "block" if blocking else "already_served" if same else "push"
    return Decision(
        outcome=outcome,
        digest=digest,
        champion_digest=champion.digest if champion else "",
        champion_version=champion.version if champion else None,
        gates=tuple(results),
        reasons=_reasons(outcome, blocking, results, champion),
        notes=tuple(judge.notes(gates)),
        config_digest=config_digest,
    )


@dataclass(frozen=True)
class _Judge:
    digest: str
    figures: Sequence[Figure]
    champion: Champion | None
    same: bool

    def optimizing(self, gate: ChampionGate) -> GateResult:
        """The candidate may be worse than the champion by no more than the gate allows."""
        figure = _find(self.figures, gate.metric, {}, "saved_model")
        return self._against_champion(
            "gates.optimize", "at_least_champion_minus", gate.metric, figure, gate.at_least_champion_minus
        )

    def satisfying(self, path: str, gate: SatisfyGate) -> list[GateResult]:
        """One result for the whole split, or one for each value of the slice."""
        if not gate.slice_by:
            return [self._one(path, gate, _find(self.figures, gate.metric, {}, gate.payload))]
        slices = _slices(self.figures, gate)
        if not slices:
            reason = f"no example has {' and '.join(gate.slice_by)}: there is no slice to judge"
            return [self._result(path, gate.condition, gate.metric, None, "not_measured", reason)]
        results = [self._slice(path, gate, figure) for figure in slices]
        if all(result.verdict == "too_few_examples" for result in results):
            reason = f"all {len(results)} slices have fewer than {gate.min_examples} examples: nothing was judged"
            results.append(self._result(path, gate.condition, gate.metric, None, "not_measured", reason))
        return results

    def notes(self, gates: GatesConfig) -> Iterator[str]:
        """What the verdicts do not say: examples that lack the feature by which a gate slices stand in no slice."""
        for keys in dict.fromkeys(gate.slice_by for gate in gates.satisfy if gate.slice_by):
            gate = next(gate for gate in gates.satisfy if gate.slice_by == keys)
            whole = _find(self.figures, gate.metric, {}, gate.payload)
            sliced = sum(figure.n or 0 for figure in _slices(self.figures, gate))
            if whole is not None and whole.n is not None and 0 < sliced < whole.n:
                lacking = whole.n - sliced
                yield f"{lacking:,} of {whole.n:,} examples lack {' or '.join(keys)} and stand in no slice"

    def _slice(self, path: str, gate: SatisfyGate, figure: Figure) -> GateResult:
        if figure.n is not None and figure.n < gate.min_examples:
            reason = f"{figure.n} examples, fewer than the {gate.min_examples} that the gate asks for"
            return self._result(path, gate.condition, gate.metric, figure, "too_few_examples", reason)
        return self._one(path, gate, figure)

    def _one(self, path: str, gate: SatisfyGate, figure: Figure | None) -> GateResult:
        if gate.max_drop is not None:
            return self._against_champion(path, "max_drop", gate.metric, figure, gate.max_drop, gate.on_inconclusive)
        if gate.max_ratio_to_champion is not None:
            return self._ratio(path, gate.metric, figure, gate.max_ratio_to_champion, gate.on_inconclusive)
        limit = gate.min if gate.min is not None else gate.max
        assert limit is not None, "the configuration has exactly one condition"
        sign = 1 if gate.min is not None else -1
        return self._judged(path, gate.condition, gate.metric, figure, limit, sign, gate.on_inconclusive)

    def _against_champion(
        self,
        path: str,
        condition: Condition,
        metric: str,
        figure: Figure | None,
        allowed: float,
        on_inconclusive: str = "block",
    ) -> GateResult:
        """Worse than the champion by `allowed` at most, in the metric's unit."""
        sign = -1 if direction(metric) == "lower" else 1
        served = self._served(figure, metric)
        if isinstance(served, tuple):
            return self._result(path, condition, metric, figure, *served)
        limit = served - sign * allowed
        return self._judged(path, condition, metric, figure, limit, sign, on_inconclusive, champion=served)

    def _ratio(self, path: str, metric: str, figure: Figure | None, ratio: float, on_inconclusive: str) -> GateResult:
        served = self._served(figure, metric)
        if isinstance(served, tuple):
            return self._result(path, "max_ratio_to_champion", metric, figure, *served)
        condition: Condition = "max_ratio_to_champion"
        if served < 0:
            reason = f"a ratio to the champion's {_shown(served)} says nothing, for it is below 0"
            return self._result(path, condition, metric, figure, "not_measured", reason, champion=served)
        return self._judged(path, condition, metric, figure, served * ratio, -1, on_inconclusive, champion=served)

    def _served(self, figure: Figure | None, metric: str) -> float | tuple[Verdict, str]:
        """The champion's value of the same metric on the same slice, or why there is nothing to compare with."""
        if figure is None or figure.value is None:
            return "not_measured", _missing(metric)
        if self.champion is None:
            return "no_champion", "nothing is served yet, so there is nothing to compare with"
        if self.same:
            return "already_served", "the candidate's bytes are the champion's"
        known = _of_payload(self.champion.figures, self.champion.digest)
        served = _find(known, metric, figure.slice, figure.payload)
        if served is None or served.value is None:
            gone = "its files are gone or changed, or it lacks the slice"
            return (
                "not_measured",
                f"{metric} of the champion (version {self.champion.version}) was not measured: {gone}",
            )
        return served.value

    def _judged(
        self,
        path: str,
        condition: Condition,
        metric: str,
        figure: Figure | None,
        limit: float,
        sign: int,
        on_inconclusive: str = "block",
        champion: float | None = None,
    ) -> GateResult:
        """Holds a value against a limit; `sign` is 1 where the value must not be below it, -1 where not above."""
        if figure is None or figure.value is None:
            return self._result(path, condition, metric, figure, "not_measured", _missing(metric), limit=limit)
        margin = sign * (figure.value - limit)
        verdict: Verdict = "pass" if margin >= 0 else "fail"
        compared = "at least" if sign > 0 else "at most"
        reason = f"{_shown(figure.value)} {'is' if verdict == 'pass' else 'is not'} {compared} {_shown(limit)}"
        if champion is not None:
            reason += f" (champion {_shown(champion)})"
        if figure.interval and figure.interval[0] < limit < figure.interval[1]:
            low, high = figure.interval
            verdict = "pass" if on_inconclusive == "pass" else "inconclusive"
            reason = f"{_shown(limit)} lies inside the interval {_shown(low)}..{_shown(high)}"
            if verdict == "pass":
                reason = f"inconclusive, which the gate lets pass: {reason}"
        return self._result(
            path, condition, metric, figure, verdict, reason, limit=limit, margin=margin, champion=champion
        )

    def _result(
        self,
        path: str,
        condition: Condition,
        metric: str,
        figure: Figure | None,
        verdict: Verdict,
        reason: str,
        *,
        limit: float | None = None,
        margin: float | None = None,
        champion: float | None = None,
    ) -> GateResult:
        return GateResult(
            gate=path,
            condition=condition,
            metric=metric,
            payload=figure.payload if figure else "saved_model",
            digest=self.digest,
            value=figure.value if figure else None,
            unit=figure.unit if figure else "1",
            limit=limit,
            margin=margin,
            champion=champion,
            interval=figure.interval if figure else None,
            n=figure.n if figure else None,
            slice=figure.slice if figure else {},
            verdict=verdict,
            reason=reason,
        )


def _of_payload(figures: Sequence[Figure], digest: str) -> list[Figure]:
    """The figures that were measured on these very bytes; no others count."""
    return [figure for figure in figures if figure.digest == digest]


def _find(figures: Sequence[Figure], metric: str, where: dict[str, str], payload: str) -> Figure | None:
    for figure in figures:
        if figure.metric == metric and figure.slice == where and figure.payload == payload:
            return figure
    return None


def _slices(figures: Sequence[Figure], gate: SatisfyGate) -> list[Figure]:
    """The figures of the gate's metric on each value of its slice, in the order of the values."""
    wanted = set(gate.slice_by)
    found = [
        figure
        for figure in figures
        if figure.metric == gate.metric and figure.payload == gate.payload and set(figure.slice) == wanted
    ]
    return sorted(found, key=lambda figure: [_sortable(figure.slice[key]) for key in gate.slice_by])


def _sortable(text: str) -> tuple[int, float, str]:
    try:
        return 0, float(text), ""
    except ValueError:
        return 1, 0.0, text


def _nearest_to_failing(result: GateResult) -> tuple[int, int, float]:
    """Blocking results first, then those that passed by the smallest share of their limit, then what was not judged."""
    if result.margin is None or result.limit is None:
        return (0 if result.blocks else 1), 1, 0.0
    return (0 if result.blocks else 1), 0, result.margin / max(abs(result.limit), 1e-12)


def _missing(metric: str) -> str:
    return f"{metric} was not measured, or is not a number on these examples"


def _shown(value: float) -> str:
    return f"{value:.6g}"


def _label(result: GateResult) -> str:
    where = ", ".join(f"{key}={value}" for key, value in result.slice.items())
    return f"{result.metric}[{where}]" if where else result.metric


def _reasons(
    outcome: Outcome, blocking: Sequence[GateResult], results: Sequence[GateResult], champion: Champion | None
) -> tuple[str, ...]:
    if blocking:
        return tuple(f"{r.gate}: {_label(r)} {r.verdict}: {r.reason}" for r in blocking)
    if outcome == "already_served":
        assert champion is not None
        return (f"the candidate's bytes are those of version {champion.version}, which is served",)
    count = len({result.gate for result in results})
    admitted = "the gate admits it" if count == 1 else f"all {count} gates admit it"
    if champion is None:
        return (f"{admitted}; nothing is served yet to compare it with",)
    return (f"{admitted}, compared with version {champion.version}, which is served",)
