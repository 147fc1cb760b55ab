"""What is written down of a run as a whole, read back."""

from __future__ import annotations

import getpass
import os
import socket
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2

from components.lineage import writer
from components.lineage.reader import RUN_TYPE
from tests.components.lineage.ledger import Ledger

Execution = metadata_store_pb2.Execution


def open_run(ledger: Ledger, run_id: str = "20261101-000000-0001") -> int:
    return writer.open_run(ledger.store, run_id, 1_000, "taxi", '{"name": "taxi"}', "c0ffee", "local")


def stored(ledger: Ledger) -> Any:
    (execution,) = ledger.store.get_executions_by_type(RUN_TYPE)
    return execution


def test_a_run_that_has_begun_is_recorded_before_it_does_anything(ledger: Ledger) -> None:
    """With its configuration, by whom and where; a process that dies now leaves it unfinished."""
    assert open_run(ledger) == stored(ledger).id
    execution = stored(ledger)
    assert (execution.name, execution.last_known_state) == ("20261101-000000-0001", Execution.RUNNING)
    values = {name: getattr(v, v.WhichOneof("value")) for name, v in execution.custom_properties.items()}
    assert values == {
        "pipeline": "taxi",
        "started_ms": 1_000,
        "config": '{"name": "taxi"}',
        "config_digest": "c0ffee",
        "runner": "local",
        "user": getpass.getuser(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }
    record = ledger.lineage().run("latest")
    assert (record.outcome, record.exit_code, record.config) == ("unfinished", None, '{"name": "taxi"}')


@pytest.mark.parametrize(
    ("outcome", "exit_code", "state"),
    [
        ("pushed", 0, Execution.COMPLETE),
        ("already_served", 0, Execution.COMPLETE),
        ("blocked", 3, Execution.COMPLETE),
        ("data_blocked", 3, Execution.COMPLETE),
        ("failed", 1, Execution.FAILED),
    ],
)
def test_a_block_is_no_failure(ledger: Ledger, outcome: str, exit_code: int, state: int) -> None:
    """Only `failed` is one, also in the words of ML Metadata; what was written at the start stays."""
    writer.close_run(ledger.store, open_run(ledger), outcome, exit_code, [])
    assert stored(ledger).last_known_state == state
    record = ledger.lineage().run("latest")
    assert (record.outcome, record.exit_code, record.error) == (outcome, exit_code, "")
    assert (record.config_digest, record.runner, record.started_ms) == ("c0ffee", "local", 1_000)


def test_nodes_and_error_of_a_run_that_failed(ledger: Ledger) -> None:
    """The message, and why each node was skipped."""
    nodes = [
        {"node": "Trainer", "state": "failed", "seconds": 1.5, "reason": "out of memory"},
        {"node": "Gate", "state": "skipped", "seconds": 0.0, "reason": "needs Trainer, which failed"},
    ]
    writer.close_run(ledger.store, open_run(ledger), "failed", 1, nodes, "node Trainer: failed")
    record = ledger.lineage().run("latest")
    assert record.error == "node Trainer: failed"
    assert record.skipped == {"Gate": "needs Trainer, which failed"}


@pytest.mark.parametrize("error", [KeyError("uid not found"), OSError("no username")])
def test_a_user_without_a_name_is_recorded_by_number(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """In a container there may be no entry for the user id; Python 3.13 raises another error for it."""

    def nameless() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", nameless)
    open_run(ledger)
    assert ledger.lineage().run("latest").user == str(os.getuid())
