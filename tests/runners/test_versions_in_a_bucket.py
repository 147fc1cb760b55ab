"""The commands on versions, on a bucket: against a fake of the service."""

from __future__ import annotations

import pytest

from serving.payload import digest
from serving.store import open_versions
from tests.serving.store.fake_gcs import fake_gcs
from tests.workbench import satisfice

BASE = "gs://bucket/models/taxi"


@pytest.fixture
def shop(fresh_taxi, monkeypatch):
    """A pipeline whose base path is a bucket with two versions."""
    with fake_gcs() as (_, address):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        fresh_taxi.edit(lambda raw: raw["push"]["serving"].update(base_path=BASE))
        for number in (1, 2):
            folder = fresh_taxi.folder / f"model-{number}"
            folder.mkdir()
            (folder / "saved_model.pb").write_text(f"graph {number}")
            open_versions(BASE).publish(folder, digest(folder), {"pipeline": "taxi", "run": f"r{number}"})
        yield fresh_taxi


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
    for command in ("fsck", "serve"):
        refused = satisfice(command, shop.config)
        assert refused.code == 2
        assert "is in a bucket" in refused.err
