"""Opens the ML Metadata store of a configuration. Imports ml_metadata and nothing heavier."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

from schemas.config import DatabaseConfig, MetadataConfig
from schemas.errors import MetadataError

__all__ = ["connection_config", "open_store", "without_password"]

_RETRIES = 5
"""Transactions that a server aborts for the sake of another writer are made again so often."""


def connection_config(metadata: MetadataConfig, *, read_only: bool = False) -> Any:
    """The connection of the configured store, as ML Metadata takes it.

    It holds the password of a database server, which is read from the environment: write it nowhere. A server takes no
    connection that can only read; nothing is written over it either.

    Raises:
        MetadataError: the variable that `password_env` names is not set.
    """
    if metadata.grpc is not None:
        return metadata_store_pb2.MetadataStoreClientConfig(host=metadata.grpc.host, port=metadata.grpc.port)
    config = metadata_store_pb2.ConnectionConfig()
    if metadata.sqlite is not None:
        config.sqlite.filename_uri = metadata.sqlite.path
        modes = metadata_store_pb2.SqliteMetadataSourceConfig
        config.sqlite.connection_mode = modes.READONLY if read_only else modes.READWRITE_OPENCREATE
        return config
    config.retry_options.max_num_retries = _RETRIES
    if metadata.mysql is not None:
        server = metadata.mysql
        config.mysql.host, config.mysql.port = server.host, server.port
        config.mysql.database, config.mysql.user = server.database, server.user
        config.mysql.password = _password(server)
    elif metadata.postgresql is not None:
        server = metadata.postgresql
        config.postgresql.host, config.postgresql.port = server.host, str(server.port)
        config.postgresql.dbname, config.postgresql.user = server.database, server.user
        config.postgresql.password = _quoted(_password(server))
    return config


def without_password(connection: Any) -> Any:
    """A copy of a connection that may be written down."""
    copy = type(connection)()
    copy.CopyFrom(connection)
    for kind in ("mysql", "postgresql"):
        if isinstance(copy, metadata_store_pb2.ConnectionConfig) and copy.HasField(kind):
            getattr(copy, kind).ClearField("password")
    return copy


def open_store(metadata: MetadataConfig, *, read_only: bool = False) -> Any:
    """Opens the configured store.

    Raises:
        MetadataError: where it does not exist and is only to be read, or cannot be opened.
    """
    try:
        if metadata.sqlite is not None:
            _prepare_file(Path(metadata.sqlite.path), read_only=read_only)
        # A server's tables are made, or found to be of another version, with the first connection.
        store = metadata_store.MetadataStore(connection_config(metadata, read_only=read_only))
        if metadata.grpc is not None:
            store.get_context_types()  # a client of gRPC connects with its first question
        return store
    except MetadataError:
        raise
    except Exception as error:
        raise _not_opened(metadata, error) from error


def _prepare_file(path: Path, *, read_only: bool) -> None:
    if not read_only:
        path.parent.mkdir(parents=True, exist_ok=True)
    elif not path.is_file():
        raise MetadataError(
            str(path), "there is no metadata store yet", remedy="Run the pipeline once: satisfice run satisfice.yaml"
        )


def _password(server: DatabaseConfig) -> str:
    if server.password_env is None:
        return ""
    password = os.environ.get(server.password_env)
    if password is None:
        raise MetadataError(
            f"{server.user}@{server.host}:{server.port}",
            "the password of the metadata store is not there",
            expected=f"the environment variable {server.password_env}, which password_env names",
            remedy="Set it; in Kubernetes from a secret (kubeflow.secrets).",
        )
    return password


def _quoted(text: str) -> str:
    """Text as libpq's connection string takes it: ML Metadata puts one together without quoting anything."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'" if text else ""


def _not_opened(metadata: MetadataConfig, error: Exception) -> MetadataError:
    got = " ".join(str(error).split())
    if metadata.sqlite is not None:
        return MetadataError(
            metadata.sqlite.path,
            "cannot be opened as a metadata store",
            expected="a SQLite file written by ML Metadata",
            got=got,
            remedy="Correct metadata.sqlite.path, put a backup in its place, or begin anew with another store and --root.",
        )
    kind, server = next(
        (kind, server) for kind in ("mysql", "postgresql", "grpc") if (server := getattr(metadata, kind)) is not None
    )
    return MetadataError(
        f"metadata.{kind} at {server.host}:{server.port}",
        "cannot be opened as a metadata store",
        expected="a server that can be reached, and a database and a user of it that may make tables",
        got=got,
        remedy=_REMEDIES[kind],
    )


_REMEDIES = {
    "mysql": "Correct host, port, database, user or password; MySQL 8 needs mysql_native_password, MariaDB needs nothing.",
    "postgresql": "Correct host, port, database, user or password.",
    "grpc": "Correct host or port, or start ML Metadata's server.",
}
