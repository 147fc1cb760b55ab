"""Going back, and what people say of versions: rollback, refusal, pins, labels, retention."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import DigestMismatchError, RolledBackError, StoreError
from serving.payload import digest
from serving.store import FileSystem, Mark, VersionStore
from tests.serving.store.payloads import assert_only_whole_versions, numeric_entries, publish, saved_model
from tests.serving.store.test_versions import Failing, Killed, Tracing, Unsynced

BY = {"by": "ann@host", "reason": "too many refunds"}


# --- rollback ---------------------------------------------------------------------------------------------------------


def test_a_rollback_publishes_the_old_bytes_under_a_new_number(store: VersionStore, models: list[Path]) -> None:
    """A server of the latest version takes it; the version that is left stays where it is."""
    done = store.rollback(1, **BY)
    assert (done.version, done.outcome, done.reason) == (4, "pushed", "rolled back to version 1: too many refunds")
    assert store.versions() == (1, 2, 3, 4)
    assert digest(done.path) == digest(models[0])
    store.verify(4)
    manifest = store.manifest(4)
    assert manifest.provenance == store.manifest(1).provenance == {"pipeline": "taxi"}
    assert manifest.rollback is not None
    assert manifest.rollback.model_dump() == {
        "to": 1,
        "from_version": 3,
        "from_digest": digest(models[2]),
        "lifted": None,
        **BY,
    }


def test_what_was_rolled_back_is_refused_until_it_is_allowed(store: VersionStore, models: list[Path]) -> None:
    """The message says who rolled it back, when and why, and how to lift it; other payloads are not concerned."""
    store.rollback(2, **BY)
    with pytest.raises(RolledBackError) as caught:
        publish(store, models[2])
    assert caught.value.exit_code == 3
    for words in (digest(models[2])[:12], "as version 3", "by ann@host: too many refunds", "--allow"):
        assert words in str(caught.value)
    assert store.versions() == (1, 2, 3, 4)
    whole, refusal = store.allow(digest(models[2])[:12])
    assert (whole, refusal.version, refusal.by) == (digest(models[2]), 3, "ann@host")
    assert publish(store, models[2]).version == 5
    assert publish(store, models[3]).version == 6


def test_a_rollback_is_undone_in_the_same_way(store: VersionStore, models: list[Path]) -> None:
    """The way back republishes what was left, refuses what was gone back to, and is itself undone so."""
    store.rollback(1, **BY)
    done = store.rollback(3, by="bob", reason="it was the network")
    assert (done.version, digest(done.path)) == (5, digest(models[2]))
    marks = store.marks()
    assert list(marks.refused) == [digest(models[0])]
    assert marks.refused[digest(models[0])].version == 4
    assert store.rollback(4, **BY).version == 6
    assert list(store.marks().refused) == [digest(models[2])]


def test_a_rollback_to_what_serves_does_nothing(store: VersionStore) -> None:
    """Nor does one that was done already: nothing is published, nothing refused."""
    done = store.rollback(3, **BY)
    assert (done.version, done.outcome) == (3, "already_served")
    store.rollback(1, **BY)
    again = store.rollback(1, **BY)
    assert (again.version, again.outcome) == (4, "already_served")
    assert len(store.marks().refused) == 1


def test_a_target_that_is_no_longer_what_was_published_is_refused(store: VersionStore, base: Path) -> None:
    """A rollback must not put damaged bytes before a server."""
    (base / "1" / "saved_model.pb").write_text("GRAPH 1")
    with pytest.raises(DigestMismatchError, match=r"saved_model\.pb: holds other bytes, so version 1 no longer"):
        store.rollback(1, **BY)
    (base / "2" / "saved_model.pb").unlink()
    with pytest.raises(DigestMismatchError, match="is missing"):
        store.rollback(2, **BY)
    assert store.marks().refused == {}
    assert numeric_entries(base) == ["1", "2", "3"]


def test_a_target_that_is_not_there(store: VersionStore, base: Path) -> None:
    """It is told whether it never was, or was removed by retention."""
    store.retain(2)
    with pytest.raises(StoreError, match=r"version 1: of .* was removed by retention; expected 2, 3\. Raise push"):
        store.rollback(1, **BY)
    with pytest.raises(StoreError, match=r"version 9: is not in .*; expected 2, 3"):
        store.rollback(9, **BY)
    saved_model(base / "1700000003")
    with pytest.raises(StoreError, match="version 1700000003 has no manifest"):
        store.rollback(1700000003, **BY)


def test_a_rollback_of_a_tflite_file(base: Path, tmp_path: Path) -> None:
    """It comes back under its name in the store."""
    store = VersionStore(base)
    for name in ("one", "two"):
        (tmp_path / f"{name}.tflite").write_text(name)
        publish(store, tmp_path / f"{name}.tflite")
    done = store.rollback(1, **BY)
    assert (done.path / "model.tflite").read_text() == "one"
    store.verify(3)


def test_a_publisher_that_was_taken_for_dead_publishes_nothing(
    store: VersionStore, base: Path, models: list[Path]
) -> None:
    """Its staging was put away by a rename, so its own rename fails, whatever is left of the files."""

    class Overtaken(FileSystem):
        def claim(self, source: Path, target: Path) -> None:
            super().claim(source, target)
            (base / ".satisfice" / "owner").unlink()
            (base / ".satisfice" / "lock").unlink()
            publish(VersionStore(base), models[0])

    with pytest.raises(StoreError, match="the lock was lost while it was held"):
        publish(VersionStore(base, file_system=Overtaken()), models[3])
    assert store.versions() == (1, 2, 3, 5)
    assert not [path for path in base.iterdir() if path.name.startswith((".staging", ".trash"))]
    assert_only_whole_versions(base)


def test_a_rollback_goes_above_what_others_pushed(store: VersionStore, base: Path, models: list[Path]) -> None:
    """A version of stock TFX's that serves is left behind without a digest to refuse."""
    saved_model(base / "1700000003")
    assert store.rollback(3, **BY).version == 1700000004
    manifest = store.manifest(1700000004)
    assert manifest.rollback is not None
    assert (manifest.rollback.from_version, manifest.rollback.from_digest) == (1700000003, "")
    assert store.marks().refused == {}


