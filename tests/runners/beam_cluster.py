"""A job server and a pool of workers on loopback, each a process that knows nothing of the test: Beam's Job API without Flink.

The server is Beam's reference implementation. What Flink itself does with a job is not run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

_STARTS_IN_S = 400.0


class Cluster:
    """Takes jobs as a cluster's job server does, and runs them in processes that it asks the pool for."""

    def __init__(self, folder: Path, repository: Path) -> None:
        self._folder, self._repository = folder, repository
        self._processes: list[subprocess.Popen[bytes]] = []
        port = folder / "port"
        service = "apache_beam.runners.portability.local_job_service_main"
        self._start("server", service, "--port_file", str(port), "--staging_dir", str(folder / "staging"))
        self._start("pool", "runners.beam_pool", "--port", "0")
        self.endpoint = f"127.0.0.1:{self._until(lambda: port.exists() and port.read_text())}"
        self.pool = str(self._until(lambda: self.told("workers at ")))

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

    def told(self, words: str) -> str:
        """What the pool has said after some words; "" where it has not."""
        return next(
            (line.removeprefix(words) for line in self._log("pool").read_text().splitlines() if line.startswith(words)),
            "",
        )

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(120)

    def _start(self, name: str, module: str, *arguments: str) -> None:
        home = self._folder / name
        home.mkdir()
        environment = {**os.environ, "PYTHONPATH": str(self._repository)}
        with self._log(name).open("wb") as log:
            command = [sys.executable, "-P", "-m", module, *arguments]
            self._processes.append(
                subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=subprocess.STDOUT)
            )

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _until(self, found: object) -> object:
        deadline = time.monotonic() + _STARTS_IN_S
        while time.monotonic() < deadline:
            assert all(process.poll() is None for process in self._processes), "a process has ended"
            value = found()  # type: ignore[operator]
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError("a process did not start")
