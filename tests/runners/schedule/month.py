"""A month of daily spans made from real taxi trips, and runs that are recorded and not trained.

What a tick looks at is real: files, statistics, drift, spans, the data gate's judgement, the metadata store. Of a run the
training alone is left out: a rule that is counted from the rows stands in for the model, and its real figures for the
Evaluator's, through the interfaces at which the watch starts a run and an evaluation.
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from google.protobuf import text_format
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tensorflow_metadata.proto.v0 import schema_pb2

from components.data_gate.judge import anomalies_of
from components.data_gate.judge import decide as decide_on_data
from components.data_gate.validate import validate_statistics
from components.evaluator.alone import Job, labelled_rows
from components.example_gen.columns import columns_of
from components.example_gen.encode import to_list_columns
from components.example_gen.fingerprint import Snapshot
from components.example_gen.read import read_batches
from components.example_gen.spans import find_spans, window
from components.lineage.files_read import FILES_PROPERTY, files_record
from components.lineage.reader import RECORD_PROPERTY
from components.lineage.store import open_store
from components.lineage.trained_on import STATISTICS_FILE
from components.lineage.writer import close_run, open_run, put_in_run
from components.profiler.spawn import Outcome
from components.statistics_gen.compute import statistics_of
from runners.schedule.watch import Watch
from schemas.decision import Decision, GateResult
from schemas.load import LoadedConfig, load_config
from schemas.source_path import EPOCH
from schemas.tick import Tick
from serving import payload
from tests.workbench import REPOSITORY, taxi_bench

__all__ = ["FIRST", "Month", "Upstream"]

FIRST = date(2025, 11, 1)
ROWS = 300
METRES = 1609.344
_LEARNED = "rule.json"


class Upstream:
    """Who delivers spans: every day at one o'clock the trips of the day before, drawn from the real ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with (REPOSITORY / "data/taxi/data.csv").open(newline="") as lines:
            rows = [row for row in csv.DictReader(lines) if float(row["trip_miles"] or 0) < 60]
        self.rows = rows
        self.miles = np.array([float(row["trip_miles"] or 0) for row in rows])

    def deliver(
        self, day: int, version: int = 1, *, rows: int = ROWS, metres: bool = False, tips: bool = True, of: int = 0
    ) -> None:
        """A span of November, or with a day below 1 of October.

        Args:
            day: of the span.
            version: of it.
            rows: how many.
            metres: whether trips come in another unit: the bug.
            tips: whether passengers still tip; from some day on they do not.
            of: the day whose rows these are, where it is another one.
        """
        drawn = self._drawn(of or day, rows)
        for row in drawn:
            if metres:
                row["trip_miles"] = str(round(float(row["trip_miles"] or 0) * METRES, 1))
            if not tips:
                row["tips"] = "0.0"
        place = self.folder / f"{FIRST + timedelta(days=day - 1)}"
        place.mkdir(exist_ok=True, parents=True)
        with (place / f"v{version}.csv").open("w", newline="") as lines:
            writer = csv.DictWriter(lines, list(self.rows[0]))
            writer.writeheader()
            writer.writerows(drawn)

    def _drawn(self, day: int, rows: int) -> list[dict[str, str]]:
        """Longer trips by and by: the season."""
        season = max(day, 0) / 30
        weights = np.exp(1.6 * season * np.minimum(self.miles, 5.0) / 5.0)
        chosen = np.random.default_rng(1000 + day).choice(len(self.rows), rows, p=weights / weights.sum())
        return [dict(self.rows[index]) for index in chosen]


