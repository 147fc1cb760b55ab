"""gRPC or REST: what a request of one, some and many rows costs server and client, into `RESULTS.md`.

    python -m bench.faces [--turns 7] [--seconds 1]

One `satisfice serve`, asked in turns by the clients of `satisfice predict`; REST with and without their compression.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.fleet import MODEL, Fleet
from bench.results import machine, table, write_section

__all__ = ["Cost", "main", "measure"]

_WIDTH = 64
_ROWS = (1, 64, 1024)
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_LEAST = 5


@dataclass(frozen=True)
class Cost:
    """Of one request, in milliseconds.

    Attributes:
        wall: median time until the answer.
        client, server: CPU.
    """

    wall: float
    client: float
    server: float


def _write_model(folder: Path) -> Path:
    """A model that hardly computes: what is left is the way there and back."""
    import tensorflow as tf

    class Halves(tf.Module):  # type: ignore[misc]
        def __call__(self, x: Any) -> Any:
            return {"y": x * 0.5}

    spec = tf.TensorSpec([None, _WIDTH], tf.float32, name="x")
    model = Halves()
    tf.saved_model.save(model, str(folder), tf.function(model.__call__, input_signature=[spec]))
    return folder


def measure(fleet: Fleet, turns: int, seconds: float, rows: Sequence[int] = _ROWS) -> dict[tuple[str, int], list[Cost]]:
    """Asks a server in turns; costs by face and number of rows."""
    from serving import client

    grpc_port, rest_port = fleet.ports[0]
    over_grpc = client.GrpcClient(f"127.0.0.1:{grpc_port}", MODEL)
    over_rest = client.RestClient(f"127.0.0.1:{rest_port}", MODEL)
    plain = client.RestClient(f"127.0.0.1:{rest_port}", MODEL, compress=False)
    pid = fleet.processes[0].pid
    found: dict[tuple[str, int], list[Cost]] = {}
    for _ in range(turns):
        for count in rows:
            batch = [{"x": [0.125 * (row + place) + 0.1 for place in range(_WIDTH)]} for row in range(count)]
            asked = {
                "gRPC": lambda batch=batch: over_grpc.predict(batch),
                "REST": lambda batch=batch: plain.predict(batch),
                "REST, gzip": lambda batch=batch: over_rest.predict(batch),
            }
            for face, ask in asked.items():
                found.setdefault((face, count), []).append(_cost(pid, ask, seconds))
    over_grpc.close()
    return found


def _cost(pid: int, ask: Callable[[], object], seconds: float) -> Cost:
    ask()
    walls = []
    server, client = _cpu_s(pid), time.process_time()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(walls) < _LEAST:
        began = time.perf_counter()
        ask()
        walls.append(time.perf_counter() - began)
    count = len(walls)
    return Cost(
        statistics.median(walls) * 1e3,
        (time.process_time() - client) / count * 1e3,
        (_cpu_s(pid) - server) / count * 1e3,
    )


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def _report(found: dict[tuple[str, int], list[Cost]], command: str) -> str:
    rows = [
        [
            f"{count:,} {'row' if count == 1 else 'rows'}, {face}",
            *(_spread([getattr(cost, name) for cost in costs]) for name in ("wall", "client", "server")),
        ]
        for (face, count), costs in sorted(found.items(), key=lambda one: one[0][1])
    ]
    return "\n".join(
        [
            "## gRPC or REST",
            "",
            f"`{command}`; {machine()}. A request of so many rows of {_WIDTH} floats each, and as many back, between the"
            " clients of `satisfice predict` and `satisfice serve`; `REST, gzip` compresses requests from 4 KB up."
            " Minimum / median / maximum over turns, in ms for each request.",
            "",
            table(["", "until the answer", "CPU of the client", "CPU of the server"], rows),
        ]
    )


def _spread(values: Sequence[float]) -> str:
    return " / ".join(f"{value:,.2f}" for value in (min(values), statistics.median(values), max(values)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.faces", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each face and size in each turn")
    parser.add_argument("--no-write", action="store_true", help="leave RESULTS.md alone")
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory(prefix="bench-faces-") as work, Fleet(Path(work), servers=1) as fleet:
        fleet.publish(_write_model(Path(work, "model")))
        fleet.start()
        found = measure(fleet, options.turns, options.seconds)
    text = _report(found, f"python -m bench.faces --turns {options.turns} --seconds {options.seconds:g}")
    print(text)
    if not options.no_write:
        write_section("faces", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
