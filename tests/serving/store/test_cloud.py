"""The store in a bucket, against a fake of Google Cloud Storage on loopback: the service itself was never asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from schemas.errors import DigestMismatchError, RolledBackError, StoreError, SupersededError
from serving.payload import digest
from serving.store import VersionStore, find_in_bucket, open_versions
from serving.store.cloud import CloudVersionStore
from tests.serving.store.fake_gcs import BASE, Bucket, stalled
from tests.serving.store.payloads import publish, saved_model

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(params=["disk", "bucket"])
def store(request: pytest.FixtureRequest, base: Path) -> VersionStore:
    """Either store: what follows holds of both."""
    return request.getfixturevalue("cloud") if request.param == "bucket" else VersionStore(base)


# --- of both stores ---------------------------------------------------------------------------------------------------


def test_publish_and_again(store: VersionStore, models: list[Path]) -> None:
    """Numbers rise; the newest bytes again are no new version; older ones again are."""
    assert store.newest() is None
    assert [publish(store, model).version for model in models[:2]] == [1, 2]
    again = publish(store, models[1])
    assert (again.outcome, again.version) == ("already_served", 2)
    assert publish(store, models[0]).version == 3
    assert store.versions() == (1, 2, 3)
    assert store.state() == f"3:{digest(models[0])}"
    for number in store.versions():
        store.verify(number)
    assert [one.version for one in store.all_manifests()] == [1, 2, 3]


def test_rollback_and_refusal(store: VersionStore, models: list[Path]) -> None:
    """The older bytes under a new number; what served is refused until it is allowed."""
    for model in models[:2]:
        publish(store, model)
    done = store.rollback(1, by="ann", reason="drill")
    assert (done.version, store.manifest(3).digest) == (3, digest(models[0]))
    assert store.manifest(3).rollback.from_version == 2  # type: ignore[union-attr]
    store.verify(3)
    with pytest.raises(RolledBackError, match="was rolled back as version 2"):
        publish(store, models[1])
    store.allow(digest(models[1])[:8])
    assert publish(store, models[1]).version == 4
    with pytest.raises(StoreError, match="is not in"):
        store.rollback(9, by="ann", reason="drill")


def test_retention_pins_and_labels(store: VersionStore, models: list[Path]) -> None:
    """The newest stay, and what is pinned or labelled; what was removed is remembered, and its number not used again."""
    for model in models:
        publish(store, model)
    store.pin(1, by="ann")
    store.begin_label("stable", 2)
    store.finish_label("stable", 2)
    assert store.retain(1) == (3,)
    assert store.versions() == (1, 2, 4)
    assert store.removed_manifest(3).version == 3  # type: ignore[union-attr]
    store.unpin(1)
    assert store.drop_label("stable") == 2
    assert store.retain(1) == (1, 2)
    assert store.withdraw(4, by="the Pusher", reason="it failed").withdrawn is not None
    assert (store.versions(), store.removed_manifest(4).withdrawn.reason) == ((), "it failed")  # type: ignore[union-attr]
    assert publish(store, models[0]).version == 5
    with pytest.raises(StoreError, match="was withdrawn by the Pusher: it failed"):
        store.rollback(4, by="ann", reason="drill")


def test_a_rollback_made_meanwhile(store: VersionStore, models: list[Path]) -> None:
    """A push that was decided on before it is refused; one that knows of it is not; another pipeline's is no matter."""
    for model in models[:2]:
        publish(store, model)
    store.rollback(1, by="ann", reason="too many refunds")
    with pytest.raises(
        SupersededError, match=r"made by a rollback to version 1 .* by ann, after it .*: too many refunds"
    ):
        store.publish(models[2], digest(models[2]), {"pipeline": "taxi"}, head=2)
    assert store.versions() == (1, 2, 3)
    assert store.publish(models[2], digest(models[2]), {"pipeline": "penguin"}, head=2).version == 4
    assert store.publish(models[3], digest(models[3]), {"pipeline": "taxi"}, head=3).version == 5


def test_other_bytes(store: VersionStore, model: Path) -> None:
    """Nothing is made of them."""
    with pytest.raises(DigestMismatchError):
        store.publish(model, "0" * 64, {})
    assert store.versions() == ()


# --- of the bucket ----------------------------------------------------------------------------------------------------


def test_what_lies_in_the_bucket(cloud: VersionStore, bucket: Bucket, model: Path) -> None:
    """The claim first, what makes it a model last."""
    order: list[str] = []
    bucket.before_write = lambda _: order.extend(set(bucket.objects) - set(order))
    publish(cloud, model)
    order.extend(set(bucket.objects) - set(order))
    assert order == [
        f"models/taxi/{name}"
        for name in (
            ".satisfice/manifests/1.json",
            "1/fingerprint.pb",
            "1/variables/variables.data",
            "1/saved_model.pb",
        )
    ]
    assert str(cloud.newest().path) == f"{BASE}/1"  # type: ignore[union-attr]


