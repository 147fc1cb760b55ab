"""The taxi template of stock TFX under its own LocalDagRunner, for comparison.

    python -m bench.stock_tfx --csv data/taxi/data.csv --work DIR [--steps 1000]

The graph, the evaluation and the push are those of `tfx/examples/chicago_taxi_pipeline/taxi_pipeline_native_keras.py`, the
user's code is that example's `taxi_utils.py`, named by its dotted path, which spares stock TFX the packaging of a
`module_file`. The example runs Beam in several processes; here it runs in one, as ours does, which took half the time on
500,000 rows and two cores.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

from bench.judge import judge
from bench.process import python, run_measured, stage

__all__ = ["build", "count_rows", "main", "measure"]

NAME = "stock_taxi"
_USER_MODULE = "tfx.examples.chicago_taxi_pipeline.taxi_utils"
_EVAL_STEPS = 150
_RECORD_HEADER = 12
"""Bytes before a TFRecord's data: its length (8) and a checksum."""
_RECORD_FOOTER = 4


def main() -> None:
    """Command line. Prints one JSON line."""
    parser = argparse.ArgumentParser(description="Run the taxi template of stock TFX.")
    parser.add_argument("--csv", type=Path, required=True, help="the trips")
    parser.add_argument("--work", type=Path, required=True, help="an empty or new folder for all that is written")
    parser.add_argument("--steps", type=int, default=1000, help="training steps of 40 rows")
    parser.add_argument("--inside", action="store_true", help="run here, unmeasured")
    arguments = parser.parse_args()
    if arguments.inside:
        _run(arguments.csv.absolute(), arguments.work.absolute(), arguments.steps)
    else:
        print(json.dumps(measure(arguments.csv, arguments.work, arguments.steps)))


def measure(csv: Path, work: Path, steps: int = 1000) -> dict[str, Any]:
    """Runs the template in a process of its own.

    Args:
        csv: the trips.
        work: an empty or new folder.
        steps: training steps of 40 rows.

    Returns:
        What it cost (`bench.process.Cost`); `stages`: by node `seconds`, `cpu_s`, `peak_mb` (of the whole process while the
        node ran); `rows` by split, `quality` and `steps`.

    Raises:
        RuntimeError: the run failed; the message names its log.
    """
    work = work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    if any(work.iterdir()):
        raise RuntimeError(f"{work} is not empty: a run in it would find the cache of the run before")
    options = ["--csv", str(csv.absolute()), "--work", str(work), "--steps", str(steps), "--inside"]
    log = work / "run.log"
    ended = run_measured([python(), "-m", "bench.stock_tfx", *options], log)
    if ended.code:
        raise RuntimeError(f"stock TFX ended with exit code {ended.code}: see {log}")
    models = sorted((work / "serving").glob("*/saved_model.pb"))
    if not models:
        raise RuntimeError(f"stock TFX pushed nothing: see {log}")
    examples = work / "root" / "CsvExampleGen" / "examples" / "1"
    return {
        **ended.cost.as_dict(),
        "stages": {name: stage(ended.samples, *span) for name, span in _node_spans(work).items()},
        "rows": {split: count_rows(examples / f"Split-{split}") for split in ("train", "eval")},
        "quality": judge(models[-1].parent, str(examples / "Split-eval" / "*.gz")),
        "steps": steps,
    }


def count_rows(folder: Path) -> int:
    """The number of records in the gzipped TFRecord files of a folder."""
    rows = 0
    for file in sorted(folder.glob("*.gz")):
        with gzip.open(file) as records:
            while header := records.read(_RECORD_HEADER):
                records.seek(int.from_bytes(header[:8], "little") + _RECORD_FOOTER, 1)
                rows += 1
    return rows


