"""The compiled graph of a configuration whose containers run elsewhere, and what it was made of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from tfx.dsl.compiler import compiler

from components.code import library_versions, sources_digest
from pipeline.pipeline import create_pipeline
from pipeline.user_module import UserModule, load_user_module
from runners.beam import beam_arguments, ingests_on_beam
from runners.kubeflow.job import Source
from runners.kubeflow.values import schema_file
from schemas.config import PipelineConfig
from schemas.load import LoadedConfig

__all__ = ["graph_of", "rebuilt", "source_of"]


def source_of(remote: LoadedConfig, schema_file: str, module: UserModule) -> Source:
    """What a pipeline is compiled from.

    Args:
        remote: the configuration as the containers have it.
        schema_file: the data schema on this machine.
        module: the user's, as it was found on this machine.
    """
    return Source(
        config=json.dumps(remote.config.canonical()),
        file=str(remote.file),
        schema_text=Path(schema_file).read_text(encoding="utf-8"),
        fingerprints=(module.preprocessing_fingerprint, module.build_model_fingerprint),
        code=sources_digest(),
        libraries=library_versions(),
    )


def graph_of(config: PipelineConfig, module: UserModule, root: str, schema_file: str) -> bytes:
    """The pipeline's IR, serialized, with neither run id nor connection to a store. Equal things give equal bytes.

    Args:
        config: as the containers have it.
        module: the user's.
        root: pipeline root in the containers.
        schema_file: the data schema on this machine.
    """
    pipeline = create_pipeline(
        config,
        module,
        root,
        None,
        beam_arguments(config.beam),
        ingest_on_beam=ingests_on_beam(config.beam),
        schema_file=schema_file,
    )
    ir = compiler.Compiler().compile(pipeline)
    return bytes(ir.SerializeToString(deterministic=True))


def rebuilt(source: Source, config: PipelineConfig, root: str) -> bytes:
    """The IR of a pipeline of which a parameter has another value than that with which it was compiled.

    Raises:
        ConfigError: the user's module is not there, or does not fit.
    """
    module = load_user_module(config.model.module, Path(source.file).parent)
    if config.model.module == PipelineConfig.model_validate_json(source.config).model.module:
        preprocessing, building = source.fingerprints  # a checkout's fingerprints see more than an installed package's
        module = replace(module, preprocessing_fingerprint=preprocessing, build_model_fingerprint=building)
    with schema_file(source) as file:
        return graph_of(config, module, root, file)
