"""`satisfice approve` and `satisfice reject`: a person settles a run that waits."""

from __future__ import annotations

import datetime
import logging
from pathlib import Path
from typing import Any, Literal

from components.gate import approval as gate
from components.lineage.reader import Lineage
from components.lineage.store import open_store
from components.lineage.writer import user_and_host
from runners.local.lock import exclusive
from schemas.config import MetadataConfig
from schemas.decision import Approval, Decision, PushResult
from schemas.errors import ConfigError, Fault
from schemas.load import load_config

__all__ = ["approve_in", "approve_run", "reject_in", "reject_run"]


def approve_run(config: Path, overrides: list[str], run_id: str, by: str, reason: str) -> tuple[Decision, PushResult]:
    """Approves the candidate of a run, and pushes it. No run of the pipeline may be under way.

    Args:
        config: path of the configuration file, which names the metadata store.
        overrides: as `--set` takes them.
        run_id: a run's id, the beginning of one, or `latest`.
        by: who approves.
        reason: why.

    Raises:
        ApprovalError, StoreError: see `components.gate.approval`.
        MetadataError: there is no such run.
        RootLockedError: a run of the pipeline is under way.
    """
    loaded = load_config(config, overrides)
    return approve_in(loaded.config.metadata, loaded.config.name, run_id, by, reason)


def approve_in(
    metadata: MetadataConfig, pipeline: str, run_id: str, by: str, reason: str
) -> tuple[Decision, PushResult]:
    """Approves the candidate of a run that stands in a store. See `approve_run`."""
    approval = _approval("approved", by, reason)
    store, lineage = _opened(metadata, pipeline)
    name = lineage.run(run_id).run_id
    with exclusive(gate.pending(store, lineage, name, pipeline).root):
        waiting = gate.pending(store, lineage, name, pipeline)  # as it is, now that nothing else runs
        return gate.approve(store, lineage, waiting, approval)


def reject_run(config: Path, overrides: list[str], run_id: str, by: str, reason: str) -> Decision:
    """Rejects the candidate of a run. See `approve_run`."""
    loaded = load_config(config, overrides)
    return reject_in(loaded.config.metadata, loaded.config.name, run_id, by, reason)


def reject_in(metadata: MetadataConfig, pipeline: str, run_id: str, by: str, reason: str) -> Decision:
    """Rejects the candidate of a run that stands in a store. See `approve_run`."""
    approval = _approval("rejected", by, reason)
    store, lineage = _opened(metadata, pipeline)
    name = lineage.run(run_id).run_id
    with exclusive(gate.pending(store, lineage, name, pipeline).root):
        return gate.reject(store, gate.pending(store, lineage, name, pipeline), approval)


def _opened(metadata: MetadataConfig, pipeline: str) -> tuple[Any, Lineage]:
    logging.getLogger("absl").setLevel(logging.ERROR)  # ML Metadata warns of what it raises as well
    Lineage(metadata, pipeline)  # refuses a store that does not exist, which would be made otherwise
    store = open_store(metadata)
    return store, Lineage(metadata, pipeline, store)


def _approval(outcome: Literal["approved", "rejected"], by: str, reason: str) -> Approval:
    given = {"--by": by, "--reason": reason}
    faults = [
        Fault(name, "is empty", "a name" if name == "--by" else "a reason") for name in given if not given[name].strip()
    ]
    if faults:
        raise ConfigError("command line", faults)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Approval(outcome=outcome, by=by.strip(), reason=reason.strip(), at=now, user=user_and_host())
