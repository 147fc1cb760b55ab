"""What devices have, and what a push to them leaves."""

import json
import shutil

import pytest
from ml_metadata.proto import metadata_store_pb2

from components.tflite.edge import Found, devices_of, find, for_devices, push_file, push_state, vocabularies_of
from schemas.config import EdgeConfig
from schemas.decision import Decision, EdgeDecision
from schemas.errors import DigestMismatchError
from serving.store import VersionStore
from tests.serving.store.fake_gcs import fake_gcs


def artifact(pushed, base):
    """The record of a push as the lineage has it."""
    made = metadata_store_pb2.Artifact()
    for key, value in pushed.properties(7, base, "tflite").items():
        if isinstance(value, int):
            made.custom_properties[key].int_value = value
        else:
            made.custom_properties[key].string_value = value
    return made


def record_of(digest, base, number):
    made = metadata_store_pb2.Artifact(id=number)
    made.custom_properties["pushed"].int_value = 1
    made.custom_properties["digest"].string_value = digest
    made.custom_properties["base_path"].string_value = base
    return made


def decision(outcome, digest="", variant=""):
    edge = EdgeDecision(outcome=outcome, digest=digest, variant=variant, ladder=(), reasons=("because",))
    return Decision(outcome="push", digest="s", gates=(), reasons=("r",), edge=edge)


def test_the_file_that_was_chosen_is_pushed_with_what_devices_must_know(ladder, tmp_path):
    """A version directory with the file, and a manifest with signature, vocabularies and origin."""
    base, record = str(tmp_path / "edge"), ladder.record.of("int8")
    told = for_devices(ladder.record, record, {"words": ["a", "b"]}, 3)
    pushed = push_file(decision("push", record.digest, "int8"), ladder.file("int8"), EdgeConfig(base_path=base), told)
    assert (pushed.result.outcome, pushed.result.version, pushed.makes_champion) == ("pushed", 1, True)
    assert (tmp_path / "edge" / "1" / "model.tflite").read_bytes() == ladder.file("int8").read_bytes()
    manifest = VersionStore(base).manifest(1)
    assert manifest.provenance["variant"] == "int8"
    assert manifest.provenance["saved_model_digest"] == ladder.record.saved_model
    assert manifest.provenance["saved_model_version"] == "3"
    assert json.loads(manifest.provenance["vocabularies"]) == {"words": ["a", "b"]}
    assert json.loads(manifest.provenance["inputs"])["number"]["dtype"] == "int8"
    assert json.loads(manifest.provenance["before_calling"]) == ["as it is"]
    devices = devices_of(artifact(pushed, base))
    assert (devices.version, devices.digest, devices.path.name) == (1, record.digest, "model.tflite")
    assert (devices.state, devices.why_not) == (record.digest, "")


@pytest.mark.parametrize("outcome", ["block", "pending"])
def test_nothing_is_pushed_that_may_not(tmp_path, outcome):
    """The directory is not even made."""
    pushed = push_file(decision(outcome), tmp_path / "none", EdgeConfig(base_path=str(tmp_path / "edge")), {})
    assert (pushed.result.outcome, pushed.makes_champion) == ("not_pushed", False)
    assert not (tmp_path / "edge").exists()
    assert push_state(decision(outcome), str(tmp_path / "edge")) == ""


def test_other_bytes_than_those_that_were_measured_are_refused(ladder, tmp_path):
    """Nothing is visible afterwards."""
    with pytest.raises(DigestMismatchError):
        push_file(
            decision("push", "0" * 64, "int8"), ladder.file("int8"), EdgeConfig(base_path=str(tmp_path / "edge")), {}
        )
    assert VersionStore(tmp_path / "edge").versions() == ()


@pytest.mark.parametrize("harm", ["gone", "changed", "directory gone"])
def test_a_file_that_devices_have_and_that_is_damaged_is_told(ladder, tmp_path, harm):
    """The push record stands: that there is nothing to measure is no first run."""
    base = tmp_path / "edge"
    edge, digest = EdgeConfig(base_path=str(base)), ladder.record.of("int8").digest
    pushed = push_file(decision("push", digest, "int8"), ladder.file("int8"), edge, {})
    file = base / "1" / "model.tflite"
    if harm == "changed":
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    elif harm == "gone":
        file.unlink()
    else:
        shutil.rmtree(base)
    devices = devices_of(artifact(pushed, str(base)))
    assert (devices.digest, devices.version, devices.state) == (digest, 1, "not there")
    assert str(file) in devices.why_not


