"""Writes a node's execution into ML Metadata without TFX: for what was reused, resolved, or run in this process.

The records are those that TFX's portable launcher writes: the execution stands in the contexts of its pipeline, run and
node; its inputs and outputs are events with the key as path; so TFX's own input resolution finds them.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_metadata import errors
from ml_metadata.proto import metadata_store_pb2

from runners.local.graph import Node

__all__ = ["Artifacts", "Records"]

Artifacts = dict[str, list[Any]]
"""Input or output key to `ml_metadata` Artifact protos."""

_Event = metadata_store_pb2.Event
_Execution = metadata_store_pb2.Execution


class Records:
    """The executions of one run, in an open store."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self._contexts: dict[tuple[str, str], Any] = {}
        self._types: dict[str, int] = {}

    # --- reading ------------------------------------------------------------------------------------------------------

    def execution_of(self, node: Node) -> Any | None:
        """The newest execution of a node in its run, or None."""
        names = {spec.type.name: spec.name.field_value.string_value for spec in node.proto.contexts.contexts}
        run = self.store.get_context_by_type_and_name("pipeline_run", names["pipeline_run"])
        own = self.store.get_context_by_type_and_name("node", names["node"])
        if run is None or own is None:
            return None
        in_run = {one.id for one in self.store.get_executions_by_context(run.id)}
        mine = [one for one in self.store.get_executions_by_context(own.id) if one.id in in_run]
        return max(mine, key=lambda one: one.id, default=None)

    def unfinished(self, node: Node) -> Any | None:
        """The execution of a node that an attempt of this run left behind: killed, failed or never begun; or None."""
        execution = self.execution_of(node)
        finished = (_Execution.COMPLETE, _Execution.CACHED)
        return None if execution is None or execution.last_known_state in finished else execution

    def outputs_of(self, execution: Any) -> Artifacts:
        """What an execution put out, a resolver's choice among it."""
        events = [
            event
            for event in self.store.get_events_by_execution_ids([execution.id])
            if event.type in (_Event.OUTPUT, _Event.INTERNAL_OUTPUT)
        ]
        by_id = {one.id: one for one in self.store.get_artifacts_by_id([event.artifact_id for event in events])}
        found: Artifacts = {}
        for event in events:
            for step in event.path.steps:  # one event for an artifact, with a path for each of its keys
                if step.HasField("key"):
                    found.setdefault(step.key, []).append(by_id[event.artifact_id])
        return found

    def artifacts_of_type(self, node: Node, artifact_type: str) -> list[Any]:
        """Every live artifact of a type that some run of the pipeline put out."""
        name = next(s.name.field_value.string_value for s in node.proto.contexts.contexts if s.type.name == "pipeline")
        context = self.store.get_context_by_type_and_name("pipeline", name)
        if context is None:
            return []
        live = metadata_store_pb2.Artifact.LIVE
        found = self.store.get_artifacts_by_context(context.id)
        return [one for one in found if one.type == artifact_type and one.state == live]

    # --- writing ------------------------------------------------------------------------------------------------------

    def begin(self, node: Node, inputs: Artifacts, parameters: Mapping[str, str | int | float]) -> Any:
        """Registers a RUNNING execution with its inputs; returns it, with its id."""
        execution = self._execution(node, _Execution.RUNNING, parameters)
        return self._put(node, execution, inputs, {}, _Event.INPUT, _Event.OUTPUT)

    def complete(self, node: Node, execution: Any, outputs: Artifacts) -> None:
        """Publishes the outputs of an execution that `begin` registered."""
        execution.last_known_state = _Execution.COMPLETE
        for artifacts in outputs.values():
            for artifact in artifacts:
                artifact.state = metadata_store_pb2.Artifact.LIVE
        self._put(node, execution, {}, outputs, _Event.INPUT, _Event.OUTPUT)

    def fail(self, execution: Any) -> None:
        """Marks an execution as FAILED."""
        execution.last_known_state = _Execution.FAILED
        self.store.put_executions([execution])

    def reuse(
        self, node: Node, inputs: Artifacts, outputs: Artifacts, parameters: Mapping[str, str | int | float]
    ) -> Any:
        """Publishes a CACHED execution that puts out artifacts of an earlier one."""
        execution = self._execution(node, _Execution.CACHED, parameters)
        return self._put(node, execution, inputs, outputs, _Event.INPUT, _Event.OUTPUT)

    def resolve(self, node: Node, chosen: Artifacts) -> Any:
        """Publishes what a resolver chose."""
        execution = self._execution(node, _Execution.COMPLETE, {})
        return self._put(node, execution, {}, chosen, _Event.INPUT, _Event.INTERNAL_OUTPUT)

    def output(self, node: Node, key: str, uri: str) -> Any:
        """An artifact that is not in the store yet, for one of a node's outputs. Its type is registered as TFX would."""
        spec = node.proto.outputs.outputs[key].artifact_spec.type
        if spec.name not in self._types:
            self._types[spec.name] = self.store.put_artifact_type(spec, can_add_fields=True, can_omit_fields=True)
        return metadata_store_pb2.Artifact(type_id=self._types[spec.name], type=spec.name, uri=uri)

    def clear(self, node: Node, root: str) -> None:
        """Removes what an attempt that was killed left behind, so that nothing of it gets among what the next one writes.

        TFX runs it again under the same execution, into the same folders, and clears them only when an executor raises.
        """
        execution = self.unfinished(node)
        if execution is None:
            return
        for key in (*node.outputs, ".system/executor_execution"):
            folder = Path(root, node.id, key, str(execution.id))
            if folder.exists():
                shutil.rmtree(folder)

    def discard(self, artifacts: Sequence[Any]) -> None:
        """Marks artifacts as no longer live: their files are damaged or gone."""
        for artifact in artifacts:
            artifact.state = metadata_store_pb2.Artifact.DELETED
        self.store.put_artifacts(list(artifacts))

    def _execution(self, node: Node, state: Any, parameters: Mapping[str, str | int | float]) -> Any:
        execution_type = metadata_store_pb2.ExecutionType()
        execution_type.CopyFrom(node.proto.node_info.type)
        try:
            type_id = self.store.get_execution_type(execution_type.name).id
        except errors.NotFoundError:
            type_id = self.store.put_execution_type(execution_type, can_add_fields=True, can_omit_fields=True)
        # TFX refuses a second execution of a node in a run: one that was cut off becomes this one.
        execution = self.unfinished(node) or metadata_store_pb2.Execution(type_id=type_id)
        execution.last_known_state = state
        declared = self.store.get_execution_type(execution_type.name).properties
        for key, value in parameters.items():
            target = execution.properties if key in declared else execution.custom_properties
            if isinstance(value, int):
                target[key].int_value = value
            elif isinstance(value, float):
                target[key].double_value = value
            else:
                target[key].string_value = value
        return execution

    def _put(
        self, node: Node, execution: Any, inputs: Artifacts, outputs: Artifacts, input_type: Any, output_type: Any
    ) -> Any:
        pairs = []
        events: dict[tuple[int, Any], Any] = {}
        known = set()
        if execution.id:  # ML Metadata refuses an event that it has
            known = {(one.artifact_id, one.type) for one in self.store.get_events_by_execution_ids([execution.id])}
        for artifacts, kind in ((inputs, input_type), (outputs, output_type)):
            for key, found in artifacts.items():
                for index, artifact in enumerate(found):
                    if (artifact.id, kind) in known:
                        continue
                    event = events.get((artifact.id, kind)) if artifact.id else None
                    if event is None:  # ML Metadata takes one event for an artifact, with a path for each of its keys
                        event = events[artifact.id, kind] = _Event(type=kind)
                        pairs.append((artifact, event))
                    event.path.steps.add(key=key)
                    event.path.steps.add(index=index)
        execution_id, artifact_ids, _ = self.store.put_execution(
            execution=execution,
            artifact_and_events=pairs,
            contexts=self._contexts_of(node),
            reuse_context_if_already_exist=True,
            reuse_artifact_if_already_exist_by_external_id=True,
            force_reuse_context=True,
        )
        for (artifact, _), artifact_id in zip(pairs, artifact_ids, strict=True):
            artifact.id = artifact_id
        execution.id = execution_id
        return execution

    def _contexts_of(self, node: Node) -> list[Any]:
        """The contexts of a node: its pipeline, its run, itself; made where they are missing."""
        found = []
        for spec in sorted(node.proto.contexts.contexts, key=lambda spec: spec.type.name != "pipeline"):
            key = (spec.type.name, spec.name.field_value.string_value)
            if key not in self._contexts:
                self._contexts[key] = self._context(*key)
            found.append(self._contexts[key])
        return found

    def _context(self, type_name: str, name: str) -> Any:
        context = self.store.get_context_by_type_and_name(type_name, name)
        if context is not None:
            return context
        type_id = self.store.put_context_type(metadata_store_pb2.ContextType(name=type_name), can_add_fields=True)
        context = metadata_store_pb2.Context(type_id=type_id, name=name)
        try:
            (context.id,) = self.store.put_contexts([context])
        except errors.AlreadyExistsError:  # a node that runs beside this one was faster
            return self.store.get_context_by_type_and_name(type_name, name)
        if type_name == "pipeline_run":
            parents = [one for (kind, _), one in self._contexts.items() if kind == "pipeline"]
            for parent in parents:
                self.store.put_parent_contexts(
                    [metadata_store_pb2.ParentContext(parent_id=parent.id, child_id=context.id)]
                )
        return context
