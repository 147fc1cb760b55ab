"""What was done before and can be used again, and why it can or cannot.

A node's work is named by a key made of its parameters, the content of its inputs, the code that runs and the versions
of the libraries; never of times, paths or ids. What it put out is kept with the digests of its files, which are checked
before they are used again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Cache", "Entry", "Ingredients", "content_digest", "difference_of", "files_of"]

_CHUNK_BYTES = 1 << 20
_NOT_CONTENT = frozenset({"fingerprint.pb"})
"""Files that differ between two trainings that are alike; they are checked for damage, and do not name the content."""


@dataclass(frozen=True)
class Ingredients:
    """What a node's work is made of.

    Attributes:
        parameters: name to digest of the value; those that a driver adds among them.
        inputs: key to the content digests of the artifacts.
        code: digest of the code that runs.
        libraries: name to version.
    """

    parameters: dict[str, str]
    inputs: dict[str, list[str]]
    code: str
    libraries: dict[str, str]

    @property
    def key(self) -> str:
        """SHA-256 that names the work."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def difference(self, other: Ingredients) -> str:
        """What is new in this work beside another, in words."""
        words = []
        for what, mine, theirs in (
            ("parameter", self.parameters, other.parameters),
            ("input", self.inputs, other.inputs),
            ("library", self.libraries, other.libraries),
        ):
            changed = sorted(key for key in {*mine, *theirs} if mine.get(key) != theirs.get(key))
            words += [f"{what} {key} changed" for key in changed]
        if self.code != other.code:
            words.append("its code changed")
        return ", ".join(words)


@dataclass(frozen=True)
class Entry:
    """Work that was done.

    Attributes:
        node: id.
        ingredients: of the work.
        outputs: key to one record per artifact: its id, uri, content digest, and SHA-256 by relative path.
    """

    node: str
    ingredients: Ingredients
    outputs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def damage(self) -> str:
        """What is wrong with the files, or "" where every byte is as it was."""
        for key, artifacts in self.outputs.items():
            for artifact in artifacts:
                difference = difference_of(artifact["files"], files_of(Path(artifact["uri"])))
                if difference:
                    return f"{key}/{difference}"
        return ""


class Cache:
    """The entries of a pipeline root, a file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, node: str, ingredients: Ingredients) -> Entry | None:
        """The entry of exactly this work, or None."""
        try:
            return _entry(json.loads(self._path(node, ingredients.key).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def find_beside(self, node: str, ingredients: Ingredients, key: str) -> Entry | None:
        """The newest entry of the same work with something in an input that is empty in this one; None where it is not.

        What was measured of a candidate beside a champion holds where there is no champion to measure any more.
        """
        if ingredients.inputs.get(key):
            return None
        wanted = {**asdict(ingredients), "inputs": _without(ingredients.inputs, key)}
        for entry in self._entries(node):
            if {**asdict(entry.ingredients), "inputs": _without(entry.ingredients.inputs, key)} == wanted:
                return entry
        return None

    def damage(self, node: str, ids: set[int]) -> str:
        """What is wrong with the files of the artifacts that a node put out; "" where nothing is, or nothing is known.

        Args:
            node: id.
            ids: of all the artifacts, in the metadata store.
        """
        for entry in self._entries(node):
            if {one["id"] for records in entry.outputs.values() for one in records} == ids:
                return entry.damage()
        return ""

    def why_not(self, node: str, ingredients: Ingredients) -> str:
        """What is new in this work beside the newest that is kept of the node; "" where none is."""
        newest = self._newest(node)
        if newest is None:
            return ""
        return ingredients.difference(newest.ingredients) or "what was kept of it is gone"

    def keep(self, node: str, ingredients: Ingredients, outputs: Mapping[str, list[Any]]) -> Entry:
        """Notes what a node put out; `outputs` are `ml_metadata` Artifact protos."""
        records = {key: [_artifact_record(artifact) for artifact in artifacts] for key, artifacts in outputs.items()}
        entry = Entry(node, ingredients, records)
        path = self._path(node, ingredients.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".half")
        half.write_text(json.dumps(asdict(entry)), encoding="utf-8")
        os.replace(half, path)
        return entry

    def forget(self, entry: Entry) -> None:
        """Takes an entry out."""
        self._path(entry.node, entry.ingredients.key).unlink(missing_ok=True)

    def _path(self, node: str, key: str) -> Path:
        return self._folder / node / f"{key}.json"

    def _newest(self, node: str) -> Entry | None:
        return next(self._entries(node), None)

    def _entries(self, node: str) -> Iterator[Entry]:
        """The entries of a node that can be read, the newest first."""
        paths = sorted((self._folder / node).glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in paths:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                yield _entry(json.loads(path.read_text(encoding="utf-8")))


def _without(inputs: Mapping[str, list[str]], key: str) -> dict[str, list[str]]:
    return {name: value for name, value in inputs.items() if name != key}


def content_digest(files: Mapping[str, str]) -> str:
    """SHA-256 over sorted paths and digests: what an artifact is, wherever it lies and whenever it was made."""
    digest = hashlib.sha256()
    for path, sha in sorted(files.items()):
        if Path(path).name not in _NOT_CONTENT:
            digest.update(f"{path}\0{sha}\n".encode())
    return digest.hexdigest()


def _artifact_record(artifact: Any) -> dict[str, Any]:
    files = files_of(Path(artifact.uri))
    return {"id": artifact.id, "uri": artifact.uri, "files": files, "content": content_digest(files)}


def difference_of(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What is new in the files of an artifact, in words; "" where nothing is.

    >>> difference_of({"a": "1", "b": "2"}, {"a": "1", "b": "3"})
    'b was changed'
    """
    for path, digest in then.items():
        if path not in now:
            return f"{path} is gone"
        if now[path] != digest:
            return f"{path} was changed"
    added = sorted(set(now) - set(then))
    return f"{added[0]} was added" if added else ""


def files_of(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by relative path; empty where there is no folder."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            found[path.relative_to(folder).as_posix()] = _sha256(path)
    return found


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _entry(raw: dict[str, Any]) -> Entry:
    return Entry(raw["node"], Ingredients(**raw["ingredients"]), raw["outputs"])
