"""One run on this machine: compiles the pipeline or takes what was compiled before, and lets the engine run it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from components.code import library_versions, sources_digest
from components.example_gen.ahead import Ahead
from components.lineage.reader import Lineage
from components.process import sigterm_raised
from pipeline.fingerprint import module_fingerprint
from pipeline.user_module import UserModule, locate_user_module
from runners.beam import ingests_on_beam
from runners.local.cache import Cache
from runners.local.choice import FINISHED, Chooser
from runners.local.engine import Engine, NodeResult, Plan
from runners.local.graph import Graph, Node, read_graph
from runners.local.records import Records
from runners.local.workers import MADE_OF, Workers, compiled_in, logs_of
from schemas.errors import (
    ConfigError,
    Fault,
    SatisficeError,
    UserModuleError,
    close_match,
    from_record,
)
from schemas.load import LoadedConfig

__all__ = ["Session", "made_of", "was_made_of", "why_not_resumed"]

_PACKAGES = ("schemas", "serving", "components", "pipeline")
_BUILD = "(build)"
_GRACE_S = 25.0
"""Kubernetes grants 30 s from SIGTERM to SIGKILL."""


@dataclass
class Session:
    """A run of a configuration in a pipeline root.

    Attributes:
        loaded: the configuration.
        module: the user's module, located.
        root: pipeline root.
        run_id: of the run.
        store: the open metadata store.
        lineage: a view on the same store.
        overrides: as `--set` took them, for the worker that builds the pipeline.
        resumed: whether what the run had finished before is kept.
        from_node: id of the node from which on everything has to run; "" for none.
        accept_without_champion: see `components.gate.component.Gate`.
        reads_ahead: whether the source is read while the graph is built.
        workers: those that were started before; None where none were. They end with the session.
    """

    loaded: LoadedConfig
    module: UserModule
    root: Path
    run_id: str
    store: Any
    lineage: Lineage
    overrides: list[str]
    resumed: bool = False
    from_node: str = ""
    accept_without_champion: str = ""
    reads_ahead: bool = False
    workers: Workers | None = None
    engine: Engine = field(init=False)
    _workers: Workers = field(init=False)
    _ends: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, init=False)

    def __enter__(self) -> Self:
        """Compiles the pipeline, or takes what was compiled before. Nothing is recorded yet.

        Raises:
            ConfigError: the user's module does not import or lacks a function, or `from_node` is no node.
        """
        self._workers = self.workers or Workers(self.folder, [str(self.loaded.folder)])
        try:
            self.engine = self._engine(self._graph(self._workers))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Ends every process."""
        self._ends.close()
        self._workers.close()

    def run(self, on_start: Callable[[str], None], on_end: Callable[[NodeResult], None]) -> list[NodeResult]:
        """Runs the pipeline; see `Engine.run`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        made = made_of(self.loaded, self.module, self.root, self.accept_without_champion)
        (self.folder / MADE_OF).write_text(made, encoding="utf-8")
        self.engine.ir_file.write_bytes(self.engine.graph.ir.SerializeToString(deterministic=True))
        with sigterm_raised():
            try:
                return self.engine.run(self._workers, on_start, on_end)
            except SystemExit:
                self._workers.close(_GRACE_S)
                raise

    def explain(self) -> list[Plan]:
        """What a run would do, and why. Nothing is recorded."""
        return self.engine.explain()

    @property
    def folder(self) -> Path:
        """Where this run's logs are, a file a node."""
        return logs_of(self.root, self.run_id)

    def log_of(self, node: str) -> Path:
        """The file that takes a node's noise."""
        return self.folder / f"{node.strip('()')}.log"

    def _engine(self, graph: Graph) -> Engine:
        runner = self.loaded.config.runner
        chooser = Chooser(
            records=Records(self.store),
            cache=Cache(self.root / "cache"),
            libraries=_libraries(),
            code_of=_code_of,
            custom_drivers=set(_custom_drivers(graph)),
            forced=frozenset(self._forced(graph)),
            resumed=self.resumed,
            stale=self._stale,
        )
        return Engine(
            graph=graph,
            chooser=chooser,
            read_node=lambda node: self.lineage.node(self.run_id, node),
            ir_file=self.folder / "pipeline.pb",
            folder=self.loaded.folder,
            metadata=self.loaded.config.metadata.model_dump_json(),
            log_of=self.log_of,
            max_parallel=os.cpu_count() or 1 if runner.max_parallel == "auto" else runner.max_parallel,
            retries=runner.retries,
        )

    def _stale(self, node: Node) -> bool:
        """Whether the functions of the user's module that a node runs are no longer the ones with which it was built."""
        then = {self.module.preprocessing_fingerprint, self.module.build_model_fingerprint}
        used = {mark for mark in then if any(mark in str(value) for value in node.parameters.values())}
        if not used:
            return False
        try:
            now = locate_user_module(self.module.name, self.loaded.folder)
        except UserModuleError:
            return True
        return not used <= {now.preprocessing_fingerprint, now.build_model_fingerprint}

    def _forced(self, graph: Graph) -> set[str]:
        if not self.from_node:
            return set()
        names = [node.id for node in graph.nodes]
        if self.from_node not in names:
            guess = close_match(self.from_node, names)
            raise ConfigError(
                "command line", [Fault("--from", "is not a node", ", ".join(names), self.from_node, guess)]
            )
        return graph.downstream(self.from_node)

    def _graph(self, workers: Workers) -> Graph:
        """The compiled pipeline. Compiling takes TFX; what was compiled from the same things before is read back."""
        name = made_of(self.loaded, self.module, self.root, self.accept_without_champion)
        path = compiled_in(self.root) / f"{name}.pb"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            half = path.with_suffix(".half")
            half.write_bytes(self._build(workers))
            os.replace(half, path)
        return read_graph(path.read_bytes(), self.run_id)

    def _read_ahead(self) -> None:
        """Has the source read by a process of its own, where that is asked for and this machine's files are read here."""
        config = self.loaded.config
        if self.reads_ahead and not ingests_on_beam(config.beam):
            self._ends.enter_context(Ahead(self.root / "ExampleGen", config.data))

    def _build(self, workers: Workers) -> bytes:
        arguments = {
            "config": str(self.loaded.file),
            "overrides": self.overrides,
            "root": str(self.root),
            "accept_without_champion": self.accept_without_champion,
        }
        workers.submit(_BUILD, "runners.local.jobs:build", arguments, self.log_of(_BUILD))
        self._read_ahead()
        done = workers.wait()
        if done is None or done.result is None:
            status = "" if done is None else f" with status {done.status}"
            raise SatisficeError("building the pipeline", f"ended{status}", remedy=f"The log is {self.log_of(_BUILD)}.")
        if "error" in done.result:
            raise from_record(done.result["error"])
        return base64.b64decode(done.result["ir"])


