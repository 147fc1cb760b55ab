"""Evaluates one SavedModel on rows of files, as `python -m components.evaluator.alone JOB RESULT PARENT`.

The figures are those of the Evaluator: the same rows, metrics and intervals, by the same code. Rows without a label do not
count. What is wrong with model or rows becomes `problem`, in words, in the result.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.evaluator.fit import Unsupported
from components.example_gen.columns import columns_of
from components.example_gen.encode import encode
from components.example_gen.read import infer_columns, read_batches
from components.example_gen.records import framed
from components.example_gen.split import split_of
from components.process import die_with_parent
from schemas.config import GatesConfig
from schemas.decision import Figure
from schemas.errors import SatisficeError, shorten

__all__ = ["Job", "labelled_rows", "main"]

_log = logging.getLogger(__name__)

_SHOWN = 300


@dataclass(frozen=True)
class Job:
    """What is to be evaluated; plain JSON values.

    Attributes:
        model: folder of the SavedModel.
        digest: of its payload.
        label: name of the transformed feature that is the label.
        gates: the section `gates`, whose metrics and intervals are wanted.
        schema: the data schema in text format.
        format: of the files.
        files: that were never read for the model: all rows count.
        grown: files that may hold rows that were read for it, such as the next of full snapshots: rows that fall into the
            eval split count, of which none was trained on.
        splits: name to share, as the configuration has them.
        labelled: columns without whose values a row has no label.
        least: with fewer rows than that nothing is evaluated.
    """

    model: str
    digest: str
    label: str
    gates: dict[str, Any]
    schema: str
    format: str
    files: list[str]
    grown: list[str]
    splits: dict[str, int]
    labelled: list[str]
    least: int

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def main(job_file: str, result_file: str) -> None:
    """Does the job in a file, and writes the result into another: `rows` that have a label, and `figures`."""
    job = Job(**json.loads(Path(job_file).read_text(encoding="utf-8")))
    try:
        result = _evaluated(job)
    except (SatisficeError, Unsupported) as error:
        result = {"problem": shorten(str(error), _SHOWN)}
    except Exception as error:  # noqa: BLE001 - whatever a model does wrong is what is to be told
        _log.exception("The evaluation failed")
        result = {"problem": f"failed with {type(error).__name__}: {shorten(' '.join(str(error).split()), _SHOWN)}"}
    half = Path(f"{result_file}.half")
    half.write_text(json.dumps(result), encoding="utf-8")
    half.replace(result_file)


def _evaluated(job: Job) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="satisfice-evaluate-") as folder:
        records = Path(folder, "rows.tfrecord")
        rows = 0
        with records.open("wb") as file:
            for batch in labelled_rows(job):
                file.write(framed(encode(batch)))
                rows += batch.num_rows
        figures = _figures(job, records, Path(folder, "evaluation")) if rows >= max(job.least, 1) else []
    return {"rows": rows, "figures": [figure.model_dump(mode="json") for figure in figures]}


def labelled_rows(job: Job) -> Iterator[pa.RecordBatch]:
    """The rows that count.

    Raises:
        DataError: a file cannot be read.
    """
    columns = columns_of(job.schema)
    files = [Path(file) for file in (*job.files, *job.grown)]
    extras = {} if job.format == "tfrecord" or not files else infer_columns(files, job.format, columns)
    place = list(job.splits).index("eval") if "eval" in job.splits else -1
    for file in files:
        for batch in read_batches(file, job.format, columns, extras):
            counted = _has_values(batch, job.labelled)
            if str(file) in job.grown:
                counted &= split_of(batch, job.splits) == place
            yield batch.filter(pa.array(counted))


def _has_values(batch: pa.RecordBatch, names: list[str]) -> Any:
    """Which rows have a value, not NaN, in each of some columns."""
    counted = np.ones(batch.num_rows, np.bool_)
    for name in names:
        column = batch.column(name)
        counted &= column.is_valid().to_numpy(zero_copy_only=False)
        if pa.types.is_floating(column.type):
            counted &= ~pc.is_nan(column.fill_null(0)).to_numpy(zero_copy_only=False)
        elif pa.types.is_large_binary(column.type):
            counted &= pc.binary_length(column.fill_null(b"")).to_numpy() > 0
    return counted


def _figures(job: Job, records: Path, folder: Path) -> list[Figure]:
    """As the Evaluator measures a candidate without a champion."""
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2
    from tensorflow_model_analysis import utils

    from components.evaluation.eval_config import eval_config
    from components.evaluation.figures import read_figures
    from components.evaluator.compute import metrics_per_slice
    from components.evaluator.fit import check_config
    from components.evaluator.rows import read_rows
    from components.evaluator.write import write_evaluation

    gates = GatesConfig.model_validate(job.gates, strict=False)
    config = eval_config(gates, job.label)
    _with_intervals(config, gates.intervals)
    config = utils.update_eval_config_with_defaults(config, has_baseline=False, rubber_stamp=True)
    utils.verify_eval_config(config)
    check_config(config)
    schema = text_format.Parse(job.schema, schema_pb2.Schema())
    rows = read_rows([str(records)], {"": (job.model, config.model_specs[0])}, config.slicing_specs, {})
    write_evaluation(folder, config, {"": job.model}, metrics_per_slice(rows, config, schema))
    ill = rows.not_numbers()
    if ill:
        raise Unsupported(f"{sum(bad.sum() for bad in ill.values()):,} of {rows.count:,} answers are not numbers")
    return [figure for figure in read_figures(str(folder), job.digest, champion=False) if not figure.slice]


def _with_intervals(config: Any, method: str) -> None:
    """By the configuration's method; without one by that which leaves out a part in turn, as noise must not retrain."""
    from tensorflow_model_analysis.proto import config_pb2

    methods = config_pb2.ConfidenceIntervalOptions
    config.options.compute_confidence_intervals.value = True
    config.options.confidence_intervals.method = (
        methods.POISSON_BOOTSTRAP if method == "poisson_bootstrap" else methods.JACKKNIFE
    )


if __name__ == "__main__":
    die_with_parent(int(sys.argv[3]))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what TensorFlow says of the machine is for nobody
    main(sys.argv[1], sys.argv[2])
