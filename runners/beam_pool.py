"""A pool of Beam's Python workers: `python -m runners.beam_pool --port PORT`, beside each worker of a cluster.

It is what `--environment_type=EXTERNAL --environment_config=HOST:PORT` asks for workers. Beam's own pool imports no plugin
before it reads what was sent to it, so that what TFX stands in for is missing there.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Any

from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

from components.process import sigterm_raised

__all__ = ["main"]

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


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until it is killed; its workers are ended with it. Prints the address at which it listens."""
    parser = argparse.ArgumentParser(prog="runners.beam_pool", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True, help="0 for any that is free")
    address, _server = _Pool.start(use_process=True, port=parser.parse_args(arguments).port)
    _tell(f"workers at {address}")
    with sigterm_raised():  # what Beam registers for the end of the process ends the workers too
        threading.Event().wait()


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
