"""Labels that are set in the version store reach a running server, in the two steps that TF Serving demands.

A version is loaded first; the label moves once it is available. Until then the label names what it named before, so
that no request by label fails.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from schemas.errors import StoreError
from serving.server.config import ModelConfig, Policy
from serving.server.manager import Manager
from serving.server.status import Refusal
from serving.store import Labels, StoreReader, labels_of

__all__ = ["LabelWatch", "labelled", "next_labels"]

_LOG = logging.getLogger(__name__)


def next_labels(now: Mapping[str, int], wanted: Mapping[str, int], available: Sequence[int]) -> dict[str, int]:
    """The labels that a server can take at this moment.

    Args:
        now: that it has.
        wanted: that it is to have.
        available: versions that are loaded.

    Returns:
        Each wanted label on its version where that is loaded, else where it was; a new one waits.

    >>> next_labels({"stable": 1}, {"stable": 2, "canary": 2}, [1])
    {'stable': 1}
    """
    found = {label: version if version in available else now.get(label) for label, version in wanted.items()}
    return {label: version for label, version in found.items() if version is not None}


def labelled(model: ModelConfig, found: Labels, labels: Mapping[str, int], *, strict: bool) -> ModelConfig:
    """The configuration of a model with labels.

    Args:
        model: as it is without labels: its newest version.
        found: what the store and the configuration say.
        labels: those that it can have now.
        strict: as TF Serving needs it: its policy of the newest version would not load what labels need.
    """
    if strict and (found.labels or found.moving):
        return replace(model, policy=Policy("specific", versions=found.load), labels=dict(labels))
    return replace(model, labels=dict(labels), beside=found.named)


class LabelWatch:
    """Looks at a store's labels from time to time, and moves the server's."""

    def __init__(
        self,
        base_path: Path,
        configured: Mapping[str, int],
        models: Sequence[ModelConfig],
        *,
        strict: bool = False,
    ) -> None:
        """Reads the labels.

        Args:
            base_path: of the store; the first of the models has it.
            configured: labels of the configuration; those of the store count more.
            models: the server's, without labels.
            strict: see `labelled`.

        Raises:
            StoreError: what is written down of the labels is damaged.
        """
        self._store = StoreReader(base_path)
        self._configured = dict(configured)
        self._model, *self._others = models
        self._strict = strict
        self._marks = self._looks()
        self._found = labels_of(self._store, self._configured)
        # TF Serving takes labels of versions that it has, and ends as it starts where it has not.
        self._labels: dict[str, int] = {} if strict else dict(self._found.labels)
        self._stopping = threading.Event()

    def models(self) -> list[ModelConfig]:
        """What the server serves, with the labels that it has."""
        return [labelled(self._model, self._found, self._labels, strict=self._strict), *self._others]

    def start(self, manager: Manager, take: Callable[[Sequence[ModelConfig]], None], every_s: float) -> None:
        """Looks at once, and then every so many seconds, in a thread of its own; 0 looks once.

        Args:
            manager: that knows which versions are available.
            take: gives the server its models.
            every_s: seconds between two looks.
        """
        threading.Thread(target=self._watch, args=(manager, take, every_s), daemon=True, name="labels").start()

    def stop(self) -> None:
        """Looks no more."""
        self._stopping.set()

    def look(self, manager: Manager, take: Callable[[Sequence[ModelConfig]], None]) -> bool:
        """Looks once, and moves what can be moved.

        Returns:
            True where something was given to the server.
        """
        looks = self._looks()
        reads = looks != self._marks or (self._strict and self._found.named)  # where they are named, the newest too
        found = labels_of(self._store, self._configured) if reads else self._found
        labels = next_labels(self._labels, found.labels, _available(manager, self._model.name))
        same = found.named == self._found.named and labels == self._labels
        if same and (not self._strict or found == self._found):
            self._found, self._marks = found, looks
            return False
        before = self._found, self._labels
        self._found, self._labels = found, labels
        try:
            take(self.models())
        except Refusal:
            self._found, self._labels = before
            raise
        self._marks = looks
        _LOG.info("labels of %s: %s", self._model.name, labels or "none")
        return True

    def _watch(self, manager: Manager, take: Callable[[Sequence[ModelConfig]], None], every_s: float) -> None:
        said = ""
        while True:
            said = self._looked(manager, take, said)
            if every_s <= 0 or self._stopping.wait(every_s):
                return

    def _looked(self, manager: Manager, take: Callable[[Sequence[ModelConfig]], None], said: str) -> str:
        """Looks, and says once why nothing can be moved."""
        try:
            self.look(manager, take)
        except (StoreError, Refusal) as error:
            if str(error) != said:
                _LOG.warning("the labels of %s stay as they are: %s", self._model.name, error)
            return str(error)
        except Exception:  # noqa: BLE001 - whatever it is, the watch goes on
            _LOG.exception("the labels of %s are not read", self._model.name)
        return ""

    def _looks(self) -> tuple[int, int, int] | None:
        """What the file with the labels looks like; None where there is none."""
        try:
            found = os.stat(self._store.inner / "marks.json")
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def _available(manager: Manager, name: str) -> list[int]:
    try:
        return [one.version for one in manager.status(name) if one.state == "AVAILABLE"]
    except Refusal:
        return []
