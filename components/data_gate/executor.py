"""The TFX executor of the DataGate."""

from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor

from components.data_gate.work import judge_data
from components.work import call_of


class Executor(base_executor.BaseExecutor):
    """Executor of `DataGate`. It completes whatever it finds; the graph's condition keeps the rest from running."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Judges the data. See `DataGate` for what it reads and writes."""
        judge_data(call_of(input_dict, output_dict, exec_properties, self._context))
