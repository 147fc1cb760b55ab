"""What the benchmarks share: each measurement is kept at once, what is known is not taken again, what failed is."""

from __future__ import annotations

from functools import partial

import pytest

from bench import records, turns


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A benchmark of two contenders, of which one fails until it is mended; its records, and what was rendered."""
    file = tmp_path / "measurements.jsonl"
    monkeypatch.setattr(turns, "load", partial(records.load, file))
    monkeypatch.setattr(turns, "append", partial(records.append, file=file))
    monkeypatch.setattr(turns, "compile_bytecode", lambda: None)

    class Bench:
        def __init__(self):
            self.taken, self.rendered, self.broken = [], [], True

        def run(self, *options):
            arguments = turns.command("Measures.").parse_args(["--session", "one", *options])
            turns.take(arguments, "trial", tmp_path / "work", turns.schedule({10: 2}, ["a", "b"]), self.measure)
            return records.load(file)

        def measure(self, name, rows, work):
            assert not any(work.iterdir())
            (work / "left").touch()
            self.taken.append(name)
            if self.broken and name == "b":
                raise RuntimeError("no")
            return {"rows": rows}

    made = Bench()
    monkeypatch.setattr(turns.render, "render", lambda known, session: made.rendered.append(len(known)))
    return made


def test_what_failed_is_tried_again_and_nothing_else(bench, tmp_path):
    """In each turn another contender begins; only what failed leaves its folder."""
    found = bench.run()
    assert bench.taken == ["a", "b", "b", "a"]
    assert [(one.contender, one.turn, one.measured, one.error) for one in found] == [
        ("a", 0, {"rows": 10}, ""),
        ("b", 0, {}, "RuntimeError: no"),
        ("b", 1, {}, "RuntimeError: no"),
        ("a", 1, {"rows": 10}, ""),
    ]
    assert sorted(folder.name for folder in (tmp_path / "work").iterdir()) == ["b-10-0", "b-10-1"]
    bench.broken = False
    assert [one.error for one in bench.run()[4:]] == ["", ""]
    assert bench.taken[4:] == ["b", "b"]
    assert not any((tmp_path / "work").iterdir())
    bench.run()
    assert len(bench.taken) == 6


def test_rendering_alone_measures_nothing(bench):
    """With what is known."""
    bench.run("--render")
    assert (bench.taken, bench.rendered) == ([], [0])