def made_of(loaded: LoadedConfig, module: UserModule, root: Path, accept_without_champion: str = "") -> str:
    """Names all that a compiled pipeline, the check of the user's module and what the nodes run depend on; no data.

    SHA-256, in hex.
    """
    things = {
        "config": loaded.digest,
        "root": str(root),
        "module": [module.name, str(module.file), _sha(module.file)],
        "functions": [module.preprocessing_fingerprint, module.build_model_fingerprint],
        "schema": _sha(Path(loaded.config.data.schema_path)),
        "libraries": _libraries(),
        "code": sources_digest(),
        "accept_without_champion": accept_without_champion,
    }
    return hashlib.sha256(json.dumps(things, sort_keys=True).encode()).hexdigest()


def was_made_of(root: Path, run_id: str) -> str:
    """`made_of` of a run when it ran; "" where nothing tells."""
    try:
        return (root / "logs" / run_id / MADE_OF).read_text(encoding="utf-8")
    except OSError:
        return ""


def why_not_resumed(
    lineage: Lineage,
    run_id: str,
    loaded: LoadedConfig,
    module: UserModule,
    root: Path,
    accept_without_champion: str = "",
) -> str:
    """Why what a run had finished cannot be kept as it stands; "" where it can.

    A run is of one piece: TFX neither runs a node twice in a run, nor does anyone want a model of which one half was
    made by other code than the other.
    """
    then = was_made_of(root, run_id)
    if not then:
        return f"nothing in {root} says what it was made of"
    if then != made_of(loaded, module, root, accept_without_champion):
        if then == made_of(loaded, module, root):
            return "it was given no --accept-without-champion"
        return (
            "the model's module, the data schema, the libraries, the code of the pipeline or --accept-without-champion "
            "have changed since"
        )
    cache = Cache(root / "cache")
    for node, execution in lineage.executions(run_id).items():
        if execution.last_known_state in FINISHED:
            record = lineage.node(run_id, node)
            damage = cache.damage(node, {output.id for output in record.outputs}) if record else ""
            if damage:
                return f"what {node} had put out is damaged: {damage}"
    return ""


def _libraries() -> dict[str, str]:
    return {**library_versions(), "python": f"{sys.version_info.major}.{sys.version_info.minor}"}


def _code_of(node: Node) -> str:
    """Digest of our own modules that a node runs; "" for a node that runs TFX's code alone."""
    paths = [node.executor, str(node.parameters.get("run_fn", ""))]
    digests = []
    for path in paths:
        module = path.rpartition(".")[0]
        if module.split(".")[0] in _PACKAGES:
            spec = importlib.util.find_spec(module)
            if spec is not None and spec.origin:
                file = Path(spec.origin)
                digests.append(module_fingerprint(file, [_root_of(module, file)]))
    return " ".join(digests)


def _root_of(module: str, file: Path) -> Path:
    return file.parents[module.count(".") + (file.name == "__init__.py")]


def _custom_drivers(graph: Graph) -> Iterator[str]:
    from tfx.proto.orchestration import pipeline_pb2

    deployment = pipeline_pb2.IntermediateDeploymentConfig()
    graph.ir.deployment_config.Unpack(deployment)
    yield from deployment.custom_driver_specs


def _sha(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
