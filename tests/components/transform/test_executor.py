"""The executor: what it writes, what it refuses, and what it hands to stock TFX."""

import json
import logging

import numpy as np
import pytest

from schemas.errors import DataError, UserModuleError
from tests.components.transform.workbench import FUNCTIONS, SCHEMA, SPLITS, transform


def test_no_analyzer_needs_no_pass(ours):
    """The values are those of the function, in the order of the records; nothing temporary stays."""
    result = ours("nothing_to_learn")
    assert result.rows_analyzed == 0
    assert sorted(path.name for path in result.graph.iterdir()) == [
        "metadata", "rows.json", "transform_fn", "transformed_metadata"
    ]  # fmt: skip
    assert set(np.unique(result.rows("eval")["filled"])) <= {b"?", b"x0", b"x1", b"x2"}


@pytest.mark.parametrize("function", ["buckets", pytest.param("on_beam", marks=pytest.mark.slow)])
def test_the_graph_says_how_many_rows_there_are(function, ours):
    """Of each split; also where stock TFX does the work."""
    result = ours(function)
    assert json.loads((result.graph / "rows.json").read_text()) == SPLITS
    assert result.output.transformed_feature_spec()


def test_several_files_are_one_split(examples, examples_in_files, ours, tmp_path):
    """Two files, one of them gzipped, give what one file with the same rows gives."""
    one = ours("phases")
    two = transform(examples_in_files, SCHEMA, f"{FUNCTIONS}.phases", tmp_path / "two")
    assert two.rows_analyzed == one.rows_analyzed == SPLITS["train"]
    assert two.assets == one.assets
    for name, values in one.rows("train").items():
        np.testing.assert_allclose(two.rows("train")[name], values, rtol=1e-5, atol=1e-5)


def test_the_same_examples_give_the_same_bytes_of_analysis(ours, examples, tmp_path):
    """Vocabularies and constants do not depend on the run."""
    one, two = ours("buckets"), transform(examples, SCHEMA, f"{FUNCTIONS}.buckets", tmp_path / "again")
    for name, values in one.rows("eval").items():
        np.testing.assert_equal(two.rows("eval")[name], values)


@pytest.mark.slow
def test_what_is_not_supported_runs_on_beam(ours, caplog):
    """With the reason in the log, and the same artifacts."""
    with caplog.at_level(logging.WARNING):
        result = ours("on_beam")
    (message,) = [record.message for record in caplog.records if record.name == "components.transform.executor"]
    assert message.startswith("Transform runs on Beam, through stock TFX: the analyzer ")
    assert message.endswith("is made of a PTransform")
    assert result.rows("train")["number"].max() == pytest.approx(1.0)
    assert set(result.rows("eval")) == {"number"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", "preprocessing_fn: raised KeyError: 'numbr'"),
        ("returns_nothing", "returned something else; expected a dict of tensors by name; got an empty dict"),
        ("returns_numbers", "{'number': 'int'}"),
        ("constant", "expected a tensor [batch, ...] for each name; got {'mean': 'a scalar'}"),
    ],
)
def test_a_mistake_of_the_users_is_named(ours, name, message):
    """With the function and what it did."""
    with pytest.raises(UserModuleError) as caught:
        ours(name)
    assert f"{FUNCTIONS}.{name}" in str(caught.value)
    assert message in str(caught.value)


def test_a_failed_assertion_names_the_file(ours):
    """And says what TensorFlow said, where the analysis meets it."""
    with pytest.raises(
        DataError, match=r"Split-train/data_tfrecord-00000-of-00001: cannot be transformed: .*too large"
    ):
        ours("asserts")


def test_examples_that_are_not_of_the_schema_name_the_feature(examples, tmp_path):
    """A dense feature that is not there."""
    schema = SCHEMA.replace(
        '"unused" type: INT ', '"absent" type: INT presence { min_fraction: 1 } shape { dim { size: 1 } }'
    )
    with pytest.raises(DataError, match="absent"):
        transform(examples, schema, f"{FUNCTIONS}.uses_absent", tmp_path / "out")
