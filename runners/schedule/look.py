"""Looks at what a tick decides by: the data, the model now served, the newest run. Imports neither TFX nor TensorFlow.

The files are read once for their fingerprint. Their rows are read only where a trigger asks for their number or for
drift, and only where they, or what they are held against, have changed since the last tick.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.data_gate.baseline import read_baseline
from components.data_gate.counts import count_rows
from components.data_gate.drift import Side, compare
from components.data_gate.drift import columns_of as values_of
from components.data_gate.limits import faults_of, limits_of
from components.example_gen.columns import columns_of
from components.example_gen.fingerprint import Snapshot
from components.example_gen.read import read_batches
from components.example_gen.spans import files_of
from components.lineage.reader import Lineage, RunRecord
from components.lineage.trained_on import TrainedOn, trained_on
from runners.schedule.decide import ATTEMPTS
from schemas.config import PipelineConfig
from schemas.decision import Comparison
from schemas.errors import ConfigError, SatisficeError
from schemas.tick import Drift, Looked, Run, Tick

__all__ = ["check_schedule", "look"]


def check_schedule(config: PipelineConfig, source: str) -> None:
    """Makes sure that the limits on drift are for features of the data schema.

    Args:
        config: with a schedule.
        source: the configuration's file, for messages.

    Raises:
        ConfigError: they are not; or the schema cannot be read.
    """
    faults = list(faults_of(config.data.validate_, _features(config)))
    if faults:
        raise ConfigError(source, faults)


def look(config: PipelineConfig, store: Any, at: datetime, running: str, previous: Tick | None) -> Looked:
    """What a tick looks at.

    Args:
        config: with a schedule.
        store: the metadata store.
        at: now, UTC.
        running: who holds the pipeline root, in words; the data are not looked at then.
        previous: the last tick at which nobody did.
    """
    lineage = Lineage(config.metadata, config.name, store)
    runs = lineage.runs()
    served = trained_on(store, store.get_artifacts_by_type("PushedModel"), config.push.serving.base_path)
    data, rows = _trained(lineage, runs)
    looked = Looked(
        at=at,
        trained_data=data,
        trained_rows=rows,
        champion=served.push.custom_properties["version"].int_value if served.push is not None else None,
        last_run=_run(runs[0]) if runs else None,
        running=running,
        cut_off=previous is not None and _is_cut_off(previous),
    )
    if running:
        return looked
    try:
        return looked.model_copy(update=_data(config, served, previous.looked if previous else None))
    except SatisficeError as error:
        return looked.model_copy(update={"problem": str(error)})


def _data(config: PipelineConfig, served: TrainedOn, before: Looked | None) -> dict[str, Any]:
    """What there is to say of the source's files."""
    assert config.schedule is not None
    triggers = config.schedule.triggers
    files = files_of(config.data.source)
    snapshot = Snapshot.of(files)
    asked = _asked(config, served)
    found: dict[str, Any] = {"data": snapshot.fingerprint, "files": len(files), "asked": asked}
    if not (triggers.drift or triggers.new_rows):
        return found
    if before is not None and (before.data, before.asked) == (snapshot.fingerprint, asked) and before.rows is not None:
        return {**found, "rows": before.rows, "drift": before.drift}
    rows, drift = _measured(config, served, files)
    for file in files:
        snapshot.check(file)
    return {**found, "rows": rows, "drift": drift if triggers.drift else None}


def _measured(config: PipelineConfig, served: TrainedOn, files: list[Path]) -> tuple[int, Drift]:
    validate, features = config.data.validate_, _features(config)
    baseline, statistics = read_baseline(served.push, served.statistics, served.statistics)
    then = values_of(statistics) if statistics is not None else {}
    rows, now = count_rows(_batches(config, files), features, then)
    if statistics is None:
        return rows, Drift(reason=baseline.reason)
    side = Side(f"version {baseline.version}", then)
    limits = limits_of(validate.drift, features)
    return rows, _drift(list(compare("drift", limits, "source", now, side, "retrain", validate.min_examples)))


def _drift(comparisons: list[Comparison]) -> Drift:
    worst = max(comparisons, key=_excess, default=None)
    if worst is None:
        return Drift(reason="no feature has a limit")
    judged = worst.verdict in ("pass", "exceeded")
    return Drift(
        feature=worst.feature,
        measure=worst.measure,
        value=worst.value if judged else None,
        limit=worst.limit,
        excess=_excess(worst),
        reason=worst.reason,
    )


def _excess(comparison: Comparison) -> float:
    """The distance over its limit; of values that are gone or of another type, the largest distance that there is."""
    limit = max(comparison.limit, 1e-6)
    if comparison.verdict == "not_measured":
        return 1.000001 / limit
    judged = comparison.verdict in ("pass", "exceeded") and comparison.value is not None
    return comparison.value / limit if judged and comparison.value is not None else 0.0


def _batches(config: PipelineConfig, files: list[Path]) -> Iterator[Any]:
    columns = columns_of(_schema(config))
    for file in files:
        yield from read_batches(file, config.data.source.format, columns)


def _schema(config: PipelineConfig) -> str:
    path = Path(config.data.schema_path)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SatisficeError(str(path), f"cannot be read: {error}", remedy="Correct data.schema.") from error


def _features(config: PipelineConfig) -> Mapping[str, str]:
    return {name: kind.value for name, kind in columns_of(_schema(config)).items()}


def _asked(config: PipelineConfig, served: TrainedOn) -> str:
    statistics = int(served.statistics.id) if served.statistics is not None else 0
    parts = [config.data.validate_.model_dump(mode="json"), dict(_features(config)), statistics]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _trained(lineage: Lineage, runs: list[RunRecord]) -> tuple[str, int | None]:
    """Fingerprint and number of rows of what the newest run which ended, well or blocked, has read."""
    for run in runs:
        if run.outcome in ("failed", "unfinished"):
            continue
        for node in lineage.nodes(run):
            for output in node.outputs:
                if output.type == "Examples" and "input_fingerprint" in output.properties:
                    return str(output.properties["input_fingerprint"]), output.properties.get("rows_in")
    return "", None


def _run(record: RunRecord) -> Run:
    started = datetime.fromtimestamp(record.started_ms / 1000, UTC)
    return Run(run_id=record.run_id, started=started, outcome=record.outcome)


def _is_cut_off(previous: Tick) -> bool:
    """Whether the run of the last tick has not ended, or one before it had not and could not be begun again yet."""
    decision = previous.decision
    if decision.retrain:
        return not previous.ended
    return previous.looked.cut_off and decision.memory.attempts < ATTEMPTS
