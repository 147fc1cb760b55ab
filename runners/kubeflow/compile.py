"""`satisfice compile --to kubeflow`: the graph as a native kfp v2 pipeline, one container for each node.

Each container runs TFX's launcher on its node's part of the compiled graph against a metadata store of our own. TFX's
own Kubeflow runner is not used: open-source Kubeflow refuses what it compiles wherever there is a resolver, and caches
without looking at the data. Kubeflow's cache is off; TFX's own decides in the container.
"""

from __future__ import annotations

import base64
import inspect
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from kfp import compiler, components, dsl

from pipeline.check import check
from runners.beam import engine_faults
from runners.kubeflow.build import graph_of, source_of
from runners.kubeflow.job import BeginJob, NodeJob, SettleJob, Source, TellJob, pack
from runners.kubeflow.part import alone, shape_of
from runners.kubeflow.places import in_containers, root_of, section_of
from runners.kubeflow.pods import dress, refuse_unknown_nodes, unset_variables
from runners.kubeflow.values import check_parameters, value_at
from runners.local.graph import Condition, Graph, Node
from schemas.config import KubeflowConfig, PipelineConfig, VolumeConfig
from schemas.errors import ConfigError, SatisficeError
from schemas.load import LoadedConfig

__all__ = ["BEGIN", "REPORT", "Compiled", "compile_pipeline", "compile_settlement", "parameter_name"]

BEGIN, REPORT = "Begin", "Report"
_COMMAND = ["python", "-P", "-m", "runners.kubeflow.node"]
_TYPES: dict[type, str] = {bool: "Boolean", int: "Integer", float: "Float", str: "String"}

_GATE = "components.gate.component.Gate"
_DATA_GATE = "components.data_gate.component.DataGate"
_PUSHER = "components.pusher.component.Pusher"
_SHOWS: dict[str, dict[str, str]] = {
    _DATA_GATE: {"data": "Markdown"},
    _GATE: {"gates": "Markdown", "gates_page": "HTML", "metrics": "Metrics"},
}
"""Type of a node to what it shows on Kubeflow's page, by the name of its output."""
_ENDINGS = {"blocked": "Blocked", "pending": "WaitsForApproval"}
"""How a push ended to the task that says so: it runs there and nowhere else."""
_DATA_BLOCKED = "DataBlocked"


@dataclass(frozen=True)
class Compiled:
    """A pipeline as Kubeflow takes it.

    Attributes:
        text: YAML, of two documents where Kubernetes has to do more than run containers.
        nodes: ids, in order.
        parameters: name to default.
    """

    text: str
    nodes: tuple[str, ...]
    parameters: dict[str, object] = field(default_factory=dict)


def parameter_name(key: str) -> str:
    """The name of a parameter of the pipeline, of the configuration's dotted key.

    >>> parameter_name("training.epochs")
    'training_epochs'
    """
    return key.replace(".", "_").lower()


def compile_pipeline(loaded: LoadedConfig) -> Compiled:
    """Compiles a configuration. The same configuration, schema, module and code give the same text.

    Args:
        loaded: as it was read on this machine; its module and its data schema are here, its data need not be.

    Raises:
        ConfigError: with the faults that were found.
    """
    kubeflow, volume = section_of(loaded.config, str(loaded.file))
    remote = in_containers(loaded)
    check_parameters(remote.config, kubeflow.parameters, str(loaded.file))
    _refuse_unset(remote.config, kubeflow, str(loaded.file))
    module = check(loaded, None, beside=engine_faults(remote.config, None))
    root = root_of(remote.config, volume)
    serialized = graph_of(remote.config, module, root, loaded.config.data.schema_path)
    graph = shape_of(serialized)
    endings = [*_ENDINGS.values(), _DATA_BLOCKED]
    refuse_unknown_nodes(kubeflow, [*(node.id for node in graph.nodes), BEGIN, REPORT, *endings], str(loaded.file))
    source = source_of(remote, loaded.config.data.schema_path, module)
    plan = _Plan(remote.config, kubeflow, volume, graph, serialized, source, root)
    return Compiled(plan.text(), tuple(node.id for node in graph.nodes), plan.defaults)


def _refuse_unset(config: PipelineConfig, kubeflow: KubeflowConfig, source: str) -> None:
    servers = [one for one in (config.metadata.mysql, config.metadata.postgresql) if one is not None]
    faults = list(unset_variables(kubeflow, [one.password_env for one in servers if one.password_env]))
    if faults:
        raise ConfigError(source, faults)


