"""Loads a payload into a fresh process and has it answer the requests that it carries. No TFX."""

from __future__ import annotations

import tempfile
from pathlib import Path

from components.profiler.spawn import Child
from schemas.decision import Rehearsal

__all__ = ["rehearse"]

_CHILD = "components.profiler.child"
_TIMEOUT_S = 120.0


def rehearse(model: Path, digest: str) -> Rehearsal:
    """What a payload did.

    Args:
        model: a SavedModel directory.
        digest: of its bytes.
    """
    with tempfile.TemporaryDirectory(prefix="satisfice-rehearsal-") as folder:
        job = {"kind": "rehearsal", "path": str(model)}
        outcome = Child(_CHILD, job, Path(folder), "rehearsal").wait(_TIMEOUT_S)
    if outcome.result is None:
        return Rehearsal(digest=digest, problem=outcome.problem)
    return Rehearsal(digest=digest, **outcome.result["rehearsal"])
