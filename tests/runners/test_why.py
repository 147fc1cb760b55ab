"""What `why` tells of a decision: from the store alone, as text, as JSON and as Markdown."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from components.lineage import writer
from runners.view import console_on
from runners.why import Why, why
from schemas.errors import MetadataError
from tests.runners.local.workshop import Workshop


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    """Version 1 was pushed; then a candidate was blocked."""
    made = Workshop(tmp_path)
    made.run("20260101-a", 1)
    made.train("second", auc=0.45)
    made.run("20260102-b", 2)
    return made


def text(found: Why) -> str:
    stream = io.StringIO()
    found.print_on(console_on(stream), every_slice=False)
    return stream.getvalue()


def test_a_block_with_what_would_have_to_change(shop: Workshop) -> None:
    """Of the newest run where nothing is asked for."""
    found = why(shop.lineage, "latest")
    told = text(found)
    assert "Run 20260102-b: blocked by the gate, nothing was pushed." in told
    assert "gates.satisfy.0: auc fail: 0.45 is not at least 0.5" in told
    assert "auc has to rise by 0.05, to 0.5" in told
    assert found.nearest is None


@pytest.mark.parametrize("asked", ["1", "20260101-a", "20260101"])
def test_a_pushed_version_tells_how_near_it_was(shop: Workshop, asked: str) -> None:
    """By its number, or by its run: what is nearest to failing, with value, margin and limit."""
    told = text(why(shop.lineage, asked))
    assert "Run 20260101-a: pushed, version 1." in told
    assert "auc: 0.9 is 0.4 above the limit of 0.5 (80.0%)" in told
    assert "To pass" not in told


def test_a_comparison_in_pairs_is_told_in_its_own_words(shop: Workshop) -> None:
    """Its margin is not the value's distance from the limit."""
    found = why(shop.lineage, "1")
    assert found.decision is not None
    paired = found.decision.gates[0].model_copy(
        update={"margin": 0.2, "limit": 0.8, "reason": "1.1 times; at most 1.2"}
    )
    told = text(replace(found, decision=found.decision.model_copy(update={"gates": (paired,)})))
    assert "auc: 1.1 times; at most 1.2" in told


def test_the_store_alone_answers(shop: Workshop) -> None:
    """Every file of the pipeline may be gone."""
    shutil.rmtree(shop.folder / "root")
    shutil.rmtree(shop.served)
    assert "pushed, version 1" in text(why(shop.lineage, "1"))


def test_the_json_holds_the_words_of_the_configuration(shop: Workshop) -> None:
    """Each gate with what it takes to judge it anew."""
    document = json.loads(json.dumps(why(shop.lineage, "latest").as_dict()))
    assert set(document) == {
        "run", "verdict", "reasons", "nearest", "to_change", "decision", "data_decision", "push", "tuning",
    }  # fmt: skip
    (gate,) = document["decision"]["gates"]
    assert set(gate) >= {
        "metric", "payload", "digest", "value", "unit", "limit", "margin", "champion", "interval", "n", "slice",
        "verdict", "reason",
    }  # fmt: skip
    assert document["to_change"] == ["auc has to rise by 0.05, to 0.5"]
    assert document["push"]["outcome"] == "not_pushed"


def test_the_markdown_is_a_table(shop: Workshop) -> None:
    """A row for each verdict, as many cells in each, and nothing that begins markup of its own."""
    lines = why(shop.lineage, "latest").markdown().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert {row.replace("\\|", "").count("|") for row in rows} == {11}
    assert rows[2].startswith("| fail | auc |  | 0.45 | ≥ 0.5 | -0.05 |")
    assert "- auc has to rise by 0.05, to 0.5" in lines


def test_a_run_without_a_decision(shop: Workshop) -> None:
    """It says how it ended."""
    execution = writer.open_run(shop.store, "20260103-c", 3, "small", "{}", "", "local")
    assert "has not ended" in text(why(shop.lineage, "latest"))
    writer.close_run(shop.store, execution, "failed", 1, [], "node Trainer: no")
    assert text(why(shop.lineage, "latest")) == "Run 20260103-c: failed. node Trainer: no\n"


def test_what_is_not_there(shop: Workshop) -> None:
    """Is named."""
    with pytest.raises(MetadataError, match="run '20270101': is not among the 2 runs"):
        why(shop.lineage, "20270101")


@pytest.mark.parametrize("asked", ["7", "2026", "20"])
def test_a_version_that_no_run_pushed_is_not_taken_for_the_beginning_of_a_run(tmp_path: Path, asked: str) -> None:
    """Of the only run, whose id begins so."""
    shop = Workshop(tmp_path)
    shop.run("20260101-a", 1)
    with pytest.raises(MetadataError, match=f"version {asked}: was pushed by no run"):
        why(shop.lineage, asked)
