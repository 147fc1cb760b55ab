"""A folder that follows a base path in a bucket: only whole versions appear in it, whatever happens on the way."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.errors import StoreError
from serving.payload import PayloadFile, digest, digest_of
from serving.store import StoreReader, VersionStore, labels_of
from serving.store.cloud import CloudVersionStore
from serving.store.mirror import Mirror, free_folder
from tests.serving.store.fake_gcs import BASE, Bucket
from tests.serving.store.payloads import assert_only_whole_versions, numeric_entries, publish

PREFIX = "models/taxi/"


@pytest.fixture
def mirror(cloud: CloudVersionStore, tmp_path: Path) -> Mirror:
    return Mirror(CloudVersionStore(BASE), free_folder(tmp_path / "mirror", "taxi"), {"old": 1})


def hold(bucket: Bucket, name: str, content: bytes) -> None:
    bucket.make(f"{PREFIX}{name}", content, {}, None)


def test_it_holds_what_a_server_needs(mirror: Mirror, cloud: CloudVersionStore, models: list[Path]) -> None:
    """The two newest and what labels name, with the labels; what is no longer needed goes."""
    publish(cloud, models[0])
    mirror.begin()
    assert numeric_entries(mirror.folder) == ["1"]
    for model in models[1:]:
        publish(cloud, model)
    cloud.begin_label("canary", 2)
    mirror.follow()
    assert numeric_entries(mirror.folder) == ["1", "2", "3", "4"]
    assert labels_of(StoreReader(mirror.folder), {"old": 1}).load == (1, 2, 4)
    cloud.drop_label("canary")
    mirror.follow()
    assert numeric_entries(mirror.folder) == ["1", "3", "4"]
    assert_only_whole_versions(mirror.folder)
    assert StoreReader(mirror.folder).newest().digest == digest(models[3])  # type: ignore[union-attr]


def test_only_what_is_committed_appears(
    mirror: Mirror, cloud: CloudVersionStore, bucket: Bucket, models: list[Path]
) -> None:
    """No upload under way, no folder of somebody else's, and none that was withdrawn."""
    publish(cloud, models[0])
    publish(cloud, models[1])
    mirror.begin()
    found = bucket.objects.pop(f"{PREFIX}2/saved_model.pb")
    hold(bucket, "9/saved_model.pb", b"foreign")
    mirror.follow()
    assert numeric_entries(mirror.folder) == ["1"]
    bucket.objects[f"{PREFIX}2/saved_model.pb"] = found
    mirror.follow()
    assert numeric_entries(mirror.folder) == ["1", "2"]
    cloud.withdraw(2, by="the Pusher", reason="it failed")
    mirror.follow()
    assert numeric_entries(mirror.folder) == ["1"]


@pytest.mark.parametrize("manifest", [b"{", None], ids=["damaged", "none"])
def test_a_label_on_what_has_no_manifest_holds_nothing_up(
    mirror: Mirror, cloud: CloudVersionStore, bucket: Bucket, models: list[Path], manifest: bytes | None
) -> None:
    """That version is not followed; all others are, and what is no longer needed goes."""
    for model in models[:2]:
        publish(cloud, model)
    mirror.begin()
    if manifest is None:
        del bucket.objects[f"{PREFIX}.satisfice/manifests/1.json"]
    else:
        hold(bucket, ".satisfice/manifests/1.json", manifest)
    for model in models[2:]:
        publish(cloud, model)
    cloud.begin_label("canary", 4)
    mirror.follow()
    assert numeric_entries(mirror.folder) == ["3", "4"]
    assert StoreReader(mirror.folder).marks().moving == {"canary": 4}


