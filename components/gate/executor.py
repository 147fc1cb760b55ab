"""The TFX executor of the Gate."""

from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor

from components.gate.work import judge
from components.work import call_of


class Executor(base_executor.BaseExecutor):
    """Executor of `Gate`. It completes whatever it decides; a block is no failure."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Judges the candidate. See `Gate` for what it reads and writes."""
        judge(call_of(input_dict, output_dict, exec_properties, self._context))
