"""What a server that does not confirm is told to have done, by calls that end as they are told to."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from schemas.config import ConfirmConfig
from serving import confirm as confirming
from serving.messages import messages

NOT_FOUND = ("NOT_FOUND", "no version 7")
CUT_SHORT = ("DEADLINE_EXCEEDED", "Deadline Exceeded")


class Failed(grpc.RpcError):
    """As gRPC raises it."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(details)
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode[self._code]

    def details(self) -> str:
        return self._details


class Clock:
    """Stands for `time`."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirming, "time", Clock())


def loading() -> Any:
    answer = messages().status_response()
    answer.model_version_status.add(version=7, state=20)
    return answer


@pytest.mark.parametrize(
    ("first", "problem"),
    [
        (NOT_FOUND, "it did not know the version after 1 s: NOT_FOUND: no version 7"),
        (("UNAVAILABLE", "refused"), "it did not answer after 1 s: UNAVAILABLE: refused"),
        (CUT_SHORT, "it did not answer after 1 s: DEADLINE_EXCEEDED: Deadline Exceeded"),
        (None, "the version was still LOADING after 1 s"),
    ],
    ids=["unknown", "down", "silent", "loading"],
)
def test_a_call_that_the_deadline_cuts_short_hides_no_earlier_answer(
    first: tuple[str, str] | None, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one may have a tenth of a second: less than a busy machine takes to answer."""
    asked: list[float] = []

    def call(channel: Any, method: str, answers: Any, request: Any, timeout_s: float) -> Any:
        asked.append(timeout_s)
        if len(asked) == 1 and first is None:
            return loading()
        raise Failed(*(first if len(asked) == 1 and first else CUT_SHORT))

    monkeypatch.setattr(confirming, "_call", call)
    config = ConfirmConfig.model_validate({"instances": [{"grpc": "127.0.0.1:1"}], "deadline_s": 1}, strict=False)
    (found,) = confirming.confirm(config, "m", 7, None)
    assert (found.confirmed, found.problem) == (False, problem)


def test_a_server_that_falls_silent_is_told_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a call had all the time that one may have."""
    answers = [Failed(*NOT_FOUND), *[Failed(*CUT_SHORT)] * 1000]

    def call(*_: Any) -> Any:
        raise answers.pop(0) if answers else AssertionError

    monkeypatch.setattr(confirming, "_call", call)
    monkeypatch.setattr(confirming, "_CALL_S", 0.1)
    config = ConfirmConfig.model_validate({"instances": [{"grpc": "127.0.0.1:1"}], "deadline_s": 1}, strict=False)
    (found,) = confirming.confirm(config, "m", 7, None)
    assert found.problem == "it did not answer after 1 s: DEADLINE_EXCEEDED: Deadline Exceeded"
