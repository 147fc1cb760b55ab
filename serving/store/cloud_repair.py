"""Moves aside what does not belong in a base path in a bucket, and renews the marks. Nothing is lost.

A bucket has no rename: what is taken out of the way is copied to `BASE/.satisfice/aside/TIME/`, each object in the generation
that was there before anything was looked at, and only when all copies are there is that generation removed, what makes a folder
a model first. What was changed since then, as by somebody who mends it by hand, stays, and that is said. A repair that is cut off leaves copies,
originals, or both; the next one goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.store.cloud import LAST, CloudVersionStore, ConflictError
from serving.store.fsck import Finding, find_in_bucket
from serving.store.names import ASIDE, version_number
from serving.store.records import Marks
from serving.store.repair import refused_by_manifests

__all__ = ["repair_in_bucket"]

_MEANWHILE = "was changed by somebody meanwhile"


def repair_in_bucket(store: CloudVersionStore) -> list[tuple[Finding, str]]:
    """Does what can be done without losing anything; each finding with what was done about it, "" for nothing.

    The last entry that a server could take for a version stays where it is, however damaged, and so does what was claimed
    within the last day: it may be a publish under way.

    Raises:
        StoreError: the bucket cannot be read or written.
    """
    return _Repairer.of(store).run()


class _Repairer(CloudVersionStore):
    """A repair under way."""

    _before: Mapping[str, Any]

    @classmethod
    def of(cls, store: CloudVersionStore) -> _Repairer:
        """A repairer with the settings of another store."""
        repairer = cls(str(store.base_path))
        repairer.__dict__.update(store.__dict__)
        return repairer

    def run(self) -> list[tuple[Finding, str]]:
        self._before = self._objects()
        aside = self.inner / ASIDE / f"{self._clock():%Y%m%dT%H%M%S.%f}"
        return [(finding, self._mend(finding, aside)) for finding in find_in_bucket(self)]

    def _mend(self, finding: Finding, aside: Path) -> str:
        match finding.repair:
            case "move aside":
                return self._put_aside(finding.path, aside)
            case "retire":
                return self._retire(finding.path, aside)
            case "renew marks":
                return self._renew_marks(aside)
            case _:
                return ""

    def _put_aside(self, path: Path, aside: Path) -> str:
        """Of an entry of the base path, its manifest as well."""
        objects = self._objects()
        name = self._name(path)
        number = version_number(name)
        if number is not None and (len(self.seen()) == 1 or number in self.under_way()):
            return ""
        chosen = {one: blob for one, blob in objects.items() if one == name or one.startswith(f"{name}/")}
        moved = {one: f"{aside}/{one if number is not None else path.name}" for one in chosen}
        manifest = self._name(self.manifest_path(number)) if number is not None and name == str(number) else ""
        if manifest in objects:
            chosen[manifest], moved[manifest] = objects[manifest], f"{aside}/{name}.json"
        if self._is_changed(name, manifest, chosen):
            return ""
        return self._move(chosen, moved, aside / path.name)

    def _is_changed(self, name: str, manifest: str, now: Mapping[str, Any]) -> bool:
        """Whether an entry and its manifest are not as they were before the base path was looked at."""
        before = {
            one: blob for one, blob in self._before.items() if one in (name, manifest) or one.startswith(f"{name}/")
        }
        return {one: blob.generation for one, blob in before.items()} != {
            one: blob.generation for one, blob in now.items()
        }

    def _retire(self, manifest: Path, aside: Path) -> str:
        name = self._name(manifest)
        filed = self.removed_manifests / manifest.name
        objects = self._objects()
        if name not in objects or any(one.startswith(f"{manifest.stem}/") for one in objects):
            return ""
        target = aside / manifest.name if self._name(filed) in objects else filed
        return self._move({name: objects[name]}, {name: str(target)}, target)

    def _renew_marks(self, aside: Path) -> str:
        path = self.inner / "marks.json"
        name = self._name(path)
        found = self._before.get(name)
        if found is None or not self._copied(found, f"{aside}/{path.name}"):
            return ""
        self._marks_generation = int(found.generation)
        refused = refused_by_manifests(self)
        try:
            self._note_marks(Marks(refused=refused))
        except ConflictError:
            return ""
        return f"renewed with {len(refused)} refused digests; pins and labels are lost"

    def _move(self, objects: Mapping[str, Any], targets: Mapping[str, str], told: Path) -> str:
        """Copies all of them, then removes the generations that were copied."""
        for name, blob in objects.items():
            if not self._copied(blob, targets[name]):
                return f"copied to {told} in part, and left where it is: {name} {_MEANWHILE}"
        left = [name for name in sorted(objects, key=_what_makes_a_model_first) if not self._removed(objects[name])]
        return f"moved to {told}" + (f", but for {', '.join(left)}, which {_MEANWHILE}" if left else "")

    def _copied(self, blob: Any, target: str) -> bool:
        """Whether the generation of an object that was looked at is copied; False where it is there no more."""
        from google.api_core.exceptions import NotFound, PreconditionFailed

        # By its spelling: `7//a` and `7/a` are two objects.
        copy = self._bucket.blob(self._prefix + target.removeprefix(f"{self.base_path}/"))
        generation = int(blob.generation)
        with self._asked(f"copy {blob.name} to {copy.name}"):
            try:
                token = None
                while True:
                    token, _, _ = copy.rewrite(
                        blob, token=token, if_generation_match=0, if_source_generation_match=generation
                    )
                    if token is None:
                        return True
            except (NotFound, PreconditionFailed):
                return False

    def _removed(self, blob: Any) -> bool:
        """Whether the generation that was looked at is gone; False where another one is there."""
        from google.api_core.exceptions import NotFound, PreconditionFailed

        live = self._bucket.blob(blob.name)
        with self._asked(f"remove {blob.name}"):
            try:
                live.delete(if_generation_match=int(blob.generation))
            except NotFound:
                return True
            except PreconditionFailed:
                return False
        return True


def _what_makes_a_model_first(name: str) -> tuple[bool, bool, str]:
    """The manifest last: as long as it is there, the number is claimed."""
    return name.endswith(".json"), name.partition("/")[2] not in LAST, name
