"""The engine that runs Beam's part of a pipeline: the arguments that Beam takes, checked before anything starts.

`local` and `direct` are Beam's own engine in this process, by its name. `flink`, `spark` and `dataflow` are clusters: their
workers are other processes, mostly on other machines. Two of Beam's ways of running lose rows without an error, and are
refused wherever they are named.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from schemas.config import BeamConfig, PipelineConfig
from schemas.errors import Fault, close_match

__all__ = ["beam_arguments", "engine_faults", "ingests_on_beam", "unreachable"]

_PLUGIN = "--beam_plugin=tfx"
"""Has workers in other processes import TFX, which stands in for a module of tfx_bsl that is gone."""
_RUNNERS = {
    "local": "FnApiRunner",  # Beam's default tries another engine first, which downloads a binary
    "direct": "FnApiRunner",
    "flink": "FlinkRunner",
    "spark": "SparkRunner",
    "dataflow": "DataflowRunner",
}
_IN_PROCESSES = "--direct_running_mode=multi_processing"
_PROCESSES = "runners.beam_processes.ProcessesRunner"
_ENGINES_OF = {
    "DirectOptions": ("local", "direct"),
    "FlinkRunnerOptions": ("flink",),
    "SparkRunnerOptions": ("spark",),
    "PortableOptions": ("flink", "spark"),
    "JobServerOptions": ("flink", "spark"),
    "StreamingOptions": (),
    "PrismRunnerOptions": (),
    "KafkaStreamsRunnerOptions": (),
    "TestOptions": (),
    "TestDataflowOptions": (),
}
"""A class of Beam's options to the engines on which they do something; a class that is not here is for all."""
_PACKAGES = frozenset(
    ("--sdk_container_image", "--extra_package", "--extra_packages", "--setup_file", "--requirements_file")
)
_NO_RUN = {
    "streaming": "the pipelines here read what is there and end",
    "no_wait_until_finish": "a node would end before its work does",
    "output_executable_path": "it writes a file instead of running",
    "template_location": "it writes a template instead of running",
    "dataflow_job_file": "it writes a file instead of running",
    "update": "it takes over another job",
}
"""Options with which Beam would not do a node's work, and why."""
_MAGIC_MASTERS = ("[local]", "[auto]")
_LOCAL_SPARK = re.compile(r"^local(\[[^\]]+\])?$")
_MANAGER = re.compile(r"^((k8s|mesos)://|yarn(-client|-cluster)?$)")
"""A master of Spark that names who manages the cluster, and no host that takes jobs."""
_ENVIRONMENTS = ("DOCKER", "PROCESS", "EXTERNAL", "LOOPBACK")
_LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
_PORTS = {"flink_master": 8081, "spark_master_url": 7077, "spark_rest_url": 6066}
_IMAGE = "Beam's own for this version of Python and of Beam, with Satisfice's wheel installed"
_DATAFLOW_NEEDS = ("apitools", "google.cloud.storage", "google.auth")
_CONNECT_S = 3.0


def beam_arguments(config: BeamConfig) -> list[str]:
    """The arguments for Beam: the engine's, then those of the configuration.

    >>> beam_arguments(BeamConfig())
    ['--runner=FnApiRunner']
    >>> beam_arguments(BeamConfig(runner="flink", args=("--flink_master=[local]",)))
    ['--runner=FlinkRunner', '--beam_plugin=tfx', '--sdk_container_image=installed', '--flink_master=[local]']
    """
    plugin = [_PLUGIN] if ingests_on_beam(config) else []
    runner = _PROCESSES if _IN_PROCESSES in config.args else _RUNNERS[config.runner]
    return [f"--runner={runner}", *plugin, *_what_workers_have(config), *config.args]


def _what_workers_have(config: BeamConfig) -> list[str]:
    """Tells TFX that the workers of a cluster have it, where nothing tells it: else it sends them a package to install."""
    given = {name: value for name, _, value in (arg.partition("=") for arg in config.args)}
    if config.runner not in ("flink", "spark") or not _PACKAGES.isdisjoint(given):
        return []
    image = "installed"
    if given.get("--environment_type", "").upper() == "DOCKER":
        image = given.get("--environment_config", "")
    return [f"--sdk_container_image={image}"] if image else []


