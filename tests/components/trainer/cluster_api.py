"""A contract server: the part of Kubernetes' API that a training uses, on loopback, with a Job controller and a kubelet.

Every object that is sent is validated strictly against Kubernetes' own JSON schemas; objects carry resource versions, watches
stream and expire, whoever asks needs a token and the verb. The controller keeps to the semantics of an Indexed Job: a pod for
each index, back-off limits, rules on exit codes, a success policy, deletion with grace. Pods do what a script says, or run
their command as local processes with the environment of the manifest.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import functools
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate
import yaml

from components.trainer.kubernetes import ADDRESSES

VERSION = "1.33"
TOKEN = "a-token"
KINDS = {"jobs": ("batch", "Job"), "services": ("", "Service"), "pods": ("", "Pod"), "events": ("", "Event")}
QUERY = {
    "list": {"labelSelector", "fieldSelector"},
    "watch": {"labelSelector", "watch", "resourceVersion", "timeoutSeconds", "allowWatchBookmarks"},
    "delete": {"propagationPolicy"},
    "get": {"timestamps", "sinceSeconds"},
    "create": set(),
}
INDEX = "batch.kubernetes.io/job-completion-index"

Object = dict[str, Any]


@dataclass
class Act:
    """What a scripted pod does: it waits for ever with these words, or runs; after `seconds`, and not before something `until`
    which it runs, it exits with `code`.
    """

    waiting: str = ""
    message: str = ""
    unschedulable: bool = False
    code: int | None = None
    reason: str = ""
    says: str = ""
    evicted: bool = False
    seconds: float = 0.0
    until: Callable[[], object] = lambda: True


Script = Callable[[int, int], Act]
"""Completion index, and which attempt at it over all Jobs, to what the pod does."""


@dataclass
class Pod:
    """What the kubelet knows of a pod."""

    act: Act | None = None
    since: float = field(default_factory=time.monotonic)
    process: subprocess.Popen[bytes] | None = None
    lines: list[tuple[str, bytes]] = field(default_factory=list)
    reader: threading.Thread | None = None
    asked_to_end: float | None = None


class Cluster:
    """One namespace. Attributes that tests set: `script`, `denied`, `tokens`, `namespace`, `quota`, `drop_watch_after`,
    `cut_logs` (so many end before their last byte).
    """

    def __init__(self, folder: Path, script: Script | None = None) -> None:
        self.script, self.folder = script, folder
        self.namespace = "default"
        self.tokens = {TOKEN}
        self.denied: set[tuple[str, str]] = set()
        self.quota: int | None = None
        self.drop_watch_after: int | None = None
        self.cut_logs = 0
        self.failing = 0
        self.calls: list[tuple[str, str, str]] = []
        self.bodies: list[Object] = []
        self.objects: dict[tuple[str, str], Object] = {}
        self.pods: dict[str, Pod] = {}
        self.attempts: dict[int, int] = {}
        self.changes: list[tuple[int, str, str, Object]] = []
        self.oldest = 0
        self.version = 1
        self.changed = threading.Condition(threading.RLock())
        self.addresses: dict[str, str] = {}
        self._over = threading.Event()

    # --- the store ----------------------------------------------------------------------------------------------------

    def put(self, resource: str, body: Object, kind: str) -> Object:
        with self.changed:
            self.version += 1
            body["metadata"]["resourceVersion"] = str(self.version)
            if kind == "DELETED":
                self.objects.pop((resource, body["metadata"]["name"]), None)
            else:
                self.objects[resource, body["metadata"]["name"]] = body
            self.changes.append((self.version, resource, kind, copy.deepcopy(body)))
            self.changed.notify_all()
            return body

    def make(self, resource: str, body: Object) -> Object:
        made = copy.deepcopy(body)
        made["metadata"] |= {"uid": secrets.token_hex(8), "namespace": self.namespace, "creationTimestamp": _now()}
        return self.put(resource, made, "ADDED")

    def of(self, resource: str, selector: str = "") -> list[Object]:
        wanted = dict(pair.split("=") for pair in selector.split(",") if pair)
        with self.changed:
            return [
                one
                for (kind, _), one in sorted(self.objects.items())
                if kind == resource and wanted.items() <= one["metadata"].get("labels", {}).items()
            ]

    def expire(self) -> None:
        """Watches cannot go on from any version so far."""
        with self.changed:
            self.version += 1
            self.oldest = self.version
            self.changes.clear()

    def delete_job(self, name: str) -> None:
        """As the garbage collector does: its Services at once, its pods with their grace."""
        with self.changed:
            job = self.objects.get(("jobs", name))
            if job is None:
                return
            self.put("jobs", job, "DELETED")
            for service in self.of("services"):
                owners = service["metadata"].get("ownerReferences", [])
                if any(owner["uid"] == job["metadata"]["uid"] for owner in owners):
                    self.put("services", service, "DELETED")
            for pod in self.of("pods", f"satisfice/job={name}"):
                self.end_pod(pod)

    def end_pod(self, pod: Object) -> None:
        pod["metadata"].setdefault("deletionTimestamp", _now())
        self.put("pods", pod, "MODIFIED")

    def event(self, job: Object, reason: str, message: str) -> None:
        name = f"{job['metadata']['name']}.{reason}"
        if ("events", name) in self.objects:
            return
        involved = {"kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}
        body = {"metadata": {"name": name}, "involvedObject": involved, "type": "Warning", "reason": reason}
        self.make("events", {**body, "message": message, "lastTimestamp": _now()})

    # --- the Job controller -------------------------------------------------------------------------------------------

    def control(self) -> None:
        while not self._over.wait(0.02):
            with self.changed:
                for job in self.of("jobs"):
                    self._reconcile(job)
                for pod in self.of("pods"):
                    self._live(pod)

    def _reconcile(self, job: Object) -> None:
        spec, name = job["spec"], job["metadata"]["name"]
        pods = self.of("pods", f"satisfice/job={name}")
        phases: dict[int, list[str]] = {}
        for pod in pods:
            phases.setdefault(int(pod["metadata"]["annotations"][INDEX]), []).append(pod["status"]["phase"])
        if any(one["status"] == "True" for one in job.get("status", {}).get("conditions", [])):
            return
        done = {index for index, seen in phases.items() if "Succeeded" in seen}
        rules = spec.get("successPolicy", {}).get("rules", [])
        if len(done) == spec["completions"] or any(int(rule["succeededIndexes"]) in done for rule in rules):
            self._finish(job, "Complete", "CompletionsReached", pods)
            return
        failed = [pod for pod in pods if pod["status"]["phase"] == "Failed"]
        codes = {_exit_code(pod) for pod in failed}
        fatal = {
            code for rule in spec["podFailurePolicy"]["rules"] for code in rule.get("onExitCodes", {}).get("values", [])
        }
        if codes & fatal:
            self._finish(job, "Failed", "PodFailurePolicy", pods)
        elif len(failed) > spec["backoffLimit"]:
            self._finish(job, "Failed", "BackoffLimitExceeded", pods)
        else:
            for index in range(spec["completions"]):
                if index not in done and not {"Pending", "Running"} & set(phases.get(index, [])):
                    self._start(job, index, len(pods))
                    pods = self.of("pods", f"satisfice/job={name}")

    def _finish(self, job: Object, kind: str, reason: str, pods: list[Object]) -> None:
        condition = {"type": kind, "status": "True", "reason": reason, "message": f"Job has ended: {reason}"}
        job["status"] = {"conditions": [condition]}
        self.put("jobs", job, "MODIFIED")
        for pod in pods:
            if pod["status"]["phase"] in ("Pending", "Running"):
                self.end_pod(pod)

    def _start(self, job: Object, index: int, there: int) -> None:
        name = job["metadata"]["name"]
        if self.quota is not None and there >= self.quota:
            words = f'pods "{name}-{index}" is forbidden: exceeded quota: small, requested: pods=1, used: pods={there}'
            self.event(job, "FailedCreate", f"Error creating: {words}, limited: pods={self.quota}")
            return
        template = copy.deepcopy(job["spec"]["template"])
        template["spec"]["hostname"] = f"{name}-{index}"
        metadata = {
            **template["metadata"],
            "name": f"{name}-{index}-{secrets.token_hex(3)[:5]}",
            "annotations": {INDEX: str(index)},
        }
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        _validate(json.dumps(body, sort_keys=True))
        made = self.make("pods", {**body, "status": {"phase": "Pending"}})
        nth = self.attempts[index] = self.attempts.get(index, 0) + 1
        self.pods[made["metadata"]["uid"]] = Pod(self.script(index, nth) if self.script else None)

    # --- the kubelet --------------------------------------------------------------------------------------------------

    def _live(self, pod: Object) -> None:
        known, phase = self.pods[pod["metadata"]["uid"]], pod["status"]["phase"]
        if phase in ("Pending", "Running"):
            before = copy.deepcopy(pod["status"])
            pod["status"] = self._acted(pod, known) if known.act else self._processed(pod, known)
            if pod["status"] != before:
                self.put("pods", pod, "MODIFIED")
        elif (
            "deletionTimestamp" in pod["metadata"]
            and ("jobs", pod["metadata"]["labels"]["satisfice/job"]) not in self.objects
        ):
            self.put("pods", pod, "DELETED")

    def _acted(self, pod: Object, known: Pod) -> Object:
        act = known.act
        assert act is not None
        if "deletionTimestamp" in pod["metadata"]:
            return _ended(143, "Error", "")
        if act.unschedulable:
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": act.message}
            return {"phase": "Pending", "conditions": [condition]}
        if act.waiting:
            state = {"waiting": {"reason": act.waiting, "message": act.message}}
            return {"phase": "Pending", "containerStatuses": [_container(state)]}
        if act.says and not known.lines:
            known.lines = [(_now(), line.encode()) for line in act.says.splitlines(keepends=True)]
        if act.code is None or time.monotonic() < known.since + act.seconds or not act.until():
            return {"phase": "Running", "containerStatuses": [_container({"running": {"startedAt": _now()[:10]}})]}
        status = _ended(act.code, act.reason or ("Completed" if act.code == 0 else "Error"), act.says)
        return {**status, "reason": "Evicted", "message": act.message} if act.evicted else status

    def _processed(self, pod: Object, known: Pod) -> Object:
        if known.process is None:
            if "deletionTimestamp" in pod["metadata"]:
                return _ended(143, "Error", "")
            self._spawn(pod, known)
        assert known.process is not None
        assert known.reader is not None
        if "deletionTimestamp" in pod["metadata"]:
            if known.asked_to_end is None:
                known.asked_to_end = time.monotonic()
                known.process.terminate()
            elif time.monotonic() > known.asked_to_end + pod["spec"]["terminationGracePeriodSeconds"]:
                known.process.kill()
        code = known.process.poll()
        if code is None:
            return {"phase": "Running", "containerStatuses": [_container({"running": {}})]}
        known.reader.join(10)
        said = b"".join(line for _, line in known.lines[-20:]).decode(errors="replace")[-2048:]
        return _ended(code if code >= 0 else 128 - code, "Completed" if code == 0 else "Error", said)

    def _spawn(self, pod: Object, known: Pod) -> None:
        """Exactly the environment of the manifest, and what stands for the image: its PATH, and where its packages lie."""
        container = pod["spec"]["containers"][0]
        environment = {one["name"]: one["value"] for one in container["env"]}
        for hosts in json.loads(environment["TRAINING_CLUSTER"]).values():
            for host in hosts:
                self.addresses.setdefault(host, f"127.0.0.1:{_free_port()}")
        image = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "HOME": str(self.folder),
        }
        ours = {"JOB_COMPLETION_INDEX": pod["metadata"]["annotations"][INDEX], ADDRESSES: json.dumps(self.addresses)}
        known.process = subprocess.Popen(
            [*container["command"], *container["args"]],
            env={**image, **environment, **ours},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        known.reader = threading.Thread(target=_read, args=(known,), daemon=True)
        known.reader.start()

    def close(self) -> None:
        self._over.set()
        for known in self.pods.values():
            if known.process is not None:
                known.process.kill()
                known.process.wait()
            if known.reader is not None:
                known.reader.join(10)
                assert known.process is not None
                assert known.process.stdout is not None
                known.process.stdout.close()


@functools.lru_cache(maxsize=256)
def _validate(body: str) -> None:
    """The schemas are read anew for each object, which takes a while; equal objects are asked about once."""
    kubernetes_validate.validate(json.loads(body), VERSION, strict=True)


def _read(known: Pod) -> None:
    assert known.process is not None
    assert known.process.stdout is not None
    for line in known.process.stdout:
        known.lines.append((_now(), line))


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _now() -> str:
    """RFC 3339 as Go writes it: zeros at the end of the fraction are left out."""
    nanoseconds = time.time_ns()
    whole = datetime.datetime.fromtimestamp(nanoseconds // 10**9, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{nanoseconds % 10**9:09d}".rstrip("0").rstrip(".") + "Z"


def _container(state: Object) -> Object:
    return {"name": "member", "state": state}


def _ended(code: int, reason: str, message: str) -> Object:
    state = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
    return {"phase": "Failed" if code else "Succeeded", "containerStatuses": [_container(state)]}


def _exit_code(pod: Object) -> int:
    statuses = pod["status"].get("containerStatuses") or [{}]
    return int(statuses[0].get("state", {}).get("terminated", {}).get("exitCode", -1))


# --- HTTP -------------------------------------------------------------------------------------------------------------


class _RefusalError(Exception):
    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _do(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        try:
            self._answer(body)
        except _RefusalError as refusal:
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": refusal.reason}
            self._send(refusal.code, {**status, "message": str(refusal), "code": refusal.code})
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = do_DELETE = _do  # noqa: N815 - as http.server names them

    def _answer(self, body: Object) -> None:
        cluster, (path, query) = self.cluster, self._asked()
        if self.headers.get("Authorization", "").removeprefix("Bearer ") not in cluster.tokens:
            raise _RefusalError(401, "Unauthorized", "Unauthorized")
        if cluster.failing:
            cluster.failing -= 1
            raise _RefusalError(503, "ServiceUnavailable", "the server is currently unable to handle the request")
        if path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" and self.command == "POST":
            self._review(body)
            return
        resource, name, below = self._resource(path)
        verb = self._verb(name, query)
        cluster.calls.append((verb, resource + (f"/{below}" if below else ""), name))
        if not set(query) <= QUERY[verb]:
            raise _RefusalError(400, "BadRequest", f"unknown parameters {set(query) - QUERY[verb]}")
        self._permit(verb, resource, below)
        getattr(self, f"_{verb}")(resource, name, query, body)

    def _asked(self) -> tuple[str, dict[str, str]]:
        found = urlsplit(self.path)
        return found.path, {key: values[0] for key, values in parse_qs(found.query).items()}

    def _resource(self, path: str) -> tuple[str, str, str]:
        *group, keyword, namespace, resource, name, below = (
            (*path.strip("/").split("/"), "", "")[:8]
            if path.startswith("/apis/")
            else (*path.strip("/").split("/"), "", "")[:7]
        )
        expected = {"jobs": ["apis", "batch", "v1"]}.get(resource, ["api", "v1"])
        if resource not in KINDS or group != expected or keyword != "namespaces" or below not in ("", "log"):
            raise _RefusalError(404, "NotFound", "the server could not find the requested resource")
        if namespace != self.cluster.namespace:
            raise _RefusalError(404, "NotFound", f'namespaces "{namespace}" not found')
        return resource, name, below

    def _verb(self, name: str, query: dict[str, str]) -> str:
        if self.command == "GET":
            return (
                "get" if name else "watch" if query.get("watch") == "true" or query.get("watch") == "True" else "list"
            )
        return {"POST": "create", "DELETE": "delete"}[self.command]

    def _permit(self, verb: str, resource: str, below: str) -> None:
        full = resource + (f"/{below}" if below else "")
        if (verb, full) in self.cluster.denied:
            group = KINDS[resource][0]
            raise _RefusalError(
                403,
                "Forbidden",
                f'{resource}{"." + group if group else ""} is forbidden: User "trainer" cannot {verb} resource "{full}" in API '
                f'group "{group}" in the namespace "{self.cluster.namespace}"',
            )

    def _review(self, body: Object) -> None:
        _validate(json.dumps(body, sort_keys=True))
        asked = body["spec"]["resourceAttributes"]
        full = asked["resource"] + (f"/{asked['subresource']}" if asked.get("subresource") else "")
        assert asked.get("group", "") == KINDS[asked["resource"]][0]
        assert asked["namespace"] == self.cluster.namespace
        self._send(201, {**body, "status": {"allowed": (asked["verb"], full) not in self.cluster.denied}})

    def _create(self, resource: str, name: str, query: dict[str, str], body: Object) -> None:
        cluster = self.cluster
        try:
            _validate(json.dumps(body, sort_keys=True))
        except kubernetes_validate.ValidationError as error:
            raise _RefusalError(422, "Invalid", f"{body.get('kind')} is invalid: {error.message}") from error
        with cluster.changed:
            if body["kind"] != KINDS[resource][1] or (resource, body["metadata"]["name"]) in cluster.objects:
                raise _RefusalError(409, "AlreadyExists", f'{resource} "{body["metadata"]["name"]}" already exists')
            cluster.bodies.append(body)
            made = cluster.make(resource, body)
        self._send(201, made)

    def _get(self, resource: str, name: str, query: dict[str, str], body: Object) -> None:
        with self.cluster.changed:
            found = self.cluster.objects.get((resource, name))
        if found is None:
            raise _RefusalError(404, "NotFound", f'{resource} "{name}" not found')
        if not self.path.partition("?")[0].endswith("/log"):
            self._send(200, found)
            return
        known = self.cluster.pods[found["metadata"]["uid"]]
        if found["status"]["phase"] == "Pending":
            raise _RefusalError(400, "BadRequest", f'container "member" in pod "{name}" is waiting to start')
        assert query["timestamps"] in ("true", "True")
        text = b"".join(stamp.encode() + b" " + line for stamp, line in list(known.lines))
        if self.cluster.cut_logs:
            self.cluster.cut_logs -= 1
            self.close_connection = True
        self._bytes(200, text, "text/plain", sent=len(text) - self.close_connection)

    def _list(self, resource: str, name: str, query: dict[str, str], body: Object) -> None:
        with self.cluster.changed:
            items = self.cluster.of(resource, query.get("labelSelector", ""))
            wanted = query.get("fieldSelector", "").partition("=")[2]
            items = [one for one in items if not wanted or one["involvedObject"]["uid"] == wanted]
            listed = {"kind": f"{KINDS[resource][1]}List", "apiVersion": "v1", "items": items}
            self._send(200, {**listed, "metadata": {"resourceVersion": str(self.cluster.version)}})

    def _watch(self, resource: str, name: str, query: dict[str, str], body: Object) -> None:
        cluster = self.cluster
        since, until = int(query["resourceVersion"]), time.monotonic() + float(query["timeoutSeconds"])
        wanted = dict(pair.split("=") for pair in query["labelSelector"].split(","))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        sent = 0
        while time.monotonic() < until:
            with cluster.changed:
                if since < cluster.oldest:
                    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
                    self._chunk({"type": "ERROR", "object": status})
                    break
                news = [one for one in cluster.changes if one[0] > since and one[1] == resource]
                if not news:
                    cluster.changed.wait(0.1)
                    continue
            for version, _, kind, found in news:
                since = version
                if wanted.items() <= found["metadata"].get("labels", {}).items():
                    self._chunk({"type": kind, "object": found})
                    sent += 1
                    if cluster.drop_watch_after is not None and sent > cluster.drop_watch_after:
                        self.close_connection = True  # in the middle of a chunk
                        self.connection.sendall(b'40\r\n{"type": "MODI')
                        self.connection.shutdown(socket.SHUT_RDWR)
                        return
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, event: Object) -> None:
        line = json.dumps(event).encode() + b"\n"
        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        self.wfile.flush()

    def _delete(self, resource: str, name: str, query: dict[str, str], body: Object) -> None:
        with self.cluster.changed:
            found = self.cluster.objects.get((resource, name))
            if found is None:
                raise _RefusalError(404, "NotFound", f'{resource} "{name}" not found')
            if resource == "jobs":
                assert query["propagationPolicy"] == "Background"
                self.cluster.delete_job(name)
            else:
                self.cluster.put(resource, found, "DELETED")
        self._send(200, {"kind": "Status", "status": "Success"})

    def _send(self, code: int, body: Object) -> None:
        self._bytes(code, json.dumps(body).encode(), "application/json")

    def _bytes(self, code: int, body: bytes, kind: str, sent: int | None = None) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:sent])


@contextlib.contextmanager
def serving(folder: Path, script: Script | None = None) -> Iterator[Cluster]:
    """A cluster, and a kubeconfig for it in the folder."""
    cluster = Cluster(folder, script)
    handler = type("Handler", (_Handler,), {"cluster": cluster})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,)), threading.Thread(target=cluster.control)]
    for thread in threads:
        thread.start()
    write_kubeconfig(folder / "kubeconfig", f"http://127.0.0.1:{server.server_port}")
    try:
        yield cluster
    finally:
        cluster.close()
        server.shutdown()
        for thread in threads:
            thread.join(10)
        server.server_close()


def write_kubeconfig(file: Path, server: str, token: str = TOKEN) -> None:
    file.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "tests",
                "clusters": [{"name": "tests", "cluster": {"server": server}}],
                "users": [{"name": "tests", "user": {"token": token}}],
                "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
            }
        )
    )


def when(what: Callable[[], Any], then: Callable[[], None]) -> threading.Thread:
    """Does something in a thread as soon as something is so."""

    def wait() -> None:
        deadline = time.monotonic() + 240
        while not what() and time.monotonic() < deadline:
            time.sleep(0.02)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


class Turns:
    """How often a training has looked at its cluster since something was so: it asks for its Job once in each turn."""

    def __init__(self, cluster: Cluster, what: Callable[[], object]) -> None:
        self._cluster, self._what = cluster, what
        self._since: int | None = None

    def reached(self, count: int) -> bool:
        """Whether there were so many, the first of which may have begun before."""
        with self._cluster.changed:
            if self._since is None and self._what():
                self._since = len(self._cluster.calls)
            calls = self._cluster.calls[self._since :] if self._since is not None else []
        return sum(call[:2] == ("get", "jobs") for call in calls) >= count


def all_run(cluster: Cluster) -> bool:
    """Whether there are pods, all of which run."""
    with cluster.changed:
        phases = {pod["status"]["phase"] for pod in cluster.of("pods")}
    return phases == {"Running"}


def kill_member(cluster: Cluster, index: int) -> None:
    """Kills the first process of a pod, as a machine that is gone does."""
    with cluster.changed:
        pods = [one for one in cluster.of("pods") if one["metadata"]["annotations"][INDEX] == str(index)]
        process = cluster.pods[pods[-1]["metadata"]["uid"]].process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
