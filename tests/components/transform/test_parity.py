"""The same vocabularies, schema and transformed values as stock TFX on Beam gives, for the same examples."""

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest

from tests.components.transform.workbench import SPLITS, transform

ROOT = Path(__file__).parents[3]

# What is summed in single precision over batches differs in its last digits from one division into batches to another,
# on Beam too.
CLOSE = {"rtol": 2e-5, "atol": 2e-6}
CANCELLED = {"covariance": {"atol": 1e-4}, "pca": {"atol": 1e-4}}
WEIGHED = {"weighted", "weighted_telling"}


def flat(values):
    """A feature's values in one array, and how many there are in each row."""
    if isinstance(values, np.ndarray):
        return values, None
    return np.array(list(itertools.chain.from_iterable(values))), [len(row) for row in values]


def check_same(mine, stock, splits):
    assert mine.output.transformed_metadata.schema == stock.output.transformed_metadata.schema
    assert mine.output.raw_metadata.schema == stock.output.raw_metadata.schema
    assert mine.output.raw_feature_spec() == stock.output.raw_feature_spec()
    assert mine.assets.keys() == stock.assets.keys()
    for name, vocabulary in mine.assets.items():
        check_vocabulary(name, vocabulary, stock.assets[name])
    for split in splits:
        check_rows(mine.rows(split), stock.rows(split))


def check_vocabulary(name, mine, stock):
    if name not in WEIGHED:
        assert mine == stock, name
        return
    words, other = ([line.rpartition(b" ") for line in text.splitlines()] for text in (mine, stock))
    assert [word for _, _, word in words] == [word for _, _, word in other], name
    np.testing.assert_allclose([float(w or 0) for w, _, _ in words], [float(w or 0) for w, _, _ in other], rtol=1e-5)


def check_rows(mine, stock):
    assert mine.keys() == stock.keys()
    for name in mine:
        (values, lengths), (other, other_lengths) = flat(mine[name]), flat(stock[name])
        assert lengths == other_lengths, name
        if values.dtype.kind == "f":
            np.testing.assert_allclose(values, other, **CLOSE | CANCELLED.get(name, {}), err_msg=name)
        else:
            np.testing.assert_array_equal(values, other, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["numbers", "buckets", "vocabularies", "various", "phases", "stateful"])
def test_all_is_as_on_beam(both, name):
    """Analyzers of every kind, on dense, sparse and missing values; bucket boundaries are equal too."""
    mine, stock = both(name)
    check_same(mine, stock, SPLITS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["taxi", "penguin"])
def test_the_models_of_the_house_are_as_on_beam(tmp_path, name):
    """The real rows, through our ExampleGen: what the trainer gets is what it got from stock TFX, cardinalities too."""
    from components.example_gen.columns import columns_of
    from components.example_gen.read import read_batches
    from tests.components.examples import write_splits

    package = Path(importlib.util.find_spec("tfx").origin).parent
    rows = {
        "taxi": package / "examples/chicago_taxi_pipeline/data/simple/data.csv",
        "penguin": ROOT / "data/penguin/data.csv",
    }[name]
    schema = (ROOT / f"schemas/{name}/schema.pbtxt").read_text()
    weights = {"train": 7, "validate": 1, "eval": 2}
    write_splits(read_batches(rows, "csv", columns_of(schema), {}), weights, tmp_path / "raw")
    function = f"pipeline.models.{name}.preprocessing_fn"
    mine = transform(tmp_path / "raw", schema, function, tmp_path / "ours")
    stock = transform(tmp_path / "raw", schema, function, tmp_path / "stock", stock=True)
    assert mine.output.transformed_metadata.schema == stock.output.transformed_metadata.schema
    assert mine.assets == stock.assets
    for split in weights:
        values, other = mine.rows(split), stock.rows(split)
        for feature in values:
            if feature == "fare_bucket":  # boundaries within the error of the quantiles, which batches decide
                assert np.mean(values[feature] != other[feature]) < 0.02
                assert np.max(np.abs(values[feature] - other[feature])) <= 1
            else:
                check_rows({feature: values[feature]}, {feature: other[feature]})
