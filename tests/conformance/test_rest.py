"""The REST interface: paths, rows and columns, base64, compression, status codes and messages."""

from __future__ import annotations

import base64
import gzip
import json

import pytest

HALF = "/v1/models/half"


def test_rows(target):
    """`instances` are answered as `predictions`, in order."""
    assert target.rest(f"{HALF}:predict", {"instances": [1.0, 2, 5]}) == (200, {"predictions": [3.5, 4.0, 5.5]})


def test_rows_of_objects(target):
    """One object for each row where an input has a name."""
    status, answer = target.rest(f"{HALF}:predict", {"instances": [{"x": 1.0}, {"x": 3.0}]})
    assert (status, answer) == (200, {"predictions": [3.5, 4.5]})


def test_columns(target):
    """`inputs` are answered as `outputs`; a signature with one input and one output needs no names."""
    assert target.rest(f"{HALF}:predict", {"inputs": [1.0, 2.0]}) == (200, {"outputs": [3.5, 4.0]})
    assert target.rest(f"{HALF}:predict", {"inputs": {"x": [1.0]}}) == (200, {"outputs": [3.5]})


def test_several_inputs_and_outputs(target):
    """By rows, with base64 in and out: an output whose name ends in `_bytes` is written so."""
    text = base64.b64encode(b"\xff\x00").decode()
    rows = [{"a": [1, 2], "b": 3, "s": "x"}, {"a": [0.5, 0], "b": -1, "s": {"b64": base64.b64encode(b"y").decode()}}]
    status, answer = target.rest(f"{HALF}:predict", {"signature_name": "several", "instances": rows})
    assert status == 200, answer
    assert answer["predictions"] == [
        {"sum": 6.0, "twice": 6, "text": "xx", "raw_bytes": {"b64": base64.b64encode(b"x").decode()}},
        {"sum": -0.5, "twice": -2, "text": "yy", "raw_bytes": {"b64": base64.b64encode(b"y").decode()}},
    ]
    inputs = {"a": [[1, 2]], "b": [3], "s": [{"b64": text}]}
    status, answer = target.rest(f"{HALF}:predict", {"signature_name": "several", "inputs": inputs})
    assert status == 200, answer
    assert answer["outputs"]["raw_bytes"] == [{"b64": text}]
    assert answer["outputs"]["twice"] == [6]


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/versions/1", 2.5), ("/versions/2", 3.5), ("/labels/stable", 2.5), ("/labels/canary", 3.5), ("", 3.5)],
)
def test_versions_and_labels(target, path, expected):
    """A version, a label, or the highest available."""
    assert target.rest(f"{HALF}{path}:predict", {"instances": [1.0]}) == (200, {"predictions": [expected]})


def test_the_path_has_no_case(target):
    """But for the model's name."""
    assert target.rest("/V1/Models/half:PREDICT", {"instances": [1.0]})[0] == 200


def test_classify(target):
    """Classes with scores, highest columns last, one list for each example; the context is joined to each."""
    status, answer = target.rest(
        f"{HALF}:classify", {"signature_name": "classify", "examples": [{"x": 0.25}, {"x": 1.0}]}
    )
    assert (status, answer) == (200, {"results": [[["low", 0.75], ["high", 0.25]], [["low", 0.0], ["high", 1.0]]]})
    body = {"signature_name": "classify", "context": {"x": 0.5}, "examples": [{}]}
    assert target.rest(f"{HALF}:classify", body) == (200, {"results": [[["low", 0.5], ["high", 0.5]]]})


def test_regress(target):
    """One number for each example."""
    body = {"signature_name": "regress", "examples": [{"x": 1.0}, {"x": [2.0]}]}
    assert target.rest(f"{HALF}:regress", body) == (200, {"results": [3.5, 4.0]})


def test_gzip(target):
    """A compressed request is read."""
    body = gzip.compress(json.dumps({"instances": [1.0]}).encode())
    answer = target.rest(f"{HALF}:predict", body, {"Content-Encoding": "gzip"})
    assert answer == (200, {"predictions": [3.5]})


