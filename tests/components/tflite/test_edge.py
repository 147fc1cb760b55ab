"""What devices have, and what a push to them leaves."""

import json

import pytest

from components.tflite.edge import devices_state, for_devices, newest_file, push_file, push_state, vocabularies_of
from schemas.decision import Decision, EdgeDecision
from schemas.errors import DigestMismatchError
from serving.store import VersionStore


def decision(outcome, digest="", variant=""):
    edge = EdgeDecision(outcome=outcome, digest=digest, variant=variant, ladder=(), reasons=("because",))
    return Decision(outcome="push", digest="s", gates=(), reasons=("r",), edge=edge)


def test_the_file_that_was_chosen_is_pushed_with_what_devices_must_know(ladder, tmp_path):
    """A version directory with the file, and a manifest with signature, vocabularies and origin."""
    base, record = str(tmp_path / "edge"), ladder.record.of("int8")
    told = for_devices(ladder.record, record, {"words": ["a", "b"]}, 3)
    result = push_file(decision("push", record.digest, "int8"), ladder.file("int8"), base, told)
    assert (result.outcome, result.version) == ("pushed", 1)
    assert (tmp_path / "edge" / "1" / "model.tflite").read_bytes() == ladder.file("int8").read_bytes()
    manifest = VersionStore(base).manifest(1)
    assert manifest.provenance["variant"] == "int8"
    assert manifest.provenance["saved_model_digest"] == ladder.record.saved_model
    assert manifest.provenance["saved_model_version"] == "3"
    assert json.loads(manifest.provenance["vocabularies"]) == {"words": ["a", "b"]}
    assert json.loads(manifest.provenance["inputs"])["number"]["dtype"] == "int8"
    assert json.loads(manifest.provenance["before_calling"]) == ["as it is"]
    devices = newest_file(base)
    assert (devices.version, devices.digest, devices.path.name) == (1, record.digest, "model.tflite")
    assert devices_state(base) == record.digest


@pytest.mark.parametrize("outcome", ["block", "pending"])
def test_nothing_is_pushed_that_may_not(tmp_path, outcome):
    """The directory is not even made."""
    result = push_file(decision(outcome), tmp_path / "none", str(tmp_path / "edge"), {})
    assert result.outcome == "not_pushed"
    assert not (tmp_path / "edge").exists()
    assert push_state(decision(outcome), str(tmp_path / "edge")) == ""


def test_other_bytes_than_those_that_were_measured_are_refused(ladder, tmp_path):
    """Nothing is visible afterwards."""
    with pytest.raises(DigestMismatchError):
        push_file(decision("push", "0" * 64, "int8"), ladder.file("int8"), str(tmp_path / "edge"), {})
    assert newest_file(str(tmp_path / "edge")) is None


def test_where_devices_have_nothing(tmp_path):
    """No directory, and no base path at all."""
    assert newest_file(str(tmp_path / "nowhere")) is None
    assert newest_file("") is None
    assert devices_state("") == ""


def test_vocabularies_are_texts_alone(tmp_path):
    """Words in the order of their numbers; what is no text stays with the SavedModel."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "words").write_text("zwei\neins\n", encoding="utf-8")
    (tmp_path / "assets" / "picture").write_bytes(b"\xff\xfe\x00")
    assert vocabularies_of(tmp_path) == {"words": ["zwei", "eins"]}
