"""The TFX executor of the Pusher."""

from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor

from components.pusher.work import publish_candidate
from components.work import call_of


class Executor(base_executor.BaseExecutor):
    """Executor of `Pusher`. It completes when the decision forbids a push; it fails when a push that was due fails."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Publishes the candidate if the decision admits it. See `Pusher` for what it reads and writes."""
        publish_candidate(call_of(input_dict, output_dict, exec_properties, self._context))