class _Plan:
    """Arranges the tasks."""

    def __init__(
        self,
        config: PipelineConfig,
        kubeflow: KubeflowConfig,
        volume: VolumeConfig,
        graph: Graph,
        serialized: bytes,
        source: Source,
        root: str,
    ) -> None:
        self.config, self.kubeflow, self.volume = config, kubeflow, volume
        self.graph, self.serialized, self.source, self.root = graph, serialized, source, root
        self.defaults = {parameter_name(key): value_at(config, key) for key in kubeflow.parameters}
        self.keys = {parameter_name(key): key for key in kubeflow.parameters}
        self.folder = str(Path(source.file).parent)
        self.tell = TellJob(
            pipeline=config.name,
            metadata=config.metadata,
            root=root,
            nodes={node.id: node.upstream for node in graph.nodes},
        )
        self._tasks: dict[str, Any] = {}
        self._given: dict[str, Any] = {}

    def text(self) -> str:
        """The compiled pipeline."""
        return _text(self._pipeline(), self.config.name.replace("_", "-"))

    def _pipeline(self) -> Any:
        """The pipeline as kfp has it: a function whose signature is the parameters."""

        def arrange(**given: Any) -> None:
            self._tasks, self._given = {}, given
            with dsl.ExitHandler(self._report(), name="run"):
                self._begin()
                self._nodes()

        annotations = {name: type(default) for name, default in self.defaults.items()}
        return dsl.pipeline(name=self.config.name.replace("_", "-"), description=self._description())(
            _with_signature(arrange, annotations, self.defaults)
        )

    def _description(self) -> str:
        return f"Satisfice pipeline {self.config.name!r}: trained, judged by its gates, and pushed where they admit it."

    def _nodes(self) -> None:
        """The nodes in order; what stands in a condition stands in it together, and so do its nodes' own endings."""
        outside = [node for node in self.graph.nodes if not node.conditions]
        for node in outside:
            self._node(node)
        for conditions in dict.fromkeys(node.conditions for node in self.graph.nodes if node.conditions):
            inside = [node for node in self.graph.nodes if node.conditions == conditions]
            self._group(inside, conditions)

    def _group(self, nodes: list[Node], conditions: tuple[Condition, ...]) -> None:
        if len(conditions) > 1:
            raise SatisficeError(
                f"node {nodes[0].id}", "stands in several conditions", remedy="Put it into one: Kubeflow is given one."
            )
        (condition,) = conditions
        producer, name = _read_by(nodes[0], condition)
        answer = self._tasks[producer].outputs[name]
        with dsl.If(answer == str(condition.value), name=f"{producer} lets it go on"):
            for node in nodes:
                self._node(node)
            for pusher in [node for node in nodes if node.type == _PUSHER]:
                for outcome, ending in _ENDINGS.items():
                    with dsl.If(self._tasks[pusher.id].outputs["outcome"] == outcome, name=f"if {outcome}"):
                        self._ending(ending)
        if self.graph.node(producer).type == _DATA_GATE:
            with dsl.If(answer != str(condition.value), name="if data blocked"):
                self._ending(_DATA_BLOCKED)

    def _node(self, node: Node) -> None:
        job = NodeJob(
            node=node.id,
            folder=self.folder,
            metadata=self.config.metadata,
            ir=base64.b64encode(alone(self.serialized, node.id)).decode(),
            takes_values=bool(self.keys),
        )
        outputs = {"state": "String", **dict.fromkeys(self._read_from(node), "String"), **_SHOWS.get(node.type, {})}
        if node.type == _PUSHER:
            outputs["outcome"] = "String"
        task = self._task(node.id, "node", pack(job), outputs)
        for above in node.upstream or (BEGIN,):
            task.after(self._tasks[above])

    def _read_from(self, node: Node) -> list[str]:
        """Names of the outputs of a node that conditions read."""
        found = [
            name
            for other in self.graph.nodes
            for condition in other.conditions
            for producer, name in [_read_by(other, condition)]
            if producer == node.id
        ]
        return sorted(set(found))

    def _begin(self) -> None:
        self._task(BEGIN, "begin", pack(BeginJob(source=self.source, root=self.root)), {}, works=False)

    def _report(self) -> Any:
        shows = {"decision": "Markdown", "decision_page": "HTML"}
        return self._task(REPORT, "report", pack(self.tell), shows, works=False)

    def _ending(self, name: str) -> None:
        self._task(name, "tell", pack(self.tell.model_copy(update={"nodes": {}})), {"reasons": "Markdown"}, works=False)

    def _task(self, name: str, act: str, job: str, outputs: dict[str, str], *, works: bool = True) -> Any:
        takes = act == "begin"
        inputs = {each: (_TYPES[type(self.defaults[each])], key) for each, key in self.keys.items()} if takes else {}
        made = _component(name, self.kubeflow.image, act, job, inputs, outputs)
        values = self._given if takes else {}
        task = made(run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER, **values)
        task.set_display_name(name)
        task.set_caching_options(False)
        dress(task, name, self.kubeflow, self.volume, self.config.runner.retries, works=works)
        self._tasks[name] = task
        return task


