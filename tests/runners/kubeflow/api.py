"""A small fake of Kubeflow Pipelines' HTTP API (v2beta1) on loopback, for its own client. It runs nothing.

It keeps to the backend's rules as far as they concern a submission: a token where one is asked for, schema 2.1.0 alone,
container executors alone, known parameters with values of their types, an id for both pipeline and version, cron
expressions of six fields. Each call that it answers is held against Kubeflow's published OpenAPI, request and answer. A run
ends as the test says.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

import yaml

from tests.runners.kubeflow.contract import check_call

_RUN = {"experiment_id", "display_name", "description", "pipeline_spec", "pipeline_version_reference", "runtime_config",
        "service_account"}  # fmt: skip
_RECURRING = (_RUN - {"run_details"}) | {"mode", "trigger", "max_concurrency", "no_catchup"}
_KINDS = {"NUMBER_INTEGER": (int,), "NUMBER_DOUBLE": (int, float), "STRING": (str,), "BOOLEAN": (bool,)}


class RefusalError(Exception):
    """An answer that is none, with its status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeKubeflow:
    """The API's state, and what it was told."""

    def __init__(self, token: str = "", version: str = "2.16.1") -> None:
        self.token, self.version = token, version
        self.experiments: dict[str, dict[str, Any]] = {}
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.recurring: dict[str, dict[str, Any]] = {}
        self.states = ["PENDING", "RUNNING", "SUCCEEDED"]
        self.tasks: dict[str, str] = {}
        self.breaches: list[str] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer("GET")

            def do_POST(self) -> None:
                self._answer("POST")

            def do_DELETE(self) -> None:
                self._answer("DELETE")

            def log_message(self, *_: Any) -> None:
                pass

            def _answer(self, method: str) -> None:
                url = urlparse(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                try:
                    fake.check_token(self.headers.get("authorization", ""))
                    status, found = 200, fake.answer(method, url.path, parse_qs(url.query), body, self.headers)
                    fake.hold_against_contract(method, url.path, body, found)
                except RefusalError as error:
                    status, found = error.status, {"error": str(error), "code": 3, "message": str(error)}
                text = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        assert not self.breaches, self.breaches

    def hold_against_contract(self, method: str, path: str, body: bytes, found: dict[str, Any]) -> None:
        """Notes what is not as the API says; `close` fails on it. The backend answers /healthz outside of its API."""
        if path.endswith("/healthz"):
            return
        try:
            check_call(method, path, json.loads(body) if body and "/upload" not in path else None, found)
        except AssertionError as error:
            self.breaches.append(f"{method} {path}: {error}")

    def check_token(self, given: str) -> None:
        if self.token and given != f"Bearer {self.token}":
            raise RefusalError(401, "Request not authenticated")

    # --- answers ------------------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes, headers: Any) -> dict[str, Any]:
        where = path.removeprefix("/apis/v2beta1")
        if (method, where) == ("GET", "/healthz"):
            return {"commit_sha": "0", "tag_name": self.version, "multi_user": False}
        if where.startswith("/pipelines"):
            return self._pipelines(method, where, query, body, headers)
        kind, _, one = where.lstrip("/").partition("/")
        if kind == "experiments":
            return self._experiments(method, json.loads(body or b"{}"))
        if kind == "runs":
            return self._new_run(json.loads(body)) if method == "POST" else self._run(one)
        if kind == "recurringruns":
            if method == "DELETE":
                self.recurring.pop(one)
                return {}
            return (
                self._new_recurring(json.loads(body))
                if method == "POST"
                else self._all("recurringRuns", self.recurring)
            )
        raise RefusalError(404, f"no such place: {method} {path}")

    def _all(self, name: str, found: dict[str, dict[str, Any]]) -> dict[str, Any]:
        return {name: list(found.values()), "total_size": len(found)} if found else {}

    def _experiments(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        if method == "GET":
            return self._all("experiments", self.experiments)
        if body["display_name"] in [one["display_name"] for one in self.experiments.values()]:
            raise RefusalError(409, "Already exist error")
        return self._keep(self.experiments, "experiment_id", body)

    def _pipelines(
        self, method: str, where: str, query: dict[str, list[str]], body: bytes, headers: Any
    ) -> dict[str, Any]:
        name = query.get("display_name", query.get("name", [""]))[0]
        if where == "/pipelines/upload":
            if name in [one["display_name"] for one in self.pipelines.values()]:
                raise RefusalError(409, f"The name {name} already exist")
            made = self._keep(self.pipelines, "pipeline_id", {"display_name": name})
            self._new_version(made["pipeline_id"], name, _uploaded(body, headers))
            return made
        if where == "/pipelines/upload_version":
            return self._new_version(query["pipelineid"][0], name, _uploaded(body, headers))
        if where == "/pipelines":
            asked = json.loads(query["filter"][0])["predicates"][0]
            value = asked.get("stringValue", asked.get("string_value"))
            return self._all("pipelines", {k: v for k, v in self.pipelines.items() if v["display_name"] == value})
        found = re.fullmatch(r"/pipelines/([^/]+)/versions", where)
        if method == "GET" and found:
            mine = {k: v for k, v in self.versions.items() if v["pipeline_id"] == found[1]}
            shown = {k: {key: value for key, value in v.items() if key != "pipeline_spec"} for k, v in mine.items()}
            return self._all("pipeline_versions", shown)
        raise RefusalError(404, f"no such place: {method} {where}")

    def _new_version(self, pipeline: str, name: str, text: str) -> dict[str, Any]:
        spec = next(iter(yaml.safe_load_all(text)))
        if pipeline not in self.pipelines:
            raise RefusalError(404, f"Pipeline {pipeline} not found")
        if spec.get("schemaVersion") != "2.1.0":
            raise RefusalError(400, "KFP only supports schema version 2.1.0")
        kinds = {kind for one in spec["deploymentSpec"]["executors"].values() for kind in one}
        if kinds - {"container", "importer"}:
            raise RefusalError(400, f"executors of an unknown kind: {kinds}")
        mine = [one["display_name"] for one in self.versions.values() if one["pipeline_id"] == pipeline]
        if name in mine:
            raise RefusalError(409, f"The name {name} already exist")
        version = {"pipeline_id": pipeline, "display_name": name, "pipeline_spec": spec}
        made = self._keep(self.versions, "pipeline_version_id", version)
        return {key: value for key, value in made.items() if key != "pipeline_spec"}

    def _new_run(self, body: dict[str, Any]) -> dict[str, Any]:
        self._check(body, _RUN)
        made = self._keep(self.runs, "run_id", {**body, "state": self.states[0], "_asked": 0})
        return {key: value for key, value in made.items() if key != "_asked"}

    def _new_recurring(self, body: dict[str, Any]) -> dict[str, Any]:
        self._check(body, _RECURRING)
        cron = body["trigger"]["cron_schedule"]["cron"]
        if len(cron.split()) != 6:
            raise RefusalError(400, f"Schedule cron is not supported: {cron}")
        if not 1 <= int(body["max_concurrency"]) <= 10:
            raise RefusalError(400, "max_concurrency is out of bounds")
        return self._keep(self.recurring, "recurring_run_id", body)

    def _check(self, body: dict[str, Any], known: set[str]) -> None:
        unknown = {key for key, value in body.items() if value is not None} - known
        if unknown:
            raise RefusalError(400, f"unknown fields: {sorted(unknown)}")
        if body["experiment_id"] not in self.experiments:
            raise RefusalError(404, "Experiment not found")
        version = self.versions.get(body["pipeline_version_reference"]["pipeline_version_id"])
        if version is None or version["pipeline_id"] != body["pipeline_version_reference"]["pipeline_id"]:
            raise RefusalError(404, "PipelineVersion not found")
        declared = version["pipeline_spec"]["root"].get("inputDefinitions", {}).get("parameters", {})
        for name, value in body["runtime_config"]["parameters"].items():
            kind = declared.get(name, {}).get("parameterType")
            if kind is None or not isinstance(value, _KINDS[kind]) or isinstance(value, bool) != (kind == "BOOLEAN"):
                raise RefusalError(400, f"parameter {name} is unknown, or not of its type: {value!r}")

    def _run(self, run_id: str) -> dict[str, Any]:
        run = self.runs.get(run_id)
        if run is None:
            raise RefusalError(404, f"Run {run_id} not found")
        run["state"] = self.states[min(run["_asked"], len(self.states) - 1)]
        run["_asked"] += 1
        details = [{"display_name": name, "state": state} for name, state in self.tasks.items()]
        error = {"error": {"code": 13, "message": "Trainer ended with exit code 1"}} if run["state"] == "FAILED" else {}
        shown = {key: value for key, value in run.items() if key != "_asked"}
        return {**shown, **error, "run_details": {"task_details": details}}

    def _keep(self, where: dict[str, dict[str, Any]], key: str, value: dict[str, Any]) -> dict[str, Any]:
        made = {key: str(uuid.uuid4()), "created_at": "2026-01-01T00:00:00Z", **value}
        where[made[key]] = made
        return made


def _uploaded(body: bytes, headers: Any) -> str:
    """The file of a multipart form."""
    message = BytesParser().parsebytes(b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + body)
    (part,) = [one for one in message.get_payload() if one.get_filename()]
    return part.get_payload(decode=True).decode()
