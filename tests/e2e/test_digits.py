"""The digits pipeline as it is shipped: trained quantization-aware, both payloads gated and pushed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.inspect import inspect
from serving.store import VersionStore
from tests.workbench import REPOSITORY, satisfice

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def digits(tmp_path_factory: Any) -> Path:
    """The shipped configuration in a folder of its own, run once."""
    folder: Path = tmp_path_factory.mktemp("digits")
    raw = yaml.safe_load((REPOSITORY / "digits.yaml").read_text())
    raw["data"]["source"]["path"] = str(REPOSITORY / raw["data"]["source"]["path"])
    raw["data"]["schema"] = str(REPOSITORY / raw["data"]["schema"])
    (folder / "digits.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    answer = satisfice("run", folder / "digits.yaml")
    assert answer.code == 0, answer.out + answer.err
    assert "Pushed version 1." in answer.out
    assert "to devices as version 1" in answer.out
    return folder


def test_both_payloads_are_pushed(digits: Path) -> None:
    """The file that the ladder says was chosen, in integers, a third of float32's size at most."""
    told = satisfice("why", "1", digits / "digits.yaml", "--payload=tflite", "--json").json
    ladder = {rung["variant"]: rung for rung in told["edge"]["ladder"]}
    assert told["push"]["outcome"] == "pushed"
    assert ladder[told["edge"]["variant"]]["verdict"] == "chosen"
    assert ladder["int8"]["figures"]["size_mb"] <= 0.3 * ladder["float32"]["figures"]["size_mb"]
    assert "cannot become 16" in ladder["int16x8"]["problems"][0]
    manifest = VersionStore(digits / "edge_models" / "digits").manifest(1)
    assert manifest.digest == told["edge"]["digest"]
    assert manifest.provenance["saved_model_version"] == "1"
    file = inspect(digits / "edge_models" / "digits" / "1" / "model.tflite").as_dict()
    assert file["digest"] == manifest.digest
    assert VersionStore(digits / "serving_models" / "digits").versions() == (1,)


def test_running_again_makes_and_measures_nothing(digits: Path) -> None:
    """What devices have is one of the candidate's files, which were measured before."""
    answer = satisfice("run", digits / "digits.yaml", "--json").json
    assert (answer["outcome"], answer["push"]["edge"]["outcome"]) == ("already_served", "already_served")
    states = {node["node"]: node["state"] for node in answer["nodes"]}
    assert states["TFLiteExporter"] == states["TFLiteEvaluator"] == states["Trainer"] == "cached"
