"""Servers on one directory, a load balancer before them, and clients that count what fails."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import yaml

from bench.process import REPOSITORY
from schemas.load import load_config
from serving.client import RETRIES
from serving.deploy import make_plan, render, write
from serving.payload import digest_of, files
from serving.store import VersionStore

__all__ = [
    "MODEL",
    "Answer",
    "Balancer",
    "Fleet",
    "Load",
    "ask_rest",
    "free_ports",
    "running",
    "until",
    "write_version",
]

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
MODEL = "m"
_ASKED = 1.0
_PATIENCE_S = 120

Face = Literal["grpc", "rest"]


@dataclass(frozen=True)
class Balancer:
    """Where a load balancer listens, and the folder of what was rendered."""

    grpc: int
    rest: int
    stats: int
    folder: Path


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody holds at this moment."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in held]


def write_version(folder: Path, adds: float) -> Path:
    """A SavedModel whose answer says which one it is: `y = x + adds`."""
    import tensorflow as tf

    class Adds(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.adds = tf.Variable(adds)

        def __call__(self, x: Any) -> Any:
            return {"y": x + self.adds}

    model = Adds()
    spec = tf.TensorSpec([None], tf.float32, name="x")
    tf.saved_model.save(model, str(folder), tf.function(model.__call__, input_signature=[spec]))
    return folder


@contextmanager
def running(command: Sequence[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that ends with the block, however it ends."""
    with log.open("a", encoding="utf-8") as file:
        process = subprocess.Popen(command, stderr=file, text=True, **{"stdout": file, **options})
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


class Fleet:
    """Embedded servers on one base path, started by `satisfice serve`, and what is rendered for them.

    A context manager. Attributes:
        folder: of everything.
        store: of the versions.
        ports: gRPC and REST of each server.
        processes: of the servers.
    """

    def __init__(self, folder: Path, servers: int = 2, edge: Path | None = None, **serving: Any) -> None:
        """Makes the configuration.

        Args:
            folder: is used for itself alone.
            servers: how many.
            edge: a `.tflite` file that they serve too; None for none.
            serving: more keys of that section of the configuration.
        """
        self.folder = folder
        self.store = VersionStore(folder / "models")
        numbers = free_ports(2 * servers)
        self.ports = list(zip(numbers[::2], numbers[1::2], strict=True))
        self._edge = edge
        self._serving = serving
        self._stack = ExitStack()
        self.processes: list[subprocess.Popen[str]] = []

    @property
    def config(self) -> Path:
        """The configuration's file."""
        return self.folder / "satisfice.yaml"

    def __enter__(self) -> Self:
        raw = {
            "name": MODEL,
            "data": {"source": {"format": "csv", "path": "data.csv"}, "schema": "schema.pbtxt"},
            "model": {"module": "pipeline.models.taxi", "label": "tips"},
            "export": {"tflite": {"variants": ["float32"]}},
            "training": {"epochs": 1},
            "gates": {"satisfy": [{"metric": "auc", "min": 0.5}, {"metric": "size_mb", "payload": "tflite", "max": 1}]},
            "push": {"serving": {"base_path": "models"}, "edge": {"base_path": "edge"} if self._edge else None},
            "serving": {
                "addresses": [{"grpc": f"127.0.0.1:{one}", "rest": f"127.0.0.1:{two}"} for one, two in self.ports],
                **self._serving,
            },
        }
        self.config.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
        if self._edge:
            VersionStore(self.folder / "edge").publish(self._edge, digest_of(files(self._edge)), {})
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def publish(self, payload: Path) -> int:
        """Publishes a payload; its version."""
        return self.store.publish(payload, digest_of(files(payload)), {}).version

    def start(self, *options: str) -> None:
        """Starts all servers beside each other, and waits until they are ready."""
        self.processes = [self._spawn(number, options) for number in range(len(self.ports))]
        for number in range(len(self.ports)):
            self._wait(number)

    def has_label(self, label: str) -> bool:
        """Whether every server that runs answers under a label."""
        path = f"/v1/models/{MODEL}/labels/{label}/metadata"
        up = [rest for (_, rest), process in zip(self.ports, self.processes, strict=True) if process.poll() is None]
        return all(_ask_rest(port, path)[0] == 200 for port in up)

    def kill(self, number: int) -> None:
        """Kills a server with SIGKILL."""
        self.processes[number].send_signal(signal.SIGKILL)
        self.processes[number].wait()

    def restart(self, number: int, *options: str) -> None:
        """Starts a server that was killed, on its old ports; it is not waited for."""
        self.processes[number] = self._spawn(number, options)

    def balance(self, kind: Literal["haproxy", "nginx"], *overrides: str) -> Balancer:
        """Starts a load balancer on what `satisfice deploy render` makes, and waits until it answers.

        Args:
            kind: which.
            overrides: of the configuration, as `--set` takes them.
        """
        ports = free_ports(3)
        names = ("grpc_port", "rest_port", "stats_port")
        listen = [f"serving.listen.{name}={port}" for name, port in zip(names, ports, strict=True)]
        output = self.folder / f"{kind}-{ports[0]}"
        plan = make_plan(load_config(self.config, [*listen, *overrides]).config)
        write(render(plan), output)
        if kind == "haproxy":
            command = ["haproxy", "-db", "-f", str(output / "haproxy/haproxy.cfg")]
        else:
            state = output / "state"
            state.mkdir()
            command = ["nginx", "-p", str(state), "-e", "stderr", "-c", str(output / "nginx/nginx.conf")]
            command += ["-g", f"daemon off; master_process off; pid {state}/nginx.pid;"]
        process = self._stack.enter_context(running(command, output / "log"))

        def answers() -> bool:
            if process.poll() is not None:
                raise RuntimeError((output / "log").read_text(encoding="utf-8"))
            return _ask_rest(ports[1], f"/v1/models/{MODEL}/metadata")[0] == 200

        until(answers)
        return Balancer(*ports, output)

    def _spawn(self, number: int, options: Sequence[str]) -> subprocess.Popen[str]:
        grpc, rest = self.ports[number]
        command = [sys.executable, "-m", "runners.cli", "serve", str(self.config), "--poll", "0.5"]
        command += ["--grpc-port", str(grpc), "--rest-port", str(rest), *options]
        log = self.folder / f"server-{number}.log"
        return self._stack.enter_context(running(command, log, env=_environment()))

    def _wait(self, number: int) -> None:
        def ready() -> bool:
            if self.processes[number].poll() is not None:
                raise RuntimeError(self.log(f"server-{number}"))
            return _ask_rest(self.ports[number][1], "/ready")[0] == 200

        until(ready)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "2"}


