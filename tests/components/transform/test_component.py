"""The node's contract: what its cache key sees, and what building a pipeline with it costs."""

import subprocess
import sys

from tfx.types import standard_artifacts
from tfx.types.channel import Channel

HEAVY = ("tensorflow_transform", "tensorflow_data_validation", "tfx.components.transform")


def node(fingerprint="abc"):
    from components.transform.component import Transform

    examples, schema = Channel(type=standard_artifacts.Examples), Channel(type=standard_artifacts.Schema)
    return Transform(examples, schema, "pipeline.models.taxi.preprocessing_fn", fingerprint)


def test_the_parameters_are_the_function_and_the_code():
    """A change of the user's code, or of ours, is seen by the cache; nothing of the machine is in them."""
    from components.code import code_fingerprint

    made = node()
    assert made.id == "Transform"
    assert made.exec_properties == {
        "preprocessing_fn": "pipeline.models.taxi.preprocessing_fn",
        "preprocessing_fn_fingerprint": "abc",
        "code_fingerprint": code_fingerprint("components.transform", "schemas"),
    }
    assert list(made.outputs) == ["transform_graph"]
    assert made.exec_properties != node("def").exec_properties


def test_building_a_pipeline_does_not_import_what_runs_it():
    """The component's module leaves tf.Transform to the executor."""
    code = f"import components.transform.component, sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
