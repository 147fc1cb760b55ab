"""The `Gate` node."""

from dataclasses import dataclass

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.artifact_types import Decision, Profile, TFLiteModels
from components.code import code_fingerprint
from components.gate import executor
from schemas.config import GatesConfig, TFLiteConfig

__all__ = ["Gate", "TFLiteFiles"]


@dataclass(frozen=True)
class TFLiteFiles:
    """The ladder that the Gate chooses from.

    Attributes:
        files: the exporter's.
        profile: what was measured of them.
        config: the configuration's section.
        served: the record of the push of the file that devices have; empty where they have none.
    """

    files: types.BaseChannel
    profile: types.BaseChannel
    config: TFLiteConfig
    served: types.BaseChannel | None = None


_CODE = (
    *("components", "components.gate", "components.lineage", "components.profiler", "components.pusher"),
    *("components.tflite", "schemas", "serving", "serving.store"),
)


class GateSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of `Gate`."""

    PARAMETERS = {
        "gates": component_spec.ExecutionParameter(type=str),
        "config_digest": component_spec.ExecutionParameter(type=str),
        "accept_without_champion": component_spec.ExecutionParameter(type=str),
        "export": component_spec.ExecutionParameter(type=str, optional=True),
        "code_fingerprint": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "model_run": component_spec.ChannelParameter(type=standard_artifacts.ModelRun),
        "evaluation": component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation),
        "profile": component_spec.ChannelParameter(type=Profile, optional=True),
        "tflite": component_spec.ChannelParameter(type=TFLiteModels, optional=True),
        "tflite_profile": component_spec.ChannelParameter(type=Profile, optional=True),
        "served": component_spec.ChannelParameter(type=standard_artifacts.PushedModel, optional=True),
        "served_file": component_spec.ChannelParameter(type=standard_artifacts.PushedModel, optional=True),
    }
    OUTPUTS = {
        "decision": component_spec.ChannelParameter(type=Decision),
        "blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
    }


class Gate(base_component.BaseComponent):
    """Judges the candidate by every gate and decides whether it ships.

    Writes a `Decision` with every verdict, limit, margin and reason, and the standard `ModelBlessing` beside it.
    """

    SPEC_CLASS = GateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        model: types.BaseChannel,
        model_run: types.BaseChannel,
        evaluation: types.BaseChannel,
        served: types.BaseChannel,
        gates: GatesConfig,
        config_digest: str,
        *,
        profile: types.BaseChannel | None = None,
        accept_without_champion: str = "",
        tflite: TFLiteFiles | None = None,
    ) -> None:
        """Makes the node.

        Args:
            model: the candidate.
            model_run: the record of its training, which holds the digest of the bytes that were made.
            evaluation: the figures of quality, of candidate and champion.
            served: the champion's push record; empty on the first run.
            gates: the configuration's section.
            config_digest: of the resolved configuration, for the record.
            profile: the figures of the payloads themselves; without it, gates on them are not measured.
            accept_without_champion: why a candidate is accepted that cannot be compared with the champion, for the
                record; "" where it is not.
            tflite: the candidate's `.tflite` files; without them none is chosen.
        """
        super().__init__(
            GateSpec(
                model=model,
                model_run=model_run,
                evaluation=evaluation,
                profile=profile,
                tflite=tflite.files if tflite else None,
                tflite_profile=tflite.profile if tflite else None,
                export=tflite.config.model_dump_json() if tflite else None,
                served_file=tflite.served if tflite else None,
                served=served,
                gates=gates.model_dump_json(by_alias=True),
                config_digest=config_digest,
                accept_without_champion=accept_without_champion,
                code_fingerprint=code_fingerprint(*_CODE),
                decision=types.Channel(type=Decision),
                blessing=types.Channel(type=standard_artifacts.ModelBlessing),
            )
        )
