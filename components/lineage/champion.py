"""Finds the champion for TFX: a resolver strategy around `components.lineage.served`."""

from __future__ import annotations

from typing import Any

from tfx import types
from tfx.dsl.components.common import resolver

from components.lineage.served import choose

__all__ = ["ChampionStrategy"]


class ChampionStrategy(resolver.ResolverStrategy):
    """Resolves the champion.

    Expects three channels: `candidate` (the model just trained; may be left out), `served` (every PushedModel of the pipeline) and
    `champion` (every Model of the pipeline). `served` resolves to the newest push record, `champion` to the model that
    it pushed, or to nothing where there is nothing to compare the candidate with (see `choose`).
    """

    def __init__(self, base_path: str) -> None:
        """Takes the watch directory's base path: what was pushed elsewhere does not count."""
        self._base_path = base_path

    def resolve_artifacts(
        self, store: Any, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]] | None:
        """See the class."""
        protos = {key: [one.mlmd_artifact for one in artifacts] for key, artifacts in input_dict.items()}
        candidate = next(iter(protos.get("candidate", [])), None)
        found = choose(candidate, protos["served"], protos["champion"], self._base_path)
        return {
            **({"candidate": input_dict["candidate"]} if "candidate" in input_dict else {}),
            "served": _of(input_dict["served"], found.push),
            "champion": _of(input_dict["champion"], found.champion),
        }


def _of(artifacts: list[types.Artifact], proto: Any | None) -> list[types.Artifact]:
    return [one for one in artifacts if proto is not None and one.id == proto.id]
