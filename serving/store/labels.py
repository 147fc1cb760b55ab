"""The labels that servers are to know: those of the configuration, and above them those that people set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from serving.store.read import StoreReader

__all__ = ["Labels", "labels_of"]


@dataclass(frozen=True)
class Labels:
    """Labels on the versions of one base path.

    Attributes:
        labels: label to the version that it names.
        moving: label to the version that it will name; servers load that one meanwhile.
        newest: the newest version; None where there is none.
    """

    labels: Mapping[str, int]
    moving: Mapping[str, int]
    newest: int | None

    @property
    def named(self) -> tuple[int, ...]:
        """The versions that labels name or will name, rising."""
        return tuple(sorted({*self.labels.values(), *self.moving.values()}))

    @property
    def load(self) -> tuple[int, ...]:
        """The versions that servers need: the newest as well."""
        return tuple(sorted({*self.named, *([] if self.newest is None else [self.newest])}))


def labels_of(store: StoreReader, configured: Mapping[str, int]) -> Labels:
    """What servers of a base path are to know.

    Args:
        store: of the versions; a label that was set there counts more than one of the configuration.
        configured: label to version, as the configuration has it.

    Raises:
        StoreError: what is written down of the labels is damaged, or the base path cannot be read.
    """
    marks = store.marks()
    newest = store.newest()
    return Labels({**configured, **marks.labels}, dict(marks.moving), newest.number if newest else None)
