"""The house itself: its menu, its packages, and what importing them costs."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("schemas", "serving", "components", "pipeline", "runners")
MENU = (
    "setup",
    "run",
    "data",
    "test",
    "cover",
    "check",
    "format",
    "bench",
    "bench-small",
    "bench-distributed",
    "bench-publish",
    "bench-tuner",
    "bench-serving",
    "flink",
    "doctor",
    "lock",
    "clean",
)
HEAVY = ("apache_beam", "keras", "tensorflow", "tensorflow_model_analysis", "tf_keras", "tfx")


def tracked_files() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name]


def loaded_after(statement: str) -> set[str]:
    """The top-level modules that a fresh process has loaded after the statement."""
    code = f"import sys\n{statement}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_make_alone_prints_the_menu():
    """One line per target, and nothing is done."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of `make test`
    done = subprocess.run(["make"], cwd=ROOT, env=outside, capture_output=True, text=True, check=True)
    names = [line.split()[1] for line in done.stdout.splitlines()]
    assert names == ["help", *MENU]


def test_menu_is_whole():
    """Each target that is meant for people has its line in the menu, and each name there is a target."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    described = re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE)
    assert set(phony.group(1).split()) == set(described)


def test_ci_runs_the_same_targets():
    """What CI runs are targets of the menu, and the workflow runs that very script."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    targets = re.findall(r"^\s*make(?: -\S+)* ([a-z]+)", script, re.MULTILINE)
    assert targets == ["setup", "check", "test"]
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "run: .ci/run" in workflow


def test_no_tracked_file_is_large():
    """Data and models do not belong into version control; only the lock may be large."""
    large = [str(file) for file in tracked_files() if file.name != "uv.lock" and file.stat().st_size > 2 * 10**6]
    assert large == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_what_it_gives(package):
    """Each `__init__.py` opens with a docstring."""
    silent = [
        str(init.relative_to(ROOT))
        for init in (ROOT / package).rglob("__init__.py")
        if not ast.get_docstring(ast.parse(init.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_every_folder_of_tests_is_a_package():
    """Two test files may have one name only where their folders are packages."""
    folders = {file.parent for file in (ROOT / "tests").rglob("test_*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize(
    "module",
    [
        "schemas.config",
        "schemas.decision",
        "schemas.load",
        "schemas.user_model",
        "serving.client",
        "serving.deploy",
        "serving.payload",
        "serving.store",
        "components.lineage.reader",
        "runners.cli",
        "runners.doctor",
        "runners.schedule.look",
        "runners.schedule.watch",
        "runners.serving",
    ],
)
def test_imports_nothing_heavy(module):
    """What a read-only command needs loads neither TensorFlow nor TFX nor Beam."""
    assert loaded_after(f"import {module}") & set(HEAVY) == set()
