"""Looks at a table once and says what each column is good for. Imports neither TensorFlow nor TFX."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from components.example_gen.columns import ColumnType
from components.example_gen.read import infer_columns, read_batches
from schemas.errors import DataError, MissingColumnError, close_match

__all__ = ["Column", "Profile", "Role", "Task", "profile_of"]

Role = Literal["number", "category", "ignored", "label"]
Task = Literal["binary", "multiclass", "regression"]

Format = Literal["csv", "parquet", "arrow", "tfrecord"]

FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".tfrecord": "tfrecord",
    ".tfrecords": "tfrecord",
    ".tfrecord.gz": "tfrecord",
}
"""By the end of a file's name."""

_FEW_WHOLE_NUMBERS = 16
"""A whole-number column with at most so many values is taken for a category."""
_MOST_WORDS = 1000
"""A text column with more different values is taken for free text or names, and ignored."""
_FEWEST_TO_COUNT = 100
"""Fewer whole numbers may be all different by chance."""
_DATE = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?$"
_MOST_CLASSES = 50
_FEWEST_PER_CLASS = 3


@dataclass(frozen=True)
class Column:
    """One column of the data.

    Attributes:
        name: as in the file.
        type: of its values.
        role: what the generated model does with it.
        why: why it is ignored; else "".
        missing: number of rows without a value.
        distinct: number of different values.
        values: all of them, sorted, for the label of a classification; else empty.
        mean, deviation: of a number column.
    """

    name: str
    type: ColumnType
    role: Role
    missing: int
    distinct: int
    why: str = ""
    values: tuple[Any, ...] = ()
    mean: float = 0.0
    deviation: float = 0.0


@dataclass(frozen=True)
class Profile:
    """What a file holds.

    Attributes:
        file: absolute path.
        format: of the file.
        rows: their number.
        task: what the label asks for.
        columns: in the file's order, the label among them.
        label: its name.
        majority: share of the most frequent class; 0 for a regression.
    """

    file: Path
    format: Format
    rows: int
    task: Task
    columns: tuple[Column, ...]
    label: str
    majority: float

    def named(self, role: Role) -> list[str]:
        """Names of the columns of a role."""
        return [column.name for column in self.columns if column.role == role]

    @property
    def label_column(self) -> Column:
        """The label."""
        return next(column for column in self.columns if column.role == "label")


def profile_of(file: Path, label: str) -> Profile:
    """Reads a file and decides what each column is good for.

    Raises:
        DataError: the file is not there, cannot be read, or its label cannot be learned.
        MissingColumnError: it has no column of the label's name.
    """
    file_format = next((name for end, name in FORMATS.items() if file.name.lower().endswith(end)), None)
    if file.is_dir() or (not file.exists() and glob.has_magic(str(file))):
        pattern = file / "*.csv" if file.is_dir() else file
        remedy = f"Give one of its files, and name them all in data.source.path of what is written: {pattern}."
        raise DataError(str(file), "is not one file, and `init` looks at one", remedy=remedy)
    if not file.is_file():
        beside = [entry.name for entry in file.parent.iterdir()] if file.parent.is_dir() else []
        guess = close_match(file.name, beside)
        raise DataError(str(file), "there is no such file", remedy=f"Did you mean {guess!r}?" if guess else "")
    if file_format is None:
        expected = f"a name that ends in {', '.join(FORMATS)}"
        raise DataError(str(file), "is neither CSV, Parquet, Arrow nor TFRecord", expected=expected)
    types = infer_columns([file], file_format, [])
    if label not in types:
        guess = close_match(label, types)
        if len(types) == 1 and (sign := next((one for one in ";\t|" if one in next(iter(types))), "")):
            remedy = f"Save it with commas: its values seem to be separated by {sign!r}."
            raise MissingColumnError(str(file), f"has one column alone, and no {label!r}", remedy=remedy)
        raise MissingColumnError(
            str(file),
            f"has no column {label!r} to predict",
            expected=f"one of {', '.join(types)}",
            remedy=f"Did you mean {guess!r}?" if guess else "",
        )
    table = pa.Table.from_batches(list(read_batches(file, file_format, types)))
    columns = tuple(_column(name, types[name], table[name], name == label) for name in types)
    task, majority, target = _task(file, table, columns, label)
    columns = tuple(target if column.name == label else column for column in columns)
    _refuse_alike(file, columns)
    if not any(column.role in ("number", "category") for column in columns):
        raise DataError(str(file), "has no column to predict from", expected="numbers, or text with few values")
    return Profile(file.resolve(), file_format, table.num_rows, task, columns, label, majority)


