"""The doctor: stands alone, finds the interpreter that set-up should use, and names a remedy for all that lacks."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from runners import doctor
from runners.doctor import Check, Interpreter

FILE = Path(doctor.__file__)


@pytest.fixture
def bare_machine(tmp_path, monkeypatch):
    """A machine with nothing on the PATH and an empty project folder; gives the folder of the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setattr(doctor, "_environment", lambda root: Path(sys.base_prefix))
    return folder


def put_python(folder: Path, name: str, version: tuple[int, ...], headers: bool = True, ensurepip: bool = True) -> Path:
    """An executable that answers the doctor's probe."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\necho '{json.dumps([str(file), version, headers, ensurepip])}'\n")
    file.chmod(0o755)
    return file


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_runs_without_any_package():
    """A bare interpreter without site-packages runs it: set-up calls it before anything is installed."""
    done = subprocess.run([sys.executable, "-I", "-S", FILE, "--machine"], capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    assert "glibc" in done.stdout


def test_is_python_3_9():
    """Its syntax is that of the oldest Python that set-up starts it with."""
    ast.parse(FILE.read_text(encoding="utf-8"), feature_version=(3, 9))


def test_this_machine_lacks_nothing():
    """Where the tests run, every check passes, the loading of compiled code among them."""
    checks = doctor.checks()
    assert [str(check) for check in checks if not check.ok] == []
    assert {"Python", "glibc", "C++ compiler", "tfx", "tensorflow", "loading"} <= by_name(checks).keys()


def test_bare_machine_lacks_each_thing_with_its_remedy(bare_machine, tmp_path):
    """No interpreter and no compiler: each is said with what brings it."""
    checks = by_name(doctor.checks(tmp_path))
    assert not checks["Python"].ok
    assert checks["Python"].remedy.startswith("apt-get install python3")
    assert checks["C++ compiler"].remedy == "apt-get install g++"
    assert checks["tfx"] == Check("tfx", False, "not installed", "installed in .venv", "make setup")
    assert all(check.remedy for check in checks.values() if not check.ok)


@pytest.mark.parametrize(
    ("glibc", "packages"),
    [
        ((2, 36), "python3.11 python3.11-venv python3.11-dev"),
        ((2, 41), "python3 python3-venv python3-dev"),
    ],
)
def test_remedy_names_the_python_that_the_system_packs(bare_machine, monkeypatch, tmp_path, glibc, packages):
    """Systems with a newer glibc pack a newer Python, and 3.11 no longer."""
    monkeypatch.setattr(doctor, "_glibc", lambda: glibc)
    remedy = by_name(doctor.machine_checks(tmp_path))["Python"].remedy
    assert remedy == f"apt-get install {packages}, or pyenv install 3.11"


def test_debian_python_without_headers_and_venv(bare_machine, tmp_path):
    """Debian packs the headers and ensurepip apart: both are asked for, of the version that was found."""
    put_python(bare_machine, "python3.11", (3, 11, 2), headers=False, ensurepip=False)
    checks = by_name(doctor.machine_checks(tmp_path))
    assert checks["Python"].ok
    assert checks["Python headers"].remedy == "apt-get install python3.11-dev"
    assert checks["venv"].remedy == "apt-get install python3.11-venv"


def test_finds_pythons_of_pyenv_and_passes_over_what_does_not_run(bare_machine, tmp_path):
    """A shim for a version that is not active fails; the version's own executable is found all the same."""
    shim = bare_machine / "python3.11"
    shim.write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    real = put_python(tmp_path / "pyenv" / "versions" / "3.11.7" / "bin", "python3", (3, 11, 7))
    assert [one.path for one in doctor.find_interpreters()] == [str(real)]


def test_passes_over_virtual_environments(bare_machine, tmp_path):
    """The Python of an active virtual environment is not built upon: it would vanish with it."""
    put_python(bare_machine, "python3.11", (3, 11, 7))
    (tmp_path / "pyvenv.cfg").touch()
    assert doctor.find_interpreters() == []


def interpreter(minor: int, patch: int = 0, complete: bool = True) -> Interpreter:
    return Interpreter(f"/python3.{minor}.{patch}", (3, minor, patch), headers=complete, ensurepip=True)


@pytest.mark.parametrize(
    ("there", "glibc", "expected"),
    [
        pytest.param([interpreter(12), interpreter(11)], (2, 36), "/python3.11.0", id="only 3.11 on an older glibc"),
        pytest.param([interpreter(12), interpreter(11)], (2, 41), "/python3.11.0", id="3.11 first"),
        pytest.param([interpreter(13), interpreter(12)], (2, 39), "/python3.12.0", id="then 3.12"),
        pytest.param([interpreter(11, 2), interpreter(11, 9)], (2, 36), "/python3.11.9", id="the newest patch"),
        pytest.param([interpreter(11, 9, complete=False), interpreter(11, 2)], (2, 36), "/python3.11.2", id="complete"),
        pytest.param([interpreter(12)], (2, 36), None, id="3.12 alone needs a newer glibc"),
        pytest.param([interpreter(10), interpreter(14)], (2, 41), None, id="too old and too new"),
        pytest.param([interpreter(11)], (), None, id="another C library"),
    ],
)
def test_choose(there, glibc, expected):
    """The choice follows the C library first, then completeness, then the order of the supported versions."""
    chosen = doctor.choose(there, glibc)
    assert (chosen.path if chosen else None) == expected


def test_little_memory_is_said():
    """The figure that was found stands beside what is needed."""
    check = doctor._memory_check(2 * 10**9)
    assert (check.ok, check.found, check.needed) == (False, "2.0 GB", "4 GB")


def test_find_python_prints_only_a_path(bare_machine, capsys):
    """`make` reads the output: one path, and nothing where none fits."""
    assert doctor.main(["--find-python"]) == 1
    assert capsys.readouterr().out == ""
    python = put_python(bare_machine, "python3.11", (3, 11, 4))
    assert doctor.main(["--find-python"]) == 0
    assert capsys.readouterr().out == f"{python}\n"


def test_main_counts_what_lacks(bare_machine, monkeypatch, capsys):
    """The exit code is 1 where anything lacks, and the last line says how much."""
    monkeypatch.setattr(doctor, "checks", lambda: [Check("a", True, "1", "1"), Check("b", False, "1", "2", "do it")])
    assert doctor.main([]) == 1
    out = capsys.readouterr().out
    assert "remedy: do it" in out
    assert out.endswith("1 of 2 checks failed\n")
    monkeypatch.setattr(doctor, "checks", lambda: [Check("a", True, "1", "1")])
    assert doctor.main([]) == 0
    assert capsys.readouterr().out.endswith("nothing lacks\n")
