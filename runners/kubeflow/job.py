"""What a container is told: a job of one node, packed into one argument. The same job gives the same text."""

from __future__ import annotations

import base64
import binascii
import gzip
import zlib
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.config import MetadataConfig
from schemas.errors import SatisficeError

__all__ = ["BeginJob", "NodeJob", "SettleJob", "Source", "TellJob", "pack", "unpack"]


class _Job(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Job):
    """What a pipeline was compiled from.

    Attributes:
        config: the configuration as the containers have it, canonical JSON.
        file: of the configuration, where it would be in the containers.
        schema_text: the data schema.
        fingerprints: of `preprocessing_fn` and `build_model`.
        code: digest of our own sources.
        libraries: name to version of the libraries on which results depend.
    """

    config: str
    file: str
    schema_text: str
    fingerprints: tuple[str, str]
    code: str
    libraries: dict[str, str]


class BeginJob(_Job):
    """To check that a run can be made here, and to record that it has begun."""

    source: Source
    root: str


class NodeJob(_Job):
    """To run one node.

    Attributes:
        node: its id.
        folder: of the configuration, for the user's module.
        metadata: where ML Metadata lives.
        ir: a serialized Pipeline proto of this node alone, in base64, without a connection.
        takes_values: whether the pipeline has parameters, so that the run's own graph is looked for.
    """

    node: str
    folder: str
    metadata: MetadataConfig
    ir: str
    takes_values: bool = False


class SettleJob(_Job):
    """To approve or reject what an earlier run left waiting.

    Attributes:
        pipeline: its name.
        metadata: where ML Metadata lives.
        verb: what a person decided.
        run: the run that waits: its id, the beginning of it, or `latest`.
        by, reason: who decided, and why.
    """

    pipeline: str
    metadata: MetadataConfig
    verb: Literal["approve", "reject"]
    run: str
    by: str
    reason: str


class TellJob(_Job):
    """To tell what was decided, and at the end of a run to record how it ended.

    Attributes:
        pipeline: its name.
        metadata: where ML Metadata lives.
        root: pipeline root.
        nodes: id of each node to the ids of those that it needs, in order.
    """

    pipeline: str
    metadata: MetadataConfig
    root: str
    nodes: dict[str, tuple[str, ...]] = {}


_AnyJob = TypeVar("_AnyJob", bound=_Job)


def pack(job: BaseModel) -> str:
    """A job as text of letters, digits, `+`, `/` and `=`."""
    return base64.b64encode(gzip.compress(job.model_dump_json(by_alias=True).encode(), mtime=0)).decode()


def unpack(kind: type[_AnyJob], text: str) -> _AnyJob:
    """The job that `pack` made a text of.

    Raises:
        SatisficeError: it is none, or was made by another version.
    """
    try:
        return kind.model_validate_json(gzip.decompress(base64.b64decode(text, validate=True)))
    except (binascii.Error, OSError, EOFError, zlib.error, ValidationError) as error:
        raise SatisficeError(
            "--job",
            f"is no {kind.__name__} of this version",
            got=str(error),
            remedy="Compile the pipeline with the version that the image holds: satisfice compile",
        ) from error
