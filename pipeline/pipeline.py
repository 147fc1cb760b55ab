"""`create_pipeline`: the graph of a configuration, for every runner alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tfx.components.trainer.component import Trainer
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.proto import trainer_pb2
from tfx.types import standard_artifacts
from tfx.types.channel import Channel

from components.curated_schema.component import CuratedSchema
from components.data_gate.component import DataGate
from components.evaluation.eval_config import eval_config
from components.evaluator.component import Evaluator
from components.example_gen.component import ExampleGen
from components.gate.component import Gate, TFLiteFiles
from components.lineage.baseline import BaselineStrategy
from components.lineage.champion import ChampionStrategy
from components.lineage.devices import DevicesStrategy
from components.profiler.component import Profiler, is_needed
from components.pusher.component import Pusher
from components.statistics_gen.component import StatisticsGen
from components.tflite.evaluator import TFLiteEvaluator
from components.tflite.exporter import TFLiteExporter
from components.trainer.run import custom_config
from components.transform.component import Transform
from components.tuner.component import Tuner
from pipeline.user_module import UserModule
from schemas.config import PipelineConfig, TFLiteConfig, config_digest

__all__ = ["create_pipeline"]


def create_pipeline(
    config: PipelineConfig,
    module: UserModule,
    root: str,
    connection: Any,
    beam_args: Sequence[str],
    *,
    ingest_on_beam: bool = False,
    accept_without_champion: str = "",
    schema_file: str | None = None,
) -> tfx_pipeline.Pipeline:
    """The graph of a configuration.

    Args:
        config: checked, with absolute paths.
        module: the user's module, checked.
        root: pipeline root, below which artifacts are written.
        connection: of the metadata store.
        beam_args: for whatever runs on Beam.
        ingest_on_beam: whether ExampleGen does.
        accept_without_champion: see `Gate`.
        schema_file: where the data schema is read now, where the configuration's path is another machine's.

    Returns:
        The pipeline. What must not run on bad data stands in the condition on the data gate's decision.
    """
    data, gates = config.data, config.gates
    splits = {str(name): share for name, share in data.splits.items()}
    schema_path = schema_file or data.schema_path
    examples = ExampleGen(data.source, splits, schema_path, on_beam=ingest_on_beam)
    statistics = StatisticsGen(examples.outputs["examples"])
    schema = CuratedSchema(schema_path)
    baseline = Resolver(
        strategy_class=BaselineStrategy,
        config={"base_path": config.push.serving.base_path},
        served=Channel(type=standard_artifacts.PushedModel),
        baseline=Channel(type=standard_artifacts.ExampleStatistics),
    ).with_id("Baseline")
    data_gate = DataGate(
        statistics.outputs["statistics"],
        schema.outputs["schema"],
        data.validate_,
        # Without limits on drift nothing is compared, and a new champion concerns the node no more than its data.
        served=baseline.outputs["served"] if data.validate_.drift else None,
        baseline=baseline.outputs["baseline"] if data.validate_.drift else None,
    )
    with Cond(data_gate.outputs["decision"].future()[0].property("proceed") == 1):
        transform = Transform(
            examples=examples.outputs["examples"],
            schema=schema.outputs["schema"],
            preprocessing_fn=module.preprocessing_fn,
            fingerprint=module.preprocessing_fingerprint,
        )
        tuner = _tuner(config, module, examples, transform, schema) if config.training.searches else None
        warm_start = _warm_start(config) if config.training.warm_start == "champion" else None
        trainer = Trainer(
            run_fn="components.trainer.run.run_fn",
            examples=examples.outputs["examples"],
            transform_graph=transform.outputs["transform_graph"],
            schema=schema.outputs["schema"],
            train_args=trainer_pb2.TrainArgs(splits=["train"]),
            eval_args=trainer_pb2.EvalArgs(splits=["validate"]),
            base_model=warm_start.outputs["champion"] if warm_start else None,
            hyperparameters=tuner.outputs["best_hyperparameters"] if tuner else None,
            custom_config=custom_config(
                config.model, config.training, module.build_model_fingerprint, config.export.tflite, config.name
            ),
        )
        champion = Resolver(
            strategy_class=ChampionStrategy,
            config={"base_path": config.push.serving.base_path},
            candidate=trainer.outputs["model"],
            served=Channel(type=standard_artifacts.PushedModel),
            champion=Channel(type=standard_artifacts.Model),
        ).with_id("Champion")
        evaluator = Evaluator(
            examples.outputs["examples"],
            trainer.outputs["model"],
            eval_config(gates, config.model.label),
            baseline_model=champion.outputs["champion"],
            schema=schema.outputs["schema"],
            intervals=gates.intervals,
        )
        profilers = []
        if is_needed(gates):
            profiler = Profiler(
                trainer.outputs["model"],
                trainer.outputs["model_run"],
                examples.outputs["examples"],
                champion.outputs["champion"],
                gates,
            )
            # Alone on the machine: what runs beside it would be measured too.
            profiler.add_upstream_node(evaluator)
            profilers.append(profiler)
        tflite = config.export.tflite
        files = _tflite(config, tflite, trainer, transform, examples, schema) if tflite else None
        if files:
            for busy in (evaluator, *profilers):
                files.evaluator.add_upstream_node(busy)
        gate = Gate(
            trainer.outputs["model"],
            trainer.outputs["model_run"],
            evaluator.outputs["evaluation"],
            champion.outputs["served"],
            gates,
            config_digest(config),
            accept_without_champion=accept_without_champion,
            profile=profilers[0].outputs["profile"] if profilers else None,
            tflite=files.for_gate(tflite) if files and tflite else None,
        )
        pusher = Pusher(
            trainer.outputs["model"],
            gate.outputs["decision"],
            config.push,
            config.name,
            tflite=files.exporter.outputs["tflite"] if files else None,
        )
    return tfx_pipeline.Pipeline(
        pipeline_name=config.name,
        pipeline_root=root,
        components=[
            examples, statistics, schema, *([baseline] if data.validate_.drift else []), data_gate, transform,
            *([tuner] if tuner else []), *([warm_start] if warm_start else []), trainer, champion, evaluator, *profilers,
            *(files.nodes if files else ()), gate, pusher
        ],
        enable_cache=True,
        metadata_connection_config=connection,
        beam_pipeline_args=list(beam_args),
    )  # fmt: skip


@dataclass(frozen=True)
class _Files:
    """The nodes that make and measure `.tflite` files, and find the one that devices have where files are pushed."""

    exporter: TFLiteExporter
    evaluator: TFLiteEvaluator
    devices: Resolver | None

    @property
    def nodes(self) -> list[Any]:
        return [self.exporter, *([self.devices] if self.devices else []), self.evaluator]

    def for_gate(self, tflite: TFLiteConfig) -> TFLiteFiles:
        served = self.devices.outputs["served"] if self.devices else None
        return TFLiteFiles(self.exporter.outputs["tflite"], self.evaluator.outputs["profile"], tflite, served)


def _tuner(config: PipelineConfig, module: UserModule, examples: Any, transform: Any, schema: Any) -> Tuner:
    return Tuner(
        examples.outputs["examples"],
        transform.outputs["transform_graph"],
        schema.outputs["schema"],
        config.model,
        config.training,
        config.gates,
        config.export.tflite,
        module.build_model_fingerprint,
    )


def _warm_start(config: PipelineConfig) -> Resolver:
    """What finds the model now served, from whose weights the training begins; nothing on the first run."""
    return Resolver(
        strategy_class=ChampionStrategy,
        config={"base_path": config.push.serving.base_path},
        served=Channel(type=standard_artifacts.PushedModel),
        champion=Channel(type=standard_artifacts.Model),
    ).with_id("WarmStart")


def _tflite(
    config: PipelineConfig, tflite: TFLiteConfig, trainer: Any, transform: Any, examples: Any, schema: Any
) -> _Files:
    exporter = TFLiteExporter(
        trainer.outputs["model"], examples.outputs["examples"], transform.outputs["transform_graph"], tflite
    )
    devices = None
    if config.push.edge:
        devices = Resolver(
            strategy_class=DevicesStrategy,
            config={"base_path": config.push.edge.base_path},
            candidate=exporter.outputs["tflite"],
            served=Channel(type=standard_artifacts.PushedModel),
            devices=Channel(type=standard_artifacts.PushedModel),
        ).with_id("Devices")
    evaluator = TFLiteEvaluator(
        exporter.outputs["tflite"],
        trainer.outputs["model"],
        examples.outputs["examples"],
        schema.outputs["schema"],
        eval_config(config.gates, config.model.label, "tflite"),
        devices.outputs["devices"] if devices else None,
    )
    return _Files(exporter, evaluator, devices)
