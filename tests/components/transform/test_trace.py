"""The plan of the analyzers: which can run together, and what they need."""

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.transform.operations import UnsupportedError
from components.transform.records import Parser
from components.transform.trace import trace
from tests.components.transform import functions
from tests.components.transform.workbench import SCHEMA


@pytest.fixture(scope="module")
def specs():
    return Parser(text_format.Parse(SCHEMA, schema_pb2.Schema())).specs


def test_analyzers_of_analyzers_wait(specs, tmp_path):
    """What needs no other runs in the first pass, whatever the order of the calls."""
    traced = trace(functions.phases, specs, str(tmp_path))
    kinds = [[type(node.operation_def).__name__ for node in phase.accumulations] for phase in traced.phases]
    combine = "CacheableCombineAccumulate"
    assert kinds == [["VocabularyAccumulate", combine, combine], [combine], [combine], ["VocabularyAccumulate"]]


def test_only_the_columns_that_are_needed_are_read(specs, tmp_path):
    """By the analyzers; what an assertion looks at too."""
    traced = trace(functions.stateful, specs, str(tmp_path))
    assert set(traced.analyzed) == {"number", "weight", "key"}
    traced = trace(functions.constant_beside, specs, str(tmp_path))
    assert set(traced.analyzed) == {"number"}


def test_no_analyzer_is_no_phase(specs, tmp_path):
    """And nothing is read for the analysis."""
    traced = trace(functions.nothing_to_learn, specs, str(tmp_path))
    assert (traced.phases, traced.analyzed) == ((), ())


def test_an_unknown_node_is_refused_before_anything_runs(specs, tmp_path):
    """With its kind."""
    with pytest.raises(UnsupportedError, match="is made of a PTransform"):
        trace(functions.on_beam, specs, str(tmp_path))
