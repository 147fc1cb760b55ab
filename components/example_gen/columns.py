"""The columns that a curated schema names, and the type of value that each one holds."""

from __future__ import annotations

import enum

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from schemas.errors import ConfigError, Fault

__all__ = ["ColumnType", "columns_of", "ingest_schema", "wider"]


class ColumnType(enum.Enum):
    """What one value of a column is, in the schema's own words."""

    INT = "INT"
    FLOAT = "FLOAT"
    BYTES = "BYTES"

    @property
    def expected(self) -> str:
        """The type as an error message names it."""
        return {"INT": "a whole number (INT)", "FLOAT": "a number (FLOAT)", "BYTES": "text (BYTES)"}[self.value]


def wider(one: ColumnType | None, other: ColumnType | None) -> ColumnType | None:
    """The narrower of the types that holds the values of both; None is a column without values.

    >>> wider(ColumnType.INT, ColumnType.FLOAT).value
    'FLOAT'
    """
    order = [None, ColumnType.INT, ColumnType.FLOAT, ColumnType.BYTES]
    return max(one, other, key=order.index)


# TFDV and TFX look at features of these stages only; the others (PLANNED, ALPHA, DEPRECATED, ...) need not be there.
_IN_USE = (schema_pb2.UNKNOWN_STAGE, schema_pb2.BETA, schema_pb2.PRODUCTION)


def columns_of(schema: str) -> dict[str, ColumnType]:
    """The columns that each file must have, in the schema's order.

    Args:
        schema: a `tensorflow_metadata.proto.v0.Schema` in text format.

    Raises:
        ConfigError: the text is no schema, or a feature has no type or one that a flat file cannot hold. Names all such
            features.
    """
    parsed = _parse(schema)
    faults = [
        Fault(feature.name, "cannot be read from a flat file", "INT, FLOAT or BYTES", _type_name(feature))
        for feature in parsed.feature
        if feature.lifecycle_stage in _IN_USE and _type_name(feature) not in ColumnType.__members__
    ]
    if faults:
        raise ConfigError("the data schema", faults)
    return {
        feature.name: ColumnType[_type_name(feature)]
        for feature in parsed.feature
        if feature.lifecycle_stage in _IN_USE
    }


def ingest_schema(schema: str) -> str:
    """The schema reduced to what decides how rows are read: names, types and stages, sorted by name.

    Two schemas that differ in domains, presence or comments only are equal after it, so that curating them does not
    read the data again.

    Raises:
        ConfigError: as `columns_of`.
    """
    columns_of(schema)
    reduced = schema_pb2.Schema()
    for feature in sorted(_parse(schema).feature, key=lambda feature: feature.name):
        kept = reduced.feature.add(name=feature.name, type=feature.type)
        if feature.lifecycle_stage != schema_pb2.UNKNOWN_STAGE:
            kept.lifecycle_stage = feature.lifecycle_stage
    return str(text_format.MessageToString(reduced))


def _parse(schema: str) -> schema_pb2.Schema:
    try:
        parsed: schema_pb2.Schema = text_format.Parse(schema, schema_pb2.Schema())
    except text_format.ParseError as error:
        problem = f"is no schema in text format: {error}"
        raise ConfigError("the data schema", [Fault("", problem, "tensorflow_metadata.proto.v0.Schema")]) from error
    if not parsed.feature:
        raise ConfigError("the data schema", [Fault("feature", "names no feature", "one feature per column")])
    return parsed


def _type_name(feature: schema_pb2.Feature) -> str:
    return str(schema_pb2.FeatureType.Name(feature.type))
