"""The only reader of configuration files and `--set` overrides: a file becomes a checked `PipelineConfig`."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schemas.availability import faults_of_unavailable_keys, values_at
from schemas.config import PipelineConfig, config_digest
from schemas.errors import ConfigError, Fault, close_match, shorten, spell

__all__ = ["LoadedConfig", "as_yaml", "json_schema", "load_config", "overridden", "parse_config", "read_raw"]


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
        overrides: as `--set` takes them: a dotted path (list indexes are numbers), `=`, and a YAML value. No value
            is null; sections on the way that are not there are made; an index one past the end appends.

    Returns:
        The configuration. Its paths are absolute: `~` is the user's home, and a relative path is relative to the
        file's folder.

    Raises:
        ConfigError: with every fault that was found.
    """
    file = Path(os.path.abspath(path))
    raw: Any = _read(file, str(path))
    faults: list[Fault] = []
    for override in overrides:
        raw = _override(raw, override, faults)
    return LoadedConfig(_check(raw, str(path), faults, file.parent), file)


def read_raw(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What a file says with its overrides, unchecked; empty where it cannot be read. For a check of single keys."""
    try:
        raw: Any = _read(Path(os.path.abspath(path)), str(path))
        for override in overrides:
            raw = _override(raw, override, [])
    except ConfigError:
        return {}
    return raw if isinstance(raw, dict) else {}


def overridden(config: PipelineConfig, overrides: Sequence[str], source: str) -> PipelineConfig:
    """A configuration with overrides as `load_config` takes them; its paths stay as they are.

    Raises:
        ConfigError: with every fault that was found.
    """
    faults: list[Fault] = []
    raw: Any = config.canonical()
    for override in overrides:
        raw = _override(raw, override, faults)
    return _check(raw, source, faults)


def parse_config(raw: Mapping[str, Any], source: str = "configuration") -> PipelineConfig:
    """Checks a configuration that is held in memory; paths stay as they are.

    Raises:
        ConfigError: with every fault that was found.
    """
    return _check(raw, source, [])


def as_yaml(config: PipelineConfig | Mapping[str, Any], *, one_line: bool = False) -> str:
    """A configuration, or a part of one, as YAML that `load_config` reads back to the same values."""
    raw = config.canonical() if isinstance(config, PipelineConfig) else dict(config)
    if one_line:
        text = yaml.dump(
            raw, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=True, width=10_000
        )
        return text.strip()
    return yaml.dump(raw, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the configuration file, as it is published beside this module."""
    schema = PipelineConfig.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Satisfice pipeline"}


# --- reading ----------------------------------------------------------------------------------------------------------

_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_FLOAT = "tag:yaml.org,2002:float"
_MERGE = "tag:yaml.org,2002:merge"
_EXPONENT = re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]{1,3}$")


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, which YAML would settle in silence.

    Two habits of PyYAML are left out that would change a value in silence: `1e-3` is a number and not text, and a date
    is text as it is written.
    """

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Whole at once: so an alias inside what it stands for is refused, and not built as an endless value."""
        return super().construct_object(node, deep=True)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As the base class does it, with every key scalar and there once."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            key = self.construct_object(key_node)
            if key in seen:
                problem = f"the key {key!r} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Puts text in quotes that `_Loader` would read otherwise: as a number, or with another kind of space."""


def _quoted(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _quoted)
for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(_FLOAT, _EXPONENT, list("-+.0123456789"))


