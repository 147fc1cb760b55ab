"""Checks a configuration against the world before a run: files, columns, slices, module, and places to write.

Everything that can be known before the first node runs is said here, all at once, and nothing has been touched.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.data_gate.limits import faults_of
from components.example_gen.columns import columns_of
from components.example_gen.read import column_names, has_rows
from components.example_gen.spans import find_spans, window_of
from components.trainer.kubernetes import faults_of_volume
from pipeline.user_module import UserModule, load_user_module
from schemas.config import PipelineConfig
from schemas.errors import ConfigError, DataError, Fault, UserModuleError, close_match
from schemas.load import LoadedConfig
from schemas.metrics import PROFILED
from schemas.source_path import uses_spans
from serving.store import is_remote

__all__ = ["check", "check_beside", "read_schema"]


def check(
    loaded: LoadedConfig,
    root: Path | None,
    find: Callable[[str, Path], UserModule] = load_user_module,
    beside: Iterable[Fault] = (),
) -> UserModule:
    """Checks all that can be checked before a run.

    Args:
        loaded: the configuration.
        root: the pipeline root of the run; None where it runs on another machine, which has data and places of its own.
        find: finds the user's module: `load_user_module` imports and checks it, `locate_user_module` looks at its file.
        beside: faults that whoever runs it has found, so that all come in one list.

    Returns:
        The user's module.

    Raises:
        ConfigError: with every fault that was found.
    """
    config = loaded.config
    faults = [*_data_faults(config, here=root is not None), *(_place_faults(config, root) if root else ()), *beside]
    module = None
    try:
        module = find(config.model.module, loaded.folder)
    except UserModuleError as error:
        faults += error.faults
    if faults or module is None:
        raise ConfigError(str(loaded.file), faults)
    return module


def check_beside(raw: Mapping[str, Any], folder: Path) -> list[Fault]:
    """Faults of the data, the schema and the module that a faulty configuration names, so that all come in one list.

    Args:
        raw: what the file says, unchecked; a key that is missing or is no text is passed over, for it has its fault.
        folder: of the file.
    """
    faults: list[Fault] = []
    data, model = _section(raw, "data"), _section(raw, "model")
    pattern, schema, module = _section(data, "source").get("path"), data.get("schema"), model.get("module")
    if isinstance(pattern, str):
        faults += _faults_beside(str(folder / Path(pattern).expanduser()))
    if isinstance(schema, str):
        try:
            read_schema(str(folder / Path(schema).expanduser()))
        except ConfigError as error:
            faults += error.faults
    if isinstance(module, str) and module:
        try:
            load_user_module(module, folder)
        except UserModuleError as error:
            faults += error.faults
    return faults


def _faults_beside(pattern: str) -> Iterator[Fault]:
    """Faults of the files of a pattern, of which a run reads who knows which."""
    if not uses_spans(pattern):
        yield from _file_faults(pattern, _files(pattern))
        return
    try:
        spans = find_spans(pattern)
    except DataError as error:
        yield _fault_of(error)
    except ValueError:  # the pattern is none, which is a fault of the configuration itself
        return
    else:
        yield from _file_faults(pattern, [str(file) for file in spans[-1].files])


def _section(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = raw.get(key)
    return found if isinstance(found, Mapping) else {}


def read_schema(path: str) -> Any:
    """Reads a data schema.

    Returns:
        A `tensorflow_metadata` Schema proto.

    Raises:
        ConfigError: where there is no such file, or it is no schema.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        schema = text_format.Parse(text, schema_pb2.Schema())
    except FileNotFoundError:
        raise ConfigError(path, [Fault("data.schema", "there is no such file", "a schema.pbtxt", path)]) from None
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        problem = f"is not a data schema: {' '.join(str(error).split())}"
        raise ConfigError(path, [Fault("data.schema", problem, "a text-format Schema proto", path)]) from error
    if not schema.feature:
        raise ConfigError(path, [Fault("data.schema", "describes no feature", "at least one feature", path)])
    return schema


def _data_faults(config: PipelineConfig, *, here: bool) -> Iterator[Fault]:
    if here:
        yield from _source_faults(config)
    try:
        schema = read_schema(config.data.schema_path)
    except ConfigError as error:
        yield from error.faults
        return
    yield from _name_faults(config, [feature.name for feature in schema.feature])
    try:
        columns = columns_of(text_format.MessageToString(schema))
    except ConfigError as error:
        for fault in error.faults:
            yield Fault("data.schema", f"feature {fault.path!r} {fault.problem}", fault.expected, fault.got)
        return
    yield from faults_of(config.data.validate_, {name: kind.value for name, kind in columns.items()})
    if here:
        yield from _column_faults(config, columns)


