"""`satisfice serve` and `satisfice predict`, behind the command line."""

from __future__ import annotations

import csv
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from schemas.config import BatchingConfig, PipelineConfig
from schemas.errors import ConfigError, Fault, SatisficeError
from schemas.load import load_config
from serving.client import Client, GrpcClient, Predictions, RestClient, read_rows, to_batches
from serving.store import is_remote

__all__ = ["BUCKET_POLL_S", "PredictOptions", "ServeOptions", "predict", "serve", "tls_files"]

BUCKET_POLL_S = 10.0

_NOT_LOOPBACK = "everyone who can reach this address can ask the model: there is no authentication"


@dataclass(frozen=True)
class ServeOptions:
    """What `satisfice serve` is told.

    Attributes:
        host: address to bind to.
        grpc_port, rest_port: 0 takes a free one; -1 leaves it out.
        strict: TF Serving's exact behaviour.
        models_config: a models.config in the place of what the configuration says; None for the latter.
        poll_s: seconds between two looks at the directories.
        bucket_poll_s: seconds between two looks into a bucket, each of which costs money.
        mirror: folder into which base paths in a bucket are followed; None for one below the pipeline root.
        tls: key and certificate for gRPC; None for none.
        client_ca: of the clients' certificates; None asks for none.
        load_retries: further attempts at a version that does not load, where the server is strict.
    """

    host: str = "127.0.0.1"
    grpc_port: int = 8500
    rest_port: int = 8501
    strict: bool = False
    models_config: Path | None = None
    poll_s: float = 1.0
    tls: tuple[Path, Path] | None = None
    client_ca: Path | None = None
    load_retries: int = 5
    bucket_poll_s: float = BUCKET_POLL_S
    mirror: Path | None = None


def tls_files(key: Path | None, certificate: Path | None, client_ca: Path | None) -> tuple[Path, Path] | None:
    """Key and certificate, or None for no TLS.

    Raises:
        ConfigError: one comes without the other.
    """
    if key and certificate:
        return key, certificate
    missing = {"--tls-key": key, "--tls-cert": certificate}
    if key or certificate or client_ca:
        faults = [Fault(name, "is missing", "a PEM file") for name, given in missing.items() if given is None]
        raise ConfigError("command line", faults)
    return None


def serve(config: Path, options: ServeOptions, *, as_json: bool) -> None:
    """Serves what a pipeline has pushed until it is told to stop (SIGTERM or SIGINT), then drains.

    Args:
        config: the pipeline's configuration.
        options: of the server.
        as_json: prints one JSON document with the addresses once they are open.

    Raises:
        SatisficeError: a port is taken, or a model does not load where the server is strict.
    """
    _check_ports(options)
    found = load_config(config)
    loaded = found.config
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    from runners.local.quiet import noise_to
    from runners.run import default_root

    with noise_to(None):  # TensorFlow is imported
        from serving.server.app import ModelServer
    mirrors = {} if options.models_config else _mirrors(loaded, options.mirror or default_root(found) / "mirror")
    models = _models(loaded, mirrors)
    watch = _label_watch(loaded, models, options)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = ModelServer(watch.models() if watch else models, _server_options(loaded, options))
    threading.Thread(target=_stop_on, args=(stop, server), daemon=True, name="stop").start()
    with server:
        if watch:
            watch.start(server.manager, server.take, options.poll_s)
        for mirror in mirrors.values():
            mirror.start(options.bucket_poll_s)
        if not stop.is_set():
            _announce(server, [model.name for model in models], options, as_json=as_json)
        stop.wait()
        for one in (*mirrors.values(), *([watch] if watch else [])):
            one.stop()


def _check_ports(options: ServeOptions) -> None:
    if options.grpc_port < 0 and options.rest_port < 0:
        fault = Fault("--grpc-port", "and --rest-port are both left out", "one of them, or 0 for a free one")
        raise ConfigError("command line", [fault])


