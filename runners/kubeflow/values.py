"""What a run was given for the parameters of a compiled pipeline, and what it was compiled from. Imports no TFX."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runners.kubeflow.job import Source
from schemas.config import PipelineConfig
from schemas.errors import ConfigError, Fault
from schemas.load import overridden

__all__ = ["check_parameters", "schema_file", "value_at", "with_values"]


def with_values(source: Source, values: Mapping[str, str]) -> PipelineConfig:
    """The configuration with the values that a run was given for its parameters.

    Args:
        source: what was compiled.
        values: dotted key to the value as Kubeflow spells it.

    Raises:
        ConfigError: a value does not fit its key.
    """
    config = PipelineConfig.model_validate_json(source.config)
    overrides = [f"{key}={_spelled(value_at(config, key), text)}" for key, text in values.items()]
    return overridden(config, overrides, "the parameters of the run") if overrides else config


def value_at(config: PipelineConfig, key: str) -> object:
    """The value that stands at a dotted key; a KeyError where none does."""
    here: Any = config.canonical()
    for part in key.split("."):
        here = here[int(part)] if isinstance(here, list) and part.isdecimal() else here[part]
    return here


def _spelled(default: object, text: str) -> str:
    """A value as YAML spells it. Kubeflow's numbers are doubles: 20 may come as 20.0."""
    if isinstance(default, str):
        return json.dumps(text)
    if isinstance(default, int) and not isinstance(default, bool) and text.endswith(".0"):
        return text.removesuffix(".0")
    return text


@contextmanager
def schema_file(source: Source) -> Iterator[str]:
    """The data schema with which a pipeline was compiled, as a file for the while."""
    with tempfile.TemporaryDirectory(prefix="satisfice-") as folder:
        path = Path(folder, "schema.pbtxt")
        path.write_text(source.schema_text, encoding="utf-8")
        yield str(path)


def _parameter_faults(config: PipelineConfig, keys: tuple[str, ...]) -> Iterator[Fault]:
    """What of `kubeflow.parameters` cannot be a parameter of a run."""
    for index, key in enumerate(keys):
        place = f"kubeflow.parameters.{index}"
        if key.split(".", maxsplit=1)[0] in ("kubeflow", "metadata", "name", "beam", "runner"):
            yield Fault(
                place, "is settled when the pipeline is compiled", "a key of data, model, training, gates or push", key
            )
            continue
        try:
            value = value_at(config, key)
        except (KeyError, IndexError, TypeError):
            yield Fault(place, "is no key of this configuration", "a dotted key that has a value", key)
            continue
        if not isinstance(value, str | int | float):
            yield Fault(place, "holds no single value", "a key that holds text, a number, true or false", key)


def check_parameters(config: PipelineConfig, keys: tuple[str, ...], source: str) -> None:
    """Refuses keys that cannot be parameters of a run.

    Raises:
        ConfigError: with every fault that was found.
    """
    faults = list(_parameter_faults(config, keys))
    if faults:
        raise ConfigError(source, faults)
