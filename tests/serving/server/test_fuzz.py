"""Requests that mean harm: an error each, and the server stays up and small."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import logging
import random
import re
import shutil
import socket
from pathlib import Path

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import model_management_pb2, predict_pb2

from serving.server.app import ModelServer, ServerOptions
from serving.server.config import ModelConfig
from serving.server.manager import Options
from tests.serving.server.asking import channel_to, request_for, rest, stub

LIMIT = 8 << 20
METHODS = [
    f"/tensorflow.serving.{method}"
    for method in (
        "PredictionService/Predict",
        "PredictionService/Classify",
        "PredictionService/Regress",
        "PredictionService/MultiInference",
        "PredictionService/GetModelMetadata",
        "ModelService/GetModelStatus",
    )
]


@pytest.fixture(scope="module")
def server(small_models, tmp_path_factory):
    base = tmp_path_factory.mktemp("fuzz") / "m"
    shutil.copytree(small_models / "half" / "1", base / "1")
    options = ServerOptions(grpc_port=0, rest_port=0, versions=Options(poll_s=1), max_request_bytes=LIMIT, threads=4)
    with ModelServer([ModelConfig("m", base)], options) as one:
        yield one


@pytest.fixture(scope="module")
def channel(server):
    with channel_to(server) as one:
        yield one


@pytest.fixture(autouse=True)
def _still_up(server):
    """After each test the server answers as before, over both interfaces, and has not grown by more than 256 MB."""
    before = memory_mb()
    yield
    assert list(stub(server).Predict(request_for(1), timeout=60).outputs["y"].float_val) == [2.5]
    assert rest(server, "/v1/models/m:predict", {"instances": [1]}) == (200, '{"predictions": [2.5]}')
    assert memory_mb() - before < 256


def memory_mb():
    return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def send(channel, body, method=METHODS[0]):
    """The status of a call with any bytes for its message."""
    try:
        channel.unary_unary(method)(body, timeout=60)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


# --- gRPC -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_truncated_and_altered_messages(channel, method):
    """Whatever parses is answered or refused, whatever does not is refused."""
    whole = request_for(1, 2, 3, signature="serving_default").SerializeToString()
    chance = random.Random(method)
    bodies = [whole[:length] for length in range(0, len(whole), 3)]
    for _ in range(60):
        altered = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            altered[chance.randrange(len(altered))] = chance.randrange(256)
        bodies.append(bytes(altered))
    bodies += [chance.randbytes(chance.randint(1, 200)) for _ in range(40)]
    known = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED"}
    codes = {send(channel, body, method) for body in bodies}
    assert codes - known <= {"INTERNAL"}  # what does not parse: gRPC's own answer
    assert codes & known


TENSORS = st.builds(
    lambda dtype, sizes, content, floats, texts: (dtype, sizes, content, floats, texts),
    st.sampled_from([*types_pb2.DataType.values(), 9999]),
    st.lists(st.sampled_from([-1, 0, 1, 2, 3, 7, 1 << 31, 1 << 40, (1 << 63) - 1]), max_size=5),
    st.none() | st.binary(max_size=24),
    st.lists(st.floats(width=32), max_size=4),
    st.lists(st.binary(max_size=4), max_size=3),
)
NAMES = st.sampled_from(["x", "a", "b", "s", "inputs", "", "y", "../x", "x:0"])
SIGNATURES = st.sampled_from(["", "serving_default", "several", "classify", "regress", "positive", "odd"])


@settings(max_examples=200)
@given(st.dictionaries(NAMES, TENSORS, max_size=4), SIGNATURES, st.lists(NAMES, max_size=3))
def test_any_tensors(channel, tensors, signature, outputs):
    """Wrong types, shapes, names, encodings: never an error of the server's own."""
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = "m"
    request.model_spec.signature_name = signature
    for name, (dtype, sizes, content, floats, texts) in tensors.items():
        proto = tensor_pb2.TensorProto(dtype=dtype, float_val=floats, string_val=texts)
        if content is not None:
            proto.tensor_content = content
        for size in sizes:
            proto.tensor_shape.dim.add(size=size)
        request.inputs[name].CopyFrom(proto)
    assert send(channel, request.SerializeToString()) in ("OK", "INVALID_ARGUMENT", "FAILED_PRECONDITION")


