"""Measures payloads in processes of their own and makes figures of what comes back. Imports no TFX and no TensorFlow."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from components import turn
from components.arrays import Array, load_arrays
from components.profiler.machine import load_average, threads
from components.profiler.parity import compare, groups, skew, why_not_comparable
from components.profiler.rows import Rows
from components.profiler.spawn import Child, Outcome
from components.profiler.statistics import Estimate, mean, paired_p50_ratio, percentile, percentile_ratio
from components.trainer.reference import Reference
from schemas.decision import Against, Figure, Figures, Rehearsal
from schemas.metrics import PROFILED
from serving import payload

__all__ = ["ALWAYS", "Limits", "Measured", "Needs", "Trained", "profile"]

ALWAYS = (1, 64)
"""Batch sizes that are measured whatever the gates name."""

_CHILD = "components.profiler.child"
_MB = 1e6
_PERCENTILES = {"latency_p50_ms": 50.0, "latency_p95_ms": 95.0, "latency_p99_ms": 99.0}
_DIFFERENCES = ("max_abs_difference", "mean_abs_difference", "class_agreement")
_SIGNATURES: dict[Against, str] = {"trained": "", "serving_examples": "serving_examples"}
_RAW, _FEATURES = "serving_default", "model_features"


@dataclass(frozen=True)
class Measured:
    """A payload to measure.

    Attributes:
        path: of the SavedModel.
        digest: that names it.
    """

    path: str
    digest: str


@dataclass(frozen=True)
class Needs:
    """What the gates ask for.

    Attributes:
        batch_sizes: those that gates name; `ALWAYS` is measured too.
        slices: combinations of features by which parity is sliced.
    """

    batch_sizes: tuple[int, ...] = ()
    slices: tuple[tuple[str, ...], ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """All batch sizes, the smallest first."""
        return tuple(sorted({*ALWAYS, *self.batch_sizes}))


@dataclass(frozen=True)
class Trained:
    """What the payload is held against.

    Attributes:
        rows: of the reference.
        reference: the model's answers when it was trained, or None.
        why_not: why there is no reference, in words.
    """

    rows: Rows
    reference: Reference | None
    why_not: str = ""


@dataclass(frozen=True)
class Limits:
    """How long measuring may take.

    Attributes:
        timeout_s: after which a process that does not answer is stopped.
        budget_s: for the calls of one batch size, all payloads together; a comparison on a busy machine may take more
            (`latency.Plan`).
        precision: half-width of the intervals, as a share, with which calling stops earlier.
        seed: of the order of the calls and of the intervals.
    """

    timeout_s: float = 60.0
    budget_s: float = 1.2
    precision: float = 0.02
    seed: int = 0


def profile(
    candidate: Measured,
    champion: Measured | None,
    requests: Rows,
    trained: Trained,
    columns: Mapping[str, str],
    needs: Needs,
    machine: str,
    limits: Limits | None = None,
) -> Figures:
    """All figures of candidate and champion.

    Args:
        candidate, champion: the payloads; None where there is nothing to compare with.
        requests: real rows, of which requests are made.
        trained: what the candidate's answers are held against.
        columns: name in a request to column of the rows.
        needs: of the gates.
        machine: its fingerprint.
        limits: how long it may take.
    """
    with tempfile.TemporaryDirectory(prefix="satisfice-profile-") as folder:
        payloads = {"candidate": candidate, **({"champion": champion} if champion else {})}
        return _Session(
            Path(folder), payloads, requests, trained, dict(columns), needs, machine, limits or Limits()
        ).figures()


@dataclass
class _Session:
    """One measurement: the children's files, and the figures as they come in."""

    folder: Path
    payloads: Mapping[str, Measured]
    requests: Rows
    trained: Trained
    columns: dict[str, str]
    needs: Needs
    machine: str
    limits: Limits
    notes: list[str] = field(default_factory=list)

    def figures(self) -> Figures:
        clock = Child(_CHILD, None, self.folder, "latency")  # imports while the payloads are measured one by one
        try:
            return self._figures(clock)
        finally:
            clock.kill()

    def _figures(self, clock: Child) -> Figures:
        outcomes = self._measure_alone()
        for name, outcome in outcomes.items():
            if outcome.problem:
                self.notes.append(f"the {name} could not be measured: it {outcome.problem}")
        figures = [*self._sizes(), *self._memory(outcomes)]
        problems = {name: outcome.problem for name, outcome in outcomes.items()}
        turn.wait()  # what runs beside it would be timed too
        busy = load_average()
        figures += self._latency(problems, clock)
        figures += self._parity(outcomes["candidate"])
        self.notes.append(f"load average {busy:.2f} when the timing began; {threads()} threads")
        champion = self.payloads.get("champion")
        return Figures(
            candidate=self.payloads["candidate"].digest,
            champion=champion.digest if champion else "",
            figures=tuple(figures),
            notes=tuple(self.notes),
            rehearsal=_rehearsal(self.payloads["candidate"], outcomes["candidate"]),
            why_no_champion=f"it {problems['champion']}" if champion and problems["champion"] else "",
        )

    # --- each payload alone -------------------------------------------------------------------------------------------

    def _measure_alone(self) -> dict[str, Outcome]:
        """What a fresh process for each payload tells of memory and answers; beside each other, which changes neither.

        One that failed beside other nodes, which take time and memory from it, is asked again when its turn has come.
        """
        if not self.requests.count:
            return dict.fromkeys(self.payloads, Outcome(None, "was sent nothing: the eval split holds no rows"))
        self.requests.save(self.folder / "requests.npz")
        self.trained.rows.save(self.folder / "parity.npz")
        was_early = not turn.has_come()
        outcomes = self._outcomes(self.payloads)
        failed = {name: payload for name, payload in self.payloads.items() if outcomes[name].problem}
        if failed and was_early:
            turn.wait()
            outcomes |= self._outcomes(failed)
        return outcomes

    def _outcomes(self, payloads: Mapping[str, Measured]) -> dict[str, Outcome]:
        children = {name: self._child(name, payload) for name, payload in payloads.items()}
        try:
            return {name: child.wait(self.limits.timeout_s) for name, child in children.items()}
        finally:
            for child in children.values():
                child.kill()

    def _child(self, name: str, measured: Measured) -> Child:
        compared = name == "candidate" and self.trained.rows.count
        job = {
            "kind": "payload",
            "path": measured.path,
            "columns": self.columns,
            "requests": str(self.folder / "requests.npz"),
            "parity": str(self.folder / "parity.npz") if compared else "",
            "answers": str(self.folder / "answers.npz"),
            "batch_sizes": list(self.needs.sizes),
            "rehearse": name == "candidate",
        }
        return Child(_CHILD, job, self.folder, name)

    def _sizes(self) -> Iterator[Figure]:
        for measured in self.payloads.values():
            size = payload.size_bytes(measured.path) / _MB
            yield self._figure("size_mb", measured, size, how="sum of the payload's files; 1 MB is 10^6 bytes")

    def _memory(self, outcomes: Mapping[str, Outcome]) -> Iterator[Figure]:
        for name, measured in self.payloads.items():
            found, problem = outcomes[name].result, outcomes[name].problem
            held = found["peak_mb"] - found["empty_mb"] if found else None
            how = "peak resident set of a fresh process that loads and runs it, less that of TensorFlow's empty runtime"
            yield self._figure("peak_memory_mb", measured, held, how=how, why_not=problem, machine=self.machine)
            counted = found["parameters"] if found else None
            yield self._figure("parameters", measured, counted, how="numbers in its variables", why_not=problem)

    # --- all payloads in turns ----------------------------------------------------------------------------------------

    def _latency(self, problems: dict[str, str], clock: Child) -> list[Figure]:
        """Of the payloads that answered alone; the others are told as not measured, in `problems` too."""
        sound = {name: one.path for name, one in self.payloads.items() if not problems[name]}
        found: dict[str, Any] = {}
        seconds: dict[str, Array] = {}
        timed = Outcome(None)
        if sound:
            timed = self._time(sound, clock)
            if timed.problem and len(sound) > 1:
                timed = self._time_candidate(timed.problem, problems)
            found = timed.result or {}
            if timed.problem:
                self.notes.append(f"latency was not measured: the process {timed.problem}")
            if timed.result:
                seconds = load_arrays(self.folder / "seconds.npz")
        figures: list[Figure] = []
        for name, measured in self.payloads.items():
            figures += self._times(name, measured, found, seconds, problems[name] or timed.problem)
        return figures

    def _time_candidate(self, problem: str, problems: dict[str, str]) -> Outcome:
        """The candidate by itself, where it and the champion did not come back together: it shall not fall with it."""
        why = f"the process in which it ran in turns with the candidate did not come back ({problem})"
        self.notes.append(f"the champion's latency was not measured, and the candidate's without it: {why}")
        problems["champion"] = f"was not timed: {why}"
        return self._time(
            {"candidate": self.payloads["candidate"].path}, Child(_CHILD, None, self.folder, "latency-alone")
        )

    def _time(self, paths: Mapping[str, str], clock: Child) -> Outcome:
        job = {
            "kind": "latency",
            "payloads": dict(paths),
            "columns": self.columns,
            "requests": str(self.folder / "requests.npz"),
            "seconds": str(self.folder / "seconds.npz"),
            "batch_sizes": list(self.needs.sizes),
            "budget_s": self.limits.budget_s,
            "precision": self.limits.precision,
            "seed": self.limits.seed,
        }
        clock.give(job)
        return clock.wait(self.limits.timeout_s)

    def _times(
        self, name: str, measured: Measured, found: Mapping[str, Any], seconds: Mapping[str, Array], problem: str
    ) -> Iterator[Figure]:
        loads = found.get("load_s", {}).get(name)
        yield self._figure(
            "load_time_ms",
            measured,
            1e3 * float(np.median(loads)) if loads else None,
            n=len(loads) if loads else None,
            how="median of loads in one process",
            why_not=problem,
            machine=self.machine,
        )
        for size in self.needs.sizes:
            blocks = seconds.get(f"{size}/{name}")
            for metric, q in _PERCENTILES.items():
                yield self._percentile(metric, q, measured, size, blocks, seconds.get(f"{size}/champion"), problem)
            yield self._throughput(measured, size, blocks, problem)
        first = found.get("first_s", {}).get(name)
        typical = seconds.get(f"{self.needs.sizes[0]}/{name}")
        warmth = f", {first / float(np.median(typical)):,.0f} times the p50 after it" if typical is not None else ""
        yield self._figure(
            "first_call_ms",
            measured,
            None if first is None else 1e3 * first,
            batch_size=self.needs.sizes[0],
            how=f"the first call after loading{warmth}",
            why_not=problem,
            machine=self.machine,
        )

    def _percentile(
        self,
        metric: str,
        q: float,
        measured: Measured,
        size: int,
        blocks: Array | None,
        champion: Array | None,
        problem: str,
    ) -> Figure:
        """With the ratio to the champion's, from the same turns, on the candidate's figure."""
        if blocks is None:
            return self._figure(metric, measured, None, batch_size=size, why_not=problem, machine=self.machine)
        seed = self.limits.seed
        found = percentile(blocks, q, seed)
        compared = champion is not None and measured is self.payloads["candidate"]
        ratio = _ratio(blocks, champion, q, seed) if compared and champion is not None else None
        return self._figure(
            metric,
            measured,
            1e3 * found.value,
            n=blocks.size,
            interval=(1e3 * found.interval[0], 1e3 * found.interval[1]),
            batch_size=size,
            how=f"serving_default in a session, {threads()} threads, in turns",
            ratio_to_champion=ratio.value if ratio else None,
            ratio_interval=ratio.interval if ratio else None,
            machine=self.machine,
        )

    def _throughput(self, measured: Measured, size: int, blocks: Array | None, problem: str) -> Figure:
        """Examples per second of one client that waits for each answer."""
        if blocks is None:
            return self._figure(
                "throughput_per_s", measured, None, batch_size=size, why_not=problem, machine=self.machine
            )
        found = mean(blocks, self.limits.seed)
        return self._figure(
            "throughput_per_s",
            measured,
            size / found.value,
            n=blocks.size,
            interval=(size / found.interval[1], size / found.interval[0]),
            batch_size=size,
            how="examples of one client that waits for each answer",
            machine=self.machine,
        )

    # --- parity -------------------------------------------------------------------------------------------------------

    def _parity(self, outcome: Outcome) -> list[Figure]:
        arrays: dict[str, Array] = {}
        problems: dict[str, str] = {}
        file = self.folder / "answers.npz"
        if outcome.result and file.is_file():
            problems = outcome.result["problems"]
            arrays = load_arrays(file)
        figures: list[Figure] = []
        for against, signature in _SIGNATURES.items():
            theirs, why_not = self._theirs(against, signature, arrays, problems)
            why_not = outcome.problem or problems.get(_RAW, "") or why_not
            figures += self._differences(against, _prediction(arrays, _RAW), theirs, why_not)
        return figures + self._skew(arrays, outcome.problem or problems.get(_FEATURES, ""))

    def _theirs(
        self, against: Against, signature: str, arrays: Mapping[str, Array], problems: Mapping[str, str]
    ) -> tuple[Array | None, str]:
        """The predictions to compare with, and why there are none."""
        if against == "trained":
            reference = self.trained.reference
            return (reference.predictions, "") if reference else (None, self.trained.why_not)
        return _prediction(arrays, signature), problems.get(signature, "")

    def _differences(
        self, against: Against, ours: Array | None, theirs: Array | None, why_not: str
    ) -> Iterator[Figure]:
        if not why_not and (ours is None or theirs is None):
            why_not = "the signature gives several outputs, or there are no rows to compare"
        if not why_not and ours is not None and theirs is not None:
            why_not = why_not_comparable(ours, theirs)
        if why_not or ours is None or theirs is None:
            self.notes.append(f"parity with {against} was not measured: {why_not}")
            for metric in _DIFFERENCES:
                yield self._figure(metric, self.payloads["candidate"], None, against=against, why_not=why_not)
            return
        for keys in ((), *self.needs.slices):
            for values, rows in groups([self._texts(key) for key in keys]).items() if keys else [((), None)]:
                where = dict(zip(keys, values, strict=True))
                yield from self._compared(against, ours, theirs, rows, where)

    def _compared(
        self, against: Against, ours: Array, theirs: Array, rows: Array | None, where: dict[str, str]
    ) -> Iterator[Figure]:
        found = compare(ours, theirs, rows)
        how = f"serving_default against {against}, on rows of the validate split"
        for metric, value in zip(_DIFFERENCES, (found.max_abs, found.mean_abs, found.agreement), strict=True):
            why_not = "the model predicts no class" if value is None else ""
            yield self._figure(
                metric,
                self.payloads["candidate"],
                value,
                n=found.rows,
                slice=where,
                against=against,
                how=how,
                why_not=why_not,
            )

    def _texts(self, feature: str) -> list[str | None]:
        """The values of a feature, as the Evaluator names slices: of the transformed one where it has the name."""
        reference, rows = self.trained.reference, self.trained.rows
        if reference is not None and feature in reference.features:
            return [_text(value.reshape(-1)[0]) for value in reference.features[feature]]
        if feature not in rows.values:
            return [None] * rows.count
        return [
            _text(value) if there else None
            for value, there in zip(rows.values[feature], rows.present[feature], strict=True)
        ]

    def _skew(self, arrays: Mapping[str, Array], problem: str) -> list[Figure]:
        """The share of rows on which a feature differs: the largest of all features, and each feature's own."""
        candidate, reference = self.payloads["candidate"], self.trained.reference
        served = {
            key.removeprefix(f"{_FEATURES}/"): array for key, array in arrays.items() if key.startswith(_FEATURES)
        }
        why_not = (
            problem or (self.trained.why_not if reference is None else "") or ("" if served else "there are no rows")
        )
        if why_not or reference is None:
            self.notes.append(f"skew between training and serving was not measured: {why_not}")
            return [self._figure("feature_skew", candidate, None, why_not=why_not)]
        found = skew(reference.features, served)
        for one in found:
            if one.share > 0:
                self.notes.append(
                    f"{one.feature} differs between training and serving in {one.share:.1%} of the rows, "
                    f"by {one.largest:.3g} at most"
                )
        worst = found[0]
        how = f"rows that differ; most in {worst.feature}" if worst.share else f"none of {len(found)} features differs"
        figures = [self._figure("feature_skew", candidate, worst.share, n=reference.rows, how=how)]
        for one in sorted(found, key=lambda one: one.feature):
            where = {"feature": one.feature}
            how = f"rows that differ, by {one.largest:.3g} at most"
            figures.append(self._figure("feature_skew", candidate, one.share, n=reference.rows, slice=where, how=how))
        return figures

    def _figure(self, metric: str, measured: Measured, value: float | None, **more: Any) -> Figure:
        how = more.pop("how", "")
        return Figure(
            metric=metric,
            value=value,
            unit=PROFILED[metric].unit,
            digest=measured.digest,
            how=f"profiler: {how}" if how and value is not None else "profiler",
            **more,
        )


def _rehearsal(candidate: Measured, outcome: Outcome) -> Rehearsal | None:
    """What the candidate answered to the requests that it carries; None where its process told nothing of that."""
    if outcome.result is None:
        return None
    return Rehearsal(digest=candidate.digest, **outcome.result["rehearsal"])


def _ratio(ours: Array, theirs: Array, q: float, seed: int) -> Estimate:
    return paired_p50_ratio(ours, theirs, seed) if q == 50 else percentile_ratio(ours, theirs, q, seed)


def _prediction(arrays: Mapping[str, Array], signature: str) -> Array | None:
    """The one output of a signature; None where it has several, or none."""
    found = [array for key, array in arrays.items() if key.startswith(f"{signature}/")]
    return found[0] if len(found) == 1 else None


def _text(value: Any) -> str:
    plain = value.item()
    return plain.decode("utf-8", "replace") if isinstance(plain, bytes) else str(plain)