def ingests_on_beam(config: BeamConfig) -> bool:
    """Whether ExampleGen's work is a Beam transform: where an engine was chosen, or told how to run."""
    return config.runner != "local" or bool(config.args)


def engine_faults(config: PipelineConfig, root: str | None) -> list[Fault]:
    """What is wrong with `beam`, before anything starts; Beam is imported only where something is configured.

    Args:
        config: of the pipeline.
        root: the pipeline root of the run; None where the run is on another machine, which has files and a network of
            its own.
    """
    beam = config.beam
    if not ingests_on_beam(beam):
        return []
    options, faults = _parsed(beam)
    if options is None:
        return faults
    given = _Given(beam, options)
    faults += [*_no_run(given), *_OF_ENGINE.get(beam.runner, _direct)(given)]
    if beam.runner == "dataflow":
        faults += _dataflow_places(config, root)
    if root is not None and not faults:
        faults += [*_here(given), *unreachable(beam)]
    return faults


# --- reading the arguments --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Given:
    """The section, and what Beam makes of its arguments."""

    config: BeamConfig
    options: Mapping[str, Any]

    def names(self, name: str) -> bool:
        """Whether an argument sets the option."""
        return any(arg.partition("=")[0] == f"--{name}" for arg in self.config.args)

    def text(self, name: str) -> str:
        """The option's value; "" where it has none."""
        return str(self.options.get(name) or "")

    def fault(self, name: str, problem: str, expected: str, got: str | None = None) -> Fault:
        """A fault of an argument: at its place in the list where it is there."""
        for index, arg in enumerate(self.config.args):
            if arg.partition("=")[0] == f"--{name}":
                return Fault(f"beam.args.{index}", problem, expected, arg if got is None else got)
        return Fault("beam.args", problem, expected, got or "")


def _parsed(config: BeamConfig) -> tuple[dict[str, Any] | None, list[Fault]]:
    """What Beam's own parsers make of the arguments; None where they cannot be read."""
    import argparse

    from apache_beam.options import pipeline_options

    class Parser(pipeline_options._BeamArgumentParser):  # noqa: SLF001 - the parser that Beam reads with
        def error(self, message: str) -> None:
            raise argparse.ArgumentError(None, message)

    parser, owners = Parser(allow_abbrev=False, add_help=False), {}
    for kind in {str(one): one for one in pipeline_options.PipelineOptions.__subclasses__()}.values():
        before = set(parser._option_string_actions)  # noqa: SLF001 - argparse tells of its options in no other way
        kind._add_argparse_args(parser)  # noqa: SLF001 - how a class of options says what it reads
        owners.update(dict.fromkeys(set(parser._option_string_actions) - before, kind.__name__))  # noqa: SLF001
    actions = parser._option_string_actions  # noqa: SLF001
    faults = [*_unknown(config, owners), *_repeated(config, actions)]
    if any(arg.partition("=")[0] not in owners for arg in config.args):
        return None, faults
    try:
        return vars(parser.parse_args(list(config.args))), faults
    except argparse.ArgumentError as error:
        named = re.search(r"argument (--\w+)", str(error))
        place = next((i for i, arg in enumerate(config.args) if named and arg.startswith(named[1])), None)
        path = "beam.args" if place is None else f"beam.args.{place}"
        got = "" if place is None else config.args[place]
        return None, [*faults, Fault(path, f"is not as Beam takes it: {error}", "--name=value", got)]


def _unknown(config: BeamConfig, owners: Mapping[str, str]) -> Iterator[Fault]:
    """Arguments that Beam does not know, or that the engine does nothing with."""
    useful = [name for name, owner in owners.items() if config.runner in _ENGINES_OF.get(owner, (config.runner,))]
    for index, arg in enumerate(config.args):
        name = arg.partition("=")[0]
        if name not in owners:
            expected = f"an argument of Beam's {_RUNNERS[config.runner]}"
            yield Fault(f"beam.args.{index}", "is no argument of Beam", expected, arg, close_match(name, useful))
        elif name not in useful:
            others = _ENGINES_OF[owners[name]]
            whose = f"of the engines {' and '.join(others)}" if others else "that no engine here reads"
            problem = f"is an argument {whose}, and does nothing on {config.runner}"
            yield Fault(f"beam.args.{index}", problem, f"an argument of Beam's {_RUNNERS[config.runner]}", arg)


