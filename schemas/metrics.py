"""The names that gates may use: quality metrics as TFMA and Keras report them, and figures that are profiled.

A quality metric is computed by TensorFlow Model Analysis, either with its own class or with one of Keras'. The
catalogue is held here, and not looked up in TFMA, so that a configuration is checked in milliseconds; a test holds it
against TFMA's and Keras' real classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "BINARY",
    "COUNTS",
    "OF_FILES",
    "PROFILED",
    "QUALITY",
    "SHORT",
    "TWO_CLASSES",
    "Direction",
    "ProfiledMetric",
    "QualityMetric",
    "direction",
]

Direction = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class QualityMetric:
    """A metric of the predictions against the labels.

    Attributes:
        class_name: of the class that computes it, which takes no arguments beside its name.
        library: `tfma`, or `keras`: the class then stands in `tf_keras.metrics` (TFMA takes no Keras 3 metric).
        better: which direction is better; `neither` (a mean prediction, a count) cannot be compared with the champion.
    """

    class_name: str
    library: Literal["tfma", "keras"]
    better: Direction


@dataclass(frozen=True)
class ProfiledMetric:
    """A figure of the payload itself.

    Attributes:
        unit: of the figure.
        better: which direction is better.
        key: the key of a gate that says which of several such figures is meant: the size of a request, or what the
            payload's predictions are compared with; None where there is but one.
        slices: by what it can be sliced: not at all, by features of the rows, or by the model's features themselves, where
            the one name `feature` stands for them.
    """

    unit: str
    better: Literal["higher", "lower"] = "lower"
    key: Literal["batch_size", "against"] | None = None
    slices: Literal["none", "rows", "features"] = "none"


def _tfma(class_name: str, better: Direction = "higher") -> QualityMetric:
    return QualityMetric(class_name, "tfma", better)


def _keras(class_name: str, better: Direction = "higher") -> QualityMetric:
    return QualityMetric(class_name, "keras", better)


_BINARY: dict[str, QualityMetric] = {
    "auc": _tfma("AUC"),
    "auc_precision_recall": _tfma("AUCPrecisionRecall"),
    "balanced_accuracy": _tfma("BalancedAccuracy"),
    "binary_accuracy": _tfma("BinaryAccuracy"),
    "binary_crossentropy": _tfma("BinaryCrossEntropy", "lower"),
    "coefficient_of_discrimination": _tfma("CoefficientOfDiscrimination"),
    "diagnostic_odds_ratio": _tfma("DiagnosticOddsRatio"),
    "f1_score": _tfma("F1Score"),
    "fall_out": _tfma("FallOut", "lower"),
    "false_discovery_rate": _tfma("FalseDiscoveryRate", "lower"),
    "false_negatives": _tfma("FalseNegatives", "lower"),
    "false_omission_rate": _tfma("FalseOmissionRate", "lower"),
    "false_positives": _tfma("FalsePositives", "lower"),
    "fowlkes_mallows_index": _tfma("FowlkesMallowsIndex"),
    "hinge": _keras("Hinge", "lower"),
    "informedness": _tfma("Informedness"),
    "markedness": _tfma("Markedness"),
    "matthews_correlation_coefficient": _tfma("MatthewsCorrelationCoefficient"),
    "max_recall": _tfma("MaxRecall"),
    "miss_rate": _tfma("MissRate", "lower"),
    "negative_likelihood_ratio": _tfma("NegativeLikelihoodRatio", "lower"),
    "negative_predictive_value": _tfma("NegativePredictiveValue"),
    "positive_likelihood_ratio": _tfma("PositiveLikelihoodRatio"),
    "precision": _tfma("Precision"),
    "predicted_positive_rate": _tfma("PredictedPositiveRate", "neither"),
    "prevalence": _tfma("Prevalence", "neither"),
    "prevalence_threshold": _tfma("PrevalenceThreshold", "lower"),
    "recall": _tfma("Recall"),
    "relative_coefficient_of_discrimination": _tfma("RelativeCoefficientOfDiscrimination"),
    "specificity": _tfma("Specificity"),
    "squared_hinge": _keras("SquaredHinge", "lower"),
    "threat_score": _tfma("ThreatScore"),
    "true_negatives": _tfma("TrueNegatives"),
    "true_positives": _tfma("TruePositives"),
}

QUALITY: dict[str, QualityMetric] = {
    # scores against a binary label
    **_BINARY,
    # several classes: the label is one integer (`sparse_`), or one-hot, for which an integer gives a wrong figure;
    # TFMA's own CategoricalCrossEntropy fails on NumPy's read-only arrays
    "categorical_accuracy": _keras("CategoricalAccuracy"),
    "categorical_crossentropy": _keras("CategoricalCrossentropy", "lower"),
    "categorical_hinge": _keras("CategoricalHinge", "lower"),
    "sparse_categorical_accuracy": _keras("SparseCategoricalAccuracy"),
    "sparse_categorical_crossentropy": _keras("SparseCategoricalCrossentropy", "lower"),
    "sparse_top_k_categorical_accuracy": _keras("SparseTopKCategoricalAccuracy"),
    "top_k_categorical_accuracy": _keras("TopKCategoricalAccuracy"),
    # regression
    "cosine_similarity": _keras("CosineSimilarity"),
    "log_cosh_error": _keras("LogCoshError", "lower"),
    "mean_absolute_error": _tfma("MeanAbsoluteError", "lower"),
    "mean_absolute_percentage_error": _tfma("MeanAbsolutePercentageError", "lower"),
    "mean_squared_error": _tfma("MeanSquaredError", "lower"),
    "mean_squared_logarithmic_error": _tfma("MeanSquaredLogarithmicError", "lower"),
    "poisson": _keras("Poisson", "lower"),
    "root_mean_squared_error": _keras("RootMeanSquaredError", "lower"),
    "squared_pearson_correlation": _tfma("SquaredPearsonCorrelation"),
    # neither good nor bad
    "calibration": _tfma("Calibration", "neither"),
    "example_count": _tfma("ExampleCount", "neither"),
    "mean_label": _tfma("MeanLabel", "neither"),
    "mean_prediction": _tfma("MeanPrediction", "neither"),
    "weighted_example_count": _tfma("WeightedExampleCount", "neither"),
}

BINARY = frozenset(_BINARY)
"""Quality metrics of scores against a binary label."""

COUNTS = frozenset(
    {
        "example_count",
        "false_negatives",
        "false_positives",
        "true_negatives",
        "true_positives",
        "weighted_example_count",
    }
)
"""Quality metrics that grow with the examples: that of one split says nothing of that of another."""

TWO_CLASSES = BINARY - {
    "binary_accuracy",
    "binary_crossentropy",
    "false_negatives",
    "false_positives",
    "hinge",
    "predicted_positive_rate",
    "prevalence",
    "squared_hinge",
    "true_negatives",
    "true_positives",
}
"""Those that may say nothing of examples of one class; of the others a value that is missing is the model's doing."""

