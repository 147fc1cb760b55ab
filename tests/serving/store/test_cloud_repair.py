"""Repairs of a base path in a bucket, against a fake of Google Cloud Storage: nothing is lost, whoever comes in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

import pytest

from serving.payload import digest
from serving.store import Finding, find_in_bucket, repair_in_bucket
from serving.store.cloud import CloudVersionStore
from tests.serving.store.fake_gcs import BASE, Bucket
from tests.serving.store.payloads import publish

PREFIX = "models/taxi/"


@pytest.fixture
def three(cloud: CloudVersionStore, models: list[Path]) -> CloudVersionStore:
    """A store with versions 1 to 3."""
    for model in models[:3]:
        publish(cloud, model)
    return cloud


def hold(bucket: Bucket, name: str, content: bytes = b"x") -> None:
    bucket.make(f"{PREFIX}{name}", content, {}, None)


def lose(bucket: Bucket, name: str) -> None:
    del bucket.objects[f"{PREFIX}{name}"]


def contents(bucket: Bucket) -> set[bytes]:
    return {one.content for one in bucket.objects.values()}


def aside(bucket: Bucket) -> set[str]:
    """What was moved aside, without the time."""
    within = f"{PREFIX}.satisfice/aside/"
    return {name.removeprefix(within).partition("/")[2] for name in bucket.objects if name.startswith(within)}


def told(done: Iterable[tuple[object, str]]) -> list[str]:
    return [what for _, what in done if what]


FAULTS: dict[str, tuple[Callable[[Bucket], None], set[str]]] = {
    "other bytes": (
        lambda bucket: hold(bucket, "2/saved_model.pb", b"GRAPH 2"),
        {"2/saved_model.pb", "2/fingerprint.pb", "2/variables/variables.data", "2.json"},
    ),
    "half version": (
        lambda bucket: lose(bucket, "3/variables/variables.data"),
        {"3/saved_model.pb", "3/fingerprint.pb", "3.json"},
    ),
    "folder without a model": (lambda bucket: hold(bucket, "17/notes.txt"), {"17/notes.txt"}),
    "plain object": (lambda bucket: hold(bucket, "+5"), {"+5"}),
    "leading zeros": (lambda bucket: hold(bucket, "003/saved_model.pb"), {"003/saved_model.pb"}),
    "damaged manifest": (lambda bucket: hold(bucket, ".satisfice/manifests/2.json", b"{"), {"2.json"}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_belong_there_is_moved_aside(three: CloudVersionStore, bucket: Bucket, fault: str) -> None:
    """With every byte of it; a second repair finds nothing to do, and no number is used twice."""
    break_it, moved = FAULTS[fault]
    break_it(bucket)
    before = contents(bucket)
    (done,) = told(repair_in_bucket(three))
    assert done.startswith(f"moved to {BASE}/.satisfice/aside/")
    assert aside(bucket) == moved
    assert contents(bucket) >= before
    assert [one for one in find_in_bucket(three) if one.repair] == []
    assert told(repair_in_bucket(three)) == []
    assert three.largest_noted() == 3


def test_a_number_that_was_moved_aside_is_used_up(three: CloudVersionStore, bucket: Bucket, models: list[Path]) -> None:
    """Though nothing but the manifest aside tells of it."""
    lose(bucket, "3/variables/variables.data")
    repair_in_bucket(three)
    assert three.versions() == (1, 2)
    assert publish(three, models[3]).version == 4


def test_the_last_entry_stays(cloud: CloudVersionStore, bucket: Bucket, models: list[Path]) -> None:
    """Servers would unload the model without it, however damaged it is."""
    publish(cloud, models[0])
    hold(bucket, "1/saved_model.pb", b"GRAPH 1")
    assert told(repair_in_bucket(cloud)) == []
    assert f"{PREFIX}1/saved_model.pb" in bucket.objects


def test_a_publish_under_way_stays_and_one_that_died_goes_aside(
    three: CloudVersionStore, bucket: Bucket, models: list[Path]
) -> None:
    """A claim is left alone for a day."""
    lose(bucket, "3/saved_model.pb")
    assert told(repair_in_bucket(three)) == []
    bucket.later = timedelta(days=2)
    hold(bucket, "notes.txt")
    assert len(told(repair_in_bucket(three))) == 1
    assert aside(bucket) == {"3/fingerprint.pb", "3/variables/variables.data", "3.json"}


def test_manifests_of_nothing_are_filed(three: CloudVersionStore, bucket: Bucket) -> None:
    """With those of the versions that were removed."""
    for name in [name for name in bucket.objects if name.startswith(f"{PREFIX}2/")]:
        del bucket.objects[name]
    bucket.later = timedelta(days=2)
    hold(bucket, "notes.txt")
    assert told(repair_in_bucket(three)) == [f"moved to {BASE}/.satisfice/removed/2.json"]
    assert three.removed_manifest(2) is not None


def test_marks_are_renewed(three: CloudVersionStore, bucket: Bucket, models: list[Path]) -> None:
    """With what the manifests tell of refused digests; the damaged ones lie aside."""
    three.rollback(1, by="ann", reason="drill")
    hold(bucket, ".satisfice/marks.json", b"[]")
    assert told(repair_in_bucket(three)) == ["renewed with 1 refused digests; pins and labels are lost"]
    assert list(three.marks().refused) == [digest(models[2])]
    assert aside(bucket) == {"marks.json"}


def test_what_is_replaced_meanwhile_stays(three: CloudVersionStore, bucket: Bucket) -> None:
    """At whichever write of the repair it happens: the other generation is not what was looked at, nor what was copied."""
    name = f"{PREFIX}17/notes.txt"
    for write in (1, 2):
        hold(bucket, "17/notes.txt", b"old")
        at = bucket.writes + write

        def replace(number: int, at: int = at) -> None:
            if number == at:
                bucket.before_write = lambda _: None
                hold(bucket, "17/notes.txt", b"new")

        bucket.before_write = replace
        (done,) = told(repair_in_bucket(three))
        assert "was changed by somebody meanwhile" in done
        assert bucket.objects[name].content == b"new"
    bucket.before_write = lambda _: None
    (done,) = told(repair_in_bucket(three))
    assert "meanwhile" not in done
    assert name not in bucket.objects


MENDED = {
    "3/saved_model.pb": b"GRAPH 3",
    "3/variables/variables.data": None,
    ".satisfice/manifests/3.json": b"{",
    ".satisfice/marks.json": b"{",
}


@pytest.mark.parametrize("name", MENDED)
def test_what_is_mended_by_hand_meanwhile_stays(
    three: CloudVersionStore, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """However long the look at every byte takes: what is moved is what was looked at."""
    three.begin_label("stable", 3)
    three.finish_label("stable", 3)
    good, fault = bucket.objects[f"{PREFIX}{name}"].content, MENDED[name]
    if fault is None:
        lose(bucket, name)
    else:
        hold(bucket, name, fault)

    def look(store: CloudVersionStore) -> list[Finding]:
        found = find_in_bucket(store)
        hold(bucket, name, good)
        return found

    monkeypatch.setattr("serving.store.cloud_repair.find_in_bucket", look)
    assert told(repair_in_bucket(three)) == []
    assert find_in_bucket(three) == []
    assert (three.versions(), three.marks().labels) == ((1, 2, 3), {"stable": 3})


def test_names_that_a_disk_would_take_for_one_are_two(three: CloudVersionStore, bucket: Bucket) -> None:
    """Copies by hand leave empty folders' names within others."""
    hold(bucket, "17//notes.txt", b"one")
    hold(bucket, "17/notes.txt", b"two")
    hold(bucket, "17/", b"")
    (done,) = told(repair_in_bucket(three))
    assert "meanwhile" not in done
    assert aside(bucket) == {"17/", "17//notes.txt", "17/notes.txt"}
    assert find_in_bucket(three) == []