def _repeated(config: BeamConfig, actions: Mapping[str, Any]) -> Iterator[Fault]:
    """An option that is given twice, of which Beam would take the last."""
    first: dict[str, str] = {}
    for index, arg in enumerate(config.args):
        action = actions.get(arg.partition("=")[0])
        if action is None or type(action).__name__ == "_AppendAction":
            continue
        if action.dest in first:
            yield Fault(
                f"beam.args.{index}", f"contradicts {first[action.dest]}", f"one --{action.dest}, with one value", arg
            )
        first.setdefault(action.dest, arg)


def _no_run(given: _Given) -> Iterator[Fault]:
    for name, why in _NO_RUN.items():
        if given.options.get(name):
            yield given.fault(name, f"is refused: {why}", "this argument left out")


# --- what each engine needs -------------------------------------------------------------------------------------------


def _direct(given: _Given) -> Iterator[Fault]:
    mode, workers = given.options["direct_running_mode"], given.options["direct_num_workers"]
    if mode == "in_memory" and workers != 1:
        problem = "has no effect: one process works in memory"
        yield given.fault(
            "direct_num_workers", problem, "--direct_running_mode=multi_processing beside it, or one worker"
        )
    if workers < 0:
        yield given.fault("direct_num_workers", "is negative", "a number of workers; 0 for one per processor")


def _flink(given: _Given) -> Iterator[Fault]:
    master = given.text("flink_master")
    yield from _job_server(
        given, "flink_master", "--flink_master=HOST:PORT, or [local] for a cluster in the job server"
    )
    if given.options["job_endpoint"] is None and master == "[auto]":
        expected = "--flink_master=HOST:PORT, or [local]"
        yield given.fault("flink_master", "the master is not named, and Flink would look for one", expected)
    if given.options["flink_submit_uber_jar"] and master in _MAGIC_MASTERS:
        yield given.fault(
            "flink_submit_uber_jar", f"contradicts the master {master}, which no jar is sent to", "a HOST:PORT"
        )
    most, at_once = given.options["max_parallelism"], given.options["parallelism"]
    if at_once < 1:
        problem = "is not given: Flink would take its cluster's default, which is mostly 1"
        yield given.fault("parallelism", problem if at_once == -1 else "is not positive", "--parallelism=N")
    elif most != -1 and most < at_once:
        yield given.fault("max_parallelism", f"contradicts --parallelism={at_once}", f"{at_once} or more")
    yield from _environment(given, local=master == "[local]", master=master)


def _spark(given: _Given) -> Iterator[Fault]:
    master = given.text("spark_master_url")
    expected = "--spark_master_url=spark://HOST:PORT, or local[N] for a cluster in the job server"
    yield from _job_server(given, "spark_master_url", expected)
    if given.options["spark_submit_uber_jar"] and not given.options["spark_rest_url"]:
        yield given.fault(
            "spark_submit_uber_jar", "needs to know where the jar is sent", "--spark_rest_url=http://HOST:6066"
        )
    if given.options["spark_rest_url"] and not given.options["spark_submit_uber_jar"]:
        yield given.fault("spark_rest_url", "has no effect without --spark_submit_uber_jar", "both or none")
    if given.names("spark_master_url") and not (
        _LOCAL_SPARK.match(master) or _MANAGER.match(master) or master.startswith("spark://")
    ):
        yield given.fault("spark_master_url", "is no master of Spark", "spark://HOST:PORT, local[N], yarn or k8s://…")
    yield from _environment(given, local=bool(_LOCAL_SPARK.match(master)), master=master)


