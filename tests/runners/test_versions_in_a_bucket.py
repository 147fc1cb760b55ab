"""The commands on versions, on a bucket: against a fake of the service."""

from __future__ import annotations

import dataclasses

import pytest

from serving.payload import digest
from serving.store import open_versions
from tests.serving.store.fake_gcs import fake_gcs
from tests.workbench import satisfice

BASE = "gs://bucket/models/taxi"


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
    """List, roll back, pin, label, tell and verify as in a directory; what needs one is refused."""
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
    for command in (("fsck", "--repair"), ("serve",)):
        refused = satisfice(*command, shop.config)
        assert refused.code == 2
        assert "is in a bucket" in refused.err


def test_fsck_and_verify_on_a_bucket(shop, bucket):
    """What is whole is said to be; what is not is named object by object, exit code 1."""
    assert satisfice("fsck", shop.config).out == f"{BASE}: nothing is wrong.\n"
    found = bucket.objects["models/taxi/2/saved_model.pb"]
    bucket.objects["models/taxi/2/saved_model.pb"] = dataclasses.replace(found, content=b"GRAPH 2")
    wrong = satisfice("fsck", shop.config)
    assert wrong.code == 1
    assert f"error     {BASE}/2: saved_model.pb holds other bytes" in wrong.out
    assert "--repair" not in wrong.out
    assert [one["kind"] for one in satisfice("fsck", shop.config, "--json").json["findings"]] == ["digest_mismatch"]
    verified = satisfice("verify", shop.config)
    assert verified.code == 1
    assert "version 1: every byte as published\nversion 2: " in verified.out
    assert f"{BASE}/2/saved_model.pb: holds other bytes" in verified.out
