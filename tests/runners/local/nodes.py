"""Nodes that take no time, for graphs whose running is looked at. The decorator reads the raw annotations."""

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.experimental.simple_artifacts import File

from schemas.errors import DataError


@component
def Source(out: OutputArtifact[File]):  # noqa: N802 - the name is the node's
    """Puts out something."""
    print("noise of a node")


@component
def Step(given: InputArtifact[File], out: OutputArtifact[File]):  # noqa: N802 - the name is the node's
    """Passes on."""


@component
def Join(one: InputArtifact[File], other: InputArtifact[File], out: OutputArtifact[File]):  # noqa: N802 - as above
    """Needs two."""


@component
def Broken(given: InputArtifact[File], out: OutputArtifact[File], ours: Parameter[int] = 0):  # noqa: N802 - the name is the node's
    """Fails, by an error of ours or by a foreign one."""
    if ours:
        raise DataError("data.csv", "is upside down", remedy="Turn it.")
    raise KeyError("lost")
