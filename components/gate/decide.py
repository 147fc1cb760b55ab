"""Judges figures by the gates of a configuration. Pure: imports neither TFX nor TensorFlow, measures nothing.

Verdicts of a single gate:

- `not_measured`: the figure is not there, or is no number. It blocks.
- `no_champion`: a comparison on the first run, or one without a champion that a person has accepted. It does not block.
- `already_served`: a comparison of the champion with itself. It does not block.
- `too_few_examples`: a slice below its `min_examples`, or one whose examples cannot give the figure (an AUC where every
  label is the same). It does not block, and is reported; where it is so of every slice, nothing was measured.
- `inconclusive`: the limit lies inside the figure's interval. It blocks unless the gate says otherwise.
- `pass`, `fail`: the value on the one or the other side of the limit. The limit itself passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from components.gate.select import of_payload, same_figure, slices_of, whole_of
from components.gate.words import label, shown
from schemas.config import ChampionGate, GatesConfig, SatisfyGate
from schemas.decision import Condition, Decision, Figure, GateResult, Outcome, Payload, Verdict
from schemas.metrics import direction

__all__ = ["Champion", "decide", "ranked"]

_GONE = "its files are gone or changed, or it lacks the slice"


@dataclass(frozen=True)
class Champion:
    """The model now served.

    Attributes:
        digest: of its payload.
        version: under which it is served.
        figures: measured on today's data; empty where the candidate is the champion.
        why_not: why it was not measured, in words; "" where it was, or nothing is known.
        accepted: the reason for which a person accepts a candidate that cannot be compared with it; "" where nobody does.
        called: in words, where it is not what is served.
    """

    digest: str
    version: int | None
    figures: Sequence[Figure] = ()
    why_not: str = ""
    accepted: str = ""
    called: str = ""


def decide(
    gates: GatesConfig,
    digest: str,
    figures: Sequence[Figure],
    champion: Champion | None,
    config_digest: str = "",
    payload: Payload = "saved_model",
    variant: str = "",
) -> Decision:
    """Judges every gate and decides.

    Args:
        gates: the configuration's section.
        digest: of the candidate's payload.
        figures: of the candidate, whole split and slices.
        champion: the model now served, or None on the first run.
        config_digest: of the resolved configuration, for the record.
        payload: what the candidate is; the gates on other payloads do not count. `optimize` is of the SavedModel.
        variant: of a `.tflite` file; the gates that name another one do not count.

    Returns:
        `block` where any gate blocks; else `already_served` where the candidate's bytes are the champion's; else
        `pending` where a person has to approve; else `push`.
    """
    same = champion is not None and champion.digest == digest
    judge = _Judge(digest, of_payload(figures, digest), champion, same, payload)
    results: list[GateResult] = []
    if gates.optimize and payload == "saved_model":
        results.append(judge.optimizing(gates.optimize))
    counted = [
        (f"gates.satisfy.{index}", gate)
        for index, gate in enumerate(gates.satisfy)
        if gate.payload == payload and gate.variant in (None, variant)
    ]
    for path, gate in counted:
        results += judge.satisfying(path, gate)
    results = list(ranked(results))
    blocking = [result for result in results if result.blocks]
    admitted: Outcome = "already_served" if same else "pending" if gates.approval == "required" else "push"
    outcome: Outcome = "block" if blocking else admitted
    return Decision(
        outcome=outcome,
        digest=digest,
        champion_digest=champion.digest if champion else "",
        champion_version=champion.version if champion else None,
        gates=tuple(results),
        reasons=_reasons(outcome, blocking, results, champion),
        notes=(*judge.notes([gate for _, gate in counted]), *_on_champion(champion, results)),
        config_digest=config_digest,
    )


def ranked(results: Sequence[GateResult]) -> tuple[GateResult, ...]:
    """Those that block first, then the ones nearest to failing."""
    return tuple(sorted(results, key=_nearest_to_failing))


@dataclass(frozen=True)
class _Gate:
    """What every result of one gate shares.

    Attributes:
        path: in the configuration.
        condition: which it states.
        metric: its name.
        lenient: whether what is inconclusive passes.
    """

    path: str
    condition: Condition
    metric: str
    lenient: bool


@dataclass(frozen=True)
class _Limit:
    """What a value is held against.

    Attributes:
        at: the limit.
        sign: 1 where the value must not be below it, -1 where not above.
        margin: distance of what was measured from the limit, where it is not the value's own.
        interval: of what was measured, where it is not the value's own.
        champion: the champion's figure, or None.
        told: what was held against what, in words, where it is not the value against the limit.
    """

    at: float
    sign: int
    margin: float | None = None
    interval: tuple[float, float] | None = None
    champion: float | None = None
    told: str = ""


@dataclass(frozen=True)
class _Judge:
    digest: str
    figures: Sequence[Figure]
    champion: Champion | None
    same: bool
    payload: Payload = "saved_model"

    def optimizing(self, gate: ChampionGate) -> GateResult:
        """The candidate may be worse than the champion by no more than the gate allows."""
        about = _Gate("gates.optimize", "at_least_champion_minus", gate.metric, gate.on_inconclusive == "pass")
        figure = whole_of(self.figures, SatisfyGate(metric=gate.metric, min=0.0))
        return self._against_champion(about, figure, gate.at_least_champion_minus)

    def satisfying(self, path: str, gate: SatisfyGate) -> list[GateResult]:
        """One result for the whole split, or one for each value of the slice."""
        about = _Gate(path, gate.condition, gate.metric, gate.on_inconclusive == "pass")
        if not gate.slice_by:
            return [self._one(about, gate, whole_of(self.figures, gate))]
        slices = slices_of(self.figures, gate)
        if not slices:
            whole = whole_of(self.figures, gate)
            reason = f"no example has {' and '.join(gate.slice_by)}: there is no slice to judge"
            if whole is None or whole.value is None:
                reason = _missing(about.metric, whole)
            return [self._result(about, None, "not_measured", reason)]
        small = {id(figure): reason for figure in slices if (reason := _too_few(figure, gate))}
        results = [self._result(about, f, "too_few_examples", small[id(f)]) for f in slices if id(f) in small]
        judged = [figure for figure in slices if id(figure) not in small]
        if not judged:
            reason = f"all {len(slices)} slices have fewer than {gate.min_examples} examples: nothing was judged"
            if any(figure.why_not for figure in slices):
                reason = f"none of the {len(slices)} slices has the examples that it takes: nothing was judged"
            return [self._result(about, None, "not_measured", reason), *results]
        if gate.max_gap is not None:
            return [self._gap(about, judged, gate.max_gap), *results]
        return [*(self._one(about, gate, figure) for figure in judged), *results]

    def notes(self, gates: Sequence[SatisfyGate]) -> Iterator[str]:
        """What the verdicts do not say: examples that lack the feature by which a gate slices stand in no slice."""
        for keys in dict.fromkeys(gate.slice_by for gate in gates if gate.slice_by):
            gate = next(gate for gate in gates if gate.slice_by == keys)
            whole = whole_of(self.figures, gate)
            sliced = sum(figure.n or 0 for figure in slices_of(self.figures, gate))
            if whole is not None and whole.n is not None and 0 < sliced < whole.n:
                lacking = whole.n - sliced
                yield f"{lacking:,} of {whole.n:,} examples lack {' or '.join(keys)} and stand in no slice"

    def _one(self, about: _Gate, gate: SatisfyGate, figure: Figure | None) -> GateResult:
        if gate.max_drop is not None:
            return self._against_champion(about, figure, gate.max_drop)
        if gate.max_ratio_to_champion is not None:
            return self._ratio(about, figure, gate.max_ratio_to_champion)
        limit = gate.min if gate.min is not None else gate.max
        assert limit is not None, "the configuration has exactly one condition"
        return self._judged(about, figure, _Limit(limit, 1 if gate.min is not None else -1))

    def _gap(self, about: _Gate, slices: Sequence[Figure], limit: float) -> GateResult:
        """The largest less the smallest value over slices."""
        missing = next((figure for figure in slices if figure.value is None), None)
        if missing is not None:
            return self._result(about, missing, "not_measured", _missing(about.metric, missing))
        if len(slices) == 1:
            reason = f"a gap takes two slices, and only {_where(slices[0])} has enough examples: nothing was judged"
            return self._result(about, None, "not_measured", reason)
        low, high = min(slices, key=_value), max(slices, key=_value)
        gap = Figure(
            metric=about.metric,
            value=_value(high) - _value(low),
            unit=low.unit,
            payload=low.payload,
            digest=self.digest,
            n=sum(figure.n or 0 for figure in slices) or None,
            interval=_interval_of_gap(low, high),
            against=low.against,
        )
        result = self._judged(about, gap, _Limit(limit, -1))
        ends = f"{shown(_value(high))} on {_where(high)}, {shown(_value(low))} on {_where(low)}"
        return result.model_copy(update={"reason": f"{result.reason}: {ends}"})

    def _against_champion(self, about: _Gate, figure: Figure | None, allowed: float) -> GateResult:
        """Worse than the champion by `allowed` at most, in the metric's unit."""
        served = self._served(about, figure)
        if isinstance(served, GateResult):
            return served
        assert figure is not None
        sign = -1 if direction(about.metric) == "lower" else 1
        limit = _value(served) - sign * allowed
        interval = _interval_beside(figure, served, 1.0)
        return self._judged(about, figure, _Limit(limit, sign, interval=interval, champion=_value(served)))

    def _ratio(self, about: _Gate, figure: Figure | None, ratio: float) -> GateResult:
        """At most `ratio` times the champion's; by the ratio that was measured in pairs, where there is one."""
        served = self._served(about, figure)
        if isinstance(served, GateResult):
            return served
        assert figure is not None
        theirs = _value(served)
        if theirs < 0:
            reason = f"a ratio to the champion's {shown(theirs)} says nothing, for it is below 0"
            return self._result(about, figure, "not_measured", reason, champion=theirs)
        if figure.ratio_to_champion is None:
            interval = _interval_beside(figure, served, ratio)
            return self._judged(about, figure, _Limit(theirs * ratio, -1, interval=interval, champion=theirs))
        low, high = figure.ratio_interval or (math.nan, math.nan)
        limit = _Limit(
            theirs * ratio,
            -1,
            margin=(ratio - figure.ratio_to_champion) * theirs,
            interval=(low * theirs, high * theirs) if figure.ratio_interval else None,
            champion=theirs,
            told=f"in pairs, {shown(figure.ratio_to_champion)} times the champion's; at most {shown(ratio)} times",
        )
        return self._judged(about, figure, limit)

    def _served(self, about: _Gate, figure: Figure | None) -> Figure | GateResult:
        """The champion's same figure, which has a value, or the result where there is nothing to compare with."""
        if figure is None or figure.value is None:
            return self._result(about, figure, "not_measured", _missing(about.metric, figure))
        if self.champion is None:
            reason = "nothing is served yet, so there is nothing to compare with"
            return self._result(about, figure, "no_champion", reason)
        if self.same:
            return self._result(about, figure, "already_served", "the candidate's bytes are the champion's")
        served = same_figure(of_payload(self.champion.figures, self.champion.digest), figure)
        if served is not None and served.value is not None:
            return served
        if self.champion.accepted:
            reason = f"accepted without champion: {self.champion.accepted}"
            return self._result(about, figure, "no_champion", reason)
        why = (served.why_not if served is not None else "") or self.champion.why_not or _GONE
        called = self.champion.called or f"the champion (version {self.champion.version})"
        reason = f"{about.metric} of {called} was not measured: {why}"
        return self._result(about, figure, "not_measured", reason)

    def _judged(self, about: _Gate, figure: Figure | None, limit: _Limit) -> GateResult:
        """Holds a value against a limit."""
        if figure is None or figure.value is None:
            return self._result(about, figure, "not_measured", _missing(about.metric, figure), limit=limit)
        margin = limit.sign * (figure.value - limit.at) + 0.0 if limit.margin is None else limit.margin  # -0.0 is 0
        interval = limit.interval or figure.interval
        verdict: Verdict = "pass" if margin >= 0 else "fail"
        compared = "at least" if limit.sign > 0 else "at most"
        at = shown(limit.at, figure.unit)
        reason = f"{shown(figure.value, figure.unit)} {'is' if verdict == 'pass' else 'is not'} {compared} {at}"
        if limit.told:
            reason = limit.told
        elif limit.champion is not None:
            reason += f" (champion {shown(limit.champion, figure.unit)})"
        if interval and interval[0] < limit.at < interval[1]:
            low, high = interval
            verdict = "pass" if about.lenient else "inconclusive"
            reason = f"{at} lies inside the interval {shown(low)}..{shown(high)}"
            reason += f" ({limit.told})" if limit.told else ""
            if verdict == "pass":
                reason = f"inconclusive, which the gate lets pass: {reason}"
        return self._result(about, figure, verdict, reason, limit=limit, margin=margin, interval=interval)

    def _result(
        self,
        about: _Gate,
        figure: Figure | None,
        verdict: Verdict,
        reason: str,
        *,
        limit: _Limit | None = None,
        margin: float | None = None,
        interval: tuple[float, float] | None = None,
        champion: float | None = None,
    ) -> GateResult:
        return GateResult(
            gate=about.path,
            condition=about.condition,
            metric=about.metric,
            payload=figure.payload if figure else self.payload,
            digest=self.digest,
            value=figure.value if figure else None,
            unit=figure.unit if figure else "1",
            limit=limit.at if limit else None,
            margin=margin,
            champion=limit.champion if limit else champion,
            interval=interval or (figure.interval if figure else None),
            n=figure.n if figure else None,
            slice=figure.slice if figure else {},
            batch_size=figure.batch_size if figure else None,
            against=figure.against if figure else None,
            verdict=verdict,
            reason=reason,
        )


