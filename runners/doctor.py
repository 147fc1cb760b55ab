"""What this machine lacks for building and running the project, each with its remedy.

Runs before anything is installed, with any Python from 3.9 on and the standard library alone::

    python3 runners/doctor.py                  every check, as plain text; exit code 0 or 1
    python3 runners/doctor.py --machine        only what must hold before the packages are installed
    python3 runners/doctor.py --find-python    the path of the interpreter that set-up should use
"""

from __future__ import annotations

import argparse
import glob
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Check", "Interpreter", "checks", "choose", "find_interpreters", "machine_checks", "main", "package_checks"]

PROJECT = "satisfice"
ROOT = Path(__file__).resolve().parent.parent

Version = tuple[int, ...]

# In order of preference: the set of packages for 3.11 loads on older systems too.
SUPPORTED: tuple[Version, ...] = ((3, 11), (3, 12), (3, 13))
# The newest symbols that the locked wheels ask for, by Python version (ml-metadata and TFDV decide for 3.12 and 3.13).
GLIBC: dict[Version, Version] = {(3, 11): (2, 31), (3, 12): (2, 39), (3, 13): (2, 39)}

GB = 10**9
MEMORY_GB = 4
INSTALL_GB = 6  # the packages with their bytecode take 3.5 GB, and uv's cache may need room of its own for a while
WORK_GB = 1  # what the runs of the example pipelines write

COMPILED_HERE = "pyfarmhash"  # comes through tensorflow-data-validation and has no wheel for Linux

# What the rest stands on.
MAIN = ("tfx", "tensorflow", "ml-metadata", "tensorflow-data-validation", "tensorflow-model-analysis", "apache-beam")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: of the thing, in a word or two.
        ok: whether it is as it should be.
        found: what is there.
        needed: what is needed, and for what.
        remedy: what to do about it; "" where all is well.
    """

    name: str
    ok: bool
    found: str
    needed: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{'ok  ' if self.ok else 'LACK'}  {self.name:<26} {self.found}"
        return text if self.ok else f"{text}\n      needed: {self.needed}\n      remedy: {self.remedy}"


@dataclass(frozen=True)
class Interpreter:
    """A Python that could carry the project's environment.

    Attributes:
        path: of the executable.
        version: major, minor and patch.
        headers: whether `Python.h` stands where its build configuration says.
        ensurepip: whether it can make virtual environments with pip in them (Debian packs this apart).
    """

    path: str
    version: Version
    headers: bool
    ensurepip: bool

    @property
    def complete(self) -> bool:
        """Whether it lacks nothing."""
        return self.headers and self.ensurepip


def checks(root: Path = ROOT) -> list[Check]:
    """Every check: the machine, then the packages, for the project in the folder `root`."""
    return [*machine_checks(root), *package_checks(root)]


def machine_checks(root: Path = ROOT) -> list[Check]:
    """What must hold before the packages are installed. Where they are, what only building them needs is let off."""
    installed, built = (_distribution(name, _site_packages(root)) is not None for name in (PROJECT, COMPILED_HERE))
    glibc = _glibc()
    python = choose(find_interpreters(), glibc)
    return [
        _platform_check(),
        _python_check(python, glibc),
        _glibc_check(python, glibc),
        _venv_check(python, installed),
        _headers_check(python, built),
        _compiler_check(built),
        _memory_check(_memory_bytes()),
        _disk_check(root, installed),
    ]


def package_checks(root: Path = ROOT) -> list[Check]:
    """Whether the main packages are installed, and whether the compiled one that is quick to load does load."""
    folder = _site_packages(root)
    found = [_package_check(name, folder) for name in (PROJECT, *MAIN)]
    if all(check.ok for check in found):
        found.append(_load_check(root))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what was found; 0 where nothing lacks, else 1."""
    parser = argparse.ArgumentParser(prog="doctor", description="What this machine lacks, and the remedy.")
    parser.add_argument("--machine", action="store_true", help="only what must hold before packages are installed")
    parser.add_argument("--find-python", action="store_true", help="print the interpreter that set-up should use")
    options = parser.parse_args(arguments)
    if options.find_python:
        return _print_python()
    results = machine_checks() if options.machine else checks()
    print("\n".join(str(check) for check in results))
    lacking = sum(not check.ok for check in results)
    print(f"{lacking} of {len(results)} checks failed" if lacking else "nothing lacks")
    return 1 if lacking else 0


