"""The configuration of a pipeline: frozen pydantic models, one section each. Units stand in the keys.

A `PipelineConfig` is made by `schemas.load.load_config`, which resolves paths and reports all faults at once; it is
checked again here, whoever makes it.
"""

from __future__ import annotations

import hashlib
import json
import re
import zoneinfo
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from schemas.cron import Cron
from schemas.errors import close_match
from schemas.metrics import OF_FILES, PROFILED, QUALITY, SHORT, direction
from schemas.source_path import SpanName, SpanPath, parse_span, uses_spans
from schemas.strategies import refused_setting

__all__ = [
    "LABEL_WORDS",
    "BatchingConfig",
    "BeamConfig",
    "CanaryConfig",
    "ChampionGate",
    "ClusteringConfig",
    "DataConfig",
    "DimensionConfig",
    "EarlyStoppingConfig",
    "EdgeConfig",
    "ExportConfig",
    "GatesConfig",
    "KubeflowConfig",
    "KubernetesConfig",
    "MetadataConfig",
    "ModelConfig",
    "PipelineConfig",
    "PruningConfig",
    "PushConfig",
    "QualityTrigger",
    "RunnerConfig",
    "SatisfyGate",
    "ScheduleConfig",
    "ServingConfig",
    "ServingPushConfig",
    "ServingTlsConfig",
    "SourceConfig",
    "TFLiteConfig",
    "TrainingConfig",
    "TriggersConfig",
    "TuneConfig",
    "ValidateConfig",
    "config_digest",
    "is_label",
    "seconds_of",
]


def _refusal(problem: str, expected: str = "", match: str | None = None) -> PydanticCustomError:
    """What a validator here raises: `schemas.load` makes a `Fault` of it, field by field."""
    context = {"problem": problem, "expected": expected, "match": match}
    return PydanticCustomError("refused", "{problem}; expected {expected}", context)


def _expect(words: str) -> WrapValidator:
    """One fault that says in words what is expected, instead of a pattern or one fault per branch of a union."""

    def check(value: Any, validate: Callable[[Any], Any]) -> Any:
        try:
            return validate(value)
        except ValidationError:
            raise _refusal("is not valid", words) from None

    return WrapValidator(check)


INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1

Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[int, Field(ge=1, le=INT32_MAX)]
NotNegative = Annotated[int, Field(ge=0, le=INT32_MAX)]
Large = Annotated[int, Field(ge=1, le=INT64_MAX)]
Port = Annotated[int, Field(ge=1, le=65535)]
Share = Annotated[float, Field(ge=0, le=1)]
MixedPrecision = Annotated[bool | Literal["bfloat16", "float16"], _expect("false, true, 'bfloat16' or 'float16'")]
AutoOrPositive = Annotated[Literal["auto"] | Positive, _expect("'auto' or a whole number, at least 1")]
Name = Annotated[
    str,
    Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$"),
    _expect("at most 63 small letters a-z, digits, hyphens and underscores, the first of them a letter"),
]
Module = Annotated[
    str,
    Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$"),
    _expect("the dotted name of a Python module, such as 'pipeline.models.taxi'"),
]
ValidationMetric = Annotated[
    str,
    Field(pattern=r"^val_\w+$"),
    _expect("a metric on the validation split as Keras logs it, such as 'val_loss' or 'val_auc'"),
]
ServerVersion = Annotated[
    str, Field(pattern=r"^\d+\.\d+$"), _expect("a version of TF Serving as text in quotes, such as '2.20'")
]
Duration = Annotated[
    str, Field(pattern=r"^\d+[smhd]$"), _expect("a number with its unit s, m, h or d, such as '30m' or '6h'")
]
QuietHours = Annotated[
    str,
    Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$"),
    _expect("a span of a day in quotes, such as '22:00-06:00'"),
]
Variant = Literal["float32", "float16", "dynamic_int8", "int8", "int16x8"]
Takes = Literal["transformed", "raw"]
_LABEL = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
LABEL_WORDS = "at most 63 letters, digits, hyphens, underscores and dots, the first a letter or a digit"
Label = Annotated[str, Field(pattern=_LABEL), _expect(LABEL_WORDS)]


def is_label(text: str) -> bool:
    """Whether a request to a server can name a version so."""
    return re.fullmatch(_LABEL, text) is not None


Address = Annotated[
    str,
    Field(pattern=r"^([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$"),
    _expect("HOST:PORT in quotes, such as '10.0.0.7:8500'"),
]
Instances = Annotated[int, Field(ge=1, le=1000)]
KubernetesName = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"),
    _expect("a name as Kubernetes has it: small letters, digits, hyphens and dots"),
]
Namespace = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"),
    _expect("a namespace: small letters, digits and hyphens"),
]
Quantity = Annotated[int | str, _expect("a whole number, or text as Kubernetes has it, such as '8Gi' or '500m'")]