def _too_few(figure: Figure, gate: SatisfyGate) -> str:
    """Why a slice cannot be judged for its examples; "" where it can."""
    if figure.n is not None and figure.n < gate.min_examples:
        return f"{figure.n} examples, fewer than the {gate.min_examples} that the gate asks for"
    return figure.why_not if figure.value is None else ""


def _value(figure: Figure) -> float:
    assert figure.value is not None
    return figure.value


def _where(figure: Figure) -> str:
    return ", ".join(f"{key}={value}" for key, value in figure.slice.items())


def _interval_of_gap(low: Figure, high: Figure) -> tuple[float, float] | None:
    """Of the difference of two figures that were measured on different examples, by the distances to their bounds."""
    if low.interval is None or high.interval is None:
        return None
    gap = _value(high) - _value(low)
    down = math.hypot(_value(high) - high.interval[0], low.interval[1] - _value(low))
    up = math.hypot(high.interval[1] - _value(high), _value(low) - low.interval[0])
    return max(0.0, gap - down), gap + up


def _interval_beside(ours: Figure, theirs: Figure, scale: float) -> tuple[float, float] | None:
    """Of a value that is held against `scale` times the champion's: the champion's own uncertainty is in it.

    By the difference on the same examples where it is known; else as of figures that were measured apart.
    """
    value, served = _value(ours), _value(theirs)
    low, high = theirs.interval or (served, served)
    own, share = ours.interval, scale
    if ours.difference_interval is not None:
        own = (ours.difference_interval[0] + served, ours.difference_interval[1] + served)
        share = abs(scale - 1)
    if own is None:
        return None
    return value - math.hypot(value - own[0], share * (high - served)), value + math.hypot(
        own[1] - value, share * (served - low)
    )