def _label_watch(config: PipelineConfig, models: list[Any], options: ServeOptions) -> Any:
    """What moves labels that are set in the store; None where a models.config says everything."""
    from serving.server.labels import LabelWatch

    if options.models_config:
        return None
    configured = config.serving.labels if config.serving else {}
    return LabelWatch(models[0].base_path, configured, models, strict=options.strict)


def _mirrors(config: PipelineConfig, folder: Path) -> dict[str, Any]:
    """What follows the base paths that are in a bucket, by base path."""
    labels = config.serving.labels if config.serving else {}
    wanted = {config.name: (config.push.serving.base_path, labels)}
    if config.push.edge:
        wanted[f"{config.name}-edge"] = (config.push.edge.base_path, {})
    remote = {name: one for name, one in wanted.items() if is_remote(one[0])}
    if not remote:
        return {}
    from serving.store.cloud import CloudVersionStore
    from serving.store.mirror import Mirror, free_folder

    found = {
        base_path: Mirror(CloudVersionStore(base_path), free_folder(folder, name), named)
        for name, (base_path, named) in remote.items()
    }
    for mirror in found.values():
        mirror.begin()
    return found


def _stop_on(stop: threading.Event, server: Any) -> None:
    """In a thread of its own, so that a start that waits for its models ends as well."""
    stop.wait()
    print("stopping: requests that run may end", file=sys.stderr)  # noqa: T201 - the command's own output
    server.stop()


def _models(config: PipelineConfig, mirrors: Mapping[str, Any]) -> list[Any]:
    from serving.server.config import ModelConfig

    def folder(base_path: str) -> Path:
        return mirrors[base_path].folder if base_path in mirrors else Path(base_path)

    models = [ModelConfig(config.name, folder(config.push.serving.base_path))]
    if config.push.edge:
        models.append(ModelConfig(f"{config.name}-edge", folder(config.push.edge.base_path)))
    return models


def _server_options(config: PipelineConfig, options: ServeOptions) -> Any:
    from serving.server.app import ServerOptions
    from serving.server.grpc_api import Tls
    from serving.server.manager import Options

    return ServerOptions(
        host=options.host,
        grpc_port=None if options.grpc_port < 0 else options.grpc_port,
        rest_port=None if options.rest_port < 0 else options.rest_port,
        versions=Options(
            strict=options.strict,
            poll_s=options.poll_s,
            load_retries=options.load_retries,
            new_labels_may_wait=not options.strict,
        ),
        batching=_batching(config.serving.batching) if config.serving and config.serving.batching else None,
        tls=Tls(*options.tls, options.client_ca) if options.tls else None,
        config_file=options.models_config,
        config_poll_s=options.poll_s if options.models_config else 0.0,
    )


def _batching(given: BatchingConfig) -> Any:
    from serving.server.batching import BatchingParameters

    return BatchingParameters(
        max_batch_size=given.max_batch_size,
        batch_timeout_micros=given.batch_timeout_micros,
        max_enqueued_batches=given.max_enqueued_batches,
        num_batch_threads=given.num_batch_threads or 1,
        allowed_batch_sizes=given.allowed_batch_sizes,
    )


def _announce(server: Any, names: list[str], options: ServeOptions, *, as_json: bool) -> None:
    grpc_address = f"{options.host}:{server.grpc_port}" if server.grpc_port else None
    rest_address = f"{options.host}:{server.rest_port}" if server.rest_port else None
    not_ready = server.manager.why_not_ready()
    names = server.manager.names or names
    if as_json:
        document = {"grpc": grpc_address, "rest": rest_address, "models": names, "not_ready": not_ready}
        print(json.dumps(document), flush=True)  # noqa: T201
        return
    lines = [f"serving {', '.join(names)} (for development, CI and small production)"]
    lines += [f"  gRPC  {grpc_address}"] if grpc_address else []
    lines += [f"  REST  http://{rest_address}/v1/models/{names[0]}"] if rest_address and names else []
    lines += [f"  not ready: {reason}" for reason in not_ready]
    if options.host not in ("127.0.0.1", "::1", "localhost"):
        lines.append(f"  warning: {_NOT_LOOPBACK}")
    lines += ["  TLS is for gRPC alone"] if options.tls and rest_address else []
    print("\n".join([*lines, "  Ctrl-C stops it"]), flush=True)  # noqa: T201


