"""Measurements that outlive a kill."""

from __future__ import annotations

from dataclasses import replace

from bench.records import Record, append, done, latest, load, new_session


def record(turn=0, session="one", wall=1.0, error="", contender="ours"):
    measured = {} if error else {"wall_s": wall}
    return Record("compare", contender, 10, turn, session, measured, error, "a machine")


def test_what_is_appended_is_read_back(tmp_path):
    """In order, and from a file that is not there nothing."""
    file = tmp_path / "deep" / "records.jsonl"
    assert load(file) == []
    records = [record(), record(1, error="it fell over")]
    for one in records:
        append(one, file)
    assert load(file) == records


def test_a_line_that_was_cut_off_costs_no_other(tmp_path):
    """What was being written when the power went is left out; what comes after it is whole."""
    file = tmp_path / "records.jsonl"
    append(record(), file)
    with file.open("a") as lines:
        lines.write('{"benchmark": "comp')
    append(record(1), file)
    assert load(file) == [record(), record(1)]


def test_a_failure_is_tried_again():
    """Only what has succeeded counts as done."""
    failed, good = record(error="it fell over"), record(wall=2.0)
    assert done([failed]) == {}
    assert done([failed, good]) == {good.key: good}


def test_the_newest_session_is_shown():
    """Of each size one session only, each measurement once; a failure where nothing else is known."""
    old, failed, good = record(session="old"), record(error="it fell over"), record(wall=2.0)
    other = record(1, error="it fell over again")
    assert latest([old, failed, good, other], "compare") == [good, other]
    assert latest([old, good], "compare", "old") == [old]
    assert latest([old, good], "compare", "unheard of") == [good]
    assert latest([old], "ingest") == []
    large = replace(old, rows=1000)
    assert latest([large, old, good], "compare") == [large, good]


def test_a_session_follows_from_the_code():
    """The same code, the same name: a benchmark that was stopped goes on."""
    assert new_session() == new_session()
