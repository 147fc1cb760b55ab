"""A training cluster made, watched and cleaned up through the real client, against a contract server whose pods follow a script."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components import progress
from components.trainer import kubernetes_api, kubernetes_run
from components.trainer.cluster import Losses, tasks_of
from components.trainer.kubernetes import FAILS_AGAIN, OWNER, Group, job
from components.trainer.kubernetes_api import LogBrokenOff
from components.trainer.kubernetes_run import Errand, check_on_volume, labels_of, run_in_kubernetes
from components.trainer.sightings import Sighting
from components.trainer.strategy import Machine, Plan, make_plan
from schemas.config import KubernetesConfig, TrainingConfig
from schemas.errors import ConfigError, DataError, KubernetesError
from tests.components.trainer.cluster_api import Act, Cluster, Turns, all_run, serving, when, write_kubeconfig

RUNS = Act()
DONE = Act(code=0, says="epoch 1\nepoch 2\n", seconds=0.1)
KILLED = Act(code=137, reason="Error", says="no memory left\n", seconds=0.1)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """With pods that are done at once, unless a test says otherwise."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(kubernetes_run, "_WINDOW_S", 0.2)
    monkeypatch.setattr(kubernetes_run, "_LOGS_EVERY_S", 0.1)
    monkeypatch.setattr(kubernetes_run, "_ALIVE_WITHIN_S", 0.3)
    monkeypatch.setattr(kubernetes_run, "_BEATS_EVERY_S", 0.05)
    monkeypatch.setattr(kubernetes_api, "_BACK_OFF_S", 0.01)
    with serving(tmp_path, lambda index, nth: DONE) as found:
        yield found


def config(folder: Path, **more: Any) -> KubernetesConfig:
    told = {"image": "registry/satisfice:1", "volume": {"claim": "satisfice", "mount_path": str(folder)}, **more}
    return KubernetesConfig.model_validate(told, strict=False)


def plan_of(folder: Path, **training: Any) -> Plan:
    told = {"strategy": "multi_worker_mirrored", "workers": 2, **training}
    told |= {"cluster": "kubernetes", "kubernetes": config(folder)}
    return make_plan(TrainingConfig.model_validate(told), Machine(2))


SERVED = {"strategy": "parameter_server", "workers": 2, "parameter_servers": 1}


def run(folder: Path, training: dict[str, Any] | None = None, **more: Any) -> Losses:
    root = folder / "Trainer" / "model_run"
    errand = Errand("taxi", root, "7", {"what": "work"}, root / "7" / "workers")
    (root / "7").mkdir(parents=True, exist_ok=True)
    return run_in_kubernetes(plan_of(folder, **training or {}), config(folder, **more), errand)


def logs(folder: Path) -> Path:
    return folder / "Trainer" / "model_run" / "7" / "workers"


def assert_nothing_left(cluster: Cluster, folder: Path) -> None:
    with cluster.changed:
        left = [name for name in cluster.objects if name[0] != "events"]
    assert not left
    assert not list((folder / "Trainer" / "model_run").glob(".cluster-*"))


# --- what goes well ---------------------------------------------------------------------------------------------------


