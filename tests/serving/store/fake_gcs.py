"""A fake of Google Cloud Storage's JSON interface on loopback: what the store asks of it, and no more.

Objects with generations, `ifGenerationMatch`, listing by prefix in pages, multipart and resumable uploads, rewrites. It is no
evidence of how the service itself behaves.
"""

from __future__ import annotations

import base64
import email
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c

BASE = "gs://bucket/models/taxi"

_PAGE = 7


@dataclass
class Object:
    """One object."""

    content: bytes
    generation: int
    updated: datetime
    media: str = "application/octet-stream"
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass
class Bucket:
    """What the fake holds: every request changes it in one step.

    Attributes:
        writes: how many objects were made or removed.
        before_write: called with the number of the write that is about to be made, outside of the lock; may wait or raise.
        later: added to the clock, so that things can be old.
    """

    objects: dict[str, Object] = field(default_factory=dict)
    generation: int = 0
    writes: int = 0
    before_write: Callable[[int], None] = lambda _number: None
    later: timedelta = timedelta()
    lock: threading.RLock = field(default_factory=threading.RLock)
    uploads: dict[str, tuple[dict[str, Any], str]] = field(default_factory=dict)

    def make(self, name: str, content: bytes, described: dict[str, Any], match: str | None) -> Object | None:
        self.before_write(self.writes + 1)
        with self.lock:
            found = self.objects.get(name)
            if match is not None and int(match) != (found.generation if found else 0):
                return None
            self.generation += 1
            self.writes += 1
            updated = datetime.now(UTC) + self.later
            media = described.get("contentType") or "application/octet-stream"
            made = Object(content, self.generation, updated, media, described.get("metadata") or {})
            self.objects[name] = made
            return made

    def remove(self, name: str, match: str | None = None) -> int:
        """The status that the service answers with."""
        self.before_write(self.writes + 1)
        with self.lock:
            found = self.objects.get(name)
            if found is None:
                return 404
            if match is not None and int(match) != found.generation:
                return 412
            self.writes += 1
            del self.objects[name]
            return 204

    def folders(self) -> dict[str, list[str]]:
        """What a server lists: the numbered folders, with the names of their objects."""
        with self.lock:
            names = list(self.objects)
        found: dict[str, list[str]] = {}
        for name in names:
            folder, _, rest = name.removeprefix("models/taxi/").partition("/")
            if folder.isdigit():
                found.setdefault(folder, []).append(rest)
        return found


