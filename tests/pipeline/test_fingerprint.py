"""A fingerprint sees every change that its function can reach, and no other."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from pipeline.fingerprint import fingerprint

MODULE = """
    '''A module.'''
    import math
    from sibling import helper

    SIZE = 3
    OTHER = 4

    def _inner(x):
        '''Doc.'''
        return x + SIZE

    def preprocessing_fn(inputs):
        return _inner(inputs)

    def build_model(keras, features, hyperparameters):
        return helper(OTHER, math.pi)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A module with a sibling of its own."""
    (tmp_path / "model.py").write_text(textwrap.dedent(MODULE))
    (tmp_path / "sibling.py").write_text("from deeper import value\n\ndef helper(*args):\n    return value\n")
    (tmp_path / "deeper.py").write_text("value = 1\n")
    return tmp_path


def prints(folder: Path) -> tuple[str, str]:
    return tuple(fingerprint(folder / "model.py", name, [folder]) for name in ("preprocessing_fn", "build_model"))


def change(folder: Path, file: str, old: str, new: str) -> tuple[bool, bool]:
    """Which of the two fingerprints a change of the source alters."""
    before = prints(folder)
    path = folder / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    after = prints(folder)
    return before[0] != after[0], before[1] != after[1]


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("model.py", "SIZE = 3", "SIZE = 5", (True, False)),
        ("model.py", "x + SIZE", "x - SIZE", (True, False)),
        ("model.py", "OTHER = 4", "OTHER = 5", (False, True)),
        ("model.py", "math.pi", "math.e", (False, True)),
        ("sibling.py", "return value", "return -value", (False, True)),
        ("deeper.py", "value = 1", "value = 2", (False, True)),
        ("model.py", "'''Doc.'''", "'''Another.'''", (False, False)),
        ("model.py", "'''A module.'''", "# nothing", (False, False)),
        ("model.py", "SIZE = 3", "SIZE = 3  # three", (False, False)),
    ],
)
def test_it_changes_with_what_the_function_reaches(
    folder: Path, file: str, old: str, new: str, changed: tuple[bool, bool]
) -> None:
    """(preprocessing_fn, build_model): names, siblings and their imports count; comments and docstrings do not."""
    assert change(folder, file, old, new) == changed


def test_a_statement_that_only_acts_counts_for_every_function(folder: Path) -> None:
    """Whatever runs at import may change either."""
    path = folder / "model.py"
    before = prints(folder)
    path.write_text(path.read_text() + "\nprint('hello')\n")
    after = prints(folder)
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_relative_imports_of_a_package_are_followed(tmp_path: Path) -> None:
    """A model in a package of its own sees its siblings."""
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "model.py").write_text("from . import parts\nfrom .parts import x\n\ndef build_model():\n    return x\n")
    (package / "parts.py").write_text("x = 1\n")
    before = fingerprint(package / "model.py", "build_model", [tmp_path])
    (package / "parts.py").write_text("x = 2\n")
    assert fingerprint(package / "model.py", "build_model", [tmp_path]) != before


def test_two_modules_that_import_each_other_end(tmp_path: Path) -> None:
    """A circle is walked once."""
    (tmp_path / "a.py").write_text("import b\n\ndef build_model():\n    return b\n")
    (tmp_path / "b.py").write_text("import a\n")
    assert fingerprint(tmp_path / "a.py", "build_model", [tmp_path])


def test_a_star_import_counts_for_every_function(tmp_path: Path) -> None:
    """Nobody can tell which names it binds."""
    (tmp_path / "model.py").write_text("from sibling import *\n\ndef build_model():\n    return value\n")
    (tmp_path / "sibling.py").write_text("value = 1\n")
    before = fingerprint(tmp_path / "model.py", "build_model", [tmp_path])
    (tmp_path / "sibling.py").write_text("value = 2\n")
    assert fingerprint(tmp_path / "model.py", "build_model", [tmp_path]) != before
