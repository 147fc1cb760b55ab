"""A pool of Beam's Python workers: `python -m runners.beam_pool --port PORT`, beside each worker of a cluster.

It is what `--environment_type=EXTERNAL --environment_config=HOST:PORT` asks for workers. Beam's own pool imports no plugin
before it reads what was sent to it, so that what TFX stands in for is missing there; and it listens on every interface.
Whoever reaches a pool has it run code: a worker goes to the address that it is told, and unpickles what comes from there.
"""

from __future__ import annotations

import argparse
import atexit
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer, kill_process_gracefully
from apache_beam.utils.thread_pool_executor import shared_unbounded_instance

from components.process import sigterm_raised

__all__ = ["listen", "main"]

_LOOPBACK = "127.0.0.1"
_OPTIONS = (("grpc.http2.max_pings_without_data", 0), ("grpc.http2.max_ping_strikes", 0))
"""As Beam's own pool has them."""

_WORK = (
    "import sys, tfx; from apache_beam.runners.worker.sdk_worker import SdkHarness; "
    "SdkHarness(sys.argv[1], worker_id=sys.argv[2]).run()"
)


class _Pool(BeamFnExternalWorkerPoolServicer):
    """Starts a process for each worker that a cluster asks for."""

    def StartWorker(self, start_worker_request: Any, unused_context: Any) -> Any:  # noqa: N802 - the service's name for it
        """As Beam's; what goes wrong is told to the cluster."""
        told = [start_worker_request.control_endpoint.url, start_worker_request.worker_id]
        environment = {"TF_USE_LEGACY_KERAS": "1", **os.environ}
        try:
            worker = subprocess.Popen([sys.executable, "-P", "-c", _WORK, *told], env=environment, cwd="/")
        except OSError:
            return beam_fn_api_pb2.StartWorkerResponse(error=traceback.format_exc())
        self._worker_processes[start_worker_request.worker_id] = worker
        _tell(f"worker {start_worker_request.worker_id} is process {worker.pid}")
        return beam_fn_api_pb2.StartWorkerResponse()

    def end(self) -> None:
        """Ends the workers that are still there."""
        for worker in self._worker_processes.values():
            kill_process_gracefully(worker)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until it is killed; its workers are ended with it. Prints the address at which it listens."""
    parser = argparse.ArgumentParser(prog="runners.beam_pool", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True, help="0 for any that is free")
    reached = "interface to listen on; whoever reaches another one than the default, %(default)s, has code run here"
    parser.add_argument("--host", default=_LOOPBACK, help=reached)
    asked = parser.parse_args(arguments)
    try:
        address, _server = listen(asked.host, asked.port)
    except RuntimeError as error:
        parser.error(f"cannot listen at {asked.host}:{asked.port}: {error}")
    _tell(f"workers at {address}")
    with sigterm_raised():  # what is registered for the end of the process ends the workers too
        threading.Event().wait()


def listen(host: str, port: int) -> tuple[str, grpc.Server]:
    """Starts a pool; its workers are ended with this process.

    Args:
        host: address or name of the interface on which it listens, and no other; an IPv6 address in brackets.
        port: 0 for any that is free.

    Returns:
        The address, and the server.

    Raises:
        RuntimeError: gRPC cannot listen there.
    """
    server = grpc.server(shared_unbounded_instance(), options=_OPTIONS)
    pool = _Pool(use_process=True)
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    address = f"{host}:{server.add_insecure_port(f'{host}:{port}')}"
    server.start()
    atexit.register(pool.end)
    return address, server


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