def test_status(target):
    """All versions that are known, the highest first; or one."""
    status, answer = target.rest(HALF)
    assert status == 200
    assert [(one["version"], one["state"]) for one in answer["model_version_status"]] == [
        ("2", "AVAILABLE"),
        ("1", "AVAILABLE"),
    ]
    assert answer["model_version_status"][0]["status"] == {"error_code": "OK", "error_message": ""}
    status, answer = target.rest(f"{HALF}/versions/1")
    assert [one["version"] for one in answer["model_version_status"]] == ["1"]


def test_latest_serves_the_highest_alone(target):
    """Of three versions the third, and no other."""
    status, answer = target.rest("/v1/models/latest")
    assert status == 200
    assert [one["version"] for one in answer["model_version_status"] if one["state"] == "AVAILABLE"] == ["3"]
    status, answer = target.rest("/v1/models/latest/versions/1:predict", {"instances": [1.0]})
    assert (status, answer) == (404, {"error": "Servable not found for request: Specific(latest, 1)"})


def test_metadata(target):
    """Every signature with its inputs and outputs."""
    status, answer = target.rest(f"{HALF}/metadata")
    assert status == 200
    assert answer["model_spec"]["name"] == "half"
    assert answer["model_spec"]["version"] == "2"
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert signatures["serving_default"]["inputs"]["x"]["tensor_shape"]["dim"] == [{"size": "-1", "name": ""}]
    assert signatures["classify"]["method_name"] == "tensorflow/serving/classify"


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/models/none:predict", {"instances": [1]}, 404, "Servable not found for request: Latest(none)"),
        (f"{HALF}/versions/9:predict", {"instances": [1]}, 404, "Servable not found for request: Specific(half, 9)"),
        (f"{HALF}/labels/odd:predict", {"instances": [1]}, 400, "Unrecognized servable version label: odd"),
        ("/v1/models/none", None, 404, "Could not find any versions of model none"),
        (f"{HALF}/versions/9", None, 404, "Could not find version 9 of model half"),
        (f"{HALF}:predict", None, 400, "Malformed request: GET /v1/models/half:predict"),
        (f"{HALF}:explain", {"instances": [1]}, 400, "Malformed request: POST /v1/models/half:explain"),
        ("/v1/models", None, 400, "Missing model name in request."),
        (f"{HALF}:predict", b"", 400, "JSON Parse error: The document is empty"),
        (f"{HALF}:predict", b"{", 400, "JSON Parse error"),
        (f"{HALF}:predict", [1], 400, "Is not object"),
        (f"{HALF}:predict", {}, 400, "Missing 'inputs' or 'instances' key"),
        (f"{HALF}:predict", {"instances": [1], "inputs": [1]}, 400, "expecting only one of 'inputs' or 'instances'"),
        (f"{HALF}:predict", {"instances": []}, 400, "No values in 'instances' array"),
        (f"{HALF}:predict", {"instances": 1}, 400, "Expecting 'instances' to be an list/array"),
        (f"{HALF}:predict", {"instances": ["a"]}, 400, "is not of expected type: float"),
        (f"{HALF}:predict", {"instances": [1, [2]]}, 400, "Failed to process element: 1 of 'instances' list"),
        (f"{HALF}:predict", {"instances": [{"z": 1}]}, 400, "does not have named input: z"),
        (f"{HALF}:predict", {"signature_name": "several", "instances": [1]}, 400, "instances is a plain list"),
        (f"{HALF}:predict", {"signature_name": "several", "inputs": {"a": [[1, 2]]}}, 400, "Missing named input: "),
        (f"{HALF}:predict", {"signature_name": 3, "instances": [1]}, 400, "'signature_name' key must be a string"),
        (
            f"{HALF}:predict",
            {"signature_name": "odd", "instances": [1]},
            400,
            'Serving signature name: "odd" not found',
        ),
        (f"{HALF}:classify", {"signature_name": "classify"}, 400, "key 'examples' is expected and was not found"),
        (f"{HALF}:classify", {"signature_name": "classify", "examples": []}, 400, "'examples' value is an empty array"),
        (f"{HALF}:regress", {"signature_name": "regress", "examples": [3]}, 400, "Example must be JSON object but got"),
        (f"{HALF}:predict", {"signature_name": "positive", "instances": [-1]}, 400, "x must be positive"),
    ],
)
def test_refusals(target, path, body, status, words):
    """Each with its status code and the words that clients know."""
    found, answer = target.rest(path, body)
    assert found == status
    assert words in answer["error"]
