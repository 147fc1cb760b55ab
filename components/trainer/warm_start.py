"""The champion's weights as a beginning: read from its SavedModel, by name, into a model of the same architecture.

A training does not fail because a vocabulary has grown: where a variable differs it begins from nothing, and says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from schemas.errors import shorten
from serving import payload

__all__ = ["Champion", "begin_from", "read_champion", "vocabularies_changed"]

_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_TOLD = 5
"""Variables that a reason names."""


@dataclass(frozen=True)
class Champion:
    """The model that a training may begin from.

    Attributes:
        digest: of its payload; "" where nothing is served yet.
        weights: name, as in `dense/kernel`, to array.
        why_not: why its weights cannot be had; "" where they can.
    """

    digest: str = ""
    weights: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    why_not: str = ""


def read_champion(saved_model: str | None) -> Champion:
    """The weights of the model that is served; nothing of it is run, and nothing unpickled.

    Args:
        saved_model: folder of its SavedModel; None where nothing is served.
    """
    if saved_model is None:
        return Champion(why_not="no model is served yet")
    digest = payload.digest(saved_model)
    try:
        reader = tf.train.load_checkpoint(str(Path(saved_model, "variables", "variables")))
        graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(reader.get_tensor(_GRAPH))
    except (tf.errors.OpError, ValueError) as error:
        return Champion(digest, why_not=f"the champion's weights cannot be read: {shorten(str(error), 200)}")
    weights: dict[str, npt.NDArray[Any]] = {}
    for attribute in (one for node in graph.nodes for one in node.attributes):
        if attribute.full_name in weights:
            return Champion(digest, why_not=f"two variables of the champion are called {attribute.full_name}")
        if attribute.full_name and reader.has_tensor(attribute.checkpoint_key):
            weights[attribute.full_name] = reader.get_tensor(attribute.checkpoint_key)
    return Champion(digest, weights)


def begin_from(champion: Champion, model: Any, *, assign: bool) -> dict[str, Any]:
    """Puts the champion's weights into a model; call it in the strategy's scope.

    Args:
        champion: that is served.
        model: built anew.
        assign: whether to; a training that is taken up again has weights of its own.

    Returns:
        For the lineage: `champion`, its digest, and either `variables`, how many were taken, or `cold_start_because`,
        with the names and shapes of the variables that differ; then the model is as it was.
    """
    variables = {_name(variable): variable for variable in model.weights}
    why_not = champion.why_not or _difference(variables, champion.weights, len(model.weights))
    about = {"champion": champion.digest or None}
    if why_not:
        return {**about, "cold_start_because": why_not}
    if assign:
        for name, variable in variables.items():
            variable.assign(champion.weights[name])
    return {**about, "variables": len(variables)}


def vocabularies_changed(saved_model: str, transform_graph: str) -> list[str]:
    """A sentence for each vocabulary with as many words as the champion's that has others, or in another order.

    What was learned of a word is then another's at first; training mends it, and nobody should wonder.

    Args:
        saved_model: folder of the champion's SavedModel.
        transform_graph: folder of the SavedModel of this run's preprocessing.
    """
    told = []
    for mine in sorted(Path(transform_graph, "assets").glob("*")):
        theirs = Path(saved_model, "assets", mine.name)
        if not theirs.is_file() or mine.read_bytes() == theirs.read_bytes():
            continue
        words, before = mine.read_bytes().splitlines(), theirs.read_bytes().splitlines()
        if len(words) == len(before):
            moved = sum(one != other for one, other in zip(words, before, strict=True))
            told.append(f"vocabulary {mine.name} has another word at {moved:,} of {len(words):,} places")
    return told


def _difference(mine: Mapping[str, Any], theirs: Mapping[str, npt.NDArray[Any]], number: int) -> str:
    """What keeps the champion's weights from fitting, with names and shapes; "" where they fit."""
    if len(mine) != number:
        return "two variables of the model have one name"
    faults = []
    for name in sorted({*mine, *theirs}):
        if name not in theirs:
            faults.append(f"the champion has no {name} {_shape(mine[name])}")
        elif name not in mine:
            if np.issubdtype(theirs[name].dtype, np.floating):  # counters and seeds are no weights
                faults.append(f"{name} {_shape(theirs[name])} is the champion's alone")
        elif tuple(mine[name].shape) != tuple(theirs[name].shape):
            faults.append(f"{name} is {_shape(mine[name])}, the champion's {_shape(theirs[name])}")
    more = f" and {len(faults) - _TOLD} more" if len(faults) > _TOLD else ""
    return "; ".join(faults[:_TOLD]) + more


def _name(variable: Any) -> str:
    """As a SavedModel names it."""
    return str(getattr(variable, "path", "") or variable.name).removesuffix(":0")


def _shape(variable: Any) -> str:
    return "x".join(str(size) for size in variable.shape) or "scalar"
