"""The version store: a base path that TF Serving watches, into which payloads are published whole or not at all."""

from __future__ import annotations

from serving.store.disk import FileSystem
from serving.store.fsck import Finding, find, find_in_bucket
from serving.store.labels import Labels, labels_of
from serving.store.names import version_number
from serving.store.read import StoreReader, Version
from serving.store.records import Manifest, Mark, Marks, Refusal, Rollback
from serving.store.repair import repair
from serving.store.versions import LabelMove, Published, VersionStore

__all__ = [
    "FileSystem",
    "Finding",
    "LabelMove",
    "Labels",
    "Manifest",
    "Mark",
    "Marks",
    "Published",
    "Refusal",
    "Rollback",
    "StoreReader",
    "Version",
    "VersionStore",
    "find",
    "find_in_bucket",
    "is_remote",
    "labels_of",
    "open_versions",
    "repair",
    "repair_in_bucket",
    "version_number",
]


def is_remote(base_path: str) -> bool:
    """Whether a base path is in a bucket and not a directory."""
    return base_path.startswith("gs://")


def open_versions(base_path: str) -> VersionStore:
    """The store on a base path: a directory, or `gs://BUCKET/PREFIX`."""
    if not is_remote(base_path):
        return VersionStore(base_path)
    from serving.store.cloud import CloudVersionStore

    return CloudVersionStore(base_path)


def repair_in_bucket(store: VersionStore) -> list[tuple[Finding, str]]:
    """As `repair`, of a base path in a bucket."""
    from serving.store.cloud import CloudVersionStore
    from serving.store.cloud_repair import repair_in_bucket as mend

    assert isinstance(store, CloudVersionStore)
    return mend(store)
