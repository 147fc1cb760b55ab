"""What a server serves: models, where they lie, which of their versions, and the labels on them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from schemas.errors import ConfigError, Fault
from serving.server.status import Refusal

__all__ = ["ModelConfig", "Policy", "changed_platforms", "models_of", "read_models_config"]

_TENSORFLOW = "tensorflow"


@dataclass(frozen=True)
class Policy:
    """Which versions are wanted.

    Attributes:
        kind: `latest` (the highest numbers), `all` or `specific`.
        latest: how many, for `latest`.
        versions: which, for `specific`.
    """

    kind: Literal["latest", "all", "specific"] = "latest"
    latest: int = 1
    versions: tuple[int, ...] = ()

    def wanted(self, present: list[int]) -> list[int]:
        """Those of the versions that are there, ascending."""
        ordered = sorted(set(present))
        if self.kind == "all":
            return ordered
        if self.kind == "latest":
            return ordered[-max(1, self.latest) :]
        return [version for version in ordered if version in self.versions]


@dataclass(frozen=True)
class ModelConfig:
    """One model.

    Attributes:
        name: under which clients ask for it.
        base_path: absolute; its versions are the sub-directories with numbers for names.
        policy: which versions are wanted.
        labels: names for versions.
        platform: `tensorflow`.
        beside: versions that are wanted beside those of the policy: a label is about to move to them.
    """

    name: str
    base_path: Path
    policy: Policy = Policy()
    labels: Mapping[str, int] = field(default_factory=dict)
    platform: str = _TENSORFLOW
    beside: tuple[int, ...] = ()


def read_models_config(path: str | os.PathLike[str]) -> Any:
    """Reads a `models.config` file: a `ModelServerConfig` in protobuf's text format.

    Raises:
        ConfigError: it is not there, or no such message.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    except OSError as error:
        raise ConfigError(str(path), [Fault("", "cannot be read", got=error.strerror or str(error))]) from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        expected = "a ModelServerConfig in protobuf's text format"
        raise ConfigError(str(path), [Fault("", f"does not parse: {error}", expected)]) from error


def models_of(server: Any) -> list[ModelConfig]:
    """The models of a `ModelServerConfig`.

    Raises:
        Refusal: INVALID_ARGUMENT, as TF Serving words it.
    """
    kind = server.WhichOneof("config")
    if kind is None:
        return []
    if kind != "model_config_list":
        raise Refusal(
            "INVALID_ARGUMENT",
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
            "supported",
        )
    models: dict[str, ModelConfig] = {}
    for one in server.model_config_list.config:
        if one.name in models:
            raise Refusal("INVALID_ARGUMENT", f"Illegal to list model {one.name} multiple times in config list")
        models[one.name] = _model_of(one)
    return list(models.values())


def changed_platforms(old: Mapping[str, ModelConfig], new: list[ModelConfig]) -> None:
    """Makes sure that no model that stays changes its platform.

    Raises:
        Refusal: INVALID_ARGUMENT.
    """
    for model in new:
        before = old.get(model.name)
        if before is not None and before.platform != model.platform:
            raise Refusal(
                "INVALID_ARGUMENT",
                f"Illegal to change a model's platform. For model {model.name} platform was {before.platform} and new "
                f"platform requested is {model.platform}",
            )


def _model_of(one: Any) -> ModelConfig:
    if "://" in one.base_path:
        raise Refusal(
            "INVALID_ARGUMENT",
            f"Model {one.name} is at {one.base_path}, and this server watches directories alone: it follows a bucket that "
            "push.serving.base_path names, and none of a models.config",
        )
    if not os.path.isabs(one.base_path):
        raise Refusal(
            "INVALID_ARGUMENT",
            f"Expected model {one.name} to have an absolute path or URI; got base_path()={one.base_path}",
        )
    platform = one.model_platform or (_TENSORFLOW if one.model_type == 1 else "")
    if not platform:
        raise Refusal(
            "INVALID_ARGUMENT",
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
            f"model name is {one.name}",
        )
    if platform != _TENSORFLOW:
        raise Refusal("INVALID_ARGUMENT", f"Model {one.name} requests unsupported platform {platform}")
    return ModelConfig(one.name, Path(one.base_path), _policy_of(one), dict(one.version_labels), platform)


def _policy_of(one: Any) -> Policy:
    choice = one.model_version_policy.WhichOneof("policy_choice")
    if choice == "all":
        return Policy("all")
    if choice == "specific":
        return Policy("specific", versions=tuple(one.model_version_policy.specific.versions))
    if choice == "latest":
        return Policy("latest", max(1, one.model_version_policy.latest.num_versions))
    return Policy()