def _read(file: Path, source: str) -> dict[Any, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        beside = [path.name for path in file.parent.glob("*.y*ml")]
        fault = Fault("", "there is no such file", "a YAML file", "", close_match(file.name, beside))
        raise ConfigError(source, [fault]) from None
    except OSError as error:
        raise ConfigError(source, [Fault("", f"cannot be read: {error.strerror}", "a YAML file")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(source, [Fault("", f"is not UTF-8 text: {error.reason}", "a YAML file")]) from error
    try:
        raw = _parse(text)
    except ValueError as error:
        raise ConfigError(source, [Fault("", str(error))]) from error
    if not isinstance(raw, dict):
        raise ConfigError(source, [Fault("", "is not a configuration", "a mapping of keys to values", spell(raw))])
    return raw


_ADVICE = {
    "'\\t' that cannot start": " (a tab cannot indent: use spaces)",
    "but got '{'": " (text with braces must be in quotes)",
    "scanning an alias": " (text that starts with an asterisk must be in quotes)",
}


def _parse(text: str) -> Any:
    """The value that a YAML text holds.

    Raises:
        ValueError: that says what is wrong with the text, and where.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        words = ", ".join(part for part in (error.context, error.problem) if part)
        advice = next((advice for sign, advice in _ADVICE.items() if sign in words), "")
        raise ValueError(f"is not valid YAML{where}: {words}{advice}") from error
    except yaml.reader.ReaderError as error:
        raise ValueError(f"is not valid YAML at character {error.position}: {error.reason}") from error
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # PyYAML's constructors raise these for a value that does not fit its tag (`!!int x`) and for absurd sizes.
        raise ValueError(f"is not valid YAML: {shorten(str(error))}") from error


# --- overrides --------------------------------------------------------------------------------------------------------


def _override(raw: Any, override: str, faults: list[Fault]) -> Any:
    """The configuration with one override applied; where that cannot be, as it was, and one more fault."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        faults.append(Fault(f"--set {override}", "is not an override", "KEY.PATH=VALUE"))
        return raw
    name = f"--set {'.'.join(parts)}"
    try:
        value = _parse(text)
    except ValueError as error:
        faults.append(Fault(name, f"the value {error}", "a YAML value", text))
        return raw
    try:
        return _put(raw, parts, value)
    except _NoPlaceError as error:
        faults.append(Fault(name, str(error), error.expected))
        return raw


class _NoPlaceError(Exception):
    """A path leads to no place where a value could be put."""

    def __init__(self, problem: str, expected: str = "") -> None:
        super().__init__(problem)
        self.expected = expected


def _put(here: Any, parts: Sequence[str], value: object, done: str = "") -> Any:
    """A copy of `here` with the value at the path; mappings on the way are made where nothing is."""
    if not parts:
        return value
    part, *rest = parts
    path = f"{done}.{part}".removeprefix(".")
    if here is None or isinstance(here, dict):
        return {**(here or {}), part: _put((here or {}).get(part), rest, value, path)}
    if not isinstance(here, list):
        raise _NoPlaceError(f"{done} is a single value, {spell(here)}, and has no key {part!r}")
    if not re.fullmatch("[0-9]{1,9}", part) or int(part) > len(here):
        entries = f"0 to {len(here) - 1} for an entry, or " if here else ""
        raise _NoPlaceError(f"{done} is a list, and {part!r} is no index into it", f"{entries}{len(here)} to append")
    index = int(part)
    old = here[index] if index < len(here) else None
    return [*here[:index], _put(old, rest, value, path), *here[index + 1 :]]


# --- checking ---------------------------------------------------------------------------------------------------------


def _check(raw: Mapping[Any, Any], source: str, faults: list[Fault], folder: Path | None = None) -> PipelineConfig:
    """All checks, so that their faults stand in one list. Paths are made absolute where the file's folder is given."""
    found = list(faults)
    plain = _plain(raw, "", found)
    known = {fault.path for fault in found}
    config: PipelineConfig | None = None
    try:
        # JSON mode: strict about scalars (no "12" for 12), and lists become tuples.
        config = PipelineConfig.model_validate_json(json.dumps(plain))
    except ValidationError as error:
        found += [fault for fault in map(_fault, error.errors(include_url=False)) if fault.path not in known]
    spelled = config.canonical() if config else plain
    absolute = _with_absolute_paths(spelled, folder, found) if folder else spelled
    known = {fault.path for fault in found}
    found += [fault for fault in faults_of_unavailable_keys(spelled) if fault.path not in known]
    if config is None or found:
        raise ConfigError(source, found)
    return PipelineConfig.model_validate_json(json.dumps(absolute))


def _plain(value: Any, path: str, faults: list[Fault]) -> Any:
    """The value as JSON holds it, with text for what JSON cannot hold, and one fault for each such thing."""
    if isinstance(value, Mapping):
        return {_key(key, path, faults): _plain(part, f"{path}.{key}", faults) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, f"{path}.{index}", faults) for index, part in enumerate(value)]
    expected = ""
    if isinstance(value, float) and not math.isfinite(value):
        expected = "a finite number"
    elif isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        expected, value = "text in Unicode", repr(value)
    elif not (value is None or isinstance(value, str | bool | int | float)):
        expected, value = "text, a number, true, false, null, a list or a mapping", str(value)
    if expected:
        faults.append(Fault(path.removeprefix("."), "is not valid", expected, spell(value)))
    return value


def _key(key: object, path: str, faults: list[Fault]) -> str:
    if not isinstance(key, str):
        faults.append(Fault(f"{path}.{key}".removeprefix("."), "the key is not text", "the key in quotes", spell(key)))
    return str(key)


# Where each path stands, whether it is a folder, and what is expected of it.
_PATHS = (
    ("data.source.path", False, "a file, or a pattern such as 'data/*.csv'"),
    ("data.schema", False, "a file"),
    ("push.serving.base_path", True, "a directory, or a path where nothing is"),
    ("push.edge.base_path", True, "a directory, or a path where nothing is"),
    ("serving.tls.key", False, "a PEM file"),
    ("serving.tls.certificate", False, "a PEM file"),
    ("serving.tls.authority", False, "a PEM file"),
    ("serving.tls.client_authority", False, "a PEM file"),
    ("push.serving.confirm.instances.*.ca", False, "a certificate in PEM format"),
    ("metadata.sqlite.path", False, "a file, or a path where nothing is"),
)


def _with_absolute_paths(raw: Any, folder: Path, faults: list[Fault]) -> Any:
    """A copy with `~` and relative paths made absolute; a URI stays as it is."""
    for dotted, is_folder, expected in _PATHS:
        for path, value in list(values_at(raw, dotted.split("."))):
            if not isinstance(value, str) or not value or "://" in value:
                continue
            home = os.path.expanduser(value)
            absolute = os.path.abspath(folder / home)
            raw = _put(raw, path.split("."), absolute)
            if home.startswith("~"):
                faults.append(Fault(path, "names a user who has no home here", expected, spell(value)))
            elif is_folder and os.path.isfile(absolute):
                faults.append(Fault(path, "is a file", expected, spell(value)))
            elif not is_folder and os.path.isdir(absolute):
                faults.append(Fault(path, "is a directory", expected, spell(value)))
    return raw


# --- pydantic's findings in words -------------------------------------------------------------------------------------

_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a mapping of keys to values",
    "float_type": "a number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "int_type": "a whole number",
    "json_invalid": "lists and mappings that are nested less deeply",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "model_type": "a mapping of keys to values",
    "string_too_short": "text that is not empty",
    "string_type": "text",
    "too_short": "at least {min_length} in the list",
    "tuple_type": "a list",
}


def _fault(detail: ErrorDetails) -> Fault:
    loc, kind, value, context = detail["loc"], detail["type"], detail["input"], detail.get("ctx") or {}
    path, got = _dotted(loc), spell(value)
    if loc[-2:] == (value, "[key]"):  # pydantic's way to name a key of a mapping
        known = _words(context)
        return Fault(
            _dotted(loc[:-1]), "unknown key", f"one of {', '.join(known)}", got, close_match(str(value), known)
        )
    if kind == "extra_forbidden":
        known = _keys_at(loc[:-1])
        return Fault(path, "unknown key", f"one of {', '.join(known)}", got, close_match(str(loc[-1]), known))
    if kind == "missing":
        keys = _keys_at(loc)
        return Fault(path, "is missing", f"a mapping with the keys {', '.join(keys)}" if keys else "a value")
    if kind == "refused":
        return Fault(path, context["problem"], context["expected"], got, context["match"])
    if kind == "literal_error":
        words = str(context["expected"])
        return Fault(path, "is not one of the known words", words, got, close_match(str(value), _words(context)))
    expected = _EXPECTED[kind].format(**context) if kind in _EXPECTED else detail["msg"]
    in_quotes = ", in quotes" if kind == "string_type" and isinstance(value, int | float) else ""
    return Fault(path, "is not valid", expected + in_quotes, got)


def _dotted(loc: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in loc)


def _words(context: Mapping[str, Any]) -> list[str]:
    """The known words in pydantic's listing of them: `'a', 'b' or 'c'`."""
    return re.findall("'([^']*)'", str(context["expected"]))


def _keys_at(loc: Sequence[int | str]) -> list[str]:
    """The keys that the section at a location knows; none where no section is, or a mapping whose keys are the user's."""
    model: type[BaseModel] | None = PipelineConfig
    own_key = False
    for part in loc:
        if own_key:
            own_key = False
        elif model and isinstance(part, str):
            model, own_key = _section(model, part)
    return [field.alias or name for name, field in model.model_fields.items()] if model and not own_key else []


def _section(model: type[BaseModel], key: str) -> tuple[type[BaseModel] | None, bool]:
    """The section below a key, and whether it stands there under keys of the user's."""
    for name, field in model.model_fields.items():
        if key == (field.alias or name):
            section = next(_models_in(field.annotation), None)
            return section, section is not None and get_origin(field.annotation) is dict
    return None, False


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