def test_a_repair_that_is_cut_off_loses_nothing(three: CloudVersionStore, bucket: Bucket) -> None:
    """After a copy, between copies and removals, and in between these: every byte is still there, and the next repair ends it."""

    class CutOffError(BaseException):
        """As by a kill."""

    lose(bucket, "3/variables/variables.data")
    before, whole = contents(bucket), dict(bucket.objects)
    for write in (2, 4, 6):
        bucket.objects = dict(whole)
        at = bucket.writes + write

        def cut(number: int, at: int = at) -> None:
            if number == at:
                raise CutOffError

        client = CloudVersionStore(BASE)
        bucket.before_write = cut
        with pytest.raises(CutOffError):
            _in_this_process(bucket, client)
        bucket.before_write = lambda _: None
        assert contents(bucket) >= before
        repair_in_bucket(three)
        assert contents(bucket) >= before
        assert three.versions() == (1, 2)
        assert three.largest_noted() == 3


def _in_this_process(bucket: Bucket, store: CloudVersionStore) -> None:
    """A repair whose calls are cut off here and not in the service."""
    from unittest.mock import patch

    from google.cloud.storage import Blob

    rewrite, delete = Blob.rewrite, Blob.delete

    def cut_rewrite(blob: Blob, *args: object, **more: object) -> object:
        bucket.before_write(bucket.writes + 1)
        return rewrite(blob, *args, **more)

    def cut_delete(blob: Blob, *args: object, **more: object) -> object:
        bucket.before_write(bucket.writes + 1)
        return delete(blob, *args, **more)

    with patch.object(Blob, "rewrite", cut_rewrite), patch.object(Blob, "delete", cut_delete):
        repair_in_bucket(store)


def test_an_empty_object_for_a_folder_is_no_damage(three: CloudVersionStore, bucket: Bucket) -> None:
    """Consoles and mounts make them; a server does not care."""
    for name in ("", "2/", "2/variables/"):
        hold(bucket, name, b"")
    three.verify(2)
    assert find_in_bucket(three) == []
