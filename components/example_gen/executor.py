"""The executor: unpack the parameters, read and write, record the counts."""

import json
from pathlib import Path
from typing import Any

from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_executor
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from components.example_gen.columns import columns_of
from components.example_gen.encode import write_splits
from components.example_gen.read import find_files, infer_columns, read_batches
from schemas.config import SourceConfig

__all__ = ["Executor"]


class Executor(base_executor.BaseExecutor):
    """Reads the source's files and writes the splits' examples."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write the splits and set `split_names`, `payload_format`, `rows_in` and `rows_<split>` on the artifact.

        Raises:
            DataError: as `read_batches` and `write_splits`.
        """
        source = SourceConfig.model_validate_json(exec_properties["source"])
        weights: dict[str, int] = json.loads(exec_properties["splits"])
        columns = columns_of(exec_properties["schema"])
        examples = artifact_utils.get_single_instance(output_dict["examples"])

        files = find_files(source.path)
        extras = infer_columns(files, source.format, columns)
        batches = (batch for file in files for batch in read_batches(file, source.format, columns, extras))
        written = write_splits(batches, weights, Path(examples.uri))

        examples.split_names = artifact_utils.encode_split_names(list(weights))
        # No `file_format`: TFX knows no name for uncompressed TFRecords, and its readers go by the file's name.
        examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
        examples.set_int_custom_property("rows_in", written.rows_in)
        for name, rows in written.rows.items():
            examples.set_int_custom_property(f"rows_{name}", rows)
