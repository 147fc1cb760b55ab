"""What the embedded server costs beside a server that does nothing, and what batching gives, into `RESULTS.md`.

    python -m bench.serving [--turns 7] [--requests 1500]

Servers are processes of their own, all of them up at once, and asked in turns; CPU is the server's alone.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.process import REPOSITORY
from bench.results import machine, table, write_section

__all__ = ["main"]

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_SMALL, _LARGE = (8, 32, 16, 1), (256, 1024, 1024, 10)
_CLIENTS = 8
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_LIMITS = {"gRPC": 2.5, "REST": 2.5}
_BATCHING = 1.3

Turn = tuple[float, float]
"""CPU of the server for each request, and the median time of one, in microseconds."""


# --- servers ----------------------------------------------------------------------------------------------------------


def _serve_echo() -> None:
    """An empty gRPC server: bytes in, the same bytes out."""
    import grpc

    method = grpc.unary_unary_rpc_method_handler(lambda request, _: request)
    handlers = grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", {"Predict": method})
    server = grpc.server(ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"grpc": port}), flush=True)
    server.wait_for_termination()


def _serve_nothing() -> None:
    """An empty aiohttp handler, which reads the request."""
    from aiohttp import web

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=b"{}", content_type="application/json")

    async def start() -> web.Application:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", handle)
        return application

    def announce(_: str) -> None:
        port = next(iter(runner_ports()))
        print(json.dumps({"rest": port}), flush=True)

    import socket

    listener = socket.create_server(("127.0.0.1", 0))

    def runner_ports() -> Iterator[int]:
        yield listener.getsockname()[1]

    web.run_app(start(), sock=listener, print=announce, access_log=None)


def _serve_model(base: str, batching: bool) -> None:
    """The embedded server, with one thread of TensorFlow for each request."""
    from serving.server.app import ModelServer, ServerOptions
    from serving.server.batching import BatchingParameters
    from serving.server.config import ModelConfig

    options = ServerOptions(
        grpc_port=0,
        rest_port=0,
        intra_op_threads=1,
        inter_op_threads=1,
        batching=BatchingParameters(max_batch_size=64) if batching else None,
    )
    with ModelServer([ModelConfig("m", Path(base))], options) as server:
        print(json.dumps({"grpc": server.grpc_port, "rest": server.rest_port}), flush=True)
        time.sleep(3600)


def _write_model(folder: Path, widths: Sequence[int]) -> None:
    import tensorflow as tf

    pairs = list(pairwise(widths))

    class Layers(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weights = [tf.Variable(tf.random.stateless_normal(pair, (7, 7)) * 0.05) for pair in pairs]

        def __call__(self, x: Any) -> Any:
            for weight in self.weights[:-1]:
                x = tf.nn.relu(x @ weight)
            return {"y": x @ self.weights[-1]}

    model = Layers()
    spec = tf.TensorSpec([None, widths[0]], tf.float32, name="x")
    tf.saved_model.save(model, str(folder / "1"), tf.function(model.__call__, input_signature=[spec]))


@contextmanager
def _started(*what: str) -> Iterator[dict[str, int]]:
    """A server's `pid` and its ports."""
    command = [sys.executable, "-m", "bench.serving", "--serve", *what]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            yield {"pid": process.pid, **json.loads(process.stdout.readline())}
        finally:
            process.kill()


# --- measuring --------------------------------------------------------------------------------------------------------


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def _measured(pid: int, ask: Callable[[], object], requests: int) -> Turn:
    for _ in range(50):
        ask()
    walls = []
    before = _cpu_s(pid)
    for _ in range(requests):
        started = time.perf_counter()
        ask()
        walls.append(time.perf_counter() - started)
    return (_cpu_s(pid) - before) / requests * 1e6, statistics.median(walls) * 1e6


def _over_grpc(server: dict[str, int], body: bytes, stack: ExitStack) -> Callable[[], object]:
    import grpc

    channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{server['grpc']}"))
    call = channel.unary_unary(_PREDICT)
    return lambda: call(body, timeout=60)


def _over_rest(server: dict[str, int], body: bytes, stack: ExitStack) -> Callable[[], object]:
    connection = http.client.HTTPConnection("127.0.0.1", server["rest"], timeout=60)
    stack.callback(connection.close)

    def ask() -> bytes:
        connection.request("POST", "/v1/models/m:predict", body)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(text.decode())
        return text

    return ask


def _throughput(server: dict[str, int], body: bytes, seconds: float) -> float:
    """Requests a second of eight clients."""
    with ExitStack() as stack, ThreadPoolExecutor(_CLIENTS) as pool:
        calls = [_over_grpc(server, body, stack) for _ in range(_CLIENTS)]
        for call in calls:
            call()
        until = time.perf_counter() + seconds

        def client(call: Callable[[], object]) -> int:
            count = 0
            while time.perf_counter() < until:
                call()
                count += 1
            return count

        return sum(pool.map(client, calls)) / seconds