class Section(BaseModel):
    """A frozen part of the configuration that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, serialize_by_alias=True)


# --- data -------------------------------------------------------------------------------------------------------------


class WindowConfig(Section):
    """Which spans of a source a run reads: so many numbers (days), the last of them included, or `all` up to it.

    A number within the window of which there are no data is told of, and does not keep the others from being read.
    """

    last_spans: Annotated[Positive | Literal["all"], _expect("a whole number, 1 or more, or all")]


class SourceConfig(Section):
    """Where the rows come from.

    `path` may hold `*`, `?`, `[..]` and `**`: a run then reads every file that matches. With `{SPAN}`, or `{YYYY}`, `{MM}`
    and `{DD}` for days, a run reads one span: the newest, as in stock TFX, or that which `span` names; with `window` also
    those before it. Of a span that was delivered in several versions (`{VERSION}`) the newest is read. `{SPAN:3}` and
    `{VERSION:2}` are numbers of so many digits.
    """

    format: Literal["csv", "parquet", "arrow", "tfrecord", "avro", "bigquery"]
    path: Text
    window: WindowConfig | None = None
    span: Annotated[SpanName | None, _expect("a span's number, or its date as '2026-11-03'")] = None

    @field_validator("path")
    @classmethod
    def _sound_path(cls, path: str) -> str:
        try:
            SpanPath.parse(path)
        except ValueError as error:
            raise _refusal(*error.args) from error
        return path

    @field_validator("span")
    @classmethod
    def _as_number(cls, span: SpanName | None) -> SpanName | None:
        """A number that came as text, as from the command line, is a number: equal configurations have equal digests."""
        return int(span) if isinstance(span, str) and span.isascii() and span.isdecimal() else span

    @model_validator(mode="after")
    def _spans_have_a_path(self) -> Self:
        for name in ("window", "span"):
            if getattr(self, name) is not None and not uses_spans(self.path):
                raise _refusal(
                    f"{name} is given, but the path has no spans", "{SPAN}, or {YYYY}, {MM} and {DD}, in path"
                )
        try:
            _ = self.last_span
        except ValueError as error:
            raise _refusal(f"span {self.span!r} {error.args[0]}", error.args[1]) from error
        return self

    @property
    def last_span(self) -> int | None:
        """Number of the span at which a run ends; None for the newest."""
        return None if self.span is None else parse_span(self.span, dates=SpanPath.parse(self.path).has_dates)


Measure = Literal["jensen_shannon", "l_infinity"]
Limits = dict[Text, dict[Measure, Share]]


class ValidateConfig(Section):
    """What the data gate does about data that deviates from the schema or from the champion's data.

    `drift`: per feature, how far the training rows may be from those on which the model now served was trained.
    `skew`: the same between this run's `train` split and each of its other splits. `"*"` stands for every feature that
    is not named; `{}` exempts one. `jensen_shannon` (0 to 1) is for any feature, `l_infinity` (the largest difference in
    the share of a value) for texts. Fewer than `min_examples` values on either side are reported and not judged.
    `retrain` lets the run go on and records that it should end in a new model. `on_no_baseline` is for a model that is
    served while the statistics of its data are gone or changed; a first run has none and is never blocked for that.
    """

    anomalies: Literal["block", "warn"] = "block"
    drift: Limits = {}
    on_drift: Literal["block", "warn", "retrain"] = "warn"
    on_no_baseline: Literal["block", "warn"] = "warn"
    skew: Limits = {}
    on_skew: Literal["block", "warn"] = "warn"
    min_examples: NotNegative = 100


class DataConfig(Section):
    """Source, splits and curated schema. A row's split follows from a hash of its values."""

    source: SourceConfig
    splits: dict[Literal["train", "validate", "eval"], Positive] = {"train": 7, "validate": 1, "eval": 2}
    schema_path: Annotated[Text, Field(alias="schema")]
    validate_: Annotated[ValidateConfig, Field(alias="validate")] = ValidateConfig()

    @field_validator("splits")
    @classmethod
    def _all_three(cls, splits: dict[str, int]) -> dict[str, int]:
        missing = [name for name in ("train", "validate", "eval") if name not in splits]
        if missing:
            raise _refusal(f"lacks {', '.join(missing)}", "a share for each of train, validate and eval")
        return {name: splits[name] for name in ("train", "validate", "eval")}


# --- containers -------------------------------------------------------------------------------------------------------


class VolumeConfig(Section):
    """A persistent volume claim, mounted in every container.

    The folder of the configuration lies on it at `mount_path`: what the file calls `data/x.csv` is `MOUNT_PATH/data/x.csv`
    there. `access`: of the claim. A SQLite store needs `ReadWriteOnce`, by which all pods share one machine's file system.
    """

    claim: KubernetesName
    mount_path: Annotated[
        str, Field(pattern=r"^(/[A-Za-z0-9._-]+)+$"), _expect("an absolute path, such as '/satisfice'")
    ] = "/satisfice"
    access: Literal["ReadWriteMany", "ReadWriteOnce"] = "ReadWriteMany"


class AcceleratorConfig(Section):
    """Devices that a container needs, by the resource name of their plugin."""

    type: Text = "nvidia.com/gpu"
    count: Positive = 1


class TolerationConfig(Section):
    """A taint that a pod tolerates, as Kubernetes spells it."""

    key: Text | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: Text | None = None
    effect: Literal["NoExecute", "NoSchedule", "PreferNoSchedule"] | None = None

    @model_validator(mode="after")
    def _as_kubernetes_has_it(self) -> Self:
        if self.operator == "Exists" and self.value is not None:
            raise _refusal("value is given with operator: Exists", "operator: Equal, or value left out")
        if self.operator == "Equal" and (self.key is None or self.value is None):
            raise _refusal("operator: Equal compares a key with a value", "both, or operator: Exists")
        return self


class ContainerConfig(Section):
    """What a container gets, and where. `cpu` and `memory` are request and limit; `shared_memory` is `/dev/shm`."""

    cpu: Quantity | None = None
    memory: Quantity | None = None
    accelerator: AcceleratorConfig | None = None
    shared_memory: Quantity | None = None
    node_selector: dict[Text, str] = {}
    tolerations: tuple[TolerationConfig, ...] = ()


class PodConfig(ContainerConfig):
    """What the container of a node gets, and how often it is tried."""

    retries: NotNegative | None = None
    back_off_s: NotNegative = 30
    timeout_s: Positive | None = None


class SecretConfig(Section):
    """A Kubernetes secret. `env`: name of a variable to the secret's key; `mount_path`: the keys as files."""

    name: KubernetesName
    env: dict[Text, Text] = {}
    mount_path: Text | None = None

    @model_validator(mode="after")
    def _used(self) -> Self:
        if not self.env and self.mount_path is None:
            raise _refusal("a secret is named and not used", "env, mount_path, or both")
        return self


