"""The taxi model against a plain gradient-boosted baseline, on the pipeline's own split, into RESULTS.md.

    python -m bench.baseline [--csv data/taxi/data.csv] [--model DIR] [--seeds 3]

Both learn from `train` and are judged on `eval`. The baseline is scikit-learn's HistGradientBoostingClassifier on every raw
column but `tips`, once as it comes and once with gentler settings, found on other splits of the same rows. Without
`--model`, the pipeline is run first, once for each seed.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import yaml
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from bench import ours
from bench.process import REPOSITORY
from bench.results import machine, table, write_section
from components.example_gen.columns import columns_of
from components.example_gen.read import infer_columns, read_batches
from components.example_gen.split import split_of

__all__ = ["Split", "baseline", "main", "predict", "read_splits"]

WORK = REPOSITORY / "bench" / "work"
SETTINGS: dict[str, dict[str, Any]] = {
    "gradient boosting, defaults": {},
    "gradient boosting, gentler": {
        "learning_rate": 0.03, "max_iter": 150, "max_leaf_nodes": 15, "l2_regularization": 1.0, "early_stopping": False
    },
}  # fmt: skip
CATEGORIES = ("payment_type", "company")

Scores = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """The rows of one split.

    Attributes:
        columns: the raw columns but `tips`; a missing value is NaN or None.
        labels: 1 where the tip was more than 20 % of the fare.
    """

    columns: pd.DataFrame
    labels: Labels


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure the taxi model against gradient boosting.")
    parser.add_argument("--csv", type=Path, default=REPOSITORY / "data" / "taxi" / "data.csv", help="the trips")
    parser.add_argument("--model", type=Path, help="a pushed SavedModel; without it the pipeline is run")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each, without --model")
    arguments = parser.parse_args()
    splits = read_splits(arguments.csv)
    scores = {
        name: [baseline(splits["train"], splits["eval"], seed, **settings) for seed in range(arguments.seeds)]
        for name, settings in SETTINGS.items()
    }
    models = [arguments.model] if arguments.model else [_train(arguments.csv, seed) for seed in range(arguments.seeds)]
    scores["ours"] = [predict(model, splits["eval"].columns) for model in models]
    text = _report(splits, scores)
    write_section("baseline", text)
    print(text)


def read_splits(csv: Path, config: Path = ours.CONFIG) -> dict[str, Split]:
    """The rows of each split, as the pipeline's ExampleGen reads and splits them."""
    data = yaml.safe_load(config.read_text(encoding="utf-8"))["data"]
    columns = columns_of((config.parent / data["schema"]).read_text(encoding="utf-8"))
    batches = list(read_batches(csv, "csv", columns, infer_columns([csv], "csv", columns)))
    split = np.concatenate([split_of(batch, data["splits"]) for batch in batches])
    rows = pa.Table.from_batches(batches).to_pandas()
    labels = big_tipper(rows["tips"].to_numpy(np.float64), rows["fare"].to_numpy(np.float64))
    features = rows.drop(columns="tips")
    return {
        name: Split(features[split == index].reset_index(drop=True), labels[split == index])
        for index, name in enumerate(data["splits"])
    }


def big_tipper(tips: Scores, fare: Scores) -> Labels:
    """The label, reckoned in cents: independent of the pipeline's own code for it."""
    return ((np.rint(tips * 100) * 5 > np.rint(fare * 100)) & (fare > 0)).astype(np.int64)


def baseline(train: Split, held_out: Split, seed: int, **settings: Any) -> Scores:
    """The probabilities that gradient boosting gives to the held-out rows."""
    known = {name: pd.CategoricalDtype(train.columns[name].dropna().unique()) for name in CATEGORIES}
    model = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=seed, **settings)
    model.fit(train.columns.astype(known), train.labels)
    return np.asarray(model.predict_proba(held_out.columns.astype(known))[:, 1])


def predict(model: Path, columns: pd.DataFrame) -> Scores:
    """The probabilities that a pushed model gives to rows, asked as a client asks: raw columns by name."""
    import tensorflow as tf

    signature = tf.saved_model.load(str(model)).signatures["serving_default"]
    specs = signature.structured_input_signature[1]
    request = {name: tf.constant(_request(columns[name], spec.dtype), spec.dtype) for name, spec in specs.items()}
    return np.asarray(signature(**request)["outputs"].numpy()[:, 0], np.float64)


def _request(column: pd.Series, dtype: Any) -> Any:
    """A column's values; a missing one as a request says it."""
    if dtype.is_integer:
        return column.fillna(dtype.min).astype(np.int64).to_numpy()
    return column.to_numpy(np.float32) if dtype.is_floating else column.fillna(b"").to_list()


def _train(csv: Path, seed: int) -> Path:
    work = WORK / f"seed-{seed}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    values = yaml.safe_load(ours.CONFIG.read_text(encoding="utf-8"))
    values["training"]["seed"] = seed
    values["data"]["schema"] = str(ours.CONFIG.parent / values["data"]["schema"])
    config = work / "satisfice.yaml"
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    return Path(ours.measure(csv, work / "run", config)["model"])


_FIGURES: dict[str, Callable[[Labels, Scores], float]] = {
    "AUC": roc_auc_score,
    "AUC, card only": roc_auc_score,
    "accuracy": lambda labels, scores: float(accuracy_score(labels, scores > 0.5)),
    "log loss": log_loss,
}


def _report(splits: Mapping[str, Split], scores: Mapping[str, list[Scores]]) -> str:
    held_out = splits["eval"]
    card = (held_out.columns["payment_type"] == b"Credit Card").to_numpy()
    every = np.ones_like(card)
    rows = [
        [
            name,
            *(
                _spread([score(held_out.labels[part], run[part]) for run in runs])
                for figure, score in _FIGURES.items()
                for part in [card if "card" in figure else every]
            ),
        ]
        for name, runs in scores.items()
    ]
    sizes = ", ".join(f"{name} {len(split.labels):,}" for name, split in splits.items())
    return "\n\n".join(
        [
            "## The taxi model, against gradient boosting",
            f"`python -m bench.baseline`; {machine()}. Rows: {sizes}; {held_out.labels.mean():.1%} of `eval` are big tippers. "
            "Judged on `eval`; mean (minimum to maximum) over seeds.",
            table(["", *_FIGURES], rows),
            "Tips in cash are hardly ever recorded, so that the way of paying gives most of the AUC; the second column, the "
            "trips paid by card alone, shows what is found beyond it.",
        ]
    )


def _spread(values: list[float]) -> str:
    if max(values) - min(values) < 5e-5:
        return f"{values[0]:.4f}"
    return f"{mean(values):.4f} ({min(values):.4f} to {max(values):.4f})"


if __name__ == "__main__":
    main()
