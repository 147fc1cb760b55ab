"""Waits until servers serve a new version, and asks them the golden requests that it carries. No TensorFlow.

Each server is asked by itself, all at once: GetModelStatus of that very version until it is AVAILABLE, or has ended with an
error; then the golden request, by version, over gRPC and, where the server's REST address is given, over REST.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.config import ConfirmConfig, InstanceConfig
from schemas.decision import Confirmation
from schemas.errors import SatisficeError
from serving.client import RestClient
from serving.golden import Golden, difference
from serving.messages import from_tensor, messages, to_tensor

__all__ = ["confirm"]

_POLL_S = 0.1
_CALL_S = 5.0
_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
_HOPELESS = ("UNIMPLEMENTED", "PERMISSION_DENIED", "UNAUTHENTICATED")


def confirm(config: ConfirmConfig, model: str, version: int, golden: Golden | None) -> tuple[Confirmation, ...]:
    """What became of a version on each server, in the order of the configuration.

    Args:
        config: the servers, and how long to wait for all of them together, in seconds.
        model: the name that the servers have for it.
        version: that was published.
        golden: the requests that it carries; None where it carries none, and its being AVAILABLE has to do.
    """
    began = time.monotonic()
    found: list[Confirmation | None] = [None] * len(config.instances)

    def ask(index: int) -> None:
        found[index] = _Asked(config.instances[index], model, version, golden, began, config.deadline_s).confirm()

    threads = [threading.Thread(target=ask, args=(index,), daemon=True) for index in range(len(found))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tuple(one for one in found if one is not None)


class _EndedError(Exception):
    """Why a server does not confirm, in words."""


@dataclass
class _Asked:
    """One server that is asked."""

    instance: InstanceConfig
    model: str
    version: int
    golden: Golden | None
    began: float
    deadline_s: float
    state: str = ""
    last: str = ""

    def confirm(self) -> Confirmation:
        asked: list[str] = []
        problem = ""
        try:
            channel = self._channel()
            try:
                self._wait(channel)
                if self.golden is not None:
                    self._ask_grpc(channel, self.golden)
                    asked.append("gRPC")
                    if self.instance.rest is not None:
                        self._ask_rest(self.instance.rest, self.golden)
                        asked.append("REST")
            finally:
                channel.close()
        except _EndedError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - whatever a server does wrong is what is to be told
            problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
        seconds = round(time.monotonic() - self.began, 3)
        return Confirmation(
            instance=self.instance.grpc,
            confirmed=not problem,
            state=self.state,
            problem=problem,
            asked=tuple(asked),
            seconds=seconds,
        )

    def _channel(self) -> Any:
        import grpc

        if self.instance.ca is None:
            return grpc.insecure_channel(self.instance.grpc, _OPTIONS)
        try:
            root = Path(self.instance.ca).read_bytes()
        except OSError as error:
            raise _EndedError(f"the certificate {self.instance.ca} cannot be read: {error.strerror}") from error
        return grpc.secure_channel(self.instance.grpc, grpc.ssl_channel_credentials(root), _OPTIONS)

    def _wait(self, channel: Any) -> None:
        """Until the version is AVAILABLE."""
        import grpc

        kinds = messages()
        request = kinds.status_request()
        request.model_spec.name = self.model
        request.model_spec.version.value = self.version
        while True:
            left = self._left()
            try:
                answer = _call(channel, _MODEL_STATUS, kinds.status_response, request, left)
            except grpc.RpcError as error:
                self._hear(error.code().name, error.details(), left)
                if error.code().name in _HOPELESS:
                    raise _EndedError(self.last) from error
            else:
                self.last = ""
                if self._is_available(answer):
                    return
            if time.monotonic() + _POLL_S > self.began + self.deadline_s:
                raise _EndedError(self._too_late())
            time.sleep(_POLL_S)

    def _hear(self, code: str, details: str, left_s: float) -> None:
        """What a call said; one that the deadline cut short says nothing, and what was heard before it stays."""
        if code != "DEADLINE_EXCEEDED" or left_s >= _CALL_S or not (self.last or self.state):
            self.last = f"{code}: {details}"

    def _is_available(self, answer: Any) -> bool:
        status = next((one for one in answer.model_version_status if one.version == self.version), None)
        if status is None:
            return False
        self.state = messages().state(status.state)
        if self.state == "END":
            said = status.status.error_message
            raise _EndedError(f"it could not load the version: {said}" if said else "it has unloaded the version")
        return self.state == "AVAILABLE"

    def _too_late(self) -> str:
        waited = f"after {self.deadline_s:g} s"
        if self.last.startswith(("UNAVAILABLE", "DEADLINE_EXCEEDED")):
            return f"it did not answer {waited}: {self.last}"
        if self.last and not self.state:
            return f"it did not know the version {waited}: {self.last}"
        return f"the version was still {self.state or 'unknown to it'} {waited}"

    def _ask_grpc(self, channel: Any, golden: Golden) -> None:
        import grpc

        kinds = messages()
        request = kinds.predict_request()
        request.model_spec.name = self.model
        request.model_spec.version.value = self.version
        request.model_spec.signature_name = golden.signature
        for name, column in golden.inputs.items():
            request.inputs[name].CopyFrom(to_tensor(column.dtype, column.plain()))
        try:
            answer = _call(channel, _PREDICT, kinds.predict_response, request, max(self._left(), _CALL_S))
        except grpc.RpcError as error:
            raise _EndedError(
                f"it refused a golden request over gRPC: {error.code().name}: {error.details()}"
            ) from error
        if golden.output not in answer.outputs:
            raise _EndedError(f"its answer over gRPC lacks the output {golden.output!r}")
        self._compare("gRPC", golden, from_tensor(answer.outputs[golden.output]))

    def _ask_rest(self, address: str, golden: Golden) -> None:
        client = RestClient(
            address,
            self.model,
            version=self.version,
            signature=golden.signature,
            timeout_s=max(self._left(), _CALL_S),
        )
        rows = [{name: column.values[row] for name, column in golden.inputs.items()} for row in range(golden.rows)]
        try:
            outputs = client.predict(rows).outputs
        except SatisficeError as error:
            raise _EndedError(f"it refused a golden request over REST: {error.thing}: {error.problem}") from error
        only = next(iter(outputs.values())) if len(outputs) == 1 else None  # REST gives a single output no name
        self._compare("REST", golden, outputs.get(golden.output, only))

    def _compare(self, protocol: str, golden: Golden, answered: Any) -> None:
        wrong = difference(list(golden.predictions), answered)
        if wrong:
            raise _EndedError(f"over {protocol} it answered {wrong}")

    def _left(self) -> float:
        """Seconds that a call may take."""
        return max(0.1, min(_CALL_S, self.began + self.deadline_s - time.monotonic()))


def _call(channel: Any, method: str, answers: Any, request: Any, timeout_s: float) -> Any:
    ask = channel.unary_unary(
        method, request_serializer=lambda one: one.SerializeToString(), response_deserializer=answers.FromString
    )
    return ask(request, timeout=timeout_s)
