"""TF Serving's own files, in protobuf's text format, and its flags.

Written by hand and not with the message classes, which come with TensorFlow; tests parse them with those.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from schemas.config import BatchingConfig, ServingTlsConfig
from schemas.errors import ConfigError, Fault
from serving.deploy.plan import CONFIG_FOLDER, GRPC_PORT, REST_PORT, Plan

__all__ = ["METRICS_PATH", "batching_parameters", "flags", "models_config", "monitoring_config", "pem", "ssl_config"]

METRICS_PATH = "/monitoring/prometheus/metrics"

_CONFIG_POLL_S = 30
_FILES_POLL_S = 1
_RETRY_EVERY_US = 5_000_000


def models_config(plan: Plan) -> str:
    """`models.config`: the model, its versions, and labels on them.

    Without labels the newest version serves. With labels the versions are named one by one, since TF Serving's policy of
    the newest would not load the older one that a label needs: what is pushed later is served once this is rendered anew.
    """
    lines = [
        "model_config_list {",
        "  config {",
        f"    name: {quoted(plan.model)}",
        f"    base_path: {quoted(plan.model_folder)}",
        '    model_platform: "tensorflow"',
    ]
    if plan.versions:
        versions = "".join(f"\n        versions: {version}" for version in plan.versions)
        lines += [f"    model_version_policy {{\n      specific {{{versions}\n      }}\n    }}"]
    else:
        lines += ["    model_version_policy {\n      latest {\n        num_versions: 1\n      }\n    }"]
    lines += [
        f"    version_labels {{\n      key: {quoted(label)}\n      value: {version}\n    }}"
        for label, version in plan.labels.items()
    ]
    return "\n".join([*lines, "  }", "}", ""])


def batching_parameters(batching: BatchingConfig) -> str:
    """`batching.config`."""
    values = {
        "max_batch_size": batching.max_batch_size,
        "batch_timeout_micros": batching.batch_timeout_micros,
        "max_enqueued_batches": batching.max_enqueued_batches,
        "num_batch_threads": batching.num_batch_threads,
    }
    lines = [f"{name} {{ value: {value} }}" for name, value in values.items() if value is not None]
    return "\n".join([*lines, *(f"allowed_batch_sizes: {size}" for size in batching.allowed_batch_sizes), ""])


def monitoring_config() -> str:
    """`monitoring.config`: figures for Prometheus, on the port of REST."""
    return f'prometheus_config {{\n  enable: true\n  path: "{METRICS_PATH}"\n}}\n'


def ssl_config(tls: ServingTlsConfig) -> str:
    """`ssl.config`: TLS for gRPC. Holds the private key.

    Raises:
        ConfigError: a file cannot be read, or is not in PEM format.
    """
    parts = [
        _field("server_key", pem(tls.key, "serving.tls.key")),
        _field("server_cert", pem(tls.certificate, "serving.tls.certificate")),
    ]
    if tls.client_authority:
        parts.append(_field("custom_ca", pem(tls.client_authority, "serving.tls.client_authority")))
    return "\n".join([*parts, f"client_verify: {'true' if tls.client_authority else 'false'}", ""])


def flags(plan: Plan) -> tuple[str, ...]:
    """The arguments of `tensorflow_model_server`.

    Loading has threads of its own and a short pause between attempts: by default one broken version keeps everything
    else waiting for up to five minutes.
    """
    return tuple(_flags(plan))


def _flags(plan: Plan) -> Iterator[str]:
    yield f"--port={GRPC_PORT}"
    yield f"--rest_api_port={REST_PORT}"
    yield f"--model_config_file={CONFIG_FOLDER}/models.config"
    yield f"--model_config_file_poll_wait_seconds={_CONFIG_POLL_S}"
    yield f"--file_system_poll_wait_seconds={_FILES_POLL_S}"
    yield f"--monitoring_config_file={CONFIG_FOLDER}/monitoring.config"
    yield "--num_load_threads=2"
    yield "--num_unload_threads=1"
    yield "--max_num_load_retries=2"
    yield f"--load_retry_interval_micros={_RETRY_EVERY_US}"
    if plan.labels:
        # Labels are checked before versions are loaded: without this a server with labels ends as it starts.
        yield "--allow_version_labels_for_unavailable_models=true"
    if plan.serving.batching:
        yield "--enable_batching=true"
        yield f"--batching_parameters_file={CONFIG_FOLDER}/batching.config"
    if plan.serving.tls:
        yield f"--ssl_config_file={CONFIG_FOLDER}/ssl.config"


def pem(path: str, key: str) -> str:
    """The text of a PEM file.

    Args:
        path: of the file.
        key: of the configuration that names it.

    Raises:
        ConfigError: it cannot be read, or is not in PEM format.
    """
    expected = "a text that begins with -----BEGIN"
    try:
        text = Path(path).read_text(encoding="ascii")
    except OSError as error:
        raise ConfigError(key, [Fault(path, "cannot be read", expected, error.strerror or str(error))]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(key, [Fault(path, "is not in PEM format", expected)]) from error
    if "-----BEGIN " not in text:
        raise ConfigError(key, [Fault(path, "is not in PEM format", expected)])
    return text if text.endswith("\n") else text + "\n"


def _field(name: str, text: str) -> str:
    """A field of several lines: adjacent literals are one."""
    return "\n".join([f"{name}:", *(f"  {quoted(line)}" for line in text.splitlines(keepends=True))])


def quoted(text: str) -> str:
    r"""A literal of protobuf's text format.

    >>> print(quoted('a "b"'))
    "a \"b\""
    """
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return '"' + "".join(escapes.get(letter, letter) for letter in text) + '"'
