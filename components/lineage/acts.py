"""What people did to the versions of a base path, in the lineage: written and read back. Imports ml_metadata only.

Each act is an execution of type `satisfice.StoreAct` in the pipeline's context. An act after which other bytes serve puts
out a PushedModel as the Pusher does, so that whoever looks for the champion finds the version that serves now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_metadata.proto import metadata_store_pb2

from components.lineage.reader import RECORD_PROPERTY
from components.lineage.served import newest_push
from components.pusher.publish import PushRecord
from schemas.act import StoreAct
from schemas.decision import PushResult
from schemas.errors import StoreError
from serving.store import Manifest, StoreReader

__all__ = ["ACT_TYPE", "acts", "record_act", "record_missed_rollbacks", "record_rollback", "take_back_withdrawn"]

ACT_TYPE = "satisfice.StoreAct"
_PUSHED_MODEL = "PushedModel"
_Artifact, _Event, _Execution = metadata_store_pb2.Artifact, metadata_store_pb2.Event, metadata_store_pb2.Execution


def record_act(store: Any, pipeline: str, act: StoreAct, serves: Manifest | None = None, head: int = 0) -> int:
    """Records an act.

    Args:
        store: the metadata store.
        pipeline: name of the pipeline whose base path it is.
        act: what was done.
        serves: the manifest of the version that serves because of it; None where the act changes nothing of that.
        head: the newest version of the base path, where that is another one; 0 where it is not.

    Returns:
        The id of the execution that stands for it.
    """
    type_id = store.put_execution_type(metadata_store_pb2.ExecutionType(name=ACT_TYPE), can_add_fields=True)
    execution = _Execution(type_id=type_id, last_known_state=_Execution.COMPLETE)
    _set(execution, {"pipeline": pipeline, "kind": act.kind, "by": act.by, "reason": act.reason})
    _set(execution, {"base_path": act.base_path, RECORD_PROPERTY: act.model_dump_json()})
    _set(execution, {"version": act.version or 0})
    outputs = []
    if serves is not None:
        path = _Event.Path(steps=[_Event.Path.Step(key="pushed_model"), _Event.Path.Step(index=0)])
        outputs.append((_pushed_model(store, act, serves, head), _Event(type=_Event.OUTPUT, path=path)))
    execution_id, _, _ = store.put_execution(execution, outputs, [_context(store, pipeline)])
    return int(execution_id)


def acts(store: Any, pipeline: str, base_path: str) -> list[StoreAct]:
    """Every act on a base path that a pipeline's lineage knows, in the order in which they were recorded."""
    found = sorted(store.get_executions_by_type(ACT_TYPE), key=lambda one: one.id)
    records = [
        StoreAct.model_validate_json(one.custom_properties[RECORD_PROPERTY].string_value)
        for one in found
        if one.custom_properties["pipeline"].string_value == pipeline
    ]
    return [record for record in records if record.base_path == base_path]


def record_missed_rollbacks(store: Any, pipeline: str, reader: StoreReader, base_path: str) -> list[int]:
    """Records the rollbacks that were cut off between the base path and the lineage, as their manifests tell of them.

    One that servers are still to confirm looks no other, and serves meanwhile. Where they do not, its record is taken back.

    Args:
        store: the metadata store.
        pipeline: name of the pipeline; rollbacks to another pipeline's models are its own to record.
        reader: of the base path.
        base_path: as the pipeline's configuration names it.

    Returns:
        The versions that were recorded now.

    Raises:
        StoreError: the base path cannot be read.
    """
    missed = []
    newest = reader.newest()
    manifest = reader.manifest(newest.number) if newest and newest.digest else None
    ours = manifest is not None and manifest.provenance.get("pipeline", pipeline) == pipeline
    if manifest and manifest.rollback and ours and manifest.withdrawn is None:
        _, new = record_rollback(store, pipeline, manifest, base_path)
        missed += [manifest.version] if new else []
    gone = take_back_withdrawn(store, reader, base_path)  # also what was withdrawn while it was recorded
    return [version for version in missed if version not in gone]


