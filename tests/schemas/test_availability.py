"""What is not built yet is refused by name, what is built is not, and no key is in neither list."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given

from schemas.availability import LATER, Later, faults_of_unavailable_keys, values_at
from schemas.config import PipelineConfig
from schemas.load import _keys_at, load_config, parse_config
from tests.strategies import configurations

FULL = Path(__file__).parents[1] / "resources" / "full.yaml"

# Keys that something acts on, with all their values unless LATER names them too.
USED = {
    "name",
    "data.source.format",
    "data.source.path",
    "data.source.window.last_spans",
    "data.source.span",
    "data.splits",
    "data.schema",
    "data.validate.anomalies",
    "data.validate.drift",
    "data.validate.on_drift",
    "data.validate.on_no_baseline",
    "data.validate.skew",
    "data.validate.on_skew",
    "data.validate.min_examples",
    "model.module",
    "model.label",
    "model.hyperparameters",
    "training.backend",
    "training.strategy",
    "training.workers",
    "training.parameter_servers",
    "training.devices",
    "training.communication",
    "training.mixed_precision",
    "training.jit_compile",
    "training.deterministic",
    "training.steps_per_execution",
    "training.checkpoint_every_steps",
    "training.warm_start",
    "training.global_batch_size",
    "training.epochs",
    "training.seed",
    "training.early_stopping.metric",
    "training.early_stopping.mode",
    "training.early_stopping.patience",
    "training.tune.timeout",
    "training.tune.trial_timeout",
    "training.tune.trials",
    "training.tune.objective",
    "training.tune.mode",
    "training.tune.space.*.choices",
    "training.tune.space.*.min",
    "training.tune.space.*.max",
    "training.tune.space.*.step",
    "training.tune.space.*.log",
    "training.tune.parallel",
    "export.tflite.variants",
    "export.tflite.choose",
    "export.tflite.takes",
    "export.tflite.blocks_saved_model",
    "export.tflite.quantization_aware",
    "export.tflite.pruning.final_sparsity",
    "export.tflite.clustering.clusters",
    "gates.optimize.metric",
    "gates.optimize.at_least_champion_minus",
    "gates.optimize.on_inconclusive",
    "gates.approval",
    "gates.intervals",
    "gates.satisfy.*.metric",
    "gates.satisfy.*.payload",
    "gates.satisfy.*.batch_size",
    "gates.satisfy.*.against",
    "gates.satisfy.*.variant",
    "gates.satisfy.*.slice_by",
    "gates.satisfy.*.min_examples",
    "gates.satisfy.*.min",
    "gates.satisfy.*.max",
    "gates.satisfy.*.max_drop",
    "gates.satisfy.*.max_gap",
    "gates.satisfy.*.on_inconclusive",
    "gates.satisfy.*.max_ratio_to_champion",
    "push.serving.base_path",
    "push.serving.keep_versions",
    "push.serving.server_version",
    "push.serving.confirm.instances.*.grpc",
    "push.serving.confirm.instances.*.rest",
    "push.serving.confirm.instances.*.ca",
    "push.serving.confirm.deadline_s",
    "push.edge.base_path",
    "push.edge.keep_versions",
    "serving.instances",
    "serving.addresses.grpc",
    "serving.addresses.rest",
    "serving.image",
    "serving.batching.max_batch_size",
    "serving.batching.batch_timeout_micros",
    "serving.batching.max_enqueued_batches",
    "serving.batching.num_batch_threads",
    "serving.batching.allowed_batch_sizes",
    "serving.labels",
    "serving.canary.label",
    "serving.canary.stable",
    "serving.canary.share",
    "serving.canary.header",
    "serving.listen.host",
    "serving.listen.grpc_port",
    "serving.listen.rest_port",
    "serving.listen.stats_port",
    "serving.tls.key",
    "serving.tls.certificate",
    "serving.tls.authority",
    "serving.tls.server_name",
    "serving.tls.client_authority",
    "serving.resources.cpu",
    "serving.resources.memory",
    "serving.autoscale.max_instances",
    "serving.autoscale.cpu_percent",
    "serving.kubernetes.namespace",
    "serving.kubernetes.claim",
    "serving.kubernetes.storage",
    "serving.monitoring.scrape_interval_s",
    "serving.monitoring.latency_p99_ms",
    "serving.monitoring.error_share",
    "serving.monitoring.hold",
    "schedule.triggers.cron",
    "schedule.triggers.changed_data",
    "schedule.triggers.new_rows",
    "schedule.triggers.new_span",
    "schedule.triggers.decayed_quality.labelled",
    "schedule.triggers.decayed_quality.max",
    "schedule.triggers.decayed_quality.max_drop",
    "schedule.triggers.decayed_quality.metric",
    "schedule.triggers.decayed_quality.min",
    "schedule.triggers.decayed_quality.min_examples",
    "schedule.triggers.drift",
    "schedule.any",
    "schedule.cool_down",
    "schedule.quiet_hours",
    "schedule.jitter",
    "schedule.hysteresis",
    "schedule.retry_failed",
    "schedule.every",
    "schedule.time_zone",
    "kubeflow.image",
    "kubeflow.resources.*.cpu",
    "kubeflow.resources.*.memory",
    "kubeflow.resources.*.accelerator.type",
    "kubeflow.resources.*.accelerator.count",
    "kubeflow.resources.*.shared_memory",
    "kubeflow.resources.*.node_selector",
    "kubeflow.resources.*.tolerations.key",
    "kubeflow.resources.*.tolerations.operator",
    "kubeflow.resources.*.tolerations.value",
    "kubeflow.resources.*.tolerations.effect",
    "kubeflow.resources.*.retries",
    "kubeflow.resources.*.back_off_s",
    "kubeflow.resources.*.timeout_s",
    "kubeflow.volume.claim",
    "kubeflow.volume.mount_path",
    "kubeflow.volume.access",
    "kubeflow.secrets.*.name",
    "kubeflow.secrets.*.env",
    "kubeflow.secrets.*.mount_path",
    "kubeflow.env",
    "kubeflow.pull_secrets",
    "kubeflow.parameters",
    "kubeflow.host",
    "kubeflow.namespace",
    "kubeflow.service_account",
    "kubeflow.experiment",
    "kubeflow.token_env",
    "kubeflow.token_file",
    "training.cluster",
    "training.kubernetes.image",
    "training.kubernetes.volume.claim",
    "training.kubernetes.volume.mount_path",
    "training.kubernetes.volume.access",
    "training.kubernetes.namespace",
    "training.kubernetes.context",
    "training.kubernetes.resources.cpu",
    "training.kubernetes.resources.memory",
    "training.kubernetes.resources.accelerator.type",
    "training.kubernetes.resources.accelerator.count",
    "training.kubernetes.resources.shared_memory",
    "training.kubernetes.resources.node_selector",
    "training.kubernetes.resources.tolerations.key",
    "training.kubernetes.resources.tolerations.operator",
    "training.kubernetes.resources.tolerations.value",
    "training.kubernetes.resources.tolerations.effect",
    "training.kubernetes.secrets.*.name",
    "training.kubernetes.secrets.*.env",
    "training.kubernetes.secrets.*.mount_path",
    "training.kubernetes.env",
    "training.kubernetes.pull_secrets",
    "training.kubernetes.service_account",
    "training.kubernetes.port",
    "training.kubernetes.start_deadline_s",
    "training.kubernetes.restarts",
    "training.kubernetes.grace_s",
    "metadata.sqlite.path",
    "metadata.mysql.host",
    "metadata.mysql.port",
    "metadata.mysql.database",
    "metadata.mysql.user",
    "metadata.mysql.password_env",
    "metadata.postgresql.host",
    "metadata.postgresql.port",
    "metadata.postgresql.database",
    "metadata.postgresql.user",
    "metadata.postgresql.password_env",
    "metadata.grpc.host",
    "metadata.grpc.port",
    "beam.runner",
    "beam.args",
    "runner.max_parallel",
    "runner.retries",
}


def leaves(loc=()):
    """Every key of a configuration that holds a value and no section, as `LATER` spells paths."""
    for key in _keys_at(loc):
        here = (*loc, key)
        path = ".".join(here)
        below = next((deep for deep in (here, (*here, "*")) if _keys_at(deep)), None)
        if below and path not in {later.path for later in LATER}:
            yield from leaves(below)
        else:
            path = path.replace("gates.satisfy.", "gates.satisfy.*.").replace("instances.", "instances.*.")
            yield path.replace(".secrets.", ".secrets.*.")


def test_every_key_is_used_or_refused():
    """A key that nothing acts on and nobody refuses would be ignored in silence."""
    assert set(leaves()) == USED | {later.path for later in LATER}


def test_full_configuration():
    """The example of the whole configuration has no fault: everything in it is acted on."""
    assert load_config(FULL).config.training.searches


def test_full_configuration_is_valid_but_for_that():
    """What will be available is validated already."""
    raw = yaml.safe_load(FULL.read_text(encoding="utf-8"))
    config = PipelineConfig.model_validate_json(json.dumps(raw))
    assert config.gates.satisfy[9].max_ratio_to_champion == 1.2


@given(configurations())
def test_defaults_are_never_refused(raw):
    """A configuration with every default spelled out is accepted like the one without."""
    config = parse_config(raw)
    assert faults_of_unavailable_keys(raw) == []
    assert faults_of_unavailable_keys(config.canonical()) == []
    assert parse_config(config.canonical()) == config


def _put(path, value):
    """The smallest mapping that holds the value at the path."""
    for key in reversed(path.split(".")):
        value = [value] if key == "*" else {key: value}
    return value


@pytest.mark.parametrize("later", LATER, ids=lambda later: f"{later.path} ({later.what})")
def test_each_is_refused_by_name(later):
    """The fault gives the path, the thing that is not built, what to write instead and what was there."""
    value = next(
        value
        for value in ({"a": 1}, True, "gs://x/{SPAN}", "s3://x", "size_mb", 7, "other")
        if not later.accepts(value)
    )
    faults = faults_of_unavailable_keys(_put(later.path, value))
    fault = next(fault for fault in faults if later.what in fault.problem)
    assert fault.path == later.path.replace("*", "0")
    assert fault.problem == f"not available yet: {later.what}"
    assert fault.expected
    assert fault.got


@pytest.mark.parametrize("later", [later for later in LATER if not later.refuses], ids=lambda later: later.path)
def test_what_works_is_accepted(later):
    """Each value that is acted on passes."""
    for value in later.works:
        assert all(fault.path != later.path for fault in faults_of_unavailable_keys(_put(later.path, value)))


def test_what_to_write_instead():
    """Words where some values work, else: leave it out."""
    expected = {later.path: later.expected for later in LATER if not later.refuses}
    assert expected["data.source.format"] == "'csv' or 'parquet' or 'arrow' or 'tfrecord'"
    assert Later("a.key", "something").expected == "this key left out"


@pytest.mark.parametrize("raw", [{}, {"data": None}, {"data": []}, {"gates": {"satisfy": {"0": {}}}}, {"gates": 3}])
def test_no_fault_in_what_is_not_there(raw):
    """A configuration that is wrong elsewhere is read without a fault of its own."""
    assert faults_of_unavailable_keys(raw) == []


def test_values_at():
    """`*` is every entry of a list, and no key of a mapping."""
    raw = {"a": [{"b": 1}, {"c": 2}, {"b": None}], "*": {"b": 3}}
    assert list(values_at(raw, ["a", "*", "b"])) == [("a.0.b", 1), ("a.2.b", None)]
    assert list(values_at(raw, ["a", "0", "b"])) == []
    assert list(values_at({"a": {"x": 1}}, ["a", "*"])) == []