@pytest.mark.parametrize("at", range(1, 30))
def test_a_rollback_that_dies_at_any_call_can_be_done_again(store: VersionStore, base: Path, at: int) -> None:
    """Only whole versions are visible at any time, and afterwards exactly what was left is refused."""
    left = store.manifest(3).digest
    dying = VersionStore(base, file_system=Failing(base, at, Killed(), dead=True))
    try:
        dying.rollback(1, **BY)
    except Killed:
        assert_only_whole_versions(base)
        visible = store.versions()
        assert visible in ((1, 2, 3), (1, 2, 3, 4))
        done = store.rollback(1, **BY)
        assert done.outcome == ("pushed" if visible == (1, 2, 3) else "already_served")
    assert list(store.marks().refused) == [left]
    assert store.newest().digest == store.manifest(1).digest  # type: ignore[union-attr]
    assert_only_whole_versions(base)


def test_marks_are_durable_before_the_rollback_is_visible(store: VersionStore, base: Path) -> None:
    """Else a retraining could push again what was just rolled back."""
    tracing = Tracing(base)
    VersionStore(base, file_system=tracing).rollback(1, **BY)
    calls = [call for call in tracing.calls if call[1] in (".satisfice/marks.json", "4", ".satisfice", ".")]
    assert calls == [
        ("to", ".satisfice/marks.json"),
        ("fsync", ".satisfice"),
        ("fsync", ".satisfice"),
        ("to", "4"),
        ("fsync", "."),
    ]


@pytest.mark.parametrize(
    ("digest_given", "words"), [("", "is not refused here"), ("c0ffee", "is not refused here; expected [0-9a-f]{12}")]
)
def test_what_is_not_refused_cannot_be_allowed(store: VersionStore, digest_given: str, words: str) -> None:
    """The message lists what is."""
    store.rollback(1, **BY)
    with pytest.raises(StoreError, match=words):
        store.allow(digest_given)
    assert len(store.marks().refused) == 1


# --- retention --------------------------------------------------------------------------------------------------------


def test_retention_keeps_the_newest_and_what_is_pinned_labelled_or_loaded(
    store: VersionStore, base: Path, tmp_path: Path
) -> None:
    """The rest is gone, its manifests filed, so that history can still tell of it."""
    for number in range(4, 9):
        publish(store, saved_model(tmp_path / f"m{number}", f"m {number}"))
    store.pin(1, by="ann", reason="the audit")
    store.begin_label("stable", 2)
    store.finish_label("stable", 2)
    store.begin_label("next", 4)
    assert store.retain(2, protect=[5]) == (3, 6)
    assert store.versions() == (1, 2, 4, 5, 7, 8)
    assert not (base / ".satisfice" / "manifests" / "3.json").exists()
    removed = store.removed_manifest(3)
    assert removed is not None
    assert removed.version == 3
    assert [manifest.version for manifest in store.all_manifests()] == list(range(1, 9))
    assert not list(base.glob(".trash-*"))


@given(keep=st.integers(-1, 5), count=st.integers(0, 5))
@settings(deadline=None, max_examples=30)
def test_retention_never_removes_the_newest(tmp_path_factory: pytest.TempPathFactory, keep: int, count: int) -> None:
    """However few are to be kept."""
    folder = tmp_path_factory.mktemp("retention")
    store = VersionStore(folder / "base", file_system=Unsynced())
    for number in range(count):
        publish(store, saved_model(folder / str(number), f"graph {number}"))
    removed = store.retain(keep)
    kept = min(count, max(keep, 1))
    assert removed == tuple(range(1, count - kept + 1))
    assert store.versions() == tuple(range(count - kept + 1, count + 1))


