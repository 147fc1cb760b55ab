"""Where things are in the containers: the folder of a configuration lies on a volume. Pure; nothing is looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from schemas.config import KubeflowConfig, PipelineConfig, VolumeConfig
from schemas.errors import ConfigError, Fault
from schemas.load import LoadedConfig

__all__ = ["in_containers", "root_of", "section_of"]

_PATHS = {
    "data.source.path": ("data", "source", "path"),
    "push.serving.base_path": ("push", "serving", "base_path"),
    "push.edge.base_path": ("push", "edge", "base_path"),
    "metadata.sqlite.path": ("metadata", "sqlite", "path"),
}
_SCHEMA = ("data", "schema")
_IMAGE = re.compile(
    r"^[a-z0-9][a-z0-9._-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)*(:(?P<tag>[A-Za-z0-9_][\w.-]{0,127}))?(?P<digest>@sha256:[0-9a-f]{64})?$"
)


def section_of(config: PipelineConfig, source: str) -> tuple[KubeflowConfig, VolumeConfig]:
    """The sections that a pipeline on Kubeflow cannot do without.

    Raises:
        ConfigError: one of them is not there.
    """
    if config.kubeflow is None:
        expected = "kubeflow: {image: REGISTRY/NAME:TAG, volume: {claim: NAME}}"
        raise ConfigError(source, [Fault("kubeflow", "is missing", expected)])
    if config.kubeflow.volume is None:
        problem = "is missing: data, models and records need a place that every container sees"
        raise ConfigError(source, [Fault("kubeflow.volume", problem, "volume: {claim: NAME}")])
    return config.kubeflow, config.kubeflow.volume


def root_of(config: PipelineConfig, volume: VolumeConfig) -> str:
    """The pipeline root in the containers."""
    return f"{volume.mount_path}/pipelines/{config.name}"


def in_containers(loaded: LoadedConfig) -> LoadedConfig:
    """The configuration as the containers have it: what is below its folder is below the volume's mount path.

    Args:
        loaded: as it was read on this machine.

    Raises:
        ConfigError: with every fault: a path that no volume holds, a store that is unfit for several machines, an image
            that is none or names no certain bytes.
    """
    config = loaded.config
    kubeflow, volume = section_of(config, str(loaded.file))
    raw = config.canonical()
    faults = [*_image_faults(kubeflow.image), *_store_faults(config, volume), *_training_faults(config, volume)]
    for dotted, keys in _PATHS.items():
        path = _at(raw, keys)
        if path is not None and "://" not in path:
            moved = _moved(path, str(loaded.folder), volume.mount_path)
            if moved is None:
                expected = f"a path below {loaded.folder}, which is {volume.mount_path} on the volume, or below that"
                faults.append(Fault(dotted, "is a place of this machine, and on no volume", expected, path))
            else:
                _put(raw, keys, moved)
    # The text of the schema is part of the compiled pipeline, so its file need not be there.
    schema = config.data.schema_path
    _put(raw, _SCHEMA, _moved(schema, str(loaded.folder), volume.mount_path) or schema)
    if faults:
        raise ConfigError(str(loaded.file), faults)
    folder = PurePosixPath(volume.mount_path)
    return LoadedConfig(PipelineConfig.model_validate(raw, strict=False), type(loaded.file)(folder / loaded.file.name))


def _moved(path: str, folder: str, mount: str) -> str | None:
    for base in (mount, folder):
        if PurePosixPath(path).is_relative_to(base):
            return str(PurePosixPath(mount) / PurePosixPath(path).relative_to(base))
    return None


def _image_faults(image: str) -> Iterator[Fault]:
    found = _IMAGE.match(image)
    expected = "REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST"
    if found is None:
        yield Fault("kubeflow.image", "is not the name of an image", expected, image)
    elif found["digest"] is None and found["tag"] is None:
        yield Fault(
            "kubeflow.image", "has neither tag nor digest, so that it names other bytes tomorrow", expected, image
        )
    elif found["digest"] is None and found["tag"] == "latest":
        yield Fault("kubeflow.image", "'latest' names other bytes tomorrow", expected, image)


def _store_faults(config: PipelineConfig, volume: VolumeConfig) -> Iterator[Fault]:
    if config.metadata.sqlite is not None and volume.access != "ReadWriteOnce":
        yield Fault(
            "metadata.sqlite",
            "cannot be shared by machines: the locks of a SQLite file hold on one machine's own disk alone",
            "metadata.mysql, metadata.postgresql or metadata.grpc; or a volume with access: ReadWriteOnce, by which all "
            "pods are on one machine",
        )


def _training_faults(config: PipelineConfig, volume: VolumeConfig) -> Iterator[Fault]:
    """The pods of a training read what other nodes wrote."""
    pods = config.training.kubernetes
    if config.training.cluster != "kubernetes" or pods is None:
        return
    given, expected = (f"claim {one.claim} at {one.mount_path}" for one in (pods.volume, volume))
    if given != expected:
        yield Fault("training.kubernetes.volume", "is not the volume of the other nodes", expected, given)


def _at(raw: dict[str, Any], keys: tuple[str, ...]) -> str | None:
    here: Any = raw
    for key in keys:
        here = here.get(key) if isinstance(here, dict) else None
    return here if isinstance(here, str) else None


def _put(raw: dict[str, Any], keys: tuple[str, ...], value: str) -> None:
    for key in keys[:-1]:
        raw = raw[key]
    raw[keys[-1]] = value
