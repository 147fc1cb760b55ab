"""The load on a server, and what is written of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from bench.http2 import run_load
from bench.serving import _faces, _report

METHOD = "/bench.Service/Method"
BODY = b"x" * 16_000


@pytest.fixture(scope="module")
def server():
    """Its port, and the messages that reached it; what says "no" is refused."""
    seen = []

    def answer(request, context):
        seen.append(request)
        if request == b"no":
            context.abort(grpc.StatusCode.NOT_FOUND, "no")
        return request * 50

    method = grpc.unary_unary_rpc_method_handler(answer)
    one = grpc.server(ThreadPoolExecutor(4))
    one.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Service", {"Method": method}),))
    port = one.add_insecure_port("127.0.0.1:0")
    one.start()
    yield port, seen
    one.stop(None).wait()


def test_every_answer_is_counted(server):
    """Of all connections; more bytes than the server's first window holds."""
    port, seen = server
    load = run_load(port, METHOD, BODY, clients=3, seconds=2)
    assert len(BODY) * len(load.latencies_us) > 3 * 65_535
    assert len(load.latencies_us) <= len(seen) <= len(load.latencies_us) + 3
    assert set(seen) == {BODY}
    assert load.rate == len(load.latencies_us) / load.seconds
    assert min(load.latencies_us) > 0


def test_a_refusal_is_no_answer(server):
    """Nor is the end of the connection."""
    with pytest.raises(RuntimeError, match="refused"):
        run_load(server[0], METHOD, b"no", clients=1, seconds=20)


def test_what_is_written():
    """Ratios of each turn, and medians for README."""
    names = [f"{face} {who}" for face in ("gRPC", "REST") for who in ("empty", "ours", "many")]
    turns = {name: [(100.0, 200.0), (100.0, 100.0)] for name in names}
    turns["REST ours"] = [(300.0, 200.0), (200.0, 400.0)]
    text = _report(turns, {"plain": [(400.0, 1000.0)], "batching": [(300.0, 1500.0)]}, "bench")
    assert "| REST, CPU, us | 100 / 100 / 100 | 200 / 250 / 300 | 2.00 / 2.50 / 3.00 | at most 2.5 |" in text
    assert "1,000 / 1,000 / 1,000 | 1,500 / 1,500 / 1,500 | 1.50 / 1.50 / 1.50 | at least 1.3 |" in text
    assert "| REST, one row | 77 | 250 | 300 |" in _faces(turns, dict.fromkeys(names, 77), "bench")
