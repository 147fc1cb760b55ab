"""Split rows as tf.Examples on disk, and as columns beside them: complete under their final name, or not there at all.

A *shard* holds the rows of one source file, or of a piece of one: a file of records per split, and the columns of the
same rows. Its key names the content it was made of and the way it was made, so that whoever has worked on those rows
before, in an earlier artifact or elsewhere, knows them again. `shards.json` in the artifact lists the shards.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components import progress
from components.example_gen.casting import kind_of_type
from components.example_gen.columns import ColumnType
from components.example_gen.encode import encode
from components.example_gen.records import RecordFile, count_records, framed
from components.example_gen.sidecar import COLUMNS_FOLDER, SplitColumns
from components.example_gen.split import split_of
from schemas.errors import DataError, shorten

__all__ = [
    "MANIFEST_FILE",
    "FileRows",
    "Inferred",
    "Kept",
    "Shard",
    "Written",
    "kept_in",
    "keys_of_records",
    "kinds_in",
    "publish",
    "read_shard",
    "read_shards",
    "reuse",
    "workplace",
    "write_shard",
]

MANIFEST_FILE = "shards.json"
_VERSION = 1
# Without ".gz": TFX's readers tell by the name that the records are not compressed.
_RECORDS_FILE = "data_tfrecord-{:05}-of-{:05}"
# Beside the `Split-*` folders, which readers glob, never in one of them.
_UNFINISHED = ".unfinished"
_SHARD_FILE = "shard.json"
_ENCODED_ROWS = 32_768
_ENCODERS = 2
"""Threads that encode: NumPy and Arrow let others run meanwhile."""
_Encoding = dict[str, "Future[pa.Buffer]"]


@dataclass(frozen=True)
class Shard:
    """What was made of one piece of a source.

    Attributes:
        key: names the content and the way it was read; "" where nobody knows it.
        rows_in: rows read.
        rows: records of each split, counted on disk.
        columns: the type (INT, FLOAT, BYTES) of each column that was there.
        records: path of each split's records, relative to the folder that holds the shard; a split without rows has none.
        sidecars: paths of each split's columns, in the order of the records.
        digests: SHA-256 of each of those files, in hex.
    """

    key: str
    rows_in: int
    rows: dict[str, int]
    columns: dict[str, str]
    records: dict[str, str]
    sidecars: dict[str, list[str]]
    digests: dict[str, str]


@dataclass(frozen=True)
class Kept:
    """A shard and the folder that holds it."""

    folder: Path
    shard: Shard


@dataclass(frozen=True)
class Inferred:
    """What files say of the columns that the schema lacks.

    Attributes:
        code: fingerprint of the code that looked.
        kinds: by the digest of the file, each column's narrowest type; None for one without values.
    """

    code: str
    kinds: Mapping[str, Mapping[str, ColumnType | None]]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        files = {
            digest: {name: kind and kind.value for name, kind in one.items()} for digest, one in self.kinds.items()
        }
        return {"code": self.code, "kinds": files}


@dataclass(frozen=True)
class FileRows:
    """The rows of one file of the source.

    Attributes:
        rows_in: rows read, or known from an earlier artifact.
        rows: records of each split.
        rows_read: those that were read.
    """

    rows_in: int
    rows: Mapping[str, int]
    rows_read: int


@dataclass(frozen=True)
class Written:
    """What went in and what came out.

    Attributes:
        rows_in: rows read, or known from an earlier artifact.
        rows: records of each split.
        files: the same of each file; empty where nobody has told.
    """

    rows_in: int
    rows: Mapping[str, int]
    files: Mapping[Path, FileRows] = field(default_factory=dict, compare=False)


# --- one shard --------------------------------------------------------------------------------------------------------


def write_shard(batches: Iterable[pa.RecordBatch], weights: Mapping[str, int], folder: Path, key: str = "") -> Kept:
    """Writes each row into the records of its split, uncompressed, and into the columns beside them.

    Args:
        batches: rows as `read_batches` gives them.
        weights: the splits and their shares, as `split_of` takes them.
        folder: of the shard; what is there is replaced, and nothing is there until all of it is.
        key: of the shard.

    Raises:
        DataError: the records on disk are not as many as the rows that came in.
    """
    half = folder.with_name(f"{folder.name}.{os.getpid()}-{os.urandom(4).hex()}")
    try:
        files = {name: f"{_split_folder(name)}/{_RECORDS_FILE.format(0, 1)}" for name in weights}
        meant, columns, written = _write(batches, weights, half, files)
        rows = {name: count_records(half / file) for name, file in files.items()}
        _check_counts(meant, rows, folder)
        sidecars = {
            name: sorted(f"{COLUMNS_FOLDER}/{path.name}" for path in SplitColumns.parts(half / COLUMNS_FOLDER, name))
            for name in weights
        }
        records = {name: file for name, file in files.items() if rows[name]}
        digests = {file: written[file] for file in records.values()}
        digests |= _digests(half, list(itertools.chain(*sidecars.values())))
        shard = Shard(key, sum(meant.values()), rows, columns, records, sidecars, digests)
        (half / _SHARD_FILE).write_text(json.dumps(asdict(shard)), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        half.rename(folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return Kept(folder, shard)


def read_shard(folder: Path) -> Kept | None:
    """The shard that `write_shard` wrote into a folder; None where it did not."""
    try:
        return Kept(folder, _shard(json.loads((folder / _SHARD_FILE).read_text(encoding="utf-8"))))
    except (OSError, ValueError):
        return None


def _split_folder(name: str) -> str:
    return f"Split-{name}"


def _write(
    batches: Iterable[pa.RecordBatch], weights: Mapping[str, int], folder: Path, files: Mapping[str, str]
) -> tuple[Counter[str], dict[str, str], dict[str, str]]:
    """Writes all rows, each split's records into its file of `files`, by paths relative to the folder.

    Returns:
        The number of rows that were meant for each split, the types of the columns, and the digests of the files.
    """
    meant: Counter[str] = Counter()
    kinds: dict[str, str] = {}
    with ExitStack() as stack:
        columns = stack.enter_context(SplitColumns(list(weights), folder / COLUMNS_FOLDER))
        records = {name: stack.enter_context(RecordFile(folder / file)) for name, file in files.items()}
        threads = stack.enter_context(ThreadPoolExecutor(_ENCODERS))
        waiting: deque[_Encoding] = deque()
        for batch in _pieces(batches):
            rows_of = _by_split(batch, weights)
            waiting.append({name: threads.submit(_as_records, rows) for name, rows in rows_of.items()})
            for name, rows in rows_of.items():
                columns.add(name, rows)
                meant[name] += rows.num_rows
            kinds |= {field.name: kind.value for field in batch.schema if (kind := kind_of_type(field.type))}
            progress.advance(batch.num_rows)
            if len(waiting) > _ENCODERS:
                _append(records, waiting.popleft())
        while waiting:
            _append(records, waiting.popleft())
    return meant, kinds, {file: records[name].digest() for name, file in files.items()}


def _pieces(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches small enough that their encoded copies stay small, and none of a few rows only."""
    for batch in batches:
        count = -(-batch.num_rows // _ENCODED_ROWS)
        for number in range(count):
            start, stop = (batch.num_rows * place // count for place in (number, number + 1))
            yield batch.slice(start, stop - start)


def _by_split(batch: pa.RecordBatch, weights: Mapping[str, int]) -> dict[str, pa.RecordBatch]:
    """The rows of each split that has some."""
    splits = split_of(batch, weights)
    chosen = {name: np.flatnonzero(splits == index) for index, name in enumerate(weights)}
    return {name: batch.take(pa.array(rows)) for name, rows in chosen.items() if len(rows)}


def _as_records(rows: pa.RecordBatch) -> pa.Buffer:
    return framed(encode(rows))


def _append(records: Mapping[str, RecordFile], encoding: _Encoding) -> None:
    for name, found in encoding.items():
        records[name].write(found.result())


def _check_counts(meant: Mapping[str, int], rows: Mapping[str, int], folder: Path) -> None:
    short = [f"{name} {rows[name]} of {meant.get(name, 0)}" for name in rows if rows[name] != meant.get(name, 0)]
    if short:
        raise DataError(
            str(folder),
            "the records on disk are not the rows that were read",
            expected=f"{sum(meant.values())} records",
            got=f"{sum(rows.values())} ({', '.join(short)})",
            remedy="Check that the disk is not full and run again.",
        )


# --- shards of earlier artifacts --------------------------------------------------------------------------------------


def kept_in(folders: Iterable[Path]) -> dict[str, Kept]:
    """The shards of artifacts by key, of those that have one; the last artifact that has it counts."""
    return {shard.key: Kept(folder, shard) for folder in folders for shard in read_shards(folder) if shard.key}


def kinds_in(folders: Iterable[Path], code: str) -> dict[str, dict[str, ColumnType | None]]:
    """What artifacts tell of the columns of files, by the files' digests, where the same code had looked."""
    found: dict[str, dict[str, ColumnType | None]] = {}
    for folder in folders:
        told: Any = _manifest(folder).get("inferred")
        try:
            if told["code"] == code:
                found |= {
                    str(digest): {str(name): ColumnType(kind) if kind else None for name, kind in one.items()}
                    for digest, one in told["kinds"].items()
                }
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def reuse(kept: Kept, folder: Path) -> Kept | None:
    """The shard once more, in a folder of its own, as hard links where the file system has them.

    None where its files are not what they were: nothing is in the folder then.
    """
    shard = kept.shard
    try:
        if _digests(kept.folder, list(shard.digests)) != shard.digests:
            return None
        for path in shard.digests:
            _link(kept.folder / path, folder / path)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return Kept(folder, shard)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _digests(folder: Path, paths: Sequence[str]) -> dict[str, str]:
    """SHA-256 of files, two at a time: hashing lets other threads run."""
    with ThreadPoolExecutor(2) as threads:
        return dict(zip(paths, threads.map(lambda path: _digest(folder / path), paths), strict=True))


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


# --- the artifact -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def workplace(folder: Path, splits: Iterable[str]) -> Iterator[Path]:
    """A folder for shards below that of the artifact, which goes at the end; what a killed run has left goes first."""
    unfinished = folder / _UNFINISHED
    for stale in (unfinished, folder / COLUMNS_FOLDER, *(folder / _split_folder(name) for name in splits)):
        shutil.rmtree(stale, ignore_errors=True)
    (folder / MANIFEST_FILE).unlink(missing_ok=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def publish(
    shards: Sequence[Kept], weights: Mapping[str, int], folder: Path, inferred: Inferred | None = None
) -> Written:
    """Moves shards into their artifact: `Split-<name>/data_tfrecord-*`, `columns/<name>-*.arrow` and `shards.json`.

    Args:
        shards: in the order of the rows; below `folder` or on the same file system.
        weights: the splits.
        folder: of the artifact.
        inferred: of the files, for later ingests.

    Raises:
        DataError: a split is empty, or two shards have different types in a column. Nothing appears then.
    """
    rows = {name: sum(kept.shard.rows[name] for kept in shards) for name in weights}
    _check_columns(shards)
    _check_filled(rows)
    ready = folder / _UNFINISHED / "ready"
    for name in (COLUMNS_FOLDER, *map(_split_folder, weights)):
        (ready / name).mkdir(parents=True)
    names = _Names(Counter(split for kept in shards for split in kept.shard.records))
    moved = [_move(kept, ready, names) for kept in shards]
    manifest = {"version": _VERSION, "shards": [asdict(shard) for shard in moved]}
    if inferred is not None:
        manifest["inferred"] = inferred.as_dict()
    (ready / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for name in (COLUMNS_FOLDER, *map(_split_folder, weights), MANIFEST_FILE):
        (ready / name).rename(folder / name)
    return Written(sum(kept.shard.rows_in for kept in shards), rows)


class _Names:
    """The paths of files in the artifact, numbered as they come."""

    def __init__(self, records: Mapping[str, int]) -> None:
        self._total = records
        self._records: Counter[str] = Counter()
        self._sidecars: Counter[str] = Counter()

    def of_records(self, split: str) -> str:
        self._records[split] += 1
        return f"{_split_folder(split)}/{_RECORDS_FILE.format(self._records[split] - 1, self._total[split])}"

    def of_sidecar(self, split: str) -> str:
        self._sidecars[split] += 1
        return f"{COLUMNS_FOLDER}/{split}-{self._sidecars[split] - 1:05}.arrow"


def _move(kept: Kept, ready: Path, numbered: _Names) -> Shard:
    """The shard with the paths that its files have in the artifact."""
    shard = kept.shard
    names = {path: numbered.of_records(split) for split, path in shard.records.items()}
    names |= {path: numbered.of_sidecar(split) for split, paths in shard.sidecars.items() for path in paths}
    for path, name in names.items():
        (kept.folder / path).rename(ready / name)
    return replace(
        shard,
        records={split: names[path] for split, path in shard.records.items()},
        sidecars={split: [names[path] for path in paths] for split, paths in shard.sidecars.items()},
        digests={names[path]: digest for path, digest in shard.digests.items()},
    )


def _check_columns(shards: Sequence[Kept]) -> None:
    known: dict[str, str] = {}
    for kept in shards:
        for name, kind in kept.shard.columns.items():
            if known.setdefault(name, kind) != kind:
                raise DataError(
                    f"column {shorten(name)!r}",
                    "has different types in the files of data.source.path",
                    expected="one type in all of them",
                    got=f"{known[name]} and {kind}",
                    remedy="Name the column in the data schema, or write it in one type.",
                )


def _check_filled(rows: Mapping[str, int]) -> None:
    empty = [name for name, count in rows.items() if not count]
    if empty:
        listed = ", ".join(f"{count} in {name}" for name, count in rows.items())
        raise DataError(
            "data.splits",
            f"no row falls into {' or '.join(empty)}: there are {sum(rows.values())} rows, {listed}",
            remedy="Add data, or give the split a larger share in data.splits.",
        )


def read_shards(folder: Path) -> list[Shard]:
    """The shards of an artifact; none where it lists none, or its list cannot be read."""
    try:
        return [_shard(raw) for raw in _manifest(folder).get("shards", ())]
    except (ValueError, TypeError):
        return []


def _manifest(folder: Path) -> dict[str, Any]:
    """What an artifact tells of its shards; nothing where it does not, or in another version's words."""
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) and manifest.get("version") == _VERSION else {}


def keys_of_records(folder: Path) -> dict[str, str]:
    """The key of each file of records of an artifact, by its path relative to the folder."""
    return {path: shard.key for shard in read_shards(folder) if shard.key for path in shard.records.values()}


def _shard(raw: Any) -> Shard:
    """A shard as `asdict` spelled it.

    Raises:
        ValueError: it is none, or names a file elsewhere.
    """
    try:
        shard = Shard(**raw)
        paths = list(itertools.chain(shard.records.values(), *shard.sidecars.values()))
        sound = set(paths) == set(shard.digests) and not any(_leads_away(path) for path in paths)
        counts = sum(shard.rows.values()) == shard.rows_in
    except (TypeError, AttributeError) as error:
        raise ValueError(f"is no shard: {error}") from error
    if not sound or not counts:
        raise ValueError("is no shard")
    return shard


def _leads_away(path: str) -> bool:
    return Path(path).is_absolute() or ".." in Path(path).parts
