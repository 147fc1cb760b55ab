"""Finds the champion: the newest model that was pushed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfx import types
from tfx.dsl.components.common import resolver
from tfx.utils import path_utils

from serving import payload

__all__ = ["ChampionStrategy", "newest_push"]


class ChampionStrategy(resolver.ResolverStrategy):
    """Resolves the champion by push records, not by blessings: a blessing admits, only a push makes a champion.

    Expects three channels: `candidate` (the model just trained), `served` (every PushedModel of the pipeline) and
    `champion` (every Model of the pipeline). `served` resolves to the newest push record. `champion` resolves to the
    model that it pushed, and to nothing where that model's bytes are the candidate's: a model is not compared with
    itself, and what would consume the champion can be reused from the run that evaluated these bytes first.
    """

    def resolve_artifacts(
        self, store: Any, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]] | None:
        """See the class."""
        candidate, pushed = input_dict["candidate"], newest_push(input_dict["served"])
        if pushed is None:
            return {"candidate": candidate, "served": [], "champion": []}
        model_id = pushed.get_int_custom_property("model_id")
        models = [model for model in input_dict["champion"] if model.id == model_id]
        if candidate and _digest(candidate[0]) == pushed.get_string_custom_property("digest"):
            models = []
        return {"candidate": candidate, "served": [pushed], "champion": models}


def newest_push(records: Sequence[types.Artifact]) -> types.Artifact | None:
    """The newest of the PushedModel artifacts by which something was pushed, or None."""
    pushed = [record for record in records if record.get_int_custom_property("pushed") == 1]
    return max(pushed, key=lambda record: int(record.id), default=None)


def _digest(model: types.Artifact) -> str:
    return payload.digest(path_utils.serving_model_path(model.uri))
