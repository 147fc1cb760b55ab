"""A small cut of the trials of the store, and a store that is broken on purpose: the trials must find that out."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.store_trials import Look, look, make_payload, run_kills, run_load


def test_publishes_and_rollbacks_by_four_processes(tmp_path: Path) -> None:
    """No reader ever sees an incomplete version, no number is used twice, and nothing is left behind."""
    load = run_load(tmp_path, 120, seed=3)
    assert load.holds, load
    assert load.versions == 120
    assert load.rollbacks > 10
    assert load.removed > 50
    assert load.looks > 20
    assert load.distinct > 5


def test_kills_at_seeded_moments(tmp_path: Path) -> None:
    """After each only whole versions are there, and the next publish succeeds."""
    kills = run_kills(tmp_path, 12, seed=3)
    assert kills.broken == ()
    assert kills.kills == 12
    assert kills.leftovers > 0


def test_a_reader_sees_what_is_wrong(tmp_path: Path) -> None:
    """A missing, a cut and a changed file; what is whole; what was removed meanwhile is no fault."""
    base = tmp_path / "base"
    assert look(make_payload(tmp_path / "x", "x") / "variables") == Look(None)
    make_payload(base / "1", "one")
    whole = look(base)
    assert (whole.number, whole.fault, len(whole.content)) == (1, "", 64)
    for damage in (
        lambda folder: (folder / "saved_model.pb").unlink(),
        lambda folder: (folder / "variables" / "shard-3").unlink(),
        lambda folder: (folder / "variables" / "shard-3").write_bytes(b"cut"),
        lambda folder: (folder / "saved_model.pb").write_text('{"na'),
    ):
        damage(make_payload(base / "2", "two"))
        found = look(base)
        assert (found.number, found.content) == (2, "")
        assert found.fault
        shutil.rmtree(base / "2")


def test_copying_in_place_is_found_out(tmp_path: Path) -> None:
    """As stock TFX pushes: a reader that looks between any two files meets a version without its `saved_model.pb`."""
    source, base = make_payload(tmp_path / "model", "model"), tmp_path / "base"
    (base / "1" / "variables").mkdir(parents=True)
    faults = []
    for file in ("variables/shard-0", "variables/shard-1", "saved_model.pb", "variables/shard-2", "variables/shard-3"):
        faults.append(look(base).fault.partition(":")[0])
        shutil.copyfile(source / file, base / "1" / file)
    assert faults == ["FileNotFoundError"] * 5
    assert look(base).fault == ""
