"""The `CuratedSchema` node."""

from pathlib import Path

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.curated_schema import executor

__all__ = ["CuratedSchema"]


class CuratedSchemaSpec(component_spec.ComponentSpec):
    """Outputs and parameters of `CuratedSchema`."""

    PARAMETERS = {"schema_text": component_spec.ExecutionParameter(type=str)}
    INPUTS: dict[str, component_spec.ChannelParameter] = {}
    OUTPUTS = {"schema": component_spec.ChannelParameter(type=standard_artifacts.Schema)}


class CuratedSchema(base_component.BaseComponent):
    """Brings a schema file into the lineage.

    TFX's ImportSchemaGen has the file's *path* for a parameter, so that its cache never sees an edited schema; here the
    text itself is the parameter.
    """

    SPEC_CLASS = CuratedSchemaSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(self, schema_path: str) -> None:
        """Makes the node.

        Args:
            schema_path: of a text-format Schema proto; it is read when the pipeline is built.
        """
        text = Path(schema_path).read_text(encoding="utf-8")
        super().__init__(CuratedSchemaSpec(schema_text=text, schema=types.Channel(type=standard_artifacts.Schema)))
