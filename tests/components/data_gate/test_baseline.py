"""What there is to compare with: found, of the same data, gone, changed, or never there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.types import standard_artifacts

from components.data_gate.baseline import read_baseline


def artifact(folder: Path, number: int, rows: int = 10) -> Any:
    """Statistics as StatisticsGen leaves them."""
    found = statistics_pb2.DatasetFeatureStatisticsList()
    found.datasets.add(num_examples=rows)
    made = standard_artifacts.ExampleStatistics()
    made.id = number
    made.uri = str(folder / str(number))
    file = folder / str(number) / "Split-train" / "FeatureStats.pb"
    file.parent.mkdir(parents=True)
    file.write_bytes(found.SerializeToString())
    made.set_string_custom_property("sha256_train", hashlib.sha256(file.read_bytes()).hexdigest())
    return made


def push() -> Any:
    made = standard_artifacts.PushedModel()
    made.set_int_custom_property("version", 3)
    return made


def read(served: Any, found: Any, current: Any) -> Any:
    """With the protos of the artifacts."""
    return read_baseline(served and served.mlmd_artifact, found and found.mlmd_artifact, current.mlmd_artifact)


def file_of(made: Any) -> Path:
    return Path(made.uri, "Split-train", "FeatureStats.pb")


def test_a_first_run(tmp_path: Path) -> None:
    """Nothing is served: said so, with no version."""
    baseline, statistics = read(None, None, artifact(tmp_path, 1))
    assert (baseline.found, baseline.version, statistics) == (False, None, None)
    assert baseline.reason == "nothing is served yet, so there is nothing to compare with"


def test_other_data(tmp_path: Path) -> None:
    """Version, artifact and number of rows stand in the record."""
    baseline, statistics = read(push(), artifact(tmp_path, 1, 500), artifact(tmp_path, 2))
    assert statistics is not None
    assert (baseline.found, baseline.version, baseline.statistics, baseline.same_data) == (True, 3, 1, False)
    assert baseline.reason == "version 3 was trained on 500 rows"


def test_the_same_data(tmp_path: Path) -> None:
    """By the artifact, or byte for byte."""
    one, other = artifact(tmp_path, 1), artifact(tmp_path, 2)
    for current in (one, other):
        baseline, _ = read(push(), one, current)
        assert (baseline.same_data, baseline.reason) == (True, "version 3 was trained on the same data")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: file.unlink(), "cannot be read: "),
        (lambda file: file.write_bytes(file.read_bytes() + b"\x08\x01"), "were changed since: "),
    ],
)
def test_statistics_that_are_gone_or_changed(tmp_path: Path, damage: Any, words: str) -> None:
    """Are no baseline; the reason names the file."""
    kept = artifact(tmp_path, 1)
    damage(file_of(kept))
    baseline, statistics = read(push(), kept, artifact(tmp_path, 2))
    assert (baseline.found, baseline.version, statistics) == (False, 3, None)
    assert words in baseline.reason
    assert str(file_of(kept)) in baseline.reason


@pytest.mark.parametrize(("content", "words"), [(b"\xff\xff", "are damaged: "), (b"", "are empty: ")])
def test_statistics_that_nobody_signed(tmp_path: Path, content: bytes, words: str) -> None:
    """Of the stock component, which leaves no digest: they have at least to be statistics."""
    kept = artifact(tmp_path, 1)
    kept.set_string_custom_property("sha256_train", "")
    file_of(kept).write_bytes(content)
    baseline, _ = read(push(), kept, artifact(tmp_path, 2))
    assert words in baseline.reason


def test_statistics_that_the_lineage_does_not_know(tmp_path: Path) -> None:
    """The model is served, and nobody knows what it was trained on."""
    baseline, _ = read(push(), None, artifact(tmp_path, 2))
    assert (baseline.found, baseline.version) == (False, 3)
    assert "are not in the lineage any more" in baseline.reason
