"""The version store: a base path that TF Serving watches, into which payloads are published whole or not at all."""

from serving.store.disk import FileSystem
from serving.store.fsck import Finding, find
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
    "labels_of",
    "repair",
    "version_number",
]