@pytest.mark.parametrize("dtype", [types_pb2.DT_FLOAT, types_pb2.DT_STRING, types_pb2.DT_INT64])
def test_shapes_that_claim_memory(channel, dtype):
    """A few bytes that stand for terabytes, many of them at once."""
    request = request_for(1)
    request.inputs["x"].CopyFrom(tensor_pb2.TensorProto(dtype=dtype))
    request.inputs["x"].tensor_shape.dim.add(size=1 << 40)
    body = request.SerializeToString()
    calls = [channel.unary_unary(METHODS[0]).future(body, timeout=60) for _ in range(50)]
    assert {call.exception().code().name for call in calls} == {"INVALID_ARGUMENT"}


def test_a_million_dimensions(channel):
    """Their product is not formed."""
    request = request_for(1)
    for _ in range(300_000):
        request.inputs["x"].tensor_shape.dim.add(size=(1 << 63) - 1)
    assert send(channel, request.SerializeToString()) == "INVALID_ARGUMENT"


def test_large_messages_and_names(channel):
    """Above the limit, also by far, or of a megabyte in a name that an error would repeat."""
    for size in (LIMIT, 100 << 20):
        assert send(channel, request_for(1).SerializeToString() + bytes(size)) == "RESOURCE_EXHAUSTED"
    for change in (
        lambda request: setattr(request.model_spec, "name", "n" * (1 << 20)),
        lambda request: setattr(request.model_spec, "signature_name", "s" * (1 << 20)),
        lambda request: setattr(request.model_spec, "version_label", "l" * (1 << 20)),
        lambda request: request.output_filter.append("o" * (1 << 20)),
        lambda request: request.inputs["i" * (1 << 20)].CopyFrom(request.inputs["x"]),
    ):
        request = request_for(1)
        change(request)
        assert send(channel, request.SerializeToString()) in ("NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION")


