"""Runs a compiled kfp v2 pipeline without a cluster: every container's command and arguments as a process of its own.

It does what Kubeflow's backend does with such a specification, and nothing of Satisfice's is imported: tasks in the order
of their dependencies, several at once; placeholders; conditions; retries; the exit handler, whatever happened before;
artifacts and output parameters as files, metadata from the executor's output. What it does not know, it refuses.
Volumes, resources and pods are not run: `Task.kubernetes` says what was asked of them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import uuid
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_CONDITION = re.compile(r"^inputs\.parameter_values\['([^']+)'\]\s+(==|!=)\s+'([^']*)'$")


@dataclass
class Task:
    """A container that was run, or was not."""

    name: str
    state: str
    seconds: float = 0.0
    log: str = ""
    attempts: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)
    kubernetes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Run:
    """What became of a pipeline: its state as Kubeflow would show it, and each container by its name."""

    id: str
    state: str
    tasks: dict[str, Task]


class Executor:
    """A compiled pipeline, and where it is run."""

    def __init__(
        self,
        text: str,
        folder: Path,
        python: Path,
        secrets: Mapping[str, Mapping[str, str]] | None = None,
        at_once: int = 3,
    ) -> None:
        documents = list(yaml.safe_load_all(text))
        self.spec = documents[0]
        self.platform = documents[1] if len(documents) > 1 else {}
        self.folder, self.python = folder, python
        self.secrets = secrets or {}
        self.at_once = at_once

    def run(self, **arguments: Any) -> Run:
        """Runs it with arguments for its parameters; those that are not given have their defaults."""
        run = Run(str(uuid.uuid4()), "SUCCEEDED", {})
        known = self.spec["root"].get("inputDefinitions", {}).get("parameters", {})
        assert set(arguments) <= set(known), f"unknown parameters: {set(arguments) - set(known)}"
        values = {name: given.get("defaultValue") for name, given in known.items()} | arguments
        (self.folder / run.id).mkdir(parents=True)
        if self._dag(run, self.spec["root"]["dag"], values) == "FAILED":
            run.state = "FAILED"
        return run

    # --- graphs -------------------------------------------------------------------------------------------------------

    def _dag(self, run: Run, dag: dict[str, Any], values: Mapping[str, Any]) -> str:
        """Runs the tasks of a graph; its state."""
        tasks = dag["tasks"]
        states: dict[str, str] = {}
        running: dict[Future[str], str] = {}
        with ThreadPoolExecutor(self.at_once) as pool:
            while len(states) < len(tasks):
                for name, task in tasks.items():
                    if name in states or name in running.values() or not _needs(task) <= set(states):
                        continue
                    last = task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
                    if not last and any(states[above] != "SUCCEEDED" for above in _needs(task)):
                        states[name] = "OMITTED"
                        self._omit(run, task)
                        break
                    running[pool.submit(self._task, run, task, values)] = name
                else:
                    if running:
                        done, _ = wait(running, return_when=FIRST_COMPLETED)
                        for one in done:
                            states[running.pop(one)] = one.result()
        return "FAILED" if "FAILED" in states.values() else "SUCCEEDED"

    def _task(self, run: Run, task: dict[str, Any], values: Mapping[str, Any]) -> str:
        name = task["componentRef"]["name"]
        component = self.spec["components"][name]
        inputs = {
            key: self._input(run, given, values) for key, given in task.get("inputs", {}).get("parameters", {}).items()
        }
        condition = task.get("triggerPolicy", {}).get("condition")
        if condition is not None and not _holds(condition, inputs):
            self._omit(run, task, "SKIPPED")
            return "SKIPPED"
        if "dag" in component:
            return self._dag(run, component["dag"], inputs)
        assert task["cachingOptions"].get("enableCache") is not True, (
            f"{name} would be cached without looking at the data"
        )
        return self._container(run, task, component, inputs)

    def _input(self, run: Run, given: dict[str, Any], values: Mapping[str, Any]) -> Any:
        if "componentInputParameter" in given:
            return values[given["componentInputParameter"]]
        if "taskOutputParameter" in given:
            source = given["taskOutputParameter"]
            return self._by_key(run, source["producerTask"]).parameters[source["outputParameterKey"]]
        constant = given["runtimeValue"]["constant"]
        return constant.replace("{{$.pipeline_job_uuid}}", run.id) if isinstance(constant, str) else constant

    def _by_key(self, run: Run, key: str) -> Task:
        return next(task for name, task in run.tasks.items() if name.lower() == key)

    def _omit(self, run: Run, task: dict[str, Any], state: str = "OMITTED") -> None:
        """Notes the containers of a task that is not run."""
        component = self.spec["components"][task["componentRef"]["name"]]
        if "dag" not in component:
            run.tasks[task["taskInfo"]["name"]] = Task(task["taskInfo"]["name"], state)
        for below in component.get("dag", {}).get("tasks", {}).values():
            self._omit(run, below, state)

    # --- containers ---------------------------------------------------------------------------------------------------

    def _container(self, run: Run, task: dict[str, Any], component: dict[str, Any], inputs: Mapping[str, Any]) -> str:
        label = component["executorLabel"]
        container = self.spec["deploymentSpec"]["executors"][label]["container"]
        platform = (
            self.platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
        )
        done = Task(task["taskInfo"]["name"], "FAILED", kubernetes=platform.get(label, {}))
        run.tasks[done.name] = done
        most = 1 + int(task.get("retryPolicy", {}).get("maxRetryCount", 0))
        while done.state != "SUCCEEDED" and done.attempts < most:
            done.attempts += 1
            self._attempt(run, done, container, component, inputs)
        return done.state

    def _attempt(
        self, run: Run, done: Task, container: dict[str, Any], component: dict[str, Any], inputs: Mapping[str, Any]
    ) -> None:
        place = self.folder / run.id / done.name / str(done.attempts)
        work, home = place / "work", place / "home"
        for folder in (work, home):
            folder.mkdir(parents=True)
        outputs = component.get("outputDefinitions", {})
        files = {key: place / "outputs" / "parameters" / key for key in outputs.get("parameters", {})}
        paths = {key: place / "outputs" / "artifacts" / key for key in outputs.get("artifacts", {})}
        record = {
            "inputs": {"parameterValues": dict(inputs)},
            "outputs": {
                "parameters": {key: {"outputFile": str(path)} for key, path in files.items()},
                "artifacts": {
                    key: {
                        "artifacts": [
                            {"name": key, "type": outputs["artifacts"][key]["artifactType"], "uri": str(path)}
                        ]
                    }
                    for key, path in paths.items()
                },
                "outputFile": str(place / "outputs" / "executor_output.json"),
            },
        }
        words = [
            _filled(word, record, inputs, files, paths, run.id) for word in container["command"] + container["args"]
        ]
        assert words[0] == "python"
        ended = subprocess.run(
            [str(self.python), *words[1:]],
            cwd=work,
            env=self._environment(container, done, home),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        done.log = ended.stdout
        assert not list(work.iterdir()), f"{done.name} wrote into the folder in which it was started"
        if ended.returncode == 0:
            done.state = "SUCCEEDED"
            done.parameters = {key: path.read_text() for key, path in files.items()}
            done.artifacts = {key: path.read_text() for key, path in paths.items() if path.exists()}
            done.metadata = _metadata(Path(record["outputs"]["outputFile"]))

    def _environment(self, container: dict[str, Any], done: Task, home: Path) -> dict[str, str]:
        env = {"PATH": os.defpath, "HOME": str(home), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        env |= {one["name"]: one["value"] for one in container.get("env", [])}
        for secret in done.kubernetes.get("secretAsEnv", []):
            for one in secret["keyToEnv"]:
                env[one["envVar"]] = self.secrets[secret["secretName"]][one["secretKey"]]
        return env


def _needs(task: dict[str, Any]) -> set[str]:
    found = set(task.get("dependentTasks", []))
    for given in task.get("inputs", {}).get("parameters", {}).values():
        if "taskOutputParameter" in given:
            found.add(given["taskOutputParameter"]["producerTask"])
    return found


def _holds(condition: str, inputs: Mapping[str, Any]) -> bool:
    found = _CONDITION.match(" ".join(condition.split()))
    assert found, f"a condition of another form: {condition}"
    name, operator, value = found.groups()
    return (str(inputs[name]) == value) == (operator == "==")


def _spelled(value: Any) -> str:
    """A parameter as Kubeflow's launcher puts it into an argument."""
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value)


def _filled(
    word: str,
    record: dict[str, Any],
    inputs: Mapping[str, Any],
    files: dict[str, Path],
    paths: dict[str, Path],
    run_id: str,
) -> str:
    for name, value in inputs.items():
        word = word.replace(f"{{{{$.inputs.parameters['{name}']}}}}", _spelled(value))
    for name, path in files.items():
        word = word.replace(f"{{{{$.outputs.parameters['{name}'].output_file}}}}", str(path))
    for name, path in paths.items():
        word = word.replace(f"{{{{$.outputs.artifacts['{name}'].path}}}}", str(path))
    word = word.replace("{{$.pipeline_job_uuid}}", run_id).replace("{{$}}", json.dumps(record))
    assert "{{$" not in word, f"a placeholder that is not known: {word}"
    return word


def _metadata(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    found = json.loads(path.read_text())
    return {key: one["artifacts"][0].get("metadata", {}) for key, one in found.get("artifacts", {}).items()}
