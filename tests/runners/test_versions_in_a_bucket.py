"""The commands on versions, on a bucket: against a fake of the service."""

from __future__ import annotations

import dataclasses
import json
import time
import urllib.error
import urllib.request

import pytest

from serving.payload import digest
from serving.store import open_versions
from tests.runners.test_serving import serving
from tests.serving.models import write_savedmodel
from tests.serving.store.fake_gcs import BASE, fake_gcs
from tests.workbench import satisfice


@pytest.fixture
def bucket(monkeypatch):
    """What the fake of the service holds."""
    with fake_gcs() as (held, address):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        yield held


@pytest.fixture
def shop(fresh_taxi, bucket):
    """A pipeline whose base path is a bucket with two versions."""
    fresh_taxi.edit(lambda raw: raw["push"]["serving"].update(base_path=BASE))
    for number in (1, 2):
        folder = fresh_taxi.folder / f"model-{number}"
        folder.mkdir()
        (folder / "saved_model.pb").write_text(f"graph {number}")
        open_versions(BASE).publish(folder, digest(folder), {"pipeline": "taxi", "run": f"r{number}"})
    return fresh_taxi


def test_commands_on_a_bucket(shop):
    """List, roll back, pin, label, tell and verify as in a directory."""
    done = satisfice("rollback", shop.config, "--to", "1", "--reason", "drill", "--json").json
    assert (done["outcome"], done["version"], done["path"]) == ("pushed", 3, f"{BASE}/3")
    listed = satisfice("versions", shop.config, "--json").json
    assert [one["version"] for one in listed["versions"]] == [3, 2, 1]
    assert list(listed["refused"]) == [digest(shop.folder / "model-2")]
    assert satisfice("pin", "1", shop.config, "--json").json["kind"] == "pin"
    assert satisfice("label", "stable", "1", shop.config, "--json").json["moving_to"] == 1
    told = satisfice("history", shop.config, "--json").json
    assert [(one["kind"], one["version"]) for one in told if one["kind"] in ("push", "rollback")] == [
        ("push", 1),
        ("push", 2),
        ("rollback", 3),
    ]
    assert satisfice("verify", shop.config).code == 0


def test_fsck_and_verify_on_a_bucket(shop, bucket):
    """What is whole is said to be; what is not is named object by object, exit code 1."""
    assert satisfice("fsck", shop.config).out == f"{BASE}: nothing is wrong.\n"
    found = bucket.objects["models/taxi/2/saved_model.pb"]
    bucket.objects["models/taxi/2/saved_model.pb"] = dataclasses.replace(found, content=b"GRAPH 2")
    wrong = satisfice("fsck", shop.config)
    assert wrong.code == 1
    assert f"error     {BASE}/2: saved_model.pb holds other bytes" in wrong.out
    assert (
        f"`satisfice fsck --repair {shop.config}` moves aside what does not belong, and deletes nothing." in wrong.out
    )
    assert [one["kind"] for one in satisfice("fsck", shop.config, "--json").json["findings"]] == ["digest_mismatch"]
    verified = satisfice("verify", shop.config)
    assert verified.code == 1
    assert "version 1: every byte as published\nversion 2: " in verified.out
    assert f"{BASE}/2/saved_model.pb: holds other bytes" in verified.out


def test_repair_on_a_bucket(shop, bucket):
    """What does not belong is moved aside, and that stands in the lineage; what is left is whole."""
    found = bucket.objects["models/taxi/2/saved_model.pb"]
    bucket.objects["models/taxi/2/saved_model.pb"] = dataclasses.replace(found, content=b"GRAPH 2")
    mended = satisfice("fsck", shop.config, "--repair", "--by", "ann", "--json")
    assert mended.code == 0
    (done,) = mended.json["repaired"]
    assert (done["kind"], mended.json["findings"]) == ("digest_mismatch", [])
    assert done["done"].startswith(f"moved to {BASE}/.satisfice/aside/")
    assert [one["version"] for one in satisfice("versions", shop.config, "--json").json["versions"]] == [1]
    (act,) = [one for one in satisfice("history", shop.config, "--json").json if one["kind"] == "repair"]
    assert act["by"] == "ann"


def test_serve_from_a_bucket(fresh_taxi, bucket, tmp_path):
    """What is published there is served, once it is whole, with its labels."""
    fresh_taxi.edit(lambda raw: raw["push"]["serving"].update(base_path=BASE))
    store = open_versions(BASE)
    for number in (1, 2):
        write_savedmodel(tmp_path / str(number), float(number))
    store.publish(tmp_path / "1", digest(tmp_path / "1"), {"pipeline": "taxi"})
    with serving(fresh_taxi.config, "--poll", "0.2") as addresses:
        assert (addresses["models"], addresses["not_ready"]) == (["taxi"], [])
        versions = f"http://{addresses['rest']}/v1/models/taxi"
        assert states(versions) == {"1": "AVAILABLE"}
        store.begin_label("stable", 1)
        store.finish_label("stable", 1)
        assert soon(lambda: answers(f"{versions}/labels/stable/metadata"))
        store.publish(tmp_path / "2", digest(tmp_path / "2"), {"pipeline": "taxi"})
        assert soon(lambda: states(versions).get("2") == "AVAILABLE")
        assert answers(f"{versions}/labels/stable/metadata")


def answers(address):
    """Whether the server has an answer."""
    try:
        with urllib.request.urlopen(address, timeout=60):
            return True
    except urllib.error.HTTPError:
        return False


def states(address):
    """Version to its state."""
    with urllib.request.urlopen(address, timeout=60) as answer:
        return {one["version"]: one["state"] for one in json.load(answer)["model_version_status"]}


def soon(condition):
    """Whether something comes to hold, within the minutes that only a very busy machine needs."""
    deadline = time.monotonic() + 240
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found
