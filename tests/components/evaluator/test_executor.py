"""The record that the Evaluator leaves for the Gate, and what it does about a champion that it cannot load."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tfx.types import standard_artifacts

from schemas.decision import FIGURES_FILE, Figures
from serving import payload


def recorded(folder: Path) -> Figures:
    return Figures.model_validate_json((folder / FIGURES_FILE).read_bytes())


def digest(model) -> str:
    return payload.digest(Path(model.uri) / "Format-Serving")


def broken(model, folder: Path):
    """The same model, cut off in the middle of its graph."""
    copy = standard_artifacts.Model()
    copy.uri = str(shutil.copytree(model.uri, folder))
    file = folder / "Format-Serving" / "saved_model.pb"
    file.write_bytes(file.read_bytes()[:1000])
    return copy


def test_figures_stand_under_the_digests_of_the_bytes_that_were_loaded(problems, ours, tmp_path) -> None:
    """Of candidate and champion, on the whole and on each slice."""
    problem = problems["taxi"]
    config = problem.config(["auc", "example_count"], [{"feature_keys": ["trip_start_day"]}])
    figures = recorded(ours(problem, config, tmp_path))
    candidate, champion = map(digest, problem.models)
    assert (figures.candidate, figures.champion, figures.why_no_champion) == (candidate, champion, "")
    mine, its = figures.of(candidate), figures.of(champion)
    assert len(mine) == len(its) == 2 * 8
    assert [(one.metric, one.slice, one.n) for one in mine] == [(one.metric, one.slice, one.n) for one in its]
    assert [one.value for one in mine if one.metric == "auc"] != [one.value for one in its if one.metric == "auc"]


def test_without_a_champion(problems, ours, tmp_path) -> None:
    """There is none, and nothing to note."""
    problem = problems["taxi"]
    figures = recorded(ours(problem, problem.config(["auc"], champion=False), tmp_path, champion=False))
    assert (figures.champion, figures.why_no_champion) == ("", "")
    assert {one.digest for one in figures.figures} == {digest(problem.models[0])}


def test_a_champion_that_cannot_be_loaded_is_left_out_and_said(problems, ours, tmp_path) -> None:
    """The candidate is measured all the same."""
    problem = problems["taxi"]
    candidate, champion = problem.models
    problem = replace(problem, models=(candidate, broken(champion, tmp_path / "broken")))
    figures = recorded(ours(problem, problem.config(["auc", "example_count"]), tmp_path / "out"))
    assert figures.champion == ""
    assert figures.why_no_champion.startswith("it can no longer be evaluated: ")
    assert {one.digest for one in figures.figures} == {digest(candidate)}
    assert [one.metric for one in figures.figures] == ["auc", "example_count"]


def test_a_candidate_that_cannot_be_loaded_fails_the_node(problems, ours, tmp_path) -> None:
    """And leaves no figures."""
    problem = problems["taxi"]
    candidate, champion = problem.models
    problem = replace(problem, models=(broken(candidate, tmp_path / "broken"), champion))
    with pytest.raises(Exception, match=r"saved_model|SavedModel|parse"):
        ours(problem, problem.config(["auc"]), tmp_path / "out")
    assert not (tmp_path / "out" / FIGURES_FILE).exists()
