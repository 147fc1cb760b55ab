"""Hands a compiled pipeline to the API of Kubeflow Pipelines, through its own client: upload, run, wait, run again and again."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from schemas.config import KubeflowConfig
from schemas.errors import KubeflowError, shorten

if TYPE_CHECKING:
    from runners.kubeflow.compile import Compiled

__all__ = ["Ended", "Kubeflow", "outcome_of_tasks", "token_of"]

_TOKEN_FILE = "/var/run/secrets/kubeflow/pipelines/token"  # noqa: S105 - a path, where Kubernetes mounts the token
_OLDEST = (2, 15)
"""The oldest backend that has all that a compiled pipeline asks for."""
_PAGE = 100
_FINISHED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
_TOLD_BY = {"blocked": "blocked", "waitsforapproval": "pending", "datablocked": "data_blocked"}
"""Name of a task that runs only where it has something to tell, to the outcome that it tells."""

Ending = Literal["pushed", "blocked", "pending", "data_blocked", "failed"]


@dataclass(frozen=True)
class Ended:
    """A run that has ended.

    Attributes:
        run_id: of Kubeflow, and in the lineage.
        state: as Kubeflow has it.
        outcome: what it came to; `pushed` stands for `already_served` too, which Kubeflow cannot tell.
        error: what Kubeflow says of a failure.
    """

    run_id: str
    state: str
    outcome: Ending
    error: str = ""


def token_of(config: KubeflowConfig) -> tuple[str | None, str | None]:
    """The token for the API, or the file that holds it; (None, None) where neither is configured nor mounted.

    Raises:
        KubeflowError: what the configuration names is not there, or empty.
    """
    if config.token_env is not None:
        token = os.environ.get(config.token_env, "").strip()
        if not token:
            raise KubeflowError("kubeflow.token_env", "the variable is not set", expected=config.token_env)
        return token, None
    path = config.token_file or os.environ.get("KF_PIPELINES_SA_TOKEN_PATH", _TOKEN_FILE)
    try:
        given = Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        if config.token_file is None:
            return None, None
        raise KubeflowError("kubeflow.token_file", "cannot be read", got=path, expected=str(error.strerror)) from error
    if not given:
        raise KubeflowError("kubeflow.token_file", "is empty", got=path)
    return None, path


class Kubeflow:
    """One API of Kubeflow Pipelines."""

    def __init__(self, config: KubeflowConfig) -> None:
        """Connects.

        Raises:
            KubeflowError: no host is configured; it cannot be reached; it refuses the token; its version is too old.
        """
        if config.host is None:
            raise KubeflowError(
                "kubeflow.host",
                "is missing",
                expected="the address of the API, such as https://kubeflow.example/pipeline",
            )
        self._host, self._config = config.host, config
        token, file = token_of(config)
        self._check_version(token or (Path(file).read_text(encoding="utf-8").strip() if file else None))
        with _quiet():
            import kfp
            from kfp.client import ServiceAccountTokenVolumeCredentials

            credentials = ServiceAccountTokenVolumeCredentials(path=file) if file else None
            with self._errors("connecting"):
                self._client = kfp.Client(
                    host=config.host,
                    existing_token=token,
                    credentials=credentials,
                    namespace=config.namespace or "kubeflow",
                )

    def _check_version(self, token: str | None) -> None:
        """Asks once; kfp's client itself would ask five times, with pauses, before it says what is wrong."""
        from kfp_server_api import ApiClient, Configuration, HealthzServiceApi

        asking = Configuration(host=self._host.rstrip("/"))
        if token:
            asking.api_key["authorization"], asking.api_key_prefix["authorization"] = token, "Bearer"
        with self._errors("asking for its version"):
            answer = HealthzServiceApi(ApiClient(asking)).healthz_service_get_healthz(_preload_content=False)
        try:
            tag = str(json.loads(answer.data).get("tag_name", ""))
        except (ValueError, AttributeError) as error:
            raise self._error("does not answer as Kubeflow Pipelines does", got=answer.data[:80]) from error
        found = re.match(r"^v?(\d+)\.(\d+)", tag)
        if found and (int(found[1]), int(found[2])) < _OLDEST:
            expected = ".".join(map(str, _OLDEST))
            raise self._error("its version lacks what the pipeline needs", expected=f"{expected} or newer", got=tag)

    # --- what is there ------------------------------------------------------------------------------------------------

    def experiment(self, name: str) -> str:
        """The id of an experiment, which is made where it is missing."""
        with self._errors(f"looking for the experiment {name!r}"), _quiet():
            return str(self._client.create_experiment(name, namespace=self._config.namespace).experiment_id)

    def upload(self, name: str, compiled: Compiled) -> tuple[str, str, bool]:
        """Uploads a version of a pipeline, named by its content.

        Returns:
            The ids of pipeline and version, and whether it is new: what is there already is not uploaded again.
        """
        version = f"{name}-{hashlib.sha256(compiled.text.encode()).hexdigest()[:12]}"
        with tempfile.TemporaryDirectory(prefix="satisfice-") as folder, _quiet():
            path = os.path.join(folder, "pipeline.yaml")
            Path(path).write_text(compiled.text, encoding="utf-8")
            with self._errors(f"uploading the pipeline {name!r}"):
                pipeline = self._client.get_pipeline_id(name)
                if pipeline is None:
                    pipeline = self._client.upload_pipeline(path, name, namespace=self._config.namespace).pipeline_id
                known = self._version(pipeline, version)
                if known is not None:
                    return str(pipeline), known, False
                made = self._client.upload_pipeline_version(path, version, pipeline_id=pipeline)
                return str(pipeline), str(made.pipeline_version_id), True

    def _version(self, pipeline: str, name: str) -> str | None:
        token = ""
        while True:
            found = self._client.list_pipeline_versions(pipeline, page_token=token, page_size=_PAGE)
            for one in found.pipeline_versions or []:
                if one.display_name == name:
                    return str(one.pipeline_version_id)
            token = found.next_page_token or ""
            if not token:
                return None

    # --- running ------------------------------------------------------------------------------------------------------

    def start(self, experiment: str, name: str, version: tuple[str, str], values: Mapping[str, Any]) -> str:
        """Starts a run of an uploaded version; its id."""
        with self._errors("starting a run"), _quiet():
            run = self._client.run_pipeline(
                experiment,
                name,
                pipeline_id=version[0],
                version_id=version[1],
                params=dict(values),
                service_account=self._config.service_account,
            )
        return str(run.run_id)

    def wait(self, run_id: str, every_s: float, deadline_s: float, tell: Callable[[str], None]) -> Ended:
        """Waits until a run has ended.

        Args:
            run_id: of the run.
            every_s: pause between two questions.
            deadline_s: how long at most.
            tell: is told of each new state.

        Raises:
            KubeflowError: it has not ended in time; it goes on.
        """
        deadline, last = time.monotonic() + deadline_s, ""
        while True:
            with self._errors(f"asking for run {run_id}"), _quiet():
                run = self._client.get_run(run_id)
            if run.state != last:
                last = str(run.state)
                tell(last)
            if last in _FINISHED:
                error = shorten(str(getattr(run.error, "message", "") or "")) if run.error else ""
                return Ended(run_id, last, outcome_of_tasks(last, _task_states(run)), error)
            if time.monotonic() + every_s > deadline:
                raise KubeflowError(
                    f"run {run_id}",
                    f"has not ended after {deadline_s:g} s",
                    remedy="It goes on: look at Kubeflow's page.",
                )
            time.sleep(every_s)

    def repeat(
        self,
        experiment: str,
        name: str,
        version: tuple[str, str],
        cron: str,
        values: Mapping[str, Any],
        *,
        catch_up: bool,
    ) -> tuple[str, int]:
        """Has a version run by the clock, one run at a time. What ran by that name before is replaced.

        Returns:
            The id of the recurring run, and how many were replaced.
        """
        with self._errors("scheduling"), _quiet():
            earlier = [one for one in self._recurring(experiment) if one.display_name == name]
            made = self._client.create_recurring_run(
                experiment,
                name,
                cron_expression=cron,
                max_concurrency=1,
                no_catchup=not catch_up,
                pipeline_id=version[0],
                version_id=version[1],
                params=dict(values),
                service_account=self._config.service_account,
            )
            for one in earlier:
                self._client.delete_recurring_run(one.recurring_run_id)
        return str(made.recurring_run_id), len(earlier)

    def _recurring(self, experiment: str) -> Iterator[Any]:
        token = ""
        while True:
            found = self._client.list_recurring_runs(page_token=token, page_size=_PAGE, experiment_id=experiment)
            yield from found.recurring_runs or []
            token = found.next_page_token or ""
            if not token:
                return

    # --- errors -------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Turns what the client raises into one message."""
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as error:
            raise self._refused(doing, error) from error
        except (HTTPError, OSError) as error:
            raise self._error(
                f"cannot be reached ({doing})",
                got=" ".join(str(error).split()),
                remedy="Correct kubeflow.host, or forward its port: kubectl port-forward -n kubeflow svc/ml-pipeline 8888",
            ) from error
        except ValueError as error:
            raise self._error(f"answers otherwise than expected ({doing})", got=" ".join(str(error).split())) from error

    def _refused(self, doing: str, error: Any) -> KubeflowError:
        if error.status in (401, 403):
            named = self._config.token_env or self._config.token_file or "none was given"
            return self._error(
                f"refuses the token ({doing})",
                expected="a token that may do so",
                got=f"HTTP {error.status}, token: {named}",
                remedy="Name it: kubeflow.token_env or kubeflow.token_file.",
            )
        return self._error(f"refuses ({doing})", got=f"HTTP {error.status}: {_message(error.body)}")

    def _error(self, problem: str, *, expected: str = "", got: object = "", remedy: str = "") -> KubeflowError:
        return KubeflowError(f"Kubeflow at {self._host}", problem, expected=expected, got=got, remedy=remedy)


def outcome_of_tasks(state: str, tasks: Mapping[str, str]) -> Ending:
    """What a run came to.

    Args:
        state: of the run.
        tasks: name in small letters to state.

    >>> outcome_of_tasks("SUCCEEDED", {"pusher": "SUCCEEDED", "blocked": "SUCCEEDED"})
    'blocked'
    """
    if state != "SUCCEEDED":
        return "failed"
    for name, outcome in _TOLD_BY.items():
        if tasks.get(name) == "SUCCEEDED":
            return outcome  # type: ignore[return-value]
    return "pushed"


def _task_states(run: Any) -> dict[str, str]:
    details = run.run_details.task_details if run.run_details else None
    return {str(one.display_name).lower(): str(one.state) for one in details or []}


def _message(body: Any) -> str:
    try:
        found = json.loads(body)
        return str(found.get("message") or found.get("error") or body)
    except (ValueError, TypeError, AttributeError):
        return str(body)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The client prints links for notebooks, and warns of every server."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
