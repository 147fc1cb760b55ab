"""From source files to an artifact of examples: what has to be read, what is known from before, and who does the work."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from components import progress
from components.example_gen.columns import ColumnType
from components.example_gen.fingerprint import Snapshot
from components.example_gen.read import (
    Kinds,
    column_names,
    kinds_of,
    merged_kinds,
    pieces_of,
    read_batches,
    rows_about,
    types_of,
)
from components.example_gen.shards import (
    FileRows,
    Inferred,
    Kept,
    Written,
    kept_in,
    kinds_in,
    publish,
    read_shard,
    reuse,
    workplace,
    write_shard,
)
from components.example_gen.source_files import Piece
from schemas.errors import DataError

__all__ = ["Recipe", "Work", "ingest", "knows_all", "work_here"]


@dataclass(frozen=True)
class Recipe:
    """How files become examples; small, and carried to whichever process does the work.

    Attributes:
        format: of the files.
        columns: what each file must have, by name.
        extras: types of the columns that the schema lacks.
        kinds: what each file's content says of those columns, by its digest.
        weights: the splits and their shares.
        code: fingerprint of the code that does it.
    """

    format: str
    columns: dict[str, ColumnType]
    extras: dict[str, ColumnType]
    kinds: dict[str, Kinds]
    weights: dict[str, int]
    code: str = ""

    @classmethod
    def of(
        cls,
        files: Mapping[Path, str],
        format: str,
        columns: Mapping[str, ColumnType],
        weights: Mapping[str, int],
        code: str,
        earlier: Iterable[Path] = (),
    ) -> Recipe:
        """The recipe for some files; the columns that the schema lacks have one type in all of them.

        Args:
            files: with the digest of each.
            format: of the files.
            columns: what each file must have.
            weights: of the splits.
            code: fingerprint of the code that does it.
            earlier: folders of artifacts; what they tell of a file that has not changed is not looked for again.

        Raises:
            DataError: as `kinds_of`.
        """
        if format == "tfrecord":  # says the type of each value: nothing is to be inferred from all of them
            return cls(format, dict(columns), {}, {}, dict(weights), code)
        known = kinds_in(earlier, code)
        kinds = {digest: _kinds_of(file, format, columns, known.get(digest)) for file, digest in files.items()}
        return cls(format, dict(columns), merged_kinds(kinds.values()), kinds, dict(weights), code)

    def key(self, file: Path, digest: str, piece: Piece | None) -> str:
        """Names the shard that is made of a file with that content: SHA-256, in hex."""
        types = self.columns if self.format == "tfrecord" else types_of(file, self.format, self.columns, self.extras)
        parts = [
            digest,
            [piece.start, piece.stop] if piece else None,
            self.format,
            [[name, kind.value] for name, kind in types.items()],
            list(self.weights.items()),
            self.code,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _kinds_of(file: Path, format: str, columns: Mapping[str, ColumnType], known: Kinds | None) -> Kinds:
    """What is known of a file's other columns, where that is all of them; else what the file says, which is read."""
    extras = set(column_names(file, format)).difference(columns)
    if known is not None and extras <= known.keys():
        return {name: known[name] for name in known if name in extras}
    return kinds_of(file, format, columns)


@dataclass(frozen=True, eq=False)
class Work:
    """A shard that is to be made.

    Attributes:
        recipe: how.
        file: of the source.
        piece: of the file; None for all of it.
        key: of the shard.
        folder: for it.
    """

    recipe: Recipe
    file: Path
    piece: Piece | None
    key: str
    folder: Path

    def do(self) -> Kept:
        """Reads and writes.

        Raises:
            DataError: as `read_batches` and `write_shard`.
        """
        recipe = self.recipe
        batches = read_batches(self.file, recipe.format, recipe.columns, recipe.extras, self.piece)
        return write_shard(batches, recipe.weights, self.folder, self.key)


def work_here(works: Sequence[Work]) -> None:
    """Does the work in this process, a shard after the other."""
    for work in works:
        work.do()