# --- predict ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PredictOptions:
    """What `satisfice predict` is told.

    Attributes:
        protocol: `grpc` or `rest`.
        address: of the server; "" for this machine and the protocol's usual port.
        version, label: which version; the newest where neither is given.
        signature: its name.
        batch_size: rows in each request.
        limit: rows at most; 0 for all.
        ca: certificate of who signed the server's, which makes gRPC use TLS; None talks in the clear.
    """

    protocol: Literal["grpc", "rest"] = "rest"
    address: str = ""
    version: int | None = None
    label: str | None = None
    signature: str = "serving_default"
    batch_size: int = 256
    limit: int = 0
    ca: Path | None = None


def predict(config: Path, rows: Path, options: PredictOptions, *, as_json: bool) -> None:
    """Asks a server for predictions of the rows of a file, and prints them: CSV, or one JSON object a line.

    Raises:
        SatisficeError: the server cannot be reached or refuses, or a row is not what the model takes.
    """
    _check(options)
    client = _client(load_config(config).config.name, options)
    inputs = client.inputs()
    given = read_rows(rows)
    chosen = islice(given, options.limit) if options.limit else given
    answers = (client.predict(batch) for batch in to_batches(iter(chosen), inputs, options.batch_size))
    written = _write_json(answers) if as_json else _write_csv(answers)
    if not written:
        raise SatisficeError(str(rows), "holds no rows")


def _check(options: PredictOptions) -> None:
    if options.version is not None and options.label is not None:
        raise ConfigError("command line", [Fault("--label", "and --version exclude each other", "one of them")])
    if options.ca is not None and options.protocol != "grpc":
        raise ConfigError("command line", [Fault("--ca", "is for gRPC alone", "--grpc beside it")])


def _client(model: str, options: PredictOptions) -> Client:
    chosen: dict[str, Any] = {
        "version": options.version,
        "label": options.label,
        "signature": options.signature,
    }
    if options.protocol == "rest":
        return RestClient(options.address or "127.0.0.1:8501", model, **chosen)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    root = None
    if options.ca is not None:
        try:
            root = options.ca.read_bytes()
        except OSError as error:
            raise ConfigError(
                str(options.ca), [Fault("", "cannot be read", got=error.strerror or str(error))]
            ) from error
    from runners.local.quiet import noise_to

    with noise_to(None):  # TensorFlow is imported
        return GrpcClient(options.address or "127.0.0.1:8500", model, root_certificates=root, **chosen)


def _write_json(answers: Iterator[Predictions]) -> int:
    count = 0
    for answer in answers:
        for row in _rows_of(answer):
            print(json.dumps(row))  # noqa: T201
            count += 1
    return count


def _write_csv(answers: Iterator[Predictions]) -> int:
    first = next(answers, None)
    if first is None:
        return 0
    writer = csv.writer(sys.stdout)
    header: list[str] | None = None
    count = 0
    for row in chain.from_iterable(map(_rows_of, chain([first], answers))):
        flat = dict(_flat(row))
        if header is None:
            header = list(flat)
            writer.writerow(header)
        writer.writerow(flat.values())
        count += 1
    return count


def _rows_of(answer: Predictions) -> Iterator[dict[str, Any]]:
    for values in zip(*answer.outputs.values(), strict=True):
        yield dict(zip(answer.outputs, values, strict=True))


def _flat(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Columns of a table: an output of one number by its name, one of several with their places."""
    for name, value in row.items():
        if not isinstance(value, list):
            yield name, value
        elif len(value) == 1 and not isinstance(value[0], list):
            yield name, value[0]
        else:
            for place, one in enumerate(value):
                yield f"{name}_{place}", one
