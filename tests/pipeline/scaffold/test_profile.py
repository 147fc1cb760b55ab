"""What each column of a person's data is good for, and what is said where the label cannot be learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from components.example_gen.columns import ColumnType
from pipeline.scaffold.profile import Profile, profile_of
from schemas.errors import DataError, MissingColumnError

ROWS = 40


def csv_of(folder: Path, **columns: list[Any]) -> Path:
    """A CSV file with these columns; None is an empty cell."""
    file = folder / "data.csv"
    lines = [",".join(columns)]
    lines += [
        ",".join("" if value is None else str(value) for value in row) for row in zip(*columns.values(), strict=True)
    ]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def profile(folder: Path, **columns: list[Any]) -> Profile:
    """Of a file with these columns, and a binary label beside them where they hold none."""
    return profile_of(csv_of(folder, **{"label": [n % 2 for n in range(ROWS)], **columns}), "label")


NUMBERS = [n * 1.5 for n in range(ROWS)]


@pytest.mark.parametrize(
    ("values", "role"),
    [
        (NUMBERS, "number"),
        (list(range(ROWS)), "number"),
        ([n % 16 for n in range(ROWS)], "category"),
        ([n % 17 for n in range(ROWS)], "number"),
        ([f"word{n % 5}" for n in range(ROWS)], "category"),
        ([f"word{n % 20}" for n in range(ROWS)], "category"),
        ([f"word{n % 21}" for n in range(ROWS)], "ignored"),
        ([3.5] * ROWS, "ignored"),
        ([None] * ROWS, "ignored"),
        ([None, *NUMBERS[1:]], "number"),
        ([None, "a", *["b"] * (ROWS - 2)], "category"),
    ],
)
def test_roles(tmp_path, values, role) -> None:
    """Numbers, words that come again, and what neither learns nor tells anything."""
    found = profile(tmp_path, column=values, other=NUMBERS)
    column = found.columns[1]
    assert column.role == role
    assert bool(column.why) == (role == "ignored")
    assert column.missing == values.count(None)


def test_why_a_column_is_ignored(tmp_path) -> None:
    """In words for a person."""
    found = profile(tmp_path, same=["x"] * ROWS, names=[f"Ann {n}" for n in range(ROWS)], other=NUMBERS)
    assert {column.name: column.why for column in found.columns if column.role == "ignored"} == {
        "same": "it has no two different values",
        "names": "its 40 different texts among 40 look like names or free text",
    }
    assert (found.named("ignored"), found.named("number")) == (["same", "names"], ["other"])


COUNT = 120
SHUFFLED = [1000 + n * 7 % COUNT for n in range(COUNT)]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1600000000 + n * n for n in range(COUNT)], "its 120 whole numbers, each in one row, look like an identifier"),
        ([None, *range(1, COUNT)], "its 119 whole numbers, each in one row, look like an identifier"),
        (SHUFFLED, "its 120 whole numbers, each in one row, look like an identifier"),
        ([n * n * (-1) ** n for n in range(COUNT)], ""),
        ([*range(COUNT - 1), 3], ""),
        ([f"2026-11-{n % 28 + 1:02}" for n in range(COUNT)], "its texts are dates"),
        ([None, *(f"2026-11-{n % 28 + 1:02} 10:{n % 2:02}:00" for n in range(1, COUNT))], "its texts are dates"),
        ([f"2026-11-{n % 28 + 1:02}" if n else "unknown" for n in range(COUNT)], ""),
    ],
)
def test_values_that_never_come_again(tmp_path, values, words) -> None:
    """An identifier, the time of a row or a date: as they are, nothing of them holds for the rows to come."""
    file = csv_of(tmp_path, label=[n % 2 for n in range(COUNT)], column=values, other=[n * 1.5 for n in range(COUNT)])
    column = profile_of(file, "label").columns[1]
    assert (column.role == "ignored") == bool(words)
    assert column.why.startswith(words)


def test_what_is_known_of_a_number(tmp_path) -> None:
    """Mean and deviation, over the values that are there."""
    found = profile(tmp_path, column=[1, 3] * (ROWS // 2), other=NUMBERS)
    assert (found.columns[1].mean, found.columns[1].deviation, found.columns[1].distinct) == (2.0, 1.0, 2)
    assert found.rows == ROWS


@pytest.mark.parametrize(
    ("values", "task", "classes", "majority"),
    [
        ([n % 2 for n in range(ROWS)], "binary", (0, 1), 0.5),
        (["yes"] * 30 + ["no"] * 10, "binary", (b"no", b"yes"), 0.75),
        ([1.0, 2.0] * (ROWS // 2), "binary", (1.0, 2.0), 0.5),
        (["a", "b", "c", "c"] * (ROWS // 4), "multiclass", (b"a", b"b", b"c"), 0.5),
        ([n % 10 for n in range(ROWS)], "multiclass", tuple(range(10)), 0.1),
        (NUMBERS, "regression", (), 0.0),
        (list(range(ROWS)), "regression", (), 0.0),
        ([0.5, 1.5] * (ROWS // 2), "regression", (), 0.0),
    ],
)
def test_the_task_follows_from_the_label(tmp_path, values, task, classes, majority) -> None:
    """Few whole numbers or texts are classes, in their order; else it is a number to predict."""
    found = profile(tmp_path, label=values, other=NUMBERS)
    assert (found.task, found.label_column.values, found.majority) == (task, classes, majority)
    assert found.label_column.role == "label"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([None, *[n % 2 for n in range(ROWS - 1)]], "is missing in 1 of 40 rows. Take those rows out"),
        ([1] * ROWS, "has one value only; expected at least two different values"),
        (
            [f"Ann {n}" for n in range(ROWS)],
            "has 40 different texts, the rarest ('Ann 0') in 1 rows; expected at most 50",
        ),
    ],
)
def test_labels_that_cannot_be_learned(tmp_path, values, words) -> None:
    """Said with the label and the file."""
    with pytest.raises(DataError) as refusal:
        profile(tmp_path, label=values, other=NUMBERS)
    assert str(refusal.value).startswith(f"{tmp_path}/data.csv, label 'label': ")
    assert words in str(refusal.value)


def test_a_label_that_is_not_there(tmp_path) -> None:
    """The columns are listed, and the one that was meant is offered."""
    file = csv_of(tmp_path, label=[0, 1], other=[1, 2])
    with pytest.raises(MissingColumnError) as refusal:
        profile_of(file, "lable")
    assert str(refusal.value) == (
        f"{file}: has no column 'lable' to predict; expected one of label, other. Did you mean 'label'?"
    )


def test_a_file_that_is_not_there(tmp_path) -> None:
    """The nearest name beside it is offered; a format that is not read is named."""
    csv_of(tmp_path, label=[0, 1])
    with pytest.raises(DataError, match=r"dta\.csv: there is no such file\. Did you mean 'data\.csv'\?"):
        profile_of(tmp_path / "dta.csv", "label")
    (tmp_path / "data.xlsx").touch()
    with pytest.raises(
        DataError, match=r"is neither CSV, Parquet, Arrow nor TFRecord; expected a name that ends in \.csv, \.parquet"
    ):
        profile_of(tmp_path / "data.xlsx", "label")


def test_several_files(tmp_path) -> None:
    """A folder or a pattern is told what to do instead; a file may have a star in its name."""
    csv_of(tmp_path, label=[0, 1])
    for given in (tmp_path, tmp_path / "*.csv"):
        with pytest.raises(DataError, match="is not one file, and `init` looks at one") as caught:
            profile_of(given, "label")
        assert f"data.source.path of what is written: {tmp_path / '*.csv'}." in str(caught.value)
    odd = csv_of(tmp_path, label=[n % 2 for n in range(ROWS)], x=NUMBERS).rename(tmp_path / "a*.csv")
    assert profile_of(odd, "label").rows == ROWS


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_another_separator_than_a_comma(tmp_path, sign) -> None:
    """Is not taken for a name of a column in silence."""
    file = tmp_path / "data.csv"
    file.write_text(f"a{sign}label\n1{sign}0\n2{sign}1\n", encoding="utf-8")
    with pytest.raises(MissingColumnError, match="has one column alone, and no 'label'") as caught:
        profile_of(file, "label")
    assert f"Save it with commas: its values seem to be separated by {sign!r}." in str(caught.value)


def test_nothing_to_predict_from(tmp_path) -> None:
    """A label alone, or beside names only, is refused."""
    with pytest.raises(DataError, match="has no column to predict from"):
        profile(tmp_path, names=[f"Ann {n}" for n in range(ROWS)])


def test_names_that_tensorflow_cannot_tell_apart(tmp_path) -> None:
    """Both are named."""
    with pytest.raises(DataError, match=r"cannot tell apart: 'a b' and 'a-b'\. Rename one of them"):
        profile(tmp_path, **{"a b": NUMBERS, "a-b": NUMBERS})


def test_parquet(tmp_path) -> None:
    """By its own types; the suffix is read without regard to case."""
    table = pa.table(
        {
            "label": pa.array(["yes", "no"] * (ROWS // 2)).dictionary_encode(),
            "real": pa.array(NUMBERS, pa.float32()),
            "flag": pa.array([True, False, None, True] * (ROWS // 4)),
            "small": pa.array([n % 3 for n in range(ROWS)], pa.int8()),
        }
    )
    file = tmp_path / "data.PARQUET"
    pyarrow.parquet.write_table(table, file)
    found = profile_of(file, "label")
    assert (found.format, found.task, found.rows) == ("parquet", "binary", ROWS)
    assert [(one.name, one.type, one.role) for one in found.columns] == [
        ("label", ColumnType.BYTES, "label"),
        ("real", ColumnType.FLOAT, "number"),
        ("flag", ColumnType.INT, "category"),
        ("small", ColumnType.INT, "category"),
    ]
    assert found.columns[2].missing == 10


def test_bytes_that_are_no_text(tmp_path) -> None:
    """Are a category like any other: whether they are dates is asked of bytes."""
    file = tmp_path / "data.parquet"
    table = pa.table(
        {"label": [n % 2 for n in range(ROWS)], "code": [(b"\xff\xfe", b"a")[n % 3 > 0] for n in range(ROWS)]}
    )
    pyarrow.parquet.write_table(table, file)
    assert profile_of(file, "label").named("category") == ["code"]
