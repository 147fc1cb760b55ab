"""Has the source read while the runner is still importing TFX and building the graph, which keeps one core busy for seconds.

What is read ahead (`read_ahead`) is an artifact's folder like any other, below ExampleGen's outputs but none of them: the
executor takes over the shards whose keys are those of its own work, and what does not fit is left. So nothing depends on
whether, how far, or with what result anything was read ahead.

The file `LOCK` is held by whoever reads ahead, until it ends, however that is; the executor waits for it. Imports nothing
that takes time.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Self

from components.process import die_with_parent
from schemas.config import DataConfig

__all__ = ["FOLDER", "LOCK", "Ahead"]

FOLDER, LOCK = ".ahead", ".ahead.lock"
"""Below the folder of the node's outputs."""

_NICE = 3
"""What is needed first, the imports, comes first."""


class Ahead:
    """The process that reads ahead; a context that ends it and removes what nobody has taken."""

    def __init__(self, node: Path, data: DataConfig) -> None:
        """Start to read.

        Args:
            node: folder of the node's outputs, `<pipeline root>/ExampleGen`.
            data: the configuration's section, with absolute paths.
        """
        node.mkdir(parents=True, exist_ok=True)
        self._node = node
        job = json.dumps({"node": str(node), "data": data.model_dump_json(by_alias=True)})
        with (node / LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # belongs to the open file, which the process inherits
            self._process = subprocess.Popen(
                [sys.executable, "-m", "components.example_gen.ahead", job, str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[lock.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
            )

    def wait(self) -> None:
        """Until it has ended."""
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._node / FOLDER, ignore_errors=True)


def _main(job: str, parent: str) -> None:
    die_with_parent(int(parent))
    os.nice(_NICE)
    from components.example_gen.read_ahead import read_ahead

    told = json.loads(job)
    read_ahead(Path(told["node"]), DataConfig.model_validate_json(told["data"]))


if __name__ == "__main__":
    _main(*sys.argv[1:])
