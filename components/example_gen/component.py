"""The TFX component: what it takes, what it gives, and which driver and executor do it."""

import json
from collections.abc import Mapping
from pathlib import Path

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.code import code_fingerprint
from components.example_gen import driver, executor
from components.example_gen.columns import ingest_schema
from schemas.config import SourceConfig
from schemas.errors import ConfigError, Fault

__all__ = ["ExampleGen", "ExampleGenSpec"]


class ExampleGenSpec(types.ComponentSpec):
    """The contract of `ExampleGen`."""

    PARAMETERS = {
        "source": ExecutionParameter(type=str),  # schemas.config.SourceConfig as JSON
        "splits": ExecutionParameter(type=str),  # {name: weight} as JSON, in order
        "schema": ExecutionParameter(type=str),  # what of the schema decides how rows are read, as text
        "code_fingerprint": ExecutionParameter(type=str),
        # filled by the driver
        "input_fingerprint": ExecutionParameter(type=str, optional=True),
        "span": ExecutionParameter(type=int, optional=True),
        "version": ExecutionParameter(type=int, optional=True),
    }
    INPUTS: dict[str, ChannelParameter] = {}
    OUTPUTS = {"examples": ChannelParameter(type=standard_artifacts.Examples)}


class ExampleGen(base_component.BaseComponent):
    """Reads the rows of CSV or Parquet files by columns, and splits them by a stable hash of their values.

    Output `examples`: uncompressed TFRecords of tf.Examples, one file per split; the same rows lie beside them as columns
    (`sidecar`), for components of our own. Custom properties: `input_fingerprint`,
    `span`, `payload_format`, `rows_in` and `rows_<split>`.
    """

    SPEC_CLASS = ExampleGenSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)
    DRIVER_CLASS = driver.Driver

    def __init__(self, source: SourceConfig, splits: Mapping[str, int], schema_path: str) -> None:
        """Take the sections `data.source` and `data.splits`, and the path of the curated schema (`.pbtxt`).

        The schema is read now, so that the cache key sees the types in it.

        Raises:
            ConfigError: the schema is missing or is none, or the source's format is not read here.
        """
        if source.format not in ("csv", "parquet"):
            raise ConfigError(
                "data.source", [Fault("format", "is not read by ExampleGen", "csv or parquet", source.format)]
            )
        super().__init__(
            ExampleGenSpec(
                source=source.model_dump_json(),
                splits=json.dumps(dict(splits)),
                schema=ingest_schema(_read_schema(schema_path)),
                code_fingerprint=code_fingerprint("components.example_gen", "schemas"),
                examples=types.Channel(type=standard_artifacts.Examples),
            )
        )


def _read_schema(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("data.schema", [Fault("", f"cannot be read ({error})", "a schema.pbtxt", path)]) from error