def build(data: Path, work: Path, steps: int) -> Any:
    """The template's pipeline on the CSV files in the folder `data`."""
    from tfx.components.evaluator.component import Evaluator
    from tfx.components.example_gen.csv_example_gen.component import CsvExampleGen
    from tfx.components.example_validator.component import ExampleValidator
    from tfx.components.pusher.component import Pusher
    from tfx.components.schema_gen.component import SchemaGen
    from tfx.components.statistics_gen.component import StatisticsGen
    from tfx.components.trainer.component import Trainer
    from tfx.components.transform.component import Transform
    from tfx.dsl.components.common.resolver import Resolver
    from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
    from tfx.orchestration import metadata, pipeline
    from tfx.proto import pusher_pb2, trainer_pb2
    from tfx.types import Channel, standard_artifacts

    examples = CsvExampleGen(input_base=str(data))
    statistics = StatisticsGen(examples=examples.outputs["examples"])
    schema = SchemaGen(statistics=statistics.outputs["statistics"], infer_feature_shape=True)
    validator = ExampleValidator(statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"])
    transform = Transform(
        examples=examples.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn=f"{_USER_MODULE}.preprocessing_fn",
    )
    trainer = Trainer(
        run_fn=f"{_USER_MODULE}.run_fn",
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        schema=schema.outputs["schema"],
        train_args=trainer_pb2.TrainArgs(num_steps=steps),
        eval_args=trainer_pb2.EvalArgs(num_steps=_EVAL_STEPS),
    )
    resolver = Resolver(
        strategy_class=LatestBlessedModelStrategy,
        model=Channel(type=standard_artifacts.Model),
        model_blessing=Channel(type=standard_artifacts.ModelBlessing),
    ).with_id("latest_blessed_model_resolver")
    evaluator = Evaluator(
        examples=examples.outputs["examples"],
        model=trainer.outputs["model"],
        baseline_model=resolver.outputs["model"],
        eval_config=_eval_config(),
    )
    destination = pusher_pb2.PushDestination.Filesystem(base_directory=str(work / "serving"))
    pusher = Pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(filesystem=destination),
    )
    return pipeline.Pipeline(
        pipeline_name=NAME,
        pipeline_root=str(work / "root"),
        components=[examples, statistics, schema, validator, transform, trainer, resolver, evaluator, pusher],
        enable_cache=True,
        metadata_connection_config=metadata.sqlite_metadata_connection_config(str(_database(work))),
        beam_pipeline_args=["--runner=FnApiRunner"],
    )


def _eval_config() -> Any:
    """The template's: accuracy on the whole split, at least 0.6 and no worse than the model blessed before."""
    from tensorflow_model_analysis.proto import config_pb2

    threshold = config_pb2.MetricThreshold(
        value_threshold=config_pb2.GenericValueThreshold(lower_bound={"value": 0.6}),
        change_threshold=config_pb2.GenericChangeThreshold(
            direction=config_pb2.MetricDirection.HIGHER_IS_BETTER, absolute={"value": -1e-10}
        ),
    )
    accuracy = config_pb2.MetricConfig(class_name="BinaryAccuracy", threshold=threshold)
    model = config_pb2.ModelSpec(
        signature_name="serving_default", label_key="tips_xf", preprocessing_function_names=["transform_features"]
    )
    return config_pb2.EvalConfig(
        model_specs=[model],
        slicing_specs=[config_pb2.SlicingSpec()],
        metrics_specs=[config_pb2.MetricsSpec(metrics=[accuracy])],
    )


def _run(csv: Path, work: Path, steps: int) -> None:
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner

    data = work / "data"
    data.mkdir(parents=True)
    (data / csv.name).symlink_to(csv)
    LocalDagRunner().run(build(data, work, steps))


def _database(work: Path) -> Path:
    return work / "metadata.db"


def _node_spans(work: Path) -> dict[str, tuple[float, float]]:
    """From the registration of each node's execution to its last change, by ML Metadata's clock, in seconds since 1970."""
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2

    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(_database(work))
    config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READONLY
    store = metadata_store.MetadataStore(config)
    types = {found.id: found.name.rsplit(".", 1)[-1] for found in store.get_execution_types()}
    executions = sorted(store.get_executions(), key=lambda execution: execution.id)
    return {
        types[execution.type_id]: (
            execution.create_time_since_epoch / 1000,
            execution.last_update_time_since_epoch / 1000,
        )
        for execution in executions
    }


if __name__ == "__main__":
    main()
