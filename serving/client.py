"""A client of TF Serving's interfaces: rows of named values in, predictions out, over gRPC or REST.

The server is asked what its signature takes, so that text from a CSV file becomes what each input needs. A value that
is missing is sent as the serving signatures of this project take it: `""`, NaN, or the smallest int64.
"""

from __future__ import annotations

import base64
import csv
import gzip
import http.client
import json
import math
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from schemas.errors import BadValueError, DataError, MissingColumnError, SatisficeError, close_match, shorten

__all__ = ["RETRIES", "Client", "GrpcClient", "InputSpec", "Predictions", "RestClient", "read_rows", "to_batches"]

_INTEGERS = ("DT_INT64", "DT_INT32", "DT_INT16", "DT_INT8", "DT_UINT8", "DT_UINT32", "DT_UINT64")
_FLOATS = ("DT_FLOAT", "DT_DOUBLE", "DT_HALF", "DT_BFLOAT16")
_MISSING_INT = -(1 << 63)
_COMPRESSED_FROM = 4096
_CHUNK = 1 << 16
"""Characters of a JSON file that are read at once."""
_SHOWN = 40
_DOUBLE = 8
_IS_IT_RUNNING = "Is it running? `satisfice serve` starts one."
_TOKEN = 16
"""Characters of what may be cut off at the end of a chunk, a text apart."""

