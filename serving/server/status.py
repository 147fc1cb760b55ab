"""What a server answers when it cannot do what it was asked: a gRPC status code, and the same over HTTP."""

from __future__ import annotations

from typing import Literal

from schemas.errors import shorten

__all__ = ["HTTP_STATUS", "Code", "Refusal"]

_SHOWN = 2000
"""Characters of a message: gRPC sends it in a header, and drops an answer whose headers are larger than some KB."""

Code = Literal[
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
]

HTTP_STATUS: dict[Code, int] = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
}
"""As TF Serving's HTTP server maps them."""


class Refusal(Exception):  # noqa: N818 - an answer to a client, not a fault of the program
    """An answer other than the one that was asked for.

    Attributes:
        code: of gRPC.
        message: for the client.
    """

    def __init__(self, code: Code, message: str) -> None:
        shown = shorten(message, _SHOWN)
        super().__init__(shown)
        self.code = code
        self.message = shown

    @property
    def http_status(self) -> int:
        """The same over HTTP."""
        return HTTP_STATUS[self.code]
