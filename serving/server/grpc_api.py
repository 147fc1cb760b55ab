"""The gRPC face of the server: PredictionService, ModelService, and the standard health service."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from schemas.errors import ConfigError, Fault
from serving.server.inference import Inference
from serving.server.metrics import Metrics
from serving.server.status import Refusal

__all__ = ["Tls", "grpc_server"]

_COUNT = ":tensorflow:serving:request_count"
_LATENCY = ":tensorflow:serving:request_latency"


@dataclass(frozen=True)
class Tls:
    """Files in PEM format.

    Attributes:
        key, certificate: the server's own.
        client_ca: whoever connects must show a certificate signed by it; None asks for none.
    """

    key: Path
    certificate: Path
    client_ca: Path | None = None

    def credentials(self) -> Any:
        """For gRPC.

        Raises:
            ConfigError: a file cannot be read, or is not in PEM format.
        """
        root = _pem(self.client_ca) if self.client_ca else None
        pair = (_pem(self.key), _pem(self.certificate))
        return grpc.ssl_server_credentials([pair], root, require_client_auth=root is not None)


def _pem(file: Path) -> bytes:
    try:
        text = file.read_bytes()
    except OSError as error:
        raise ConfigError(str(file), [Fault("", "cannot be read", got=error.strerror or str(error))]) from error
    if b"-----BEGIN " not in text:
        raise ConfigError(str(file), [Fault("", "is not in PEM format", "a text that begins with -----BEGIN")])
    return text


def grpc_server(
    inference: Inference,
    reload: Callable[[Any], None],
    metrics: Metrics,
    *,
    threads: int,
    max_message_bytes: int,
) -> Any:
    """A server that is not bound and not started.

    Args:
        inference: that answers.
        reload: takes a `ModelServerConfig`, or raises `Refusal`.
        metrics: that count requests.
        threads: that answer requests.
        max_message_bytes: largest request; -1 for any.
    """
    server = grpc.server(
        ThreadPoolExecutor(threads, "grpc"),
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", -1),
        ],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Prediction(inference, metrics), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Models(inference, reload, metrics), server)
    return server


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, inference: Inference, metrics: Metrics) -> None:
        self._inference = inference
        self._metrics = metrics

    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802 - the service's own names
        return self._answer("Predict", self._inference.predict, request, request.model_spec.name, context)

    def Classify(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._answer("Classify", self._inference.classify, request, request.model_spec.name, context)

    def Regress(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._answer("Regress", self._inference.regress, request, request.model_spec.name, context)

    def MultiInference(self, request: Any, context: Any) -> Any:  # noqa: N802
        name = request.tasks[0].model_spec.name if request.tasks else ""
        return self._answer("MultiInference", self._inference.multi_inference, request, name, context)

    def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        return _called(self._inference.metadata, request, context)

    def _answer(self, api: str, call: Callable[[Any], Any], request: Any, name: str, context: Any) -> Any:
        started = time.perf_counter()
        try:
            response = call(request)
        except Refusal as refusal:
            self._metrics.count(_COUNT, {"model_name": self._inference.known(name), "status": refusal.code})
            _abort(context, refusal)
        except Exception as error:  # noqa: BLE001 - one bad request must not take the server with it
            self._metrics.count(_COUNT, {"model_name": self._inference.known(name), "status": "INTERNAL"})
            _abort(context, Refusal("INTERNAL", f"{type(error).__name__}: {error}"))
        else:
            self._metrics.count(_COUNT, {"model_name": name, "status": "OK"})
            labels = {"model_name": name, "API": api, "entrypoint": "GRPC"}
            self._metrics.latency(_LATENCY, labels, (time.perf_counter() - started) * 1e6)
            return response


class _Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, inference: Inference, reload: Callable[[Any], None], metrics: Metrics) -> None:
        self._inference = inference
        self._reload = reload
        self._metrics = metrics

    def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        return _called(self._inference.status, request, context)

    def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:  # noqa: N802
        before = {name: self._metrics.value(_prometheus_name(name)) for name in request.metric_names}
        _called(lambda given: self._reload(_listed(given.config)), request, context)
        response = model_management_pb2.ReloadConfigResponse()
        for name, value in before.items():
            increase = self._metrics.value(_prometheus_name(name)) - value
            response.metric.add(name=name, int64_value_increase=increase)
        return response


def _listed(config: Any) -> Any:
    if config.WhichOneof("config") is None:  # in a file no models; here a request that was not filled in
        raise Refusal(
            "INVALID_ARGUMENT",
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
            "supported",
        )
    return config


def _prometheus_name(name: str) -> str:
    return name.replace("/", ":")


def _called(call: Callable[[Any], Any], request: Any, context: Any) -> Any:
    try:
        return call(request)
    except Refusal as refusal:
        _abort(context, refusal)
    except Exception as error:  # noqa: BLE001 - as above
        _abort(context, Refusal("INTERNAL", f"{type(error).__name__}: {error}"))


def _abort(context: Any, refusal: Refusal) -> None:
    context.abort(getattr(grpc.StatusCode, refusal.code), refusal.message)
