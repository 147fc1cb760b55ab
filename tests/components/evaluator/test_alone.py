"""Which rows count for an evaluation of the model now served, and what is told where there is none to make."""

import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.evaluator.alone import Job, labelled_rows, main
from components.example_gen.split import split_of

SCHEMA = """
feature { name: "id" type: INT }
feature { name: "tips" type: FLOAT }
feature { name: "kind" type: BYTES }
"""
SPLITS = {"train": 7, "validate": 1, "eval": 2}


def job(**others):
    return Job(
        **{
            "model": "/gone", "digest": "d", "label": "big", "gates": {"satisfy": [{"metric": "auc", "min": 0.5}]},
            "schema": SCHEMA, "format": "parquet", "files": [], "grown": [], "splits": SPLITS, "labelled": [], "least": 1,
            **others,
        }
    )  # fmt: skip


@pytest.fixture
def file(tmp_path):
    """200 rows: a tip is missing in each tenth, no number in the one after it, a kind empty or missing in two more."""
    numbers = range(200)
    tips = [None if n % 10 == 0 else math.nan if n % 10 == 1 else float(n) for n in numbers]
    kinds = [None if n % 10 == 2 else "" if n % 10 == 3 else "cash" for n in numbers]
    types = pa.schema([("id", pa.int64()), ("tips", pa.float32()), ("kind", pa.large_binary())])
    table = pa.table({"id": list(numbers), "tips": tips, "kind": kinds}, types)
    pq.write_table(table, tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"


def numbers(given):
    return [number for batch in labelled_rows(given) for number in batch.column("id").to_pylist()]


@pytest.mark.parametrize(
    ("labelled", "without"), [([], ()), (["tips"], (0, 1)), (["kind"], (2, 3)), (["tips", "kind"], (0, 1, 2, 3))]
)
def test_rows_without_a_label(file, labelled, without):
    """Missing, NaN and empty are no values, and each column needs one."""
    found = numbers(job(files=[str(file)], labelled=labelled))
    assert found == [number for number in range(200) if number % 10 not in without]


def test_rows_of_a_file_that_has_grown(file):
    """Count with their eval split: the very rows that a run would put there."""
    (batch,) = labelled_rows(job(files=[str(file)]))
    places = split_of(batch, SPLITS).tolist()
    expected = [number for number, place in enumerate(places) if place == 2]
    assert numbers(job(grown=[str(file)])) == expected
    assert 20 < len(expected) < 60


def test_too_few_rows(file, tmp_path):
    """Are counted, and no model is loaded."""
    (tmp_path / "job.json").write_text(json.dumps(job(files=[str(file)], least=201).as_dict()))
    main(str(tmp_path / "job.json"), str(tmp_path / "result.json"))
    assert json.loads((tmp_path / "result.json").read_text()) == {"rows": 200, "figures": []}


def test_a_file_that_is_gone(tmp_path: Path):
    """Is a problem in words."""
    (tmp_path / "job.json").write_text(json.dumps(job(files=[str(tmp_path / "x.parquet")]).as_dict()))
    main(str(tmp_path / "job.json"), str(tmp_path / "result.json"))
    assert "x.parquet" in json.loads((tmp_path / "result.json").read_text())["problem"]
