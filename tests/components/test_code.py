"""The fingerprint of a component's code sees all code of ours that the component runs."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("components", "serving", "schemas")


def file_of(module):
    stem = ROOT / module.replace(".", "/")
    return next((file for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file()), None)


def imported(file):
    """Modules of ours that a file imports, at its head or within a function."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.split(".")[0] in OURS and file_of(name)}


def reached(package):
    """Packages of all that a package's modules reach."""
    found = set()
    waiting = {f"{package}.{file.stem}" for file in (ROOT / package.replace(".", "/")).glob("*.py")} - {
        f"{package}.__init__"
    }
    while waiting:
        module = waiting.pop()
        found.add(module)
        waiting |= imported(file_of(module)) - found
    return {module if file_of(module).stem == "__init__" else module.rpartition(".")[0] for module in found}


@pytest.mark.parametrize("component", ["gate", "profiler"])
def test_all_that_is_reached_is_seen(component):
    """Whatever changes in it changes the fingerprint, by which TFX's own runner tells whether a node has run already."""
    seen = import_module(f"components.{component}.component")._CODE
    assert reached(f"components.{component}") <= set(seen)
    assert len(seen) == len(set(seen))
