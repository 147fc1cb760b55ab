"""Which answers the event loop gives itself."""

from __future__ import annotations

import threading

import pytest

from serving.server.app import ModelServer, ServerOptions
from serving.server.batching import BatchingParameters
from serving.server.config import ModelConfig
from serving.server.manager import Options
from serving.server.model import LoadedModel
from serving.server.pace import QUICK_S, SLOW_S, Pace, Paces
from tests.serving.server.asking import rest


def proven():
    pace = Pace()
    for _ in range(16):
        pace.took_in_thread(QUICK_S / 2)
    return pace


def test_it_is_earned():
    """By sixteen quick answers in a row."""
    pace = Pace()
    for cpu_s in [QUICK_S / 2] * 15 + [QUICK_S] + [QUICK_S / 2] * 15:
        pace.took_in_thread(cpu_s)
        assert not pace.quick
    pace.took_in_thread(QUICK_S / 2)
    assert pace.quick


def test_it_is_lost_for_long():
    """By slow answers in the loop, but not by one alone."""
    pace = proven()
    pace.took_in_loop(SLOW_S)
    assert pace.quick
    for _ in range(2):
        pace.took_in_loop(SLOW_S * 9)
    assert not pace.quick
    for _ in range(500):
        pace.took_in_thread(QUICK_S / 2)
    assert not pace.quick
    for _ in range(16):
        pace.took_in_thread(QUICK_S / 2)
    assert pace.quick


def test_kinds_of_requests():
    """By path and size; a change of versions, or too many kinds, begin anew."""
    paces = Paces()
    one = paces.of("/a", 100, 1)
    assert paces.of("/a", 120, 1) is one
    assert one not in (paces.of("/b", 100, 1), paces.of("/a", 1000, 1))
    assert paces.of("/a", 100, 2) is not one
    for number in range(2000):
        paces.of(f"/{number}", 1, 2)
    assert len(paces._paces) <= 512


@pytest.mark.parametrize("batching", [None, BatchingParameters(max_batch_size=8)], ids=["plain", "batching"])
def test_threads_of_a_server(small_models, monkeypatch, batching):
    """Quick answers move to the loop, slow ones back to threads, all with the same words; a batch never holds the loop."""
    threads, run = [], LoadedModel.run

    def watched(*arguments, **named):
        threads.append(threading.current_thread())
        return run(*arguments, **named)

    monkeypatch.setattr(LoadedModel, "run", watched)
    monkeypatch.setattr("serving.server.pace.QUICK_S", 60.0)
    monkeypatch.setattr("serving.server.pace.SLOW_S", 60.0)
    options = ServerOptions(grpc_port=None, rest_port=0, versions=Options(poll_s=0), batching=batching)
    with ModelServer([ModelConfig("half", small_models / "half")], options) as server:
        loop = server._rest._thread

        def ask(times, body, expected):
            threads.clear()
            assert {rest(server, "/v1/models/half:predict", body) for _ in range(times)} == {expected}
            return [thread is loop for thread in threads]

        good = {"instances": [1]}, (200, '{"predictions": [3.5]}')
        assert ask(20, *good) == ([False] * 20 if batching else [False] * 16 + [True] * 4)
        bad = {"instances": [-1], "signature_name": "positive"}
        assert ask(20, bad, rest(server, "/v1/models/half:predict", bad))[-1] is not bool(batching)
        monkeypatch.setattr("serving.server.pace.SLOW_S", 0.0)
        assert not any(ask(20, *good)[3:])