def test_other_bytes_do_not_appear(
    mirror: Mirror, cloud: CloudVersionStore, bucket: Bucket, models: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Though there are as many of them: the versions before it serve, and the log says why."""
    for model in models[:3]:
        publish(cloud, model)
    hold(bucket, "3/saved_model.pb", b"GRAPH 3")
    logger = logging.getLogger("serving.store.mirror")
    logger.addHandler(caplog.handler)
    try:
        mirror.begin()
        mirror.follow()
    finally:
        logger.removeHandler(caplog.handler)
    assert numeric_entries(mirror.folder) == ["1", "2"]
    said = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert len(set(said)) == 1
    assert f"version 3 is not served: {BASE}/3/saved_model.pb: holds other bytes" in said[0]


@pytest.mark.parametrize("path", ["../../../evil", "evil\0"])
def test_no_path_leads_out(
    mirror: Mirror, cloud: CloudVersionStore, bucket: Bucket, models: list[Path], tmp_path: Path, path: str
) -> None:
    """A manifest that somebody has made up writes nowhere else."""
    publish(cloud, models[0])
    publish(cloud, models[1])
    name = f"{PREFIX}.satisfice/manifests/2.json"
    raw = json.loads(bucket.objects[name].content)
    files = [{**raw["files"][0], "path": path}]
    forged = {**raw, "files": files, "digest": digest_of(PayloadFile(**one) for one in files)}
    hold(bucket, ".satisfice/manifests/2.json", json.dumps(forged).encode())
    bucket.objects[f"{PREFIX}2/{path}"] = bucket.objects[f"{PREFIX}2/{raw['files'][0]['path']}"]
    mirror.begin()
    assert numeric_entries(mirror.folder) == ["1"]
    assert not list(tmp_path.rglob("evil*"))


def test_what_cannot_be_asked_changes_nothing(
    mirror: Mirror, cloud: CloudVersionStore, bucket: Bucket, models: list[Path]
) -> None:
    """Nor does a base path that was emptied; a folder that has nothing yet says so at the start."""
    for model in models[:2]:
        publish(cloud, model)
    everything, name = dict(bucket.objects), f"{PREFIX}.satisfice/marks.json"
    hold(bucket, ".satisfice/marks.json", b"{")
    with pytest.raises(StoreError, match="cannot be read"):
        mirror.begin()
    del bucket.objects[name]
    mirror.begin()
    hold(bucket, ".satisfice/marks.json", b"{")
    mirror.begin()
    bucket.objects.clear()
    mirror.follow()
    assert numeric_entries(mirror.folder) == ["1", "2"]
    bucket.objects.update(everything)
    mirror.follow()
    assert numeric_entries(mirror.folder) == ["1", "2"]


def test_a_bucket_that_begins_anew(
    mirror: Mirror, cloud: CloudVersionStore, bucket: Bucket, models: list[Path]
) -> None:
    """The same number with other bytes is another version."""
    publish(cloud, models[0])
    mirror.begin()
    bucket.objects.clear()
    publish(cloud, models[1])
    mirror.follow()
    assert StoreReader(mirror.folder).newest().digest == digest(models[1])  # type: ignore[union-attr]


def test_what_an_earlier_server_left(mirror: Mirror, cloud: CloudVersionStore, models: list[Path]) -> None:
    """Half a download goes, and what was damaged is downloaded again."""
    publish(cloud, models[0])
    mirror.begin()
    (mirror.folder / "1" / "saved_model.pb").write_text("GRAPH 1")
    shutil.copytree(mirror.folder / "1", mirror.folder / ".staging-x")
    mirror.begin()
    assert_only_whole_versions(mirror.folder)
    assert numeric_entries(mirror.folder) == ["1"]
    assert not list(mirror.folder.glob(".staging-*"))


def test_two_servers_follow_into_two_folders(tmp_path: Path) -> None:
    """And the first is free again once its server has ended, however it ended."""
    first = free_folder(tmp_path, "taxi")
    code = (
        f"from pathlib import Path; from serving.store.mirror import free_folder; print(free_folder(Path({str(tmp_path)!r})"
        ", 'taxi').name)"
    )
    answers = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        for _ in range(2)
    ]
    assert (first.name, answers) == ("taxi", ["taxi-2", "taxi-2"])


def test_a_folder_that_is_no_mirror(cloud: CloudVersionStore, models: list[Path], tmp_path: Path) -> None:
    """Is left as it is: a mirror would remove the versions that a store on disk has there."""
    for model in models[:2]:
        publish(VersionStore(tmp_path / "serving_models" / "taxi"), model)
    with pytest.raises(StoreError, match=r"taxi: is no mirror, and holds something; .*--mirror"):
        free_folder(tmp_path / "serving_models", "taxi")
    assert VersionStore(tmp_path / "serving_models" / "taxi").versions() == (1, 2)
    assert not (tmp_path / "serving_models" / "taxi" / ".satisfice" / "mirror").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """Is said with what to do."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"could not make a folder for what is in the bucket: .*--mirror"):
        free_folder(tmp_path / "file", "taxi")
