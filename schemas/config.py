"""The configuration of a pipeline: frozen pydantic models, one section each. Units stand in the keys.

A `PipelineConfig` is made by `schemas.load.load_config`, which resolves paths and reports all faults at once; it is
checked again here, whoever makes it.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from schemas.errors import close_match
from schemas.metrics import PROFILED, QUALITY

__all__ = [
    "BeamConfig",
    "ChampionGate",
    "DataConfig",
    "EarlyStoppingConfig",
    "EdgeConfig",
    "ExportConfig",
    "GatesConfig",
    "KubeflowConfig",
    "MetadataConfig",
    "ModelConfig",
    "PipelineConfig",
    "PushConfig",
    "RunnerConfig",
    "SatisfyGate",
    "ScheduleConfig",
    "ServingConfig",
    "ServingPushConfig",
    "SourceConfig",
    "TFLiteConfig",
    "TrainingConfig",
    "ValidateConfig",
    "config_digest",
]

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]


class Section(BaseModel):
    """A frozen part of the configuration that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


# --- data -------------------------------------------------------------------------------------------------------------


class WindowConfig(Section):
    """Which spans of a dated source a run reads."""

    last_spans: Positive


class SourceConfig(Section):
    """Where the rows come from. `path` may hold `*`, and `{SPAN}`, `{YYYY}`, `{MM}`, `{DD}`, `{VERSION}`."""

    format: Literal["csv", "parquet", "tfrecord", "avro", "bigquery"]
    path: Annotated[str, Field(min_length=1)]
    window: WindowConfig | None = None


class ValidateConfig(Section):
    """What the data gate does about data that deviates from the schema or from the champion's data."""

    anomalies: Literal["block", "warn"] = "block"
    drift: dict[str, dict[Literal["jensen_shannon", "infinity_norm"], Share]] = {}
    on_drift: Literal["block", "warn", "retrain"] | None = None


class DataConfig(Section):
    """Source, splits and curated schema. A row's split follows from a hash of its values."""

    source: SourceConfig
    splits: dict[Literal["train", "validate", "eval"], Positive] = {"train": 7, "validate": 1, "eval": 2}
    schema_path: Annotated[str, Field(alias="schema", min_length=1)]
    validate_: Annotated[ValidateConfig, Field(alias="validate")] = ValidateConfig()

    @field_validator("splits")
    @classmethod
    def _all_three(cls, splits: dict[str, int]) -> dict[str, int]:
        missing = [name for name in ("train", "validate", "eval") if name not in splits]
        if missing:
            raise ValueError(f"lacks {', '.join(missing)}: each of train, validate and eval needs a share")
        return {name: splits[name] for name in ("train", "validate", "eval")}


# --- model and training -----------------------------------------------------------------------------------------------


class ModelConfig(Section):
    """The user's module, the transformed feature that is the label, and what `build_model` is given."""

    module: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]
    label: Annotated[str, Field(min_length=1)]
    hyperparameters: dict[str, JsonValue] = {}


class EarlyStoppingConfig(Section):
    """Stop when `metric` (as Keras logs it: `val_auc`, `val_loss`) has not improved for `patience` epochs."""

    metric: Annotated[str, Field(pattern=r"^val_\w+$")] = "val_loss"
    patience: NotNegative = 2


class TuneConfig(Section):
    """Search for hyperparameters before training."""

    trials: Positive = 20
    objective: str
    space: dict[str, JsonValue]
    parallel: Literal["auto"] | Positive = "auto"


class TrainingConfig(Section):
    """How the model is trained."""

    backend: Literal["tf_keras", "keras3"] = "tf_keras"
    strategy: Literal[
        "auto",
        "one_device",
        "mirrored",
        "central_storage",
        "multi_worker_mirrored",
        "parameter_server",
        "tpu",
    ] = "auto"
    workers: Positive = 1
    parameter_servers: NotNegative = 0
    devices: Literal["auto"] | Positive = "auto"
    communication: Literal["auto", "ring", "nccl"] = "auto"
    mixed_precision: bool = False
    jit_compile: bool = False
    deterministic: bool = False
    steps_per_execution: Literal["auto"] | Positive = "auto"
    warm_start: Literal["none", "champion"] = "none"
    global_batch_size: Positive = 1024
    epochs: Positive = 10
    seed: NotNegative = 0
    early_stopping: EarlyStoppingConfig | None = None
    tune: TuneConfig | None = None


class PruningConfig(Section):
    """Prune weights during training."""

    final_sparsity: Annotated[float, Field(gt=0, lt=1)]