def _job_server(given: _Given, master: str, expected: str) -> Iterator[Fault]:
    """Who takes the job: a server that runs, or one that is started from a jar that is here. Nothing is downloaded."""
    engine = given.config.runner
    jar = f"{engine}_job_server_jar"
    endpoint = given.options["job_endpoint"]
    if endpoint is not None:
        if _address(endpoint, None) is None:
            yield given.fault("job_endpoint", "is no address", "HOST:PORT")
        for other in (jar, f"{engine}_submit_uber_jar"):
            if given.options[other]:
                yield given.fault(other, "contradicts --job_endpoint, which names a server that runs", "one of the two")
        return
    if not given.names(master):
        yield given.fault(
            "job_endpoint", "neither a job server nor a master is named", f"--job_endpoint=HOST:PORT; or {expected}"
        )
    elif given.text(jar) == "":
        remedy = (
            f"--{jar}=FILE, the jar beam-runners-{engine}-…-job-server of Beam's version; or --job_endpoint=HOST:PORT"
        )
        yield given.fault(jar, "is missing: Beam would download the job server while the pipeline runs", remedy)
    elif "://" in given.text(jar):
        yield given.fault(jar, "would be downloaded while the pipeline runs", "a file on this machine")


def _environment(given: _Given, *, local: bool, master: str) -> Iterator[Fault]:
    """Where Python runs on the cluster. What contradicts what is told by Beam's own validator."""
    from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
    from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator

    kind = given.text("environment_type").upper()
    if not kind:
        if not local or given.options["job_endpoint"] is not None:
            problem = "is not given: Beam would start containers of its own image, in which Satisfice is not installed"
            yield given.fault("environment_type", problem, f"--environment_type={', '.join(_ENVIRONMENTS)}")
        return
    if kind not in _ENVIRONMENTS:
        expected = " or ".join(_ENVIRONMENTS)
        yield Fault(
            given.fault("environment_type", "", "").path,
            "is no environment of Beam",
            expected,
            kind,
            close_match(kind, _ENVIRONMENTS),
        )
        return
    options = PipelineOptions(list(given.config.args))
    for message in options.view_as(PortableOptions).validate(PipelineOptionsValidator(options, None)):
        yield given.fault("environment_type", message, f"what the environment {kind} takes")
    configured = given.text("environment_config")
    if kind == "EXTERNAL" and configured and _address(configured, None) is None:
        yield given.fault("environment_config", "is no address of a pool of workers", "HOST:PORT")
    image = configured or options.view_as(PortableOptions).lookup_environment_option("docker_container_image")
    if kind == "DOCKER" and not (image or given.options["sdk_container_image"]):
        problem = "names no image: Satisfice is not installed in Beam's own"
        yield given.fault("environment_type", problem, f"--environment_config=IMAGE: {_IMAGE}")
    if kind == "LOOPBACK":
        yield from _loopback(given, master)


def _loopback(given: _Given, master: str) -> Iterator[Fault]:
    """LOOPBACK: the cluster's workers call back to this process, under this machine's own name for itself."""
    endpoint = given.options["job_endpoint"]
    found = _address(endpoint, None) if endpoint else _address(master, 0)
    if master in _MAGIC_MASTERS or _LOCAL_SPARK.match(master):
        found = found if endpoint else None
    if found and found[0] not in _LOOPBACK_HOSTS:
        problem = f"workers on {found[0]} cannot call back to this process"
        yield given.fault(
            "environment_type", problem, "DOCKER, PROCESS or EXTERNAL; LOOPBACK where all is on one machine"
        )


def _dataflow(given: _Given) -> Iterator[Fault]:
    """What Dataflow cannot do without, then its own rules."""
    lacking = [name for name in _DATAFLOW_NEEDS if not _importable(name)]
    if lacking:
        problem = f"needs the package apache-beam[gcp]: {', '.join(lacking)} cannot be imported"
        yield Fault(
            "beam.runner", problem, "pip install 'apache-beam[gcp]', of the version that is installed", "dataflow"
        )
    missing = [name for name in ("project", "region", "temp_location") if not given.options[name]]
    for name in missing:
        example = "gs://BUCKET/tmp" if name == "temp_location" else name.upper()
        yield given.fault(name, "is missing: Dataflow cannot do without", f"--{name}={example}")
    if not any(given.options[name] for name in ("sdk_container_image", "extra_packages", "setup_file")):
        problem = "is missing: Satisfice is not installed on Dataflow's workers"
        yield given.fault("sdk_container_image", problem, f"--sdk_container_image=IMAGE: {_IMAGE}")
    yield from _dataflow_rules(given, complete=not missing)


