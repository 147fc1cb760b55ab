"""The server as a whole: starts its parts, reloads its configuration, drains and stops."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from schemas.errors import ConfigError, Fault, SatisficeError
from serving.server.batching import BatchingParameters
from serving.server.config import ModelConfig, models_of, read_models_config
from serving.server.grpc_api import Tls, grpc_server
from serving.server.inference import Inference
from serving.server.manager import Manager, Options, VersionStatus
from serving.server.metrics import Metrics
from serving.server.model import LoadedModel, load
from serving.server.rest_api import RestServer
from serving.server.status import Refusal
from serving.server.warmup import warm_up

__all__ = ["ModelServer", "ServerOptions"]

_LOG = logging.getLogger(__name__)
_SERVICES = ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
_STRICT_SERVICES = ("PredictionService", "ModelService")


@dataclass(frozen=True)
class ServerOptions:
    """How a server runs.

    Attributes:
        host: address to bind to; loopback unless told.
        grpc_port, rest_port: 0 takes a free one; None leaves that face out.
        versions: how versions are watched and loaded.
        batching: of requests that arrive together; None for none.
        threads: that answer requests, for each face.
        intra_op_threads, inter_op_threads: of TensorFlow, for each model; 0 lets it choose.
        max_request_bytes: largest request.
        grace_s: how long requests may take to end when the server stops.
        tls: for gRPC; None for none.
        config_file: a models.config that is read again when it changes; None where the models are given.
        config_poll_s: seconds between two looks at it; 0 never looks again.
    """

    host: str = "127.0.0.1"
    grpc_port: int | None = 8500
    rest_port: int | None = 8501
    versions: Options = field(default_factory=Options)
    batching: BatchingParameters | None = None
    threads: int = 16
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    max_request_bytes: int = 64 << 20
    grace_s: float = 10.0
    tls: Tls | None = None
    config_file: Path | None = None
    config_poll_s: float = 0.0


class ModelServer:
    """TF Serving's interfaces on directories of versions. A context manager: leaving it drains and stops.

    Attributes:
        manager: of the versions.
        metrics: of everything.
        grpc_port, rest_port: where it listens once started; 0 where it does not.
    """

    def __init__(self, models: Sequence[ModelConfig], options: ServerOptions) -> None:
        """Makes it; `start` loads the models and opens the ports.

        Args:
            models: to serve; left out where the options name a configuration file.
            options: of the server.
        """
        self._models = list(models)
        self._options = options
        self.metrics = Metrics()
        self.manager = Manager(self._load, self._unload, options.versions, self._on_change)
        self._inference = Inference(self.manager, self.metrics, options.batching)
        self._health = health.HealthServicer()
        self._grpc = grpc_server(
            self._inference,
            self._reload,
            self.metrics,
            threads=options.threads,
            max_message_bytes=-1 if options.versions.strict else options.max_request_bytes,
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        self._rest = RestServer(
            self._inference,
            self.manager,
            self.metrics,
            threads=options.threads,
            max_body_bytes=options.max_request_bytes,
            grace_s=options.grace_s,
        )
        self._stopping = threading.Event()
        self._stopped = threading.Event()
        self._stop_once = threading.Lock()
        self._config_marks: tuple[int, int, int] | None = None
        self.grpc_port = 0
        self.rest_port = 0

    def start(self) -> Self:
        """Loads the models and opens the ports, in this order where the server is strict, else the other way round.

        Raises:
            ConfigError: the models.config cannot be read, or asks for what is not served.
            SatisficeError: a port cannot be bound, or, where the server is strict, a model does not become available.
        """
        try:
            self._start(strict=self._options.versions.strict)
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self, *, strict: bool) -> None:
        models = self._configured()
        if not strict:
            self._open()
        self.manager.start()
        try:
            self.manager.reload(models)
        except Refusal as refusal:
            if strict:
                raise SatisficeError("server", refusal.message, remedy="Mend or remove the version.") from refusal
            _LOG.error("%s", refusal.message)
        if strict and not self._stopping.is_set():
            self._open()
        self._tell_health()
        if self._options.config_file and self._options.config_poll_s > 0:
            threading.Thread(target=self._watch_config, daemon=True, name="config").start()

    def stop(self) -> None:
        """Takes no more requests, lets those that run end, and unloads everything; returns when that is done.

        Also ends a start that waits for its models. Whoever calls it second waits for the first.
        """
        with self._stop_once:
            first = not self._stopping.is_set()
            self._stopping.set()
        if not first:
            self._stopped.wait()
            return
        try:
            self._health.enter_graceful_shutdown()
            ended = self._grpc.stop(self._options.grace_s)
            self._rest.stop()
            ended.wait()
            self.manager.close()
        finally:
            self._stopped.set()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- parts ----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        options = self._options
        if options.grpc_port is not None:
            address = _address(options.host, options.grpc_port)
            credentials = options.tls.credentials() if options.tls else None
            try:
                self.grpc_port = (
                    self._grpc.add_secure_port(address, credentials)
                    if credentials
                    else self._grpc.add_insecure_port(address)
                )
            except RuntimeError as error:
                raise _unbound(address, "the port is taken, or the address is not this machine's") from error
            self._grpc.start()
        if options.rest_port is not None:
            try:
                self.rest_port = self._rest.start(options.host, options.rest_port)
            except OSError as error:
                raise _unbound(_address(options.host, options.rest_port), error.strerror or str(error)) from error
        self._tell_health()

    def _load(self, config: ModelConfig, number: int, path: Path) -> LoadedModel:
        started = time.perf_counter()
        status = "fail"
        try:
            runnable = load(
                path,
                intra_op_threads=self._options.intra_op_threads,
                inter_op_threads=self._options.inter_op_threads,
            )
            status = "success"
        finally:
            attempt = {"model_path": str(path), "status": status}
            self.metrics.count(":tensorflow:cc:saved_model:load_attempt_count", attempt)
        model = LoadedModel(config.name, number, runnable)
        labels = {"model_name": config.name, "version": str(number)}
        loaded = time.perf_counter()
        try:
            records = warm_up(self._inference, model, path)
        except BaseException:
            self._unload(model)
            raise
        if records:
            self.metrics.latency(
                ":tensorflow:serving:model_warmup_latency", labels, (time.perf_counter() - loaded) * 1e6
            )
        self.metrics.latency(":tensorflow:cc:saved_model:load_latency", labels, (loaded - started) * 1e6)
        return model

    def _unload(self, model: LoadedModel) -> None:
        model.close(self._options.grace_s if self._stopping.is_set() else None)
        self._inference.forget(model)

    def _on_change(self, name: str, status: VersionStatus) -> None:
        _LOG.info("%s version %d: %s %s", name, status.version, status.state, status.message)
        labels = {"model_name": name, "version": str(status.version)}
        self.metrics.gauge(":satisfice:version_available", labels, float(status.state == "AVAILABLE"))
        if status.state == "END" and status.code != "OK":
            self.metrics.count(":satisfice:version_load_failures", labels)
        self._tell_health()

    def _tell_health(self) -> None:
        """SERVING where all wanted versions are; the strict server says so from the start, as the original."""
        strict = self._options.versions.strict
        serving = strict or not self.manager.why_not_ready()
        state = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in _STRICT_SERVICES if strict else (*_SERVICES, *_STRICT_SERVICES):
            self._health.set(service, state)

    # --- configuration --------------------------------------------------------------------------------------------

    def _configured(self) -> list[ModelConfig]:
        file = self._options.config_file
        if file is None:
            return self._models
        self._config_marks = _marks(file)
        try:
            return models_of(read_models_config(file))
        except Refusal as refusal:
            raise ConfigError(str(file), [Fault("", refusal.message)]) from refusal

    def _reload(self, config: Any) -> None:
        self.take(models_of(config))

    def take(self, models: Sequence[ModelConfig]) -> None:
        """Takes these models in the place of all others, and waits for those that are new.

        Raises:
            Refusal: as `Manager.reload`.
        """
        try:
            self.manager.reload(models)
        finally:
            self._tell_health()

    def _watch_config(self) -> None:
        file = self._options.config_file
        assert file is not None
        while not self._stopping.wait(self._options.config_poll_s):
            if _marks(file) == self._config_marks:
                continue
            try:
                self.take(self._configured())
            except (SatisficeError, Refusal) as error:
                _LOG.error("%s is not taken as it is: %s", file, error)
            except Exception:  # noqa: BLE001 - whatever it is, the watch goes on
                _LOG.exception("%s is not taken", file)


def _marks(file: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _unbound(address: str, reason: object) -> SatisficeError:
    return SatisficeError(
        address, f"cannot be bound: {reason}", remedy="Choose another port (0 takes a free one), or another address."
    )