class _Handler(BaseHTTPRequestHandler):
    bucket: Bucket
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        path, query = self._asked()
        if path.endswith("/o"):
            self._list(query)
            return
        name = unquote(path.partition("/o/")[2])
        with self.bucket.lock:
            found = self.bucket.objects.get(name)
        if found is None:
            self._refuse(404, f"No such object: {name}")
        elif path.startswith("/download/"):
            headers = {"X-Goog-Generation": str(found.generation), "X-Goog-Hash": f"crc32c={_crc32c(found.content)}"}
            self._answer(200, found.content, headers, found.media)
        else:
            self._answer_json(_resource(name, found))

    def do_POST(self) -> None:
        path, query = self._asked()
        body = self._body()
        if "/rewriteTo/" in path:
            source, _, target = path.partition("/rewriteTo/")
            with self.bucket.lock:
                found = self.bucket.objects.get(unquote(source.partition("/o/")[2]))
            if found is None:
                self._refuse(404, "No such object")
                return
            if query.get("ifSourceGenerationMatch", str(found.generation)) != str(found.generation):
                self._refuse(412, "At least one of the pre-conditions you specified did not hold.")
                return
            name = unquote(target.partition("/o/")[2])
            self._made(name, found.content, json.loads(body or b"{}"), query, rewritten=True)
        elif query["uploadType"] == "multipart":
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            described, content = email.message_from_bytes(head + body).get_payload()  # type: ignore[misc]
            told = json.loads(described.get_payload(decode=True))  # type: ignore[union-attr, arg-type]
            # Not by the parser of mail, which changes the ends of lines.
            boundary = self.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
            part = body.split(b"--" + boundary)[2].partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
            told.setdefault("contentType", content.get_content_type())  # type: ignore[union-attr]
            self._made(told["name"], part, told, query)
        else:
            told = {**json.loads(body), "contentType": self.headers.get("X-Upload-Content-Type")}
            number = str(len(self.bucket.uploads))
            self.bucket.uploads[number] = (told, query.get("ifGenerationMatch", ""))
            host = f"http://{self.headers['Host']}"
            self._answer(
                200, b"", {"Location": f"{host}/upload/storage/v1/b/x/o?uploadType=resumable&upload_id={number}"}
            )

    def do_PUT(self) -> None:
        _, query = self._asked()
        told, match = self.bucket.uploads[query["upload_id"]]
        self._made(told["name"], self._body(), told, {"ifGenerationMatch": match} if match else {})

    def do_DELETE(self) -> None:
        path, query = self._asked()
        status = self.bucket.remove(unquote(path.partition("/o/")[2]), query.get("ifGenerationMatch"))
        if status == 204:
            self._answer(204, b"")
        else:
            self._refuse(status, "No such object, or a pre-condition that did not hold")

    def _made(
        self, name: str, content: bytes, told: dict[str, Any], query: dict[str, str], *, rewritten: bool = False
    ) -> None:
        made = self.bucket.make(name, content, told, query.get("ifGenerationMatch"))
        if made is None:
            self._refuse(412, "At least one of the pre-conditions you specified did not hold.")
            return
        resource = _resource(name, made)
        size = str(len(content))
        whole = {"done": True, "totalBytesRewritten": size, "objectSize": size, "resource": resource}
        self._answer_json(whole if rewritten else resource)

    def _list(self, query: dict[str, str]) -> None:
        with self.bucket.lock:
            names = sorted(name for name in self.bucket.objects if name.startswith(query.get("prefix", "")))
            begin = int(query.get("pageToken", "0"))
            items = [_resource(name, self.bucket.objects[name]) for name in names[begin : begin + _PAGE]]
        answer: dict[str, Any] = {"kind": "storage#objects", "items": items}
        if begin + _PAGE < len(names):
            answer["nextPageToken"] = str(begin + _PAGE)
        self._answer_json(answer)

    def _asked(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        return parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            chunks = b""
            while size := int(self.rfile.readline(), 16):
                chunks += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return chunks
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer_json(self, value: dict[str, Any]) -> None:
        self._answer(200, json.dumps(value).encode(), media="application/json")

    def _refuse(self, status: int, message: str) -> None:
        body = json.dumps({"error": {"code": status, "message": message}}).encode()
        self._answer(status, body, media="application/json")

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, media: str = "text/plain"
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _resource(name: str, one: Object) -> dict[str, Any]:
    return {
        "kind": "storage#object",
        "name": name,
        "bucket": "bucket",
        "generation": str(one.generation),
        "metageneration": "1",
        "size": str(len(one.content)),
        "crc32c": _crc32c(one.content),
        "md5Hash": base64.b64encode(hashlib.md5(one.content, usedforsecurity=False).digest()).decode(),
        "contentType": one.media,
        "updated": one.updated.isoformat().replace("+00:00", "Z"),
        "timeCreated": one.updated.isoformat().replace("+00:00", "Z"),
        "metadata": one.metadata,
    }


def _crc32c(content: bytes) -> str:
    return base64.b64encode(google_crc32c.Checksum(content).digest()).decode()


@contextmanager
def fake_gcs() -> Iterator[tuple[Bucket, str]]:
    """A bucket, and the address of the service that holds it."""
    bucket = Bucket()
    handler = type("Handler", (_Handler,), {"bucket": bucket})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield bucket, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def stalled() -> None:
    """For `Bucket.before_write`: never comes back."""
    while True:
        time.sleep(60)
