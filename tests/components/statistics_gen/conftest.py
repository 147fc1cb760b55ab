"""Examples on disk, our statistics of them, and the stock component's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.components.examples import write_splits

WEIGHTS = {"train": 7, "validate": 1, "eval": 2}


@pytest.fixture(scope="session")
def examples_of():
    """Writes batches as our ExampleGen does; gives the Examples artifact."""

    def write(batches, folder: Path, weights=None):
        weights = weights or WEIGHTS
        written = write_splits(batches, weights, folder)
        artifact = artifact_at(folder, list(weights))
        for split, rows in written.rows.items():
            artifact.set_int_custom_property(f"rows_{split}", rows)
        return artifact

    return write


def artifact_at(folder: Path, splits: list[str]):
    """An Examples artifact of tf.Examples, as any ExampleGen describes it."""
    from tfx.types import standard_artifacts

    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    artifact.split_names = json.dumps(splits)
    artifact.span = 3
    artifact.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    return artifact


def statistics_at(folder: Path):
    from tfx.types import standard_artifacts

    artifact = standard_artifacts.ExampleStatistics()
    artifact.uri = str(folder)
    return artifact


@pytest.fixture(scope="session")
def stock():
    """The stock component's statistics of an Examples artifact: the ExampleStatistics artifact."""

    def compute(examples, folder: Path):
        from tfx.components.statistics_gen.executor import Executor

        output = statistics_at(folder)
        context = Executor.Context(
            beam_pipeline_args=["--runner=FnApiRunner"], tmp_dir=str(folder / "tmp"), unique_id="1"
        )
        Executor(context).Do({"examples": [examples]}, {"statistics": [output]}, {})
        return output

    return compute


@pytest.fixture(scope="session")
def ours():
    """Our component's statistics of an Examples artifact: the ExampleStatistics artifact."""

    def compute(examples, folder: Path):
        from components.statistics_gen.executor import Executor

        output = statistics_at(folder)
        Executor().Do({"examples": [examples]}, {"statistics": [output]}, {})
        return output

    return compute