def _dataflow_rules(given: _Given, *, complete: bool) -> Iterator[Fault]:
    """Dataflow's rules, as Beam's validator has them; none of these asks the network."""
    from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, WorkerOptions
    from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator

    options = PipelineOptions(list(given.config.args))
    validator = PipelineOptionsValidator(options, None)
    cloud, worker = options.view_as(GoogleCloudOptions), options.view_as(WorkerOptions)
    for name in ("temp_location", "staging_location"):
        if given.options[name]:
            for message in validator.validate_gcs_path(cloud, name):
                yield given.fault(name, message, "gs://BUCKET/FOLDER")
    if complete:
        for message in validator.validate_cloud_options(cloud):
            yield given.fault("project", message, "as Dataflow takes it")
    for message in [*validator.validate_num_workers(worker), *validator.validate_worker_region_zone(worker)]:
        yield given.fault(
            "num_workers" if "workers" in message else "worker_zone", message, "what does not contradict itself"
        )


def _dataflow_places(config: PipelineConfig, root: str | None) -> Iterator[Fault]:
    """Places that Dataflow's workers do not see: they mount nothing."""
    places = {"data.source.path": config.data.source.path, "(pipeline root)": root or ""}
    for name, place in places.items():
        if place and not place.startswith("gs://"):
            problem = "is on a disk, which Dataflow's workers do not see"
            yield Fault(name, problem, "gs://…; or beam.runner flink or spark, whose workers can mount a volume", place)


_OF_ENGINE = {"flink": _flink, "spark": _spark, "dataflow": _dataflow}


# --- this machine, and the network ------------------------------------------------------------------------------------


def _here(given: _Given) -> Iterator[Fault]:
    """What the process that submits needs on its own machine: the jar, and java for it."""
    jar_option = f"{given.config.runner}_job_server_jar"
    jar = given.text(jar_option)
    if not jar:
        return
    if not (os.path.isabs(jar) and Path(jar).is_file()):
        yield given.fault(jar_option, "there is no such file", "the absolute path of a jar")
    launcher = given.text("job_server_java_launcher")
    if shutil.which(launcher) is None:
        problem = f"{launcher!r} is not installed, and the job server is a Java program"
        yield Fault("beam.runner", problem, "Java 17: apt-get install openjdk-17-jre-headless", given.config.runner)


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the package above it is not there
        return False


def unreachable(config: BeamConfig) -> list[Fault]:
    """Addresses that the process that submits has to reach, and that nothing answers at; bounded in time.

    The pool of an EXTERNAL environment is not among them: the cluster's workers reach it, each its own.
    """
    given = {name.removeprefix("--"): value for name, _, value in (arg.partition("=") for arg in config.args)}
    asked = ["job_endpoint", "artifact_endpoint"]
    if "job_endpoint" not in given:
        asked += [f"{config.runner}_master" if config.runner == "flink" else "spark_master_url", "spark_rest_url"]
    faults = []
    for name in asked:
        address = _address(given.get(name, ""), _PORTS.get(name))
        why = address and _refused(*address)
        if address and why:
            index = [arg.partition("=")[0] for arg in config.args].index(f"--{name}")
            expected = f"what answers at {address[0]}:{address[1]} within {_CONNECT_S:g} s"
            faults.append(Fault(f"beam.args.{index}", f"cannot be reached: {why}", expected, config.args[index]))
    return faults


def _refused(host: str, port: int) -> str:
    """Why nothing answers; "" where something does."""
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_S):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _address(text: str, port: int | None) -> tuple[str, int] | None:
    """Host and port of an address, with or without a scheme; None where it is none, or one that is no host."""
    if not text or text in _MAGIC_MASTERS or _LOCAL_SPARK.match(text) or _MANAGER.match(text):
        return None
    try:
        found = urlsplit(text if "://" in text else f"//{text}")
        number = found.port if found.port is not None else port
    except ValueError:
        return None
    return (found.hostname, number) if found.hostname and number is not None else None
