"""Does what a decision says: publishes the very bytes that were measured, or says why nothing is touched. No TFX.

A model is never replaced by one of an earlier span of the same pipeline's data: a backfill looks back, and what serves looks
forward. A rollback is no push, and goes wherever it is told. Dates and numbers of spans are not compared with each other.

A push takes up to four steps. `Checks.refusal` looks at the payload before anything is touched; `VersionStore.publish`
refuses what was rolled back, and what a rollback or a model of later data has overtaken meanwhile; `Checks.confirm` has servers load the new
version and answer; and a version that a server does not take is withdrawn. Only then do old versions go.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from schemas.decision import Confirmation, Decision, Payload, PushResult, Rehearsal
from schemas.errors import EarlierSpanError, RolledBackError, StoreError, SupersededError
from serving.store import Manifest, Published, Version, VersionStore

__all__ = ["SPAN", "Checks", "Inspected", "PushRecord", "push", "refused_by", "served_state", "withdraw"]

SPAN = "span"
"""What the manifest of a version says of the newest span of its data, among the provenance."""

_SHORT = 12
_PUSHER = "the Pusher"


@dataclass(frozen=True)
class Inspected:
    """What was found out about a payload before it is published.

    Attributes:
        refusal: why it must not be published, in words that follow `the payload`; "" where it may.
        rehearsal: what it did with the requests that it carries; None where they were not run.
        warnings: what a reader should know, one sentence each.
    """

    refusal: str = ""
    rehearsal: Rehearsal | None = None
    warnings: tuple[str, ...] = ()


def _nothing() -> Inspected:
    return Inspected()


def _nobody(_version: int) -> tuple[Confirmation, ...]:
    return ()


@dataclass(frozen=True)
class Checks:
    """What else a push depends on.

    Attributes:
        inspect: looks at the payload before it is published.
        confirm: has servers load a version that was published, and says what each did.
    """

    inspect: Callable[[], Inspected] = _nothing
    confirm: Callable[[int], tuple[Confirmation, ...]] = _nobody


@dataclass(frozen=True)
class PushRecord:
    """What the Pusher did, and what the lineage has to know of it.

    Attributes:
        result: for people and commands.
        makes_champion: True where the lineage must take this record for the model that is now served: a new version,
            or a version that holds the candidate's bytes although the gate knew nothing of it. The latter is left by a
            push that was cut off between publishing and recording.
        pushed_at: when the version was published, UTC; None where nothing is served by this decision.
    """

    result: PushResult
    makes_champion: bool
    pushed_at: datetime | None

    def properties(self, model_id: int, base_path: str, payload: Payload = "saved_model") -> dict[str, int | str]:
        """The custom properties of the PushedModel artifact; 0 and "" where there is no version.

        `pushed`, `pushed_destination` and `pushed_version` (a text) are those of stock TFX.

        Args:
            model_id: of the Model artifact.
            base_path: of the version store.
            payload: what was pushed there.
        """
        return {
            "pushed": int(self.makes_champion),
            "outcome": self.result.outcome,
            "pushed_destination": self.result.destination,
            "pushed_version": "" if self.result.version is None else str(self.result.version),
            "version": self.result.version or 0,
            "digest": self.result.digest,
            "model_id": model_id,
            "base_path": base_path,
            "payload": payload,
            "pushed_at": self.pushed_at.isoformat() if self.pushed_at else "",
        }


def push(
    decision: Decision,
    payload: Path,
    store: VersionStore,
    provenance: Mapping[str, str],
    keep_versions: int | None = None,
    checks: Checks | None = None,
) -> PushRecord:
    """Publish `payload` if `decision` admits it, then remove versions that are too old.

    Args:
        decision: the gate's, on exactly these bytes.
        payload: the candidate's SavedModel directory or `.tflite` file.
        store: where to.
        provenance: for the version's manifest.
        keep_versions: how many of the newest versions stay, beside those that are pinned or labelled; None for all.
        checks: what else the push depends on; None for nothing.

    Raises:
        DigestMismatchError: the payload's bytes are not the ones that were measured.
        StoreError: the store cannot publish; nothing half-written is visible.
    """
    checks = checks or Checks()
    before = store.newest()
    if decision.outcome in ("block", "pending"):
        return _not_pushed(decision)
    due = decision.outcome == "push" or bool(store.why_not_served(decision.digest))
    admit = partial(_refuse_earlier, decision, provenance)
    found = Inspected()
    try:
        if due and before is not None and before.digest:
            admit(store.manifest(before.number))  # publishing asks again: what is inspected takes its time
        found = checks.inspect() if due else found
        if found.refusal:
            return _refused(decision, f"the payload {found.refusal}", found)
        published = store.publish(
            payload, decision.digest, provenance, above=decision.champion_version or 0, head=decision.head, admit=admit
        )
    except (EarlierSpanError, RolledBackError, SupersededError) as error:
        return _overtaken(decision, error, found)
    new = published.outcome == "pushed"
    confirmations = checks.confirm(published.version) if due else ()
    if refused_by(confirmations):
        return _withdrawn(decision, store, published, found, confirmations)
    removed, trouble = _retain(store, keep_versions)
    result = PushResult(
        pushed=new,
        outcome=published.outcome,
        digest=decision.digest,
        version=published.version,
        destination=str(published.path),
        reason=_reason(decision, published) + _stranger(decision, before if new else None) + trouble,
        removed=removed,
        rehearsal=found.rehearsal,
        confirmations=confirmations,
        warnings=found.warnings,
    )
    return PushRecord(result, new or decision.outcome == "push", published.published_at)


def served_state(decision: Decision, store: VersionStore) -> str:
    """What a recorded push depends on besides its inputs: part of the key under which the Pusher's work is cached.

    Where the decision leaves nothing to publish, it is the state of the base path, so that the record is reused for as
    long as the base path holds what it held. Where something has to be published, or these bytes are refused, it is a text
    that never occurs again: a record of a push must not stand in for a push, whatever the base path looked like before
    that one, nor a refusal outlive its being lifted.

    Raises:
        StoreError: the base path cannot be read.
    """
    if decision.outcome in ("block", "pending"):
        return store.state()
    if not store.why_not_served(decision.digest) and decision.digest not in store.marks().refused:
        return store.state()
    return f"{store.state()} to publish {uuid.uuid4().hex}".lstrip()


def _not_pushed(decision: Decision) -> PushRecord:
    if decision.outcome == "pending":
        reason = "a person has to approve the candidate before it is pushed"
    else:
        reason = f"the gate blocked it: {decision.reasons[0] if decision.reasons else 'no reason was recorded'}"
    result = PushResult(pushed=False, outcome="not_pushed", digest=decision.digest, reason=_sentence(reason))
    return PushRecord(result, makes_champion=False, pushed_at=None)


def _refuse_earlier(decision: Decision, provenance: Mapping[str, str], served: Manifest) -> None:
    """A version whose manifest tells of no span, of one of another kind, or of another pipeline's, is not compared.

    Raises:
        EarlierSpanError: the version serves a model of later data than the candidate's.
    """
    told = served.provenance
    if decision.span is None or SPAN not in told or told.get("pipeline") != provenance.get("pipeline"):
        return
    theirs = _newest_of(told.get("spans", ""))
    if _is_date(theirs) == _is_date(_newest_of(decision.spans)) and int(told[SPAN]) > decision.span:
        raise EarlierSpanError(f"version {served.version}", f"serves a model whose data end with span {theirs}")


def _newest_of(spans: str) -> str:
    return spans.rsplit(", ", maxsplit=1)[-1]


def _is_date(span: str) -> bool:
    """Of a span in words: its date or its number, and its version where it has one."""
    return "-" in span


def _overtaken(
    decision: Decision, error: EarlierSpanError | RolledBackError | SupersededError, found: Inspected
) -> PushRecord:
    """What came of a push that what serves, or was rolled back, forbids."""
    match error:
        case EarlierSpanError():
            return _earlier_span(decision, error, found)
        case RolledBackError():
            return _rolled_back(decision, error)
        case _:
            return _refused(decision, f"{error.thing} {error.problem}", found, error.remedy)


def _earlier_span(decision: Decision, error: EarlierSpanError, found: Inspected) -> PushRecord:
    ours = _newest_of(decision.spans)
    later = f"{error.thing} {error.problem}"
    reason = f"{later}, and the candidate's end with {ours}: a model is not replaced by one of earlier data"
    result = PushResult(
        pushed=False,
        outcome="earlier_span",
        digest=decision.digest,
        reason=_sentence(reason),
        rehearsal=found.rehearsal,
        warnings=found.warnings,
    )
    return PushRecord(result, makes_champion=False, pushed_at=None)


def _rolled_back(decision: Decision, error: RolledBackError) -> PushRecord:
    reason = f"{error.thing} {error.problem}"
    result = PushResult(
        pushed=False, outcome="rolled_back", digest=decision.digest, reason=f"{_sentence(reason)} {error.remedy}"
    )
    return PushRecord(result, makes_champion=False, pushed_at=None)


def _refused(decision: Decision, why: str, found: Inspected, remedy: str = "") -> PushRecord:
    result = PushResult(
        pushed=False,
        outcome="refused",
        digest=decision.digest,
        reason=f"{_sentence(why)} {remedy}".rstrip(),
        rehearsal=found.rehearsal,
        warnings=found.warnings,
    )
    return PushRecord(result, makes_champion=False, pushed_at=None)


def _withdrawn(
    decision: Decision,
    store: VersionStore,
    published: Published,
    found: Inspected,
    confirmations: tuple[Confirmation, ...],
) -> PushRecord:
    """What came of a push that a server did not take."""
    withdrawn, reason = withdraw(store, published.version, confirmations, by=_PUSHER)
    result = PushResult(
        pushed=False,
        outcome="not_confirmed",
        digest=decision.digest,
        reason=reason,
        rehearsal=found.rehearsal,
        confirmations=confirmations,
        withdrawn=withdrawn,
        warnings=found.warnings,
    )
    return PushRecord(result, makes_champion=False, pushed_at=None)


def withdraw(
    store: VersionStore, version: int, confirmations: Sequence[Confirmation], *, by: str
) -> tuple[int | None, str]:
    """Moves a version out that a server did not take: a server that starts would fail on it, again and again.

    Returns:
        The version, or None where it is still there; and what happened, in sentences.
    """
    refused = refused_by(confirmations)
    why = _sentence(f"version {version} was not confirmed by {refused}")
    try:
        store.withdraw(version, by=by, reason=refused)
    except StoreError as error:
        return None, f"{why} It could not be withdrawn and is still there: {error.thing} {error.problem.rstrip('.')}."
    left = store.newest()
    return version, f"{why} It was withdrawn; {f'version {left.number} serves' if left else 'no version is left'}."


def refused_by(confirmations: Sequence[Confirmation]) -> str:
    """Which servers did not take the version, and why, in words; "" where all did."""
    wrong = [f"{one.instance}: {one.problem}" for one in confirmations if not one.confirmed]
    return "; ".join(wrong)


def _retain(store: VersionStore, keep_versions: int | None) -> tuple[tuple[int, ...], str]:
    """The versions that were removed, and what went wrong: that is no reason to call a push failed that is visible."""
    if keep_versions is None:
        return (), ""
    try:
        return store.retain(keep_versions), ""
    except StoreError as error:
        return (), f" Older versions could not be removed: {error.thing}: {error.problem.rstrip('.')}."


def _reason(decision: Decision, published: Published) -> str:
    match decision.outcome, published.outcome:
        case "push", "pushed":
            reason = f"published as version {published.version}"
        case "already_served", "pushed":
            reason = (
                f"published again as version {published.version}: the gate found these bytes already served, "
                f"but {published.reason}"
            )
        case "push", _:
            reason = (
                f"{published.reason} already, by a push that this pipeline's lineage does not know "
                "(cut off before it was recorded, or another pipeline's)"
            )
        case _:
            reason = f"{published.reason}, digest {decision.digest[:_SHORT]}, so there is nothing to push"
    return _sentence(reason)


def _stranger(decision: Decision, before: Version | None) -> str:
    """Says that the version which was replaced is not the champion with which the candidate was compared."""
    if before is None or before.digest in (decision.champion_digest, decision.digest):
        return ""
    compared = f"version {decision.champion_version}" if decision.champion_version else "nothing"
    return (
        f" It replaces version {before.number}, which is not the champion that the gate knew (a rollback made meanwhile,"
        f" or a push that this pipeline's lineage does not know); the candidate was compared with {compared}."
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
