"""Chooses what to do about a node, once all that it needs has ended: the same for a run and for `--explain`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ml_metadata.proto import metadata_store_pb2

from runners.local import known
from runners.local.cache import Cache, Entry, Ingredients, content_digest, files_of
from runners.local.graph import Node
from runners.local.records import Artifacts, Records

__all__ = ["FINISHED", "Choice", "Chooser"]

FINISHED = (metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED)
"""States of an execution whose outputs can be used."""
_LIVE = metadata_store_pb2.Artifact.LIVE


@dataclass(frozen=True)
class Choice:
    """What to do about a node, and why.

    Attributes:
        action: `skip`; `keep` what this run had finished before; `resolve`: record what was found; `reuse` earlier work;
            or `run`.
        reason: in words; "" where there is nothing to say.
        inputs: artifacts that go in, where the engine can tell.
        outputs: artifacts that come out, for `keep`, `resolve` and `reuse`.
        ingredients: the name of the work; None where only TFX can tell.
        entry: the entry that is reused.
        damaged: an entry whose files are not as they were.
    """

    action: Literal["skip", "keep", "resolve", "reuse", "run"]
    reason: str = ""
    inputs: Artifacts = field(default_factory=dict)
    outputs: Artifacts = field(default_factory=dict)
    ingredients: Ingredients | None = None
    entry: Entry | None = None
    damaged: Entry | None = None


@dataclass
class Chooser:
    """Chooses, and remembers what the nodes so far have put out.

    Attributes:
        records: of the open store.
        cache: of the pipeline root.
        libraries: name to version, part of every node's key.
        code_of: digest of the code that a node runs.
        custom_drivers: ids of the nodes whose driver is not TFX's own.
        forced: ids of nodes that have to run, whatever is known.
        resumed: whether what this run had finished before is kept.
        stale: whether the user's code that a node runs has changed since the run began.
    """

    records: Records
    cache: Cache
    libraries: dict[str, str]
    code_of: Callable[[Node], str]
    custom_drivers: set[str]
    forced: frozenset[str] = frozenset()
    resumed: bool = False
    stale: Callable[[Node], bool] = lambda _: False
    _outputs: dict[str, Artifacts] = field(default_factory=dict)
    _content: dict[int, str] = field(default_factory=dict)

    def choose(self, node: Node) -> Choice:
        """What to do about a node whose upstream nodes have all ended well."""
        unmet = self._unmet(node)
        if unmet:
            return Choice("skip", unmet)
        kept = self._kept(node)
        if kept is not None:
            return Choice("keep", "finished before the run was resumed", outputs=kept)
        if node.is_resolver:
            found = known.resolve(node, self.records, self._outputs)
            return Choice("run") if found is None else Choice("resolve", outputs=found)
        inputs = self._inputs(node)
        if inputs is None or not known.has_known_driver(node, self.custom_drivers):
            return Choice("run", "TFX decides about it")
        return self._of_work(node, inputs)

    def remember(self, node: Node, outputs: Artifacts, entry: Entry | None = None) -> None:
        """Notes what a node has put out, and the digests of its files where they are known."""
        self._outputs[node.id] = outputs
        for records in (entry.outputs if entry else {}).values():
            self._content.update({one["id"]: one["content"] for one in records})

    def still_holds(self, node: Node, choice: Choice) -> bool:
        """Whether a node that has just run was made of what its ingredients say.

        They are taken when it is chosen; data or code that was changed while it waited or ran is not what they name.
        """
        if choice.ingredients is None or self.stale(node):
            return False
        now = self._ingredients(node, choice.inputs)
        ours = {key: value for key, value in choice.ingredients.parameters.items() if key not in known.NEVER_ALIKE}
        return now.code == choice.ingredients.code and ours == {
            key: value for key, value in now.parameters.items() if key not in known.NEVER_ALIKE
        }

    def _of_work(self, node: Node, inputs: Artifacts) -> Choice:
        ingredients = self._ingredients(node, inputs)
        if node.id in self.forced:
            return Choice("run", "asked for", inputs, ingredients=ingredients)
        entry = self.cache.find(node.id, ingredients)
        reason = "same inputs, parameters and code"
        if entry is None and node.type in known.COMPARED:
            entry = self.cache.find_beside(node.id, ingredients, known.COMPARED[node.type])
            reason = "same candidate, parameters and code, and no champion to measure beside it"
        if entry is None:
            return Choice("run", self.cache.why_not(node.id, ingredients), inputs, ingredients=ingredients)
        outputs, problem = self._verified(entry)
        if problem:
            return Choice("run", problem, inputs, ingredients=ingredients, damaged=entry)
        return Choice("reuse", reason, inputs, outputs, ingredients, entry)

    def _unmet(self, node: Node) -> str:
        """Which condition of the node is not met; "" where all are."""
        for condition in node.conditions:
            channel = (node.inputs.get(condition.input_key) or node.resolver_inputs[condition.input_key])[0]
            value = _property(self._outputs[channel.producer][channel.output_key][0], condition.property)
            if value != condition.value:
                return f"{channel.producer} decided so ({condition.property} is {value})"
        return ""

    def _kept(self, node: Node) -> Artifacts | None:
        """What this run had put out before it was cut off; None where it had not finished the node."""
        if not self.resumed or node.id in self.forced:
            return None
        execution = self.records.execution_of(node)
        if execution is None or execution.last_known_state not in FINISHED:
            return None
        return self.records.outputs_of(execution)

    def _inputs(self, node: Node) -> Artifacts | None:
        """The input artifacts; None where a channel is of a kind that only TFX resolves."""
        found: Artifacts = {}
        for key, channels in node.inputs.items():
            if key.startswith("_"):
                continue
            if any(not channel.producer for channel in channels):
                return None
            found[key] = [
                artifact
                for channel in channels
                for artifact in self._outputs[channel.producer].get(channel.output_key, [])
            ]
        return found

    def _ingredients(self, node: Node, inputs: Artifacts) -> Ingredients:
        parameters = {**node.parameters, **known.driver_parameters(node, inputs)}
        return Ingredients(
            parameters={key: _short_digest(value) for key, value in parameters.items()},
            inputs={key: [self._content_of(artifact) for artifact in found] for key, found in inputs.items()},
            code=self.code_of(node),
            libraries=self.libraries,
        )

    def _content_of(self, artifact: Any) -> str:
        if artifact.id not in self._content:
            self._content[artifact.id] = content_digest(files_of(Path(artifact.uri)))
        return self._content[artifact.id]

    def _verified(self, entry: Entry) -> tuple[Artifacts, str]:
        """The artifacts of an entry, or why they cannot be used."""
        ids = [one["id"] for records in entry.outputs.values() for one in records]
        by_id = {one.id: one for one in self.records.store.get_artifacts_by_id(ids)}
        uris = {one["id"]: one["uri"] for records in entry.outputs.values() for one in records}
        live = {one.id: one.uri for one in by_id.values() if one.state == _LIVE}
        if live != uris:  # by place too: an id says nothing in another store than the one that gave it
            return {}, "what is kept of it is not in the metadata store any more"
        damage = entry.damage()
        if damage:
            return {}, f"what is kept of it is damaged: {damage}"
        return {key: [by_id[one["id"]] for one in records] for key, records in entry.outputs.items()}, ""


def _property(artifact: Any, name: str) -> int | str | None:
    properties: Mapping[str, Any] = artifact.properties if name in artifact.properties else artifact.custom_properties
    kind = properties[name].WhichOneof("value") if name in properties else None
    return getattr(properties[name], kind) if kind else None


def _short_digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