def _print_python() -> int:
    glibc = _glibc()
    python = choose(find_interpreters(), glibc)
    if python is None:
        print(_python_check(None, glibc), file=sys.stderr)
        return 1
    print(python.path)
    return 0


# --- the interpreter --------------------------------------------------------------------------------------------------

_PROBE = """
import importlib.util, json, os, sys, sysconfig
header = os.path.join(sysconfig.get_paths()["include"], "Python.h")
print(json.dumps([sys.executable, sys.version_info[:3], os.path.exists(header),
                  importlib.util.find_spec("ensurepip") is not None]))
"""


def find_interpreters() -> list[Interpreter]:
    """The supported Pythons on this machine, on the PATH and among pyenv's, without those of virtual environments."""
    found: dict[str, Interpreter] = {}
    for candidate in _candidates():
        interpreter = _probe(candidate)
        if interpreter is not None:
            found.setdefault(os.path.realpath(interpreter.path), interpreter)
    return list(found.values())


def choose(interpreters: Iterable[Interpreter], glibc: Version) -> Interpreter | None:
    """The best of them for this C library: a complete one first, then in the order of `SUPPORTED`, then the newest.

    >>> old = Interpreter("/usr/bin/python3.11", (3, 11, 2), headers=False, ensurepip=False)
    >>> new = Interpreter("/opt/python3.12", (3, 12, 1), headers=True, ensurepip=True)
    >>> choose([old, new], glibc=(2, 39)).path
    '/opt/python3.12'
    >>> choose([old, new], glibc=(2, 36)).path
    '/usr/bin/python3.11'
    """
    usable = [one for one in interpreters if one.version[:2] in SUPPORTED and glibc >= GLIBC[one.version[:2]]]
    return min(usable, key=_rank, default=None)


def _rank(interpreter: Interpreter) -> tuple[bool, int, Version]:
    newest_first = tuple(-part for part in interpreter.version)
    return (not interpreter.complete, SUPPORTED.index(interpreter.version[:2]), newest_first)


def _candidates() -> Iterator[str]:
    names = [f"python{_dotted(version)}" for version in SUPPORTED]
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        for name in (*names, "python3"):
            yield os.path.join(folder, name)
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    for version in SUPPORTED:
        yield from glob.glob(os.path.join(pyenv, "versions", f"{_dotted(version)}.*", "bin", "python3"))


def _probe(path: str) -> Interpreter | None:
    """What stands at the path; None for nothing, for pyenv's shim of a version that is not active, or for a venv's."""
    folder = Path(path).parent
    if not os.access(path, os.X_OK) or (folder.parent / "pyvenv.cfg").exists():
        return None
    try:
        done = subprocess.run([path, "-I", "-c", _PROBE], capture_output=True, text=True, timeout=30, check=True)
        executable, version, headers, ensurepip = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Interpreter(executable, tuple(version), headers, ensurepip)


def _python_check(python: Interpreter | None, glibc: Version) -> Check:
    allowed = [_dotted(version) for version in SUPPORTED if glibc >= GLIBC[version]] or [_dotted(SUPPORTED[0])]
    needed = f"Python {' or '.join(allowed)} (glibc {_dotted(glibc)})"
    if python is None:
        name = "python3" if glibc >= GLIBC[(3, 12)] else "python3.11"  # what systems of that age pack
        remedy = f"apt-get install {name} {name}-venv {name}-dev, or pyenv install {allowed[0]}"
        return Check("Python", False, "none that fits, on the PATH or in pyenv", needed, remedy)
    return Check("Python", True, f"{_dotted(python.version)} at {python.path}", needed)


def _venv_check(python: Interpreter | None, installed: bool) -> Check:
    needed = "the module ensurepip, to make the virtual environment"
    if installed or (python is not None and python.ensurepip):
        return Check("venv", True, "present" if not installed else "made", needed)
    return Check("venv", False, "no ensurepip", needed, f"apt-get install {_debian(python)}-venv")


def _headers_check(python: Interpreter | None, built: bool) -> Check:
    needed = f"Python.h, to compile {COMPILED_HERE}, which has no wheel"
    if python is not None and python.headers:
        return Check("Python headers", True, "present", needed)
    if built:
        return Check("Python headers", True, f"not needed any more: {COMPILED_HERE} is built", needed)
    return Check("Python headers", False, "no Python.h", needed, f"apt-get install {_debian(python)}-dev")


