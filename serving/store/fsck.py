"""Finds what is wrong with a base path, and says what TF Serving makes of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from schemas.errors import DigestMismatchError, StoreError
from serving.store.lock import owner_of
from serving.store.names import STAGING, TRASH
from serving.store.read import StoreReader
from serving.store.records import Marks

__all__ = ["Finding", "Kind", "find", "find_in_bucket"]

Kind = Literal[
    "no_base_path",
    "empty_base_path",
    "half_version",
    "digest_mismatch",
    "foreign_entry",
    "foreign_version",
    "spelling_collision",
    "damaged_manifest",
    "orphan_manifest",
    "leftover",
    "damaged_state",
    "damaged_marks",
    "lost_mark",
    "under_way",
]


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        kind: of fault.
        severity: `error` where a server fails or serves other bytes because of it, `warning` where it may, `note` else.
        path: what it is about.
        problem: what is wrong, and what TF Serving makes of it.
        remedy: what to do.
        repair: what `repair` does about it; "" where that is a person's to do.
    """

    kind: Kind
    severity: Literal["error", "warning", "note"]
    path: Path
    problem: str
    remedy: str
    repair: Literal["", "move aside", "retire", "renew state", "renew marks"] = ""

    def as_dict(self) -> dict[str, str]:
        """Plain JSON values."""
        return {**asdict(self), "path": str(self.path)}


def find(base_path: str | os.PathLike[str], *, alone: bool = False) -> list[Finding]:
    """Everything that is wrong with a base path, errors first. Reads every byte of every version; changes nothing.

    Args:
        base_path: the directory that TF Serving watches.
        alone: whether the caller holds the lock, so that nobody else can be at work.

    Raises:
        StoreError: the base path cannot be read.
    """
    reader = StoreReader(base_path)
    if not reader.base_path.is_dir():
        problem = "does not exist, so a TF Serving that is told of it updates none of its models, others' included"
        return [Finding("no_base_path", "error", reader.base_path, problem, "Push a model, or correct the path.")]
    busy = not alone and bool(owner_of(reader.inner))
    return _sorted(
        [*_entries(reader), *_manifests(reader, busy=busy), *_leftovers(reader, busy=busy), *_records(reader)]
    )


def find_in_bucket(reader: StoreReader) -> list[Finding]:
    """The same of a base path in a bucket, where nothing is staged and nothing locked.

    Args:
        reader: of the base path.

    Raises:
        StoreError: the bucket cannot be read.
    """
    return _sorted([*_entries(reader), *_manifests(reader, busy=False), *_under_way(reader), *_records(reader)])


def _sorted(found: list[Finding]) -> list[Finding]:
    order = {"error": 0, "warning": 1, "note": 2}
    return sorted(found, key=lambda one: (order[one.severity], str(one.path)))


# --- what is looked at ------------------------------------------------------------------------------------------------


def _entries(reader: StoreReader) -> Iterator[Finding]:
    entries = reader.seen()
    if not entries:
        problem = "holds no version: a server unloads the model, and one that starts waits for ever"
        yield Finding("empty_base_path", "error", reader.base_path, problem, "Push a model, or roll back.")
    newest = reader.newest()
    plain = {number for number, name in entries if name == str(number)}
    ours = set(reader.numbers_with_manifest(reader.manifests))
    for number in reader.under_way():
        entries = [entry for entry in entries if entry != (number, str(number))]
    for number, name in entries:
        path = reader.base_path / name
        hides = " It is what TF Serving takes for the latest version." if _is_above(number, newest) else ""
        if name != str(number) and number in plain:
            yield Finding(
                "spelling_collision",
                "error",
                path,
                f"is version {number} to TF Serving, as {str(number)!r} is: one of the two is served, by chance",
                f"Move it out of {reader.base_path}.",
                "move aside",
            )
        elif name != str(number) or number not in ours:
            yield _foreign(reader, number, path, hides)
        else:
            yield from _own(reader, number, path, hides)


def _is_above(number: int, newest: object) -> bool:
    return newest is None or number > getattr(newest, "number", number)


def _foreign(reader: StoreReader, number: int, path: Path, hides: str) -> Finding:
    noted = _noted(reader)
    lost = noted is not None and 0 < number <= noted and path.name == str(number)
    who = "has lost its manifest" if lost else "was not published by this store"
    kind = reader.what_is(path.name)
    if kind == "model":
        problem = f"{who}: nothing tells whether its bytes are whole.{hides}"
        remedy = "Push again, so that a version that can be verified is the newest; then move it out."
        return Finding("foreign_version", "warning", path, problem, remedy)
    what = "a plain file" if kind == "file" else "a directory without a model"
    problem = f"is {what} that {who}; TF Serving tries to load it as version {number} and fails.{hides}"
    return Finding("foreign_entry", "error", path, problem, f"Move it out of {reader.base_path}.", "move aside")


