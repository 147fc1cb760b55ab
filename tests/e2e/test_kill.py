"""`kill -9` of the runner or of a worker, at seeded moments: the run goes on where it was, and nothing outlives it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_main_job import weights
from tests.workbench import Bench, satisfice, taxi_bench

MOMENTS = int(os.environ.get("SATISFICE_KILL_MOMENTS", "4"))
"""How many kills; 20 take a quarter of an hour."""


def descendants(pid: int) -> set[int]:
    """All processes below one, by /proc."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found: set[int] = set()
    level = {pid}
    while level:
        level = {child for child, parent in parents.items() if parent in level} - found
        found |= level
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def start(bench: Bench, *options: str) -> subprocess.Popen[bytes]:
    """The command as a process of its own."""
    command = [sys.executable, "-m", "runners.cli", "run", str(bench.config), "--json", *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": os.getcwd()}
    )


def finished(bench: Bench) -> dict[str, Any]:
    """Nodes that ML Metadata holds as finished in the newest run, with the content of their outputs."""
    runs = satisfice("runs", bench.config, "--json").json
    nodes = satisfice("show", runs[0]["run_id"], bench.config, "--json").json["nodes"]
    return {
        node["node"]: [(one["key"], one["id"], content(one["uri"])) for one in node["outputs"]]
        for node in nodes
        if node["state"] in ("ran", "cached") and node["node"] != "Champion"
    }


def content(uri: str) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(Path(uri).rglob("*")) if file.is_file()}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_run_is_resumed_to_the_same_end(tmp_path: Path) -> None:
    """At whatever moment, whichever process: what had finished is not run again, and the served weights are the same."""
    undisturbed = taxi_bench(tmp_path / "undisturbed", rows=1200)
    easy = {"satisfy": [{"metric": "auc", "min": 0.01}]}
    undisturbed.edit(lambda raw: raw.update(gates=easy))
    begun = time.monotonic()
    process = start(undisturbed)
    assert json.loads(process.communicate()[0])["outcome"] == "pushed"
    duration = time.monotonic() - begun

    chance = random.Random(20261122)
    for moment in range(MOMENTS):
        bench = undisturbed.copy(tmp_path / f"killed-{moment}")
        process = start(bench)
        time.sleep(chance.uniform(0.05, 0.95) * duration)
        below = descendants(process.pid)
        victim = chance.choice([process.pid, *sorted(below)])
        if process.poll() is None and alive(victim):
            os.kill(victim, signal.SIGKILL)
        process.communicate()
        deadline = time.monotonic() + 120
        while any(map(alive, below)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not [pid for pid in below if alive(pid)], "no process outlives the run"

        runs = satisfice("runs", bench.config, "--json")
        resumable = runs.code == 0 and runs.json and runs.json[0]["outcome"] in ("unfinished", "failed")
        done = finished(bench) if resumable else {}
        answer = bench.run(options=("--resume",) if resumable else ())
        assert answer.code == 0, f"moment {moment}: {answer.out}{answer.err}"
        assert answer.json["outcome"] in ("pushed", "already_served")
        if resumable:
            states = {node["node"]: node["state"] for node in answer.json["nodes"]}
            assert {states[node] for node in done} <= {"kept"}, states
            after = finished(bench)
            assert {node: after[node] for node in done} == done
        assert weights(bench) == weights(undisturbed)
