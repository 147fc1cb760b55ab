"""The TFX component: what it takes, what it gives, and which driver and executor do it."""

import json
from collections.abc import Mapping
from pathlib import Path

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.example_gen import driver, executor
from components.example_gen.columns import ingest_schema
from components.example_gen.fingerprint import code_of_ingest
from components.example_gen.read import FORMATS
from schemas.config import SourceConfig
from schemas.errors import ConfigError, Fault

__all__ = ["ExampleGen", "ExampleGenSpec"]


class ExampleGenSpec(types.ComponentSpec):
    """The contract of `ExampleGen`."""

    PARAMETERS = {
        "source": ExecutionParameter(type=str),  # schemas.config.SourceConfig as JSON
        "splits": ExecutionParameter(type=str),  # {name: weight} as JSON, in order
        "schema": ExecutionParameter(type=str),  # what of the schema decides how rows are read, as text
        "on_beam": ExecutionParameter(type=int),  # 1: as a Beam transform; 0: in the executor's own process
        "code_fingerprint": ExecutionParameter(type=str),
        # filled by the driver
        "input_fingerprint": ExecutionParameter(type=str, optional=True),
        "span": ExecutionParameter(type=int, optional=True),
        "version": ExecutionParameter(type=int, optional=True),
        "spans": ExecutionParameter(type=str, optional=True),
        "missing_spans": ExecutionParameter(type=str, optional=True),
        "short_spans": ExecutionParameter(type=int, optional=True),
    }
    INPUTS: dict[str, ChannelParameter] = {}
    OUTPUTS = {"examples": ChannelParameter(type=standard_artifacts.Examples)}


class ExampleGen(base_beam_component.BaseBeamComponent):
    """Reads the rows of files by columns, and splits them by a stable hash of their values.

    Output `examples`: uncompressed TFRecords of tf.Examples, a file per split and source file (`shards`); the same rows lie
    beside them as columns (`sidecar`), for components of our own. Custom properties: `input_fingerprint`, `span`,
    `payload_format`, `rows_in`, `rows_<split>`, and `rows_read`: those that were not taken over from an earlier artifact,
    as the rows of a file that has not changed are. Of a path with spans also the artifact's own `span` and `version`, those
    of the newest, `spans`, `missing_spans` and `spans_read`, and `spans.json` with the rows of each (`record`). A Beam component for the
    engines on which it can run.
    """

    SPEC_CLASS = ExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)
    DRIVER_CLASS = driver.Driver

    def __init__(
        self, source: SourceConfig, splits: Mapping[str, int], schema_path: str, *, on_beam: bool = False
    ) -> None:
        """Take the sections `data.source` and `data.splits`, and the path of the curated schema (`.pbtxt`).

        The schema is read now, so that the cache key sees the types in it. With `on_beam` the files are read on the
        pipeline's Beam engine, else by the executor itself.

        Raises:
            ConfigError: the schema is missing or is none, or the source's format is not read here.
        """
        if source.format not in FORMATS:
            expected = " or ".join(FORMATS)
            raise ConfigError("data.source", [Fault("format", "is not read by ExampleGen", expected, source.format)])
        super().__init__(
            ExampleGenSpec(
                source=source.model_dump_json(),
                splits=json.dumps(dict(splits)),
                schema=ingest_schema(_read_schema(schema_path)),
                on_beam=int(on_beam),
                code_fingerprint=code_of_ingest(),
                examples=types.Channel(type=standard_artifacts.Examples),
            )
        )


def _read_schema(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("data.schema", [Fault("", f"cannot be read ({error})", "a schema.pbtxt", path)]) from error
