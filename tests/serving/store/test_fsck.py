"""What is wrong with a base path: found, explained, and moved aside without deleting anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import StoreError
from serving.payload import digest
from serving.store import VersionStore, find, repair
from serving.store.lock import locked
from tests.serving.store.payloads import numeric_entries, publish, saved_model

BY = {"by": "ann@host", "reason": "drill"}


def every_file(base: Path) -> dict[bytes, int]:
    """Each content below a base path, with the number of files that hold it."""
    found: dict[bytes, int] = {}
    for path in base.rglob("*"):
        if path.is_file() and path.name not in ("lock", "state.json", "marks.json"):
            found[path.read_bytes()] = found.get(path.read_bytes(), 0) + 1
    return found


def damage_manifest(base: Path) -> None:
    (base / ".satisfice" / "manifests" / "2.json").write_text("{")


def forget(base: Path) -> None:
    (base / ".satisfice" / "state.json").unlink()


def lose_pinned(base: Path) -> None:
    VersionStore(base).pin(2, by="ann")
    shutil.rmtree(base / "2")


def lose_labelled(base: Path) -> None:
    store = VersionStore(base)
    store.begin_label("stable", 2)
    store.finish_label("stable", 2)
    shutil.rmtree(base / "2")


FAULTS: dict[str, tuple[Callable[[Path], object], list[tuple[str, str, str]], list[str]]] = {
    "half version": (
        lambda base: (base / "3" / "saved_model.pb").unlink(),
        [("half_version", "3", "what was published. It is what TF Serving takes for the latest version.")],
        [],
    ),
    "other bytes": (
        lambda base: (base / "2" / "saved_model.pb").write_text("GRAPH 2"),
        [("digest_mismatch", "2", "saved_model.pb holds other bytes, so version 2 no longer is what was published.")],
        [],
    ),
    "empty directory": (
        lambda base: (base / "17").mkdir(),
        [("foreign_entry", "17", "is a directory without a model that was not published by this store; TF Serving")],
        [],
    ),
    "plain file": (
        lambda base: (base / " +5").touch(),
        [("foreign_entry", " +5", "is a plain file that was not published by this store; TF Serving tries to load it as ")],
        [],
    ),
    "version of others": (
        lambda base: saved_model(base / "1700000003"),
        [("foreign_version", "1700000003", "was not published by this store: nothing tells whether its bytes are whole")],
        ["foreign_version"],
    ),
    "lost manifest": (
        lambda base: (base / ".satisfice" / "manifests" / "2.json").unlink(),
        [("foreign_version", "2", "has lost its manifest: nothing tells whether its bytes are whole.")],
        ["foreign_version"],
    ),
    "leading zeros": (
        lambda base: saved_model(base / "003"),
        [("spelling_collision", "003", "is version 3 to TF Serving, as '3' is: one of the two is served, by chance")],
        [],
    ),
    "damaged manifest": (
        damage_manifest,
        [("damaged_manifest", "2.json", "the manifest of version 2 cannot be read: Invalid JSON")],
        ["foreign_version"],
    ),
    "removed by hand": (
        lambda base: shutil.rmtree(base / "2"),
        [("orphan_manifest", "2.json", "describes a version that is not there: it was removed by hand")],
        [],
    ),
    "cut-off publish": (
        lambda base: saved_model(base / ".staging-c0ffee"),
        [("leftover", ".staging-c0ffee", "was left by a publish that was cut off; TF Serving skips it")],
        [],
    ),
    "cut-off removal": (
        lambda base: (base / "1").rename(base / ".trash-1-c0ffee"),
        [
            ("orphan_manifest", "1.json", "describes a version that is not there"),
            ("leftover", ".trash-1-c0ffee", "was left by a removal that was cut off; TF Serving skips it"),
        ],
        [],
    ),
    "damaged state": (
        lambda base: (base / ".satisfice" / "state.json").write_text("{}"),
        [("damaged_state", "state.json", "cannot be read: Field required")],
        [],
    ),
    "lost state": (
        forget,
        [("damaged_state", "state.json", "knows of no number, and version 3 was published: a number could be used twice")],
        [],
    ),
    "damaged marks": (
        lambda base: (base / ".satisfice" / "marks.json").write_text("[]"),
        [("damaged_marks", "marks.json", "cannot be read: Input should be an object")],
        [],
    ),
    "lost pinned version": (
        lose_pinned,
        [("lost_mark", "marks.json", "holds a pin on version 2, which is not there or not whole"), ("orphan_manifest", "2.json", "")],
        ["lost_mark"],
    ),
    "lost labelled version": (
        lose_labelled,
        [("lost_mark", "marks.json", "holds label 'stable' on version 2, which is"), ("orphan_manifest", "2.json", "")],
        ["lost_mark"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_explained_and_mended(
    store: VersionStore, base: Path, models: list[Path], fault: str
) -> None:
    """Nothing is deleted by the repair, what it cannot mend is still told of, and the next publish succeeds."""
    damage, expected, left = FAULTS[fault]
    assert find(base) == []
    damage(base)
    before = every_file(base)
    found = find(base)
    assert [(one.kind, one.path.name) for one in found] == [(kind, name) for kind, name, _ in expected]
    for finding, (_, _, words) in zip(found, expected, strict=True):
        assert words in finding.problem
        assert finding.remedy.endswith(".")
        assert finding.as_dict()["path"] == str(finding.path)
    mended = repair(store)
    assert every_file(base) == before
    assert [one.kind for one in find(base)] == left
    assert all(done for finding, done in mended if finding.repair)
    published = publish(store, models[3])
    assert published.outcome == "pushed"
    store.verify(published.version)


def test_a_sound_base_path(store: VersionStore, base: Path, models: list[Path]) -> None:
    """Rollbacks, retention, pins and labels leave nothing to find."""
    store.pin(1, by="ann")
    store.rollback(1, **BY)
    store.begin_label("stable", 2)
    store.retain(1)
    publish(store, models[3])
    assert find(base) == []
    assert repair(store) == []


def test_a_base_path_that_is_missing_or_empty(store: VersionStore, base: Path) -> None:
    """TF Serving stops updating all models in the first case, and unloads this one in the second."""
    for name in numeric_entries(base):
        shutil.rmtree(base / name)
    kinds = [one.kind for one in find(base)]
    assert kinds == ["empty_base_path", *["orphan_manifest"] * 3]
    assert "unloads the model" in find(base)[0].problem
    shutil.rmtree(base)
    (missing,) = find(base)
    assert (missing.kind, missing.severity) == ("no_base_path", "error")
    assert repair(store) == [(missing, "")]
    assert not base.exists()


def test_a_base_path_that_cannot_be_read(tmp_path: Path) -> None:
    """A file is no base path."""
    (tmp_path / "file").touch()
    (only,) = find(tmp_path / "file")
    assert only.kind == "no_base_path"


def test_a_damaged_state_beside_a_lost_manifest(store: VersionStore, base: Path) -> None:
    """Both are told of, each for itself: without the state nothing says that the version was ours."""
    (base / ".satisfice" / "state.json").write_text("?")
    (base / ".satisfice" / "manifests" / "2.json").unlink()
    found = {one.kind: one.problem for one in find(base)}
    assert found.keys() == {"damaged_state", "foreign_version"}
    assert found["foreign_version"].startswith("was not published by this store")


def test_a_folder_of_manifests_that_is_a_file(store: VersionStore, base: Path) -> None:
    """One error that names it."""
    shutil.rmtree(base / ".satisfice" / "manifests")
    (base / ".satisfice" / "manifests").touch()
    with pytest.raises(StoreError, match="manifests: cannot be read: Not a directory; expected a folder of manifests"):
        find(base)


def test_the_last_version_stays_however_damaged(base: Path, model: Path) -> None:
    """Without it servers would unload the model that they still hold in memory."""
    store = VersionStore(base)
    publish(store, model)
    (base / "1" / "saved_model.pb").unlink()
    ((finding, done),) = repair(store)
    assert (finding.kind, done) == ("half_version", "")
    assert numeric_entries(base) == ["1"]


def test_a_damaged_version_goes_aside_with_its_manifest(store: VersionStore, base: Path) -> None:
    """So that both can be looked at together."""
    (base / "3" / "saved_model.pb").unlink()
    ((_, done),) = repair(store)
    (aside,) = (base / ".satisfice" / "aside").iterdir()
    assert done == f"moved to {aside / '3'}"
    assert sorted(os.listdir(aside)) == ["3", "3.json"]
    assert store.newest().number == 2  # type: ignore[union-attr]


def test_a_publish_under_way_is_not_taken_for_damage(store: VersionStore, base: Path) -> None:
    """Its staging is no leftover, and a repair waits for it."""
    saved_model(base / ".staging-c0ffee")
    with locked(base / ".satisfice", 1, 30):
        (only,) = find(base)
        assert (only.kind, only.severity) == ("under_way", "note")
        assert f"process {os.getpid()} on " in only.problem
        with pytest.raises(StoreError, match="another publisher has held the lock"):
            repair(VersionStore(base, lock_timeout_s=0.1))


def test_refusals_are_found_again_in_the_manifests(store: VersionStore, base: Path, models: list[Path]) -> None:
    """What was rolled back and not published since is refused again; who, when and why stand there too."""
    store.rollback(1, **BY)
    store.rollback(2, by="bob", reason="again")
    store.allow(digest(models[0]))
    publish(store, models[0])
    store.rollback(2, **BY)
    before = store.marks().refused
    (base / ".satisfice" / "marks.json").write_text("?")
    ((finding, done),) = repair(store)
    assert (finding.kind, done) == ("damaged_marks", "renewed with 2 refused digests; pins and labels are lost")
    after = store.marks().refused
    assert after.keys() == before.keys() == {digest(models[0]), digest(models[2])}
    assert {(one.by, one.reason, one.version) for one in after.values()} == {
        (one.by, one.reason, one.version) for one in before.values()
    }


@pytest.mark.parametrize("back", [(), (3,)], ids=["to what was not refused", "to what was refused"])
def test_a_withdrawn_rollback_refuses_nothing_after_a_repair_either(
    store: VersionStore, base: Path, models: list[Path], back: tuple[int, ...]
) -> None:
    """What serves can be pushed, and what was refused before the rollback is refused again."""
    for to in (1, *back):
        before, done = store.marks().refused, store.rollback(to, **BY)
    store.withdraw(done.version, by="ann", reason="no server took it")
    (base / ".satisfice" / "marks.json").write_text("?")
    repair(store)
    assert store.marks().refused.keys() == before.keys() == ({digest(models[2])} if back else set())
    assert publish(store, models[0] if back else models[2]).outcome == "already_served"
