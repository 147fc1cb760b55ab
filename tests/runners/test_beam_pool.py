"""Where the pool of Beam's workers listens: whoever reaches it has it run code."""

from __future__ import annotations

import socket

import pytest

from runners.beam_pool import listen, main


def reached(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=5):
            return True
    except OSError:
        return False


@pytest.mark.parametrize(("asked", "elsewhere"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_a_pool_listens_where_it_is_told_and_nowhere_else(asked, elsewhere):
    """Another address of this machine reaches it only where it is to listen on all of them."""
    address, server = listen(asked, 0)
    host, _, port = address.rpartition(":")
    try:
        assert host == asked
        assert reached("127.0.0.1", int(port))
        assert reached("127.0.0.2", int(port)) == elsewhere
    finally:
        server.stop(None).wait(10)


def test_loopback_is_the_default(capsys, monkeypatch):
    """Nobody has to ask for it; what cannot be listened at is said."""

    def refuse(host, port):
        raise RuntimeError(f"{host} and {port}")

    monkeypatch.setattr("runners.beam_pool.listen", refuse)
    with pytest.raises(SystemExit, match="2"):
        main(["--port", "50000"])
    assert "cannot listen at 127.0.0.1:50000: 127.0.0.1 and 50000" in capsys.readouterr().err
