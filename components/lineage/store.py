"""Opens the ML Metadata store of a configuration. Imports ml_metadata and nothing heavier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

from schemas.config import MetadataConfig
from schemas.errors import MetadataError

__all__ = ["connection_config", "open_store"]


def connection_config(metadata: MetadataConfig, *, read_only: bool = False) -> Any:
    """The connection of the configured store, as ML Metadata takes it."""
    assert metadata.sqlite is not None, "the only store that a configuration can have today"
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = metadata.sqlite.path
    modes = metadata_store_pb2.SqliteMetadataSourceConfig
    config.sqlite.connection_mode = modes.READONLY if read_only else modes.READWRITE_OPENCREATE
    return config


def open_store(metadata: MetadataConfig, *, read_only: bool = False) -> Any:
    """Opens the configured store.

    Raises:
        MetadataError: where it does not exist and is only to be read, or cannot be opened.
    """
    assert metadata.sqlite is not None
    path = Path(metadata.sqlite.path)
    if read_only and not path.is_file():
        raise MetadataError(
            str(path), "there is no metadata store yet", remedy="Run the pipeline once: satisfice run satisfice.yaml"
        )
    try:
        if not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
        return metadata_store.MetadataStore(connection_config(metadata, read_only=read_only))
    except Exception as error:
        raise MetadataError(
            str(path),
            "cannot be opened as a metadata store",
            expected="a SQLite file written by ML Metadata",
            got=" ".join(str(error).split()),
            remedy="Correct metadata.sqlite.path, put a backup in its place, or begin anew with another store and --root.",
        ) from error