@pytest.mark.parametrize("name", ["", ".", "..", "../m", "m/../m", "m/1", "/etc/passwd", "m\0", "m ", "M", "\u202em"])
def test_odd_model_names(channel, name):
    """A name is looked up, and never a path."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    body = request.SerializeToString()  # the field stands first in the other messages too, but one
    codes = [send(channel, body, method) for method in METHODS if "MultiInference" not in method]
    assert set(codes) <= {"NOT_FOUND", "INVALID_ARGUMENT"}
    assert codes[-1] == "NOT_FOUND"


def test_reloads_that_were_cut_off(channel, tmp_path):
    """Change nothing."""
    config = model_management_pb2.ReloadConfigRequest()
    config.config.model_config_list.config.add(name="n", base_path=str(tmp_path), model_platform="tensorflow")
    whole = config.SerializeToString()
    chance = random.Random(7)
    bodies = [whole[:length] for length in range(len(whole))] + [chance.randbytes(20) for _ in range(40)]
    codes = {send(channel, body, "/tensorflow.serving.ModelService/HandleReloadConfigRequest") for body in bodies}
    assert codes <= {"INVALID_ARGUMENT", "INTERNAL"}


def test_unknown_methods(channel):
    """And services."""
    for method in ("/tensorflow.serving.PredictionService/Odd", "/odd.Service/Predict"):
        assert send(channel, b"", method) == "UNIMPLEMENTED"


# --- REST -------------------------------------------------------------------------------------------------------------


def test_what_is_no_http_is_one_line_of_the_log(server):
    """A stranger does not fill it with tracebacks."""
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(handler.format(record))
    logger = logging.getLogger("aiohttp.server")
    logger.addHandler(handler)
    try:
        for request in (b"GET / HTTP/1.1\r\nContent-Length: abc\r\n\r\n", b"\x16\x03\x01\x02\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", server.rest_port), timeout=60) as connection:
                connection.sendall(request)
                assert connection.recv(100).startswith(b"HTTP/1.")
    finally:
        logger.removeHandler(handler)
    assert said
    assert not [line for line in said if "\n" in line]


def raw(server, verb, path, body=b"", headers=None):
    """Status and text of a request whose path is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)
    try:
        connection.putrequest(verb, path, skip_host=False, skip_accept_encoding=True)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            connection.putheader(name, value)
        connection.endheaders()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before it was sent as a whole
            connection.send(body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/../../etc/passwd",
        "/v1/models/..%2f..%2fetc%2fpasswd",
        "/v1/models/%2e%2e/versions/1",
        "/v1/models/m%00",
        "/v1/models/m/versions/" + "9" * 19,
        "/v1/models/m/versions/" + "9" * 5000,
        "/v1/models/m/versions/-1",
        "/v1/models/m/versions/%D9%A3",
        "/v1/models/m/labels/..%2F",
        "/v1/models/%ff%fe",
        "/v1/models/%F0%9F%98%80/metadata",
        "/v1/models//metadata",
        "/v1/models/m/versions/1/labels/x",
        "/v1/models/" + "m" * 8000,
        "/v1/",
        "/v2/models/m",
        "/",
        "/monitoring/../v1/models/odd",
    ],
)
def test_odd_paths(server, path):
    """400 or 404, and nothing of the machine's files."""
    for verb in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
        for end in ("", ":predict", ":%70redict"):
            status, text = raw(server, verb, path + end, b'{"instances": [1]}' if verb == "POST" else b"")
            assert status in (200, 400, 404), (status, text)
            assert "root:" not in text
            if status == 200:
                assert (verb, path, end) == ("GET", "/v1/models/m/labels/..%2F", "")  # the status has no labels


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"instances": ' + b"[" * 900 + b"1" + b"]" * 900 + b"}",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"instances": [' + b'{"x": ' * 500 + b"1" + b"}" * 500 + b"]}",
        b'{"instances": ["\\ud800"], "signature_name": "several"}',
        b'{"signature_name": "\\ud800", "instances": [1]}',
        b'{"inputs": {"a": [[1, 2]], "b": [1], "s": ["\\udfff"]}, "signature_name": "several"}',
        b'{"instances": [1e999, -1e999, NaN]}' + b" " * 100 + b"x",
        b"\x00" * 1000,
        b"\xff" * 1000,
        b"{" * 1000,
        b'"' * 999,
        b'{"instances": [' + b"1," * 100 + b"]}",
    ],
    ids=lambda body: body[:24].decode(errors="replace"),
)
@pytest.mark.parametrize("method", ["predict", "classify", "regress"])
def test_odd_bodies(server, body, method):
    """400 with a message of bounded length."""
    status, text = rest(server, f"/v1/models/m:{method}", body)
    assert status == 400, text[:200]
    assert len(json.loads(text)["error"]) <= 2000


@pytest.mark.parametrize("unit", [b"[],", b"{},", b"1,", b'"a",', b"1.5,"], ids=str)
def test_bodies_of_the_largest_size(server, unit):
    """JSON takes many times its size in memory; it is given back."""
    body = b'{"instances": [' + unit * ((LIMIT - 100) // len(unit)) + b"1]}"
    status, text = rest(server, "/v1/models/m:predict", body)
    assert status in (200, 400), text[:200]


def test_bodies_that_are_too_large(server):
    """Plain, or out of a few compressed bytes."""
    large = b'{"instances": [' + b" " * (100 << 20) + b"1]}"
    status, text = raw(server, "POST", "/v1/models/m:predict", large)
    assert (status, json.loads(text)) == (413, {"error": f"the request has more than {LIMIT} bytes"})
    bomb = gzip.compress(large, 9)
    assert len(bomb) < 200_000
    before = memory_mb()
    status, text = raw(server, "POST", "/v1/models/m:predict", bomb, {"Content-Encoding": "gzip"})
    assert (status, json.loads(text)) == (413, {"error": f"the request has more than {LIMIT} bytes"})
    assert memory_mb() - before < 64


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "odd"])
def test_bodies_that_are_not_compressed_as_they_say(server, encoding):
    """Are refused."""
    status, text = raw(server, "POST", "/v1/models/m:predict", b"\x1f\x8bodd", {"Content-Encoding": encoding})
    assert status == 400, text
