"""Real database servers on loopback, in a folder of their own, for the metadata store."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from glob import glob
from pathlib import Path

PASSWORD = "correct horse's \\ battery"
PASSWORD_ENV = "STORE_PASSWORD"
_STARTS_IN_S = 300.0


def find(*names: str) -> str | None:
    """The first program of these that is installed, where Debian has it."""
    for name in names:
        found = shutil.which(name) or next(
            iter(sorted(glob(f"/usr/sbin/{name}") + glob(f"/usr/lib/postgresql/*/bin/{name}"))), None
        )
        if found:
            return found
    return None


class Server(ABC):
    """A database server that can be stopped and started again. Neither takes root as its user."""

    kind: str
    user: str

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as bound:
            self.port = int(bound.getsockname()[1])
        self.folder = Path(tempfile.mkdtemp(prefix="satisfice-server-"))
        self.account = self.user if os.getuid() == 0 else getpass.getuser()
        if os.getuid() == 0:
            entry = pwd.getpwnam(self.user)
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        self.make()
        self.start()
        self.prepare()

    @abstractmethod
    def make(self) -> None: ...

    @abstractmethod
    def command(self) -> list[str]: ...

    @abstractmethod
    def prepare(self) -> None: ...

    @abstractmethod
    def ready(self) -> bool: ...

    def section(self, **changes: object) -> dict[str, object]:
        """The configuration's."""
        own = {"host": "127.0.0.1", "port": self.port, "database": "metadata", "user": "satisfice"}
        return {self.kind: {**own, "password_env": PASSWORD_ENV, **changes}}

    def call(self, *words: str, text: str | None = None) -> None:
        done = subprocess.run(words, input=text, text=True, capture_output=True, cwd=self.folder, **self._as_user())
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        log = (self.folder / "server.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=subprocess.STDOUT, cwd=self.folder, **self._as_user()
            )
        deadline = time.monotonic() + _STARTS_IN_S
        while not self.ready():
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline, (self.folder / "server.log").read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        """At once, as by a power cut: connections are lost, what was committed is not."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if self.kind == "postgresql" else signal.SIGKILL)
            self._process.wait(_STARTS_IN_S)
            self._process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _as_user(self) -> dict[str, object]:
        if os.getuid() != 0:
            return {}
        entry = pwd.getpwnam(self.user)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


class MariaDB(Server):
    kind, user = "mysql", "mysql"

    def make(self) -> None:
        install = find("mariadb-install-db")
        assert install
        self.call(
            install,
            "--no-defaults",
            f"--datadir={self.folder}/data",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        )

    def command(self) -> list[str]:
        server = find("mariadbd")
        assert server
        return [
            server, "--no-defaults", f"--datadir={self.folder}/data", f"--port={self.port}", "--bind-address=127.0.0.1",
            f"--socket={self.folder}/socket", f"--pid-file={self.folder}/pid", "--innodb-buffer-pool-size=32M", "--skip-name-resolve",
        ]  # fmt: skip

    def ready(self) -> bool:
        words = [find("mariadb") or "", "--no-defaults", f"--socket={self.folder}/socket", "-uroot", "-e", "select 1"]
        return subprocess.run(words, capture_output=True).returncode == 0

    def prepare(self) -> None:
        password = PASSWORD.replace("\\", "\\\\").replace("'", "''")
        text = f"create database metadata; create user satisfice@'%' identified by '{password}'; grant all on metadata.* to satisfice@'%';"
        self.call(find("mariadb") or "", "--no-defaults", f"--socket={self.folder}/socket", "-uroot", text=text)


class PostgreSQL(Server):
    kind, user = "postgresql", "postgres"

    def make(self) -> None:
        init = find("initdb")
        assert init
        self.call(
            init, "-D", f"{self.folder}/data", "-U", "root", "--auth-local=trust", "--auth-host=scram-sha-256", "-N"
        )

    def command(self) -> list[str]:
        server = find("postgres")
        assert server
        return [server, "-D", f"{self.folder}/data", "-p", str(self.port), "-h", "127.0.0.1", "-k", str(self.folder)]

    def ready(self) -> bool:
        words = [find("pg_isready") or "", "-h", str(self.folder), "-p", str(self.port)]
        return subprocess.run(words, capture_output=True).returncode == 0

    def prepare(self) -> None:
        base = [find("psql") or "", "-h", str(self.folder), "-p", str(self.port), "-U", "root", "-d", "postgres", "-c"]
        self.call(*base, "create role satisfice login password '" + PASSWORD.replace("'", "''") + "'")
        self.call(*base, "create database metadata owner satisfice")


SERVERS: dict[str, tuple[type[Server], tuple[str, ...]]] = {
    "mariadb": (MariaDB, ("mariadbd", "mariadb-install-db", "mariadb")),
    "postgresql": (PostgreSQL, ("postgres", "initdb", "psql", "pg_isready")),
}
"""Name to the server and the programs that it takes."""