PROFILED: dict[str, ProfiledMetric] = {
    # what it costs; 1 MB is 10^6 bytes
    "arena_mb": ProfiledMetric("MB"),
    "compressed_size_mb": ProfiledMetric("MB"),
    "first_call_ms": ProfiledMetric("ms"),
    "latency_p50_ms": ProfiledMetric("ms", key="batch_size"),
    "latency_p95_ms": ProfiledMetric("ms", key="batch_size"),
    "latency_p99_ms": ProfiledMetric("ms", key="batch_size"),
    "load_time_ms": ProfiledMetric("ms"),
    "parameters": ProfiledMetric("1"),
    "peak_memory_mb": ProfiledMetric("MB"),
    "size_mb": ProfiledMetric("MB"),
    "throughput_per_s": ProfiledMetric("1/s", "higher", "batch_size"),
    # whether it serves what was trained
    "class_agreement": ProfiledMetric("1", "higher", "against", "rows"),
    "feature_skew": ProfiledMetric("1", slices="features"),
    "max_abs_difference": ProfiledMetric("1", key="against", slices="rows"),
    "mean_abs_difference": ProfiledMetric("1", key="against", slices="rows"),
    "p99_abs_difference": ProfiledMetric("1", key="against", slices="rows"),
}

SHORT = {
    "acc": "binary_accuracy",
    "accuracy": "binary_accuracy",
    "auprc": "auc_precision_recall",
    "auroc": "auc",
    "f1": "f1_score",
    "false_positive_rate": "fall_out",
    "fpr": "fall_out",
    "mae": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error",
    "mcc": "matthews_correlation_coefficient",
    "mse": "mean_squared_error",
    "msle": "mean_squared_logarithmic_error",
    "pr_auc": "auc_precision_recall",
    "r2": "squared_pearson_correlation",
    "rmse": "root_mean_squared_error",
    "roc_auc": "auc",
    "sensitivity": "recall",
    "tnr": "specificity",
    "tpr": "recall",
    "true_positive_rate": "recall",
}
"""What others call a metric, to the name here: said where a name is unknown, and not taken for it."""

OF_FILES = frozenset({"arena_mb", "compressed_size_mb", "p99_abs_difference"})
"""Profiled figures of a `.tflite` file alone."""


def direction(metric: str) -> Direction:
    """Which direction is better for a metric of either kind."""
    return QUALITY[metric].better if metric in QUALITY else PROFILED[metric].better
