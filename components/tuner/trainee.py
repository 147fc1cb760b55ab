"""What a worker of the search does: reads the rows once, then trains, or exports, one set of hyperparameters after the other.

The training is the Trainer's own, on one device, from the same seed, so that the winner is trained there to the same end.
What a model costs does not hang on what its weights hold, so what is exported to be measured is not trained.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.trainer.blocks import Blocks, memory_budget_bytes
from components.trainer.export import raw_spec_of, save
from components.trainer.fit import Course, Watch, built, fit, keras_for, mode_of, seeded
from components.trainer.golden import first_records, write_requests
from components.trainer.inputs import VALIDATION_ROWS, Layout, block_rows, dataset, layout_of
from components.trainer.preprocessing import Preprocessing
from components.trainer.reference import read_reference, write_reference
from components.trainer.rows import Reader, rows_stated
from components.trainer.scope import machine_of_tensorflow, prepare
from components.trainer.strategy import make_plan
from schemas.config import EarlyStoppingConfig, ModelConfig, TFLiteConfig, TrainingConfig, Variant
from schemas.errors import TuningError, close_match

__all__ = ["Trainee"]

_SMALL_FIRST: tuple[Variant, ...] = ("dynamic_int8", "int8", "int16x8", "float16", "float32")


@dataclass(frozen=True)
class Trainee:
    """The rows of both splits, and what is made of them.

    Attributes:
        model, training: the configuration's sections; `training` as it is on one device.
        objective: name of the metric that is searched for.
        module: the user's.
        layout, preprocessing, raw_spec: of the rows.
        train, validate: the rows.
        train_files, validate_files: patterns of the raw examples.
        precision: in what layers compute while they train.
    """

    model: ModelConfig
    training: TrainingConfig
    objective: str
    module: ModuleType
    layout: Layout
    preprocessing: Preprocessing
    raw_spec: Mapping[str, Any]
    train_split: Blocks
    validate_split: Blocks
    train_files: tuple[str, ...]
    validate_files: tuple[str, ...]
    precision: str

    @staticmethod
    def of(work: Mapping[str, Any]) -> Trainee:
        """Sets TensorFlow up and reads the rows.

        Args:
            work: `model`, `training` (JSON of the sections), `train_files`, `validate_files`, `transform_graph`, `schema`,
                `threads` (0 for all), `parallel`, `rows` (folder for rows that memory does not hold) and `place`.

        Raises:
            DataError: there is nothing to learn or to judge by.
        """
        model = ModelConfig.model_validate_json(work["model"])
        asked = TrainingConfig.model_validate_json(work["training"])
        assert asked.tune is not None
        training = on_one_device(asked)
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)  # several trials may share one
        plan = replace(make_plan(training, machine_of_tensorflow()), threads=work["threads"])
        prepare(plan, training)
        transformed = tft.TFTransformOutput(work["transform_graph"])
        layout = layout_of(transformed, model.label)
        preprocessing = Preprocessing(transformed.transform_savedmodel_dir)
        raw_spec = raw_spec_of(text_format.Parse(Path(work["schema"]).read_text(encoding="utf-8"), schema_pb2.Schema()))
        folder = Path(work["rows"], str(work["place"]))
        shutil.rmtree(folder, ignore_errors=True)  # of a worker that was killed
        reader = Reader(preprocessing, layout, raw_spec)
        stated, budget = rows_stated(work["transform_graph"]), memory_budget_bytes() // (2 * work["parallel"])
        batch = training.global_batch_size
        train = reader.read(
            work["train_files"], block_rows(layout, batch), budget, folder / "train.arrow", stated.get("train")
        )
        train.check(layout.label, "train")
        held_out = reader.read(
            work["validate_files"],
            block_rows(layout, max(batch, VALIDATION_ROWS)),
            budget,
            folder / "validate.arrow",
            stated.get("validate"),
        )
        if not held_out.blocks.rows:
            raise TuningError(
                "split 'validate'", "holds no rows to judge a trial by", remedy="Add data, or change data.splits."
            )
        return Trainee(
            model,
            training,
            asked.tune.objective,
            importlib.import_module(model.module),
            layout,
            preprocessing,
            raw_spec,
            train.blocks,
            held_out.blocks,
            tuple(work["train_files"]),
            tuple(work["validate_files"]),
            plan.precision,
        )

    @property
    def about(self) -> dict[str, int]:
        """What was read."""
        return {"train": self.train_split.rows, "validate": self.validate_split.rows}

    def train(self, values: Mapping[str, Any], watch: Watch) -> dict[str, Any]:
        """Trains with some hyperparameters, and tells what is known of the weights that are kept.

        Args:
            values: in place of those of the configuration.
            watch: told of the figures on `validate` of the weights that would be kept if an epoch were the last.

        Returns:
            `epochs` and `figures`.

        Raises:
            TuningError: the model does not log the objective.
        """
        seeded(self.training)
        batch = self.training.global_batch_size
        kept = _Kept(self.objective, self.training.early_stopping, watch)
        fitted = fit(
            self.module.build_model,
            self.layout,
            {**self.model.hyperparameters, **values},
            self.training,
            dataset(
                self.train_split,
                self.layout,
                batch,
                shuffle_seed=self.training.seed,
                epochs=range(self.training.epochs),
            ),
            dataset(self.validate_split, self.layout, max(batch, VALIDATION_ROWS)),
            self.train_split.rows,
            Course(epochs_in_train=True, precision=self.precision, watch=kept),
        )
        return {"epochs": len(next(iter(fitted.history.values()), [])), "figures": kept.figures}

    def export(
        self, values: Mapping[str, Any], folder: Path, tflite: TFLiteConfig | None, limit_mb: float | None
    ) -> dict[str, Any]:
        """Writes the SavedModel that the Trainer would write, with the requests that it carries, its weights untrained.

        Args:
            values: in place of those of the configuration.
            folder: to write; what is there is taken away.
            tflite: where the sizes of files for devices are asked for, the configuration's section.
            limit_mb: beyond which a file is too large; the first variant within it ends the conversion. None converts all.

        Returns:
            `names`: feature to name in a request; `files`: variant to MB.
        """
        shutil.rmtree(folder, ignore_errors=True)
        saved_model = folder / "saved_model"
        seeded(self.training)
        keras = keras_for(self.training.backend)
        model = built(self.module.build_model, keras, self.layout, {**self.model.hyperparameters, **values})
        names = save(keras, model, self.preprocessing, self.layout, self.raw_spec, str(saved_model))
        write_reference(model, dataset(self.validate_split, self.layout, VALIDATION_ROWS), folder)
        reference = read_reference(folder)
        records = first_records(self.validate_files)
        write_requests(saved_model, records, reference.predictions if reference else None, self.raw_spec, names)
        files = self._files(saved_model, folder, tflite, limit_mb) if tflite else {}
        return {"names": names, "files": files}

    def _files(self, saved_model: Path, folder: Path, tflite: TFLiteConfig, limit_mb: float | None) -> dict[str, float]:
        from components.tflite.convert import convert, opened
        from components.tflite.representative import features_of, raw_features_of, sample

        sizes: dict[str, float] = {}
        files = [file for pattern in self.train_files for file in sorted(tf.io.gfile.glob(pattern))]
        examples = sample(files)
        with opened(saved_model, tflite.takes) as source:
            raw = tflite.takes == "raw"
            rows = raw_features_of(source.arguments, self.raw_spec, examples) if raw else features_of(source, examples)
            for variant in sorted(tflite.variants, key=_SMALL_FIRST.index):
                made = convert(source, variant, rows, folder / "tflite")
                if made.digest:
                    sizes[variant] = made.size_bytes / 1e6
                if limit_mb is not None and sizes.get(variant, float("inf")) <= limit_mb:
                    break
        return sizes


def on_one_device(training: TrainingConfig) -> TrainingConfig:
    """The section as a trial sees it, whatever the strategy of the Trainer."""
    return training.model_copy(
        update={
            "strategy": "one_device",
            "workers": 1,
            "parameter_servers": 0,
            "devices": "auto",
            "communication": "auto",
            "cluster": "local",
            "kubernetes": None,
            "warm_start": "none",
            "checkpoint_every_steps": None,
            "tune": None,
        }
    )


@dataclass
class _Kept:
    """Follows what early stopping keeps, and tells of its figures rather than of the last epoch's.

    Attributes:
        figures: on `validate`, by the names with which the model is compiled.
    """

    objective: str
    early: EarlyStoppingConfig | None
    watch: Watch
    figures: dict[str, float] = field(default_factory=dict)
    _best: float | None = None

    def built(self, model: Any) -> None:
        self.watch.built(model)

    def epoch(self, number: int, figures: Mapping[str, float]) -> bool:
        held_out = {name.removeprefix("val_"): value for name, value in figures.items() if name.startswith("val_")}
        if self.objective not in held_out:
            guess = close_match(self.objective, held_out)
            raise TuningError(
                "training.tune.objective",
                "is not among what the model logs",
                expected=f"one of {', '.join(sorted(held_out))}",
                got=self.objective,
                remedy=f"Did you mean {guess!r}?" if guess else "Add the metric where build_model compiles the model.",
            )
        if self._is_better(held_out) or not self.figures:
            self.figures = held_out
        return self.watch.epoch(number, self.figures)

    def _is_better(self, figures: Mapping[str, float]) -> bool:
        """Whether these weights would be kept rather than those of before; always without early stopping."""
        if self.early is None:
            return True
        value = figures[self.early.metric.removeprefix("val_")]
        before, self._best = self._best, value
        if before is None or (value > before if mode_of(self.early) == "max" else value < before):
            return True
        self._best = before
        return False