def _debian(python: Interpreter | None) -> str:
    return f"python{_dotted((python.version if python else SUPPORTED[0])[:2])}"


# --- the machine ------------------------------------------------------------------------------------------------------


def _platform_check() -> Check:
    found = f"{platform.system()} {platform.machine()}"
    remedy = "use such a machine or a container: ml-metadata and tensorflow-data-validation have no other wheels"
    return _check("platform", found == "Linux x86_64", found, "Linux x86_64", remedy)


def _glibc_check(python: Interpreter | None, glibc: Version) -> Check:
    version = python.version[:2] if python else SUPPORTED[0]
    needed = f"glibc >= {_dotted(GLIBC[version])} for Python {_dotted(version)}"
    found = _dotted(glibc) if glibc else "none (another C library)"
    return _check("glibc", glibc >= GLIBC[version], found, needed, "use Debian 12 or Ubuntu 22.04, or newer")


def _compiler_check(built: bool) -> Check:
    needed = f"g++, to compile {COMPILED_HERE}, which has no wheel"
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None and built:
        return Check("C++ compiler", True, f"not needed any more: {COMPILED_HERE} is built", needed)
    return _check("C++ compiler", compiler is not None, compiler or "none", needed, "apt-get install g++")


def _memory_check(memory: int | None) -> Check:
    needed = f"{MEMORY_GB} GB"
    if memory is None:
        return Check("memory", True, "not known", needed)
    remedy = "give the machine or the container more memory: a run holds TensorFlow several times"
    return _check("memory", memory >= MEMORY_GB * GB, f"{memory / GB:.1f} GB", needed, remedy)


def _memory_bytes() -> int | None:
    """The smaller of what the machine has and what its control group allows."""
    limits = [_first_number(Path("/proc/meminfo"), 1024), _first_number(Path("/sys/fs/cgroup/memory.max"), 1)]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def _first_number(file: Path, unit: int) -> int | None:
    try:
        match = re.search(r"\d+", file.read_text(encoding="ascii"))
    except OSError:
        return None
    return int(match.group()) * unit if match else None


def _disk_check(root: Path, installed: bool) -> Check:
    free = shutil.disk_usage(root).free
    wanted = WORK_GB if installed else INSTALL_GB
    needed = f"{wanted} GB for {'what runs write' if installed else 'the packages and their cache'}"
    remedy = "make room, or clone to a larger disk"
    return _check("disk", free >= wanted * GB, f"{free / GB:.1f} GB free", needed, remedy)


def _glibc() -> Version:
    name, version = platform.libc_ver()
    return _numbers(version) if name == "glibc" else ()


# --- the packages -----------------------------------------------------------------------------------------------------


def _environment(root: Path) -> Path:
    """The folder's `.venv`; where there is none, the environment that runs this."""
    own = root / ".venv"
    return own if own.exists() else Path(sys.prefix)


def _site_packages(root: Path) -> str:
    if _environment(root) == Path(sys.base_prefix):  # no virtual environment at all
        return ""
    return next(iter(sorted(glob.glob(str(_environment(root) / "lib" / "python3*" / "site-packages")))), "")


def _distribution(name: str, folder: str) -> importlib.metadata.Distribution | None:
    return next(iter(importlib.metadata.distributions(name=name, path=[folder])), None) if folder else None


def _package_check(name: str, folder: str) -> Check:
    distribution = _distribution(name, folder)
    found = distribution.version if distribution else "not installed"
    return _check(name, distribution is not None, found, "installed in .venv", "make setup")


def _load_check(root: Path) -> Check:
    command = [str(_environment(root) / "bin" / "python"), "-c", "import ml_metadata.metadata_store"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        problem = done.stderr.strip().splitlines()[-1:] if done.returncode else []
    except (OSError, subprocess.SubprocessError) as error:
        problem = [str(error)]
    remedy = "rm -rf .venv && make setup, on this machine"
    return _check("loading", not problem, problem[0] if problem else "ml-metadata loads", "compiled code loads", remedy)


# --- words and numbers ------------------------------------------------------------------------------------------------


def _check(name: str, ok: bool, found: str, needed: str, remedy: str) -> Check:
    return Check(name, ok, found, needed, "" if ok else remedy)


def _numbers(text: str) -> Version:
    return tuple(int(part) for part in re.findall(r"\d+", text))


def _dotted(version: Version) -> str:
    return ".".join(str(part) for part in version)


if __name__ == "__main__":
    sys.exit(main())
