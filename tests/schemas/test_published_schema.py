"""The JSON Schema that editors read: current, and in agreement with what the loader accepts."""

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given

from schemas.load import json_schema, load_config
from tests.strategies import configurations

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "schemas" / "satisfice.schema.json"

_TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "object": dict, "array": list}
_LIMITS = {
    "minimum": lambda value, limit: value >= limit,
    "maximum": lambda value, limit: value <= limit,
    "exclusiveMinimum": lambda value, limit: value > limit,
    "exclusiveMaximum": lambda value, limit: value < limit,
    "minLength": lambda value, limit: len(value) >= limit,
    "minItems": lambda value, limit: len(value) >= limit,
    "minProperties": lambda value, limit: len(value) >= limit,
    "pattern": lambda value, limit: re.search(limit, value) is not None,
    "enum": lambda value, limit: value in limit,
    "const": lambda value, limit: value == limit,
}
_NOTES = {"type", "title", "description", "default", "$defs", "$schema"}


def _is(value, name):
    if name == "null" or value is None:
        return name == "null" and value is None
    return isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


SCHEMA = json_schema()


def faults(value, schema=SCHEMA, path="$"):
    """What a validator would say: the part of JSON Schema that the published schema uses, and no other keyword."""
    if "type" in schema and not _is(value, schema["type"]):
        yield f"{path} is not of type {schema['type']}"
        return
    for keyword, limit in schema.items():
        match keyword:
            case "$ref":
                yield from faults(value, SCHEMA["$defs"][limit.removeprefix("#/$defs/")], path)
            case "anyOf":
                if all(list(faults(value, option, path)) for option in limit):
                    yield f"{path} fits no option"
            case "properties":
                for key in value.keys() & limit.keys():
                    yield from faults(value[key], limit[key], f"{path}.{key}")
            case "required":
                yield from (f"{path} lacks {key}" for key in limit if key not in value)
            case "additionalProperties":
                for key in value.keys() - schema.get("properties", {}).keys():
                    if limit is False:
                        yield f"{path} has the unknown key {key}"
                    elif limit is not True:
                        yield from faults(value[key], limit, f"{path}.{key}")
            case "propertyNames":
                for key in value:
                    yield from faults(key, limit, f"{path}.{key}")
            case "items":
                for index, entry in enumerate(value):
                    yield from faults(entry, limit, f"{path}.{index}")
            case _ if keyword in _LIMITS:
                if not _LIMITS[keyword](value, limit):
                    yield f"{path} is against {keyword} {limit}"
            case _:
                assert keyword in _NOTES, f"a keyword that this check does not know: {keyword}"


def test_published_schema_is_current(renew):
    """The file beside the models is what the models say; `pytest --renew` writes it anew."""
    text = json.dumps(SCHEMA, indent=2, ensure_ascii=False) + "\n"
    if renew:
        PUBLISHED.write_text(text, encoding="utf-8")
    assert PUBLISHED.read_text(encoding="utf-8") == text, "run: pytest tests/schemas --renew"


@pytest.mark.parametrize("name", ["satisfice.yaml", "tests/resources/full.yaml"])
def test_files_of_this_repository_fit(name):
    """What is shipped is what an editor with the schema accepts."""
    raw = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    assert list(faults(raw)) == []


def test_resolved_configuration_fits():
    """A configuration with every default spelled out is still one that the schema accepts."""
    assert list(faults(load_config(ROOT / "satisfice.yaml").config.canonical())) == []


@given(configurations())
def test_valid_configurations_fit(raw):
    """What the loader accepts, the schema accepts."""
    assert list(faults(raw)) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"nmae": "x"}, "$ has the unknown key nmae"),
        ({"name": "Taxi Trips"}, "$.name is against pattern ^[a-z][a-z0-9_-]{0,62}$"),
        ({"training": {"epochs": 0}}, "$.training.epochs is against minimum 1"),
        ({"training": {"epochs": True}}, "$.training.epochs is not of type integer"),
        ({"training": {"devices": "all"}}, "$.training.devices fits no option"),
        ({"data": None}, "$.data is not of type object"),
        ({"gates": {"satisfy": [{"metric": "acu"}]}}, "$.gates.satisfy.0.metric is against enum"),
        ({"push": {}}, "$.push lacks serving"),
    ],
)
def test_faults_are_seen_in_the_editor(change, fault):
    """Unknown keys, wrong types, words and limits are already refused by the schema."""
    raw = yaml.safe_load((ROOT / "satisfice.yaml").read_text(encoding="utf-8"))
    assert any(found.startswith(fault) for found in faults(raw | change))