def _refuse_alike(file: Path, columns: tuple[Column, ...]) -> None:
    """Two columns whose names differ only in signs that TensorFlow does not take would be one feature."""
    seen: dict[str, str] = {}
    for column in columns:
        plain = "".join(letter if letter.isalnum() else "_" for letter in column.name)
        if plain in seen:
            raise DataError(
                str(file),
                f"has two columns with names that TensorFlow cannot tell apart: {seen[plain]!r} and {column.name!r}",
                remedy="Rename one of them.",
            )
        seen[plain] = column.name


def _column(name: str, kind: ColumnType, values: Any, is_label: bool) -> Column:
    missing, distinct, rows = values.null_count, pc.count_distinct(values).as_py(), len(values)
    mean, deviation = 0.0, 0.0
    if kind is not ColumnType.BYTES and missing < rows:
        mean, deviation = float(pc.mean(values).as_py()), float(pc.stddev(values).as_py())
    role, why = _role(kind, distinct, rows - missing)
    if role in ("number", "category") and (odd := _of_no_use(kind, distinct, values)):
        role, why = "ignored", odd
    return Column(name, kind, "label" if is_label else role, missing, distinct, why, (), mean, deviation)


def _role(kind: ColumnType, distinct: int, present: int) -> tuple[Role, str]:
    if distinct < 2:
        return "ignored", "it has no two different values"
    if kind is ColumnType.FLOAT:
        return "number", ""
    if kind is ColumnType.INT:
        return ("category" if distinct <= _FEW_WHOLE_NUMBERS else "number"), ""
    if distinct > _MOST_WORDS or distinct > present / 2:
        return "ignored", f"its {distinct:,} different texts among {present:,} look like names or free text"
    return "category", ""


def _of_no_use(kind: ColumnType, distinct: int, values: Any) -> str:
    """Why the values are of no use as they are, for those of rows to come are others; "" where nothing tells so."""
    if kind is ColumnType.INT and distinct >= _FEWEST_TO_COUNT and _counts_up(distinct, values.drop_null()):
        return f"its {distinct:,} whole numbers, each in one row, look like an identifier or the time of the row"
    if kind is ColumnType.BYTES and pc.all(pc.match_substring_regex(values, _DATE)).as_py():
        return (
            "its texts are dates, of which new ones come; take from them what counts (weekday, age) in preprocessing_fn"
        )
    return ""


def _counts_up(distinct: int, present: Any) -> bool:
    """Whether the values, all different, rise from row to row, or fill half of their range and more."""
    if distinct < len(present):
        return False
    ends = pc.min_max(present).as_py()
    rises = pc.all(pc.greater(present[1:], present[:-1])).as_py()
    return bool(rises) or ends["max"] - ends["min"] < 2 * distinct


def _task(file: Path, table: Any, columns: tuple[Column, ...], label: str) -> tuple[Task, float, Column]:
    column = next(one for one in columns if one.name == label)
    if column.missing:
        raise DataError(
            f"{file}, label {label!r}",
            f"is missing in {column.missing:,} of {table.num_rows:,} rows",
            remedy="Take those rows out, or fill the label in.",
        )
    if column.distinct < 2:
        raise DataError(f"{file}, label {label!r}", "has one value only", expected="at least two different values")
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(table[label].combine_chunks()).to_pylist()}
    is_whole = column.type is not ColumnType.FLOAT or all(float(value).is_integer() for value in counts)
    if is_whole and len(counts) <= _MOST_CLASSES and min(counts.values()) >= _FEWEST_PER_CLASS:
        classes = tuple(sorted(counts))
        target = _with_values(column, classes)
        return ("binary" if len(classes) == 2 else "multiclass"), max(counts.values()) / table.num_rows, target
    if column.type is ColumnType.BYTES:
        rarest = min(counts, key=lambda value: counts[value])
        raise DataError(
            f"{file}, label {label!r}",
            f"has {len(counts):,} different texts, the rarest ({_text(rarest)!r}) in {counts[rarest]} rows",
            expected=f"at most {_MOST_CLASSES} classes with at least {_FEWEST_PER_CLASS} rows each, or a number",
        )
    return "regression", 0.0, column


def _with_values(column: Column, values: tuple[Any, ...]) -> Column:
    fields: Mapping[str, Any] = {**vars(column), "values": values}
    return Column(**fields)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
