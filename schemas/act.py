"""What a person did to the versions of a base path: the record that stands in the lineage."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["ActKind", "StoreAct"]

ActKind = Literal["rollback", "label_rollback", "label_load", "label", "unlabel", "pin", "unpin", "allow", "repair"]
"""`label_load` is the first step of a label's move: servers are to load the version. `label` and `label_rollback` are
the second."""


class StoreAct(BaseModel):
    """One act.

    Attributes:
        kind: of act.
        base_path: on which.
        version: the version that it is about; of a rollback, the new one. None where it is about none.
        digest: of that version's payload, or of the payload that is allowed again; "" where there is none.
        to_version: of a rollback, the older version whose bytes serve again.
        from_version, from_digest: of a rollback, what served before; None and "" where there was nothing.
        label: of an act on a label; else "".
        by: who.
        at: when, UTC.
        reason: why.
        done: what was done, one line each; of a repair.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ActKind
    base_path: str
    version: int | None = None
    digest: str = ""
    to_version: int | None = None
    from_version: int | None = None
    from_digest: str = ""
    label: str = ""
    by: str
    at: datetime
    reason: str = ""
    done: tuple[str, ...] = ()
