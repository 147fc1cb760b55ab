"""The few calls that a training makes to Kubernetes, through its own Python client; objects are plain JSON values.

What passes is tried again a bounded number of times; what Kubernetes refuses is an error in words, with what to do.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from components.trainer.kubernetes import PERMISSIONS
from schemas.config import KubernetesConfig
from schemas.errors import KubernetesError, shorten

__all__ = ["Api", "LogBrokenOff", "ResourceVersionExpired"]

Object = dict[str, Any]

_TRIES = 5
_BACK_OFF_S = 0.5
_CONNECT_S, _ANSWER_S = 5.0, 30.0
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _CONFLICT, _GONE, _INVALID, _TOO_MANY = 401, 403, 404, 409, 410, 422, 429
_SERVER_ERRORS = 500
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_LOG_PART_BYTES = 1 << 16


class ResourceVersionExpired(Exception):  # noqa: N818 - what the API calls it
    """A watch cannot go on from where it was: list anew."""


class LogBrokenOff(Exception):  # noqa: N818 - it passes
    """A log was not read to its end: read it again from where it was."""


class Api:
    """A namespace of one cluster."""

    def __init__(self, config: KubernetesConfig) -> None:
        """Finds out where the API is: the pod's own cluster, or what the kubeconfig says.

        Raises:
            KubernetesError: neither is there.
        """
        self._config = config
        self._namespace = config.namespace
        self._connect()

    def _connect(self) -> None:
        import kubernetes
        from kubernetes.config.config_exception import ConfigException

        settings = kubernetes.client.Configuration()
        settings.retries = False  # tried again here, with pauses
        try:
            if self._config.context is None and "KUBERNETES_SERVICE_HOST" in os.environ and _ACCOUNT.exists():
                kubernetes.config.load_incluster_config(client_configuration=settings)
            else:
                kubernetes.config.load_kube_config(
                    os.environ.get("KUBECONFIG") or None, self._config.context, client_configuration=settings
                )
        except (ConfigException, OSError, ValueError) as error:
            raise KubernetesError(
                "Kubernetes",
                f"no cluster is known: {shorten(' '.join(str(error).split()), 300)}",
                expected="a pod with a service account, or a kubeconfig",
                remedy="Set KUBECONFIG, correct training.kubernetes.context, or write training.cluster: local.",
            ) from error
        self._host = str(settings.host)
        client = kubernetes.client.ApiClient(settings)
        self._client = client
        self._batch, self._core = kubernetes.client.BatchV1Api(client), kubernetes.client.CoreV1Api(client)
        self._authorization = kubernetes.client.AuthorizationV1Api(client)

    def close(self) -> None:
        """Ends the connections."""
        self._client.rest_client.pool_manager.clear()
        self._client.close()

    # --- what is asked ------------------------------------------------------------------------------------------------

    def check_access(self) -> None:
        """Asks whether all that a training needs is allowed, before anything is made.

        Raises:
            KubernetesError: with every verb on every resource that is not.
        """
        missing = [
            f"{verb} {resource}{'.' + group if group else ''}"
            for group, resource, verbs in PERMISSIONS
            for verb in verbs
            if not self._may(group, resource, verb)
        ]
        if missing:
            raise KubernetesError(
                f"namespace {self._namespace}",
                f"the Trainer node may not: {', '.join(missing)}",
                expected="the Role that `satisfice deploy render --training` renders, bound to its account",
                remedy="Apply kubernetes/rbac.yaml of the rendered files, or have somebody apply it who may.",
            )

    def _may(self, group: str, resource: str, verb: str) -> bool:
        name, _, below = resource.partition("/")
        asked = {"namespace": self._namespace, "verb": verb, "group": group, "resource": name, "subresource": below}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {key: value for key, value in asked.items() if value}},
        }
        answer = self._asked(
            f"asking whether it may {verb} {resource}",
            lambda: self._authorization.create_self_subject_access_review(review, **_raw()),
        )
        return bool((answer or {}).get("status", {}).get("allowed"))

    def create_job(self, body: Object) -> Object:
        """Makes a Job."""
        return self._created("Job", body, lambda: self._batch.create_namespaced_job(self._namespace, body, **_raw()))

    def create_service(self, body: Object) -> Object:
        """Makes a Service."""
        return self._created(
            "Service", body, lambda: self._core.create_namespaced_service(self._namespace, body, **_raw())
        )

    def _created(self, kind: str, body: Object, make: Callable[[], Any]) -> Object:
        name = body["metadata"]["name"]
        made = self._asked(f"creating {kind} {name}", make, may_be_there=True)
        if made is None:  # an answer was lost: names are nobody else's
            made = self.job(name) if kind == "Job" else body
        if made is None:
            raise KubernetesError(f"{kind} {name}", "is gone as soon as it was made")
        return made

    def job(self, name: str) -> Object | None:
        """A Job; None where there is none."""
        return self._asked(
            f"reading Job {name}",
            lambda: self._batch.read_namespaced_job(name, self._namespace, **_raw()),
            may_be_gone=True,
        )

    def jobs(self, selector: Mapping[str, str]) -> list[Object]:
        """Jobs with these labels."""
        return self._items(
            "listing Jobs",
            lambda: self._batch.list_namespaced_job(self._namespace, label_selector=_spelled(selector), **_raw()),
        )

    def delete(self, name: str) -> None:
        """Deletes a Job with its pods, and the Service of its name; what is gone already is no error."""
        self._asked(
            f"deleting Job {name}",
            lambda: self._batch.delete_namespaced_job(name, self._namespace, propagation_policy="Background", **_raw()),
            may_be_gone=True,
        )
        self._asked(
            f"deleting Service {name}",
            lambda: self._core.delete_namespaced_service(name, self._namespace, **_raw()),
            may_be_gone=True,
        )

    def pods(self, selector: Mapping[str, str]) -> tuple[list[Object], str]:
        """Pods with these labels, and the resource version from which a watch goes on."""
        answer = self._asked(
            "listing pods",
            lambda: self._core.list_namespaced_pod(self._namespace, label_selector=_spelled(selector), **_raw()),
        )
        found = answer or {}
        return list(found.get("items") or ()), str(found.get("metadata", {}).get("resourceVersion", ""))

    def changes_of_pods(self, selector: Mapping[str, str], version: str, seconds: int) -> Iterator[tuple[str, Object]]:
        """What becomes of pods with these labels, for some seconds.

        Returns:
            `ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`, and the pod. It ends early where the connection does.

        Raises:
            ResourceVersionExpired: list them anew.
        """
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            response = self._core.list_namespaced_pod(
                self._namespace,
                watch=True,
                label_selector=_spelled(selector),
                resource_version=version,
                timeout_seconds=seconds,
                allow_watch_bookmarks=True,
                _preload_content=False,
                _request_timeout=(_CONNECT_S, seconds + _ANSWER_S),
            )
            try:
                yield from _changes(response)
            finally:
                response.close()
        except ApiException as error:
            if error.status == _GONE:
                raise ResourceVersionExpired from error
            if error.status == _FORBIDDEN:
                self._refused("watching pods", error)
            time.sleep(_BACK_OFF_S)
        except HTTPError:  # whoever calls asks for the rest, with a call that is tried again
            time.sleep(_BACK_OFF_S)

    def log(self, pod: str, since_s: int | None) -> Iterator[bytes]:
        """What a pod has said, line by line, each with the time; of the last seconds, or all of it. Nothing of one that is gone.

        Raises:
            LogBrokenOff: there is none yet, or not all of it came.
        """
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        more = {} if since_s is None else {"since_seconds": since_s}
        try:
            response = self._core.read_namespaced_pod_log(pod, self._namespace, timestamps=True, **more, **_raw())
            try:
                yield from _lines(response)
            finally:
                response.close()
        except ApiException as error:  # a container that is about to start, a machine that is gone
            if error.status != _NOT_FOUND:
                raise LogBrokenOff from error
        except HTTPError as error:
            raise LogBrokenOff from error

    def events(self, uid: str) -> list[Object]:
        """What was said of an object."""
        return self._items(
            "listing events",
            lambda: self._core.list_namespaced_event(
                self._namespace, field_selector=f"involvedObject.uid={uid}", **_raw()
            ),
        )

    # --- how it is asked ----------------------------------------------------------------------------------------------

    def _items(self, doing: str, call: Callable[[], Any]) -> list[Object]:
        return list((self._asked(doing, call) or {}).get("items") or ())

    def _asked(
        self, doing: str, call: Callable[[], Any], *, may_be_gone: bool = False, may_be_there: bool = False
    ) -> Object | None:
        """The answer; None where it says that a thing is gone, or there already, and that may be."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        tried = renewed = 0
        while True:
            tried += 1
            try:
                answer: Object = json.loads(call().data or b"{}")
                return answer
            except ApiException as error:
                if (may_be_gone and error.status == _NOT_FOUND) or (
                    may_be_there and tried > 1 and error.status == _CONFLICT
                ):
                    return None
                if error.status == _UNAUTHORIZED and not renewed:
                    renewed = 1
                    self.close()
                    self._connect()  # a token that was renewed since
                    continue
                passes = error.status in (0, _TOO_MANY) or error.status >= _SERVER_ERRORS
                if not passes or tried == _TRIES:
                    self._refused(doing, error)
            except (HTTPError, ValueError) as error:
                if tried == _TRIES:
                    raise self._unreachable(doing, error) from error
            time.sleep(_BACK_OFF_S * 2 ** (tried - 1))

    def _unreachable(self, doing: str, error: Exception) -> KubernetesError:
        return KubernetesError(
            f"Kubernetes at {self._host}",
            f"cannot be reached, {doing}: {shorten(' '.join(str(error).split()), 300)}",
            remedy="Is the address right, and the cluster up? Else write training.cluster: local.",
        )

    def _refused(self, doing: str, error: Any) -> None:
        """Raises what an answer means.

        Raises:
            KubernetesError: always.
        """
        said = _said(error)
        if error.status == _UNAUTHORIZED:
            problem, remedy = (
                "the token is not accepted; it may have expired",
                "Renew the credentials of the kubeconfig.",
            )
        elif error.status == _FORBIDDEN and "exceeded quota" in said:
            problem, remedy = (
                "the quota of the namespace is exceeded",
                "Ask for less in training.kubernetes.resources, or for a larger quota.",
            )
        elif error.status == _FORBIDDEN:
            problem, remedy = (
                "it is not permitted",
                "Apply kubernetes/rbac.yaml of `satisfice deploy render --training`.",
            )
        elif error.status == _INVALID:
            problem, remedy = "the object is refused", "Correct what the section training.kubernetes holds."
        elif error.status == _NOT_FOUND:
            problem, remedy = "it is not there", "Does the namespace exist?"
        else:
            problem, remedy = f"it answers {error.status}", ""
        raise KubernetesError(
            f"Kubernetes at {self._host}, {doing}", f"{problem}: {shorten(said, 400)}", remedy=remedy
        ) from error


def _raw() -> dict[str, Any]:
    return {"_preload_content": False, "_request_timeout": (_CONNECT_S, _ANSWER_S)}


def _spelled(selector: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in selector.items())


def _said(error: Any) -> str:
    """The message of an answer."""
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, TypeError, KeyError):
        return " ".join(str(error.body or error.reason or "").split())


def _lines(response: Any) -> Iterator[bytes]:
    """The lines of an answer as it comes, with their ends."""
    rest = b""
    for part in response.stream(_LOG_PART_BYTES):
        *lines, rest = (rest + part).split(b"\n")
        yield from (line + b"\n" for line in lines)
    if rest:
        yield rest


def _changes(response: Any) -> Iterator[tuple[str, Object]]:
    """The events of a watch, one a line.

    Raises:
        ResourceVersionExpired: the server says so.
    """
    rest = b""
    for part in response.stream(amt=None, decode_content=False):
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if not line.strip():
                continue
            event = json.loads(line)
            if event["type"] == "ERROR":
                if event["object"].get("code") == _GONE:
                    raise ResourceVersionExpired
                return
            yield event["type"], event["object"]
