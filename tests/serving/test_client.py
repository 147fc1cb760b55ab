"""Rows out of files as the client reads them, and what it makes of servers that are none."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import DataError, SatisficeError
from serving import client
from serving.client import RestClient, read_rows

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


class Answering:
    """A server that gives every connection one answer."""

    def __init__(self, answer: bytes) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.answer = answer
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(self.answer)


def http(body: bytes, *more: bytes) -> bytes:
    head = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), b"Connection: close", *more]
    return b"\r\n".join([*head, b"", body])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03", "answers in another language"),  # a gRPC port
        (b"", "does not answer: Remote end closed connection"),
        (http(b"{"), "answers in another language"),
        (http(b"x", b"Content-Encoding: gzip"), "does not answer|answers in another language"),
        (http(b"[]"), "answers, and not as TF Serving does"),
        (http(b'{"metadata": 1}'), "answers, and not as TF Serving does"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "answers in another language"),
        (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n", "HTTP 302"),
    ],
)
def test_servers_of_another_kind(answer: bytes, words: str) -> None:
    """One error, in which a terminal can show everything."""
    server = Answering(answer)
    with pytest.raises(SatisficeError, match=words) as caught:
        RestClient(server.address, "taxi", timeout_s=20).inputs()
    assert str(caught.value).isprintable()
    server.socket.close()


@pytest.mark.parametrize("address", ["localhost:abc", "localhost:99999", "[::1", "a b:1", "127.0.0.1:1", "ftp://x", ""])
def test_odd_addresses(address: str) -> None:
    """Are no traceback."""
    with pytest.raises(SatisficeError):
        RestClient(address, "taxi", timeout_s=5).inputs()


def test_numbers_over_grpc_are_those_over_rest() -> None:
    """In as few digits as tell a number apart in its own type; bytes are text, or else base64."""
    numbers = np.array([[0.1, 0.13926226], [1e-30, 3.0]], np.float32)
    assert json.dumps(client._as_rest(numbers)) == "[[0.1, 0.13926226], [1e-30, 3.0]]"
    assert client._as_rest(np.array([0.1])) == [0.1]
    assert client._as_rest(np.array([1, 2], np.int64)) == [1, 2]
    assert client._as_rest(np.array([np.nan, np.inf], np.float32))[1] == np.inf
    assert client._as_rest(np.array([[b"a"], [b"\xff"]], object)) == [["a"], [{"b64": "/w=="}]]