def _predict_body(width: int) -> bytes:
    import numpy as np
    from tensorflow.core.framework import tensor_pb2, types_pb2
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    values = np.ones((1, width), np.float32)
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_content=values.tobytes())
    for size in values.shape:
        proto.tensor_shape.dim.add(size=size)
    request.inputs["x"].CopyFrom(proto)
    body: bytes = request.SerializeToString()
    return body


def _report(turns: dict[str, list[Turn]], rates: dict[str, list[float]], command: str) -> str:
    rows = []
    for face, limit in _LIMITS.items():
        for place, (what, digits) in enumerate((("CPU", 0), ("p50, one client", 0))):
            empty, ours = ([turn[place] for turn in turns[f"{face} {who}"]] for who in ("empty", "ours"))
            ratios = [mine / its for mine, its in zip(ours, empty, strict=True)]
            rows.append(
                [
                    f"{face}, {what}, us",
                    _spread(empty, digits),
                    _spread(ours, digits),
                    _spread(ratios, 2),
                    f"at most {limit}",
                ]
            )
    ratios = [mine / its for mine, its in zip(rates["batching"], rates["plain"], strict=True)]
    widths = "-".join(map(str, _LARGE))
    rows.append(
        [
            f"requests a second, 8 clients, {widths}: without batching, with it",
            _spread(rates["plain"], 0),
            _spread(rates["batching"], 0),
            _spread(ratios, 2),
            f"at least {_BATCHING}",
        ]
    )
    return "\n".join(
        [
            "## The embedded server",
            "",
            f"`{command}`; {machine()}. One row a request, the first two faces on a model of"
            f" {'-'.join(map(str, _SMALL))}. The empty server is grpcio's synchronous echo of bytes, and an aiohttp handler"
            " that reads the request. Minimum / median / maximum over turns; clients in Python share the machine. Nothing"
            " here compares with TF Serving itself, whose binary is in no registry.",
            "",
            table(["", "empty", "ours", "ratio", "target"], rows),
        ]
    )


def _spread(values: Sequence[float], digits: int) -> str:
    return " / ".join(f"{value:,.{digits}f}" for value in (min(values), statistics.median(values), max(values)))


def _measure(turns: int, requests: int, seconds: float) -> tuple[dict[str, list[Turn]], dict[str, list[float]]]:
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as work, ExitStack() as stack:
        small, large = Path(work, "small"), Path(work, "large")
        _write_model(small, _SMALL)
        _write_model(large, _LARGE)
        echo, nothing = stack.enter_context(_started("echo")), stack.enter_context(_started("nothing"))
        ours = stack.enter_context(_started("model", str(small)))
        plain = stack.enter_context(_started("model", str(large)))
        batching = stack.enter_context(_started("batching", str(large)))
        proto, text = _predict_body(_SMALL[0]), json.dumps({"instances": [[1.0] * _SMALL[0]]}).encode()
        asked = {
            "gRPC empty": (echo["pid"], _over_grpc(echo, proto, stack)),
            "gRPC ours": (ours["pid"], _over_grpc(ours, proto, stack)),
            "REST empty": (nothing["pid"], _over_rest(nothing, text, stack)),
            "REST ours": (ours["pid"], _over_rest(ours, text, stack)),
        }
        found: dict[str, list[Turn]] = {name: [] for name in asked}
        rates: dict[str, list[float]] = {"plain": [], "batching": []}
        body = _predict_body(_LARGE[0])
        for _ in range(turns):
            for name, (pid, ask) in asked.items():
                found[name].append(_measured(pid, ask, requests))
            for name, server in (("plain", plain), ("batching", batching)):
                rates[name].append(_throughput(server, body, seconds))
            print({name: [round(figure) for figure in one[-1]] for name, one in found.items()}, rates, flush=True)
        return found, rates


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--requests", type=int, default=1500, help="of each face in each turn")
    parser.add_argument("--seconds", type=float, default=3.0, help="of eight clients in each turn")
    parser.add_argument("--no-write", action="store_true", help="leave RESULTS.md alone")
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        what, *rest = options.serve
        if what in ("model", "batching"):
            _serve_model(rest[0], what == "batching")
        else:
            {"echo": _serve_echo, "nothing": _serve_nothing}[what]()
        return
    found, rates = _measure(options.turns, options.requests, options.seconds)
    command = (
        f"python -m bench.serving --turns {options.turns} --requests {options.requests} --seconds {options.seconds:g}"
    )
    text = _report(found, rates, command)
    print(text)
    if not options.no_write:
        write_section("serving", text)


if __name__ == "__main__":
    main()