class TFLiteConfig(Section):
    """Which `.tflite` files are made of the model, and which of them ships."""

    variants: tuple[Literal["float32", "float16", "dynamic_int8", "int8", "int16x8"], ...] = ("float32",)
    choose: Literal["smallest_passing"] = "smallest_passing"
    blocks_saved_model: bool = False
    pruning: PruningConfig | None = None
    quantization_aware: bool = False


class ExportConfig(Section):
    """What is exported beside the SavedModel."""

    tflite: TFLiteConfig | None = None


# --- gates ------------------------------------------------------------------------------------------------------------


def _known_metric(name: str) -> str:
    if name in QUALITY or name in PROFILED:
        return name
    guess = close_match(name, [*QUALITY, *PROFILED])
    hint = f" (did you mean {guess!r}?)" if guess else ""
    raise ValueError(f"unknown metric {name!r}{hint}")


class ChampionGate(Section):
    """The optimizing metric: the candidate may be at most this much worse than the champion on it."""

    metric: str
    at_least_champion_minus: Annotated[float, Field(ge=0)] = 0.0

    _known = field_validator("metric")(_known_metric)

    @field_validator("metric")
    @classmethod
    def _has_a_direction(cls, name: str) -> str:
        if name in PROFILED:
            raise ValueError(f"{name} is a satisficing metric; the optimizing metric must be a quality metric")
        if QUALITY[name].better == "neither":
            raise ValueError(f"{name} is neither better when higher nor when lower, so it cannot be optimized")
        return name


CONDITIONS = ("min", "max", "max_gap", "max_drop", "max_ratio_to_champion")


class SatisfyGate(Section):
    """One satisficing gate: exactly one condition on one figure, on the whole eval split or on each value of a slice.

    `min`, `max`: limits in the metric's unit. `max_drop`: how much worse than the champion at most, in the metric's
    unit. `max_ratio_to_champion`: candidate / champion at most, for metrics that should be small. `max_gap`: largest
    minus smallest value over the slices. `min_examples`: slices with fewer are reported and do not block.
    """

    metric: str
    payload: Literal["saved_model", "tflite"] = "saved_model"
    slice_by: tuple[str, ...] = ()
    min_examples: NotNegative = 0
    batch_size: Positive | None = None
    against: Literal["saved_model", "trained"] | None = None
    min: float | None = None
    max: float | None = None
    max_gap: Annotated[float, Field(ge=0)] | None = None
    max_drop: Annotated[float, Field(ge=0)] | None = None
    max_ratio_to_champion: Annotated[float, Field(gt=0)] | None = None
    on_inconclusive: Literal["block", "pass"] = "block"

    _known = field_validator("metric")(_known_metric)

    @property
    def condition(self) -> Literal["min", "max", "max_gap", "max_drop", "max_ratio_to_champion"]:
        """The one condition that is set."""
        for name in CONDITIONS:
            if getattr(self, name) is not None:
                return name  # type: ignore[return-value]
        raise AssertionError("checked by the validator")  # pragma: no cover

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        given = [name for name in CONDITIONS if getattr(self, name) is not None]
        if len(given) != 1:
            came = " and ".join(given) if given else "none"
            raise ValueError(f"needs exactly one of {', '.join(CONDITIONS)}; got {came}")
        if self.min_examples and not self.slice_by:
            raise ValueError("min_examples needs slice_by")
        if self.max_gap is not None and not self.slice_by:
            raise ValueError("max_gap needs slice_by: it is a difference between slices")
        better = QUALITY[self.metric].better if self.metric in QUALITY else "lower"
        if better == "neither" and given[0] in ("max_drop", "max_ratio_to_champion"):
            raise ValueError(f"{self.metric} is neither better when higher nor when lower: use min, max or max_gap")
        if better == "higher" and given[0] == "max_ratio_to_champion":
            raise ValueError(f"max_ratio_to_champion is for metrics that should be small; use max_drop for {self.metric}")
        return self


class GatesConfig(Section):
    """What a candidate must meet. A configuration without gates is refused."""

    optimize: ChampionGate | None = None
    approval: Literal["none", "required"] = "none"
    satisfy: tuple[SatisfyGate, ...] = ()

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.optimize is None and not self.satisfy:
            raise ValueError("no gate: give optimize, or at least one entry of satisfy")
        return self


# --- where it ships ---------------------------------------------------------------------------------------------------


class InstanceConfig(Section):
    """One server, by its gRPC address."""

    grpc: str


