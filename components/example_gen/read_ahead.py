"""What is read ahead (`ahead`), and what the executor takes of it."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

from components.example_gen.ahead import FOLDER, LOCK
from components.example_gen.columns import columns_of, ingest_schema
from components.example_gen.fingerprint import Snapshot, code_of_ingest
from components.example_gen.ingest import Recipe, ingest, knows_all
from components.example_gen.shards import MANIFEST_FILE
from components.example_gen.spans import files_of
from schemas.config import DataConfig
from schemas.errors import SatisficeError

__all__ = ["earlier_folders", "read_ahead", "taken"]


def earlier_folders(outputs: Path) -> list[Path]:
    """The artifacts of examples among a node's outputs, by name."""
    return sorted(path.parent for path in outputs.glob(f"*/{MANIFEST_FILE}"))


@contextlib.contextmanager
def taken(node: Path) -> Iterator[list[Path]]:
    """What was read ahead for a node, once that has ended: no folder or one, which goes with the block.

    Args:
        node: folder of its outputs, `<pipeline root>/ExampleGen`.
    """
    folder = node / FOLDER
    with contextlib.suppress(FileNotFoundError), (node / LOCK).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
    try:
        yield [folder] if (folder / MANIFEST_FILE).is_file() else []
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_ahead(node: Path, data: DataConfig) -> None:
    """Reads what no earlier artifact has. What is wrong with the data is told by the node itself."""
    with contextlib.suppress(SatisficeError, OSError):
        columns = columns_of(ingest_schema(Path(data.schema_path).read_text(encoding="utf-8")))
        snapshot = Snapshot.of(files_of(data.source))
        earlier = earlier_folders(node / "examples")
        weights = {str(name): share for name, share in data.splits.items()}
        recipe = Recipe.of(snapshot.digests, data.source.format, columns, weights, code_of_ingest(), earlier)
        if not knows_all(recipe, snapshot, earlier):
            ingest(recipe, snapshot, node / FOLDER, earlier=earlier)
