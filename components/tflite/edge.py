"""The edge directory, from which devices take `.tflite` files: what they have now, and what a push tells them. No TFX.

Which file devices have is a matter of the lineage's push records, as for the SavedModel; the directory holds its bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.lineage.served import newest_push
from components.pusher.publish import PushRecord, push, served_state
from schemas.config import EdgeConfig
from schemas.decision import Decision
from schemas.errors import NotAPayloadError
from schemas.tflite import EXPORT_FILE, Export, VariantRecord
from serving import payload
from serving.store import is_remote, open_versions

__all__ = ["Devices", "Found", "devices_of", "find", "for_devices", "push_file", "push_state", "vocabularies_of"]

_LONGEST_BYTES = 1 << 20


@dataclass(frozen=True)
class Found:
    """What a resolver finds.

    Attributes:
        push: the newest record of a push to devices, an `ml_metadata` Artifact proto; None where nothing was pushed.
        devices: the same, where the file has to be measured beside the candidate's; None where it is one of them.
    """

    push: Any | None
    devices: Any | None


def find(candidate: Any | None, pushes: Sequence[Any], base_path: str) -> Found:
    """The file that devices have, by push records.

    A file is not measured beside itself: where devices have one of the candidate's files already, what was found out about
    these before anything was pushed can be used again.

    Args:
        candidate: the artifact of the files just made, an `ml_metadata` proto; None where none were.
        pushes: every PushedModel artifact of the pipeline.
        base_path: of the edge directory; what was pushed elsewhere does not count.
    """
    newest = newest_push(pushes, base_path)
    if newest is None or candidate is None:
        return Found(newest, newest)
    export = Export.model_validate_json(Path(candidate.uri, EXPORT_FILE).read_bytes())
    own = {variant.digest for variant in export.variants}
    return Found(newest, None if newest.custom_properties["digest"].string_value in own else newest)


@dataclass(frozen=True)
class Devices:
    """The file that devices have now.

    Attributes:
        path: of the file.
        digest: of the bytes that were pushed.
        version: under which it stands.
        why_not: why there is nothing to measure: the file is gone or holds other bytes; "" where it is whole.
    """

    path: Path
    digest: str
    version: int
    why_not: str = ""

    @property
    def state(self) -> str:
        """Changes with whatever figures depend on that compare with this file."""
        return "not there" if self.why_not else self.digest


def devices_of(pushed: Any | None, scratch: Path | None = None) -> Devices | None:
    """The file that a push record tells of; None where there is no record.

    Args:
        pushed: from `find`.
        scratch: folder for a copy of a file that is in a bucket; None where the file itself is not wanted.

    Raises:
        StoreError: it is in a bucket that cannot be read.
    """
    if pushed is None:
        return None
    told = pushed.custom_properties
    digest, version = told["digest"].string_value, int(told["version"].int_value)
    base_path = told["base_path"].string_value
    if is_remote(base_path):
        return _devices_in_bucket(base_path, digest, version, scratch)
    path = Path(base_path, str(version), payload.TFLITE_NAME)
    try:
        found = payload.digest(path)
    except NotAPayloadError as error:
        return Devices(path, digest, version, f"{path} {error.problem}")
    return Devices(path, digest, version, "" if found == digest else f"{path} holds other bytes than were pushed")


def _devices_in_bucket(base_path: str, digest: str, version: int, scratch: Path | None) -> Devices:
    place = f"{base_path}/{version}/{payload.TFLITE_NAME}"
    content = open_versions(base_path).read(version, Path(payload.TFLITE_NAME))
    path = (scratch or Path()) / payload.TFLITE_NAME
    if content is None:
        return Devices(path, digest, version, f"{place} does not exist")
    sha256 = hashlib.sha256(content).hexdigest()
    if payload.digest_of([payload.PayloadFile(payload.TFLITE_NAME, len(content), sha256)]) != digest:
        return Devices(path, digest, version, f"{place} holds other bytes than were pushed")
    if scratch is not None:
        path.write_bytes(content)
    return Devices(path, digest, version)


def push_state(decision: Decision, base_path: str) -> str:
    """As `components.pusher.publish.served_state`, for the edge directory; "" where no file is made."""
    if decision.edge is None:
        return ""
    return served_state(_of_file(decision), open_versions(base_path))


def push_file(decision: Decision, file: Path, edge: EdgeConfig, provenance: Mapping[str, str]) -> PushRecord:
    """Publishes the file that was chosen, if the decision lets it.

    Args:
        decision: on SavedModel and files.
        file: that was chosen; not looked at where none was.
        edge: the directory, and how many versions stay in it.
        provenance: for the version's manifest.

    Raises:
        DigestMismatchError: the file's bytes are not the ones that were measured.
        StoreError: the store cannot publish; nothing half-written is visible.
    """
    return push(_of_file(decision), file, open_versions(edge.base_path), provenance, edge.keep_versions)


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
        head=edge.head,
        span=decision.span,
        spans=decision.spans,
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