class ConfirmConfig(Section):
    """Servers that must load a new version before the push counts."""

    instances: Annotated[tuple[InstanceConfig, ...], Field(min_length=1)]
    deadline_s: Positive = 60


class ServingPushConfig(Section):
    """The TF Serving watch directory."""

    base_path: Annotated[str, Field(min_length=1)]
    keep_versions: Positive | None = None
    server_version: Annotated[str, Field(pattern=r"^\d+\.\d+$")] | None = None
    confirm: ConfirmConfig | None = None


class EdgeConfig(Section):
    """The directory of versioned `.tflite` files."""

    base_path: Annotated[str, Field(min_length=1)]


class PushConfig(Section):
    """Where admitted payloads go."""

    serving: ServingPushConfig
    edge: EdgeConfig | None = None


class BatchingConfig(Section):
    """Server-side batching."""

    max_batch_size: Positive


class ServingConfig(Section):
    """For `serve` and `deploy render`."""

    batching: BatchingConfig | None = None
    labels: dict[str, Positive] = {}
    instances: Positive = 1


class TriggersConfig(Section):
    """What makes a tick retrain."""

    cron: str | None = None
    new_rows: Positive | None = None
    drift: bool = False


class ScheduleConfig(Section):
    """When to retrain."""

    triggers: TriggersConfig
    any: bool = True
    cool_down: Annotated[str, Field(pattern=r"^\d+[smhd]$")] = "0s"


class VolumeConfig(Section):
    """A persistent volume claim."""

    claim: str


class KubeflowConfig(Section):
    """For Kubeflow Pipelines."""

    image: str
    resources: dict[str, dict[Literal["cpu", "memory"], int | str]] = {}
    volume: VolumeConfig | None = None


# --- how it runs ------------------------------------------------------------------------------------------------------


class SqliteConfig(Section):
    """A SQLite file."""

    path: Annotated[str, Field(min_length=1)] = "metadata.db"


class DatabaseConfig(Section):
    """A database server. The password is read from the environment variable that `password_env` names."""

    host: str
    port: Positive
    database: str
    user: str
    password_env: str | None = None


class GrpcConfig(Section):
    """A metadata server."""

    host: str
    port: Positive


class MetadataConfig(Section):
    """Where ML Metadata lives: exactly one of the four."""

    sqlite: SqliteConfig | None = None
    mysql: DatabaseConfig | None = None
    postgresql: DatabaseConfig | None = None
    grpc: GrpcConfig | None = None

    @model_validator(mode="after")
    def _one_store(self) -> Self:
        given = [name for name in ("sqlite", "mysql", "postgresql", "grpc") if getattr(self, name) is not None]
        if len(given) != 1:
            came = " and ".join(given) if given else "none"
            raise ValueError(f"needs exactly one of sqlite, mysql, postgresql, grpc; got {came}")
        return self


class BeamConfig(Section):
    """The engine of the Beam-based components."""

    runner: Literal["local", "flink", "spark", "dataflow"] = "local"
    args: tuple[str, ...] = ()


class RunnerConfig(Section):
    """How the local engine runs nodes."""

    max_parallel: Literal["auto"] | Positive = "auto"
    retries: NotNegative = 0


class PipelineConfig(Section):
    """A whole pipeline."""

    name: Name
    data: DataConfig
    model: ModelConfig
    training: TrainingConfig = TrainingConfig()
    export: ExportConfig = ExportConfig()
    gates: GatesConfig
    push: PushConfig
    serving: ServingConfig | None = None
    schedule: ScheduleConfig | None = None
    kubeflow: KubeflowConfig | None = None
    metadata: MetadataConfig = MetadataConfig(sqlite=SqliteConfig())
    beam: BeamConfig = BeamConfig()
    runner: RunnerConfig = RunnerConfig()

    def canonical(self) -> dict[str, Any]:
        """The configuration as plain JSON values, every default spelled out, keys as they stand in the file."""
        return self.model_dump(mode="json", by_alias=True)


def config_digest(config: Section) -> str:
    """SHA-256 over the canonical JSON of a section: equal configurations have equal digests, whatever their layout."""
    text = json.dumps(config.model_dump(mode="json", by_alias=True), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


_PLACEHOLDER = re.compile(r"\{(SPAN|YYYY|MM|DD|VERSION)(:\d+)?\}")


def uses_spans(path: str) -> bool:
    """True where a source path holds a span, date or version placeholder."""
    return bool(_PLACEHOLDER.search(path))
