"""What the embedded server costs beside a server that does nothing, and what batching gives, into `RESULTS.md`; what a
request costs over gRPC and over REST, into `README.md`.

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
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.http2 import run_load
from bench.process import REPOSITORY
from bench.results import machine, table, write_section

__all__ = ["main"]

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_SMALL, _LARGE = (8, 32, 16, 1), (256, 1024, 1024, 10)
_CLIENTS = 8
_GATHERED = {"max_batch_size": _CLIENTS, "batch_timeout_micros": 4000}
_ROWS = 256
_README = REPOSITORY / "README.md"
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_LIMITS = {"gRPC": 2.5, "REST": 2.5}
_BATCHING = 1.3

Turn = tuple[float, float]
"""CPU of the server for each request in microseconds, and the median time of one in microseconds, or requests a second."""


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
        batching=BatchingParameters(**_GATHERED) if batching else None,
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


def _throughput(server: dict[str, int], body: bytes, seconds: float) -> Turn:
    """CPU of the server for each request in microseconds, and requests a second, of eight clients."""
    run_load(server["grpc"], _PREDICT, body, clients=_CLIENTS, seconds=0.3)
    before = _cpu_s(server["pid"])
    load = run_load(server["grpc"], _PREDICT, body, clients=_CLIENTS, seconds=seconds)
    return (_cpu_s(server["pid"]) - before) / len(load.latencies_us) * 1e6, load.rate


def _predict_body(width: int, rows: int = 1) -> bytes:
    from tensorflow.core.framework import tensor_pb2, types_pb2
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    values = _values(width, rows)
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_content=values.tobytes())
    for size in values.shape:
        proto.tensor_shape.dim.add(size=size)
    request.inputs["x"].CopyFrom(proto)
    body: bytes = request.SerializeToString()
    return body


def _json_body(width: int, rows: int = 1) -> bytes:
    return json.dumps({"instances": [[round(x, 6) for x in row] for row in _values(width, rows).tolist()]}).encode()


def _values(width: int, rows: int) -> Any:
    import numpy as np

    return np.random.default_rng(7).normal(size=(rows, width)).astype(np.float32)


def _report(turns: dict[str, list[Turn]], rates: dict[str, list[Turn]], command: str) -> str:
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
    widths = "-".join(map(str, _LARGE))
    for place, figure, target in ((1, "requests a second", f"at least {_BATCHING}"), (0, "CPU, us", "")):
        plain, batching = ([turn[place] for turn in rates[who]] for who in ("plain", "batching"))
        ratios = [mine / its for mine, its in zip(batching, plain, strict=True)]
        figures = [_spread(plain, 0), _spread(batching, 0), _spread(ratios, 2)]
        rows.append([f"gRPC, 8 clients, {widths}, {figure}: without batching, with it", *figures, target])
    return "\n".join(
        [
            "## The embedded server",
            "",
            f"`{command}`; {machine()}. One row a request, the first two faces on a model of"
            f" {'-'.join(map(str, _SMALL))}. The empty server is grpcio's synchronous echo of bytes, and an aiohttp handler"
            " that reads the request. Minimum / median / maximum over turns; the clients share the machine. Batches are of at"
            f" most {_GATHERED['max_batch_size']} and wait {_GATHERED['batch_timeout_micros'] / 1000:g} ms at most; the eight clients"
            " are one thread that writes requests made beforehand (`bench/http2.py`). Nothing here compares with TF Serving"
            " itself, whose binary is in no registry.",
            "",
            table(["", "empty", "ours", "ratio", "target"], rows),
        ]
    )


def _faces(turns: dict[str, list[Turn]], sizes: dict[str, int], command: str) -> str:
    """What a request costs over each face, for `README.md`."""
    rows = [
        [
            f"{face}, {_rows_of(count)}",
            f"{sizes[name]:,}",
            *(f"{statistics.median(turn[place] for turn in turns[name]):,.0f}" for place in (0, 1)),
        ]
        for count in (1, _ROWS)
        for face in ("gRPC", "REST")
        for name in [f"{face} ours" if count == 1 else f"{face} many"]
    ]
    return "\n".join(
        [
            f"One request on a model of {'-'.join(map(str, _SMALL))}, medians (`{command}`; {machine()}):",
            "",
            table(["", "bytes sent", "CPU of the server, us", "p50 of one client, us"], rows),
        ]
    )


def _rows_of(count: int) -> str:
    return "one row" if count == 1 else f"{count} rows"


def _spread(values: Sequence[float], digits: int) -> str:
    return " / ".join(f"{value:,.{digits}f}" for value in (min(values), statistics.median(values), max(values)))


@dataclass(frozen=True)
class _Found:
    """What was measured, a figure for each turn.

    Attributes:
        turns: of one client, by face and server.
        rates: of eight, by whether they were batched.
        sizes: bytes of a request.
    """

    turns: dict[str, list[Turn]]
    rates: dict[str, list[Turn]]
    sizes: dict[str, int]


def _measure(turns: int, requests: int, seconds: float) -> _Found:
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as work, ExitStack() as stack:
        small, large = Path(work, "small"), Path(work, "large")
        _write_model(small, _SMALL)
        _write_model(large, _LARGE)
        echo, nothing = stack.enter_context(_started("echo")), stack.enter_context(_started("nothing"))
        ours = stack.enter_context(_started("model", str(small)))
        plain = stack.enter_context(_started("model", str(large)))
        batching = stack.enter_context(_started("batching", str(large)))
        width = _SMALL[0]
        asked = {
            "gRPC empty": (echo, _over_grpc, _predict_body(width), requests),
            "gRPC ours": (ours, _over_grpc, _predict_body(width), requests),
            "REST empty": (nothing, _over_rest, _json_body(width), requests),
            "REST ours": (ours, _over_rest, _json_body(width), requests),
            "gRPC many": (ours, _over_grpc, _predict_body(width, _ROWS), requests // 5),
            "REST many": (ours, _over_rest, _json_body(width, _ROWS), requests // 5),
        }
        calls = {name: over(server, body, stack) for name, (server, over, body, _) in asked.items()}
        found: dict[str, list[Turn]] = {name: [] for name in asked}
        rates: dict[str, list[Turn]] = {"plain": [], "batching": []}
        body = _predict_body(_LARGE[0])
        for _ in range(turns):
            for name, (server, _, _, count) in asked.items():
                found[name].append(_measured(server["pid"], calls[name], count))
            for name, server in (("plain", plain), ("batching", batching)):
                rates[name].append(_throughput(server, body, seconds))
            print({name: [round(figure) for figure in one[-1]] for name, one in {**found, **rates}.items()}, flush=True)
        return _Found(found, rates, {name: len(body) for name, (_, _, body, _) in asked.items()})


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--requests", type=int, default=1500, help="of each face in each turn")
    parser.add_argument("--seconds", type=float, default=3.0, help="of eight clients in each turn")
    parser.add_argument("--no-write", action="store_true", help="leave RESULTS.md and README.md alone")
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        what, *rest = options.serve
        if what in ("model", "batching"):
            _serve_model(rest[0], what == "batching")
        else:
            {"echo": _serve_echo, "nothing": _serve_nothing}[what]()
        return
    found = _measure(options.turns, options.requests, options.seconds)
    command = (
        f"python -m bench.serving --turns {options.turns} --requests {options.requests} --seconds {options.seconds:g}"
    )
    text, faces = _report(found.turns, found.rates, command), _faces(found.turns, found.sizes, command)
    print(text, faces, sep="\n\n")
    if not options.no_write:
        write_section("serving", text)
        write_section("grpc-or-rest", faces, _README)


if __name__ == "__main__":
    main()
