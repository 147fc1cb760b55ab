"""The catalogue of metrics against TFMA's and Keras' real classes: nothing named that is not there, nothing left out."""

import inspect

import pytest

from schemas.metrics import PROFILED, QUALITY, SHORT

# TFX and what it imports warn of much that is not ours.
pytestmark = pytest.mark.filterwarnings("ignore")

# Why a class that takes no arguments is not in the catalogue.
LEFT_OUT = {
    "a plot": {
        "CalibrationPlot",
        "ConfusionMatrixPlot",
        "MultiClassConfusionMatrixPlot",
        "MultiLabelConfusionMatrixPlot",
        "ObjectDetectionConfusionMatrixPlot",
        "ScoreDistributionPlot",
    },
    "several figures in one": {"BooleanFlipRates", "MultiClassConfusionMatrixAtThresholds", "QueryStatistics"},
    "another name of a class in the catalogue": {"FN", "FNR", "FP", "FPR", "NPV", "PPV", "TN", "TNR", "TP", "TPR"},
    "the catalogue has TFMA's": {
        "AUC",
        "BinaryAccuracy",
        "BinaryCrossentropy",
        "F1Score",
        "FalseNegatives",
        "FalsePositives",
        "MeanAbsoluteError",
        "MeanAbsolutePercentageError",
        "MeanSquaredError",
        "MeanSquaredLogarithmicError",
        "Precision",
        "Recall",
        "TrueNegatives",
        "TruePositives",
    },
    "fails on NumPy's read-only arrays; the catalogue has Keras'": {"CategoricalCrossEntropy"},
    "compares two models, which the gate does": {
        "ModelCosineSimilarity",
        "NegToNegFlipRate",
        "NegToPosFlipRate",
        "PosToNegFlipRate",
        "PosToPosFlipRate",
        "SymmetricFlipRate",
        "SymmetricPredictionDifference",
    },
    "needs attributions, queries or sets beside the predictions": {
        "MeanAbsoluteAttributions",
        "MeanAttributions",
        "MinLabelPosition",
        "SetMatchPrecision",
        "SetMatchRecall",
        "TotalAbsoluteAttributions",
        "TotalAttributions",
    },
    "of text or images": {
        "BinaryIoU",
        "Bleu",
        "COCOAveragePrecision",
        "COCOAverageRecall",
        "COCOMeanAveragePrecision",
        "COCOMeanAverageRecall",
        "ExactMatch",
        "ObjectDetectionMaxRecall",
        "ObjectDetectionPrecision",
        "ObjectDetectionRecall",
    },
    "compares exact values, which scores are not": {"Accuracy"},
    "reported under another name, or not at all": {"FBetaScore", "KLDivergence", "R2Score"},
    "an aggregate of anything, not of predictions against labels": {"Mean", "MeanTensor", "Sum"},
}


@pytest.fixture(scope="module")
def libraries():
    """TFMA's registered metrics and tf_keras' metrics, by class name."""
    import tf_keras
    from tensorflow_model_analysis.metrics import metric_types

    classes = inspect.getmembers(tf_keras.metrics, inspect.isclass)
    keras = {name: cls for name, cls in classes if issubclass(cls, tf_keras.metrics.Metric)}
    return {"tfma": dict(metric_types.registered_metrics()), "keras": keras}


def needs_no_arguments(cls):
    try:
        cls()
    except (NotImplementedError, TypeError):
        return False
    return True


@pytest.mark.parametrize("name", QUALITY)
def test_class_exists_and_takes_a_name_alone(libraries, name):
    """Each class is there, and is made with no argument beside its name."""
    metric = QUALITY[name]
    cls = libraries[metric.library][metric.class_name]
    assert cls(name=name).name == name


def test_nothing_is_left_out(libraries):
    """Every class that takes no argument is in the catalogue, or left out for a reason that is given."""
    free = {name for classes in libraries.values() for name, cls in classes.items() if needs_no_arguments(cls)}
    named = {metric.class_name for metric in QUALITY.values()}
    left_out = set().union(*LEFT_OUT.values())
    assert free - named - left_out == set(), "new in TFMA or Keras"
    assert left_out - free == set(), "no longer there"


def test_names_are_apart():
    """A name is either of quality or profiled, and says which library's words it uses."""
    assert not QUALITY.keys() & PROFILED.keys()
    assert {metric.library for metric in QUALITY.values()} == {"tfma", "keras"}


def test_short_names_are_no_names_and_mean_one():
    """What others call a metric is none of the names here, and says which it is."""
    assert not set(SHORT) & {*QUALITY, *PROFILED}
    assert set(SHORT.values()) <= set(QUALITY)


def test_units_stand_in_the_names():
    """A profiled figure with a unit has it at the end of its name."""
    for name, metric in PROFILED.items():
        assert metric.unit == "1" or name.endswith("_" + metric.unit.lower().replace("1/", "per_"))


ONE_HOT = {name for name in QUALITY if name.startswith(("categorical_", "top_k_"))}
SPARSE = {name for name in QUALITY if name.startswith("sparse_")}
SCORES = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.6, 0.3, 0.1], [0.9, 0.05, 0.05]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "labels", "predictions"),
    [
        (QUALITY.keys() - ONE_HOT - SPARSE, [0.0, 1.0, 1.0, 1.0, 0.0], [0.7, 0.8, 0.6, 0.3, 0.1]),
        (SPARSE, [0, 1, 2, 1, 0], SCORES),
        (ONE_HOT, [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0, 1.0, 0], [1.0, 0, 0]], SCORES),
    ],
    ids=["scores", "classes", "one-hot"],
)
@pytest.mark.parametrize("config", ['{"name": "%s"}', ""], ids=["named", "unnamed"])
def test_tfma_computes_each_under_its_name(libraries, names, labels, predictions, config):
    """One evaluation by TFMA gives one number for each metric, under the catalogue's name whether given or not."""
    import pandas as pd
    import tensorflow_model_analysis as tfma
    from tensorflow_model_analysis.proto import config_pb2

    metrics = [
        config_pb2.MetricConfig(
            class_name=QUALITY[name].class_name,
            module="tf_keras.metrics" if QUALITY[name].library == "keras" else "",
            config=config % name if config else "",
        )
        for name in sorted(names)
    ]
    evaluation = config_pb2.EvalConfig(
        model_specs=[config_pb2.ModelSpec(prediction_key="prediction", label_key="label")],
        slicing_specs=[config_pb2.SlicingSpec()],
        metrics_specs=[config_pb2.MetricsSpec(metrics=metrics)],
    )
    result = tfma.analyze_raw_data(pd.DataFrame({"label": labels, "prediction": predictions}), evaluation)
    found = result.get_metrics_for_slice()
    assert set(found) == set(names)
    assert all(isinstance(value["doubleValue"], float) for value in found.values())
