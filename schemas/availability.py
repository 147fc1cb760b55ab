"""Keys that are part of the configuration's contract and whose use is not built yet.

They are validated like all others, and refused where they would otherwise be ignored in silence. Whoever builds one
takes its entry out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from schemas.config import PipelineConfig, SatisfyGate, TrainingConfig, uses_spans
from schemas.errors import Fault
from schemas.metrics import PROFILED

__all__ = ["faults_of_unavailable_keys"]

_Check = tuple[str, Callable[[PipelineConfig], object], str]

_TRAINING_DEFAULTS = TrainingConfig()

_SIMPLE: tuple[_Check, ...] = (
    ("data.source.window", lambda c: c.data.source.window, "windows of spans"),
    ("data.validate.drift", lambda c: c.data.validate_.drift, "drift against the champion's data"),
    ("data.validate.on_drift", lambda c: c.data.validate_.on_drift, "drift against the champion's data"),
    ("training.tune", lambda c: c.training.tune, "tuning"),
    ("export.tflite", lambda c: c.export.tflite, "the TFLite export"),
    ("gates.approval", lambda c: c.gates.approval == "required", "approval by a person"),
    ("push.serving.keep_versions", lambda c: c.push.serving.keep_versions, "retention of versions"),
    ("push.serving.server_version", lambda c: c.push.serving.server_version, "the check of the server's version"),
    ("push.serving.confirm", lambda c: c.push.serving.confirm, "confirmation by running servers"),
    ("push.edge", lambda c: c.push.edge, "the push to devices"),
    ("serving", lambda c: c.serving, "the embedded server"),
    ("schedule", lambda c: c.schedule, "scheduled retraining"),
    ("kubeflow", lambda c: c.kubeflow, "the Kubeflow runner"),
    ("metadata.mysql", lambda c: c.metadata.mysql, "a metadata store other than SQLite"),
    ("metadata.postgresql", lambda c: c.metadata.postgresql, "a metadata store other than SQLite"),
    ("metadata.grpc", lambda c: c.metadata.grpc, "a metadata store other than SQLite"),
    ("beam.runner", lambda c: c.beam.runner != "local", "a Beam engine other than the local one"),
    ("beam.args", lambda c: c.beam.args, "Beam arguments"),
    ("runner.max_parallel", lambda c: c.runner.max_parallel not in ("auto", 1), "nodes in parallel"),
    ("runner.retries", lambda c: c.runner.retries, "retries of nodes"),
)

_TRAINING = (
    "parameter_servers",
    "workers",
    "devices",
    "communication",
    "mixed_precision",
    "jit_compile",
    "deterministic",
    "steps_per_execution",
    "warm_start",
)


def _gate_faults(index: int, gate: SatisfyGate) -> Iterator[Fault]:
    path = f"gates.satisfy.{index}"
    if gate.payload == "tflite":
        yield _fault(f"{path}.payload", "gates on the .tflite payload", gate.payload)
    elif gate.metric in PROFILED:
        yield _fault(f"{path}.metric", "profiled figures (latency, size, memory, parity)", gate.metric)
    if gate.max_gap is not None:
        yield _fault(f"{path}.max_gap", "gaps between slices", gate.max_gap)
    for key in ("batch_size", "against"):
        value = getattr(gate, key)
        if value is not None:
            yield _fault(f"{path}.{key}", "profiled figures (latency, size, memory, parity)", value)
    if gate.on_inconclusive != "block":
        yield _fault(f"{path}.on_inconclusive", "confidence intervals", gate.on_inconclusive)


def _fault(path: str, what: str, got: object = "") -> Fault:
    return Fault(path, f"not available yet: {what}", "this key left out", "" if got == "" else repr(got))


def faults_of_unavailable_keys(config: PipelineConfig) -> list[Fault]:
    """One fault for each key that is set and that nothing would act on."""
    faults = [_fault(path, what) for path, is_set, what in _SIMPLE if is_set(config)]
    source = config.data.source
    if source.format not in ("csv", "parquet"):
        faults.append(_fault("data.source.format", "sources other than CSV and Parquet", source.format))
    if uses_spans(source.path):
        faults.append(_fault("data.source.path", "spans, dates and versions in a path", source.path))
    training = config.training
    if training.backend != "tf_keras":
        faults.append(_fault("training.backend", "Keras 3", training.backend))
    if training.strategy not in ("auto", "one_device"):
        faults.append(_fault("training.strategy", "distributed training", training.strategy))
    for key in _TRAINING:
        value = getattr(training, key)
        if value != getattr(_TRAINING_DEFAULTS, key):
            faults.append(_fault(f"training.{key}", "distributed and tuned training", value))
    for index, gate in enumerate(config.gates.satisfy):
        faults.extend(_gate_faults(index, gate))
    return faults