@dataclass
class Month:
    """A pipeline that watches the spans, and the clock by which it does.

    Attributes:
        folder: of the pipeline.
        now: the simulated time.
        triggers, others: of the section `schedule`.
        runs: day and hour of each run that ended, and how.
        ticks: all of them.
        told: what each decided, in words, and what came of it.
        die: whether the next run is killed before it has done anything.
    """

    folder: Path
    triggers: dict[str, Any]
    others: dict[str, Any] = field(default_factory=dict)
    now: datetime = datetime(2025, 11, 1, tzinfo=UTC)
    runs: list[tuple[str, str]] = field(default_factory=list)
    ticks: list[Tick] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    die: bool = False

    def __post_init__(self) -> None:
        bench = taxi_bench(self.folder, rows=5)
        bench.data.unlink()
        path = "spans/{YYYY}-{MM}-{DD}/v{VERSION}.csv"
        bench.edit(lambda raw: raw["data"].update(source={"format": "csv", "path": path, "window": {"last_spans": 7}}))
        limit = {"drift": {"trip_miles": {"jensen_shannon": 0.02}}}
        bench.edit(lambda raw: raw["data"].update(validate=limit))
        bench.edit(lambda raw: raw["gates"].update(optimize={"metric": "binary_accuracy"}, satisfy=[]))
        bench.edit(lambda raw: raw.update(schedule={"triggers": self.triggers, **self.others}))
        schema = text_format.Parse((self.folder / "schema.pbtxt").read_text(), schema_pb2.Schema())
        next(one for one in schema.feature if one.name == "trip_miles").float_domain.max = 500
        (self.folder / "schema.pbtxt").write_text(text_format.MessageToString(schema))
        self.upstream = Upstream(self.folder / "spans")
        self.loaded: LoadedConfig = load_config(bench.config)
        self.watch = self.restarted()

    def restarted(self) -> Watch:
        """A new watch, which knows of the ones before what stands in the lineage."""
        self.watch = Watch(self.loaded, self.folder / "pipelines" / "taxi", clock=lambda: self.now)
        self.watch.start, self.watch.evaluate = self._run, self._evaluate
        return self.watch

    def tick(self, day: int, hour: int) -> Tick:
        """One at a time of November."""
        self.now = datetime(2025, 11, 1, hour, tzinfo=UTC) + timedelta(days=day - 1)
        tick = self.watch.tick(lambda _: None)
        self.ticks.append(tick)
        self.told.append(f"{self.now:%d %H:%M} {tick.decision.verdict}{self._ended(tick)}")
        return tick

    @staticmethod
    def _ended(tick: Tick) -> str:
        return f" -> {tick.outcome or 'killed'}" if tick.decision.retrain else ""

    # --- a run without its training -----------------------------------------------------------------------------------

    def _run(self, _: list[str]) -> tuple[int, str]:
        """Reads, measures and judges the data as a run does, and records what it records."""
        if self.die:
            self.die = False
            return -9, ""
        return self.record()

    def record(self, upto: date | None = None, *, fails: bool = False) -> tuple[int, str]:
        """A run, on the window that ends at the newest span or at that one; or one that fails before it reads anything."""
        store = open_store(self.loaded.config.metadata)
        name = f"{self.now:%Y%m%d-%H%M%S}"
        started = int(self.now.timestamp() * 1000)
        config = self.loaded.config.canonical()
        config["data"]["source"]["span"] = upto.isoformat() if upto else None
        run = open_run(store, name, started, "taxi", json.dumps(config), self.loaded.digest, "recorded")
        recorded = _Recorded(store, self.loaded, name, self.folder, (upto - EPOCH).days if upto else None)
        outcome, code = ("failed", 1) if fails else recorded.outcome()
        close_run(store, run, outcome, code, [], spans={"spans": recorded.spans})
        self.runs.append((f"{self.now:%d %H:%M}", outcome))
        return code, json.dumps({"run": name, "outcome": outcome})

    def _evaluate(self, given: Mapping[str, Any]) -> Outcome:
        job = Job(**given)
        big = json.loads((Path(job.model) / _LEARNED).read_text())
        correct = np.concatenate([_is_right(batch, big) for batch in labelled_rows(job)] or [np.zeros(0)])
        if len(correct) < job.least:
            return Outcome({"rows": len(correct), "figures": []})
        value = float(correct.mean())
        half = 1.96 * math.sqrt(value * (1 - value) / len(correct))
        figure = {"metric": "binary_accuracy", "value": value, "digest": job.digest, "n": len(correct)}
        return Outcome({"rows": len(correct), "figures": [{**figure, "interval": [value - half, value + half]}]})