def ingest(
    recipe: Recipe,
    snapshot: Snapshot,
    folder: Path,
    *,
    piece_rows: int | None = None,
    run: Callable[[Sequence[Work]], None] = work_here,
    earlier: Iterable[Path] = (),
    ahead: Iterable[Path] = (),
) -> tuple[Written, int]:
    """Makes an artifact of examples.

    Args:
        recipe: how.
        snapshot: of the files, in the order of their rows.
        folder: of the artifact.
        piece_rows: files are read in pieces of about so many rows; None for whole files.
        run: does the work, and may do it elsewhere: the shards are looked for in their folders.
        earlier: folders of artifacts whose shards are taken over where a file has not changed.
        ahead: the same of what was read ahead for this artifact, whose rows count as read.

    Returns:
        What was written, and the number of rows that were read and not taken over.

    Raises:
        DataError: as `read_batches` and `publish`; or a file has changed meanwhile, or a shard got lost.
    """
    before = kept_in(earlier)
    known = {**kept_in(ahead), **before}
    with workplace(folder, recipe.weights) as place:
        works = _works(recipe, snapshot, place, piece_rows)
        taken = {work: kept for work in works if (kept := _taken_over(work, known))}
        progress.begin("rows", _rows_about(work for work in works if work not in taken), estimated=True)
        run([work for work in works if work not in taken])
        shards = {work: taken.get(work) or _made(work) for work in works}
        for file in snapshot.digests:
            snapshot.check(file)
        written = publish(list(shards.values()), recipe.weights, folder, Inferred(recipe.code, recipe.kinds))
    read = {work for work in works if work not in taken or work.key not in before}
    files = _file_rows(shards, read)
    return replace(written, files=files), sum(one.rows_read for one in files.values())


def _file_rows(shards: Mapping[Work, Kept], read: Collection[Work]) -> dict[Path, FileRows]:
    """The rows of each file over all its pieces."""
    rows: dict[Path, Counter[str]] = defaultdict(Counter)
    rows_in: Counter[Path] = Counter()
    rows_read: Counter[Path] = Counter()
    for work, kept in shards.items():
        rows[work.file].update(kept.shard.rows)
        rows_in[work.file] += kept.shard.rows_in
        rows_read[work.file] += kept.shard.rows_in if work in read else 0
    return {file: FileRows(rows_in[file], dict(rows[file]), rows_read[file]) for file in rows}


def knows_all(recipe: Recipe, snapshot: Snapshot, earlier: Iterable[Path]) -> bool:
    """Whether earlier artifacts have a shard of each file, as a whole."""
    known = kept_in(earlier)
    return all(recipe.key(file, digest, None) in known for file, digest in snapshot.digests.items())


def _rows_about(works: Iterable[Work]) -> int:
    """About how many rows there are to read; 0 where a file does not tell."""
    files = {work.file: work.recipe.format for work in works}
    found = [rows_about(file, kind) for file, kind in files.items()]
    return 0 if None in found else sum(rows for rows in found if rows is not None)


def _taken_over(work: Work, known: Mapping[str, Kept]) -> Kept | None:
    return reuse(known[work.key], work.folder) if work.key in known else None


def _works(recipe: Recipe, snapshot: Snapshot, place: Path, piece_rows: int | None) -> list[Work]:
    parts: list[tuple[Path, Piece | None]] = []
    for file in snapshot.digests:
        pieces = [None] if piece_rows is None else pieces_of(file, recipe.format, piece_rows)
        parts += [(file, piece) for piece in pieces]
    return [
        Work(recipe, file, piece, recipe.key(file, snapshot.digests[file], piece), place / f"{number:05}")
        for number, (file, piece) in enumerate(parts)
    ]


def _made(work: Work) -> Kept:
    kept = read_shard(work.folder)
    if kept is None or kept.shard.key != work.key:
        raise DataError(
            str(work.file),
            "its rows did not arrive where the examples are written",
            expected=f"a shard in {work.folder}",
            remedy="Check that every worker writes to the same file system, or use another engine.",
        )
    return kept