def _own(reader: StoreReader, number: int, path: Path, hides: str) -> Iterator[Finding]:
    try:
        reader.verify(number)
    except DigestMismatchError as error:
        whole = number in reader.versions()
        named = f"{Path(error.thing).name} {error.problem}"
        yield Finding(
            "digest_mismatch" if whole else "half_version",
            "error",
            path,
            f"{named.removesuffix('.')}.{hides}",
            "Push the payload again, or roll back to a version that is whole.",
            "move aside",
        )
    except StoreError as error:
        manifest = reader.manifest_path(number)
        problem = f"{error.problem.removesuffix('.')}: nothing tells whether version {number} is whole"
        yield Finding("damaged_manifest", "error", manifest, problem, "Push again under a new number.", "move aside")


def _manifests(reader: StoreReader, *, busy: bool) -> Iterator[Finding]:
    if busy:
        return
    visible = {number for number, name in reader.seen() if name == str(number)} | reader.under_way()
    for number in sorted(set(reader.numbers_with_manifest(reader.manifests)) - visible):
        problem = (
            "describes a version that is not there: it was removed by hand, or its publisher died before it was made"
        )
        remedy = "Nothing is served wrongly; the number is used up. A repair files it with the removed ones."
        yield Finding("orphan_manifest", "note", reader.manifest_path(number), problem, remedy, "retire")


def _under_way(reader: StoreReader) -> Iterator[Finding]:
    """Versions that are being uploaded, object by object."""
    for number in sorted(reader.under_way()):
        problem = (
            "was claimed within the last day and holds no model yet: a publish is under way, or was cut off; "
            "TF Serving fails to load it until then"
        )
        remedy = "Look again when it is done; what was cut off is removed by a publish a day later."
        yield Finding("under_way", "note", reader.base_path / str(number), problem, remedy)


def _leftovers(reader: StoreReader, *, busy: bool) -> Iterator[Finding]:
    if busy:
        owner = owner_of(reader.inner)
        who = f"process {owner.get('pid')} on {owner.get('host')} since {owner.get('since')}"
        problem = (
            f"says that a publish is under way ({who}), or was cut off; leftovers and manifests were not looked at"
        )
        yield Finding("under_way", "note", reader.inner / "owner", problem, "Look again when it is done.")
        return
    for path in sorted(reader.base_path.iterdir()):
        if path.name.startswith((STAGING, TRASH)):
            what = "publish" if path.name.startswith(STAGING) else "removal"
            problem = f"was left by a {what} that was cut off; TF Serving skips it"
            yield Finding("leftover", "note", path, problem, "The next publish removes it.", "move aside")


def _records(reader: StoreReader) -> Iterator[Finding]:
    try:
        noted = reader.largest_noted()
    except StoreError as error:
        remedy = "A repair takes the number from the manifests and directories."
        yield Finding("damaged_state", "error", reader.inner / "state.json", error.problem, remedy, "renew state")
    else:
        used = max((m for m in _own_numbers(reader)), default=0)
        if used > (noted or 0):
            problem = f"knows of {noted or 'no number'}, and version {used} was published: a number could be used twice"
            remedy = "A repair notes the number."
            yield Finding("damaged_state", "warning", reader.inner / "state.json", problem, remedy, "renew state")
    try:
        marks = reader.marks()
    except StoreError as error:
        remedy = "A repair finds the refused digests again in the manifests; pins and labels have to be set again."
        yield Finding("damaged_marks", "error", reader.inner / "marks.json", error.problem, remedy, "renew marks")
        return
    there = set(reader.versions())
    for number in sorted(marks.held - there):
        words = [f"label {name!r}" for name in sorted({*marks.labels, *marks.moving}) if _names(marks, name) & {number}]
        words += ["a pin"] if number in marks.pinned else []
        problem = f"holds {' and '.join(words)} on version {number}, which is not there or not whole"
        remedy = "Give it to a version that is there; servers refuse a configuration with such a label."
        severity: Literal["error", "warning"] = "warning" if words == ["a pin"] else "error"
        yield Finding("lost_mark", severity, reader.inner / "marks.json", problem, remedy)


def _names(marks: Marks, label: str) -> set[int]:
    return {number for number in (marks.labels.get(label), marks.moving.get(label)) if number is not None}


def _own_numbers(reader: StoreReader) -> list[int]:
    return reader.numbers_with_manifest(reader.manifests) + reader.numbers_with_manifest(reader.removed_manifests)


def _noted(reader: StoreReader) -> int | None:
    try:
        return reader.largest_noted()
    except StoreError:
        return None
