"""A group of processes: started, watched, begun anew, and gone with whoever started it. The members here are small scripts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from components.trainer.cluster import RESTARTS, Losses, run_cluster
from components.trainer.strategy import Machine, Plan, make_plan
from schemas.config import TrainingConfig
from schemas.errors import DataError, SatisficeError

MEMBER = """
import json, os, signal, sys, time
from pathlib import Path
from components.process import die_with_parent
work = json.loads(Path(sys.argv[1]).read_text())
die_with_parent(work["parent"])
config = json.loads(os.environ["TF_CONFIG"])
task = config["task"]
folder = Path(work["folder"])
def attempts():
    file = folder / f"attempts-{task['type'].replace('worker', '')}{task['index']}"
    count = int(file.read_text()) if file.exists() else 0
    half = file.with_name(f".{file.name}")
    half.write_text(str(count + 1))
    os.replace(half, file)
    return count
def wait_for_all():
    while len(list(folder.glob("attempts-*"))) < sum(map(len, config["cluster"].values())):
        time.sleep(0.02)
"""


@pytest.fixture
def plan() -> Plan:
    training = TrainingConfig(strategy="multi_worker_mirrored", workers=2)
    return make_plan(training, Machine(2))


@pytest.fixture
def served() -> Plan:
    training = TrainingConfig(strategy="parameter_server", workers=2, parameter_servers=1)
    return make_plan(training, Machine(2))


def member(folder: Path, body: str) -> list[str]:
    """The command of a member that does what the body says."""
    script = folder / "member.py"
    script.write_text(MEMBER + textwrap.dedent(body))
    return [sys.executable, str(script)]


def run(plan: Plan, folder: Path, body: str, **more: Any) -> Losses:
    return run_cluster(plan, {"folder": str(folder)}, folder / "logs", member(folder, body), **more)


def test_each_member_knows_the_cluster_and_has_a_log(plan: Plan, tmp_path: Path) -> None:
    """TF_CONFIG names all of them on loopback, each with a port of its own; no GPU is shared."""
    body = "print(json.dumps([config, os.environ['CUDA_VISIBLE_DEVICES'], os.getpgid(0) == os.getpid()]))"
    assert run(plan, tmp_path, body) == Losses(restarts=0, replaced=0)
    for index in (0, 1):
        lines = (tmp_path / "logs" / f"worker-{index}.log").read_text().splitlines()
        assert lines[0] == "--- attempt 1"
        config, visible, own_group = json.loads(lines[1])
        assert config["task"] == {"type": "worker", "index": index}
        addresses = config["cluster"]["worker"]
        assert len(set(addresses)) == 2
        assert all(address.startswith("127.0.0.1:") for address in addresses)
        assert (visible, own_group) == ("-1", True)


def test_the_loss_of_one_begins_all_anew(plan: Plan, tmp_path: Path) -> None:
    """The other one, which would wait for ever, is ended; both logs go on."""
    body = """
    if attempts() == 0:
        if task["index"] == 1:
            wait_for_all()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(600)
    """
    began = time.monotonic()
    assert run(plan, tmp_path, body) == Losses(restarts=1, replaced=0)
    assert time.monotonic() - began < 600  # what the other one would have slept
    for index in (0, 1):
        log = (tmp_path / "logs" / f"worker-{index}.log").read_text()
        assert "--- attempt 1" in log
        assert "--- attempt 2" in log


def test_a_group_that_is_lost_again_and_again_is_given_up(plan: Plan, tmp_path: Path) -> None:
    """After a bounded number of attempts, with the last words of the one that was lost and where the logs are."""
    body = """
    attempts()
    if task["index"] == 0:
        time.sleep(600)
    print("no memory left")
    sys.exit(9)
    """
    with pytest.raises(SatisficeError, match="lost worker-1 3 times: no memory left") as caught:
        run(plan, tmp_path, body, restarts=2)
    assert str(tmp_path / "logs") in caught.value.remedy
    assert (tmp_path / "attempts-1").read_text() == "3"
    assert RESTARTS == 3


@pytest.mark.parametrize(
    ("failure", "kind", "message"),
    [
        ({"error": DataError("split 'train'", "holds no rows").as_dict()}, DataError, "split 'train': holds no rows"),
        (
            {"error": None, "cause": "ValueError: no", "retry": False},
            SatisficeError,
            "training process worker-1: failed: ValueError: no",
        ),
    ],
)
def test_what_would_fail_again_is_not_tried_again(
    failure: dict[str, Any], kind: type[SatisficeError], message: str, plan: Plan, tmp_path: Path
) -> None:
    """The member's error is the Trainer's, whatever became of the others."""
    body = f"""
    attempts()
    if task["index"] == 0:
        time.sleep(600)
    Path(work["failure"]).write_text({json.dumps(failure)!r})
    sys.exit(1)
    """
    with pytest.raises(kind, match=message):
        run(plan, tmp_path, body)
    assert (tmp_path / "attempts-1").read_text() == "1"


def test_a_lost_peer_is_tried_again(plan: Plan, tmp_path: Path) -> None:
    """What a member says when another one is gone is no reason to give up."""
    body = """
    if task["index"] == 0 and attempts() == 0:
        Path(work["failure"]).write_text(json.dumps({"error": None, "cause": "UnavailableError", "retry": True}))
        sys.exit(1)
    """
    losses = run(plan, tmp_path, body)
    assert losses in (Losses(1, 0), Losses(2, 0))  # the second one may be ended before it has begun, and fails later


def test_the_group_is_done_when_its_chief_is(served: Plan, tmp_path: Path) -> None:
    """What serves it would wait for ever, and is ended; all know each other."""
    body = """
    if task["type"] != "chief":
        time.sleep(600)
    print(json.dumps({role: len(addresses) for role, addresses in config["cluster"].items()}))
    """
    assert run(served, tmp_path, body) == Losses(0, 0)
    logs = {log.stem: log.read_text() for log in (tmp_path / "logs").glob("*.log")}
    assert sorted(logs) == ["chief-0", "ps-0", "worker-0", "worker-1"]
    assert json.loads(logs["chief-0"].splitlines()[1]) == {"chief": 1, "ps": 1, "worker": 2}


def test_a_worker_beside_parameter_servers_begins_anew_alone(served: Plan, tmp_path: Path) -> None:
    """At the address where the others look for it; they go on meanwhile."""
    body = """
    print(config["cluster"]["worker"], flush=True)
    attempts()
    if task == {"type": "worker", "index": 1} and attempts() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    wait_for_all()
    while int((folder / "attempts-1").read_text()) < 3:
        time.sleep(0.05)
    time.sleep(0 if task["type"] == "chief" else 600)
    """
    assert run(served, tmp_path, body) == Losses(restarts=0, replaced=1)
    assert [(tmp_path / f"attempts-{name}").read_text() for name in ("chief0", "ps0", "0")] == ["1", "1", "1"]
    mark, first, again, second = (tmp_path / "logs" / "worker-1.log").read_text().splitlines()[:4]
    assert (mark, again) == ("--- attempt 1", "--- attempt 2")
    assert first == second


@pytest.mark.parametrize("role", ["chief", "ps"])
def test_without_its_chief_or_its_weights_a_group_begins_anew(role: str, served: Plan, tmp_path: Path) -> None:
    """Nothing else could go on."""
    body = f"""
    first = attempts() == 0
    if first and task["type"] == "{role}":
        wait_for_all()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600 if first or task["type"] != "chief" else 0)
    """
    assert run(served, tmp_path, body) == Losses(restarts=1, replaced=0)


@pytest.mark.parametrize(("end", "attempts"), [("os.kill(os.getpid(), 9)", 3), ("fail()", 1)])
def test_a_worker_that_is_lost_again_and_again(end: str, attempts: int, served: Plan, tmp_path: Path) -> None:
    """It is given up in the end; one that fails in words that it would say again is not tried again at all."""
    body = f"""
    def fail():
        Path(work["failure"]).write_text(json.dumps({{"error": None, "cause": "ValueError: no", "retry": False}}))
        sys.exit(1)
    attempts()
    if task == {{"type": "worker", "index": 1}}:
        {end}
    time.sleep(600)
    """
    message = "lost worker-1 3 times" if attempts == 3 else "training process worker-1: failed: ValueError: no"
    with pytest.raises(SatisficeError, match=message):
        run(served, tmp_path, body, restarts=2)
    assert (tmp_path / "attempts-1").read_text() == str(attempts)


def launched(folder: Path, body: str, **training: Any) -> subprocess.Popen[bytes]:
    """A process that runs a cluster."""
    told = {"strategy": "multi_worker_mirrored", "workers": 2, **training}
    code = f"""
