"""Worker templates without their imports: a process that has imported TFX once becomes each template that a test asks for.

`runners.local.template` starts a process and imports TFX in it, for five seconds of processor time, for every run. A run
that a test makes in its own process gets a copy of one process instead that has imported the same modules; all that
follows is the template's own code. Runs that a test starts as a process of their own, and the tests of the template
itself, take none of this.

Protocol: a datagram of JSON with four descriptors in (the template's 0, 1 and 2, and where its status is told); down the
last one its process id, and its exit status when it has ended, a line each.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path

from components.process import die_with_parent
from runners.local import template
from runners.local.lean import import_all, leave_closed

START = template.Template._start
"""How a template is started otherwise."""

_LARGEST = 1 << 18
_READ_BY_IMPORTS = ("CUDA_", "KERAS_", "LD_", "OMP_", "PYTHON", "TF_", "XLA_")
"""Beginnings of the names of variables that what is imported reads, and does not read again."""


class Template:
    """Stands for the `subprocess.Popen` of a template."""

    def __init__(self, status: int, stdin: int, stdout: int) -> None:
        self._status = open(status, "rb", buffering=0)  # noqa: SIM115 - closed with the process's end
        self.stdin = open(stdin, "wb")  # noqa: SIM115 - the template's side closes both
        self.stdout = open(stdout, "rb", buffering=0)  # noqa: SIM115 - as above
        self.returncode: int | None = None
        self.pid = int(self._status.readline())

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a template", timeout or 0)
            self.returncode = int(self._status.readline() or -signal.SIGKILL)
            self._status.close()
        return self.returncode

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        if self.returncode is None:
            os.kill(self.pid, number)


class Nursery:
    """The caller's side; the process is started when the first template is asked for."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._imported_under: dict[str, str] = {}

    @property
    def method(self):
        """What stands for `runners.local.template.Template._start`."""

        def start(asked: template.Template, log: Path, path: list[str]):
            return self._template(log, path) or START(asked, log, path)

        return start

    def _template(self, log: Path, path: list[str]) -> Template | None:
        """A template; None where what it imports might import otherwise now."""
        if self._process is None:
            self._begin()
        if _read_by_imports() != self._imported_under:
            return None
        status, tell = os.pipe()
        stdin, give = os.pipe()
        take, stdout = os.pipe()
        with log.open("ab") as sink:
            message = {"path": path, "sys_path": [os.getcwd(), *filter(None, sys.path)], "env": dict(os.environ)}
            socket.send_fds(self._socket, [json.dumps(message).encode()], [stdin, stdout, sink.fileno(), tell])
        for descriptor in (stdin, stdout, tell):
            os.close(descriptor)
        return Template(status, give, take)

    def close(self) -> None:
        if self._process is not None:
            self._socket.close()
            self._process.kill()
            self._process.wait()

    def _begin(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._imported_under = _read_by_imports()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        theirs.close()


def _read_by_imports() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_READ_BY_IMPORTS)}


# --- the nursery's side -----------------------------------------------------------------------------------------------


def _main(descriptor: int) -> None:
    die_with_parent()
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    leave_closed("tfx.components")
    import_all(template._HEAVY)
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, int] = {}
    with socket.socket(fileno=descriptor) as asked:
        while True:
            ready, _, _ = select.select([asked, awake], [], [])
            if awake in ready:
                os.read(awake, 4096)
                _tell_ends(running)
            if asked in ready:
                content, given, _, _ = socket.recv_fds(asked, _LARGEST, 4)
                if not content:
                    return
                *streams, tell = given
                child = os.fork()
                if child == 0:
                    for other in (asked.detach(), awake, wake, tell, *running.values()):
                        os.close(other)
                    _become_template(json.loads(content), streams)
                for stream in streams:
                    os.close(stream)
                os.write(tell, b"%d\n" % child)
                running[child] = tell


def _tell_ends(running: dict[int, int]) -> None:
    while running:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            return
        tell = running.pop(child)
        with contextlib.suppress(BrokenPipeError):
            os.write(tell, b"%d\n" % os.waitstatus_to_exitcode(status))
        os.close(tell)


def _become_template(message: dict, streams: list[int]) -> None:
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor, stream in enumerate(streams):
            os.dup2(stream, descriptor)
            os.close(stream)
        os.environ.clear()
        os.environ.update(message["env"])
        sys.path[:] = dict.fromkeys([*message["sys_path"], *sys.path])
        os.chdir(message["sys_path"][0])
        sys.argv[:] = [str(template.__file__), *message["path"]]
        sys.modules["__main__"] = template  # what starts processes of its own has them import the main module
        template._main(message["path"])
        status = 0
    except BaseException:  # noqa: BLE001 - the process ends here whatever was raised, and the log is all that tells
        traceback.print_exc()
    finally:
        os._exit(status)


if __name__ == "__main__":
    _main(int(sys.argv[1]))
