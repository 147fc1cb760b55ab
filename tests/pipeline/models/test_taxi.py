"""The taxi module: the label is right, tips stay out of the features, gaps are filled, the model learns."""

import dataclasses
import importlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from components.trainer.inputs import layout_of
from pipeline.models import taxi
from schemas.user_model import Feature
from tests.pipeline.models.analysis import analyze, transform, type_specs

ROW = {
    "trip_start_timestamp": 1_400_269_500,
    "trip_start_month": 5,
    "trip_start_day": 6,
    "trip_start_hour": 19,
    "trip_seconds": 600,
    "trip_miles": 2.5,
    "fare": 10.0,
    "tips": 3.0,
    "payment_type": "Credit Card",
    "company": "Taxi Affiliation Services",
    "pickup_community_area": 8,
    "dropoff_community_area": 32,
}
FEATURES = {
    "log_fare": Feature("log_fare", "float32", (1,)),
    "payment": Feature("payment", "int64", (1,), cardinality=3),
}


def rows_of(*changes):
    return [{**ROW, **change} for change in changes]


@pytest.fixture(scope="module")
def analyzed(tmp_path_factory):
    """The transform as learned from 60 trips with fares from 3 to 62 dollars, half of them paid in cash."""
    rows = rows_of(*({"fare": 3.0 + i, "payment_type": ("Cash", "Credit Card")[i % 2]} for i in range(60)))
    return analyze(taxi.preprocessing_fn, "taxi", rows, tmp_path_factory.mktemp("taxi"))


# --- the label --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fare", "tips", "label"),
    [
        (10.0, 2.01, 1),
        (10.0, 2.0, 0),
        (10.0, 0.0, 0),
        (5.85, 1.17, 0),
        (8.05, 1.61, 0),
        (7.05, 1.41, 0),
        (7.05, 1.42, 1),
        (700.07, 140.01, 0),
        (700.07, 140.02, 1),
        (0.0, 0.0, 0),
        (0.0, 5.0, 0),
        (float("nan"), 5.0, 0),
        (10.0, float("nan"), 0),
    ],
)
def test_a_big_tip_is_more_than_a_fifth_of_the_fare(fare, tips, label):
    """To the cent: exactly 20 % is no big tip, whatever float32 makes of it; without a fare there is none."""
    result = taxi.big_tipper(tf.constant([[tips]]), tf.constant([[fare]]))
    assert result.dtype == tf.int64
    assert result.numpy().tolist() == [[label]]


def test_the_label_reaches_the_transformed_rows(analyzed):
    """The label stands among the transformed features under the name that the configuration gives."""
    rows = rows_of({"fare": 10.0, "tips": 2.5}, {"fare": 20.0, "tips": 2.5})
    assert transform(analyzed, "taxi", rows)["big_tipper"].tolist() == [[1], [0]]


# --- no leak ----------------------------------------------------------------------------------------------------------


def features_only(inputs):
    return {name: value for name, value in taxi.preprocessing_fn(inputs).items() if name != taxi.LABEL}


def test_tips_feed_the_label_only():
    """No feature of the model, nor anything that tf.Transform learns from the data, depends on what is predicted."""
    specs = type_specs("taxi")
    assert "tips" in tft.get_transform_input_columns(taxi.preprocessing_fn, specs)
    assert "tips" not in tft.get_transform_input_columns(features_only, specs)
    assert "tips" not in tft.get_analyze_input_columns(taxi.preprocessing_fn, specs)


def test_a_request_needs_few_columns():
    """What the model asks of a request: ten columns, neither tips nor coordinates nor census tracts among them."""
    assert set(tft.get_transform_input_columns(features_only, type_specs("taxi"))) == set(ROW) - {
        "tips",
        "trip_start_timestamp",
    }


# --- gaps and outliers ------------------------------------------------------------------------------------------------


def test_a_missing_value_has_a_place_of_its_own(analyzed):
    """A row without company, areas and duration is transformed like any other, and told apart where that matters."""
    gaps = {key: value for key, value in ROW.items() if key not in ("company", "pickup_community_area", "trip_seconds")}
    missing, known = (transform(analyzed, "taxi", [row]) for row in (gaps, ROW))
    assert missing["taxi_company"] != known["taxi_company"]
    assert (missing["pickup_area"], known["pickup_area"]) == (0, 8)
    assert np.isfinite(missing["log_seconds"]).all()
    assert missing["log_seconds"] < known["log_seconds"]


def test_every_integer_stays_below_its_cardinality(analyzed):
    """What no training row held, and what no row should hold, still finds a row in its embedding."""
    layout = layout_of(analyzed, taxi.LABEL)
    strange = {
        "payment_type": "Barter",
        "company": "Nobody's Cabs",
        "trip_start_hour": 99,
        "trip_start_day": -1,
        "trip_start_month": 13,
        "pickup_community_area": 1000,
        "fare": 1e6,
        "trip_miles": -1.0,
    }
    values = transform(analyzed, "taxi", rows_of(strange, {}))
    integers = {name for name, feature in layout.features.items() if feature.dtype == "int64"}
    assert len(integers) == 8
    for name in integers:
        assert 0 <= values[name].min() <= values[name].max() < layout.features[name].cardinality, name
    for name in set(layout.features) - integers:
        assert np.isfinite(values[name]).all(), name


def test_cardinalities_are_known(analyzed):
    """Fixed ranges are sized by what they may hold, not by what the training data held."""
    features = layout_of(analyzed, taxi.LABEL).features
    expected = {"hour": 24, "weekday": 7, "month": 12, "pickup_area": 78, "dropoff_area": 78, "fare_bucket": 32}
    assert {name: features[name].cardinality for name in expected} == expected


# --- the model --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["tf_keras", "keras"])
def test_the_model_learns(library):
    """Under either Keras: a compiled model whose AUC rises well above chance on a rule that it can learn."""
    keras = importlib.import_module(library)
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    inputs = {
        "log_fare": random.normal(size=(512, 1)).astype("float32"),
        "payment": random.integers(0, 3, (512, 1)),
    }
    labels = ((inputs["payment"] == 1) & (inputs["log_fare"] < 0.5)).astype("int64")
    model = taxi.build_model(keras, FEATURES, {"hidden_units": [16], "dropout": 0.1, "learning_rate": 0.02})
    history = model.fit(inputs, labels, batch_size=64, epochs=6, verbose=0).history
    assert {"auc", "binary_accuracy", "loss"} <= set(history)
    assert history["auc"][-1] > 0.95
    probabilities = model.predict(inputs, verbose=0)
    assert probabilities.shape == (512, 1)
    assert 0 <= probabilities.min() <= probabilities.max() <= 1


def test_an_unknown_hyperparameter_is_refused():
    """A misspelt name does not fall back to a default in silence."""
    keras = importlib.import_module("tf_keras")
    with pytest.raises(TypeError, match="learning_rat"):
        taxi.build_model(keras, FEATURES, {"learning_rat": 0.1})


def test_every_hyperparameter_has_a_default():
    """A configuration without hyperparameters gets the model that was chosen for the data."""
    assert dataclasses.asdict(taxi.Hyperparameters()) == {
        "hidden_units": (64, 32),
        "embedding_size": 8,
        "dropout": 0.3,
        "learning_rate": 0.001,
    }