def test_retention_leaves_alone_what_is_not_its_own_or_not_whole(store: VersionStore, base: Path) -> None:
    """A foreign version is nobody's to delete; a damaged one is fsck's to explain."""
    saved_model(base / "17")
    (base / "1" / "saved_model.pb").unlink()
    assert store.retain(1) == (2,)
    assert numeric_entries(base) == ["1", "17", "3"]


def test_a_removed_number_is_not_used_again(store: VersionStore, base: Path, models: list[Path]) -> None:
    """Not even when the state is lost: the filed manifests tell."""
    store.pin(1, by="ann")
    publish(store, models[3])
    store.pin(2, by="ann")
    store.retain(1)
    (base / ".satisfice" / "state.json").unlink()
    shutil.rmtree(base / "4")
    (base / ".satisfice" / "manifests" / "4.json").unlink()
    assert publish(store, models[3]).version == 4  # of 3 only the filed manifest is left
    assert store.versions() == (1, 2, 4)


@pytest.mark.parametrize("at", range(1, 12))
def test_a_removal_that_dies_at_any_call_is_finished_by_the_next_publish(
    store: VersionStore, base: Path, models: list[Path], at: int
) -> None:
    """The version is whole or gone at every moment."""
    dying = VersionStore(base, file_system=Failing(base, at, Killed(), dead=True))
    try:
        dying.retain(2)
    except Killed:
        assert_only_whole_versions(base)
        assert store.versions() in ((1, 2, 3), (2, 3))
    gone = store.versions() == (2, 3)
    publish(store, models[3])
    assert not list(base.glob(".trash-*"))
    assert (store.removed_manifest(1) is not None) == gone
    assert (1 in store.numbers_with_manifest(store.manifests)) == (not gone)


def test_removal_is_by_rename_first(store: VersionStore, base: Path) -> None:
    """A server that looks never meets a directory that is being emptied."""
    tracing = Tracing(base)
    VersionStore(base, file_system=tracing).retain(2)
    calls = [("to", "TRASH") if one[1].startswith(".trash-") and one[0] == "to" else one for one in tracing.calls]
    assert calls[:3] == [("rename", "1"), ("to", "TRASH"), ("fsync", ".")]
    assert calls[-1][0] == "remove"


# --- pins -------------------------------------------------------------------------------------------------------------


def test_a_pin_says_who_and_why(store: VersionStore) -> None:
    """And is taken away again."""
    store.pin(2, by="ann", reason="the audit")
    mark = store.marks().pinned[2]
    assert (mark.by, mark.reason) == ("ann", "the audit")
    assert abs(datetime.now(UTC) - mark.at) < timedelta(minutes=1)
    store.unpin(2)
    assert store.marks().pinned == {}
    with pytest.raises(StoreError, match="version 2: is not pinned; expected a pinned version; there is none"):
        store.unpin(2)
    with pytest.raises(StoreError, match="version 9: is not in"):
        store.pin(9, by="ann")


def test_a_mark_that_cannot_be_written(store: VersionStore, base: Path) -> None:
    """The message says what was tried and that nothing was changed."""

    class Full(FileSystem):
        def write(self, path: Path, chunks: Iterable[bytes]) -> None:
            raise OSError(28, "No space left on device", str(path))

    with pytest.raises(StoreError, match=r"could not note pins.*then try again\. Nothing was changed\."):
        VersionStore(base, file_system=Full()).pin(1, by="ann")
    assert store.marks().pinned == {}


# --- labels -----------------------------------------------------------------------------------------------------------


def test_a_label_moves_in_two_steps(store: VersionStore) -> None:
    """First servers load the version, then the label moves; retention keeps both meanwhile."""
    move = store.begin_label("stable", 1)
    assert (move.version, move.moving_to, move.load) == (None, 1, (1, 3))
    move = store.finish_label("stable", 1)
    assert (move.version, move.moving_to, move.load) == (1, None, (1, 3))
    move = store.begin_label("stable", 2)
    assert (move.version, move.moving_to, move.load) == (1, 2, (1, 2, 3))
    assert store.retain(1) == ()
    store.finish_label("stable", 2)
    assert store.marks().labels == {"stable": 2}
    assert store.retain(1) == (1,)


def test_a_label_cannot_skip_the_first_step(store: VersionStore) -> None:
    """TF Serving refuses the whole configuration then. What all servers have anyway needs no first step."""
    with pytest.raises(StoreError, match=r"cannot name version 1 yet: no server was told to load it\. Run `satisfice"):
        store.finish_label("stable", 1)
    assert store.finish_label("canary", 3).version == 3