@dataclass
class _Recorded:
    store: Any
    loaded: LoadedConfig
    run: str
    folder: Path
    upto: int | None = None
    spans: str = ""

    def outcome(self) -> tuple[str, int]:
        config = self.loaded.config
        found = window(find_spans(config.data.source.path), 7, self.upto)
        self.spans = str(found)
        snapshot = Snapshot.of(found.files)
        schema = (self.folder / "schema.pbtxt").read_text()
        columns = columns_of(schema)
        batches = [batch for file in found.files for batch in read_batches(file, "csv", columns)]
        examples = self._artifact("Examples", input_fingerprint=snapshot.fingerprint, rows_in=sum(map(len, batches)))
        examples.custom_properties[FILES_PROPERTY].string_value = files_record(snapshot.digests)
        self._node("ExampleGen", {}, {"examples": examples})
        measured = statistics_of(iter([to_list_columns(batch) for batch in batches]))
        statistics = self._artifact("ExampleStatistics")
        statistics.uri = str(self.folder / "statistics" / self.run)
        file = Path(statistics.uri, "Split-train", STATISTICS_FILE)
        file.parent.mkdir(parents=True)
        file.write_bytes(measured.SerializeToString())
        self._node("StatisticsGen", {"examples": examples}, {"statistics": statistics})
        anomalies = validate_statistics(measured, text_format.Parse(schema, schema_pb2.Schema()))
        judged = decide_on_data(anomalies_of("train", anomalies, "block"), {}, config.data.validate_)
        if judged.outcome == "block":
            return "data_blocked", 3
        self._push(examples, batches)
        return "pushed", 0

    def _push(self, examples: Any, batches: list[pa.RecordBatch]) -> None:
        base = Path(self.loaded.config.push.serving.base_path)
        version = 1 + sum(1 for _ in base.glob("*"))
        place = base / str(version)
        place.mkdir(parents=True)
        big = {kind: bool(rows * 2 > of) for kind, (rows, of) in _counted(batches).items()}
        (place / _LEARNED).write_text(json.dumps(big))
        (place / "saved_model.pb").write_bytes(b"a rule")
        right = np.concatenate([_is_right(batch, big) for batch in batches])
        gate = GateResult(
            gate="gates.optimize", condition="at_least_champion_minus", metric="binary_accuracy",
            value=float(right.mean()), n=len(right), verdict="no_champion", reason="told",
        )  # fmt: skip
        digest = payload.digest(place)
        decision = self._artifact("Decision")
        judged = Decision(outcome="push", digest=digest, gates=(gate,), reasons=("told",))
        decision.custom_properties[RECORD_PROPERTY].string_value = judged.model_dump_json()
        model = self._artifact("Model")
        self._node("Trainer", {"examples": examples}, {"model": model})
        self._node("Gate", {"model": model}, {"decision": decision})
        pushed = self._artifact("PushedModel", pushed=1, version=version, digest=digest, model_id=int(model.id))
        pushed.custom_properties["base_path"].string_value = str(base)
        self._node("Pusher", {"model": model}, {"pushed_model": pushed})

    def _artifact(self, kind: str, **values: int | str) -> Any:
        type_id = self.store.put_artifact_type(mlmd.ArtifactType(name=kind), can_add_fields=True, can_omit_fields=True)
        made = mlmd.Artifact(type_id=type_id, type=kind, uri=str(self.folder), state=mlmd.Artifact.LIVE)
        for key, value in values.items():
            if isinstance(value, int):
                made.custom_properties[key].int_value = value
            else:
                made.custom_properties[key].string_value = value
        return made

    def _node(self, node: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        type_id = self.store.put_execution_type(mlmd.ExecutionType(name=f"recorded.{node}"), can_add_fields=True)
        execution = mlmd.Execution(type_id=type_id, last_known_state=mlmd.Execution.COMPLETE)
        put_in_run(self.store, execution, ("taxi", self.run, node), inputs, outputs)


def _labels(batch: pa.RecordBatch) -> Iterator[tuple[str, bool]]:
    tips, fares, kinds = (batch.column(name).to_pylist() for name in ("tips", "fare", "payment_type"))
    for tip, fare, kind in zip(tips, fares, kinds, strict=True):
        yield (kind or b"").decode(), (tip or 0.0) > 0.2 * (fare or 0.0)


def _counted(batches: list[pa.RecordBatch]) -> dict[str, tuple[int, int]]:
    """How many of a kind of payment tip well, and how many there are."""
    big: Counter[str] = Counter()
    of: Counter[str] = Counter()
    for batch in batches:
        for kind, label in _labels(batch):
            big[kind] += label
            of[kind] += 1
    return {kind: (big[kind], of[kind]) for kind in of}


def _is_right(batch: pa.RecordBatch, big: Mapping[str, bool]) -> Any:
    return np.array([big.get(kind, False) == label for kind, label in _labels(batch)], np.float64)
