"""What a version store writes down beside its versions, each record one JSON file."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from serving.payload import Kind, PayloadFile

__all__ = ["Manifest", "Mark", "Marks", "Refusal", "Rollback", "State"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Mark(_Record):
    """Who set a mark, when (UTC) and why."""

    by: str
    at: datetime
    reason: str = ""


class Refusal(Mark):
    """A digest that was rolled back: it is not published again until that is allowed.

    Attributes:
        version: the version that held it when it was rolled back.
    """

    version: int


class Rollback(_Record):
    """Why a version holds the bytes of an older one.

    Attributes:
        to: the older version.
        from_version, from_digest: what served before; None and "" where that is not known.
        by: who rolled back.
        reason: why.
        lifted: that these bytes were refused until then; None where they were not.
    """

    to: int
    from_version: int | None = None
    from_digest: str = ""
    by: str
    reason: str
    lifted: Refusal | None = None


class Manifest(_Record):
    """What one version consists of; stands beside the version, and is durable before the version is visible.

    Attributes:
        format: of this record.
        version: the version's number.
        digest: the payload's digest.
        kind: of payload.
        files: every file below the version's directory.
        provenance: where the payload comes from, in the publisher's own keys (pipeline, model artifact, ...).
        rollback: set where the version was made by a rollback; its provenance is then that of the older version.
        published_at: when, UTC, by the publisher's clock.
        withdrawn: set where the version was moved out again because a server did not take it.
    """

    format: Literal[1] = 1
    version: int
    digest: str
    kind: Kind
    files: tuple[PayloadFile, ...]
    provenance: dict[str, str] = {}
    rollback: Rollback | None = None
    published_at: datetime
    withdrawn: Mark | None = None


class State(_Record):
    """What the store remembers when directories vanish: the largest number ever used."""

    largest_version: int


class Marks(_Record):
    """What people have said of versions.

    Attributes:
        format: of this record.
        pinned: versions that retention keeps.
        labels: label to the version that it names.
        moving: label to the version that it will name as soon as that version is available on every server.
        refused: digests that were rolled back.
    """

    format: Literal[1] = 1
    pinned: dict[int, Mark] = {}
    labels: dict[str, int] = {}
    moving: dict[str, int] = {}
    refused: dict[str, Refusal] = {}

    @property
    def held(self) -> frozenset[int]:
        """The versions that retention keeps whatever their age."""
        return frozenset((*self.pinned, *self.labels.values(), *self.moving.values()))
