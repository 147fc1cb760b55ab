"""A job server and a pool of workers on loopback, each a process that knows nothing of the test: Beam's Job API, for real.

The server is Beam's reference implementation, or Beam's for Flink with a small Flink in it, where its jars are: `make flink`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

_STARTS_IN_S = 400.0
_JARS = Path(__file__).parent.parent.parent / ".tools/flink"
_OPENED = ("lang", "lang.invoke", "lang.reflect", "io", "net", "nio", "text", "time", "util", "util.concurrent")
"""Packages of Java that Flink reads into, which Java 17 lets it only where it is told so."""
_FLINK = """
jobmanager.bind-host: 127.0.0.1
rest.bind-address: 127.0.0.1
rest.port: 0
taskmanager.bind-host: 127.0.0.1
"""


class Cluster:
    """Takes jobs as a cluster's job server does, and runs them in processes that it asks the pool for."""

    def __init__(self, folder: Path, repository: Path) -> None:
        self._folder, self._repository = folder, repository
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            self._start("server", self._server())
            self._start("pool", [sys.executable, "-P", "-m", "runners.beam_pool", "--port", "0"])
            self.endpoint = f"127.0.0.1:{self._until(self._port)}"
            self.pool = self._until(lambda: self._told("pool", r"workers at (\S+)"))
        except BaseException:
            self.close()
            raise

    @property
    def arguments(self) -> list[str]:
        return [
            f"--job_endpoint={self.endpoint}",
            "--parallelism=2",
            "--environment_type=EXTERNAL",
            f"--environment_config={self.pool}",
        ]

    @property
    def workers(self) -> int:
        """How many processes have worked so far."""
        return self._log("pool").read_text().count(" is process ")

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(120)

    def _server(self) -> list[str]:
        service = "apache_beam.runners.portability.local_job_service_main"
        told = ["--port_file", str(self._folder / "port"), "--staging_dir", str(self._folder / "staging")]
        return [sys.executable, "-P", "-m", service, *told]

    def _port(self) -> str:
        port = self._folder / "port"
        return port.read_text() if port.exists() else ""

    def _start(self, name: str, command: list[str]) -> None:
        home = self._folder / name
        home.mkdir()
        environment = {**os.environ, "PYTHONPATH": str(self._repository)}
        with self._log(name).open("wb") as log:
            self._processes.append(
                subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=subprocess.STDOUT)
            )

    def _told(self, name: str, words: str) -> str:
        """What a process has said, by a pattern's group; "" where it has not."""
        found = re.search(words, self._log(name).read_text())
        return found[1] if found else ""

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _until(self, found: Callable[[], str]) -> str:
        deadline = time.monotonic() + _STARTS_IN_S
        while time.monotonic() < deadline:
            ended = [process.args for process in self._processes if process.poll() is not None]
            assert not ended, f"a process has ended: {ended}"
            value = found()
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError("a process did not start")


class FlinkCluster(Cluster):
    """The same with Beam's job server for Flink, and Flink's job manager and task manager in it."""

    @staticmethod
    def jars() -> Path:
        """Where its jars are: `$SATISFICE_FLINK_JARS`, or what `make flink` made."""
        return Path(os.environ.get("SATISFICE_FLINK_JARS") or _JARS)

    @classmethod
    def missing(cls) -> str:
        """Why it cannot be started here; "" where it can."""
        if not any(cls.jars().glob("beam-runners-flink-*.jar")):
            return f"Flink's jars are not in {cls.jars()}: make flink"
        return "" if shutil.which("java") else "java is not installed: apt-get install openjdk-17-jre-headless"

    @property
    def arguments(self) -> list[str]:
        return [*super().arguments, "--environment_cache_millis=60000"]

    @property
    def jobs(self) -> int:
        """How many jobs Flink has finished."""
        return len(
            re.findall(r" Job \S+ \(\w+\) switched from state RUNNING to FINISHED", self._log("server").read_text())
        )

    def _server(self) -> list[str]:
        configured = self._folder / "conf"
        configured.mkdir()
        (configured / "flink-conf.yaml").write_text(_FLINK)
        options = ["--flink-master=[local]", f"--flink-conf-dir={configured}", "--job-host=127.0.0.1", "--job-port=0"]
        options += ["--artifact-port=0", "--expansion-port=-1", f"--artifacts-dir={self._folder / 'staging'}"]
        opened = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in _OPENED]
        java = ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *opened, "-cp", f"{self.jars()}/*"]
        return [*java, "org.apache.beam.runners.flink.FlinkJobServerDriver", *options]

    def _port(self) -> str:
        return self._told("server", r"JobService started on \S+:(\d+)")