def test_only_the_newest_versions_are_kept(ladder, tmp_path):
    """As push.edge.keep_versions says; a pinned one stays."""
    edge = EdgeConfig(base_path=str(tmp_path / "edge"), keep_versions=1)
    for variant in ("float32", "float16", "int8"):
        digest = ladder.record.of(variant).digest
        pushed = push_file(decision("push", digest, variant), ladder.file(variant), edge, {})
        if variant == "float32":
            VersionStore(tmp_path / "edge").pin(1, by="Ada")
    assert pushed.result.removed == (2,)
    assert VersionStore(tmp_path / "edge").versions() == (1, 3)


def test_bytes_that_were_rolled_back_are_refused_until_they_are_allowed(ladder, tmp_path):
    """The same file is made again from the same model."""
    edge, store = EdgeConfig(base_path=str(tmp_path / "edge")), VersionStore(tmp_path / "edge")
    digests = {variant: ladder.record.of(variant).digest for variant in ("float32", "int8")}
    for variant, digest in digests.items():
        push_file(decision("push", digest, variant), ladder.file(variant), edge, {})
    store.rollback(1, by="Ada", reason="wrong at night")
    again = push_file(decision("push", digests["int8"], "int8"), ladder.file("int8"), edge, {})
    assert (again.result.outcome, again.makes_champion) == ("rolled_back", False)
    assert "wrong at night" in again.result.reason
    store.allow(digests["int8"])
    assert push_file(decision("push", digests["int8"], "int8"), ladder.file("int8"), edge, {}).result.version == 4


def test_what_devices_have_is_found_by_push_records(ladder, tmp_path):
    """Of the edge directory alone; it is measured beside the candidate's files unless it is one of them."""
    base = str(tmp_path / "edge")
    own, other = (
        record_of(digest, base, number) for number, digest in ((1, ladder.record.of("int8").digest), (2, "o"))
    )
    elsewhere = record_of("e", str(tmp_path / "served"), 3)
    candidate = metadata_store_pb2.Artifact(uri=str(ladder.folder))
    assert find(candidate, [elsewhere], base) == Found(None, None)
    assert find(candidate, [own, elsewhere], base) == Found(own, None)
    assert find(candidate, [own, other, elsewhere], base) == Found(other, other)
    assert find(None, [own], base) == Found(own, own)
    assert devices_of(None) is None


def test_vocabularies_are_texts_alone(tmp_path):
    """Words in the order of their numbers; what is no text stays with the SavedModel."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "words").write_text("zwei\neins\n", encoding="utf-8")
    (tmp_path / "assets" / "picture").write_bytes(b"\xff\xfe\x00")
    assert vocabularies_of(tmp_path) == {"words": ["zwei", "eins"]}


def test_files_in_a_bucket(ladder, tmp_path, monkeypatch):
    """Pushed once, found again, and brought here where it is to be measured; what is gone or other bytes is said."""
    base, digest = "gs://bucket/models/taxi", ladder.record.of("int8").digest
    wanted, edge = decision("push", digest, "int8"), EdgeConfig(base_path="gs://bucket/models/taxi")
    with fake_gcs() as (bucket, address):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        pushed = push_file(wanted, ladder.file("int8"), edge, {})
        assert (pushed.result.outcome, pushed.result.destination) == ("pushed", f"{base}/1")
        assert push_file(wanted, ladder.file("int8"), edge, {}).result.outcome == "already_served"
        assert push_state(wanted, base) == f"1:{digest}"
        record = artifact(pushed, base)
        found = devices_of(record, tmp_path)
        assert (found.state, found.path.read_bytes()) == (digest, ladder.file("int8").read_bytes())
        assert devices_of(record).state == digest
        bucket.make("models/taxi/1/model.tflite", b"other", {}, None)
        assert devices_of(record).why_not == f"{base}/1/model.tflite holds other bytes than were pushed"
        del bucket.objects["models/taxi/1/model.tflite"]
        assert devices_of(record).why_not == f"{base}/1/model.tflite does not exist"
