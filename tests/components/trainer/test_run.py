"""What TFX's Trainer calls: from examples to a SavedModel and a record."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from components.trainer import run
from components.trainer.blocks import Collector
from components.trainer.run import custom_config, run_fn
from components.trainer.strategy import Member, Plan
from schemas.config import ModelConfig, TrainingConfig
from schemas.errors import DataError, UserModuleError
from tests.components.trainer.tiny import LABEL, Tiny, write_raw

MODEL = ModelConfig(module="tests.resources.tiny_model", label=LABEL, hyperparameters={"learning_rate": 0.05})


def training(**fields: Any) -> TrainingConfig:
    return TrainingConfig.model_validate({"global_batch_size": 8, "epochs": 3, **fields})


def train(tiny: Tiny, folder: Path, config: TrainingConfig, model: ModelConfig = MODEL, **files: Any) -> dict[str, Any]:
    """Runs it; the record."""
    run_fn(
        FnArgs(
            train_files=files.get("train_files", [tiny.train]),
            eval_files=files.get("eval_files", [tiny.validate]),
            transform_output=str(tiny.folder),
            schema_path=str(tiny.schema),
            serving_model_dir=str(folder / "Format-Serving"),
            model_run_dir=str(folder / "run"),
            base_model=files.get("base_model"),
            custom_config=custom_config(model, config, "f00"),
        )
    )
    record: dict[str, Any] = json.loads((folder / "run" / "training.json").read_text())
    return record


def weights(folder: Path) -> bytes:
    return (folder / "Format-Serving" / "variables" / "variables.data-00000-of-00001").read_bytes()


def test_the_configuration_travels_as_text() -> None:
    """So that TFX's cache sees every value of it, and the code of the user's function."""
    config = training(seed=7)
    given = custom_config(MODEL, config, "f00")
    assert all(isinstance(value, str) for value in given.values())
    assert ModelConfig.model_validate_json(given["model"]) == MODEL
    assert TrainingConfig.model_validate_json(given["training"]) == config
    assert given["build_model_fingerprint"] == "f00"
    assert custom_config(MODEL, training(seed=8), "f00") != given


@pytest.mark.parametrize("role", ["ps", "worker"])
def test_tf_config_makes_a_process_serve(role: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It reads no data and writes nothing: all that it does comes from the chief."""
    cluster = {"chief": ["a:1"], "ps": ["b:1"], "worker": ["c:1", "d:1"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": role, "index": 0}}))
    served: list[tuple[Member, Plan]] = []
    monkeypatch.setattr(run, "serve", lambda member, plan: served.append((member, plan)))
    config = custom_config(MODEL, training(strategy="parameter_server"), "f00")
    run_fn(FnArgs(custom_config=config, model_run_dir=str(tmp_path / "run")))
    ((member, plan),) = served
    assert (member.role, plan.workers, plan.parameter_servers, plan.local_cluster) == (role, 2, 1, False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("backend", ["tf_keras", "keras3"])
def test_a_model_and_a_record_come_out(backend: str, tiny: Tiny, tmp_path: Path) -> None:
    """The model answers; the record has the curve, the rows and what the model asks for."""
    record = train(tiny, tmp_path, training(backend=backend))
    assert (record["epochs"], record["rows_per_epoch"]) == (3, 37)
    assert set(record["history"]) == {"loss", "binary_accuracy", "val_loss", "val_binary_accuracy"}
    assert record["serving_features"]["2nd real"] == "f2nd_real"
    assert record["parameters"] == 7 * 4 + 4 + 4 + 1
    loaded = tf.saved_model.load(str(tmp_path / "Format-Serving"))
    assert set(loaded.signatures) == {
        "serving_default",
        "serving_examples",
        "transform_features",
        "model_features",
        "transformed",
    }


@pytest.mark.parametrize("backend", ["tf_keras", "keras3"])
def test_weights_ship_and_nothing_that_only_training_needs(backend: str, tiny: Tiny, tmp_path: Path) -> None:
    """Adam keeps two numbers beside each weight, metrics keep counts: neither is in the SavedModel."""
    record = train(tiny, tmp_path, training(backend=backend))
    variables = tf.train.list_variables(str(tmp_path / "Format-Serving" / "variables" / "variables"))
    shapes = [shape for name, shape in variables if "CHECKPOINTABLE" not in name]
    assert sum(math.prod(shape) for shape in shapes) == record["parameters"]


@pytest.mark.parametrize("backend", ["tf_keras", "keras3"])
def test_the_same_seed_gives_the_same_bytes(backend: str, tiny: Tiny, tmp_path: Path) -> None:
    """Whatever the process did before; another seed gives others."""
    for folder, seed in (("first", 1), ("second", 1), ("third", 2)):
        train(tiny, tmp_path / folder, training(backend=backend, seed=seed))
    assert weights(tmp_path / "first") == weights(tmp_path / "second")
    assert weights(tmp_path / "first") != weights(tmp_path / "third")


def test_rows_of_one_class_are_refused_before_anything_is_trained(tiny: Tiny, tmp_path: Path) -> None:
    """There is nothing to learn, and nothing is written."""
    write_raw(tmp_path / "even", range(0, 20, 2))
    with pytest.raises(DataError, match="label 'label': has one class only: all 10 rows of the train split hold 0"):
        train(tiny, tmp_path / "model", training(), train_files=[str(tmp_path / "even")])
    assert not [path for path in (tmp_path / "model").rglob("*") if path.is_file()]


@pytest.mark.parametrize("backend", ["tf_keras", "keras3"])
def test_memory_does_not_decide_what_is_learned(
    backend: str, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows in a file give the weights that rows in memory give; the file is gone afterwards, after a kill too."""
    train(tiny, tmp_path / "held", training(backend=backend))
    kept: list[Any] = []
    finish = Collector.finish
    monkeypatch.setattr(Collector, "finish", lambda self: (kept.append(finish(self)), kept[-1])[1])
    monkeypatch.setattr("components.trainer.run.memory_budget_bytes", lambda: 0)
    train(tiny, tmp_path / "filed", training(backend=backend))
    assert weights(tmp_path / "filed") == weights(tmp_path / "held")
    assert [blocks.rows for blocks in kept] == [37, 10]
    assert all(blocks.file is not None and not blocks.file.exists() for blocks in kept)
    assert all(blocks.file.is_relative_to(tmp_path / "filed" / "run") for blocks in kept), "the engine clears outputs"
    assert {path.name for path in (tmp_path / "filed").iterdir()} == {"Format-Serving", "run"}
    assert not list((tmp_path / "filed" / "run").glob(".*"))


def test_lost_rows_are_noticed(tiny: Tiny, tmp_path: Path) -> None:
    """Where ExampleGen said how many there are; nothing is trained."""
    graph = tmp_path / "graph"
    shutil.copytree(tiny.folder, graph)
    (graph / "rows.json").write_text('{"train": 38, "validate": 10}')
    with pytest.raises(DataError, match="does not give the rows that ExampleGen wrote; expected 38 rows; got 37"):
        train(dataclasses.replace(tiny, folder=graph), tmp_path / "model", training())
    assert not (tmp_path / "model" / "Format-Serving").exists()


def test_a_label_that_is_not_transformed_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    """With the nearest name."""
    with pytest.raises(DataError, match="Did you mean 'label'"):
        train(tiny, tmp_path, training(), MODEL.model_copy(update={"label": "lable"}))


def test_hyperparameters_reach_the_users_function(tiny: Tiny, tmp_path: Path) -> None:
    """And what it makes of them is its own fault."""
    with pytest.raises(UserModuleError, match="raised"):
        train(tiny, tmp_path, training(), MODEL.model_copy(update={"hyperparameters": {"learning_rate": "fast"}}))
