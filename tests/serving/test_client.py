"""Rows out of files, as the client reads them."""

from __future__ import annotations

import json
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import DataError
from serving import client
from serving.client import read_rows

VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30)
ROWS = st.lists(st.dictionaries(st.text(max_size=5), VALUES | st.lists(VALUES, max_size=3), max_size=3), max_size=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rows")


@given(ROWS, st.integers(1, 40), st.sampled_from([None, 0, 3]), st.booleans())
def test_json_in_pieces(folder, rows, chunk, indent, ascii_only):
    """Wherever the pieces end, the rows are those of the file."""
    file = folder / "rows.json"
    file.write_text(f" \n{json.dumps(rows, indent=indent, ensure_ascii=ascii_only)}\n ", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "_CHUNK", chunk)
        assert list(read_rows(file)) == rows


def test_json_is_read_as_far_as_it_is_asked_for(folder):
    """The first rows of a file that is broken further down are there; of an endless one the error comes at once."""
    file = folder / "large.json"
    row = json.dumps({"x": 1.5, "text": "a" * 50})
    file.write_text("[" + ",".join([row] * 5000) + ", odd")
    rows = read_rows(file)
    assert len(list(islice(rows, 4000))) == 4000
    with pytest.raises(DataError, match="does not parse"):
        list(rows)


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "[1",
        '[{"a": 1}',
        '[{"a": 1},',
        '[{"a": 1},]',
        '[{"a": 1} {"a": 1}]',
        "[] []",
        "[,]",
        '[{"a": "b',
        "",
        "{}",
        "3",
    ],
)
def test_json_that_is_no_list_of_rows(folder, text):
    """Is named as such."""
    file = folder / "odd.json"
    file.write_text(text)
    with pytest.raises(DataError, match="does not parse"):
        list(read_rows(file))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "x,s\n1,a\n2,b\n"),
        ("a.jsonl", '{"x": "1", "s": "a"}\n\n{"x": "2", "s": "b"}\n'),
        ("a.json", '{"instances": [{"x": "1", "s": "a"}, {"x": "2", "s": "b"}]}'),
    ],
)
def test_formats(folder, name, text):
    """CSV with a header, one object a line, and a request as REST takes it."""
    (folder / name).write_text(text)
    assert list(read_rows(folder / name)) == [{"x": "1", "s": "a"}, {"x": "2", "s": "b"}]