def test_a_cluster_is_made_and_cleaned_up(cluster: Cluster, tmp_path: Path) -> None:
    """A Job and the Service that goes with it, with labels that say whose they are; a log for each member; nothing stays."""
    assert run(tmp_path) == Losses(0, 0)
    made, service = cluster.bodies
    assert (made["kind"], service["kind"]) == ("Job", "Service")
    assert made["metadata"]["name"] == service["metadata"]["name"]
    assert service["metadata"]["ownerReferences"][0]["name"] == made["metadata"]["name"]
    labels = made["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "taxi"
    assert labels["satisfice/run"] == "7"
    assert labels == made["spec"]["template"]["metadata"]["labels"]
    assert json.loads((logs(tmp_path) / "work.json").read_text()) == {"what": "work", "logs": str(logs(tmp_path))}
    for index in (0, 1):
        first, *lines = (logs(tmp_path) / f"worker-{index}.log").read_text().splitlines()
        assert first.startswith("--- pod taxi-")
        assert lines == ["epoch 1", "epoch 2"]
    assert_nothing_left(cluster, tmp_path)


def test_only_what_is_permitted_is_asked(cluster: Cluster, tmp_path: Path) -> None:
    """The verbs of the Role are the ones that are used."""
    run(tmp_path)
    cluster.quota = 1
    with pytest.raises(KubernetesError):
        run(tmp_path, start_deadline_s=1)
    used: dict[str, set[str]] = {}
    for verb, resource, _ in cluster.calls:
        used.setdefault(resource, set()).add(verb)
    asked = {resource: set(verbs) for _, resource, verbs in kubernetes_api.PERMISSIONS}
    assert used == asked


def test_a_watch_that_breaks_or_expires_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    """The connection ends in the middle of an event, versions expire, the server is busy: the pods are seen all the same."""

    def watches() -> int:
        return sum(verb == "watch" for verb, _, _ in list(cluster.calls))

    def watched() -> bool:
        return bool(cluster.oldest) and watches() > 2

    cluster.script = lambda index, nth: Act(code=0, says="done\n", seconds=1.5 + index, until=watched)
    cluster.drop_watch_after = 2
    cluster.failing = 3
    expiry = when(watches, cluster.expire)
    try:
        assert run(tmp_path) == Losses(0, 0)
    finally:
        expiry.join()
    assert sum((verb, what) == ("list", "pods") for verb, what, _ in cluster.calls) > 2
    assert (logs(tmp_path) / "worker-0.log").read_text().splitlines()[1:] == ["done"]


def test_the_group_is_done_when_its_chief_is(cluster: Cluster, tmp_path: Path) -> None:
    """What serves it would run for ever, and is ended."""
    cluster.script = lambda index, nth: DONE if index == 0 else RUNS
    assert run(tmp_path, SERVED) == Losses(0, 0)
    assert_nothing_left(cluster, tmp_path)


def test_progress_is_that_of_the_chief(cluster: Cluster, tmp_path: Path) -> None:
    """Passed on to whoever watches the Trainer node."""
    channel = tmp_path / "node.progress"

    def passed_on() -> bool:
        found = progress.read(channel)
        return found is not None and found.done == 3

    cluster.script = lambda index, nth: Act(code=0, until=passed_on)
    progress.report_to(channel)

    def report() -> None:
        found = progress.Progress("steps", done=3, total=9, phase="epoch 1/3")
        progress._write(logs(tmp_path) / "chief.progress", found)

    timer = when(lambda: all_run(cluster), report)
    try:
        run(tmp_path)
    finally:
        timer.join()
        progress.report_to(None)
    assert progress.read(channel) == progress.Progress("steps", done=3, total=9, phase="epoch 1/3")


def test_a_log_that_broke_off_is_read_again(tmp_path: Path) -> None:
    """From where it was last read to its end, until it is, also of a pod that has ended; no line twice, none left out."""
    said = [b"2026-01-01T00:00:0%d.5Z epoch %d\n" % (min(second, 2), second) for second in range(4)]
    asked = []

    class Breaking:
        def log(self, pod: str, since_s: int | None) -> Iterator[bytes]:
            asked.append(since_s)
            yield from said[: 2 * (len(asked) - 1)]
            if len(asked) < 3:
                raise LogBrokenOff

    tasks = tasks_of(plan_of(tmp_path))
    kept = kubernetes_run._Logs(Breaking(), tasks, tmp_path)  # type: ignore[arg-type]
    running = Sighting("uid-0", "taxi-0-0-abcde", 0, "running")
    for one in (running, *3 * [replace(running, state="done")]):
        kept.pump([one])
    assert asked == [None, None, None]
    text = (tmp_path / "worker-0.log").read_text()
    assert text == "--- pod taxi-0-0-abcde\nepoch 0\nepoch 1\nepoch 2\nepoch 3\n"


def test_logs_that_are_cut_come_whole(cluster: Cluster, tmp_path: Path) -> None:
    """The connection ends before the last byte has come."""
    cluster.cut_logs = 2
    says = "".join(f"step {number} {'.' * 200}\n" for number in range(1000))
    cluster.script = lambda index, nth: Act(code=0, says=says, seconds=0.1)
    assert run(tmp_path) == Losses(0, 0)
    assert not cluster.cut_logs
    for index in (0, 1):
        assert (logs(tmp_path) / f"worker-{index}.log").read_text().partition("\n")[2] == says


# --- losses -----------------------------------------------------------------------------------------------------------


def test_the_loss_of_one_begins_all_anew(cluster: Cluster, tmp_path: Path) -> None:
    """As a Job of another name, after the pods of the first are gone."""
    cluster.script = lambda index, nth: (KILLED if index else RUNS) if nth == 1 else DONE
    assert run(tmp_path) == Losses(1, 0)
    first, second = [body["metadata"]["name"] for body in cluster.bodies if body["kind"] == "Job"]
    assert (first[:-2], first[-2:], second[-2:]) == (second[:-2], "-0", "-1")
    log = (logs(tmp_path) / "worker-1.log").read_text()
    assert log.count("--- pod") == 2
    assert "no memory left" in log
    assert_nothing_left(cluster, tmp_path)


def test_an_eviction_is_a_loss(cluster: Cluster, tmp_path: Path) -> None:
    """The machine was taken away, which happens."""
    evicted = Act(code=143, evicted=True, message="The node was low on resource: memory.", seconds=0.1)
    cluster.script = lambda index, nth: (evicted if index else RUNS) if nth < 3 else DONE
    assert run(tmp_path) == Losses(2, 0)


def test_a_group_that_is_lost_again_and_again_is_given_up(cluster: Cluster, tmp_path: Path) -> None:
    """With the last words of the one that was lost."""
    cluster.script = lambda index, nth: KILLED if index else RUNS
    with pytest.raises(KubernetesError, match=r"lost worker-1 2 times: no memory left; exit code 137") as caught:
        run(tmp_path, restarts=1)
    assert str(logs(tmp_path)) in caught.value.remedy
    assert_nothing_left(cluster, tmp_path)


def test_a_worker_beside_parameter_servers_begins_anew_alone(cluster: Cluster, tmp_path: Path) -> None:
    """The Job replaces it; the chief goes on."""
    seen = Turns(cluster, lambda: cluster.attempts.get(3) == 2)

    def script(index: int, nth: int) -> Act:
        if index == 0:
            return Act(code=0, until=lambda: seen.reached(2))
        return KILLED if (index, nth) == (3, 1) else RUNS

    cluster.script = script
    assert run(tmp_path, SERVED) == Losses(0, 1)
    assert sum(body["kind"] == "Job" for body in cluster.bodies) == 1


def test_what_would_fail_again_is_not_tried_again(cluster: Cluster, tmp_path: Path) -> None:
    """The member's error is the Trainer's."""

    def script(index: int, nth: int) -> Act:
        if index == 0:
            return RUNS
        error = DataError("split 'train'", "holds no rows").as_dict()
        told = {"error": error, "cause": "", "retry": False}
        (logs(tmp_path) / "worker-1.failure.json").write_text(json.dumps(told))
        return Act(code=FAILS_AGAIN)

    cluster.script = script
    with pytest.raises(DataError, match="split 'train': holds no rows"):
        run(tmp_path)
    assert sum(body["kind"] == "Job" for body in cluster.bodies) == 1
    assert_nothing_left(cluster, tmp_path)


class Later:
    """Stands for `time`: once the first member was seen to run, the deadline by which all have to is over."""

    def __init__(self, cluster: Cluster) -> None:
        self.sleep = time.sleep
        self._cluster, self._seen = cluster, Turns(cluster, self._runs)

    def monotonic(self) -> float:
        return time.monotonic() + 1000 * self._seen.reached(2)

    def _runs(self) -> bool:
        return any(pod["status"]["phase"] == "Running" for pod in self._cluster.of("pods"))


# --- bad weather ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (
            Act(waiting="ImagePullBackOff", message='Back-off pulling image "registry/satisfice:1"'),
            r'has not started within 600 s: ImagePullBackOff: Back-off pulling image "registry/satisfice:1"',
        ),
        (
            Act(unschedulable=True, message="0/3 nodes are available: 3 Insufficient nvidia.com/gpu."),
            "Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu",
        ),
        (
            Act(waiting="CreateContainerConfigError", message='secret "store" not found'),
            'CreateContainerConfigError: secret "store" not found',
        ),
        (
            Act(code=137, reason="OOMKilled", seconds=0.1),
            "OOMKilled; exit code 137.*more memory than the 4Gi of training",
        ),
    ],
    ids=["image", "unschedulable", "configuration", "memory"],
)
def test_pods_that_cannot_run(
    act: Act, words: str, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the words of whoever knows why, with the member's name; nothing is left behind."""
    cluster.script = lambda index, nth: act if index else RUNS
    if act.code is None:
        monkeypatch.setattr(kubernetes_run, "time", Later(cluster))
    with pytest.raises(KubernetesError, match=words) as caught:
        run(tmp_path, resources={"memory": "4Gi"})
    assert "worker-1" in str(caught.value)
    assert_nothing_left(cluster, tmp_path)


def test_an_image_that_cannot_be_is_told_at_once(cluster: Cluster, tmp_path: Path) -> None:
    """No deadline makes a name of it."""
    cluster.script = lambda index, nth: Act(waiting="InvalidImageName", message="couldn't parse image name")
    with pytest.raises(KubernetesError, match="cannot start: InvalidImageName: couldn't parse image name"):
        run(tmp_path)


def test_the_quota_is_exceeded(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no pod that could say so: the Job's events do."""
    cluster.quota = 1
    cluster.script = lambda index, nth: RUNS
    monkeypatch.setattr(kubernetes_run, "time", Later(cluster))
    with pytest.raises(
        KubernetesError, match=r"pod 1 \(worker-1\): has not started.*FailedCreate.*exceeded quota: small"
    ):
        run(tmp_path)
    assert_nothing_left(cluster, tmp_path)


def test_the_job_is_deleted_by_somebody_else(cluster: Cluster, tmp_path: Path) -> None:
    """Nobody begins it anew behind their back."""

    def delete() -> None:
        with cluster.changed:
            (made,) = cluster.of("jobs")
            cluster.delete_job(made["metadata"]["name"])

    cluster.script = lambda index, nth: RUNS
    timer = when(lambda: all_run(cluster), delete)
    with pytest.raises(KubernetesError, match="was deleted by somebody else in namespace default"):
        run(tmp_path)
    timer.join()
    assert_nothing_left(cluster, tmp_path)


def test_no_permission(cluster: Cluster, tmp_path: Path) -> None:
    """Every verb that is missing, before anything is made."""
    cluster.denied = {("create", "jobs"), ("get", "pods/log")}
    with pytest.raises(KubernetesError, match=r"may not: create jobs\.batch, get pods/log; expected the Role"):
        run(tmp_path)
    assert not cluster.bodies


def test_permission_is_taken_away(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Job that was made goes again."""
    cluster.denied = {("create", "services")}
    monkeypatch.setattr(kubernetes_api.Api, "check_access", lambda self: None)
    with pytest.raises(
        KubernetesError, match=r'it is not permitted: services is forbidden.*cannot create resource "services"'
    ):
        run(tmp_path)
    assert_nothing_left(cluster, tmp_path)


def test_what_kubernetes_refuses(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's words are passed on."""

    def misspelt(group: Group, *, watched: bool) -> dict[str, Any]:
        made = job(group, watched=watched)
        return {**made, "spec": {**made["spec"], "tmplate": {}}}

    monkeypatch.setattr(kubernetes_run, "job", misspelt)
    with pytest.raises(KubernetesError, match=r"the object is refused: Job is invalid.*tmplate"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("token", "server", "words"),
    [
        ("expired", None, "the token is not accepted; it may have expired"),
        (None, "http://127.0.0.1:9", "cannot be reached, asking whether it may create jobs"),
        (None, "", "no cluster is known"),
    ],
    ids=["token", "address", "kubeconfig"],
)
def test_no_cluster(token: str | None, server: str | None, words: str, cluster: Cluster, tmp_path: Path) -> None:
    """Nobody answers, or nobody is known."""
    file = tmp_path / "kubeconfig"
    if server == "":
        file.unlink()
    elif server:
        write_kubeconfig(file, server)
    else:
        file.write_text(file.read_text().replace("a-token", str(token)))
    with pytest.raises(KubernetesError, match=words):
        run(tmp_path)


def test_a_token_that_was_renewed_is_read_again(cluster: Cluster, tmp_path: Path) -> None:
    """Tokens of clusters last for an hour, trainings for longer."""

    def renew() -> None:
        file = tmp_path / "kubeconfig"
        file.write_text(file.read_text().replace("a-token", "another"))
        cluster.tokens = {"another"}

    seen = Turns(cluster, lambda: "another" in cluster.tokens)
    cluster.script = lambda index, nth: Act(code=0, until=lambda: seen.reached(2))
    timer = when(lambda: all_run(cluster), renew)
    assert run(tmp_path) == Losses(0, 0)
    timer.join()
    assert_nothing_left(cluster, tmp_path)


def test_no_room_for_logs(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The volume is full: the pods go all the same."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(kubernetes_run._Logs, "_append", full)
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path)
    assert_nothing_left(cluster, tmp_path)


# --- leftovers --------------------------------------------------------------------------------------------------------


def left_behind(cluster: Cluster, folder: Path, name: str, claim: str = "satisfice") -> None:
    """A Job of the pipeline root in a folder of a volume."""
    labels = labels_of("taxi", claim, str(folder / "Trainer" / "model_run"), "6")
    cluster.make(
        "jobs",
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "labels": labels},
            "status": {"conditions": [{"type": "Complete", "status": "True"}]},
            "spec": {"template": {"spec": {}}},
        },
    )


def test_what_a_killed_runner_left_goes(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But not what another run of the same root still watches, nor what another root has, be it at the same path of another volume."""
    root = tmp_path / "Trainer" / "model_run"
    root.mkdir(parents=True)
    for name in ("taxi-gone-1", "taxi-alive-0"):
        left_behind(cluster, tmp_path, name)
    left_behind(cluster, tmp_path / "elsewhere", "taxi-other-0")
    left_behind(cluster, tmp_path, "taxi-staging-0", claim="staging")
    for name in ("gone", "alive"):
        (root / f".cluster-taxi-{name}").write_text("12")

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        kubernetes_run._give_sign(root / ".cluster-taxi-alive", time.monotonic_ns())

    monkeypatch.setattr(kubernetes_run, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    assert run(tmp_path) == Losses(0, 0)
    with cluster.changed:
        left = [one["metadata"]["name"] for one in cluster.of("jobs")]
    assert left == ["taxi-alive-0", "taxi-other-0", "taxi-staging-0"]
    assert not (root / ".cluster-taxi-gone").exists()
    assert len({body["metadata"]["labels"][OWNER] for body in cluster.bodies}) == 1


class Leftovers:
    """An API and a clock: Jobs that are left, the pods of each of which take so long to end when they are deleted."""

    def __init__(self, **seconds: float) -> None:
        self.seconds, self.ends, self.now = seconds, dict[str, float](), 0.0

    def jobs(self, selector: dict[str, str]) -> list[dict[str, Any]]:
        return [{"metadata": {"name": name}} for name in self.seconds]

    def delete(self, name: str) -> None:
        self.ends[name] = self.now + self.seconds[name]

    def pods(self, selector: dict[str, str]) -> tuple[list[dict[str, Any]], str]:
        return [{}] * (self.now < self.ends[selector["satisfice/job"]]), "1"

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def remove(self, folder: Path, patience_s: float = 90) -> None:
        kubernetes_run._remove_leftovers(self, {OWNER: "us"}, folder, patience_s)  # type: ignore[arg-type]


def test_pods_that_are_left_have_their_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They may still be writing the state from which the next group begins; those that do not end are told."""
    slow = Leftovers(**{"taxi-a-0": 45, "taxi-b-0": 80})
    monkeypatch.setattr(kubernetes_run, "time", slow)
    slow.remove(tmp_path)
    assert 80 <= slow.now < 82
    assert "have not ended" not in caplog.text
    stuck = Leftovers(**{"taxi-a-0": 45, "taxi-c-0": float("inf")})
    monkeypatch.setattr(kubernetes_run, "time", stuck)
    stuck.remove(tmp_path)
    assert 90 <= stuck.now < 92
    assert "pods of taxi-c-0 have not ended within 90 s" in caplog.text


def test_what_is_left_is_waited_for_as_long_as_pods_may_take(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The grace of the configuration, and what Kubernetes takes beyond it."""
    asked = []
    monkeypatch.setattr(kubernetes_run, "_remove_leftovers", lambda *told: asked.append(told[-1]))
    run(tmp_path, grace_s=300)
    assert asked == [300 + kubernetes_run._BEYOND_GRACE_S]


@pytest.mark.parametrize("lives", [True, False])
def test_a_sign_of_life_that_is_empty_at_first(lives: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has just begun to write it is waited for."""
    sign = tmp_path / ".cluster-taxi-begun"
    sign.touch()

    class Beating(Leftovers):
        def sleep(self, seconds: float) -> None:
            if lives:
                kubernetes_run._give_sign(sign, 1)

    api = Beating(**{"taxi-begun-0": 0})
    monkeypatch.setattr(kubernetes_run, "time", api)
    api.remove(tmp_path)
    assert bool(api.ends) is not lives
    assert sign.exists() is lives


def test_a_sign_of_life_is_never_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither between two of them, nor where the volume is full."""
    sign = tmp_path / ".cluster-taxi-full"
    kubernetes_run._give_sign(sign, 1)
    first = sign.read_bytes()
    seen = []

    def full(file: int, text: bytes, offset: int) -> int:
        seen.append(sign.read_bytes())
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left"):
            kubernetes_run._give_sign(sign, 2)
    assert [*seen, sign.read_bytes()] == [first, first]
    kubernetes_run._give_sign(sign, 2)
    assert sign.read_bytes() != first


def test_sigterm_cleans_up(cluster: Cluster, tmp_path: Path) -> None:
    """The pods are asked to end, and the Trainer node ends as SIGTERM ends a process."""
    cluster.script = lambda index, nth: RUNS
    code = f"""
from pathlib import Path
from tests.components.trainer.test_kubernetes_run import run
run(Path({str(tmp_path)!r}))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    deadline = time.monotonic() + 240
    while not all_run(cluster):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(240) == 128 + signal.SIGTERM
    assert_nothing_left(cluster, tmp_path)


# --- what the pods would not see --------------------------------------------------------------------------------------


def test_what_is_not_on_the_volume(tmp_path: Path) -> None:
    """Each thing that lies elsewhere is named."""
    paths = [("training rows", "/elsewhere/rows/*"), ("schema", f"{tmp_path}/schema.pbtxt"), ("model served", "")]
    with pytest.raises(ConfigError) as caught:
        check_on_volume(config(tmp_path), paths)
    (fault,) = caught.value.faults
    assert fault.path == "training.kubernetes.volume"
    assert "the training rows would not be seen by the pods" in fault.problem
    assert "where the claim satisfice is mounted" in fault.expected
    assert fault.got == "/elsewhere/rows/*"
