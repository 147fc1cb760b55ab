"""The engine that runs Beam's part of a pipeline, as the arguments that Beam takes."""

from __future__ import annotations

from schemas.config import BeamConfig

__all__ = ["beam_arguments", "ingests_on_beam"]

_IN_PROCESS = "--runner=FnApiRunner"
"""Beam's own engine by its name: the default tries another one first, which downloads a binary."""
_PLUGIN = "--beam_plugin=tfx"
"""Has workers in other processes import TFX, which stands in for a module of tfx_bsl that is gone."""


def beam_arguments(config: BeamConfig) -> list[str]:
    """The arguments for Beam: the engine's, then those of the configuration.

    >>> beam_arguments(BeamConfig())
    ['--runner=FnApiRunner']
    """
    return [_IN_PROCESS, *([_PLUGIN] if ingests_on_beam(config) else []), *config.args]


def ingests_on_beam(config: BeamConfig) -> bool:
    """Whether ExampleGen's work is a Beam transform: where an engine was chosen, or told how to run."""
    return config.runner != "local" or bool(config.args)
