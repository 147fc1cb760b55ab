"""What a Tuner found, read as TFX's Trainer hands it over: the file of a HyperParameters artifact. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from schemas.config import ModelConfig

__all__ = ["TUNED", "tuned"]

TUNED = "tuned"
"""Key of the Trainer's arguments that says that its hyperparameters were searched for."""


def tuned(custom_config: Mapping[str, str], found: Mapping[str, Any] | None) -> dict[str, str]:
    """The Trainer's arguments with the best values in place of those of the configuration.

    Args:
        custom_config: the Trainer's.
        found: `keras_tuner.HyperParameters.get_config`, from our Tuner or TFX's; None where there was no search. Of the
            values that `json` names, which keras-tuner has no form for, the text is JSON.
    """
    if found is None:
        return dict(custom_config)
    model = ModelConfig.model_validate_json(custom_config["model"])
    coded = set(found.get("json", ()))
    values = {name: json.loads(value) if name in coded else value for name, value in found["values"].items()}
    merged = model.model_copy(update={"hyperparameters": {**model.hyperparameters, **values}})
    return {**custom_config, "model": merged.model_dump_json(by_alias=True), TUNED: json.dumps(values, sort_keys=True)}
