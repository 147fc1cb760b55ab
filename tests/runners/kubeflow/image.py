"""What an image of Satisfice holds, as far as Python goes: the wheel and its dependencies, and nothing of the repository."""

from __future__ import annotations

import compileall
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

from tests.workbench import REPOSITORY


def make_image(folder: Path) -> Path:
    """The interpreter of a fresh environment with the wheel in it.

    The dependencies are those of the environment of the tests, as a plain entry of the path: what is installed in it in
    place, the repository itself, does not come along.
    """
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    (wheel,) = (folder / "dist").glob("satisfice-*.whl")
    home = folder / "environment"
    venv.create(home, with_pip=False, symlinks=True)
    site = home / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    zipfile.ZipFile(wheel).extractall(site)
    compileall.compile_dir(site, quiet=1)
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return home / "bin" / "python"
