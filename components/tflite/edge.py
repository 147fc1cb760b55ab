"""The edge directory, from which devices take `.tflite` files: what they have now, and what a push tells them. No TFX."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.pusher.publish import push, served_state
from schemas.decision import Decision, PushResult
from schemas.tflite import Export, VariantRecord
from serving.store import VersionStore

__all__ = [
    "EDGE_VERSION",
    "Devices",
    "devices_state",
    "for_devices",
    "newest_file",
    "push_file",
    "push_state",
    "vocabularies_of",
]

_LONGEST_BYTES = 1 << 20

EDGE_VERSION = "edge_version"
"""Custom property of what was measured: the version that devices had then; 0 where they had none."""


@dataclass(frozen=True)
class Devices:
    """The file that devices have now.

    Attributes:
        path: of the file.
        digest: of its bytes.
        version: under which it stands.
    """

    path: Path
    digest: str
    version: int


def newest_file(base_path: str) -> Devices | None:
    """The newest version of the edge directory; None where there is none, or no directory.

    Raises:
        StoreError: the directory cannot be read.
    """
    newest = VersionStore(base_path).newest() if base_path and Path(base_path).is_dir() else None
    return Devices(newest.payload, newest.digest, newest.number) if newest else None


def devices_state(base_path: str) -> str:
    """What figures depend on that compare with the file devices have: its digest, or ""."""
    devices = newest_file(base_path)
    return devices.digest if devices else ""


def push_state(decision: Decision, base_path: str) -> str:
    """As `components.pusher.publish.served_state`, for the edge directory; "" where no file is made."""
    if decision.edge is None:
        return ""
    return served_state(_of_file(decision), VersionStore(base_path))


def push_file(decision: Decision, file: Path, base_path: str, provenance: Mapping[str, str]) -> PushResult:
    """Publishes the file that was chosen, if the decision lets it.

    Args:
        decision: on SavedModel and files.
        file: that was chosen; not looked at where none was.
        base_path: of the edge directory.
        provenance: for the version's manifest.

    Raises:
        DigestMismatchError: the file's bytes are not the ones that were measured.
        StoreError: the store cannot publish; nothing half-written is visible.
    """
    return push(_of_file(decision), file, VersionStore(base_path), provenance).result


def for_devices(
    export: Export, variant: VariantRecord, vocabularies: Mapping[str, Sequence[str]], saved_model_version: int | None
) -> dict[str, str]:
    """What whoever runs the file must know, for the version's manifest; what is no text is JSON.

    Args:
        export: that the file is of.
        variant: the file's record.
        vocabularies: name to words, in the order of their numbers.
        saved_model_version: of the SavedModel that the file is made of; None where that is not served.
    """
    return {
        "variant": variant.variant,
        "saved_model_digest": export.saved_model,
        "saved_model_version": "" if saved_model_version is None else str(saved_model_version),
        "takes": export.takes,
        "inputs": json.dumps({name: one.model_dump() for name, one in variant.inputs.items()}),
        "outputs": json.dumps({name: one.model_dump() for name, one in variant.outputs.items()}),
        "before_calling": json.dumps(list(export.before_calling)),
        "vocabularies": json.dumps({name: list(words) for name, words in vocabularies.items()}, ensure_ascii=False),
        "operators": json.dumps(variant.operators),
    }


def _of_file(decision: Decision) -> Decision:
    """The decision on the file alone, as if it were the candidate."""
    edge = decision.edge
    assert edge is not None, "a file is pushed by a decision on files"
    return Decision(
        outcome=edge.outcome,
        digest=edge.digest,
        champion_digest=edge.champion_digest,
        champion_version=edge.champion_version,
        gates=(),
        reasons=edge.reasons,
        config_digest=decision.config_digest,
    )


def vocabularies_of(saved_model: Path) -> dict[str, list[str]]:
    """The words of each vocabulary of the preprocessing, in the order of their numbers, by name of its file.

    Files that are no text, or are longer than a megabyte, are left out: they ship with the SavedModel alone.
    """
    found = {}
    for file in sorted(saved_model.glob("assets/*")):
        if file.is_file() and file.stat().st_size <= _LONGEST_BYTES:
            try:
                found[file.name] = file.read_text(encoding="utf-8").splitlines()
            except UnicodeDecodeError:
                continue
    return found
