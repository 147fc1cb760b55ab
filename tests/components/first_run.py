"""Where the small pipeline's first run left its artifacts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from components.lineage.reader import Lineage
from schemas.config import MetadataConfig, SqliteConfig
from tests.workbench import Bench


@dataclass(frozen=True)
class FirstRun:
    """What the run that pushed version 1 put out.

    Attributes:
        uris: folder of each artifact, by node and output key.
        saved_model: the version that it pushed.
    """

    uris: dict[tuple[str, str], Path]
    saved_model: Path


def first_run_of(bench: Bench) -> FirstRun:
    """The artifacts of the first run, whatever has run after it."""
    lineage = Lineage(MetadataConfig(sqlite=SqliteConfig(path=str(bench.folder / "metadata.db"))), "taxi")
    nodes = lineage.nodes(lineage.runs()[-1])
    uris = {(node.node, output.key): Path(output.uri) for node in nodes for output in node.outputs}
    return FirstRun(uris, bench.served / "1")
