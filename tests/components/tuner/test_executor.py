"""What the node leaves of a search that did not come to a winner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tfx.types import standard_artifacts

from components.tuner import executor
from schemas.errors import NoTrialWonError, TuningError
from tests.components.tuner.conftest import SECTIONS


def _search_of(folder: Path) -> None:
    """Runs the node with all that it reads and writes below a folder."""
    inputs: dict[str, list[Any]] = {
        "examples": [standard_artifacts.Examples()],
        "transform_graph": [standard_artifacts.TransformGraph()],
        "schema": [standard_artifacts.Schema()],
    }
    outputs: dict[str, list[Any]] = {
        "best_hyperparameters": [standard_artifacts.HyperParameters()],
        "tuner_results": [standard_artifacts.TunerResults()],
    }
    for key, (artifact,) in [*inputs.items(), *outputs.items()]:
        (folder / key / "1").mkdir(parents=True)
        artifact.uri = str(folder / key / "1")
    (folder / "schema" / "1" / "schema.pbtxt").touch()
    sections = {
        "model": SECTIONS.model.model_dump_json(by_alias=True),
        "training": SECTIONS.training.model_dump_json(by_alias=True),
        "gates": SECTIONS.gates.model_dump_json(by_alias=True),
        "tflite": "",
    }
    executor.Executor().Do(inputs, outputs, sections)


@pytest.mark.parametrize(("kind", "kept"), [(TuningError, True), (NoTrialWonError, False)])
def test_what_was_trained_is_lost_only_where_it_was_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[TuningError], kept: bool
) -> None:
    """Workers that are killed leave the trials before them to the next attempt; a search at its end is made anew."""

    def search(_: object, __: object, ___: object, folder: Path, ____: Path) -> None:
        folder.mkdir()
        (folder / "study.log").touch()
        raise kind("the workers of the search", "die before they train")

    monkeypatch.setattr(executor, "search", search)
    with pytest.raises(kind):
        _search_of(tmp_path)
    (folder,) = (tmp_path / "tuner_results").glob(".resume-*")
    assert (folder / "study.log").exists() == kept


def test_rows_lie_in_the_output_and_do_not_outlast_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output of an attempt that was killed is taken away with all that is in it; no rows stay where a search goes on."""
    inside: list[Path] = []

    class CrewThatDies:
        def __init__(self, work: dict[str, Any], *_: object) -> None:
            inside.append(Path(work["rows"]))
            inside[0].mkdir(parents=True)
            raise TuningError("the workers of the search", "die before they train")

    monkeypatch.setattr("components.tuner.search.Crew", CrewThatDies)
    with pytest.raises(TuningError):
        _search_of(tmp_path)
    output = tmp_path / "tuner_results" / "1"
    assert inside[0].is_relative_to(output)
    assert list(output.iterdir()) == []
    assert [file.name for file in output.parent.glob(".resume-*/*")] == ["study.log"]
