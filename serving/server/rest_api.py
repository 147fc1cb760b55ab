"""The REST face of the server: TF Serving's paths, JSON, status codes, and Prometheus' page."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    regression_pb2,
)

from serving.server.inference import Inference
from serving.server.json_api import (
    fill_examples,
    read_predict,
    results_of_classes,
    results_of_regressions,
    write_outputs,
)
from serving.server.manager import Manager
from serving.server.metrics import Metrics
from serving.server.model import DEFAULT_SIGNATURE, LoadedModel
from serving.server.pace import Pace, Paces
from serving.server.status import Refusal

__all__ = ["METRICS_PATH", "READY_PATH", "RestServer"]

METRICS_PATH = "/monitoring/prometheus/metrics"
READY_PATH = "/ready"

_PREDICTION = re.compile(
    r"/v1/models/([^/:]+)(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?:(classify|regress|predict)", re.IGNORECASE
)
_STATUS = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?(?:/(metadata))?", re.IGNORECASE
)
_COMPRESSED_FROM = 1024
_SMALL = 64 << 10
"""Bytes below which a request may be answered in the event loop."""
_LARGE = 4 << 20
"""Bytes from which on requests are read one by one: JSON takes up to thirty times its size in memory."""
_INT64_DIGITS = 19
_INT64 = 1 << 63


class RestServer:
    """An HTTP server with an event loop in a thread of its own.

    Answers come from other threads, so that a slow model keeps nobody else; but those that have shown to be quick, of
    models that do not wait for each other in batches, come from the event loop itself.
    """

    def __init__(
        self,
        inference: Inference,
        manager: Manager,
        metrics: Metrics,
        *,
        threads: int,
        max_body_bytes: int,
        grace_s: float,
    ) -> None:
        """Makes it; `start` binds it.

        Args:
            inference: that answers.
            manager: that knows signatures, and whether all is ready.
            metrics: of all requests.
            threads: that run models.
            max_body_bytes: largest request.
            grace_s: how long requests may take to end when the server stops.
        """
        self._inference = inference
        self._manager = manager
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._grace_s = grace_s
        self._calls: Mapping[str, Callable[[_Call, bytes], bytes]] = {
            "predict": self._predict,
            "classify": self._classify,
            "regress": self._regress,
            "metadata": self._metadata,
            "status": self._status,
        }
        self._paces = Paces()
        self._workers = ThreadPoolExecutor(threads, "rest")
        self._one_by_one = ThreadPoolExecutor(1, "rest-large")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="rest")
        self._runner: web.AppRunner | None = None
        self.port = 0

    def start(self, host: str, port: int) -> int:
        """Binds the server; port 0 takes a free one.

        Returns:
            The port.

        Raises:
            OSError: it cannot be bound.
        """
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._start(host, port), self._loop).result()

    def stop(self) -> None:
        """Takes no more requests, and waits for those that run."""
        if self._runner is not None:
            asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        if not self._loop.is_running():
            self._loop.close()
        for workers in (self._workers, self._one_by_one):
            workers.shutdown(wait=True, cancel_futures=True)

    async def _start(self, host: str, port: int) -> int:
        application = web.Application(client_max_size=self._max_body_bytes)
        application.router.add_route("*", "/{path:.*}", self._handle)
        logging.getLogger("aiohttp.server").addFilter(_in_one_line)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=self._grace_s)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self.port = int(self._runner.addresses[0][1])
        return self.port

    # --- requests -------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path
        if path == METRICS_PATH:
            return web.Response(text=self._metrics.page(), content_type="text/plain")
        if path == READY_PATH:
            return self._ready()
        if not path.lower().startswith("/v1/"):
            return web.Response(status=404, text="Not Found")
        return await self._api(_Call(request.method, path), request)

    async def _api(self, call: _Call, request: web.Request) -> web.StreamResponse:
        started = time.perf_counter()
        try:
            body = await request.read()
            answer = await self._answered(call, body)
        except web.HTTPRequestEntityTooLarge:
            limit = self._max_body_bytes
            return self._refused(call, Refusal("RESOURCE_EXHAUSTED", f"the request has more than {limit} bytes"), 413)
        except Refusal as refusal:
            return self._refused(call, refusal, refusal.http_status)
        except web.RequestPayloadError as error:
            return self._refused(call, Refusal("INVALID_ARGUMENT", f"Could not read the request: {error}"), 400)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - one bad request must not take the server with it
            return self._refused(call, Refusal("INTERNAL", f"{type(error).__name__}: {error}"), 500)
        self._metrics.count(
            ":tensorflow:serving:request_count", {"model_name": self._inference.known(call.model), "status": "OK"}
        )
        self._metrics.latency(
            ":tensorflow:serving:request_latency",
            {"model_name": call.model, "API": call.method, "entrypoint": "REST"},
            (time.perf_counter() - started) * 1e6,
        )
        response = web.Response(body=answer, content_type="application/json")
        if len(answer) >= _COMPRESSED_FROM:
            response.enable_compression()  # where the client takes it
        return response

    async def _answered(self, call: _Call, body: bytes) -> bytes:
        if len(body) >= _SMALL or self._inference.batches:
            workers = self._workers if len(body) < _LARGE else self._one_by_one
            return await self._loop.run_in_executor(workers, self._answer, call, body)
        pace = self._paces.of(call.path, len(body), self._manager.revision)
        if not pace.quick:
            return await self._loop.run_in_executor(self._workers, self._answer_in_thread, call, body, pace)
        started = time.perf_counter()
        try:
            return self._answer(call, body)
        finally:
            pace.took_in_loop(time.perf_counter() - started)

    def _answer_in_thread(self, call: _Call, body: bytes, pace: Pace) -> bytes:
        started = time.thread_time()
        try:
            return self._answer(call, body)
        finally:
            pace.took_in_thread(time.thread_time() - started)

    def _ready(self) -> web.Response:
        reasons = self._manager.why_not_ready()
        answer = {"ready": not reasons, "reasons": reasons}
        return web.json_response(answer, status=503 if reasons else 200)

    def _refused(self, call: _Call, refusal: Refusal, status: int) -> web.Response:
        labels = {"model_name": self._inference.known(call.model), "status": refusal.code}
        self._metrics.count(":tensorflow:serving:request_count", labels)
        return web.json_response({"error": refusal.message}, status=status)

    def _answer(self, call: _Call, body: bytes) -> bytes:
        call.parse()
        try:
            return self._calls[call.method](call, body)
        except RecursionError as error:
            raise Refusal("INVALID_ARGUMENT", "JSON Parse error: nested too deeply") from error
        except UnicodeEncodeError as error:
            raise Refusal("INVALID_ARGUMENT", "JSON Parse error: The surrogate pair in string is invalid.") from error

    def _predict(self, call: _Call, body: bytes) -> bytes:
        with self._manager.use(call.model, call.version, call.label) as model:  # one version reads it and answers it
            given = read_predict(body, partial(_inputs_of, model))
            outputs = self._inference.predict_arrays(model, given.signature or DEFAULT_SIGNATURE, given.inputs)
            return write_outputs(outputs, given.form)

    def _classify(self, call: _Call, body: bytes) -> bytes:
        request = call.fill(classification_pb2.ClassificationRequest())
        fill_examples(body, request)
        return results_of_classes(self._inference.classify(request).result)

    def _regress(self, call: _Call, body: bytes) -> bytes:
        request = call.fill(regression_pb2.RegressionRequest())
        fill_examples(body, request)
        return results_of_regressions(self._inference.regress(request).result)

    def _metadata(self, call: _Call, _: bytes) -> bytes:
        request = call.fill(get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"]))
        return _json(self._inference.metadata(request), preserve=True)

    def _status(self, call: _Call, _: bytes) -> bytes:
        return _json(self._inference.status(call.fill(get_model_status_pb2.GetModelStatusRequest())))


def _inputs_of(model: LoadedModel, signature: str) -> Mapping[str, Any]:
    name = signature or DEFAULT_SIGNATURE
    if name not in model.signatures:
        raise Refusal("INVALID_ARGUMENT", f'Serving signature name: "{name}" not found in signature def')
    inputs: Mapping[str, Any] = model.signatures[name].inputs
    return inputs


class _Call:
    """What a path asks for.

    Attributes:
        path: of the URL.
        model: its name; "" before `parse`, or where none is given.
        version, label: that are asked for.
        method: `predict`, `classify`, `regress`, `metadata` or `status`.
    """

    def __init__(self, verb: str, path: str) -> None:
        self._verb = verb
        self.path = path
        self.version: int | None = None
        self.label: str | None = None
        self.model = ""
        self.method = "status"

    def parse(self) -> None:
        """Takes the path apart.

        Raises:
            Refusal: INVALID_ARGUMENT.
        """
        pattern = {"POST": _PREDICTION, "GET": _STATUS}.get(self._verb)
        match = pattern.fullmatch(self.path) if pattern else None
        if match is None:
            raise Refusal("INVALID_ARGUMENT", f"Malformed request: {self._verb} {self.path}")
        name, version, label, method = match.groups()
        self.model = unquote(name or "")
        self.method = (method or "status").lower()
        if not self.model:
            raise Refusal("INVALID_ARGUMENT", "Missing model name in request.")
        if version is not None:
            if len(version) > _INT64_DIGITS or int(version) >= _INT64:
                raise Refusal("INVALID_ARGUMENT", f"Failed to convert version: {version} to numeric.")
            self.version = int(version)
        self.label = unquote(label) if label is not None else None

    def fill(self, request: Any) -> Any:
        """Writes model, version and label into a request."""
        spec = request.model_spec
        spec.name = self.model
        if self.version is not None:
            spec.version.value = self.version
        if self.label is not None:
            spec.version_label = self.label
        return request


def _in_one_line(record: logging.LogRecord) -> bool:
    """Of a request that is no HTTP: a stranger is not to fill the log with tracebacks."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.msg, record.args = f"{record.getMessage()}: {' '.join(error.message.split())[:200]}", ()
        record.exc_info = record.exc_text = None
    return True


def _json(message: Any, *, preserve: bool = False) -> bytes:
    if preserve:  # the signatures lie in an `Any`, which TF Serving unpacks
        signatures = get_model_metadata_pb2.SignatureDefMap()
        message.metadata["signature_def"].Unpack(signatures)
        spec = json_format.MessageToJson(message.model_spec, preserving_proto_field_name=True)
        listed = json_format.MessageToJson(
            signatures, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return f'{{\n"model_spec":{spec},\n"metadata": {{"signature_def": {listed}}}\n}}\n'.encode()
    text: str = json_format.MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return text.encode()
