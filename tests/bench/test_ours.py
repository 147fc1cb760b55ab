"""The configuration that is measured: as the shipped one, but for what the others do not do either."""

from __future__ import annotations

import pytest
import yaml

from bench import ours
from schemas.load import load_config

DEVICES = {
    "export": {"tflite": {"variants": ["float32", "int8"]}},
    "gates": [
        {"metric": "size_mb", "payload": "tflite", "max": 0.1},
        {"metric": "auc", "payload": "tflite", "max_drop": 0.005},
    ],
}


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """`satisfice.yaml`, with files for devices."""
    values = yaml.safe_load(ours.CONFIG.read_text(encoding="utf-8"))
    values["data"]["schema"] = str(ours.CONFIG.parent / values["data"]["schema"])
    values["export"] = DEVICES["export"]
    values["gates"]["satisfy"] = [one for one in values["gates"]["satisfy"] if one.get("payload") != "tflite"]
    values["gates"]["satisfy"] += DEVICES["gates"]
    values["push"]["edge"] = {"base_path": "edge_models/taxi"}
    file = tmp_path / "shipped" / "satisfice.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    monkeypatch.setattr(ours, "CONFIG", file)
    return values


def loaded(tmp_path, **training):
    (tmp_path / "work").mkdir()
    written = ours.write_config(ours.configure(tmp_path, **training), tmp_path / "trips.csv", tmp_path / "work")
    return load_config(str(written)).config


@pytest.mark.parametrize("training", [{"steps": 1000}, {"epochs": 1, "batch": 1024}])
def test_beside_the_others_no_files_for_devices_are_made(tmp_path, shipped, training):
    """Neither made, nor pushed, nor gated; every other gate is there."""
    config = loaded(tmp_path, **training)
    assert (config.export.tflite, config.push.edge) == (None, None)
    assert len(config.gates.satisfy) == len(shipped["gates"]["satisfy"]) - len(DEVICES["gates"])
    assert (config.training.global_batch_size, config.training.epochs) == (training.get("batch", 40), 1)


def test_as_configured_all_is_as_shipped(tmp_path, shipped):
    """The files for devices among it; what is written stays below one folder, and no gate is missed."""
    config = loaded(tmp_path)
    assert [str(one) for one in config.export.tflite.variants] == ["float32", "int8"]
    assert config.training.epochs == shipped["training"]["epochs"]
    assert config.push.edge.base_path == str(tmp_path / "work" / "edge")
    assert len(config.gates.satisfy) == len(shipped["gates"]["satisfy"])
    assert {gate.max for gate in config.gates.satisfy if gate.payload == "tflite" and gate.max} == {100.0}


def test_the_quality_is_the_saved_models():
    """Whatever was measured of files for devices."""
    gates = [
        {"metric": "auc", "payload": "saved_model", "slice": {}, "value": 0.95, "n": 10},
        {"metric": "binary_accuracy", "payload": "saved_model", "slice": {}, "value": 0.9, "n": 10},
        {"metric": "auc", "payload": "tflite", "slice": {}, "value": 0.5, "n": 7},
        {"metric": "auc", "payload": "saved_model", "slice": {"hour": "1"}, "value": 0.4, "n": 3},
    ]
    assert ours._quality(gates) == {"auc": 0.95, "accuracy": 0.9, "rows": 10}
