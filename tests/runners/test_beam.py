"""Which engine Beam's part runs on, what is refused before anything starts, and what each node gets of it."""

from __future__ import annotations

import shutil
import socket

import pytest

from runners import beam
from runners.beam import beam_arguments, engine_faults, ingests_on_beam
from schemas.config import BeamConfig
from schemas.load import parse_config

SMALLEST = {
    "name": "taxi",
    "data": {"source": {"format": "csv", "path": "/data/taxi.csv"}, "schema": "/data/schema.pbtxt"},
    "model": {"module": "taxi", "label": "tips"},
    "gates": {"satisfy": [{"metric": "auc", "min": 0.5}]},
    "push": {"serving": {"base_path": "/served"}},
}
INSTALLED = "--sdk_container_image=installed"
FLINK = ("--flink_master=[local]", "--parallelism=2")
SPARK = ("--job_endpoint=127.0.0.1:1", "--environment_type=LOOPBACK")
DATAFLOW = (
    "--project=a-project",
    "--region=europe-west1",
    "--temp_location=gs://bucket/tmp",
    "--sdk_container_image=registry.example/satisfice:0.1.0",
)


def faults(runner: str, *args: str, root: str | None = None) -> list[str]:
    """What is wrong with a section, on another machine unless a root is given."""
    config = parse_config({**SMALLEST, "beam": {"runner": runner, "args": list(args)}})
    return [f"{one.path}: {one.problem}" for one in engine_faults(config, root)]


@pytest.mark.parametrize(
    ("config", "ingests", "arguments"),
    [
        ({}, False, ["--runner=FnApiRunner"]),
        ({"runner": "direct"}, True, ["--runner=FnApiRunner", "--beam_plugin=tfx"]),
        ({"args": ("--x=1",)}, True, ["--runner=FnApiRunner", "--beam_plugin=tfx", "--x=1"]),
        (
            {"args": ("--direct_running_mode=multi_processing",)},
            True,
            [
                "--runner=runners.beam_processes.ProcessesRunner",
                "--beam_plugin=tfx",
                "--direct_running_mode=multi_processing",
            ],
        ),
        ({"runner": "flink", "args": FLINK}, True, ["--runner=FlinkRunner", "--beam_plugin=tfx", INSTALLED, *FLINK]),
        ({"runner": "spark"}, True, ["--runner=SparkRunner", "--beam_plugin=tfx", INSTALLED]),
        (
            {"runner": "spark", "args": ("--environment_type=docker", "--environment_config=x:1")},
            True,
            [
                "--runner=SparkRunner",
                "--beam_plugin=tfx",
                "--sdk_container_image=x:1",
                "--environment_type=docker",
                "--environment_config=x:1",
            ],
        ),
        (
            {"runner": "spark", "args": ("--setup_file=x",)},
            True,
            ["--runner=SparkRunner", "--beam_plugin=tfx", "--setup_file=x"],
        ),
        ({"runner": "dataflow"}, True, ["--runner=DataflowRunner", "--beam_plugin=tfx"]),
    ],
)
def test_the_engine_follows_from_the_configuration(config, ingests, arguments):
    """Ingest runs on it where it was chosen or told how to run; arguments are handed on as they are."""
    engine = BeamConfig.model_validate(config)
    assert ingests_on_beam(engine) is ingests
    assert beam_arguments(engine) == arguments


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"args": ("direct_num_workers=2",)}, "is no argument"),
        ({"args": ("--runner=FlinkRunner",)}, "names an engine"),
        ({"args": ("--runner=DaskRunner",)}, "loses rows without an error"),
        ({"args": ("--runner=apache_beam.runners.dask.dask_runner.DaskRunner",)}, "loses rows without an error"),
        ({"args": ("--beam_plugins=x",)}, "names an engine"),
        ({"args": ("--direct_running_mode=multi_threading",)}, "loses rows without an error"),
        ({"runner": "dask"}, "'dask' loses rows without an error"),
        ({"runner": "DaskRunner"}, "'DaskRunner' loses rows without an error"),
        ({"runner": "prism"}, "downloads a binary while the pipeline runs"),
    ],
)
def test_what_would_do_harm_is_refused(section, message):
    """Engines that lose rows, with the reason; engines by another name."""
    with pytest.raises(ValueError, match=message):
        BeamConfig.model_validate(section)


def test_nothing_configured_is_nothing_to_check(monkeypatch):
    """And Beam is not imported for it."""
    monkeypatch.setattr(beam, "_parsed", None)
    assert faults("local") == []


