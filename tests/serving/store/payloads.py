"""Payloads and looks at a base path, for the tests of the store."""

from __future__ import annotations

import os
from pathlib import Path

from serving.payload import digest
from serving.store import Published, VersionStore, version_number


def saved_model(folder: Path, graph: str = "graph", *, blob: int = 10) -> Path:
    """A directory that passes for a SavedModel whose bytes depend on `graph`."""
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_text(graph)
    (folder / "fingerprint.pb").write_text("fingerprint")
    (folder / "variables" / "variables.data").write_bytes(b"w" * blob)
    return folder


def publish(store: VersionStore, payload: Path) -> Published:
    return store.publish(payload, digest(payload), {"pipeline": "taxi"})


def numeric_entries(base: Path) -> list[str]:
    """What TF Serving would look at."""
    return sorted(name for name in os.listdir(base) if version_number(name) is not None)


def assert_only_whole_versions(base: Path) -> None:
    """Every integer-named entry verifies against its manifest."""
    store = VersionStore(base)
    for name in numeric_entries(base) if base.exists() else []:
        store.verify(int(name))
