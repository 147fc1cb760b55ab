"""What a copy of the worker template does: build a pipeline, or launch one of its nodes. Everything heavy is in here."""

from __future__ import annotations

import base64
import logging
import re
import traceback
from pathlib import Path
from typing import Any

from components import progress
from components.turn import given_by
from schemas.config import MetadataConfig
from schemas.errors import SatisficeError, find_cause, shorten

__all__ = ["build", "cause_of", "launch", "launch_node"]

_CAUSE_SHOWN = 400
_FRAME = re.compile(r'\s*File ".*", line \d+, in ')
_ABOVE_FRAMES = re.compile(
    r"in user code:|Detected at node .* defined at \(most recent call last\):|<stack traces unavailable>"
)


def build(config: str, overrides: list[str], root: str, accept_without_champion: str = "") -> dict[str, Any]:
    """Imports the user's module, checks it, and compiles the pipeline.

    Args:
        config: path of the configuration file.
        overrides: as `--set` takes them.
        root: pipeline root.
        accept_without_champion: see `components.gate.component.Gate`.

    Returns:
        `ir`: the serialized Pipeline proto in base64; or `error`: what `as_dict` of an error of ours gives.
    """
    from tfx.dsl.compiler import compiler

    from components.lineage.store import connection_config, without_password
    from pipeline.pipeline import create_pipeline
    from pipeline.user_module import load_user_module
    from runners.beam import beam_arguments, ingests_on_beam
    from schemas.load import load_config

    try:
        loaded = load_config(config, overrides)
        module = load_user_module(loaded.config.model.module, loaded.folder)
        engine = loaded.config.beam
        pipeline = create_pipeline(
            loaded.config,
            module,
            root,
            without_password(connection_config(loaded.config.metadata)),
            beam_arguments(engine),
            ingest_on_beam=ingests_on_beam(engine),
            accept_without_champion=accept_without_champion,
        )
        compiled = compiler.Compiler().compile(pipeline)
    except SatisficeError as error:
        return {"error": error.as_dict(), "traceback": traceback.format_exc()}
    return {"ir": base64.b64encode(compiled.SerializeToString(deterministic=True)).decode()}


def launch(
    ir: str, node: str, folder: str, use_cache: bool, channel: str, metadata: str, turn: str = ""
) -> dict[str, Any]:
    """Launches one node through TFX's portable launcher.

    Args:
        ir: file that holds the serialized Pipeline proto, its run id filled in.
        node: id of the node.
        folder: of the configuration, for the user's module.
        channel: file to which the node reports how far it is.
        use_cache: whether TFX's own cache may answer; the engine has one of its own for the nodes that it knows.
        metadata: the configuration's section, as JSON.
        turn: file that tells a node that was begun early that it is its turn; "" for others.

    Returns:
        `{}`; or `cause`, `traceback`, and `retry`: whether another attempt may fare better.
    """
    from tfx.proto.orchestration import pipeline_pb2

    from pipeline.user_module import add_to_path

    logging.getLogger().setLevel(logging.INFO)
    progress.report_to(Path(channel))
    given_by(Path(turn) if turn else None)
    add_to_path(Path(folder))
    pipeline = pipeline_pb2.Pipeline.FromString(Path(ir).read_bytes())
    try:
        launch_node(pipeline, node, MetadataConfig.model_validate_json(metadata), use_cache=use_cache)
    except Exception as error:  # noqa: BLE001 - whatever user code raises in a node is the node's failure
        traceback.print_exc()
        ours = find_cause(error)
        return {"cause": cause_of(error), "retry": ours is None, "traceback": traceback.format_exc()}
    finally:
        progress.end()
    return {}


def launch_node(pipeline: Any, node: str, store: MetadataConfig, *, use_cache: bool) -> None:
    """Launches one node in this process. It does not raise for inputs that cannot be resolved: read the node's state.

    Args:
        pipeline: the Pipeline proto, its run id filled in.
        node: id of the node.
        store: where ML Metadata lives. What the proto says of it is not used: it holds no password.
        use_cache: whether TFX's own cache may answer.
    """
    from tfx.orchestration import metadata
    from tfx.orchestration.local import runner_utils
    from tfx.orchestration.portable import launcher

    from components.lineage.store import connection_config

    deployment = runner_utils.extract_local_deployment_config(pipeline)
    proto = next(one.pipeline_node for one in pipeline.nodes if one.pipeline_node.node_info.id == node)
    proto.execution_options.caching_options.enable_cache = use_cache
    launcher.Launcher(
        pipeline_node=proto,
        mlmd_connection=metadata.Metadata(connection_config(store)),
        pipeline_info=pipeline.pipeline_info,
        pipeline_runtime_spec=pipeline.runtime_spec,
        executor_spec=runner_utils.extract_executor_spec(deployment, node),
        custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, node),
    ).launch()


def cause_of(error: BaseException) -> str:
    """What went wrong, in one message: ours where one is in the chain of causes, else the foreign one's first lines."""
    ours = find_cause(error)
    if ours is not None:
        return str(ours)
    text = " ".join(_without_stack(str(error)).split())
    return shorten(f"{type(error).__name__}: {text}", _CAUSE_SHOWN)


def _without_stack(text: str) -> str:
    """What TensorFlow and AutoGraph say without the frames that they put before it, each with its line of code."""
    kept: list[str] = []
    depth: int | None = None
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        if _FRAME.match(line):
            depth = indent
        elif line.strip() and (depth is None or indent <= depth):
            kept.append(line)
            depth = None
    return "\n".join(line for line in kept if not _ABOVE_FRAMES.fullmatch(line.strip())) or text