@pytest.mark.parametrize(
    ("runner", "args"),
    [
        ("local", ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]),
        ("direct", []),
        ("flink", [*FLINK, "--flink_job_server_jar=/jars/server.jar"]),
        ("flink", ["--job_endpoint=flink-jobs:8099", "--environment_type=EXTERNAL", "--environment_config=localhost:50000", "--parallelism=4"]),
        ("flink", ["--job_endpoint=flink-jobs:8099", "--environment_type=DOCKER", "--environment_config=registry.example/satisfice:0.1.0", "--parallelism=4"]),
        ("spark", SPARK),
        ("spark", ["--job_endpoint=jobs:8099", "--environment_type=PROCESS", '--environment_config={"command": "/opt/boot"}']),
        ("spark", ["--spark_master_url=spark://here:7077", "--spark_job_server_jar=/jars/s.jar", "--environment_type=EXTERNAL", "--environment_config=localhost:50000"]),
        ("dataflow", [*DATAFLOW, "--num_workers=2", "--max_num_workers=8"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_an_engine_needs_and_no_more(runner, args):
    """Complete arguments have no fault, on a machine on which neither jars nor servers are."""
    found = faults(runner, *args)
    assert [one for one in found if not one.startswith("data.source.path: is on a disk")] == []


@pytest.mark.parametrize(
    ("runner", "args", "fault"),
    [
        ("direct", ["--direct_num_worker=2"], "beam.args.0: is no argument of Beam"),
        ("direct", ["--parallelism=2"], "beam.args.0: is an argument of the engines flink, and does nothing on direct"),
        ("direct", ["--direct_num_workers=two"], "beam.args.0: is not as Beam takes it"),
        ("direct", ["--direct_running_mode=magic"], "beam.args.0: is not as Beam takes it"),
        ("direct", ["--direct_num_workers=4"], "beam.args.0: has no effect: one process works in memory"),
        ("direct", ["--direct_num_workers=2", "--direct_num_workers=3", "--direct_running_mode=multi_processing"], "beam.args.1: contradicts --direct_num_workers=2"),
        ("direct", ["--streaming"], "beam.args.0: is refused: the pipelines here read what is there"),
        ("direct", ["--no_wait_until_finish"], "beam.args.0: is refused: a node would end"),
        ("flink", [], "beam.args: neither a job server nor a master is named"),
        ("flink", FLINK, "beam.args: is missing: Beam would download the job server"),
        ("flink", [*FLINK, "--flink_job_server_jar=https://x/y.jar"], "beam.args.2: would be downloaded"),
        ("flink", [*FLINK, "--flink_version=1.5"], "beam.args.2: is not as Beam takes it"),
        ("flink", [*FLINK, "--job_endpoint=a:1", "--flink_job_server_jar=/x.jar", "--environment_type=DOCKER"], "beam.args.3: contradicts --job_endpoint"),
        ("flink", ["--job_endpoint=jobs"], "beam.args.0: is no address"),
        ("flink", ["--job_endpoint=jobs:1"], "beam.args: is not given: Flink would take its cluster's default"),
        ("flink", ["--job_endpoint=jobs:1"], "beam.args: is not given: Beam would start containers of its own image"),
        ("flink", ["--parallelism=8", "--max_parallelism=4", "--job_endpoint=jobs:1"], "beam.args.1: contradicts --parallelism=8"),
        ("flink", ["--job_endpoint=jobs:1", "--environment_type=DOKER"], "beam.args.1: is no environment of Beam"),
        ("flink", ["--job_endpoint=jobs:1", "--environment_type=DOCKER"], "beam.args.1: names no image"),
        ("flink", ["--job_endpoint=jobs:1", "--environment_type=LOOPBACK"], "beam.args.1: workers on jobs cannot call back"),
        ("flink", ["--job_endpoint=jobs:1", "--environment_type=EXTERNAL"], "beam.args.1: Option external_service_address is required"),
        ("flink", ["--job_endpoint=jobs:1", "--environment_type=EXTERNAL", "--environment_config=pool"], "beam.args.2: is no address of a pool"),
        ("flink", [*FLINK, "--flink_submit_uber_jar"], "beam.args.2: contradicts the master [local]"),
        ("spark", ["--spark_master_url=sprak://x:1"], "beam.args.0: is no master of Spark"),
        ("spark", ["--spark_master_url=spark://x:1", "--spark_submit_uber_jar"], "beam.args.1: needs to know where the jar is sent"),
        ("dataflow", [], "beam.args: is missing: Dataflow cannot do without"),
        ("dataflow", [*DATAFLOW[:2], "--temp_location=/tmp"], "beam.args.2: Invalid GCS path (/tmp)"),
        ("dataflow", ["--project=Not A Project", *DATAFLOW[1:]], "beam.args.0: Invalid Project ID"),
        ("dataflow", [*DATAFLOW, "--num_workers=9", "--max_num_workers=3"], "beam.args.4: num_workers (9) cannot exceed"),
        ("dataflow", DATAFLOW[:3], "beam.args: is missing: Satisfice is not installed on Dataflow's workers"),
        ("dataflow", DATAFLOW, "data.source.path: is on a disk, which Dataflow's workers do not see"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_cannot_run_is_refused_by_name(runner, args, fault):
    """Misspelt, useless, contradictory, missing: each at its place, with nothing started."""
    found = faults(runner, *args)
    assert any(one.startswith(fault) for one in found), found


def test_the_close_match_is_one_that_the_engine_reads():
    config = parse_config({**SMALLEST, "beam": {"runner": "flink", "args": ["--paralellism=2"]}})
    assert [one.close_match for one in engine_faults(config, None)] == ["--parallelism"]


def test_a_missing_package_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr(beam, "_DATAFLOW_NEEDS", ("apitools_that_is_not_there", "json"))
    found = engine_faults(parse_config({**SMALLEST, "beam": {"runner": "dataflow", "args": list(DATAFLOW)}}), None)
    (fault,) = [one for one in found if one.path == "beam.runner"]
    assert "needs the package apache-beam[gcp]: apitools_that_is_not_there cannot be imported" in fault.problem
    assert "pip install 'apache-beam[gcp]'" in fault.expected


def test_what_has_to_be_on_this_machine_is_looked_for(tmp_path, monkeypatch):
    """The jar, and java for it; only where the run is here."""
    jar = tmp_path / "server.jar"
    args = [*FLINK, f"--flink_job_server_jar={jar}"]
    assert faults("flink", *args) == []
    assert "beam.args.2: there is no such file" in faults("flink", *args, root=str(tmp_path))
    jar.write_bytes(b"")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert faults("flink", *args, root=str(tmp_path)) == [
        "beam.runner: 'java' is not installed, and the job server is a Java program"
    ]
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert faults("flink", *args, root=str(tmp_path)) == []


def test_an_address_at_which_nothing_answers_is_named(tmp_path):
    """Before the run, where the run is on this machine; one that answers is no fault."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        args = [f"--job_endpoint=127.0.0.1:{port}", "--environment_type=LOOPBACK", "--parallelism=1"]
        (found,) = faults("flink", *args, root=str(tmp_path))
        assert found.startswith("beam.args.0: cannot be reached: ")
        assert faults("flink", *args) == []
        server.listen()
        assert faults("flink", *args, root=str(tmp_path)) == []


@pytest.mark.parametrize("host", ["yarn-1", "k8s-flink", "mesos.example"])
def test_a_host_may_be_named_as_a_manager_of_clusters(monkeypatch, host):
    """It is an address like any other, and is looked for; a master of Spark that names no host is not."""
    args = [
        f"--job_endpoint={host}:8099",
        "--environment_type=EXTERNAL",
        f"--environment_config={host}:1",
        "--parallelism=1",
    ]
    assert faults("flink", *args) == []
    monkeypatch.setattr(beam, "_refused", lambda name, port: f"{name} has no port {port}")
    for given in (args, [f"--flink_master={host}:8099"]):
        (found,) = beam.unreachable(parse_config({**SMALLEST, "beam": {"runner": "flink", "args": given}}).beam)
        assert found.problem == f"cannot be reached: {host} has no port 8099"


@pytest.mark.parametrize(
    ("master", "known"),
    [("yarn", True), ("yarn-client", True), ("k8s://https://k:6443", True), ("mesos://m:5050", True), ("yarnhost:7077", False)],
)  # fmt: skip
def test_masters_of_spark_that_name_no_host(monkeypatch, master, known):
    """Nobody asks them for an answer; what only begins so is no master."""
    monkeypatch.setattr(beam, "_refused", lambda name, port: "nothing is there")
    section = parse_config({**SMALLEST, "beam": {"runner": "spark", "args": [f"--spark_master_url={master}"]}}).beam
    assert (beam.unreachable(section) == []) == known
    wrong = "beam.args.0: is no master of Spark" in faults("spark", *section.args)
    assert wrong == (not known)
