"""A process that has imported TFX, and makes a copy of itself for each piece of work.

Importing TFX takes seconds, so it is paid once; a fork takes a few hundredths. Each node thus begins from the same
clean state, its peak memory is its own, and whatever it leaves behind goes with it. TensorFlow starts its threads with
the first operation, which the template never runs, so that there is nothing in it that a fork would break.

The template dies with the process that started it, and the copies with the template: the kernel sees to both.

Protocol, a JSON object a line: `{"id", "job", "arguments", "log"}` in; `{"ready"}`, then `{"id", "result", "usage"}`
out.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.process import die_with_parent
from runners.local.lean import import_all, leave_closed

__all__ = ["Done", "Template"]

_HEAVY = (
    "tfx.orchestration.portable.launcher",
    "tfx.orchestration.local.runner_utils",
    "tensorflow_transform",
    "tf_keras",
    "pyarrow.csv",
    "pipeline.pipeline",
)
_BY_THE_WAY = ("setuptools", "tensorboard.summary", "tensorflow_serving.apis.prediction_log_pb2")
"""What libraries import when a node runs, each copy anew, if it was not imported before."""


@dataclass(frozen=True)
class Done:
    """A piece of work that has ended.

    Attributes:
        id: of the work.
        result: what the job returned; None where its process died.
        status: exit status as `os.waitstatus_to_exitcode` gives it.
        peak_memory_mb: largest resident set of its process, which includes what the template had imported; None where it
            had none of its own.
        cpu_s: processor time of its process.
    """

    id: str
    result: dict[str, Any] | None
    status: int
    peak_memory_mb: float | None
    cpu_s: float


class Template:
    """The caller's side: starts the template, hands work to it, hears of its end."""

    def __init__(self, log: Path, path: list[str]) -> None:
        """Starts the process, which begins to import at once.

        Args:
            log: file that takes what the template and the imports write.
            path: entries to append to `sys.path`.
        """
        self._process = self._start(log, path)
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        self._buffer = b""
        self.ready_after_s: float | None = None

    def _start(self, log: Path, path: list[str]) -> subprocess.Popen[bytes]:
        with log.open("ab") as sink:
            return subprocess.Popen(
                [sys.executable, "-m", __name__, *path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
            )

    def submit(self, work: str, job: str, arguments: dict[str, Any], log: Path) -> None:
        """Has a copy of the template call `job(**arguments)`, a function `module:name`, with its noise in a log.

        Answers that come meanwhile are kept for `wait`: a template that has to wait until they are read reads nothing.

        Raises:
            BrokenPipeError: the template has died.
        """
        line = json.dumps({"id": work, "job": job, "arguments": arguments, "log": str(log)})
        rest = memoryview(line.encode() + b"\n")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        commands, answers = self._process.stdin.fileno(), self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(commands, selectors.EVENT_WRITE)
            selector.register(answers, selectors.EVENT_READ)
            while rest:
                for key, _ in selector.select():
                    if key.fd == commands:
                        rest = rest[os.write(commands, rest) :]
                    elif not self._take_answers():
                        selector.unregister(answers)

    def wait(self, timeout_s: float | None = None) -> Done | None:
        """The next piece of work that ends; None where the time ran out.

        Raises:
            EOFError: the template itself has died.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            while b"\n" in self._buffer:
                line, self._buffer = self._buffer.split(b"\n", 1)
                message = json.loads(line)
                if "ready" in message:
                    self.ready_after_s = message["ready"]
                    continue
                return Done(**message)
            if not self._read(None if deadline is None else max(0.0, deadline - time.monotonic())):
                return None

    def _read(self, timeout_s: float | None) -> bool:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(timeout_s):
                return False
        if not self._take_answers():
            raise EOFError(f"the worker template ended with status {self._process.wait()}")
        return True

    def _take_answers(self) -> bool:
        """Reads what is there; False at the end of it."""
        assert self._process.stdout is not None
        chunk = os.read(self._process.stdout.fileno(), 1 << 16)
        self._buffer += chunk
        return bool(chunk)

    def close(self, grace_s: float = 0.0) -> None:
        """Ends the template and every copy of it.

        Args:
            grace_s: how long copies may take that are asked first, and keep what they have.
        """
        if grace_s:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


# --- the template's side ----------------------------------------------------------------------------------------------


def _main(path: list[str]) -> None:
    die_with_parent()
    started = time.monotonic()
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    sys.path += [entry for entry in path if entry not in sys.path]
    answers = os.dup(1)
    os.set_inheritable(answers, False)
    os.dup2(2, 1)  # whatever imports print belongs into the log
    leave_closed("tfx.components")
    import_all([*_HEAVY, *(name for name in _BY_THE_WAY if importlib.util.find_spec(name.partition(".")[0]))])
    _answer(answers, {"ready": round(time.monotonic() - started, 3)})
    _Server(answers).serve()


def _answer(answers: int, message: dict[str, Any]) -> None:
    """Writes a whole line: a signal, as of a copy that ends, may break a long write off."""
    rest = memoryview(json.dumps(message).encode() + b"\n")
    while rest:
        rest = rest[os.write(answers, rest) :]


class _Server:
    def __init__(self, answers: int) -> None:
        self._answers = answers
        self._running: dict[int, tuple[str, str]] = {}
        self._buffer = b""
        self._leaves = False

    def serve(self) -> None:
        """Forks for each line, and answers for each copy that ends, until the caller closes the pipe.

        SIGTERM is passed on to the copies, and ends it when they have ended.
        """
        awake, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._ask_copies_to_leave())
        with selectors.DefaultSelector() as selector:
            selector.register(0, selectors.EVENT_READ)
            selector.register(awake, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fd == awake:
                        os.read(awake, 4096)
                        self._reap()
                    elif not self._take():
                        return
                if self._leaves and not self._running:
                    return

    def _ask_copies_to_leave(self) -> None:
        self._leaves = True
        for child in self._running:
            os.kill(child, signal.SIGTERM)

    def _take(self) -> bool:
        chunk = os.read(0, 1 << 16)
        if not chunk:
            return False
        self._buffer += chunk
        while b"\n" in self._buffer:
            line, self._buffer = self._buffer.split(b"\n", 1)
            self._fork(json.loads(line))
        return True

    def _fork(self, work: dict[str, Any]) -> None:
        descriptor, result = tempfile.mkstemp(prefix="satisfice-", suffix=".json")
        os.close(descriptor)
        child = os.fork()
        if child == 0:
            _run(work, result)
        self._running[child] = (work["id"], result)

    def _reap(self) -> None:
        while self._running:
            child, status, usage = os.wait4(-1, os.WNOHANG)
            if child == 0:
                return
            if child not in self._running:
                continue
            work, path = self._running.pop(child)
            _answer(
                self._answers,
                {
                    "id": work,
                    "result": _result_in(Path(path)),
                    "status": os.waitstatus_to_exitcode(status),
                    "peak_memory_mb": round(usage.ru_maxrss / 1024, 1),
                    "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
                },
            )


def _result_in(file: Path) -> dict[str, Any] | None:
    """What a copy has left in its file, which goes; None where it died before it had written all of it."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    finally:
        for one in (file, _half(file)):
            one.unlink(missing_ok=True)
    return found if isinstance(found, dict) else None


def _half(file: Path) -> Path:
    return file.with_suffix(".half")


def _run(work: dict[str, Any], path: str) -> None:
    """In the copy: calls the job and writes its result, then ends without the interpreter's clean-up.

    TensorFlow and Beam have been seen to crash in it, after all was done.
    """
    status = 1
    try:
        die_with_parent()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sink = os.open(work["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for descriptor in (1, 2):
            os.dup2(sink, descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        module, name = work["job"].split(":")
        job: Callable[..., dict[str, Any]] = getattr(importlib.import_module(module), name)
        result = job(**work["arguments"])
        half = _half(Path(path))
        half.write_text(json.dumps(result), encoding="utf-8")
        os.replace(half, path)
        status = 0
    except BaseException:  # noqa: BLE001 - the process ends here whatever was raised, and the log is all that tells
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _main(sys.argv[1:])