def _name_faults(config: PipelineConfig, names: Collection[str]) -> Iterator[Fault]:
    """What the configuration names as a feature and the schema does not hold."""
    for index, gate in enumerate(config.gates.satisfy):
        of_rows = gate.metric not in PROFILED or PROFILED[gate.metric].slices == "rows"
        for key in gate.slice_by if of_rows else ():
            if key not in names:
                yield Fault(
                    f"gates.satisfy.{index}.slice_by",
                    "is not a feature of the data schema",
                    f"one of {', '.join(names)}",
                    key,
                    close_match(key, names),
                )


def _source_faults(config: PipelineConfig) -> Iterator[Fault]:
    try:
        files = _source_files(config)
    except DataError as error:
        yield _fault_of(error)
        return
    yield from _file_faults(config.data.source.path, files)


def _fault_of(error: DataError) -> Fault:
    return Fault("data.source.path", f"{error.thing} {error.problem}", error.expected, error.got)


def _file_faults(pattern: str, files: Sequence[str]) -> Iterator[Fault]:
    if not files:
        folder = Path(pattern).parent
        beside = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        guess = close_match(Path(pattern).name, beside)
        problem = "no file matches" if folder.is_dir() else f"there is no folder {folder}"
        yield Fault("data.source.path", problem, "at least one file", pattern, guess)
    for file in files:
        if not os.access(file, os.R_OK):
            yield Fault("data.source.path", "a file cannot be read", "a readable file", file)
        elif os.path.getsize(file) == 0:
            yield Fault("data.source.path", "a file is empty", "a header line and rows", file)


def _column_faults(config: PipelineConfig, names: Iterable[str]) -> Iterator[Fault]:
    """Columns of the schema that a file lacks, as ingestion would find them."""
    source = config.data.source
    try:
        files = _source_files(config)
    except DataError:  # told already
        return
    for file in files:
        if os.path.getsize(file) == 0 or not os.access(file, os.R_OK):
            continue
        try:
            found = column_names(Path(file), source.format)
            filled = has_rows(Path(file), source.format)
        except DataError as error:
            yield _fault_of(error)
            continue
        if not filled:
            yield Fault("data.source.path", "a file has no rows", "rows below its header", file)
        # Which features a TFRecord file has is known once all its records are read.
        for name in names if source.format != "tfrecord" else ():
            if name not in found:
                problem = f"{file} lacks the column {name!r} of the data schema"
                yield Fault("data.source.path", problem, "", "", close_match(name, found))


def _source_files(config: PipelineConfig) -> list[str]:
    """The files that a run would read.

    Raises:
        DataError: the spans cannot be told.
    """
    window = window_of(config.data.source)
    return _files(config.data.source.path) if window is None else [str(file) for file in window.files]


def _files(pattern: str) -> list[str]:
    return [file for file in sorted(glob.glob(pattern, recursive=True)) if os.path.isfile(file)]


def _place_faults(config: PipelineConfig, root: Path) -> Iterator[Fault]:
    pushes = {"push.serving.base_path": config.push.serving.base_path}
    if config.push.edge:
        pushes["push.edge.base_path"] = config.push.edge.base_path
        if len({_spelled_once(base_path) for base_path in pushes.values()}) == 1:
            same = "is push.serving.base_path: servers would take files for devices for versions of their own"
            yield Fault("push.edge.base_path", same, "another place", config.push.edge.base_path)
    places = [(key, Path(base_path)) for key, base_path in pushes.items() if not is_remote(base_path)]
    places.append(("(pipeline root)", root))
    if config.metadata.sqlite:
        places.append(("metadata.sqlite.path", Path(config.metadata.sqlite.path).parent))
    for key, folder in places:
        problem = _why_not_writable(folder)
        if problem:
            yield Fault(key, problem, "a folder that can be written to, or made", str(folder))
    if config.training.cluster == "kubernetes" and config.training.kubernetes:
        yield from faults_of_volume(config.training.kubernetes.volume, "pipeline root", str(root.absolute()))


def _spelled_once(base_path: str) -> str:
    return base_path.rstrip("/") if is_remote(base_path) else os.path.realpath(base_path)


def _why_not_writable(folder: Path) -> str | None:
    """What keeps a folder from being written to or made, or None. Nothing is made."""
    for place in (folder, *folder.parents):
        if place.is_dir():
            return None if os.access(place, os.W_OK | os.X_OK) else f"{place} cannot be written to"
        if place.exists() or place.is_symlink():
            return f"{place} is not a folder"
    return f"{folder} has no parent that exists"