def test_large_files_go_up_in_pieces(cloud: VersionStore, tmp_path: Path) -> None:
    """And are compared by their sums."""
    publish(cloud, saved_model(tmp_path / "large", blob=9 << 20))
    cloud.verify(1)


def test_an_object_that_was_replaced(cloud: VersionStore, bucket: Bucket, models: list[Path]) -> None:
    """Is found, though it has the same size: by every push, which asks for no bytes, and by `verify`, which does."""
    publish(cloud, models[0])
    name = "models/taxi/1/saved_model.pb"
    bucket.make(name, bucket.objects[name].content.upper(), {}, None)
    with pytest.raises(DigestMismatchError, match="holds other bytes"):
        cloud.verify(1)
    assert "is damaged" in cloud.why_not_served(digest(models[0]))
    assert publish(cloud, models[0]).version == 2


def test_publishers_at_the_same_time(cloud: VersionStore, bucket: Bucket, tmp_path: Path) -> None:
    """No number twice, and no reader ever finds a version that is not whole."""
    payloads = [saved_model(tmp_path / str(number), f"graph {number}") for number in range(12)]
    wrong: list[str] = []
    done = threading.Event()
    whole = {"saved_model.pb", "fingerprint.pb", "variables/variables.data"}

    def read() -> None:
        while not done.wait(0.002):
            wrong.extend(
                f"{folder}: {names}"
                for folder, names in bucket.folders().items()
                if "saved_model.pb" in names and set(names) != whole
            )

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            numbers = list(pool.map(lambda payload: publish(CloudVersionStore(BASE), payload).version, payloads))
    finally:
        done.set()
        reader.join()
    assert not wrong
    assert max(Counter(numbers).values()) == 1
    assert cloud.versions() == tuple(sorted(numbers))


def test_a_rollback_between_decision_and_claim(cloud: VersionStore, bucket: Bucket, models: list[Path]) -> None:
    """The number that was wanted is gone: everything is looked at again, the rollback among it."""
    for model in models[:2]:
        publish(cloud, model)
    other = CloudVersionStore(BASE)
    done: list[int] = []

    def roll_back_first(number: int) -> None:
        if not done:
            done.append(number)
            other.rollback(1, by="ann", reason="drill")

    bucket.before_write = roll_back_first
    with pytest.raises(SupersededError):
        cloud.publish(models[2], digest(models[2]), {"pipeline": "taxi"}, head=2)
    assert cloud.newest().number == 3  # type: ignore[union-attr]


def test_marks_at_the_same_time(cloud: VersionStore, models: list[Path]) -> None:
    """None is lost."""
    for model in models:
        publish(cloud, model)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda version: CloudVersionStore(BASE).pin(version, by="ann"), (1, 2, 3, 4)))
    assert set(cloud.marks().pinned) == {1, 2, 3, 4}


PUBLISH = """
import sys
from serving.payload import digest
from serving.store import open_versions
open_versions(sys.argv[1]).publish(sys.argv[2], digest(sys.argv[2]), {"pipeline": "taxi"})
"""


def test_kills_at_every_write(cloud: VersionStore, bucket: Bucket, models: list[Path]) -> None:
    """Only whole versions are there, the next publish succeeds under a new number, and what was left goes a day later."""
    publish(cloud, models[0])
    for write in range(1, 5):
        reached, at = threading.Event(), bucket.writes + write

        def stall(number: int, reached: threading.Event = reached, at: int = at) -> None:
            if number == at:
                reached.set()
                stalled()

        bucket.before_write = stall
        command = [sys.executable, "-c", PUBLISH, BASE, str(models[1])]
        with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}) as process:
            assert reached.wait(300)
            process.kill()
        bucket.before_write = lambda _: None
        for number in cloud.versions():
            cloud.verify(number)
        before = cloud.largest_noted()
        assert publish(cloud, models[write % 2 + 2]).version == (before or 0) + 1
    assert len(bucket.folders()) > len(cloud.versions())
    bucket.later = timedelta(days=2)
    publish(cloud, models[0])
    cloud.retain(100)
    assert {int(folder) for folder in bucket.folders()} == set(cloud.versions())


