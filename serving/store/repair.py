"""Moves aside what does not belong in a base path, and renews the store's own records. It deletes nothing.

What is taken out of the way lies in `BASE/.satisfice/aside/` under the time of the repair.
"""

from __future__ import annotations

from pathlib import Path

from serving.store.fsck import Finding, find
from serving.store.names import ASIDE, version_number
from serving.store.read import StoreReader
from serving.store.records import Marks, Refusal, State
from serving.store.writer import StoreWriter

__all__ = ["refused_by_manifests", "repair"]


def repair(store: StoreWriter) -> list[tuple[Finding, str]]:
    """Does what can be done without deleting anything; each finding with what was done about it, "" for nothing.

    The last entry that a server could take for a version stays where it is, however damaged: without it, servers would
    unload the model.

    Raises:
        StoreBusyError: a publisher is at work.
        StoreError: the disk refuses.
    """
    return _Repairer.of(store).run()


class _Repairer(StoreWriter):
    """A repair under way."""

    @classmethod
    def of(cls, store: StoreWriter) -> _Repairer:
        """A repairer with the settings of another store."""
        repairer = cls(store.base_path)
        repairer.__dict__.update(store.__dict__)
        return repairer

    def run(self) -> list[tuple[Finding, str]]:
        if not self.base_path.is_dir():
            return [(finding, "") for finding in find(self.base_path)]
        with self._locked(sweep=False):
            aside = self.inner / ASIDE / f"{self._clock():%Y%m%dT%H%M%S.%f}"
            return [(finding, self._mend(finding, aside)) for finding in find(self.base_path, alone=True)]

    def _mend(self, finding: Finding, aside: Path) -> str:
        match finding.repair:
            case "move aside":
                return self._move_aside(finding.path, aside)
            case "retire":
                return self._retire(finding.path)
            case "renew state":
                return self._renew_state(aside)
            case "renew marks":
                return self._renew_marks(aside)
            case _:
                return ""

    def _move_aside(self, path: Path, aside: Path) -> str:
        is_entry = path.parent == self.base_path and version_number(path.name) is not None
        if is_entry and len(self.entries()) == 1:
            return ""
        with self._explained(f"move {path} aside", "Mend that, then repair again."):
            self._make_directories(aside)
            self._fs.rename(path, aside / path.name)
            self._fs.sync_directory(aside)
            self._fs.sync_directory(path.parent)
        manifest = self.manifests / f"{path.name}.json"
        if is_entry and manifest.is_file():
            self._move_aside(manifest, aside)
        return f"moved to {aside / path.name}"

    def _retire(self, manifest: Path) -> str:
        with self._explained(f"file {manifest} with the removed ones", "Mend that, then repair again."):
            self._make_directories(self.removed_manifests)
            self._fs.rename(manifest, self.removed_manifests / manifest.name)
            self._fs.sync_directory(self.removed_manifests)
            self._fs.sync_directory(self.manifests)
        return f"moved to {self.removed_manifests / manifest.name}"

    def _renew_state(self, aside: Path) -> str:
        path = self.inner / "state.json"
        if path.exists():
            self._move_aside(path, aside)
        numbers = self.numbers_with_manifest(self.manifests) + self.numbers_with_manifest(self.removed_manifests)
        largest = max([0, *numbers, *(number for number, _ in self.entries())])
        with self._explained("note the largest version", "Mend that, then repair again."):
            self._replace(path, State(largest_version=largest).model_dump_json())
        return f"noted that {largest} is the largest number in use"

    def _renew_marks(self, aside: Path) -> str:
        self._move_aside(self.inner / "marks.json", aside)
        refused = refused_by_manifests(self)
        self._note_marks(Marks(refused=refused))
        return f"renewed with {len(refused)} refused digests; pins and labels are lost"


def refused_by_manifests(reader: StoreReader) -> dict[str, Refusal]:
    """The digests that were rolled back and not published since; a rollback that was withdrawn changed nothing."""
    refused: dict[str, Refusal] = {}
    for manifest in reader.all_manifests():
        if manifest.rollback is not None and manifest.withdrawn is not None:
            continue
        refused.pop(manifest.digest, None)
        left = manifest.rollback
        if left and left.from_digest and left.from_version is not None and left.from_digest != manifest.digest:
            refused[left.from_digest] = Refusal(
                by=left.by, at=manifest.published_at, reason=left.reason, version=left.from_version
            )
    return refused
