"""Finds the data gate's baseline for TFX: a resolver strategy around `components.lineage.trained_on`."""

from __future__ import annotations

from typing import Any

from tfx import types
from tfx.dsl.components.common import resolver

from components.lineage.trained_on import trained_on

__all__ = ["BaselineStrategy"]


class BaselineStrategy(resolver.ResolverStrategy):
    """Resolves the baseline.

    Expects two channels: `served` (every PushedModel of the pipeline) and `baseline` (every ExampleStatistics of the
    pipeline). `served` resolves to the newest push record, `baseline` to the statistics of the data that its model was
    trained on; each to nothing where there is none.
    """

    def __init__(self, base_path: str) -> None:
        """Takes the watch directory's base path: what was pushed elsewhere does not count."""
        self._base_path = base_path

    def resolve_artifacts(
        self, store: Any, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]] | None:
        """See the class."""
        found = trained_on(store, [one.mlmd_artifact for one in input_dict["served"]], self._base_path)
        return {
            "served": _of(input_dict["served"], found.push),
            "baseline": _of(input_dict["baseline"], found.statistics),
        }


def _of(artifacts: list[types.Artifact], proto: Any | None) -> list[types.Artifact]:
    return [one for one in artifacts if proto is not None and one.id == proto.id]
