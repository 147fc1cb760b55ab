"""What nodes put out is kept by its digests, and TFX's cache is held against them: a hit whose bytes have changed is none.

TFX's launcher looks whether the folder of an artifact is there, and no further.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runners.local.cache import difference_of, files_of
from runners.local.records import Records

__all__ = ["Verdict", "keep", "verified"]

_log = logging.getLogger(__name__)


@dataclass
class Verdict:
    """What was found of the work that a cache would have used again.

    Attributes:
        reason: why it was not used; "" where it was, or where there was none.
    """

    reason: str = ""


def keep(root: Path, artifacts: Iterable[Any]) -> None:
    """Notes the digests of what a node has put out; without them it is not used again.

    Args:
        root: pipeline root.
        artifacts: `ml_metadata` Artifact protos, published.
    """
    for artifact in artifacts:
        file = _file(root, artifact.id)
        half = file.with_suffix(f".{os.getpid()}.half")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            half.write_text(json.dumps({"uri": artifact.uri, "files": files_of(Path(artifact.uri))}), encoding="utf-8")
            os.replace(half, file)
        except OSError:
            _log.warning("The digests of %s cannot be kept: it will not be used again", artifact.uri, exc_info=True)


@contextlib.contextmanager
def verified(root: Path, records: Records) -> Iterator[Verdict]:
    """Has TFX's launcher, in this process and for the while, use no artifact again whose bytes are not as they were.

    What is damaged is marked as no longer live, so that no other run finds it. What nobody has noted the digests of is
    left as it is, and not used.

    Args:
        root: pipeline root.
        records: of the open store.
    """
    from tfx.orchestration.portable import cache_utils

    look_up = cache_utils.get_cached_outputs
    verdict = Verdict()

    def get_cached_outputs(metadata_handle: Any, cache_context: Any) -> Any:
        while (outputs := look_up(metadata_handle=metadata_handle, cache_context=cache_context)) is not None:
            damage, known = _damage(root, outputs)
            if not damage:
                return outputs
            verdict.reason = f"what is kept of it is {'damaged' if known else 'not to be checked'}: {damage}"
            _log.warning("Not used again, %s", verdict.reason)
            if not known:
                return None
            ids = [artifact.id for artifacts in outputs.values() for artifact in artifacts]
            records.discard(records.store.get_artifacts_by_id(ids))
        return None

    cache_utils.get_cached_outputs = get_cached_outputs  # the launcher has no seam for it
    try:
        yield verdict
    finally:
        cache_utils.get_cached_outputs = look_up


def _damage(root: Path, outputs: Mapping[str, list[Any]]) -> tuple[str, bool]:
    """What is wrong with artifacts, "" for nothing; and whether their digests are known."""
    for key, artifacts in outputs.items():
        for artifact in artifacts:
            noted = _noted(root, artifact)
            if noted is None:
                return f"of {key} no digests were kept", False
            difference = difference_of(noted, files_of(Path(artifact.uri)))
            if difference:
                return f"{key}/{difference}", True
    return "", True


def _noted(root: Path, artifact: Any) -> Mapping[str, str] | None:
    try:
        found = json.loads(_file(root, artifact.id).read_text(encoding="utf-8"))
        files: Mapping[str, str] = found["files"]
        return files if found["uri"] == artifact.uri else None  # an id says nothing in another store
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _file(root: Path, artifact_id: int) -> Path:
    return root / "cache" / "digests" / f"{artifact_id}.json"