RETRIES = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)
"""How gRPC retries: a prediction changes nothing, so one whose server ended under way is asked for again."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class InputSpec:
    """One input of a signature.

    Attributes:
        name: alias in the signature.
        dtype: as TensorFlow names it (`DT_FLOAT`).
        inner: dimensions behind the first, the rows'; -1 for any.
    """

    name: str
    dtype: str
    inner: tuple[int, ...]

    def value(self, raw: Any, row: int) -> Any:
        """A row's value as this input takes it.

        Args:
            raw: text from a CSV file, or a value from JSON; "" and None are missing.
            row: its number, from 1, for the message.

        Raises:
            BadValueError: it is no such value.
        """
        if isinstance(raw, list):
            return [self.value(one, row) for one in raw]
        try:
            return _converted(raw, self.dtype)
        except (ValueError, TypeError, OverflowError) as error:
            kind = "a whole number" if self.dtype in _INTEGERS else "a number"
            raise BadValueError(f"row {row}, {self.name}", "is not valid", expected=kind, got=raw) from error


@dataclass(frozen=True)
class Predictions:
    """What a server answered.

    Attributes:
        version: that answered; None where the server does not say (REST).
        outputs: values by output, one for each row.
    """

    version: int | None
    outputs: dict[str, list[Any]]


class Client(Protocol):
    """How a server is asked."""

    def inputs(self) -> dict[str, InputSpec]:
        """What the signature takes, by name."""

    def predict(self, rows: Sequence[Row]) -> Predictions:
        """Predictions for rows of values, as `InputSpec.value` makes them."""


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a CSV file with a header, of a JSON file with a list of objects, or of one object a line (`.jsonl`).

    Raises:
        DataError: it is none of these.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".csv":
                yield from csv.DictReader(file)
            elif path.suffix in (".jsonl", ".ndjson"):
                yield from (json.loads(line) for line in file if line.strip())
            else:
                yield from _json_rows(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(str(path), f"cannot be read: {error}") from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        expected = "a .csv file with a header, or JSON: a list of objects, or one object a line"
        raise DataError(str(path), f"does not parse: {error}", expected=expected) from error


def _json_rows(file: TextIO) -> Iterator[Any]:
    """The elements of a list, each read when it is asked for; an object with `instances` is read as a whole."""
    text = file.read(_CHUNK).lstrip()
    if not text.startswith("["):
        document = json.loads(text + file.read())
        yield from document["instances"] if isinstance(document, dict) else document
        return
    decoder, text, first = json.JSONDecoder(), text[1:], True
    while True:
        text = _filled(text, file)
        if text.startswith("]") and first:
            break
        row, text = _element(decoder, text, file)
        yield row
        first = False
        if text.startswith("]"):
            break
        if not text.startswith(","):
            raise json.JSONDecodeError("Expecting ',' or ']' after a row", text[:_SHOWN], 0)
        text = text[1:]
    if (text[1:] + file.read()).strip():
        raise json.JSONDecodeError("Extra data after the list", text[1 : _SHOWN + 1], 0)


def _filled(text: str, file: TextIO) -> str:
    """What follows, without the blanks before it; "" at the end of the file."""
    text = text.lstrip()
    while not text and (more := file.read(_CHUNK)):
        text = more.lstrip()
    return text


def _element(decoder: json.JSONDecoder, text: str, file: TextIO) -> tuple[Any, str]:
    """The next element, and what follows it without the blanks before it; more is read until one is complete."""
    size = _CHUNK
    while True:
        unread = json.JSONDecodeError("Expecting ',' or ']' after a row", text[-_SHOWN:], 0)
        try:
            value, end = decoder.raw_decode(text)
            if rest := text[end:].lstrip():
                return value, rest
        except json.JSONDecodeError as error:
            if error.pos < len(text) - _TOKEN and not error.msg.startswith("Unterminated string"):
                raise  # whatever may follow
            unread = error
        more = file.read(size)
        if not more:
            raise unread
        text += more
        size *= 2


def to_batches(rows: Iterator[Mapping[str, Any]], inputs: Mapping[str, InputSpec], size: int) -> Iterator[list[Row]]:
    """Rows as the signature takes them, in batches; columns that it does not take are left out.

    Raises:
        MissingColumnError: a row lacks an input.
        BadValueError: a value is of another type.
    """
    batch: list[Row] = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise DataError(f"row {number}", "is no object", expected="names and values", got=row)
        batch.append({name: spec.value(_given(row, name, number), number) for name, spec in inputs.items()})
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _given(row: Mapping[str, Any], name: str, number: int) -> Any:
    if name not in row:
        guess = close_match(name, [str(column) for column in row])
        remedy = f"Is it {guess!r} in the file?" if guess else f"The file has {', '.join(map(str, row))}."
        raise MissingColumnError(f"row {number}", f"lacks the input {name!r}", remedy=remedy)
    return row[name]


def _converted(raw: Any, dtype: str) -> Any:
    missing = raw is None or raw == ""
    if dtype == "DT_STRING":
        return "" if missing else str(raw)
    if dtype in _INTEGERS:
        return _MISSING_INT if missing else _whole(raw)
    if dtype in _FLOATS:
        return math.nan if missing else float(raw)
    if dtype == "DT_BOOL":
        return _truth(raw)
    raise TypeError(dtype)


def _whole(raw: Any) -> int:
    number = float(raw) if isinstance(raw, str) and not raw.strip().lstrip("+-").isdigit() else int(raw)
    if number != int(number):
        raise ValueError(raw)
    return int(number)


def _truth(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    known = {"true": True, "1": True, "false": False, "0": False}
    return known[str(raw).strip().lower()] if str(raw).strip().lower() in known else bool(int(raw))


# --- REST -------------------------------------------------------------------------------------------------------------


class RestClient:
    """Over REST, with the standard library alone; requests of some size travel compressed."""

    def __init__(
        self,
        address: str,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str = "serving_default",
        timeout_s: float = 60.0,
    ) -> None:
        """Makes a client.

        Args:
            address: `host:port`, or a URL.
            model: its name.
            version, label: which version; the newest where neither is given.
            signature: its name.
            timeout_s: for one request.
        """
        base = address if "://" in address else f"http://{address}"
        self._url = f"{base.rstrip('/')}/v1/models/{urllib.parse.quote(model, safe='')}"
        if version is not None:
            self._url += f"/versions/{version}"
        elif label is not None:
            self._url += f"/labels/{urllib.parse.quote(label, safe='')}"
        self._signature = signature
        self._timeout_s = timeout_s

    def inputs(self) -> dict[str, InputSpec]:
        """What the signature takes.

        Raises:
            SatisficeError: the server cannot be reached, or refuses.
        """
        answer = self._ask("/metadata")
        try:
            signatures = answer["metadata"]["signature_def"]["signature_def"]
        except (KeyError, TypeError) as error:
            raise SatisficeError(self._url, "answers, and not as TF Serving does", got=answer) from error
        if self._signature not in signatures:
            raise _no_signature(self._signature, list(signatures))
        found = signatures[self._signature]["inputs"]
        return {
            name: InputSpec(name, info["dtype"], tuple(int(dim["size"]) for dim in info["tensor_shape"]["dim"][1:]))
            for name, info in sorted(found.items())
        }

    def predict(self, rows: Sequence[Row]) -> Predictions:
        """Predictions for rows.

        Raises:
            SatisficeError: the server cannot be reached, or refuses.
        """
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        answer = self._ask(":predict", {"signature_name": self._signature, "inputs": columns})["outputs"]
        return Predictions(None, answer if isinstance(answer, dict) else {"outputs": answer})

    def _ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Accept-Encoding": "gzip"}
        if data is not None and len(data) >= _COMPRESSED_FROM:
            data = gzip.compress(data, 1)
            headers["Content-Encoding"] = "gzip"
        try:
            request = urllib.request.Request(self._url + path, data=data, headers=headers)  # noqa: S310 - the user's
            with urllib.request.urlopen(request, timeout=self._timeout_s) as response:  # noqa: S310 - as above
                text = response.read()
                if response.headers.get("Content-Encoding") == "gzip":
                    text = gzip.decompress(text)
                return json.loads(text)
        except urllib.error.HTTPError as error:
            raise SatisficeError(self._url + path, f"HTTP {error.code}: {_message(error.read())}") from error
        except (urllib.error.URLError, ConnectionError) as error:
            reason = getattr(error, "reason", error)
            raise SatisficeError(self._url, f"does not answer: {reason}", remedy=_IS_IT_RUNNING) from error
        except (http.client.HTTPException, zlib.error, EOFError, ValueError) as error:
            problem = f"is no address of TF Serving's REST interface, or answers in another language: {_words(error)}"
            raise SatisficeError(self._url, problem, expected="HOST:PORT of it, often 8501") from error
        except OSError as error:
            raise SatisficeError(self._url, f"does not answer: {error}", remedy=_IS_IT_RUNNING) from error


def _words(error: Exception) -> str:
    """What a server of another kind said first, without what no terminal can show."""
    return shorten(" ".join("".join(one if one.isprintable() else " " for one in str(error)).split())) or "nothing"


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", errors="replace")[:500]


# --- gRPC -------------------------------------------------------------------------------------------------------------


class GrpcClient:
    """Over gRPC. Its messages come with TensorFlow, which takes seconds to import."""

    def __init__(
        self,
        address: str,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str = "serving_default",
        timeout_s: float = 60.0,
        root_certificates: bytes | None = None,
    ) -> None:
        """Makes a client; see `RestClient`.

        Args:
            address: `host:port`.
            model: its name.
            version, label: which version; the newest where neither is given.
            signature: its name.
            timeout_s: for one request.
            root_certificates: in PEM format, for a server with TLS; None talks in the clear.
        """
        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.service_config", RETRIES),
        ]
        if root_certificates is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            credentials = grpc.ssl_channel_credentials(root_certificates)
            self._channel = grpc.secure_channel(address, credentials, options)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._address = address
        self._model = model
        self._version = version
        self._label = label
        self._signature = signature
        self._timeout_s = timeout_s
        self._inputs: dict[str, InputSpec] | None = None

    def inputs(self) -> dict[str, InputSpec]:
        """What the signature takes.

        Raises:
            SatisficeError: the server cannot be reached, or refuses.
        """
        if self._inputs is None:
            self._inputs = self._asked_inputs()
        return self._inputs

    def _asked_inputs(self) -> dict[str, InputSpec]:
        from tensorflow.core.framework import types_pb2
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._fill(request.model_spec)
        answer = self._call(self._stub.GetModelMetadata, request)
        found = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(found)
        if self._signature not in found.signature_def:
            raise _no_signature(self._signature, list(found.signature_def))
        return {
            name: InputSpec(
                name, types_pb2.DataType.Name(info.dtype), tuple(dim.size for dim in info.tensor_shape.dim[1:])
            )
            for name, info in sorted(found.signature_def[self._signature].inputs.items())
        }

    def predict(self, rows: Sequence[Row]) -> Predictions:
        """Predictions for rows.

        Raises:
            SatisficeError: the server cannot be reached, or refuses.
        """
        import tensorflow as tf
        from tensorflow.core.framework import types_pb2
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        self._fill(request.model_spec)
        request.model_spec.signature_name = self._signature
        for name, spec in self.inputs().items():
            dtype = tf.as_dtype(types_pb2.DataType.Value(spec.dtype))
            request.inputs[name].CopyFrom(tf.make_tensor_proto([row[name] for row in rows], dtype=dtype))
        answer = self._call(self._stub.Predict, request)
        outputs = {name: _as_rest(tf.make_ndarray(tensor)) for name, tensor in sorted(answer.outputs.items())}
        return Predictions(answer.model_spec.version.value, outputs)

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def _fill(self, spec: Any) -> None:
        spec.name = self._model
        if self._version is not None:
            spec.version.value = self._version
        elif self._label is not None:
            spec.version_label = self._label

    def _call(self, method: Any, request: Any) -> Any:
        import grpc

        try:
            return method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
            if code == grpc.StatusCode.UNAVAILABLE:
                raise SatisficeError(self._address, f"does not answer: {details}", remedy=_IS_IT_RUNNING) from error
            raise SatisficeError(self._address, f"{code.name}: {details}") from error


def _as_rest(values: Any) -> Any:
    """An array as REST tells it: a number in as few digits as tell it apart in its own type, bytes as text."""
    if values.dtype.kind == "f" and values.dtype.itemsize < _DOUBLE:
        return values.astype(str).astype(float).tolist()
    return _as_text(values.tolist()) if values.dtype.kind in "SO" else values.tolist()


def _as_text(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_text(one) for one in value]
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode("ascii")}


def _no_signature(wanted: str, known: Sequence[str]) -> SatisficeError:
    guess = close_match(wanted, known)
    return SatisficeError(
        f"signature {wanted!r}",
        "is not among the model's",
        expected=f"one of {', '.join(sorted(known))}",
        remedy=f"Did you mean {guess!r}?" if guess else "",
    )
