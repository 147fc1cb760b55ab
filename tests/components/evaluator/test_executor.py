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


@pytest.mark.parametrize(
    ("metric", "why_not"),
    [("sparse_categorical_accuracy", ""), ("sparse_categorical_crossentropy", "labels such as -1")],
)
def test_a_champion_that_does_not_know_a_class(problems, ours, tmp_path, metric: str, why_not: str) -> None:
    """Its preprocessing gives -1 for one that is newer: it is wrong on those rows, unless the metric fails on them."""
    import tensorflow as tf
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    from tests.components.evaluator.problems import parsing_spec, save

    problem = problems["penguins"]
    (schema,) = Path(problem.schema.uri).iterdir()
    champion = save(
        tmp_path / "champion",
        parsing_spec(text_format.Parse(schema.read_text(), schema_pb2.Schema())),
        lambda raw: {"species": raw["species"] - 2 * tf.cast(raw["species"] == 1, tf.int64)},
        lambda raw: {"outputs": tf.concat([raw["flipper_length_mm"] * share for share in (0.0, 0.1, 1.0)], 1)},
    )
    problem = replace(problem, models=(problem.models[0], champion))
    found = recorded(ours(problem, problem.config([metric]), tmp_path / "out"))
    assert bool(found.champion) is not bool(why_not)
    assert why_not in found.why_no_champion