# --- model and training -----------------------------------------------------------------------------------------------


class ModelConfig(Section):
    """The user's module, the transformed feature that is the label, and what `build_model` is given."""

    module: Module
    label: Text
    hyperparameters: dict[str, JsonValue] = {}


class EarlyStoppingConfig(Section):
    """Stop when `metric` (as Keras logs it: `val_auc`, `val_loss`) has not improved for `patience` epochs.

    `mode` says which way is better, for a metric of your own; `auto` knows the loss and the metrics that gates can name.
    """

    metric: ValidationMetric = "val_loss"
    patience: NotNegative = 2
    mode: Literal["auto", "min", "max"] = "auto"


Number = Annotated[int | float, _expect("a number")]


class DimensionConfig(Section):
    """The values that a hyperparameter may take: `choices`, or all from `min` to `max`.

    `step`: counted from `min`; `log`: drawn evenly in the logarithm. Where `min`, `max` and `step` are whole numbers, so
    are the values. A choice may be any value that a hyperparameter can have, a list too.
    """

    choices: tuple[JsonValue, ...] | None = None
    min: Number | None = None
    max: Number | None = None
    step: Number | None = None
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether the values of a range are whole numbers."""
        return all(isinstance(one, int) for one in (self.min, self.max, self.step) if one is not None)

    @model_validator(mode="after")
    def _choices_or_range(self) -> Self:
        ends = [name for name in ("min", "max") if getattr(self, name) is not None]
        if self.choices is None and len(ends) < 2:
            has = f"has {ends[0]} alone" if ends else "has neither choices nor min and max"
            raise _refusal(has, "choices, or min and max")
        ranged = [*ends, *(["step"] if self.step is not None else []), *(["log"] if self.log else [])]
        if self.choices is not None and ranged:
            raise _refusal(f"has choices and {' and '.join(ranged)}", "choices alone, or min and max")
        if self.choices is not None and len({json.dumps(one, sort_keys=True) for one in self.choices}) < 2:
            raise _refusal("leaves nothing to choose", "at least two different choices")
        return self

    @model_validator(mode="after")
    def _range_is_one(self) -> Self:
        if self.min is None or self.max is None:
            return self
        if self.min >= self.max:
            raise _refusal(f"min {self.min} is not below max {self.max}", "min below max")
        if self.log and self.min <= 0:
            raise _refusal(f"log: true with min {self.min}", "min above 0, which has a logarithm")
        if self.log and self.step is not None:
            raise _refusal("has log and step", "one of them")
        if self.step is not None and not 0 < self.step <= self.max - self.min:
            raise _refusal(
                f"step {self.step} does not fit between {self.min} and {self.max}",
                "more than 0, and no more than max - min",
            )
        return self


_LOSS = "loss"


class TuneConfig(Section):
    """Search for hyperparameters before training.

    `trials`: how many are trained; 0 leaves the search out. `objective`: a metric with which the model is compiled, or
    `loss`, on the `validate` split. `mode`: which way it is better, for a metric of your own; `auto` knows the loss and the
    metrics that gates can name. `space`: by name of `model.hyperparameters`. `parallel`: trials at once, a process each;
    `auto` takes as many as there are GPUs, or else processors. `trial_timeout`: a trial that trains longer is killed, and
    cannot win. `timeout`: of all trials together; those that still train are killed, and the best that came to its end wins.
    """

    trials: NotNegative = 20
    objective: Text
    mode: Literal["auto", "min", "max"] = "auto"
    space: Annotated[dict[Text, DimensionConfig], Field(min_length=1)]
    parallel: AutoOrPositive = "auto"
    trial_timeout: Duration | None = None
    timeout: Duration | None = None

    @field_validator("trial_timeout", "timeout")
    @classmethod
    def _takes_time(cls, limit: str | None) -> str | None:
        if limit is not None and not seconds_of(limit):
            raise _refusal("is no time at all", "at least '1s', or null for no limit")
        return limit

    @property
    def better(self) -> Literal["min", "max"]:
        """Which way the objective is better."""
        if self.mode != "auto":
            return self.mode
        higher = self.objective in QUALITY and QUALITY[self.objective].better == "higher"
        return "max" if higher else "min"

    @model_validator(mode="after")
    def _objective_has_a_direction(self) -> Self:
        name = self.objective
        known = [_LOSS, *(metric for metric, one in QUALITY.items() if one.better != "neither")]
        if name in PROFILED:
            raise _refusal(
                f"objective: {name} is a figure of the payload, which a gate limits",
                "a metric of quality, such as 'auc'",
            )
        if name.startswith("val_"):
            bare = name.removeprefix("val_")
            raise _refusal(f"objective: {name} names the split, which is always validate", f"objective: {bare}")
        if self.mode == "auto" and name not in known:
            raise _refusal(
                f"objective: {name} is not known to be better when it is higher, or when it is lower",
                "'loss' or a metric that gates can name, such as 'auc'; or mode: max, or min, for one of your own",
                close_match(name, known),
            )
        return self


class KubernetesConfig(Section):
    """Where the members of `training.cluster: kubernetes` run: as the pods of one Job, all alike.

    The pipeline root lies on `volume`, at the same path for the Trainer node and for the pods. `service_account`: of the
    pods, which are given no token. `context`: of the kubeconfig, for a Trainer node outside the cluster. `port`: on which
    members talk. `start_deadline_s`: after that a pod that does not run fails the training. `restarts`: how often the group
    may begin anew, and each worker beside parameter servers. `grace_s`: from SIGTERM to SIGKILL, in which the state is kept.
    """

    image: Text
    volume: VolumeConfig
    namespace: Namespace = "default"
    context: Text | None = None
    resources: ContainerConfig = ContainerConfig()
    secrets: tuple[SecretConfig, ...] = ()
    env: dict[Text, str] = {}
    pull_secrets: tuple[KubernetesName, ...] = ()
    service_account: KubernetesName | None = None
    port: Annotated[int, Field(ge=1024, le=65535)] = 2222
    start_deadline_s: Positive = 600
    restarts: Annotated[int, Field(ge=0, le=100)] = 3
    grace_s: Annotated[int, Field(ge=10, le=3600)] = 60

    @field_validator("env")
    @classmethod
    def _leaves_what_is_set(cls, env: dict[str, str]) -> dict[str, str]:
        taken = sorted({"TF_CONFIG", "JOB_COMPLETION_INDEX"} & set(env))
        if taken:
            raise _refusal(f"sets {taken[0]}, which each pod is given for itself", "other variables")
        return env


class TrainingConfig(Section):
    """How the model is trained.

    `mixed_precision`: layers compute in 16 bits while they train; `true` is float16 on a GPU and bfloat16 elsewhere. The
    model that ships computes in float32. `warm_start`: from the weights of the model now served, where they fit.
    `checkpoint_every_steps`: the training's state is kept this often, beside after each epoch. `cluster`: where the
    processes of a strategy that needs several run: on the machine of the Trainer node, or as `kubernetes` says.
    """

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
    cluster: Literal["local", "kubernetes"] = "local"
    kubernetes: KubernetesConfig | None = None
    devices: AutoOrPositive = "auto"
    communication: Literal["auto", "ring", "nccl"] = "auto"
    mixed_precision: MixedPrecision = False
    jit_compile: bool = False
    deterministic: bool = False
    steps_per_execution: AutoOrPositive = "auto"
    checkpoint_every_steps: Positive | None = None
    warm_start: Literal["none", "champion"] = "none"
    global_batch_size: Positive = 1024
    epochs: Positive = 10
    seed: NotNegative = 0
    early_stopping: EarlyStoppingConfig | None = None
    tune: TuneConfig | None = None

    @model_validator(mode="after")
    def _can_be_trained(self) -> Self:
        refusal = refused_setting(self)
        if refusal:
            raise _refusal(refusal.problem, refusal.expected)
        if self.searches and self.strategy == "tpu":
            raise _refusal(
                "tune is given with strategy: tpu; a trial trains on one CPU or GPU",
                "another strategy, or tune left out",
            )
        return self

    @property
    def searches(self) -> bool:
        """Whether hyperparameters are searched for."""
        return self.tune is not None and self.tune.trials > 0


class PruningConfig(Section):
    """Set the smallest weights of each layer to zero during training, up to this share of them."""

    final_sparsity: Annotated[float, Field(gt=0, lt=1)]


class ClusteringConfig(Section):
    """Let the weights of each layer share this many values."""

    clusters: Annotated[int, Field(ge=2, le=256)]


class TFLiteConfig(Section):
    """Which `.tflite` files are made of the model, and which of them ships.

    `takes`: what a device hands in: the transformed features, which it has to compute itself, or the raw columns, where all
    of the preprocessing has kernels on devices. `blocks_saved_model`: where no variant passes its gates, the SavedModel is not pushed either. `quantization_aware`,
    `pruning`, `clustering`: one of them at most, part of training, for `training.backend: tf_keras`.
    """

    variants: Annotated[tuple[Variant, ...], Field(min_length=1)] = ("float32",)
    takes: Takes = "transformed"
    choose: Literal["smallest_passing"] = "smallest_passing"
    blocks_saved_model: bool = False
    pruning: PruningConfig | None = None
    clustering: ClusteringConfig | None = None
    quantization_aware: bool = False

    @field_validator("variants")
    @classmethod
    def _once_each(cls, variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
        again = next((name for name in variants if variants.count(name) > 1), None)
        if again:
            raise _refusal(f"names {again} twice", "each variant once")
        return variants

    @model_validator(mode="after")
    def _one_compression(self) -> Self:
        given = [name for name in ("pruning", "clustering", "quantization_aware") if getattr(self, name)]
        if len(given) > 1:
            raise _refusal(f"has {' and '.join(given)}", "one of pruning, clustering and quantization_aware")
        return self


class ExportConfig(Section):
    """What is exported beside the SavedModel."""

    tflite: TFLiteConfig | None = None


# --- gates ------------------------------------------------------------------------------------------------------------


Metric = Annotated[str, Field(json_schema_extra={"enum": [*QUALITY, *PROFILED]})]
Comparable = Annotated[str, Field(json_schema_extra={"enum": [m for m in QUALITY if QUALITY[m].better != "neither"]})]


def _known_metric(name: str) -> str:
    known = [*QUALITY, *PROFILED]
    if name not in known:
        meant = SHORT.get(name.casefold()) or close_match(name, known)
        raise _refusal("unknown metric", "a known metric, such as 'auc' or 'size_mb'", meant)
    return name


def _has_a_direction(name: str) -> str:
    if name in PROFILED:
        raise _refusal("is a figure of the payload and can only be satisficed", "a metric of quality, such as 'auc'")
    if QUALITY[name].better == "neither":
        raise _refusal("is neither better when higher nor when lower", "a metric with a direction, such as 'auc'")
    return name


class ChampionGate(Section):
    """The optimizing metric: the candidate may be at most this much worse than the champion on it."""

    metric: Comparable
    at_least_champion_minus: Annotated[float, Field(ge=0)] = 0.0
    on_inconclusive: Literal["block", "pass"] = "block"

    _known = field_validator("metric")(_known_metric)
    _of_quality = field_validator("metric")(_has_a_direction)


Condition = Literal["min", "max", "max_gap", "max_drop", "max_ratio_to_champion"]

CONDITIONS: tuple[Condition, ...] = get_args(Condition)


class SatisfyGate(Section):
    """One satisficing gate: exactly one condition on one figure, on the whole eval split or on each value of a slice.

    `min`, `max`: limits in the metric's unit. `max_drop`: how much worse than the champion at most, in the metric's
    unit. `max_ratio_to_champion`: candidate / champion at most, for metrics that should be small. `max_gap`: largest
    minus smallest value over the slices. `min_examples`: slices with fewer are reported and do not block.
    `batch_size`: of the requests of a latency, the smallest that was measured where it is left out. `against`: what a
    payload's predictions are compared with. `variant`: the one `.tflite` file that the gate is for; without it, all of them.
    """

    metric: Metric
    payload: Literal["saved_model", "tflite"] = "saved_model"
    slice_by: tuple[Text, ...] = ()
    min_examples: NotNegative = 0
    batch_size: Positive | None = None
    against: Literal["saved_model", "trained", "serving_examples"] | None = None
    variant: Variant | None = None
    min: float | None = None
    max: float | None = None
    max_gap: Annotated[float, Field(ge=0)] | None = None
    max_drop: Annotated[float, Field(ge=0)] | None = None
    max_ratio_to_champion: Annotated[float, Field(gt=0)] | None = None
    on_inconclusive: Literal["block", "pass"] = "block"

    _known = field_validator("metric")(_known_metric)

    @property
    def condition(self) -> Condition:
        """The one condition that is set."""
        return next(name for name in CONDITIONS if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        given = [name for name in CONDITIONS if getattr(self, name) is not None]
        if len(given) != 1:
            has = f"has {len(given)} conditions: {', '.join(given)}" if given else "has no condition"
            raise _refusal(has, f"exactly one of {', '.join(CONDITIONS)}")
        return self

    @model_validator(mode="after")
    def _variant_of_tflite(self) -> Self:
        if self.variant and self.payload != "tflite":
            raise _refusal("variant is given without payload: tflite", "both, or neither")
        return self

    @model_validator(mode="after")
    def _sliced_where_needed(self) -> Self:
        slices = PROFILED[self.metric].slices if self.metric in PROFILED else "rows"
        if self.slice_by and slices == "none":
            raise _refusal(f"{self.metric} is a figure of the payload and has no slices", "slice_by left out")
        if self.slice_by and slices == "features" and self.slice_by != ("feature",):
            raise _refusal(f"{self.metric} is sliced by the model's features alone", "slice_by: [feature]")
        if not self.slice_by and self.min_examples:
            raise _refusal("min_examples is given without slice_by", "both, or neither")
        if not self.slice_by and self.max_gap is not None:
            raise _refusal("max_gap is a difference between slices", "slice_by beside it")
        return self

    @model_validator(mode="after")
    def _condition_fits_metric(self) -> Self:
        better = direction(self.metric)
        if better == "neither" and self.condition in ("max_drop", "max_ratio_to_champion"):
            raise _refusal(f"{self.metric} is neither better when higher nor when lower", "min, max or max_gap")
        if better == "higher" and self.condition == "max_ratio_to_champion":
            raise _refusal(f"max_ratio_to_champion is for what should be small; {self.metric} is not", "max_drop")
        parity = self.metric in PROFILED and PROFILED[self.metric].slices != "none"
        if parity and self.condition in ("max_drop", "max_ratio_to_champion"):
            raise _refusal(f"{self.metric} is measured of the candidate alone", "min, max or max_gap")
        return self

    @model_validator(mode="after")
    def _profiling_fits_metric(self) -> Self:
        if self.metric in OF_FILES and self.payload != "tflite":
            raise _refusal(f"{self.metric} is a figure of a .tflite file", "payload: tflite beside it")
        wanted = PROFILED[self.metric].key if self.metric in PROFILED else None
        for key in ("batch_size", "against"):
            if key != wanted and getattr(self, key) is not None:
                raise _refusal(f"{key} says nothing of {self.metric}", f"{key} left out")
        if wanted == "against" and self.against is None:
            raise _refusal(f"{self.metric} is a difference to something", "against beside it")
        return self


class GatesConfig(Section):
    """What a candidate must meet. A configuration without gates is refused.

    `approval: required`: a person has to approve what the gates admit. `intervals`: how 95 % confidence intervals of
    quality are made; with them a limit that lies inside the interval makes a gate inconclusive.
    """

    optimize: ChampionGate | None = None
    approval: Literal["none", "required"] = "none"
    intervals: Literal["none", "jackknife", "poisson_bootstrap"] = "none"
    satisfy: tuple[SatisfyGate, ...] = ()

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.optimize is None and not self.satisfy:
            raise _refusal("holds no gate", "optimize, or at least one entry of satisfy")
        return self


# --- where it ships ---------------------------------------------------------------------------------------------------


class InstanceConfig(Section):
    """One server, by its gRPC address; its REST address, if that is to be asked too; who signed its TLS certificate."""

    grpc: Text
    rest: Text | None = None
    ca: Text | None = None


class ConfirmConfig(Section):
    """Servers that must load a new version before the push counts."""

    instances: Annotated[tuple[InstanceConfig, ...], Field(min_length=1)]
    deadline_s: Positive = 60


class ServingPushConfig(Section):
    """The TF Serving watch directory."""

    base_path: Text
    keep_versions: Positive | None = None
    server_version: ServerVersion | None = None
    confirm: ConfirmConfig | None = None


class EdgeConfig(Section):
    """The directory of versioned `.tflite` files."""

    base_path: Text
    keep_versions: Positive | None = None


class PushConfig(Section):
    """Where admitted payloads go."""

    serving: ServingPushConfig
    edge: EdgeConfig | None = None


class BatchingConfig(Section):
    """Server-side batching, in TF Serving's own words: sizes in examples, the time in microseconds.

    `batch_timeout_micros`: how long the first request of a batch waits for others. `max_enqueued_batches`: batches that
    may wait; requests beyond are refused. `num_batch_threads`: batches that run at once; TF Serving takes as many as it
    sees cores where it is left out. `allowed_batch_sizes`: to which batches are padded, the last of them the largest.
    """

    max_batch_size: Positive
    batch_timeout_micros: Annotated[int, Field(ge=0, le=60_000_000)] = 0
    max_enqueued_batches: Positive = 100
    num_batch_threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    allowed_batch_sizes: tuple[Positive, ...] = ()

    @field_validator("allowed_batch_sizes")
    @classmethod
    def _rises(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if list(sizes) != sorted(set(sizes)):
            raise _refusal("the sizes do not rise", "each larger than the one before")
        return sizes

    @model_validator(mode="after")
    def _ends_with_the_largest(self) -> Self:
        if self.allowed_batch_sizes and self.allowed_batch_sizes[-1] != self.max_batch_size:
            last = self.allowed_batch_sizes[-1]
            raise _refusal(
                f"allowed_batch_sizes ends with {last}", f"max_batch_size, {self.max_batch_size}, as the last"
            )
        return self


class CanaryConfig(Section):
    """A share of the requests that name no version goes to one label, the rest to another.

    `header`: requests with the same value of this HTTP header always meet the same of the two; without it, and for
    requests without the header, each request is drawn by itself.
    """

    label: Label = "canary"
    stable: Label = "stable"
    share: Annotated[float, Field(ge=0.0001, le=0.9999)]
    header: (
        Annotated[
            str,
            Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,62}$"),
            _expect("the name of an HTTP header, such as 'X-User-Id'"),
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _two_labels(self) -> Self:
        if self.label == self.stable:
            raise _refusal(f"label and stable are both {self.label!r}", "two labels")
        return self


class ServerAddressConfig(Section):
    """A TF Serving that runs already, as the load balancers reach it."""

    grpc: Address
    rest: Address


class ListenConfig(Section):
    """Where a load balancer listens; on loopback unless told, because there is no authentication behind it."""

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:-]+$"), _expect("a host name or an address")] = "127.0.0.1"
    grpc_port: Port = 8500
    rest_port: Port = 8501
    stats_port: Port = 8404

    @model_validator(mode="after")
    def _three_ports(self) -> Self:
        ports = (self.grpc_port, self.rest_port, self.stats_port)
        if len(set(ports)) < len(ports):
            raise _refusal("a port is given twice", "three different ports")
        return self


class ServingTlsConfig(Section):
    """PEM files. TF Serving speaks TLS over gRPC alone; the load balancers speak it over both.

    `authority`: who signed the certificate. `server_name`: the DNS name in it, by which the load balancers check whom they
    talk to. `client_authority`: whoever connects must show a certificate signed by it.
    """

    key: Text
    certificate: Text
    authority: Text
    server_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+$"), _expect("a DNS name that the certificate holds")]
    client_authority: Text | None = None


class ServingResourcesConfig(Section):
    """What one server asks for, and its limit of memory."""

    cpu: Quantity = 1
    memory: Quantity = "2Gi"


class AutoscaleConfig(Section):
    """How far the number of servers may rise, and at which share of the CPU that they asked for."""

    max_instances: Instances
    cpu_percent: Annotated[int, Field(ge=1, le=100)] = 70


class ServingKubernetesConfig(Section):
    """Where servers run in a cluster. Without `claim` a claim of `storage` is made that several nodes can mount."""

    namespace: Namespace = "default"
    claim: Text | None = None
    storage: Quantity = "10Gi"


class MonitoringConfig(Section):
    """How often servers are asked for their figures, and beyond what someone is told after `hold`."""

    scrape_interval_s: Annotated[int, Field(ge=1, le=300)] = 15
    latency_p99_ms: Annotated[float, Field(ge=0.01, le=600_000)] = 100.0
    error_share: Annotated[float, Field(gt=0, lt=1)] = 0.01
    hold: Duration = "5m"


class ServingConfig(Section):
    """For `serve` and `deploy render`.

    `labels`: label to the version that it names; one of the same name that `satisfice label` set counts more.
    `instances`: servers that are to run. `addresses`: of servers that run already, instead.
    """

    instances: Instances = 1
    addresses: tuple[ServerAddressConfig, ...] = ()
    image: Text = "tensorflow/serving:2.20.0"
    batching: BatchingConfig | None = None
    labels: dict[str, Large] = {}
    canary: CanaryConfig | None = None
    listen: ListenConfig = ListenConfig()
    tls: ServingTlsConfig | None = None
    resources: ServingResourcesConfig = ServingResourcesConfig()
    autoscale: AutoscaleConfig | None = None
    kubernetes: ServingKubernetesConfig = ServingKubernetesConfig()
    monitoring: MonitoringConfig = MonitoringConfig()

    @field_validator("labels")
    @classmethod
    def _labels_fit_a_path(cls, labels: dict[str, int]) -> dict[str, int]:
        for label in labels:
            if not is_label(label):
                raise _refusal(f"{label!r} is no label", LABEL_WORDS)
        return labels

    @model_validator(mode="after")
    def _one_number_of_servers(self) -> Self:
        if self.addresses and self.instances not in (1, len(self.addresses)):
            what = f"instances is {self.instances} beside {len(self.addresses)} addresses"
            raise _refusal(what, "instances left out where addresses are given")
        if len({one.grpc for one in self.addresses}) < len(self.addresses):
            raise _refusal("an address stands twice among addresses", "each server once")
        if self.autoscale and self.autoscale.max_instances < self.instances:
            what = f"autoscale.max_instances is {self.autoscale.max_instances}"
            raise _refusal(what, f"at least instances, {self.instances}")
        return self


class QualityTrigger(Section):
    """The model now served has become worse, on labelled rows that its run had not read.

    `max_drop`: by so much at most, in the metric's unit, below the figure by which it was decided on; `min`, `max`: limits of
    the figure itself. It is measured with an interval, and asks for a run where all of that is past a limit. `min_examples`:
    with fewer such rows nothing is judged. `labelled`: columns without whose values a row has no label yet; left out where
    `model.label` is a column itself.
    """

    metric: Comparable
    max_drop: Annotated[float, Field(ge=0)] | None = None
    min: float | None = None
    max: float | None = None
    min_examples: Positive = 500
    labelled: tuple[Text, ...] = ()

    _known = field_validator("metric")(_known_metric)
    _of_quality = field_validator("metric")(_has_a_direction)

    @property
    def gates(self) -> tuple[SatisfyGate, ...]:
        """Each limit as a gate says it."""
        limits = {"max_drop": self.max_drop, "min": self.min, "max": self.max}
        given = [{key: value} for key, value in limits.items() if value is not None]
        return tuple(SatisfyGate.model_validate({"metric": self.metric, **one}) for one in given)

    @model_validator(mode="after")
    def _has_a_limit(self) -> Self:
        if self.max_drop is None and self.min is None and self.max is None:
            raise _refusal("has no limit", "at least one of max_drop, min and max")
        better = direction(self.metric)
        for name, wanted in (("min", "higher"), ("max", "lower")):
            if getattr(self, name) is not None and better != wanted:
                other = "max" if name == "min" else "min"
                raise _refusal(
                    f"{name} is no lower end of quality for {self.metric}, which is better when {better}", other
                )
        return self


class TriggersConfig(Section):
    """What makes a tick retrain: at least one of them.

    `cron`: five fields, in the schedule's time zone. `new_span`: a span, or another version of one, has arrived in the
    window that the newest run had not read. `changed_data`: the files hold something else than what the newest
    run read. `new_rows`: they hold so many rows more. `drift`: they are past a limit of data.validate.drift, held against
    the data of the model now served; of a source with spans, those that its run had not read. `decayed_quality`: the model
    now served is worse on newly labelled rows.
    """

    cron: str | None = None
    new_span: bool = False
    changed_data: bool = False
    new_rows: Large | None = None
    drift: bool = False
    decayed_quality: QualityTrigger | None = None

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, cron: str | None) -> str | None:
        try:
            if cron is not None:
                Cron.parse(cron)
        except ValueError as error:
            expected = "minute, hour, day of the month, month and day of the week, such as '0 3 * * *'"
            raise _refusal(f"is no cron expression: {error}", expected) from None
        return cron

    @model_validator(mode="after")
    def _at_least_one(self) -> Self:
        if not any((self.cron, self.new_span, self.changed_data, self.new_rows, self.drift, self.decayed_quality)):
            expected = "at least one of cron, new_span, changed_data, new_rows, drift and decayed_quality"
            raise _refusal("has no trigger", expected)
        return self


class ScheduleConfig(Section):
    """When to retrain.

    `any`: whether one trigger is enough, or all that are given have to ask at one tick. `cool_down`: from the beginning of
    a run to the next. `quiet_hours`: no run begins in them; what is due waits. `jitter`: cron is due up to so much later, by the pipeline's name, so that many
    pipelines do not begin at once. `hysteresis`: drift that a run did not mend asks again once it was within
    its limits, or has grown by that share. `retry_failed`: a run that failed is begun again after that, for the same data. `every`: between two ticks of `satisfice watch`.
    """

    triggers: TriggersConfig
    any: bool = True
    cool_down: Duration = "0s"
    quiet_hours: tuple[QuietHours, ...] = ()
    jitter: Duration = "0s"
    hysteresis: Share = 0.1
    retry_failed: Duration = "6h"
    every: Duration = "15m"
    time_zone: str = "UTC"

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            zoneinfo.ZoneInfo(name)
        except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError of its own
            raise _refusal("is no time zone", "a name of the IANA database, such as 'Europe/Berlin'") from None
        except zoneinfo.ZoneInfoNotFoundError:
            match = close_match(name, zoneinfo.available_timezones())
            raise _refusal("is no time zone", "a name of the IANA database, such as 'Europe/Berlin'", match) from None
        return name

    @field_validator("every")
    @classmethod
    def _takes_time(cls, every: str) -> str:
        if not seconds_of(every):
            raise _refusal("is no time at all", "at least '1s'")
        return every


class KubeflowConfig(Section):
    """For Kubeflow Pipelines.

    `resources`: by node id; `"*"` is for every container, and a node's own keys go before it. `parameters`: keys of the
    configuration that become parameters of the compiled pipeline, with the values that stand here as defaults.
    `host`: address of the API, for `submit` and `schedule`; `token_env` and `token_file`: where its token is.
    """

    image: Text
    resources: dict[Text, PodConfig] = {}
    volume: VolumeConfig | None = None
    secrets: tuple[SecretConfig, ...] = ()
    env: dict[Text, str] = {}
    pull_secrets: tuple[KubernetesName, ...] = ()
    parameters: tuple[Text, ...] = ()
    host: Text | None = None
    namespace: KubernetesName | None = None
    service_account: KubernetesName | None = None
    experiment: Text | None = None
    token_env: Text | None = None
    token_file: Text | None = None


# --- how it runs ------------------------------------------------------------------------------------------------------


class SqliteConfig(Section):
    """A SQLite file."""

    path: Text = "metadata.db"


class DatabaseConfig(Section):
    """A database server. The password is read from the environment variable that `password_env` names."""

    host: Text
    port: Port
    database: Text
    user: Text
    password_env: Text | None = None


class GrpcConfig(Section):
    """A metadata server."""

    host: Text
    port: Port


class MetadataConfig(Section):
    """Where ML Metadata lives: exactly one of the four."""

    sqlite: SqliteConfig | None = None
    mysql: DatabaseConfig | None = None
    postgresql: DatabaseConfig | None = None
    grpc: GrpcConfig | None = None

    @model_validator(mode="after")
    def _one_store(self) -> Self:
        stores = ("sqlite", "mysql", "postgresql", "grpc")
        given = [name for name in stores if getattr(self, name) is not None]
        if len(given) != 1:
            has = f"has {len(given)} stores: {', '.join(given)}" if given else "has no store"
            raise _refusal(has, f"exactly one of {', '.join(stores)}")
        return self


_UNFIT_ENGINES = {
    "dask": "loses rows without an error",
    "prism": "downloads a binary while the pipeline runs",
}
"""Engines of Beam that are not offered, in small letters and without `Runner`, and why."""


def _unfit_engine(runner: str) -> str:
    """Why an engine is not offered; "" where it is, or is none."""
    return _UNFIT_ENGINES.get(runner.rpartition(".")[2].casefold().removesuffix("runner"), "")


class BeamConfig(Section):
    """The engine of the Beam-based components.

    `local`: what can be done without Beam is, and the rest on its in-process engine. Any other: ingest is a Beam transform
    on that engine, as is what Transform and Evaluator cannot do themselves; `direct` is the in-process one, `flink`,
    `spark` and `dataflow` are clusters, whose workers see the pipeline root at the same path. `args`: for the engine, as
    Beam takes them (`--direct_num_workers=2`); with any of them ingest runs on Beam too.
    """

    runner: Literal["local", "direct", "flink", "spark", "dataflow"] = "local"
    args: tuple[str, ...] = ()

    @field_validator("runner", mode="before")
    @classmethod
    def _keeps_all_rows(cls, runner: object) -> object:
        why = _unfit_engine(runner) if isinstance(runner, str) else ""
        if why:
            raise _refusal(f"{runner!r} {why}", "local, direct, flink, spark or dataflow")
        return runner

    @field_validator("args")
    @classmethod
    def _of_the_engine(cls, args: tuple[str, ...]) -> tuple[str, ...]:
        for arg in args:
            name, _, value = arg.partition("=")
            if not arg.startswith("--"):
                raise _refusal(f"{arg!r} is no argument", "--name=value")
            if name in ("--runner", "--beam_plugin", "--beam_plugins"):
                why = _unfit_engine(value) if name == "--runner" else ""
                raise _refusal(f"{arg!r} {why or 'names an engine'}", "the engine in beam.runner")
            if arg == "--direct_running_mode=multi_threading":
                raise _refusal(
                    "multi_threading loses rows without an error", "in_memory or multi_processing as the running mode"
                )
        return args


class RunnerConfig(Section):
    """How the local engine runs nodes."""

    max_parallel: AutoOrPositive = "auto"
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

    @model_validator(mode="after")
    def _edge_is_made_and_gated(self) -> Self:
        made = self.export.tflite.variants if self.export.tflite else ()
        gates = [gate for gate in self.gates.satisfy if gate.payload == "tflite"]
        if not made and (gates or self.push.edge):
            what = "push.edge is" if self.push.edge else "gates on payload: tflite are"
            raise _refusal(f"{what} given, and no .tflite file is made", "export: {tflite: {variants: [...]}}")
        absent = sorted({gate.variant for gate in gates if gate.variant} - set(made))
        if absent:
            raise _refusal(f"a gate names the variant {absent[0]}, which is not made", f"one of {', '.join(made)}")
        if self.push.edge and not gates:
            raise _refusal("push.edge is given without a gate on payload: tflite", "at least one such gate")
        compared = next((gate for gate in gates if gate.condition in ("max_drop", "max_ratio_to_champion")), None)
        if compared and not self.push.edge:
            raise _refusal(
                f"a gate on payload: tflite has {compared.condition}, and no file is pushed to compare with",
                "push: {edge: {base_path: ...}}",
            )
        return self

    @model_validator(mode="after")
    def _compression_fits_backend(self) -> Self:
        tflite, backend = self.export.tflite, self.training.backend
        for name in ("quantization_aware", "pruning", "clustering"):
            if tflite and getattr(tflite, name) and backend != "tf_keras":
                raise _refusal(
                    f"export.tflite.{name} is given with training.backend: {backend}, whose models "
                    "tensorflow-model-optimization does not take",
                    f"training.backend: tf_keras, or {name} left out",
                )
        return self

    @model_validator(mode="after")
    def _space_is_of_the_model(self) -> Self:
        known = self.model.hyperparameters
        for name, dimension in self.training.tune.space.items() if self.training.tune else ():
            if name not in known:
                names = ", ".join(known) or "nothing yet"
                raise _refusal(
                    f"training.tune.space names {name!r}, which model.hyperparameters does not have",
                    f"one of {names}; or give it a value there first",
                    close_match(name, known),
                )
            kinds = {_kind_of(one) for one in (dimension.choices or (dimension.min,))}
            if known[name] is not None and kinds - {_kind_of(known[name]), "null"}:
                raise _refusal(
                    f"training.tune.space.{name} offers {', '.join(sorted(kinds))}, and model.hyperparameters.{name} is "
                    f"{_kind_of(known[name])}",
                    f"{_kind_of(known[name])} in both",
                )
        return self

    @model_validator(mode="after")
    def _drift_has_limits(self) -> Self:
        if self.schedule and self.schedule.triggers.drift and not self.data.validate_.drift:
            raise _refusal(
                "schedule.triggers.drift is given without limits",
                "data: {validate: {drift: {'*': {jensen_shannon: 0.1}}}}",
            )
        return self

    def canonical(self) -> dict[str, Any]:
        """The configuration as plain JSON values, every default spelled out, keys as they stand in the file."""
        return self.model_dump(mode="json")


def _kind_of(value: JsonValue) -> str:
    """The kind of a hyperparameter's value, in words."""
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a mapping"}
    return "null" if value is None else kinds[type(value)]


def config_digest(config: Section) -> str:
    """SHA-256 over the canonical JSON of a section: equal configurations have equal digests, whatever their layout."""
    text = json.dumps(config.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def seconds_of(duration: str) -> int:
    """A duration of the configuration in seconds.

    >>> seconds_of("6h")
    21600
    """
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[duration[-1]]
