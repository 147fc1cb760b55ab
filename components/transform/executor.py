"""Unpacks the artifacts, has the examples analyzed, and hands to stock TFX what cannot be done here."""

import importlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components import progress

__all__ = ["Executor"]

ANALYZED_SPLIT = "train"

_log = logging.getLogger(__name__)


class Executor(base_executor.BaseExecutor):
    """Executor of `Transform`. TensorFlow is imported when it runs, not when the pipeline is built."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Analyzes. See `Transform` for what it reads and writes.

        Raises:
            UserModuleError: `preprocessing_fn` fails or returns something else than a dict of tensors.
            DataError: the examples are not what the schema says.
        """
        from components.transform.operations import UnsupportedError

        try:
            _analyze(input_dict, output_dict, exec_properties)
        except UnsupportedError as reason:
            from components.transform import stock

            _log.warning("Transform runs on Beam, through stock TFX: %s", reason)
            stock.transform(self._context, input_dict, output_dict, exec_properties)
        _state_rows(input_dict["examples"], Path(artifact_utils.get_single_uri(output_dict["transform_graph"])))


def _analyze(
    input_dict: Mapping[str, list[types.Artifact]],
    output_dict: Mapping[str, list[types.Artifact]],
    exec_properties: Mapping[str, Any],
) -> None:
    from components.transform.analyze import analyze, publish
    from components.transform.cache import AnalyzerCache
    from components.transform.records import Parser

    examples = input_dict["examples"]
    schema_uri = artifact_utils.get_single_uri(input_dict["schema"])
    parser = Parser(io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema_uri)), _payload_format(examples))
    graph = Path(artifact_utils.get_single_uri(output_dict["transform_graph"]))

    files = [file for artifact in examples for file in _files(artifact, ANALYZED_SPLIT)]
    function = _function_at(exec_properties["preprocessing_fn"])
    cache = AnalyzerCache(_cache_folder(graph), _keys(examples), _made_by(exec_properties, parser.schema))
    progress.begin("rows", _rows_to_analyze(examples))
    analysis = analyze(function, parser, files, graph / ".temp_path", cache)
    publish(analysis, parser, graph)
    cache.prune()
    output_dict["transform_graph"][0].set_int_custom_property("rows_analyzed", analysis.rows_read)


def _cache_folder(graph: Path) -> Path:
    """Beside the node's outputs, below the pipeline root: `Transform/analyzer_cache`."""
    return graph.parent.parent / "analyzer_cache"


def _keys(examples: list[types.Artifact]) -> dict[str, str]:
    """The key of each file of the split that is analyzed, where the artifact tells it."""
    from components.example_gen.shards import keys_of_records

    return {
        str(Path(artifact.uri, path)): key
        for artifact in examples
        for path, key in keys_of_records(Path(artifact.uri)).items()
    }


def _made_by(exec_properties: Mapping[str, Any], schema: Any) -> list[str]:
    """What decides, beside a file's content, what its analysis comes to."""
    names = ("preprocessing_fn", "preprocessing_fn_fingerprint", "code_fingerprint")
    return [*(str(exec_properties[name]) for name in names), schema.SerializeToString(deterministic=True).hex()]


def _state_rows(examples: list[types.Artifact], graph: Path) -> None:
    """Writes down how many rows each split has, for whoever reads them through the transform graph; as far as is known."""
    from components.transform.records import ROWS_FILE

    splits = artifact_utils.decode_split_names(examples[0].split_names)
    rows = {}
    for split in splits:
        name = f"rows_{split}"
        if all(artifact.has_custom_property(name) for artifact in examples):
            rows[split] = sum(artifact.get_int_custom_property(name) for artifact in examples)
    (graph / ROWS_FILE).write_text(json.dumps(rows) + "\n", encoding="utf-8")


def _rows_to_analyze(examples: list[types.Artifact]) -> int:
    """How many rows there are, as far as ExampleGen has said; 0 where it has not."""
    return sum(artifact.get_int_custom_property(f"rows_{ANALYZED_SPLIT}") for artifact in examples)


def _function_at(path: str) -> Callable[..., Any]:
    """The function at a dotted path."""
    module, _, name = path.rpartition(".")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def _payload_format(examples: list[types.Artifact]) -> str:
    """How the records of all the artifacts are to be read: the name of a `PayloadFormat`, `|` between several."""
    from tfx.components.util import examples_utils
    from tfx.proto import example_gen_pb2

    formats = set()
    for artifact in examples:
        payload = example_gen_pb2.PayloadFormat.Name(examples_utils.get_payload_format(artifact))
        container = examples_utils.get_file_format(artifact)
        formats.add(payload if container == "tfrecords_gzip" else f"{payload} in {container}")
    return "|".join(sorted(formats))


def _files(artifact: types.Artifact, split: str) -> list[str]:
    folder = Path(artifact_utils.get_split_uri([artifact], split))
    return sorted(str(file) for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
