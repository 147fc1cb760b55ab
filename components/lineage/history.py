"""What served when, and why: the pushes and acts of the lineage, with what the base path itself remembers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from components.lineage.acts import acts
from components.lineage.reader import RECORD_PROPERTY, Lineage
from schemas.act import StoreAct
from schemas.decision import PushResult
from serving.store import Manifest

__all__ = ["Happening", "Serving", "history", "served_at"]

_SERVES = ("push", "rollback")


@dataclass(frozen=True)
class Happening:
    """One thing that happened to a base path.

    Attributes:
        at: when, UTC, by the clock of whoever did it.
        kind: `push`, the kind of the act (`schemas.act`), or `withdraw`: the version was moved out again, because a server
            did not take it.
        version, digest: what it is about; None and "" where it is about none.
        by, why: who and for what reason.
        run: the run that pushed, or "".
        label: of an act on a label.
        from_version, to_version: of a rollback.
        known_to: `lineage`, or `base path` where only its manifest tells of it (another pipeline's push, or one whose
            record was cut off).
    """

    at: datetime
    kind: str
    version: int | None
    digest: str
    by: str
    why: str
    run: str = ""
    label: str = ""
    from_version: int | None = None
    to_version: int | None = None
    known_to: Literal["lineage", "base path"] = "lineage"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "at": self.at.isoformat()}


@dataclass(frozen=True)
class Serving:
    """What served at a time, by everything that is known.

    Attributes:
        at: the time.
        since: what made it serve: a push or a rollback; None where nothing was published yet.
        labels: label to version.
    """

    at: datetime
    since: Happening | None
    labels: dict[str, int] = field(default_factory=dict)


def history(
    lineage: Lineage | None, store: Any, pipeline: str, base_path: str, manifests: Sequence[Manifest]
) -> list[Happening]:
    """Everything that happened to a base path, in order.

    What serves is ordered by version, as a server orders it, whatever the clocks said; other acts stand where their time
    puts them.

    Args:
        lineage, store: of the pipeline, open; None for both where there is no lineage.
        pipeline: its name.
        base_path: as its configuration names it.
        manifests: of the base path, those of removed versions too.
    """
    known: list[Happening] = []
    if lineage is not None:
        known += [*_pushes(lineage, store, pipeline, base_path), *map(_of_act, acts(store, pipeline, base_path))]
    told = {one.version for one in known if one.kind in _SERVES}
    known += [_of_manifest(manifest) for manifest in manifests if manifest.version not in told]
    withdrawn = [_of_withdrawal(manifest) for manifest in manifests if manifest.withdrawn is not None]
    if withdrawn and lineage is not None:
        runs = {run.run_id for run in lineage.runs()}  # whose push results tell of it
        pushes = {one.version for one in manifests if one.rollback is None}
        withdrawn = [
            replace(one, known_to="lineage") if one.run in runs and one.version in pushes else one for one in withdrawn
        ]
    known += withdrawn
    serving = sorted((one for one in known if one.kind in _SERVES), key=lambda one: one.version or 0)
    return _merged(serving, sorted((one for one in known if one.kind not in _SERVES), key=lambda one: one.at))


def served_at(happenings: Iterable[Happening], at: datetime) -> Serving:
    """What a server of the latest version served at a time, and what each label named.

    Args:
        happenings: from `history`.
        at: the time, with its zone.
    """
    served: list[Happening] = []
    labels: dict[str, int] = {}
    for one in happenings:
        if one.at > at:
            continue
        if one.kind in _SERVES:
            served.append(one)
        elif one.kind == "withdraw":
            served = [other for other in served if other.version != one.version]
        elif one.kind in ("label", "label_rollback") and one.version is not None:
            labels[one.label] = one.version
        elif one.kind == "unlabel":
            labels.pop(one.label, None)
    return Serving(at, served[-1] if served else None, labels)


def _pushes(lineage: Lineage, store: Any, pipeline: str, base_path: str) -> list[Happening]:
    context = store.get_context_by_type_and_name("pipeline", pipeline)
    artifacts = store.get_artifacts_by_context(context.id) if context is not None else []
    pushed = [
        one
        for one in artifacts
        if one.type == "PushedModel"
        and one.custom_properties["pushed"].int_value == 1
        and one.custom_properties["base_path"].string_value == base_path
        and not one.custom_properties["act"].string_value
    ]
    by_run = {run.run_id: run for run in lineage.runs()} if pushed else {}
    found: dict[int, Happening] = {}
    for one in sorted(pushed, key=lambda one: int(one.id)):
        happening = _of_push(one, lineage, by_run, _run_of(store, one.id))
        found.setdefault(happening.version or 0, happening)
    return list(found.values())


def _of_push(artifact: Any, lineage: Lineage, runs: dict[str, Any], run_id: str) -> Happening:
    result = PushResult.model_validate_json(artifact.custom_properties[RECORD_PROPERTY].string_value)
    decision = lineage.decision(run_id) if run_id in runs else None
    edge = decision.edge if decision and artifact.custom_properties["payload"].string_value == "tflite" else None
    judged = edge or decision
    run = runs.get(run_id)
    return Happening(
        at=datetime.fromisoformat(artifact.custom_properties["pushed_at"].string_value),
        kind="push",
        version=result.version,
        digest=result.digest,
        by=f"{run.user}@{run.host}" if run else "",
        why=" ".join([result.reason, *(judged.reasons[:1] if judged else ())]),
        run=run_id,
    )


def _run_of(store: Any, artifact_id: int) -> str:
    """The run in which an artifact was made; a cached one belongs to later runs too."""
    contexts = [one for one in store.get_contexts_by_artifact(artifact_id) if one.type == "pipeline_run"]
    return min(contexts, key=lambda one: int(one.id)).name if contexts else ""


def _of_act(act: StoreAct) -> Happening:
    return Happening(
        at=act.at,
        kind=act.kind,
        version=act.version,
        digest=act.digest,
        by=act.by,
        why=act.reason,
        label=act.label,
        from_version=act.from_version,
        to_version=act.to_version,
    )


def _of_manifest(manifest: Manifest) -> Happening:
    rollback = manifest.rollback
    source = manifest.provenance
    return Happening(
        at=manifest.published_at,
        kind="rollback" if rollback else "push",
        version=manifest.version,
        digest=manifest.digest,
        by=rollback.by if rollback else "",
        why=rollback.reason if rollback else f"published by pipeline {source.get('pipeline', '(unknown)')!r}",
        run=source.get("run", ""),
        from_version=rollback.from_version if rollback else None,
        to_version=rollback.to if rollback else None,
        known_to="base path",
    )


def _of_withdrawal(manifest: Manifest) -> Happening:
    mark = manifest.withdrawn
    assert mark is not None, "only a version that was withdrawn"
    return Happening(
        at=mark.at,
        kind="withdraw",
        version=manifest.version,
        digest=manifest.digest,
        by=mark.by,
        why=mark.reason,
        run=manifest.provenance.get("run", ""),
        known_to="base path",
    )


def _merged(serving: list[Happening], others: list[Happening]) -> list[Happening]:
    """The others put between what serves, each before the first that came later than it."""
    merged: list[Happening] = []
    for one in serving:
        while others and others[0].at <= one.at:
            merged.append(others.pop(0))
        merged.append(one)
    return merged + others
