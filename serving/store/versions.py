"""What can be done to a version store: publish, roll back, pin, label, retain."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from schemas.errors import DigestMismatchError, RolledBackError, StoreError, SupersededError
from serving.payload import digest_of, files
from serving.store.read import Version
from serving.store.records import Manifest, Mark, Marks, Refusal, Rollback
from serving.store.writer import StoreWriter

__all__ = ["LabelMove", "Published", "VersionStore"]

_SHORT = 12


@dataclass(frozen=True)
class Published:
    """What `VersionStore.publish` or `VersionStore.rollback` did.

    Attributes:
        version: the number that holds the payload: a new one, or the newest one, which already did.
        path: its directory.
        outcome: `pushed` for a new version, else `already_served`.
        reason: why, in one sentence without a full stop.
        published_at: when that version was published, UTC.
    """

    version: int
    path: Path
    outcome: Literal["pushed", "already_served"]
    reason: str
    published_at: datetime


@dataclass(frozen=True)
class LabelMove:
    """How far a label has come.

    Attributes:
        label: its name.
        version: the version that it names now; None for a new one.
        moving_to: the version that servers have to load before it moves; None where it has arrived.
        load: the versions that a server's configuration must list now.
    """

    label: str
    version: int | None
    moving_to: int | None
    load: tuple[int, ...]


class VersionStore(StoreWriter):
    """The versions below one base path, and everything that can be done to them."""

    # --- publishing ---------------------------------------------------------------------------------------------------

    def publish(
        self,
        payload: str | os.PathLike[str],
        expected_digest: str,
        provenance: Mapping[str, str],
        *,
        above: int = 0,
        head: int | None = None,
        admit: Callable[[Manifest], None] | None = None,
    ) -> Published:
        """Make the payload the newest version, unless it already is.

        The new version is the largest number ever used here, plus one.

        Args:
            payload: a SavedModel directory or a `.tflite` file, on any file system.
            expected_digest: of the bytes that were measured.
            provenance: where the payload comes from, for the manifest.
            above: a number that was used here as others remember, should the base path itself have vanished.
            head: the newest version when it was decided to publish; None where that is not known.
            admit: asked, with what this store published last, while nobody else can publish: what it raises refuses.

        Raises:
            DigestMismatchError: the payload's bytes, or the copied ones, are not those of `expected_digest`.
            NotAPayloadError: `payload` is none.
            RolledBackError: these bytes were rolled back, and nobody has allowed them since.
            SupersededError: the newest version was made by a rollback that came after `head`.
            StoreBusyError: another publisher kept the lock for longer than `lock_timeout_s`.
            StoreError: the disk refuses. As in the cases above, no version was made and none was touched, unless the
                message says that the new version is visible.
        """
        source = Path(payload)
        contents = files(source)
        _refuse_other_bytes(source, digest_of(contents), expected_digest)
        with self._locked() as held:
            # What a label was rolled back from may still be the newest version.
            _refuse_rolled_back(self.base_path, expected_digest, self.marks())
            why = self.why_not_served(expected_digest)
            if not why:
                return self._already_served()
            self._refuse_superseded(head, provenance)
            newest = self._head()
            if admit is not None and newest is not None and newest.digest:
                admit(self.manifest(newest.number))
            manifest = self._publish_new(held, source, contents, provenance, above=above)
        return self._published(manifest, why)

    def rollback(self, to: int, *, by: str, reason: str, above: int = 0) -> Published:
        """Make the bytes of an older version the newest version, under a new number, and refuse those that served.

        A rollback is undone by a rollback to the version that it left. Where the newest version already holds these
        bytes, nothing is done.

        Args:
            to: the older version; it must be there and be what was published.
            by: who rolls back.
            reason: why.
            above: as `publish`.

        Raises:
            DigestMismatchError: the older version's bytes are no longer those that were published.
            StoreBusyError, StoreError: as `publish`; there is no such version, or nothing vouches for it.
        """
        with self._locked() as held:
            target = self._target(to)
            why = self.why_not_served(target.digest)
            if not why:
                return self._already_served()
            serving = self.newest()
            record = Rollback(
                to=to,
                from_version=serving.number if serving else None,
                from_digest=serving.digest if serving else "",
                by=by,
                reason=reason,
                lifted=self.marks().refused.get(target.digest),
            )
            manifest = self._publish_new(
                held,
                self._payload_of(to, target.digest),
                target.files,
                target.provenance,
                above=above,
                rollback=record,
                marks=self._with_refusal(serving, target.digest, by, reason),
            )
        return self._published(manifest, f"rolled back to version {to}: {reason}")

    def withdraw(self, version: int, *, by: str, reason: str) -> Manifest:
        """Move a version out that a server did not take, so that a server that starts does not fail on it.

        Its number is not used again, and its manifest says who withdrew it, when and why. The version before it becomes
        the newest again, if there is one. What a rollback refused by making the version is no longer refused.

        Raises:
            StoreBusyError, StoreError: as `publish`; the version is pinned or labelled, or is not there.
        """
        with self._locked():
            manifest = self.manifest(version)
            if version in self.marks().held:
                raise StoreError(
                    f"version {version}",
                    "was pinned or labelled meanwhile, so it was not withdrawn",
                    remedy="Take the mark away, then roll back.",
                )
            manifest = manifest.model_copy(update={"withdrawn": Mark(by=by, at=self._clock(), reason=reason)})
            with self._explained(f"note that version {version} is withdrawn", "Roll back, or withdraw it by hand."):
                self._replace(self.manifest_path(version), manifest.model_dump_json(indent=1))
            self._discard_withdrawn(manifest)
            return manifest

    def allow(self, digest: str) -> tuple[str, Refusal]:
        """Let a digest that was rolled back be published again.

        Args:
            digest: the whole digest, or the unambiguous beginning of one that is refused.

        Returns:
            The whole digest, and the refusal that no longer holds.

        Raises:
            StoreError: no such digest is refused, or several begin so.
        """
        with self._locked():
            marks = self.marks()
            found = [one for one in marks.refused if digest and one.startswith(digest)]
            if len(found) != 1:
                raise StoreError(
                    f"digest {digest!r}",
                    f"{len(found)} refused digests begin so" if found else "is not refused here",
                    expected=", ".join(one[:_SHORT] for one in marks.refused) or "a refused digest; there is none",
                )
            kept = {one: refusal for one, refusal in marks.refused.items() if one != found[0]}
            self._note_marks(marks.model_copy(update={"refused": kept}))
            return found[0], marks.refused[found[0]]

    # --- marks --------------------------------------------------------------------------------------------------------

    def pin(self, version: int, *, by: str, reason: str = "") -> None:
        """Keep a version from retention.

        Raises:
            StoreError: there is no such whole version.
        """
        with self._locked():
            self._require_whole(version)
            marks = self.marks()
            pinned = {**marks.pinned, version: Mark(by=by, at=self._clock(), reason=reason)}
            self._note_marks(marks.model_copy(update={"pinned": pinned}))

    def unpin(self, version: int) -> None:
        """Leave a version to retention again.

        Raises:
            StoreError: it is not pinned.
        """
        with self._locked():
            marks = self.marks()
            if version not in marks.pinned:
                raise StoreError(
                    f"version {version}",
                    "is not pinned",
                    expected=", ".join(map(str, sorted(marks.pinned))) or "a pinned version; there is none",
                )
            pinned = {one: mark for one, mark in marks.pinned.items() if one != version}
            self._note_marks(marks.model_copy(update={"pinned": pinned}))

    def begin_label(self, label: str, version: int) -> LabelMove:
        """First step of giving a label to a version: servers are to load it; the label stays where it is.

        TF Serving refuses a label on a version that is not available yet, and the whole configuration with it.

        Raises:
            DigestMismatchError: the version's bytes are no longer those that were published.
            StoreError: there is no such version, or nothing vouches for it.
        """
        with self._locked():
            self._target(version)
            marks = self.marks()
            if marks.labels.get(label) != version:
                marks = marks.model_copy(update={"moving": {**marks.moving, label: version}})
            else:
                marks = marks.model_copy(update={"moving": _without(marks.moving, label)})
            self._note_marks(marks)
            return self._label_move(marks, label)

    def finish_label(self, label: str, version: int, *, rolled_back: Mark | None = None) -> LabelMove:
        """Second step, once `version` is available on every server: the label moves.

        Args:
            label: its name.
            version: the one that the first step named.
            rolled_back: set where the move is a rollback: what the label named before is refused from now on.

        Raises:
            StoreError: no server was told to load that version.
        """
        with self._locked():
            marks = self.marks()
            if marks.moving.get(label) != version and version not in self.aspired(marks):
                raise StoreError(
                    f"label {label!r}",
                    f"cannot name version {version} yet: no server was told to load it",
                    remedy=f"Run `satisfice label {label} {version}` first, wait until it is available, then this.",
                )
            before = marks.labels.get(label)
            if rolled_back and before is not None and before != version:
                left = Version(before, self.base_path / str(before), self._digest_of(before))
                marks = self._with_refusal(left, self._digest_of(version), rolled_back.by, rolled_back.reason)
            labels = {**marks.labels, label: version}
            marks = marks.model_copy(update={"labels": labels, "moving": _without(marks.moving, label)})
            self._note_marks(marks)
            return self._label_move(marks, label)

    def drop_label(self, label: str) -> int | None:
        """Take a label away; the version that it named, or None for one that had not arrived yet.

        Raises:
            StoreError: there is no such label.
        """
        with self._locked():
            marks = self.marks()
            if label not in marks.labels and label not in marks.moving:
                known = ", ".join(sorted({*marks.labels, *marks.moving}))
                raise StoreError(f"label {label!r}", "is not in use", expected=known or "a label; there is none")
            update = {"labels": _without(marks.labels, label), "moving": _without(marks.moving, label)}
            self._note_marks(marks.model_copy(update=update))
            return marks.labels.get(label)

    def aspired(self, marks: Marks | None = None) -> tuple[int, ...]:
        """The versions that servers with labels must have loaded: the newest and all that labels name or will name."""
        marks = marks or self.marks()
        newest = self.newest()
        return tuple(sorted({*marks.labels.values(), *marks.moving.values(), *([newest.number] if newest else [])}))

    # --- retention ----------------------------------------------------------------------------------------------------

    def retain(self, keep: int, protect: Iterable[int] = ()) -> tuple[int, ...]:
        """Remove what is older than the newest `keep` versions, but for what is pinned, labelled or protected.

        Versions that this store did not publish, and damaged ones, are left alone and do not count.

        Args:
            keep: how many, at least 1.
            protect: versions that a server has loaded.

        Returns:
            The versions that were removed, rising.

        Raises:
            StoreBusyError, StoreError: as `publish`.
        """
        with self._locked():
            kept = self.marks().held | set(protect)
            ours = [version.number for version in self.whole() if version.digest]
            old = sorted(number for number in ours[max(keep, 1) :] if number not in kept)
            for number in old:
                self._discard(number)
        return tuple(old)

    # --- what these share ---------------------------------------------------------------------------------------------

    def _head(self) -> Version | None:
        """What was published last."""
        return self.newest()

    def _payload_of(self, version: int, digest: str) -> Path:
        return Version(version, self.base_path / str(version), digest).payload

    def _refuse_superseded(self, head: int | None, provenance: Mapping[str, str]) -> None:
        """Another pipeline's rollback is none of this one's: nothing was decided against it."""
        newest = self._head()
        if head is None or newest is None or newest.number <= head or not newest.digest:
            return
        manifest = self.manifest(newest.number)
        rollback = manifest.rollback
        ours = provenance.get("pipeline", "")
        if rollback is None or manifest.provenance.get("pipeline", ours) != ours:
            return
        raise SupersededError(
            f"version {newest.number} of {self.base_path}",
            f"was made by a rollback to version {rollback.to} on {manifest.published_at:%Y-%m-%d %H:%M:%S} UTC by"
            f" {rollback.by}, after it was decided to publish: {rollback.reason}",
            remedy="Run again: the candidate is then judged against what serves now.",
        )

    def _already_served(self) -> Published:
        newest = self.newest()
        if newest is None:  # pragma: no cover  (why_not_served has just seen it)
            raise StoreError(str(self.base_path), "the newest version vanished while it was read", remedy="Push again.")
        with self._explained(f"make version {newest.number} durable"):
            self._fs.sync_directory(self.base_path)  # its publisher may have died before it came to that
        reason = f"version {newest.number} holds these bytes"
        published_at = self.manifest(newest.number).published_at
        return Published(newest.number, newest.path, "already_served", reason, published_at)

    def _published(self, manifest: Manifest, why: str) -> Published:
        path = self.base_path / str(manifest.version)
        return Published(manifest.version, path, "pushed", why, manifest.published_at)

    def _target(self, version: int) -> Manifest:
        """The manifest of a version that is there, byte for byte."""
        self._require_whole(version, damaged_too=True)
        self.verify(version)
        return self.manifest(version)

    def _require_whole(self, version: int, *, damaged_too: bool = False) -> None:
        there = self.versions()
        if version in there or (damaged_too and self.has(version)):
            return
        gone = self.removed_manifest(version)
        problem = f"of {self.base_path} was removed by retention" if gone else f"is not in {self.base_path}"
        if gone and gone.withdrawn:
            problem = f"of {self.base_path} was withdrawn by {gone.withdrawn.by}: {gone.withdrawn.reason}"
        raise StoreError(
            f"version {version}",
            problem,
            expected=", ".join(map(str, there)) or "a version; there is none",
            remedy="Raise push.serving.keep_versions, or pin what must stay." if gone and not gone.withdrawn else "",
        )

    def _with_refusal(self, left: Version | None, arrived: str, by: str, reason: str) -> Marks:
        """The marks when `left` no longer serves because it was rolled back, and the digest `arrived` serves instead."""
        marks = self.marks()
        refused = {one: refusal for one, refusal in marks.refused.items() if one != arrived}
        if left is not None and left.digest and left.digest != arrived:
            refused[left.digest] = Refusal(by=by, at=self._clock(), reason=reason, version=left.number)
        return marks.model_copy(update={"refused": refused})

    def _digest_of(self, version: int) -> str:
        manifest = self._manifest_or_none(version)
        return manifest.digest if manifest else ""

    def _label_move(self, marks: Marks, label: str) -> LabelMove:
        return LabelMove(label, marks.labels.get(label), marks.moving.get(label), self.aspired(marks))


def _without(names: Mapping[str, int], name: str) -> dict[str, int]:
    return {one: version for one, version in names.items() if one != name}


def _refuse_rolled_back(base_path: Path, digest: str, marks: Marks) -> None:
    refusal = marks.refused.get(digest)
    if refusal:
        raise RolledBackError(
            f"the payload with digest {digest[:_SHORT]}",
            f"was rolled back as version {refusal.version} of {base_path} on {refusal.at:%Y-%m-%d %H:%M:%S} UTC"
            f" by {refusal.by}: {refusal.reason}",
            remedy=f"Train another model, or let these bytes be pushed again: satisfice run --allow {digest[:_SHORT]}",
        )


def _refuse_other_bytes(source: Path, found: str, expected: str) -> None:
    if found != expected:
        raise DigestMismatchError(
            str(source),
            "its bytes are not the bytes that were measured",
            expected=f"digest {expected}",
            got=f"digest {found}",
            remedy="Run the pipeline again, so that what ships is what is measured. Nothing was published.",
        )