def until(held: Callable[[], object]) -> None:
    """Waits for something, two minutes at most.

    Raises:
        TimeoutError: it does not come.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while not held():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not come")
        time.sleep(0.05)


def _ask_rest(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError:
        return 0, b""
    except http.client.HTTPException:
        return 0, b""
    finally:
        connection.close()


# --- clients ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """One request and what came of it.

    Attributes:
        at_s: when it was sent, since the load began.
        took_s: until the answer.
        adds: what the model that answered adds; None where the request failed.
        error: why it failed.
    """

    face: Face
    at_s: float
    took_s: float
    adds: float | None
    error: str = ""


@dataclass
class Load:
    """Clients that ask without a break, each for itself; none tries anything twice unless told.

    Attributes:
        grpc, rest: ports.
        clients: over each face.
        rate: requests a second of each client, drawn around that.
        seed: of the pauses.
        retries: over gRPC by the client itself, as its retry policy says.
    """

    grpc: int
    rest: int
    clients: int = 4
    rate: float = 25.0
    seed: int = 7
    retries: bool = False
    answers: list[Answer] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._began = time.monotonic()
        faces: list[Face] = ["grpc", "rest"]
        self._threads = [
            threading.Thread(target=self._client, args=(face, self.seed + number))
            for number in range(self.clients)
            for face in faces
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def failed(self) -> list[Answer]:
        """The requests that failed."""
        return [answer for answer in self.answers if answer.adds is None]

    @property
    def elapsed_s(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    def has_seen(self, adds: float, after_s: float) -> bool:
        """Whether over both faces a request that was sent after that was answered by such a model."""
        found = {answer.face for answer in list(self.answers) if answer.adds == adds and answer.at_s >= after_s}
        return len(found) == 2

    def answered(self, after_s: float) -> int:
        """How many requests that were sent after that have come back."""
        return sum(answer.at_s > after_s for answer in list(self.answers))

    def _client(self, face: Face, seed: int) -> None:
        pauses = random.Random(seed)  # noqa: S311 - pauses, not secrets
        with ExitStack() as stack:
            ask = _over_grpc(self.grpc, stack, self.retries) if face == "grpc" else _over_rest(self.rest, stack)
            while not self._stop.is_set():
                began = self.elapsed_s
                adds, error = ask()
                self.answers.append(Answer(face, began, self.elapsed_s - began, adds, error))
                self._stop.wait(pauses.expovariate(self.rate))


def _over_grpc(port: int, stack: ExitStack, retries: bool) -> Callable[[], tuple[float | None, str]]:
    import grpc
    from tensorflow_serving.apis import predict_pb2

    channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}", _channel_options(retries)))
    call = channel.unary_unary(_PREDICT, response_deserializer=predict_pb2.PredictResponse.FromString)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=1)
    request.inputs["x"].float_val.append(_ASKED)
    body = request.SerializeToString()

    def ask() -> tuple[float | None, str]:
        try:
            tensor = call(body, timeout=30).outputs["y"]
        except grpc.RpcError as error:
            return None, f"{error.code().name}: {error.details()}"
        import numpy as np

        value = tensor.float_val[0] if tensor.float_val else float(np.frombuffer(tensor.tensor_content, np.float32)[0])
        return value - _ASKED, ""

    return ask


def _channel_options(retries: bool) -> list[tuple[str, Any]]:
    return [("grpc.service_config", RETRIES)] if retries else [("grpc.enable_retries", 0)]


def _over_rest(port: int, stack: ExitStack) -> Callable[..., tuple[float | None, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    stack.callback(connection.close)
    body = json.dumps({"instances": [_ASKED]}).encode()

    def ask(headers: Mapping[str, str] | None = None) -> tuple[float | None, str]:
        try:
            connection.request("POST", f"/v1/models/{MODEL}:predict", body, dict(headers or {}))
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return None, f"{type(error).__name__}: {error}"
        if answer.status != 200:
            return None, f"{answer.status}: {text.decode(errors='replace')[:200]}"
        return json.loads(text)["predictions"][0] - _ASKED, ""

    return ask


def ask_rest(port: int, headers: Sequence[Mapping[str, str]]) -> list[float | None]:
    """What the models add that answer REST requests with these headers, one after the other; None where one fails."""
    with ExitStack() as stack:
        ask = _over_rest(port, stack)
        return [ask(given)[0] for given in headers]
