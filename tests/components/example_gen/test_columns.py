"""The schema says which columns a file must have, and of which type."""

import pytest

from components.example_gen.columns import ColumnType, columns_of, ingest_schema
from schemas.errors import ConfigError

SCHEMA = """
feature { name: "fare" type: FLOAT presence { min_fraction: 1 } }  # a comment
feature { name: "company" type: BYTES }
feature { name: "hour" type: INT int_domain { min: 0 max: 23 } }
feature { name: "old" type: INT lifecycle_stage: DEPRECATED }
feature { name: "new" type: INT lifecycle_stage: BETA }
"""


def test_columns_are_the_features_in_use():
    """In the schema's order; what is deprecated or only planned need not be in a file."""
    assert columns_of(SCHEMA) == {
        "fare": ColumnType.FLOAT,
        "company": ColumnType.BYTES,
        "hour": ColumnType.INT,
        "new": ColumnType.INT,
    }


def test_the_reduced_schema_reads_the_same_columns():
    """Curating domains, presence, comments or the order changes nothing of it; a type does."""
    reduced = ingest_schema(SCHEMA)
    assert columns_of(reduced) == columns_of(SCHEMA)
    assert ingest_schema(SCHEMA.replace("max: 23", "max: 24")) == reduced
    assert ingest_schema("\n".join(reversed(SCHEMA.splitlines()))) == reduced
    assert ingest_schema(SCHEMA.replace("FLOAT", "INT")) != reduced
    assert ingest_schema(reduced) == reduced


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("nonsense {", "is no schema in text format"),
        ("", "names no feature"),
        ('feature { name: "a" }', "a: cannot be read from a flat file; expected INT, FLOAT or BYTES; got TYPE_UNKNOWN"),
        ('feature { name: "s" type: STRUCT }', "s: cannot be read from a flat file"),
    ],
)
def test_a_schema_that_names_no_flat_columns_is_refused(schema, message):
    """The feature is named."""
    with pytest.raises(ConfigError, match="the data schema") as caught:
        ingest_schema(schema)
    assert message in str(caught.value)
