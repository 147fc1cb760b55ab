"""Which model is served, by the push records of the lineage. Imports no TFX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import NotAPayloadError
from serving import payload

__all__ = ["Served", "choose", "newest_push", "saved_model_of"]

_SERVING_FORMAT = "Format-Serving"
"""Folder of a Model artifact in which TFX's Trainer leaves the SavedModel."""


@dataclass(frozen=True)
class Served:
    """What a resolver finds.

    Attributes:
        push: the newest push record, an `ml_metadata` Artifact proto; None where nothing was pushed.
        champion: the model that it pushed; None where there is nothing to compare a candidate with: nothing was pushed,
            the model's files are gone or no longer hold the bytes that were pushed, or they are the candidate's.
    """

    push: Any | None
    champion: Any | None


def choose(candidate: Any | None, pushes: Sequence[Any], models: Sequence[Any], base_path: str) -> Served:
    """The champion by push records, not by blessings: a blessing admits, only a push makes a champion.

    A model is not compared with itself: where the champion's bytes are the candidate's there is no champion to evaluate,
    and what was found out about these bytes before anything was served can be used again.

    Args:
        candidate: the Model artifact just trained.
        pushes: every PushedModel artifact of the pipeline.
        models: every Model artifact of the pipeline.
        base_path: of the watch directory; what was pushed elsewhere does not count.
    """
    push = newest_push(pushes, base_path)
    if push is None:
        return Served(None, None)
    pushed = push.custom_properties["digest"].string_value
    if candidate is not None and _digest(candidate) == pushed:
        return Served(push, None)
    model_id = push.custom_properties["model_id"].int_value
    champion = next((model for model in models if model.id == model_id), None)
    if champion is not None and _digest(champion) != pushed:
        champion = None
    return Served(push, champion)


def newest_push(records: Sequence[Any], base_path: str) -> Any | None:
    """The newest of the PushedModel artifacts by which something was pushed into a watch directory, or None."""
    pushed = [
        record
        for record in records
        if record.custom_properties["pushed"].int_value == 1
        and record.custom_properties["base_path"].string_value == base_path
    ]
    return max(pushed, key=lambda record: int(record.id), default=None)


def saved_model_of(model: Any) -> Path:
    """Where the SavedModel of a Model artifact lies."""
    return Path(model.uri) / _SERVING_FORMAT


def _digest(model: Any) -> str:
    """Of the payload; "" where it is gone or is none."""
    try:
        return payload.digest(saved_model_of(model))
    except NotAPayloadError:
        return ""
