"""What is to be rendered: the configuration and the store's labels, put together and checked against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from schemas.config import PipelineConfig, ServingConfig
from schemas.errors import ConfigError, Fault, close_match
from serving.store import StoreReader, is_remote, labels_of, open_versions

__all__ = ["CONFIG_FOLDER", "GRPC_PORT", "REST_PORT", "Plan", "Server", "make_plan"]

GRPC_PORT, REST_PORT = 8500, 8501
"""On which TF Serving listens, in its container or on its machine."""

CONFIG_FOLDER = "/etc/tf_serving"
"""Where a server finds the files of `tf_serving/`."""

_LONGEST = 50


@dataclass(frozen=True)
class Server:
    """One TF Serving, as a load balancer reaches it.

    Attributes:
        name: in the load balancer.
        grpc, rest: HOST:PORT.
    """

    name: str
    grpc: str
    rest: str


@dataclass(frozen=True)
class Plan:
    """One model and its servers.

    Attributes:
        model: its name, as requests spell it.
        base_path: of its versions: a directory on this machine, or `gs://BUCKET/PREFIX`.
        serving: the section of the configuration.
        labels: label to version, the configuration's and above them the store's.
        versions: that servers are to load; empty for the newest, whichever that is.
        push_base_path_is_empty: no version lies there yet, for which TF Serving waits with closed ports.
    """

    model: str
    base_path: str
    serving: ServingConfig
    labels: Mapping[str, int]
    versions: tuple[int, ...]
    push_base_path_is_empty: bool

    @property
    def resource(self) -> str:
        """The name of containers and of Kubernetes' objects: a DNS label."""
        return self.model.replace("_", "-")[:_LONGEST].rstrip("-")

    @property
    def in_containers(self) -> bool:
        """Whether the servers are started from what is rendered; else they run on machines of their own."""
        return not self.serving.addresses

    @property
    def in_bucket(self) -> bool:
        """Whether servers read the versions from a bucket, with credentials of their own, and mount nothing."""
        return is_remote(self.base_path)

    @property
    def model_folder(self) -> str:
        """Where a server finds the versions."""
        return f"/models/{self.model}" if self.in_containers and not self.in_bucket else self.base_path

    @property
    def servers(self) -> tuple[Server, ...]:
        """As the load balancers beside them reach them."""
        if self.serving.addresses:
            found = enumerate(self.serving.addresses, start=1)
            return tuple(Server(f"{self.resource}-{number}", one.grpc, one.rest) for number, one in found)
        names = [f"{self.resource}-{number}" for number in range(1, self.serving.instances + 1)]
        return tuple(Server(name, f"{name}:{GRPC_PORT}", f"{name}:{REST_PORT}") for name in names)


def make_plan(config: PipelineConfig, source: str = "configuration") -> Plan:
    """Puts together what is rendered for a pipeline's model.

    Args:
        config: of the pipeline.
        source: its name, for messages.

    Raises:
        ConfigError: a label names a version that is not there, or the canary a label that nothing sets.
        StoreError: the base path cannot be read.
    """
    serving = config.serving or ServingConfig()
    base_path = config.push.serving.base_path
    store = open_versions(base_path) if is_remote(base_path) else StoreReader(Path(base_path))
    present = store.versions()
    found = labels_of(store, serving.labels)
    faults = [
        Fault(
            f"serving.labels.{label}",
            f"names version {version}, which is not in {store.base_path}",
            ", ".join(map(str, present)) or "a version that was pushed; there is none",
        )
        for label, version in sorted(found.labels.items())
        if version not in present
    ]
    if serving.canary:
        for key in ("label", "stable"):
            faults += _faults_of_canary(key, getattr(serving.canary, key), found.labels)
    if faults:
        raise ConfigError(source, faults)
    return Plan(
        model=config.name,
        base_path=str(store.base_path),
        serving=serving,
        labels=dict(sorted(found.labels.items())),
        versions=found.load if found.labels or found.moving else (),
        push_base_path_is_empty=not present,
    )


def _faults_of_canary(key: str, label: str, labels: Mapping[str, int]) -> list[Fault]:
    if label in labels:
        return []
    expected = f"one of {', '.join(labels)}" if labels else f"serving.labels, or `satisfice label {label} VERSION`"
    problem = f"the label {label!r} names no version"
    return [Fault(f"serving.canary.{key}", problem, expected, label, close_match(label, list(labels)))]
