"""A node's work as a function of ML Metadata's artifacts, for nodes that need no TFX.

The local engine calls such a function in its own process; the node's TFX executor calls the same one, so that every
runner writes the same records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from components.lineage.reader import RECORD_PROPERTY

__all__ = ["Call", "Work", "call_of", "write_file", "write_record"]


@dataclass(frozen=True)
class Call:
    """What a node is given, and where it has to put what it makes.

    Attributes:
        inputs: key to `ml_metadata` Artifact protos.
        outputs: key to one Artifact proto each; the work sets its properties and writes its files below its uri.
        parameters: the node's.
        run_id: of the run, or "".
    """

    inputs: Mapping[str, Sequence[Any]]
    outputs: Mapping[str, Any]
    parameters: Mapping[str, Any]
    run_id: str = ""

    def one(self, key: str) -> Any:
        """The input of which there is exactly one; ValueError where there are none or several."""
        (artifact,) = self.inputs[key]
        return artifact

    def any(self, key: str) -> Any | None:
        """The input of which there is one or none."""
        return next(iter(self.inputs.get(key) or ()), None)


Work = Callable[[Call], None]


def call_of(
    inputs: Mapping[str, Sequence[Any]],
    outputs: Mapping[str, Sequence[Any]],
    parameters: Mapping[str, Any],
    context: Any,
) -> Call:
    """The call that a TFX executor's arguments stand for.

    Args:
        inputs, outputs: key to `tfx.types.Artifact`s. What the work does to an output's proto, it does to the artifact.
        parameters: the executor's `exec_properties`.
        context: the executor's, or None.
    """
    return Call(
        {key: [one.mlmd_artifact for one in artifacts] for key, artifacts in inputs.items()},
        {key: artifacts[0].mlmd_artifact for key, artifacts in outputs.items()},
        parameters,
        (context.pipeline_run_id or "") if context else "",
    )


def write_record(artifact: Any, name: str, record: BaseModel) -> None:
    """Writes a record into a file of the artifact, for people, and into the artifact, so that the store can answer."""
    write_file(artifact, name, record.model_dump_json(indent=2))
    artifact.custom_properties[RECORD_PROPERTY].string_value = record.model_dump_json()


def write_file(artifact: Any, name: str, text: str) -> None:
    """Writes a file of the artifact."""
    folder = Path(artifact.uri)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
