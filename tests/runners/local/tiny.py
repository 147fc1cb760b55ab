"""A pipeline of a few nodes that does next to nothing, as the compiler leaves it."""

from pathlib import Path
from typing import Any

from tfx.dsl.compiler import compiler
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.orchestration import pipeline
from tfx.types import standard_artifacts
from tfx.types.channel import Channel

from components.artifact_types import DataDecision
from components.lineage.champion import ChampionStrategy

ORDER = ["Numbers", "Judge", "Fit", "Champion", "Compare", "Report"]


@component
def Numbers(examples: OutputArtifact[standard_artifacts.Examples], start: Parameter[int], word: Parameter[str]):  # noqa: N802
    Path(examples.uri, "numbers.txt").write_text(f"{word} {start}")


@component
def Judge(examples: InputArtifact[standard_artifacts.Examples], decision: OutputArtifact[DataDecision]):  # noqa: N802
    decision.proceed = 1


@component
def Fit(examples: InputArtifact[standard_artifacts.Examples], model: OutputArtifact[standard_artifacts.Model]):  # noqa: N802
    Path(model.uri, "model.txt").write_text("fit")


@component
def Compare(  # noqa: N802
    model: InputArtifact[standard_artifacts.Model], evaluation: OutputArtifact[standard_artifacts.ModelEvaluation]
):
    Path(evaluation.uri, "evaluation.txt").write_text("compared")


@component
def Report(examples: InputArtifact[standard_artifacts.Examples], schema: OutputArtifact[standard_artifacts.Schema]):  # noqa: N802
    Path(schema.uri, "report.txt").write_text("reported")


def compiled(root: Path, connection: Any = None, start: int = 3) -> bytes:
    """`Numbers` feeds `Judge` and `Report`; `Fit`, `Champion` and `Compare` stand in a condition on the judge."""
    numbers = Numbers(start=start, word="number")
    judge = Judge(examples=numbers.outputs["examples"])
    with Cond(judge.outputs["decision"].future()[0].property("proceed") == 1):
        fit = Fit(examples=numbers.outputs["examples"])
        champion = Resolver(
            strategy_class=ChampionStrategy,
            config={"base_path": str(root / "served")},
            candidate=fit.outputs["model"],
            served=Channel(type=standard_artifacts.PushedModel),
            champion=Channel(type=standard_artifacts.Model),
        ).with_id("Champion")
        compare = Compare(model=champion.outputs["candidate"])
    report = Report(examples=numbers.outputs["examples"])
    made = pipeline.Pipeline(
        pipeline_name="tiny",
        pipeline_root=str(root),
        components=[numbers, judge, fit, champion, compare, report],
        metadata_connection_config=connection,
    )
    return compiler.Compiler().compile(made).SerializeToString(deterministic=True)
