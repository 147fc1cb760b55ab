"""The few words on what a node put out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.lineage.reader import NodeRecord, OutputRecord
from runners.notes import note_of, training_of


def record(node: str, uri: Path | str = "/somewhere", **outputs: dict[str, Any]) -> NodeRecord:
    """A finished node with outputs and their properties."""
    made = tuple(OutputRecord(key, "Any", 1, str(uri), values) for key, values in outputs.items())
    return NodeRecord(node, "ran", 0, 0, outputs=made)


@pytest.mark.parametrize(
    ("node", "note"),
    [
        (
            record(
                "ExampleGen", examples={"rows_in": 15002, "rows_train": 10000, "rows_validate": 2, "rows_eval": 5000}
            ),
            "15,002 rows: train 10,000, validate 2, eval 5,000",
        ),
        (
            record("ExampleGen", examples={"rows_in": 7, "spans": "3", "spans_read": "3"}),
            "7 rows: ; span 3; read anew: 3",
        ),
        (
            record(
                "ExampleGen",
                examples={
                    "rows_in": 7,
                    "spans": "1, 2, 5",
                    "spans_read": "",
                    "missing_spans": "3 to 4",
                    "short_spans": 2,
                },
            ),
            "7 rows: ; 3 spans 1 to 5; read anew: none; MISSING 3 to 4; 2 fewer than the window holds: the data begin there",
        ),
        (
            record("ExampleGen", examples={"rows_in": 7, "spans": "1, 2", "spans_read": ", ".join(["2026-11-01"] * 9)}),
            "7 rows: ; 2 spans 1 to 2; read anew: 9",
        ),
        (record("DataGate", decision={"outcome": "block"}), "block"),
        (
            record("DataGate", decision={"outcome": "proceed", "summary": "proceed, drift in fare"}),
            "proceed, drift in fare",
        ),
        (record("Baseline"), "none yet"),
        (record("Baseline", served={"version": 3}, baseline={}), "version 3"),
        (record("Baseline", served={"version": 3}), "version 3, whose statistics are gone"),
        (record("Gate", decision={"outcome": "already_served"}, blessing={}), "already_served"),
        (record("Champion"), "none yet"),
        (record("Champion", served={"version": 3}, champion={}), "version 3"),
        (record("Pusher", pushed_model={"outcome": "pushed", "version": 4}), "pushed, version 4"),
        (record("Pusher", pushed_model={"outcome": "already_served", "version": 3}), "already served, version 3"),
        (record("Pusher", pushed_model={"outcome": "not_pushed"}), "not pushed"),
        (record("StatisticsGen", statistics={}), ""),
        (record("ExampleGen"), ""),
        (record("Trainer"), ""),
        (record("Gate"), ""),
        (record("Pusher"), ""),
        (None, ""),
    ],
)
def test_note(node: NodeRecord | None, note: str) -> None:
    """What a person wants to know, and nothing where there is nothing to say or the output is not there."""
    assert note_of(node) == note


def test_a_champion_that_is_not_compared() -> None:
    """Its version is told, and that it is not compared."""
    note = note_of(record("Champion", served={"version": 3}))
    assert note.startswith("version 3: ")


def test_training(tmp_path) -> None:
    """Epochs, speed and size, from the training record; nothing where the record is gone or damaged."""
    training = {"epochs": 4, "examples_per_s": 12345.6, "parameters": 7425}
    (tmp_path / "training.json").write_text(json.dumps(training))
    node = record("Trainer", tmp_path, model_run={})
    assert note_of(node) == "4 epochs, 12,346 examples/s, 7,425 parameters"
    (tmp_path / "training.json").write_text("{")
    assert note_of(node) == ""
    (tmp_path / "training.json").unlink()
    assert note_of(node) == ""


def test_profile(tmp_path) -> None:
    """What the candidate costs, as far as it was measured; nothing where the figures are gone or damaged."""
    figures = [
        {"metric": "latency_p50_ms", "value": 0.51234, "unit": "ms", "digest": "new", "batch_size": 1},
        {"metric": "latency_p50_ms", "value": 9.0, "unit": "ms", "digest": "new", "batch_size": 64},
        {"metric": "size_mb", "value": 0.6036, "unit": "MB", "digest": "new"},
        {"metric": "size_mb", "value": 7.0, "unit": "MB", "digest": "old"},
        {"metric": "peak_memory_mb", "value": None, "unit": "MB", "digest": "new"},
    ]
    file = tmp_path / "figures.json"
    file.write_text(json.dumps({"candidate": "new", "figures": figures}))
    node = record("Profiler", tmp_path, profile={})
    assert note_of(node) == "p50 0.512 ms, size 0.604 MB"
    file.write_text(json.dumps({"candidate": "new"}))
    assert note_of(node) == "not measured"
    file.write_text("{")
    assert note_of(node) == note_of(record("Profiler")) == ""


def test_the_training_record_of_a_run(tmp_path: Path) -> None:
    """The Trainer's; empty where it has not run, has no record, or the record is damaged."""
    (tmp_path / "training.json").write_text('{"epochs": 2}')
    nodes = [record("Gate", decision={}), record("Trainer", tmp_path, model_run={})]
    assert training_of(nodes) == {"epochs": 2}
    assert training_of(nodes[:1]) == {}
    assert training_of([record("Trainer")]) == {}
    (tmp_path / "training.json").write_text("{")
    assert training_of(nodes) == {}
