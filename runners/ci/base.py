"""What a change is compared with: a commit, built in a worktree of its own, or a decision that was kept as JSON."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from schemas.decision import Decision
from schemas.errors import ConfigError, Fault, shorten

__all__ = ["Checkout", "Kept", "changed_files", "checked_out", "is_decision", "read_kept", "repository_of"]


@dataclass(frozen=True)
class Checkout:
    """A commit that is checked out.

    Attributes:
        commit: its full id.
        folder: of the worktree.
    """

    commit: str
    folder: Path


@dataclass(frozen=True)
class Kept:
    """A decision that was kept.

    Attributes:
        file: that holds it.
        decision: the Gate's.
        data: fingerprint of the rows' files; "" where the file does not say.
        sample: the rows, in words; "" likewise.
        machine: on which it was measured; "" likewise.
    """

    file: Path
    decision: Decision
    data: str = ""
    sample: str = ""
    machine: str = ""


def is_decision(base: str) -> bool:
    """Whether a base is a file and no commit."""
    return base.endswith(".json")


def read_kept(file: Path) -> Kept:
    """The decision in a file: by itself, or as `ci --json`, `run --json` and `why --json` hold it.

    Raises:
        ConfigError: there is none.
    """
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        decision = Decision.model_validate(raw.get("decision", raw), strict=False)
        return Kept(file, decision, *(str(raw.get(key) or "") for key in ("data", "sample", "machine")))
    except (OSError, ValueError, AttributeError, ValidationError) as error:
        expected = "a file that `satisfice ci`, `run --json` or `why --json` wrote, with a decision in it"
        raise _refused(f"holds no decision: {shorten(str(error))}", expected, str(file)) from error


def repository_of(folder: Path) -> Path | None:
    """The top of the git repository that a folder is in; None where it is in none."""
    done = _git(folder, "rev-parse", "--show-toplevel")
    return Path(done.stdout.strip()) if done.returncode == 0 else None


@contextlib.contextmanager
def checked_out(repository: Path, ref: str, folder: Path) -> Iterator[Checkout]:
    """A commit in a worktree, which is taken away at the end.

    Raises:
        ConfigError: there is no such commit, or it cannot be checked out.
    """
    found = _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if found.returncode:
        expected = "a commit, a branch or a tag of this repository (CI: fetch it first), or a decision in a .json file"
        raise _refused("is no commit here", expected, ref)
    commit = found.stdout.strip()
    added = _git(repository, "worktree", "add", "--detach", str(folder), commit)
    if added.returncode:
        raise _refused(f"cannot be checked out: {shorten(added.stderr.strip())}", "a worktree of it", ref)
    try:
        yield Checkout(commit, folder)
    finally:
        _git(repository, "worktree", "remove", "--force", str(folder))


def changed_files(repository: Path, commit: str) -> list[str]:
    """Paths in which the working tree differs from a commit, sorted; also files that git does not know yet."""
    tracked = _git(repository, "diff", "--name-only", "-z", commit, "--").stdout
    others = _git(repository, "ls-files", "--others", "--exclude-standard", "-z").stdout
    return sorted({name for name in (tracked + others).split("\0") if name})


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise _refused("needs git, which is not here", "git on the PATH, or a decision in a .json file", "") from error


def _refused(problem: str, expected: str, got: str) -> ConfigError:
    return ConfigError("command line", [Fault("--base", problem, expected, got)])