def _nearest_to_failing(result: GateResult) -> tuple[int, int, float]:
    """Blocking results first, then those that passed by the smallest share of their limit, then what was not judged."""
    if result.margin is None or result.limit is None:
        return (0 if result.blocks else 1), 1, 0.0
    scale = max(abs(result.limit), 1e-12)
    return (0 if result.blocks else 1), 0, result.margin / scale


def _missing(metric: str, figure: Figure | None) -> str:
    if figure is not None and figure.why_not:
        return f"{metric} could not be measured: {figure.why_not}"
    return f"{metric} was not measured, or is not a number on these examples"


def _reasons(
    outcome: Outcome, blocking: Sequence[GateResult], results: Sequence[GateResult], champion: Champion | None
) -> tuple[str, ...]:
    if blocking:
        return tuple(f"{r.gate}: {label(r)} {r.verdict}: {r.reason}" for r in blocking)
    if outcome == "already_served":
        assert champion is not None
        return (f"the candidate's bytes are those of version {champion.version}, which is served",)
    count = len({result.gate for result in results})
    admitted = "the gate admits it" if count == 1 else f"all {count} gates admit it"
    compared = "nothing is served yet to compare it with"
    if champion is not None:
        compared = f"compared with version {champion.version}, which is served"
    waits = ("a person has to approve it",) if outcome == "pending" else ()
    return (*waits, f"{admitted}{'; ' if champion is None else ', '}{compared}")


def _on_champion(champion: Champion | None, results: Sequence[GateResult]) -> Iterator[str]:
    """Says that a candidate was accepted without the comparison with the champion, and why it could not be made."""
    if champion is not None and any(r.verdict == "no_champion" for r in results):
        why = champion.why_not or _GONE
        yield f"not compared with version {champion.version} ({why}); accepted without champion: {champion.accepted}"