def record_rollback(store: Any, pipeline: str, manifest: Manifest, base_path: str) -> tuple[StoreAct, bool]:
    """Records the rollback that made a version, once: whoever comes first does it.

    Returns:
        The act, and whether it was not recorded before.
    """
    act = rollback_act(manifest, base_path)
    known = {one.version for one in acts(store, pipeline, base_path) if one.kind == "rollback"}
    if manifest.version not in known:
        record_act(store, pipeline, act, manifest)
    return act, manifest.version not in known


def take_back_withdrawn(store: Any, reader: StoreReader, base_path: str) -> list[int]:
    """Has the lineage take no rollback for what serves that was withdrawn since; what served before is the champion again.

    Args:
        store: the metadata store.
        reader: of the base path.
        base_path: as the pipeline's configuration names it.

    Returns:
        The versions that are no longer taken for what serves, newest first.
    """
    gone: list[int] = []
    while True:
        record = newest_push(store.get_artifacts_by_type(_PUSHED_MODEL), base_path)
        version = record.custom_properties["version"].int_value if record is not None else 0
        made_by = record.custom_properties["act"].string_value if record is not None else ""
        if made_by != "rollback" or not _is_withdrawn(reader, version):
            return gone
        _set(record, {"pushed": 0})
        store.put_artifacts([record])
        gone.append(version)


def rollback_act(manifest: Manifest, base_path: str) -> StoreAct:
    """The act by which a version came to be that a rollback made."""
    rollback = manifest.rollback
    assert rollback is not None, "only a version that a rollback made"
    return StoreAct(
        kind="rollback",
        base_path=base_path,
        version=manifest.version,
        digest=manifest.digest,
        to_version=rollback.to,
        from_version=rollback.from_version,
        from_digest=rollback.from_digest,
        by=rollback.by,
        at=manifest.published_at,
        reason=rollback.reason,
    )


def _is_withdrawn(reader: StoreReader, version: int) -> bool:
    """False where the base path no longer tells."""
    try:
        manifest = reader.removed_manifest(version) or reader.manifest(version)
    except StoreError:
        return False
    return manifest.withdrawn is not None


def _pushed_model(store: Any, act: StoreAct, serves: Manifest, head: int) -> Any:
    """A PushedModel as the Pusher puts it out, for the model artifact that the version's manifest names."""
    result = PushResult(
        pushed=True,
        outcome="pushed",
        digest=serves.digest,
        version=serves.version,
        destination=f"{act.base_path}/{serves.version}",
        reason=f"Rolled back to version {act.to_version} by {act.by}: {act.reason}",
    )
    record = PushRecord(result, makes_champion=True, pushed_at=act.at)
    artifact = _Artifact(type_id=_pushed_model_type(store), uri=result.destination, state=_Artifact.LIVE)
    _set(artifact, record.properties(_model_id(serves), act.base_path, serves.kind))
    _set(artifact, {"act": act.kind, "rolled_back_to": act.to_version or 0, "head": head or serves.version})
    _set(artifact, {RECORD_PROPERTY: result.model_dump_json()})
    return artifact


def _pushed_model_type(store: Any) -> int:
    """The id of TFX's type; it is made here only where no run has pushed yet."""
    if _PUSHED_MODEL in {one.name for one in store.get_artifact_types()}:
        return int(store.get_artifact_type(_PUSHED_MODEL).id)
    return int(store.put_artifact_type(metadata_store_pb2.ArtifactType(name=_PUSHED_MODEL)))


def _model_id(manifest: Manifest) -> int:
    model_id = manifest.provenance.get("model_id", "")
    return int(model_id) if model_id.isdecimal() else 0


def _context(store: Any, pipeline: str) -> Any:
    found = store.get_context_by_type_and_name("pipeline", pipeline)
    if found is not None:
        return found
    type_id = store.put_context_type(metadata_store_pb2.ContextType(name="pipeline"), can_add_fields=True)
    return metadata_store_pb2.Context(type_id=type_id, name=pipeline)


def _set(record: Any, values: Mapping[str, str | int]) -> None:
    for key, value in values.items():
        if isinstance(value, int):
            record.custom_properties[key].int_value = value
        else:
            record.custom_properties[key].string_value = value
