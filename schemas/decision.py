"""What was measured, how each gate judged it, what was decided, and what the push did: the records of a run.

Each is a frozen pydantic model that is written as JSON into an artifact of ML Metadata and read back by every command.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = [
    "DATA_DECISION_FILE",
    "DECISION_FILE",
    "FIGURES_FILE",
    "PUSH_RESULT_FILE",
    "TRAINING_FILE",
    "Anomaly",
    "Approval",
    "Baseline",
    "Comparison",
    "Confirmation",
    "DataDecision",
    "Decision",
    "EdgeDecision",
    "Figure",
    "Figures",
    "GateResult",
    "Outcome",
    "Payload",
    "PushResult",
    "Rehearsal",
    "Rung",
    "Verdict",
]

DECISION_FILE = "decision.json"
DATA_DECISION_FILE = "data_decision.json"
PUSH_RESULT_FILE = "push_result.json"
FIGURES_FILE = "figures.json"
TRAINING_FILE = "training.json"
"""Names of the files that hold the records in their artifacts; the last is the trainer's, in its ModelRun."""

Verdict = Literal["pass", "fail", "inconclusive", "not_measured", "no_champion", "too_few_examples", "already_served"]
"""`already_served`: a comparison of the champion with itself, which is not made."""

Outcome = Literal["push", "block", "pending", "already_served"]

Payload = Literal["saved_model", "tflite"]

Against = Literal["saved_model", "trained", "serving_examples"]
"""What a figure of parity compares a payload's predictions with: the SavedModel's serving signature, the model as it
was trained, or the SavedModel's signature that takes tf.Examples."""

