"""Importing much in less time: packages left closed, and what that must not change."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runners.local.lean import import_all, leave_closed


@pytest.fixture
def bag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package whose `__init__` collects names from its modules."""
    for name, text in {
        "outer/__init__.py": "",
        "outer/bag/__init__.py": "from outer.bag.one import ONE\nfrom outer.bag import two\nOPENED = True\n",
        "outer/bag/one.py": "ONE = 1\n",
        "outer/bag/two.py": "TWO = 2\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield "outer.bag"
    for name in [name for name in sys.modules if name.partition(".")[0] == "outer"]:
        del sys.modules[name]


def test_a_module_of_a_closed_package_is_imported_alone(bag: str) -> None:
    """Its `__init__` is not run, and its other modules are not imported."""
    leave_closed(bag)
    assert importlib.import_module(f"{bag}.two").TWO == 2
    assert "outer.bag.one" not in sys.modules
    assert "OPENED" not in vars(sys.modules[bag])


def test_asking_the_package_opens_it(bag: str) -> None:
    """Each name is what it would have been, under both ways to write the import; other names are errors."""
    leave_closed(bag)
    found: dict[str, Any] = {}
    exec("from outer import bag as attribute\nfrom outer.bag import ONE, two", found)
    assert found["attribute"] is sys.modules[bag]
    assert (found["ONE"], found["two"].TWO, found["attribute"].OPENED) == (1, 2, True)
    with pytest.raises(AttributeError, match=r"'outer\.bag' has no attribute 'three'"):
        _ = found["attribute"].three
    with pytest.raises(ImportError):
        exec("from outer.bag import three")


def test_a_package_that_is_open_stays_open(bag: str) -> None:
    """Closing it would take away what others have already found in it."""
    import_all([bag])
    leave_closed(bag)
    assert sys.modules[bag].OPENED


def test_a_package_that_is_not_there() -> None:
    """Is an error at once, as importing it would be."""
    with pytest.raises(ModuleNotFoundError, match=r"tests\.nowhere"):
        leave_closed("tests.nowhere")


def test_collecting_goes_on_after_the_imports(bag: str) -> None:
    """Also where one fails."""
    try:
        with pytest.raises(ModuleNotFoundError):
            import_all([bag, "nowhere_at_all"])
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_the_components_of_tfx_are_all_there_when_asked_for() -> None:
    """In a process of its own, which imports one component alone and then asks for another by its short name."""
    code = (
        "from runners.local.lean import leave_closed; leave_closed('tfx.components')\n"
        "import sys, tfx.components.trainer.component\n"
        "assert 'tfx.components.pusher' not in sys.modules\n"
        "from tfx.components import Evaluator, Pusher\n"
        "import tensorflow_model_analysis as tfma\n"
        "print(Pusher.__name__, Evaluator.__name__, tfma.EvalConfig.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["Pusher", "Evaluator", "EvalConfig"], done.stderr[-2000:]