def test_the_service_refuses(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    """One error, with the place and what to do."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    monkeypatch.setattr("google.cloud.storage.retry.DEFAULT_RETRY._timeout", 0.1)
    with pytest.raises(StoreError, match=r"gs://bucket/models/taxi: could not list the base path"):
        publish(CloudVersionStore(BASE), model)


def test_damaged_records(cloud: VersionStore, bucket: Bucket, model: Path) -> None:
    """A manifest that contradicts itself vouches for nothing; marks that do not parse stop every act."""
    publish(cloud, model)
    name = "models/taxi/.satisfice/manifests/1.json"
    raw = json.loads(bucket.objects[name].content)
    bucket.make(name, json.dumps({**raw, "digest": "0" * 64}).encode(), {}, None)
    assert cloud.newest().digest == ""  # type: ignore[union-attr]
    assert cloud.all_manifests() == []
    bucket.make("models/taxi/.satisfice/marks.json", b"{", {}, None)
    with pytest.raises(StoreError, match="cannot be read"):
        cloud.pin(1, by="ann")


def test_the_store_on_disk_needs_no_client() -> None:
    """Whoever opens a directory does not pay for it."""
    code = "import sys, serving.store as s; s.open_versions('x'); print('google.cloud.storage' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# --- what is wrong with it --------------------------------------------------------------------------------------------


def lose(bucket: Bucket, name: str) -> None:
    del bucket.objects[f"models/taxi/{name}"]


def hold(bucket: Bucket, name: str, content: bytes) -> None:
    bucket.make(f"models/taxi/{name}", content, {}, None)


BUCKET_FAULTS: dict[str, tuple[Callable[[Bucket], None], list[tuple[str, str, str]]]] = {
    "nothing": (lambda bucket: None, []),
    "other bytes": (
        lambda bucket: hold(bucket, "2/saved_model.pb", b"GRAPH 2"),
        [("digest_mismatch", "2", "saved_model.pb holds other bytes, so version 2 no longer is what was published.")],
    ),
    "half version": (
        lambda bucket: lose(bucket, "3/variables/variables.data"),
        [("half_version", "3", "It is what TF Serving takes for the latest version.")],
    ),
    "folder without a model": (
        lambda bucket: hold(bucket, "17/notes.txt", b"x"),
        [("foreign_entry", "17", "is a directory without a model that was not published by this store")],
    ),
    "plain object": (
        lambda bucket: hold(bucket, "+5", b"x"),
        [("foreign_entry", "+5", "is a plain file that was not published by this store")],
    ),
    "leading zeros": (
        lambda bucket: hold(bucket, "003/saved_model.pb", b"x"),
        [("spelling_collision", "003", "is version 3 to TF Serving, as '3' is: one of the two is served, by chance")],
    ),
    "lost manifest": (
        lambda bucket: lose(bucket, ".satisfice/manifests/2.json"),
        [("foreign_version", "2", "has lost its manifest: nothing tells whether its bytes are whole.")],
    ),
    "damaged manifest": (
        lambda bucket: hold(bucket, ".satisfice/manifests/2.json", b"{"),
        [("damaged_manifest", "2.json", "the manifest of version 2 cannot be read: Invalid JSON")],
    ),
    "damaged marks": (
        lambda bucket: hold(bucket, ".satisfice/marks.json", b"[]"),
        [("damaged_marks", "marks.json", "cannot be read: Input should be an object")],
    ),
    "upload under way": (
        lambda bucket: lose(bucket, "3/saved_model.pb"),
        [("under_way", "3", "was claimed within the last day and holds no model yet: a publish is under way")],
    ),
}


@pytest.mark.parametrize("fault", BUCKET_FAULTS)
def test_each_fault_in_a_bucket_is_found(cloud: VersionStore, bucket: Bucket, models: list[Path], fault: str) -> None:
    """In the words that hold of a directory; none is made or mended by looking."""
    for model in models[:3]:
        publish(cloud, model)
    damage, expected = BUCKET_FAULTS[fault]
    damage(bucket)
    before = dict(bucket.objects)
    found = find_in_bucket(open_versions(BASE))
    assert [(one.kind, one.path.name) for one in found] == [(kind, name) for kind, name, _ in expected]
    for finding, (_, _, words) in zip(found, expected, strict=True):
        assert words in finding.problem
        assert str(finding.path).startswith(f"{BASE}/")
    assert bucket.objects == before


def test_marks_and_claims_in_a_bucket_that_name_nothing(
    cloud: VersionStore, bucket: Bucket, models: list[Path]
) -> None:
    """A label on a version that is gone; a claim that is older than a day and holds nothing; a base path of nothing."""
    (empty,) = find_in_bucket(cloud)
    assert (empty.kind, str(empty.path)) == ("empty_base_path", BASE)
    for model in models[:2]:
        publish(cloud, model)
    cloud.begin_label("stable", 1)
    cloud.finish_label("stable", 1)
    for name in [name for name in bucket.objects if name.startswith("models/taxi/1/")]:
        del bucket.objects[name]
    bucket.later = timedelta(days=2)
    cloud.pin(2, by="ann")
    found = find_in_bucket(cloud)
    assert [one.kind for one in found] == ["lost_mark", "orphan_manifest"]
    assert "label 'stable' on version 1, which is not there" in found[0].problem


def test_a_withdrawn_rollback_refuses_what_was_refused_before(store: VersionStore, models: list[Path]) -> None:
    """Of both stores: the marks are what they were, also where the rollback went to bytes that were refused."""
    for model in models[:2]:
        publish(store, model)
    store.rollback(1, by="ann", reason="drill")
    for to in (2, 2):
        before = store.marks()
        done = store.rollback(to, by="bob", reason="back")
        assert before != store.marks()
        store.withdraw(done.version, by="bob", reason="no server took it")
        assert (store.marks(), store.newest().number) == (before, 3)  # type: ignore[union-attr]
    assert list(store.marks().refused) == [digest(models[1])]
