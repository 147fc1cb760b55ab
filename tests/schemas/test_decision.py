"""The records of a run: written as JSON, read back as they were."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.decision import Anomaly, Approval, DataDecision, Decision, Figure, Figures, GateResult, PushResult

RECORDS = [Anomaly, Approval, DataDecision, Decision, Figure, Figures, GateResult, PushResult]


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
@given(st.data())
def test_records_come_back(kind, data):
    """Every record is read back from its JSON as it was written."""
    record = data.draw(st.from_type(kind))
    read = kind.model_validate_json(record.model_dump_json())
    assert read.model_dump_json() == record.model_dump_json()


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_figures_that_are_no_finite_number(value):
    """An odds ratio may be infinite: the JSON is JSON all the same, for every reader, and comes back as the number."""
    figure = Figure(metric="diagnostic_odds_ratio", value=value, digest="d")
    text = figure.model_dump_json()

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    json.loads(text, parse_constant=refuse)
    read = Figure.model_validate_json(text).value
    assert read == value or (math.isnan(read) and math.isnan(value))


@pytest.mark.parametrize(
    ("verdict", "blocks"),
    [
        ("pass", False),
        ("fail", True),
        ("inconclusive", True),
        ("not_measured", True),
        ("no_champion", False),
        ("too_few_examples", False),
        ("already_served", False),
    ],
)
def test_blocks(verdict, blocks):
    """What was not measured does not pass; a first run and a small slice do not block."""
    assert GateResult(gate="g", condition="min", metric="auc", verdict=verdict, reason="r").blocks is blocks


def test_every_verdict_is_judged():
    """A verdict added later must be given its place above."""
    schema = GateResult.model_json_schema()["properties"]["verdict"]["enum"]
    tested = next(mark for mark in test_blocks.pytestmark if mark.name == "parametrize").args[1]
    assert [verdict for verdict, _ in tested] == schema


def test_records_are_frozen_and_closed():
    """A record is evidence: nothing is changed, and nothing unknown is taken in."""
    record = PushResult(pushed=True, outcome="pushed", digest="d", version=1, reason="published")
    with pytest.raises(ValidationError, match="frozen"):
        record.version = 2
    with pytest.raises(ValidationError, match="Extra inputs"):
        PushResult.model_validate({**record.model_dump(), "versoin": 2})