def test_a_label_on_a_damaged_version_is_refused(store: VersionStore, base: Path) -> None:
    """A server would refuse it too, later and for all models."""
    (base / "1" / "saved_model.pb").unlink()
    with pytest.raises(DigestMismatchError, match="is missing"):
        store.begin_label("stable", 1)


def test_a_label_is_taken_away(store: VersionStore) -> None:
    """Also one that has not arrived yet."""
    store.begin_label("stable", 1)
    assert store.drop_label("stable") is None
    store.finish_label("canary", 3)
    assert store.drop_label("canary") == 3
    with pytest.raises(StoreError, match="label 'canary': is not in use; expected a label; there is none"):
        store.drop_label("canary")


def test_a_label_goes_back_to_where_it_is(store: VersionStore) -> None:
    """A first step to the version that it names ends a move that had begun."""
    store.finish_label("stable", 3)
    store.begin_label("stable", 1)
    assert store.begin_label("stable", 3).moving_to is None


def test_a_rollback_by_label_refuses_what_it_left(store: VersionStore, models: list[Path]) -> None:
    """Nothing is published; the bytes that the label named cannot be pushed again."""
    store.finish_label("stable", 3)
    store.begin_label("stable", 2)
    store.finish_label("stable", 2, rolled_back=Mark(by="ann", at=datetime.now(UTC), reason="drill"))
    assert store.versions() == (1, 2, 3)
    assert store.marks().refused[digest(models[2])].version == 3


def test_what_a_label_was_rolled_back_from_is_refused_although_it_is_the_newest(
    store: VersionStore, models: list[Path]
) -> None:
    """Until it is allowed again."""
    store.finish_label("stable", 3)
    store.begin_label("stable", 2)
    store.finish_label("stable", 2, rolled_back=Mark(by="ann", at=datetime.now(UTC), reason="drill"))
    with pytest.raises(RolledBackError, match="was rolled back as version 3"):
        publish(store, models[2])
    store.allow(digest(models[2]))
    assert publish(store, models[2]).outcome == "already_served"


# --- marks ------------------------------------------------------------------------------------------------------------


def test_damaged_marks_stop_every_act(store: VersionStore, base: Path, models: list[Path]) -> None:
    """A refused digest must not slip through, nor a pinned version be removed."""
    (base / ".satisfice" / "marks.json").write_text("{")
    for act in (
        lambda: publish(store, models[3]),
        lambda: store.retain(1),
        lambda: store.rollback(1, **BY),
        lambda: store.pin(1, by="ann"),
    ):
        with pytest.raises(StoreError, match=r"marks\.json: cannot be read: .*fsck --repair"):
            act()
    assert store.versions() == (1, 2, 3)


# --- properties -------------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(0, 3)),
        st.tuples(st.just("rollback"), st.integers(1, 9)),
        st.tuples(st.just("retain"), st.integers(1, 4)),
        st.tuples(st.just("pin"), st.integers(1, 9)),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=100)
@given(STEPS)
def test_whatever_is_done_the_newest_is_whole_and_never_refused(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """Numbers rise by one for each new version, nothing pinned is lost, and what serves is not what was rolled back."""
    folder = tmp_path_factory.mktemp("steps")
    models = [saved_model(folder / f"m{number}", f"graph {number}") for number in range(4)]
    store = VersionStore(folder / "base", file_system=Unsynced())
    largest, pinned = 0, set[int]()
    for act, what in steps:
        done = None
        try:
            match act:
                case "publish":
                    done = publish(store, models[what])
                    assert digest(done.path) == digest(models[what])
                case "rollback":
                    wanted = store.manifest(what).digest
                    done = store.rollback(what, **BY)
                    assert digest(done.path) == wanted
                case "retain":
                    store.retain(what)
                case "pin":
                    store.pin(what, by="ann")
                    pinned.add(what)
        except StoreError:
            continue
        if done is not None and done.outcome == "pushed":
            assert done.version == largest + 1
            largest += 1
    versions = store.versions()
    assert pinned <= set(versions)
    assert (versions[-1:] or (0,))[0] == largest
    newest = store.newest()
    if newest is not None:
        store.verify(newest.number)
        assert newest.digest not in store.marks().refused


def test_a_publisher_that_no_lock_keeps_out_gets_another_number(
    store: VersionStore, base: Path, models: list[Path]
) -> None:
    """The manifest claims the number by a link: should a lock fail, two never share one."""

    class Racing(FileSystem):
        def claim(self, source: Path, target: Path) -> None:
            if target.name == "4.json":
                target.write_text("of another publisher")
            super().claim(source, target)

    assert publish(VersionStore(base, file_system=Racing()), models[3]).version == 5
    store.verify(5)
