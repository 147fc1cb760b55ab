"""What workers in other processes are told, and which modules travel to them."""

from __future__ import annotations

import sys
from pathlib import Path

from apache_beam import Create, Pipeline
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import fn_runner

from components.transform.stock import _own_modules
from pipeline.user_module import add_to_path
from runners.beam import beam_arguments
from schemas.config import BeamConfig


def test_workers_are_told_the_options(monkeypatch) -> None:
    """The plugin among them, which a worker imports first; Beam's own engine by its name tells them nothing."""
    told = []

    def run_pipeline(self: fn_runner.FnApiRunner, pipeline: Pipeline, options: PipelineOptions) -> None:
        told.append(self._provision_info.provision_info.pipeline_options)

    monkeypatch.setattr(fn_runner.FnApiRunner, "run_pipeline", run_pipeline)
    arguments = beam_arguments(BeamConfig(args=("--direct_running_mode=multi_processing", "--direct_num_workers=2")))
    pipeline = Pipeline(options=PipelineOptions(arguments))
    _ = pipeline | Create([1])
    pipeline.run()
    (options,) = told
    assert list(options["beam:option:beam_plugins:v1"]) == ["tfx"]
    assert options["beam:option:direct_num_workers:v1"] == "2"


def test_the_user_s_modules_travel_and_installed_ones_do_not(tmp_path: Path, monkeypatch) -> None:
    """The one that is named and what it has imported from beside it; nothing of ours, and nothing from site-packages."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "carried_helper.py").write_text("def double(x): return 2 * x\n")
    (tmp_path / "carried_model.py").write_text("import json\nimport carried_helper\nimport pipeline.models\n")
    add_to_path(tmp_path)
    assert {module.__name__ for module in _own_modules("carried_model")} == {"carried_model", "carried_helper"}
    assert list(_own_modules("pipeline.models.taxi")) == []