from pathlib import Path
from components.trainer.cluster import run_cluster
from components.trainer.strategy import Machine, make_plan
from schemas.config import TrainingConfig
plan = make_plan(TrainingConfig.model_validate({told!r}), Machine(2))
run_cluster(plan, {{"folder": {str(folder)!r}}}, Path({str(folder / "logs")!r}), {member(folder, body)!r})
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment)


def process_ids(*files: Path) -> list[int]:
    """As soon as all of them have written theirs."""
    _until(lambda: all(file.exists() and file.read_text().endswith(".") for file in files))
    return [int(file.read_text()[:-1]) for file in files]


def test_members_die_with_the_process_that_started_them(tmp_path: Path) -> None:
    """However it ends: a kill leaves it no time to end them."""
    body = """
    (folder / f"pid-{task['index']}").write_text(f"{os.getpid()}.")
    time.sleep(600)
    """
    launcher = launched(tmp_path, body)
    ids = process_ids(tmp_path / "pid-0", tmp_path / "pid-1")
    assert all(map(_runs, ids))
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    _until(lambda: not any(map(_runs, ids)))


def test_sigterm_leaves_the_chief_time(tmp_path: Path) -> None:
    """It hears of it while the servers that hold its weights still run; then all are gone."""
    body = """
    def hear(*_):
        others = [file.read_text()[:-1] for file in folder.glob("pid-*") if "chief" not in file.name]
        (folder / "heard").write_text(str([os.path.exists(f"/proc/{one}") for one in others]))
        sys.exit(0)
    if task["type"] == "chief":
        signal.signal(signal.SIGTERM, hear)
    (folder / f"pid-{task['type']}").write_text(f"{os.getpid()}.")
    time.sleep(600)
    """
    launcher = launched(tmp_path, body, strategy="parameter_server", workers=1)
    ids = process_ids(*(tmp_path / f"pid-{role}" for role in ("chief", "ps", "worker")))
    launcher.terminate()
    assert launcher.wait() == 128 + signal.SIGTERM
    assert (tmp_path / "heard").read_text() == "[True, True]"
    _until(lambda: not any(map(_runs, ids)))


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def _until(what: Any) -> None:
    deadline = time.monotonic() + 300
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
