"""Which engine Beam's part runs on."""

import pytest

from runners.beam import beam_arguments, ingests_on_beam
from schemas.config import BeamConfig


@pytest.mark.parametrize(
    ("config", "ingests", "arguments"),
    [
        ({}, False, ["--runner=FnApiRunner"]),
        ({"runner": "direct"}, True, ["--runner=FnApiRunner", "--beam_plugin=tfx"]),
        ({"args": ("--x=1",)}, True, ["--runner=FnApiRunner", "--beam_plugin=tfx", "--x=1"]),
    ],
)
def test_the_engine_follows_from_the_configuration(config, ingests, arguments):
    """Ingest runs on it where it was chosen or told how to run; arguments are handed on as they are."""
    engine = BeamConfig.model_validate(config)
    assert ingests_on_beam(engine) is ingests
    assert beam_arguments(engine) == arguments


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        ("direct_num_workers=2", "is no argument"),
        ("--runner=DaskRunner", "names an engine"),
        ("--direct_running_mode=multi_threading", "loses rows without an error"),
    ],
)
def test_arguments_that_would_do_harm_are_refused(arg, message):
    """Engines that lose rows, and engines by another name."""
    with pytest.raises(ValueError, match=message):
        BeamConfig(args=(arg,))