def _component(
    name: str, image: str, act: str, job: str, inputs: Mapping[str, tuple[str, str]], outputs: Mapping[str, str]
) -> Any:
    """A container as kfp has it.

    Args:
        name: of the task.
        image: of the container.
        act: what it does.
        job: packed.
        inputs: name of a parameter to its type and to the key of the configuration for which it stands.
        outputs: name to type.
    """
    args: list[Any] = [act, "--name", name, "--run-id", {"inputValue": "run_id"}]
    for each, (_, key) in inputs.items():
        args += ["--value", key, {"inputValue": each}]
    for each in outputs:
        args += ["--output", each, {"outputPath": each}]
    if "Metrics" in outputs.values():
        args += ["--executor-input", {"executorInput": None}]
    described = {
        "name": name,
        "inputs": [
            {"name": "run_id", "type": "String"},
            *({"name": n, "type": kind} for n, (kind, _) in inputs.items()),
        ],
        "outputs": [{"name": each, "type": kind} for each, kind in outputs.items()],
        "implementation": {"container": {"image": image, "command": _COMMAND, "args": [*args, "--job", job]}},
    }
    return components.load_component_from_text(yaml.safe_dump(described))


def compile_settlement(
    loaded: LoadedConfig, verb: Literal["approve", "reject"], run: str, by: str, reason: str
) -> Compiled:
    """A pipeline of one container, in which a person's decision on an earlier run is carried out.

    Raises:
        ConfigError: with the faults that were found.
    """
    kubeflow, volume = section_of(loaded.config, str(loaded.file))
    config = in_containers(loaded).config
    _refuse_unset(config, kubeflow, str(loaded.file))
    job = SettleJob(pipeline=config.name, metadata=config.metadata, verb=verb, run=run, by=by, reason=reason)
    name = {"approve": "Approve", "reject": "Reject"}[verb]

    def arrange() -> None:
        task = _component(name, kubeflow.image, "settle", pack(job), {}, {})(run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
        task.set_display_name(name).set_caching_options(False)
        dress(task, name, kubeflow, volume, 0, works=False)

    named = f"{config.name}-{verb}".replace("_", "-")
    made = dsl.pipeline(name=named, description=f"{name}s run {run} of the pipeline {config.name!r}.")(
        _with_signature(arrange, {}, {})
    )
    return Compiled(_text(made, named), (name,))


def _text(pipeline: Any, name: str) -> str:
    with tempfile.TemporaryDirectory(prefix="satisfice-") as folder:
        path = os.path.join(folder, "pipeline.yaml")
        compiler.Compiler().compile(pipeline, path, pipeline_name=name, type_check=True)
        return Path(path).read_text(encoding="utf-8")


def _read_by(node: Node, condition: Condition) -> tuple[str, str]:
    """Whose output a condition of a node reads, and the name of that output of the task."""
    (channel,) = node.inputs.get(condition.input_key) or node.resolver_inputs[condition.input_key]
    return channel.producer, f"{channel.output_key}_{condition.property}"


def _with_signature(function: Any, annotations: dict[str, type], defaults: dict[str, object]) -> Any:
    """The function with a signature that kfp can read; kfp gives the parameters in order."""

    def named(*given: Any) -> None:
        function(**dict(zip(annotations, given, strict=True)))

    named.__name__ = "pipeline"
    named.__doc__ = None
    parameters = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=defaults[name], annotation=kind)
        for name, kind in annotations.items()
    ]
    named.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    named.__annotations__ = dict(annotations)
    return named
