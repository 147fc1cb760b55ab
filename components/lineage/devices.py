"""Finds the file that devices have, for TFX: a resolver strategy around `components.tflite.edge`."""

from __future__ import annotations

from typing import Any

from tfx import types
from tfx.dsl.components.common import resolver

from components.tflite.edge import find

__all__ = ["DevicesStrategy"]


class DevicesStrategy(resolver.ResolverStrategy):
    """Resolves the file that devices have.

    Expects three channels: `candidate` (the files just made), `served` and `devices` (every PushedModel of the pipeline).
    `served` resolves to the newest record of a push to devices, `devices` to the same where its file has to be measured
    beside the candidate's (see `find`).
    """

    def __init__(self, base_path: str) -> None:
        """Takes the edge directory's base path: what was pushed elsewhere does not count."""
        self._base_path = base_path

    def resolve_artifacts(
        self, store: Any, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]] | None:
        """See the class."""
        protos = {key: [one.mlmd_artifact for one in artifacts] for key, artifacts in input_dict.items()}
        found = find(next(iter(protos["candidate"]), None), protos["served"], self._base_path)
        return {
            "candidate": input_dict["candidate"],
            "served": _of(input_dict["served"], found.push),
            "devices": _of(input_dict["devices"], found.devices),
        }


def _of(artifacts: list[types.Artifact], proto: Any | None) -> list[types.Artifact]:
    return [one for one in artifacts if proto is not None and one.id == proto.id]
