"""The only reader of configuration files and `--set` overrides: a file becomes a checked `PipelineConfig`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schemas.availability import faults_of_unavailable_keys
from schemas.config import PipelineConfig, config_digest
from schemas.errors import ConfigError, Fault, close_match, shorten

__all__ = ["LoadedConfig", "json_schema", "load_config", "parse_config"]

_PATHS = (
    ("data", "source", "path"),
    ("data", "schema_path"),
    ("push", "serving", "base_path"),
    ("push", "edge", "base_path"),
    ("metadata", "sqlite", "path"),
)


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration and where it came from.

    Attributes:
        config: checked, with every path absolute.
        file: the absolute path of the file.
    """

    config: PipelineConfig
    file: Path

    @property
    def folder(self) -> Path:
        """The folder of the file: relative paths are relative to it, and the user's module may lie in it."""
        return self.file.parent

    @property
    def digest(self) -> str:
        """SHA-256 of the resolved configuration."""
        return config_digest(self.config)


def load_config(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> LoadedConfig:
    """Reads a YAML file, applies `key.path=value` overrides, and checks the whole.

    Args:
        path: of the file.
        overrides: as `--set` takes them: a dotted path (list indexes are numbers), `=`, and a YAML value.

    Returns:
        The configuration, its relative paths resolved against the file's folder.

    Raises:
        ConfigError: with every fault that was found.
    """
    file = Path(os.path.abspath(path))
    raw = _read(file)
    faults = list(_apply(raw, overrides))
    config = _validate(raw, str(path), faults)
    return LoadedConfig(_resolve_paths(config, file.parent), file)


def parse_config(raw: Mapping[str, Any], source: str = "configuration") -> PipelineConfig:
    """Checks a configuration that is held in memory; paths stay as they are.

    Raises:
        ConfigError: with every fault that was found.
    """
    return _validate(dict(raw), source, [])


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the configuration file, as it is published beside this module."""
    schema = PipelineConfig.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Satisfice pipeline"}


# --- reading ----------------------------------------------------------------------------------------------------------


Model = TypeVar("Model", bound=BaseModel)


class _NoDuplicates(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, which YAML would otherwise settle in silence."""


def _mapping(loader: _NoDuplicates, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} is given twice", key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_NoDuplicates.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        beside = sorted(p.name for p in file.parent.glob("*.y*ml")) if file.parent.is_dir() else []
        guess = close_match(file.name, beside)
        raise ConfigError(
            str(file), [Fault("", "there is no such file", "a YAML file", "", guess)]
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), [Fault("", f"cannot be read: {error}", "a readable UTF-8 file")]) from error
    try:
        raw = yaml.load(text, _NoDuplicates)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(str(file), [Fault("", f"is not valid YAML: {' '.join(str(error).split())}")]) from error
    if not isinstance(raw, dict):
        raise ConfigError(str(file), [Fault("", "is not a mapping of keys", "a mapping", shorten(raw))])
    return raw


def _apply(raw: dict[str, Any], overrides: Iterable[str]) -> Iterator[Fault]:
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            yield Fault(f"--set {override}", "is not an override", "KEY.PATH=VALUE")
            continue
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            yield Fault(f"--set {key}", f"the value is not valid YAML: {' '.join(str(error).split())}", "", text)
            continue
        problem = _put(raw, key.split("."), value)
        if problem:
            yield Fault(f"--set {key}", problem)


def _put(raw: dict[str, Any], parts: list[str], value: object) -> str | None:
    """Sets the value at the path, making mappings on the way; returns what is wrong, or None."""
    here: Any = raw
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(here, list):
            if not part.isdigit() or int(part) > len(here):
                return f"{'.'.join(parts[:depth])} is a list of {len(here)}, and {part!r} is no index into it"
            if int(part) == len(here):
                here.append(value if last else {})
            index: Any = int(part)
        elif isinstance(here, dict):
            index = part
        else:
            return f"{'.'.join(parts[:depth])} is a single value and has no key {part!r}"
        if last:
            here[index] = value
        else:
            if isinstance(here, dict) and here.get(index) is None:
                here[index] = {}
            here = here[index]
    return None


# --- checking ---------------------------------------------------------------------------------------------------------


def _validate(raw: dict[str, Any], source: str, faults: list[Fault]) -> PipelineConfig:
    try:
        # JSON mode: strict about scalars (no "12" for 12), and lists become tuples.
        config = PipelineConfig.model_validate_json(json.dumps(raw, default=str))
    except ValidationError as error:
        faults = faults + [_fault(detail) for detail in error.errors(include_url=False)]
        raise ConfigError(source, faults) from None
    except (TypeError, ValueError) as error:  # keys that JSON cannot hold
        raise ConfigError(source, [*faults, Fault("", f"holds what JSON cannot: {error}")]) from error
    faults = faults + faults_of_unavailable_keys(config)
    if faults:
        raise ConfigError(source, faults)
    return config


def _fault(detail: ErrorDetails) -> Fault:
    loc = tuple(part for part in detail["loc"] if not _is_union_branch(part))
    path = ".".join(str(part) for part in loc)
    kind = detail["type"]
    context = detail.get("ctx") or {}
    got = shorten(detail["input"])
    if kind == "extra_forbidden":
        return Fault(path, "unknown key", "", got, close_match(str(loc[-1]), _keys_at(loc[:-1])))
    if kind == "missing":
        return Fault(path, "is missing", "a value")
    if kind == "value_error":
        return Fault(path, str(context.get("error", detail["msg"])), "", got if not loc else "")
    if kind == "literal_error":
        words = str(context.get("expected", ""))
        known = [word.strip(" '") for word in words.replace(" or ", ",").split(",")]
        return Fault(path, "is not one of the known words", words, got, close_match(str(detail["input"]), known))
    return Fault(path, "is not valid", detail["msg"].removeprefix("Input should be ").lower(), got)


def _is_union_branch(part: int | str) -> bool:
    """Pydantic names the branch of a union in the location; a file has no such key."""
    return isinstance(part, str) and (part.startswith(("literal[", "constrained-", "function-")) or part in _BRANCHES)


_BRANCHES = frozenset({"int", "str", "float", "bool", "[key]"})


def _keys_at(loc: Sequence[int | str]) -> list[str]:
    """The keys that the section at a location knows."""
    model: type[BaseModel] | None = PipelineConfig
    for part in loc:
        if isinstance(part, int):
            continue
        model = _section(model, part) if model else None
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _section(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    for name, field in model.model_fields.items():
        if key in (name, field.alias):
            return next(_models_in(field.annotation), None)
    return None


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _resolve_paths(config: PipelineConfig, folder: Path) -> PipelineConfig:
    for keys in _PATHS:
        config = _with_absolute(config, keys, folder)
    return config


def _with_absolute(model: Model, keys: Sequence[str], folder: Path) -> Model:
    """A copy of the model whose path at `keys` is absolute; a URI and a section that is not there stay as they are."""
    key, *rest = keys
    value = getattr(model, key)
    if value is None:
        return model
    if rest:
        return model.model_copy(update={key: _with_absolute(value, rest, folder)})
    if "://" in value:
        return model
    return model.model_copy(update={key: os.path.abspath(folder / value)})
