"""The executor: unpack the parameters, read and write, record the counts."""

import functools
import json
from pathlib import Path
from typing import Any

from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor, base_executor
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from components.example_gen.columns import columns_of
from components.example_gen.fingerprint import Snapshot
from components.example_gen.ingest import Recipe, ingest
from components.example_gen.read_ahead import earlier_folders, taken
from components.example_gen.record import record_of, spans_read, write_record
from components.example_gen.source_files import find_files
from components.example_gen.spans import window_of
from components.lineage.files_read import FILES_PROPERTY, files_record
from schemas.config import SourceConfig

__all__ = ["Executor"]


class Executor(base_beam_executor.BaseBeamExecutor):
    """Reads the source's files and writes the splits' examples, in this process or on the Beam engine."""

    def __init__(self, context: base_beam_executor.BaseBeamExecutor.Context | None = None) -> None:
        """Without packing TFX up for Beam's workers, which takes seconds and 52 MB that stay: see `_beam`."""
        base_executor.BaseExecutor.__init__(self, context)

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write the splits and set `split_names`, `payload_format` and the counts of rows on the artifact.

        Raises:
            DataError: as `ingest`; or the files are no longer those that the driver found.
        """
        source = SourceConfig.model_validate_json(exec_properties["source"])
        weights: dict[str, int] = json.loads(exec_properties["splits"])
        columns = columns_of(exec_properties["schema"])
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        folder = Path(examples.uri)

        # The span with which the run began: a newer one may have arrived since.
        window = window_of(source, exec_properties.get("span"))
        snapshot = Snapshot.of(window.files if window else find_files(source.path))
        if exec_properties.get("input_fingerprint"):
            snapshot.check_fingerprint(exec_properties["input_fingerprint"])
        # Not its own: what an attempt that was killed has left there makes way.
        earlier = [path for path in earlier_folders(folder.parent) if path != folder]
        code = exec_properties["code_fingerprint"]
        how = self._beam() if exec_properties.get("on_beam") else {}
        with taken(folder.parent.parent) as ahead:
            recipe = Recipe.of(snapshot.digests, source.format, columns, weights, code, [*earlier, *ahead])
            written, rows_read = ingest(recipe, snapshot, folder, earlier=earlier, ahead=ahead, **how)

        if window:
            write_record(record_of(window, written.files), folder)
            examples.span = window.newest.number
            examples.version = window.newest.version or 0
            examples.set_string_custom_property("spans_read", spans_read(window, written.files))
        examples.split_names = artifact_utils.encode_split_names(list(weights))
        # No `file_format`: TFX knows no name for uncompressed TFRecords, and its readers go by the file's name.
        examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
        examples.set_string_custom_property(FILES_PROPERTY, files_record(snapshot.digests))
        examples.set_int_custom_property("rows_in", written.rows_in)
        examples.set_int_custom_property("rows_read", rows_read)
        for name, rows in written.rows.items():
            examples.set_int_custom_property(f"rows_{name}", rows)

    def _beam(self) -> dict[str, Any]:
        from components.example_gen.on_beam import PIECE_ROWS, run_on

        super().__init__(self._context)
        return {"piece_rows": PIECE_ROWS, "run": functools.partial(run_on, self._make_beam_pipeline())}
