"""Rows are in the slices that TFMA puts them into, whatever batches they came in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

HOURS = st.integers(0, 3)
AREAS = st.lists(st.sampled_from([b"north", b"south", b""]), max_size=2)
BATCHES = st.lists(st.lists(st.tuples(HOURS, HOURS, AREAS), min_size=1, max_size=6), min_size=1, max_size=4)


@given(BATCHES)
def test_slices_are_tfma_s(batches):
    """Of transformed features of two models, and of raw ones with no value, one or several."""
    from tensorflow_model_analysis.proto import config_pb2
    from tensorflow_model_analysis.slicer import slicer_lib

    from components.evaluator.rows import RawValues, Slicing

    specs = [
        config_pb2.SlicingSpec(),
        config_pb2.SlicingSpec(feature_keys=["hour"]),
        config_pb2.SlicingSpec(feature_keys=["area"]),
        config_pb2.SlicingSpec(feature_keys=["hour"], feature_values={"area": "north"}),
        config_pb2.SlicingSpec(feature_keys=["gone"]),
    ]
    slicing = Slicing(specs)
    expected: dict = {}
    row = 0
    for batch in batches:
        first, second = (np.array([[one[index]] for one in batch]) for index in (0, 1))
        areas = [np.array(area, object) for _, _, area in batch]
        raw = RawValues(np.concatenate(areas), np.cumsum([len(area) for area in areas]))
        slicing.add([{"hour": first}, {"hour": second}], {"area": raw}, len(batch))
        for index, area in enumerate(areas):
            keys = slicer_lib.get_slices_for_features_dicts(
                [{"hour": first[index]}, {"hour": second[index]}],
                {"area": area},
                [slicer_lib.SingleSliceSpec(spec=spec) for spec in specs],
            )
            for key in set(keys):
                expected.setdefault(key, []).append(row)
            row += 1
    assert {key: rows.tolist() for key, rows in slicing.rows().items()} == expected
    assert slicing.count == row
    assert next(iter(slicing.rows())) == ()


@given(st.lists(AREAS, min_size=1, max_size=9))
def test_raw_values_are_those_of_each_row(areas):
    """As they stand in the examples, whichever rows have none."""
    import tensorflow as tf

    from components.evaluator.rows import _raw

    features = [
        tf.train.Features(feature={"area": tf.train.Feature(bytes_list=tf.train.BytesList(value=area))})
        for area in areas
    ]
    examples = np.array([tf.train.Example(features=one).SerializeToString() for one in features], object)
    found = _raw(examples, {"area": tf.string, "gone": tf.int64})
    assert found["area"].hashable() == [tuple(area) for area in areas]
    assert [found["area"].of(row).tolist() for row in range(len(areas))] == areas
    assert found["gone"].hashable() == [()] * len(areas)


def test_each_row_is_held_once_however_many_slices_it_is_in():
    """Four bytes of it; the rows of a slice are made when they are asked for."""
    from components.evaluator.rows import Slices

    codes = np.arange(3000, dtype=np.int32) % 3
    slices = Slices({(): [0, 1, 2], **{(("f", number),): [number % 3] for number in range(1000)}}, codes)
    assert slices._order.nbytes == 4 * 3000
    assert len(slices) == 1001
    assert slices[()].tolist() == list(range(3000))
    assert slices[(("f", 4),)].tolist() == list(range(1, 3000, 3))
    assert slices[()] is not slices[()]


@pytest.fixture(scope="module")
def taxi(problems):
    return problems["taxi"]


def read(problem, **changes):
    from components.evaluator.rows import read_rows

    config = problem.config(["example_count"], [{"feature_keys": ["hour"]}], champion=False)
    (spec,) = config.model_specs
    for name, value in changes.items():
        setattr(spec, name, value) if not isinstance(value, list) else getattr(spec, name).__setitem__(
            slice(None), value
        )
    files = [f"{problem.examples.uri}/Split-eval/data_tfrecord-00000-of-00001"]
    return read_rows(files, {"": (f"{problem.models[0].uri}/Format-Serving", spec)}, config.slicing_specs, {})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"signature_name": "gone"}, "has no signature 'gone'"),
        ({"label_key": "gone"}, "the label 'gone' is not among the transformed features"),
        ({"signature_name": "transform_features"}, "has several outputs"),
    ],
)
def test_what_a_model_must_have(taxi, changes, reason):
    """Else TFMA on Beam has to do with it."""
    from components.evaluator.fit import Unsupported

    with pytest.raises(Unsupported, match=reason):
        read(taxi, **changes)


def test_columns_are_whole(taxi):
    """As many labels and predictions as rows, and each row in one hour."""
    rows = read(taxi)
    assert rows.labels[""].shape == rows.predictions[""].shape == (rows.count, 1) == (1200, 1)
    hours = [indices for key, indices in rows.slices.items() if key]
    assert sorted(np.concatenate(hours).tolist()) == list(range(1200))


def test_no_rows_are_left_to_beam(taxi, tmp_path):
    """TFMA knows what nothing means to it."""
    from components.evaluator.fit import Unsupported
    from components.evaluator.rows import read_rows

    (tmp_path / "empty").touch()
    spec = taxi.config(["example_count"], champion=False).model_specs[0]
    models = {"": (f"{taxi.models[0].uri}/Format-Serving", spec)}
    with pytest.raises(Unsupported, match="no rows"):
        read_rows([str(tmp_path / "empty")], models, [], {})