Condition = Literal["min", "max", "max_gap", "max_drop", "max_ratio_to_champion", "at_least_champion_minus"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Figure(_Record):
    """One measured figure.

    Attributes:
        metric: its name, in the configuration's words (`auc`, `latency_p99_ms`).
        value: the figure, in `unit`; None where it was looked for and is not there.
        unit: `1` for a pure number, else `ms`, `MB`, `examples`, …
        payload: the kind of payload it was measured on.
        digest: the payload's digest.
        slice: feature name to value; empty for the whole eval split.
        n: number of examples (quality) or repetitions (latency); None where not counted.
        interval: 95 % confidence interval, in `unit`; None where none was computed.
        how: what measured it (`tfma 0.52`, `profiler`).
        machine: the fingerprint of the machine, where the figure depends on it; else "".
        batch_size: examples in one request, for latency and throughput; else None.
        against: what a figure of parity was measured against (`trained`, `saved_model`); else None.
        difference_to_champion: candidate's less the champion's figure on the same examples; None where there is no interval
            of it.
        difference_interval: 95 % confidence interval of that difference, which is narrower than what two intervals of
            figures that were measured apart can tell.
        ratio_to_champion: candidate's over champion's figure, measured in pairs in one process; None where it was not.
            It stands on the candidate's figure and is what `max_ratio_to_champion` judges before it divides figures
            that were measured apart.
        ratio_interval: 95 % confidence interval of that ratio.
        why_not: why the examples do not allow a value (`every label is 0`), in words; "" where there is one, or nothing
            more is known than that there is none.
    """

    metric: str
    value: float | None
    unit: str = "1"
    payload: Payload = "saved_model"
    digest: str
    slice: dict[str, str] = {}
    n: int | None = None
    interval: tuple[float, float] | None = None
    how: str = ""
    machine: str = ""
    batch_size: int | None = None
    against: Against | None = None
    difference_to_champion: float | None = None
    difference_interval: tuple[float, float] | None = None
    ratio_to_champion: float | None = None
    ratio_interval: tuple[float, float] | None = None
    why_not: str = ""


class Rehearsal(_Record):
    """What a payload did in a fresh process with the requests that it carries.

    Attributes:
        digest: of the payload.
        golden, warm_up: how many requests were answered as they should be.
        problem: what was wrong, in words that follow the payload's name; "" where nothing was.
    """

    digest: str
    golden: int = 0
    warm_up: int = 0
    problem: str = ""


class Figures(_Record):
    """What one node measured, of the candidate and of the champion.

    Attributes:
        candidate: digest of the bytes that were loaded and measured.
        champion: digest of the champion's bytes; "" where there is none, or it was not measured.
        figures: of both, each with the digest of its payload.
        notes: what a reader should know beside the figures.
        rehearsal: of the candidate; None where its requests were not run.
        why_no_champion: why there are no figures of the champion, in words; "" where there are, or none was given.
    """

    candidate: str
    champion: str = ""
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
    rehearsal: Rehearsal | None = None
    why_no_champion: str = ""

    def of(self, digest: str) -> tuple[Figure, ...]:
        """The figures of one payload."""
        return tuple(figure for figure in self.figures if figure.digest == digest)


class GateResult(_Record):
    """How one gate judged one figure.

    Attributes:
        gate: path of the gate in the configuration (`gates.satisfy.0`, `gates.optimize`).
        condition: which condition it states.
        value: of the figure; for a gap, the largest less the smallest value over the slices.
        limit: the limit that the value was held against, in `unit`; for a comparison, derived from the champion.
        margin: distance from the limit, in `unit`; positive on the good side. None where nothing was compared.
        champion: the champion's figure, or None.
        interval: 95 % confidence interval of the value; of a comparison in pairs, the champion's figure taken as given.
        n: number of examples or repetitions.
        batch_size, against: of the figure.
        reason: the verdict in one sentence.
    """

    gate: str
    condition: Condition
    metric: str
    payload: Payload = "saved_model"
    digest: str = ""
    value: float | None = None
    unit: str = "1"
    limit: float | None = None
    margin: float | None = None
    champion: float | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None
    slice: dict[str, str] = {}
    batch_size: int | None = None
    against: Against | None = None
    verdict: Verdict
    reason: str

    @property
    def blocks(self) -> bool:
        """True where this verdict alone keeps the candidate from being pushed."""
        return self.verdict in ("fail", "inconclusive", "not_measured")


class Approval(_Record):
    """What a person decided on a candidate that the gates admit.

    Attributes:
        by: who, as given.
        reason: why.
        at: when, UTC, as ISO 8601.
        user: login name, and host, of the process that recorded it.
    """

    outcome: Literal["approved", "rejected"]
    by: str
    reason: str
    at: str
    user: str = ""


class Rung(_Record):
    """One variant of the `.tflite` ladder, as it was judged.

    Attributes:
        variant: its name.
        digest: of its file; "" where none could be made.
        verdict: `chosen`; `passes` where a smaller one was chosen; `blocked` by a gate; `unfit` for what was found wrong
            with it before any gate.
        problems: why it is unfit.
        figures: on the whole eval split, by metric: size, latency, difference, and what the gates name.
        gates: every verdict on it.
    """

    variant: str
    digest: str
    verdict: Literal["chosen", "passes", "blocked", "unfit"]
    problems: tuple[str, ...] = ()
    figures: dict[str, float] = {}
    gates: tuple[GateResult, ...] = ()


class EdgeDecision(_Record):
    """Which `.tflite` file ships, or why none does.

    Attributes:
        outcome: as of `Decision`.
        variant, digest: of the file that was chosen; "" where none was.
        champion_digest, champion_version: of the file that devices have now; "" and None on the first run.
        ladder: all variants, the smallest first, those without a file last.
        reasons: one sentence each.
        head: as of `Decision`, of the edge directory.
    """

    outcome: Outcome
    variant: str = ""
    digest: str = ""
    champion_digest: str = ""
    champion_version: int | None = None
    ladder: tuple[Rung, ...]
    reasons: tuple[str, ...]
    head: int | None = None


class Decision(_Record):
    """All the verdicts on one candidate, together.

    Attributes:
        outcome: `push`, `block`, `pending` (a person must approve) or `already_served` (the candidate's bytes are the
            champion's, and no gate blocks them).
        digest: the candidate payload's digest.
        champion_digest, champion_version: of the model now served; "" and None on the first run.
        gates: every verdict, those that block first, then the ones nearest to failing.
        reasons: one sentence each, the blocking ones first.
        notes: what a reader should know beside the verdicts (examples that stand in no slice).
        config_digest: digest of the resolved configuration.
        approval: what a person decided after the gates; None where nobody did. The outcome follows it.
        edge: which `.tflite` file ships beside the SavedModel; None where none is made.
        rehearsal: what the payload did with the requests that it carries; None where nobody has run them yet.
        head: the largest version number that the base path had used when this was decided; None where that is not known.
        span: number of the newest span of the candidate's data; None where these have no spans.
        spans: all of them, in words; "" where there are none.
    """

    outcome: Outcome
    digest: str
    champion_digest: str = ""
    champion_version: int | None = None
    gates: tuple[GateResult, ...]
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()
    config_digest: str = ""
    approval: Approval | None = None
    edge: EdgeDecision | None = None
    rehearsal: Rehearsal | None = None
    head: int | None = None
    span: int | None = None
    spans: str = ""


class Confirmation(_Record):
    """What became of a new version on one server.

    Attributes:
        instance: its gRPC address.
        confirmed: whether it serves the version and answers as the trained model did.
        state: the last state that it told of the version; "" where it told none.
        problem: what was wrong, the server's own words among it; "" where nothing was.
        asked: over which interfaces it answered golden requests.
        seconds: since the version was published.
    """

    instance: str
    confirmed: bool
    state: str = ""
    problem: str = ""
    asked: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def told(self) -> str:
        """For people, where it was confirmed."""
        return f"confirmed by {self.instance} over {' and '.join(self.asked) or 'its state'} after {self.seconds:.1f} s"


class PushResult(_Record):
    """What the Pusher did.

    Attributes:
        pushed: True where a new version was published.
        version: the version that holds the payload: the new one, or the one that already did; None where blocked.
        destination: path of that version's directory, or "".
        outcome: `pushed`; `already_served`; `not_pushed` where the decision forbids it; `rolled_back` where these bytes
            were rolled back before and nobody has allowed them since; `refused` where the payload does not do what it
            should, the server is too old for it, or a rollback was made since the decision; `not_confirmed` where a server
            did not take the new version, which was then withdrawn; `earlier_span` where a model of later data is served.
        reason: in one sentence.
        removed: the versions that retention removed afterwards.
        rehearsal: what the payload did in a fresh process before it was published; None where nothing was published.
        confirmations: of the servers that were waited for.
        withdrawn: the number of the version that was published and moved out again; it is not used again.
        warnings: what a reader should know although the push was made.
        edge: what was done with the `.tflite` file that was chosen; None where none is made.
    """

    pushed: bool
    outcome: Literal[
        "pushed", "already_served", "not_pushed", "rolled_back", "refused", "not_confirmed", "earlier_span"
    ]
    digest: str
    version: int | None = None
    destination: str = ""
    reason: str
    removed: tuple[int, ...] = ()
    rehearsal: Rehearsal | None = None
    confirmations: tuple[Confirmation, ...] = ()
    withdrawn: int | None = None
    warnings: tuple[str, ...] = ()
    edge: PushResult | None = None

    @property
    def blocked(self) -> bool:
        """True where the candidate does not serve although it may have been admitted."""
        return self.outcome in ("not_pushed", "rolled_back", "refused", "not_confirmed", "earlier_span")


class Anomaly(_Record):
    """One anomaly of the data against the schema, as TensorFlow Data Validation words it.

    Attributes:
        split: in which split.
        feature: column name, or "" where it concerns the data set as a whole.
        kind: TFDV's anomaly type (`SCHEMA_MISSING_COLUMN`, …).
        reason: TFDV's description.
        severity: `block` or `warn`, by the configuration.
    """

    split: str
    feature: str
    kind: str
    reason: str
    severity: Literal["block", "warn"]


class Baseline(_Record):
    """The data of the model now served, with which drift is measured.

    Attributes:
        found: whether there is something to compare with; if not, `reason` says why.
        version: that is served; None where none is.
        statistics: id of the ExampleStatistics artifact; None where there is none.
        same_data: whether the statistics are those of this very run's data, byte for byte.
    """

    found: bool
    version: int | None = None
    statistics: int | None = None
    same_data: bool = False
    reason: str


class Comparison(_Record):
    """How far the values of a feature are from those of another data set.

    Attributes:
        kind: `drift` (against the champion's training data) or `skew` (against another split of this run).
        feature: column name.
        measure: `jensen_shannon` or `l_infinity`.
        value: the distance, 0 (alike) to 1 (nothing in common); None where it could not be measured.
        limit: that it must not exceed.
        split: whose values are judged.
        against: what they are held against, in words: `version 3`, `train`.
        n, against_n: number of values on either side.
        verdict: `pass`; `exceeded`; `not_measured` (the values are gone, or of a type that cannot be compared with the
            one before), which counts like `exceeded`; `no_baseline`; or `too_few_examples`. The last two are never a pass, and never block by
            themselves.
        severity: what the configuration wants done about one that is exceeded.
        reason: the verdict in one sentence.
    """

    kind: Literal["drift", "skew"]
    feature: str
    measure: Literal["jensen_shannon", "l_infinity"]
    value: float | None = None
    limit: float
    split: str = "train"
    against: str
    n: int | None = None
    against_n: int | None = None
    verdict: Literal["pass", "exceeded", "not_measured", "no_baseline", "too_few_examples"]
    severity: Literal["block", "warn", "retrain"]
    reason: str

    @property
    def deviates(self) -> bool:
        """True where what the configuration wants done about it is due."""
        return self.verdict in ("exceeded", "not_measured")


class DataDecision(_Record):
    """What the data gate decided before anything was trained.

    Attributes:
        outcome: `proceed` or `block`.
        anomalies: all that were found, the blocking ones first.
        comparisons: drift and skew, those that deviate first, then by how near they are to their limit.
        baseline: with what drift was measured; None where the configuration asks for no drift.
        retrain: whether drift asks for a new model; for the scheduler.
        rows: number of rows per split.
        reasons: what blocks, one sentence each.
    """

    outcome: Literal["proceed", "block"]
    anomalies: tuple[Anomaly, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    baseline: Baseline | None = None
    retrain: bool = False
    rows: dict[str, int] = {}
    reasons: tuple[str, ...] = ()
