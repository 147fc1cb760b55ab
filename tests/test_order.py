"""The order of the files where several processes share them."""

from __future__ import annotations

import json
from types import SimpleNamespace

from tests import order


def test_what_took_longest_is_first(tmp_path, monkeypatch):
    """Before it stands what nobody has measured yet; the tests of a file stay as they were."""
    file = tmp_path / "durations.json"
    file.write_text(json.dumps({"tests/a.py": 3, "tests/b.py": 20, "tests/c.py": 3}))
    monkeypatch.setattr(order, "DURATIONS", file)
    names = [
        "tests/a.py::two",
        "tests/a.py::one",
        "tests/b.py::x",
        "tests/new.py::x",
        "tests/c.py::x",
        "tests/b.py::a[1]",
    ]
    items = [SimpleNamespace(nodeid=name) for name in names]
    order.longest_first(items)
    assert [item.nodeid for item in items] == [names[3], names[2], names[5], names[0], names[1], names[4]]


def test_what_ran_is_recorded_and_the_rest_is_kept(tmp_path, monkeypatch):
    """Setup, call and teardown count; a file that is gone does not stay."""
    file = tmp_path / "tests" / "durations.json"
    file.parent.mkdir()
    for name in ("a.py", "b.py"):
        (file.parent / name).touch()
    file.write_text(json.dumps({"tests/a.py": 3, "tests/b.py": 20, "tests/gone.py": 3}))
    monkeypatch.setattr(order, "DURATIONS", file)
    recorder = order.Recorder()
    for seconds in (1.2, 30.0, 0.9):
        recorder.pytest_runtest_logreport(SimpleNamespace(nodeid="tests/a.py::one", duration=seconds))
    recorder.pytest_sessionfinish()
    assert list(json.loads(file.read_text()).items()) == [("tests/a.py", 32), ("tests/b.py", 20)]
