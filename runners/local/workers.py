"""The worker processes of a run: a template that is started when it is needed, or before, where that is known."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from runners.local.template import Done, Template
from schemas.errors import NodeFailedError

__all__ = ["MADE_OF", "Workers", "compiled_in", "has_begun", "logs_of", "started_early"]

MADE_OF = "made_of"
"""The file among a run's logs that names what it is made of; written when its nodes begin."""


class Workers:
    """Starts the worker template when the first piece of work comes, if not before; a context that ends every process."""

    def __init__(self, folder: Path, path: list[str]) -> None:
        """Starts nothing yet.

        Args:
            folder: of the run's logs; made when the template starts.
            path: entries that the template appends to `sys.path`.
        """
        self._log = folder / "template.log"
        self._path = path
        self._template: Template | None = None
        self._worked = False

    def start(self) -> None:
        """Has the template import what work needs, while nobody waits for it yet."""
        if self._template is None:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            self._template = Template(self._log, self._path)

    def submit(self, work: str, job: str, arguments: dict[str, Any], log: Path) -> None:
        """Begins a piece of work.

        Raises:
            NodeFailedError: as `wait`.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        self.start()
        assert self._template is not None
        self._worked = True
        try:
            self._template.submit(work, job, arguments, log)
        except BrokenPipeError as error:
            raise _template_ended(error) from error

    def wait(self, timeout_s: float | None = None) -> Done | None:
        """The next piece of work that ends.

        Raises:
            NodeFailedError: the template was killed, and with it all that it ran.
        """
        assert self._template is not None
        try:
            return self._template.wait(timeout_s)
        except EOFError as error:
            raise _template_ended(error) from error

    def close(self, grace_s: float = 0.0) -> None:
        """Ends every process; see `Template.close`. What a template said for which there was no work goes."""
        if self._template is not None:
            self._template.close(grace_s)
            if not self._worked:
                self._log.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def logs_of(root: Path, run_id: str) -> Path:
    """Where a run's logs are, a file a node."""
    return root / "logs" / run_id


def has_begun(folder: Path) -> bool:
    """Whether a run whose logs are in a folder came to its nodes, and so to something that a later one can go on from."""
    return (folder / MADE_OF).is_file()


def compiled_in(root: Path) -> Path:
    """Where the pipelines are that were compiled in a pipeline root."""
    return root / "cache" / "compiled"


@contextlib.contextmanager
def started_early(root: Path, run_id: str, folder: Path) -> Iterator[Workers]:
    """Workers for a run, started at once where the run cannot do without them: nothing was ever compiled in its root.

    Nothing is made for it on the disk: where the folder of the run's logs is missing, they start with their first work.

    Args:
        root: pipeline root.
        run_id: of the run.
        folder: of the configuration.
    """
    with Workers(logs_of(root, run_id), [str(folder)]) as workers:
        if logs_of(root, run_id).is_dir() and not any(compiled_in(root).glob("*.pb")):
            workers.start()
        yield workers


def _template_ended(error: Exception) -> NodeFailedError:
    remedy = "What had finished is kept: `satisfice run --resume` goes on from there."
    return NodeFailedError("the worker processes", str(error), remedy=remedy)
