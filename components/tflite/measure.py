"""Everything that is measured of a ladder of `.tflite` files: quality, parity, cost; and of the file that devices have."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components import progress
from components.evaluator.fit import Unsupported
from components.evaluator.rows import Rows
from components.tflite.convert import file_of
from components.tflite.cost import costs
from components.tflite.quality import MODEL, Subject, judge, read_split
from components.tflite.representative import examples_in, raw_features_of
from components.trainer.export import raw_spec_of
from schemas.decision import Figure, Figures
from schemas.tflite import Export

__all__ = ["CHAMPION", "Split", "measure"]

CHAMPION = "champion"


@dataclass(frozen=True)
class Split:
    """The rows on which files are judged.

    Attributes:
        files: TFRecord files of tf.Examples.
        saved_model: folder of the model that the files are made of.
        eval_config: a `tfma.EvalConfig`.
        schema: of the data, or None.
        raw_types: TensorFlow's type of each raw feature.
    """

    files: Sequence[str]
    saved_model: str
    eval_config: Any
    schema: Any
    raw_types: Mapping[str, Any]


def measure(export: Export, folder: Path, split: Split, champion: Subject | None, machine: str) -> Figures:
    """The figures of every variant, and of the file that devices have now.

    Args:
        export: the record.
        folder: that holds it.
        split: the rows.
        champion: the file that devices have; None where they have none.
        machine: its fingerprint.
    """
    subjects = {one.variant: Subject(file_of(folder, one.variant), one.digest) for one in export.variants if one.digest}
    known = {subject.digest: name for name, subject in subjects.items()}
    compared = known.get(champion.digest, CHAMPION) if champion else ""
    everyone: dict[str, Subject] = {str(name): subject for name, subject in subjects.items()}
    if champion and compared == CHAMPION:
        everyone[CHAMPION] = champion
    names = {name for one in export.variants for name in one.inputs}
    figures: list[Figure] = []
    notes: list[str] = []
    try:
        transformed = names if export.takes == "transformed" else set()
        rows, config = read_split(split.files, split.saved_model, split.eval_config, transformed, split.raw_types)
    except Unsupported as reason:
        return Figures(candidate=export.saved_model, notes=(f".tflite files were not measured: {reason}",))
    if export.takes == "raw":
        rows = _with_raw_features(rows, names, split)
    for name, subject in everyone.items():
        found = judge(subject, rows, config, split.schema)
        progress.advance(rows.count)
        figures += found.figures
        if found.problem:
            notes.append(f"{name}: {found.problem}")
    row = {name: values[:1] for name, values in rows.features[""].items()}
    figures += costs(
        {name: subject.path for name, subject in everyone.items()},
        {name: subject.digest for name, subject in everyone.items()},
        row,
        machine,
        compared,
    )
    return Figures(
        candidate=export.saved_model,
        champion=champion.digest if champion else "",
        figures=tuple(figures),
        notes=tuple(notes),
    )


def _with_raw_features(rows: Rows, names: Iterable[str], split: Split) -> Rows:
    """The rows with what files take that hold the preprocessing."""
    spec = raw_spec_of(split.schema)
    batches = [raw_features_of(names, spec, batch) for batch in examples_in(split.files)]
    features = {name: np.concatenate([batch[name] for batch in batches]) for name in names}
    return dataclasses.replace(rows, features={MODEL: features})
