"""Beam's own engine with its workers in processes of their own (`--direct_running_mode=multi_processing`)."""

from __future__ import annotations

from typing import Any

from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.portability.portable_runner import JobServiceHandle

__all__ = ["ProcessesRunner"]


class ProcessesRunner(fn_runner.FnApiRunner):
    """Tells the workers the pipeline's options, which Beam's does only where its default engine starts it.

    Without them a worker imports no plugin, and what TFX stands in for is missing there.
    """

    def run_pipeline(self, pipeline: Any, options: Any) -> Any:
        """As Beam's."""
        told = JobServiceHandle.encode_pipeline_options(options.get_all_options())
        self._provision_info = fn_runner.ExtendedProvisionInfo(
            beam_provision_api_pb2.ProvisionInfo(pipeline_options=told)
        )
        return super().run_pipeline(pipeline, options)
