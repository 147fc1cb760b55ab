"""Load on a gRPC method out of one thread, so lean that the server and not the client is what is measured.

Each connection has one call in flight. A request is the same bytes each time but for the number of its stream, and of an
answer only the headers of its frames are read (RFC 9113): a DATA frame and then the end of the stream is an answer, the
end of the stream alone a refusal. An ordinary client in Python costs several times as much, on the cores that the server needs.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Sequence

__all__ = ["Load", "run_load"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_NO_TABLE, _WINDOW = struct.pack(">HI", 1, 0), struct.pack(">HI", 4, (1 << 31) - 1)
_CONNECTION = bytes(4)
_DEFAULT_WINDOW = 65_535
_FRAME_BYTES = 16_384


class Load:
    """What became of a load.

    Attributes:
        seconds: that it ran.
        latencies_us: one for each answer.
    """

    def __init__(self, seconds: float, latencies_us: Sequence[float]) -> None:
        self.seconds = seconds
        self.latencies_us = latencies_us

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies_us) / self.seconds


def run_load(port: int, method: str, message: bytes, *, clients: int, seconds: float) -> Load:
    """Calls a method of a server on this machine as fast as it answers.

    Args:
        port: where it listens.
        method: as `/package.Service/Method`.
        message: serialized.
        clients: connections, each with one call in flight.
        seconds: how long.

    Raises:
        RuntimeError: a call is refused, or a connection ends.
    """
    connections = [_Connection(port, method, message) for _ in range(clients)]
    try:
        with selectors.DefaultSelector() as selector:
            for one in connections:
                selector.register(one.socket, selectors.EVENT_READ, one)
                one.ask()
            started = time.perf_counter()
            until = started + seconds
            while (now := time.perf_counter()) < until:
                for key, _ in selector.select(until - now):
                    key.data.read()
            return Load(time.perf_counter() - started, [us for one in connections for us in one.latencies_us])
    finally:
        for one in connections:
            one.socket.close()


class _Connection:
    def __init__(self, port: int, method: str, message: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.latencies_us: list[float] = []
        self._headers = _literals(
            {
                ":method": "POST", ":scheme": "http", ":path": method, ":authority": "localhost",
                "content-type": "application/grpc", "te": "trailers",
            }
        )  # fmt: skip
        self._data = b"\0" + struct.pack(">I", len(message)) + message
        if len(self._data) > _FRAME_BYTES:
            raise ValueError(f"a message of {len(message)} bytes does not go into one frame")
        self._stream = -1
        self._credit = _DEFAULT_WINDOW
        self._asks = False
        self._answered = False
        self._since = 0.0
        self._rest = b""
        settings = _frame(_SETTINGS, 0, 0, _NO_TABLE + _WINDOW)
        window = _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", (1 << 31) - 1 - _DEFAULT_WINDOW))
        self.socket.sendall(_PREFACE + settings + window)

    def ask(self) -> None:
        """Sends a request, or as soon as the server's window lets it."""
        self._asks = len(self._data) > self._credit
        if self._asks:
            return
        self._credit -= len(self._data)
        self._stream += 2
        self._answered = False
        self._since = time.perf_counter()
        self.socket.sendall(
            _frame(_HEADERS, _END_HEADERS, self._stream, self._headers)
            + _frame(_DATA, _END_STREAM, self._stream, self._data)
        )

    def read(self) -> None:
        """Reads what has come, and asks again where the answer is complete."""
        got = self.socket.recv(1 << 16)
        if not got:
            raise RuntimeError("the server ended the connection")
        buffer = self._rest + got
        place = 0
        while len(buffer) >= place + 9:
            length = int.from_bytes(buffer[place : place + 3], "big")
            if len(buffer) < place + 9 + length:
                break
            kind, flags = buffer[place + 3], buffer[place + 4]
            self._take(kind, flags, buffer[place + 9 : place + 9 + length], buffer[place + 5 : place + 9])
            place += 9 + length
        self._rest = buffer[place:]

    def _take(self, kind: int, flags: int, payload: bytes, stream: bytes) -> None:
        if kind == _DATA:
            self._answered = True
        elif kind == _HEADERS and flags & _END_STREAM:
            self._end()
        elif kind == _WINDOW_UPDATE and stream == _CONNECTION:
            self._credit += int.from_bytes(payload, "big")
            if self._asks:
                self.ask()
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            self.socket.sendall(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind in (_RST_STREAM, _GOAWAY):
            raise RuntimeError(f"the server ended the {'stream' if kind == _RST_STREAM else 'connection'}: {payload!r}")

    def _end(self) -> None:
        if not self._answered:
            raise RuntimeError("the server refused a call")
        self.latencies_us.append((time.perf_counter() - self._since) * 1e6)
        self.ask()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literals(headers: dict[str, str]) -> bytes:
    """HPACK (RFC 7541): each as a literal which no table remembers."""
    parts = []
    for name, value in headers.items():
        if max(len(name), len(value)) > 126:
            raise ValueError(f"{name}: longer than the 126 bytes of a short literal")
        parts.append(b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode())
    return b"".join(parts)
