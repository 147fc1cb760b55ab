"""The model now served on rows that its run had not read: real evaluations of a real model, and every reason why not."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from components.lineage.reader import Lineage
from components.lineage.store import open_store
from components.lineage.trained_on import trained_on
from components.profiler.spawn import Outcome
from runners.schedule.look import schedule_faults
from runners.schedule.quality import evaluate, quality_of
from schemas.config import PipelineConfig
from schemas.errors import ConfigError
from schemas.load import load_config
from schemas.tick import Quality
from tests.workbench import REPOSITORY, Bench, satisfice

TRIGGER = {"metric": "auc", "max_drop": 0.02, "min_examples": 300, "labelled": ["tips", "fare"]}


def other_rows(count: int) -> list[dict[str, str]]:
    """Real rows on which the model was not trained."""
    lines = (REPOSITORY / "data/taxi/data.csv").read_text().splitlines()
    names = lines[0].split(",")
    return [dict(zip(names, line.split(","), strict=True)) for line in lines[4001 : 4001 + count]]


def write_rows(file: Path, rows: list[dict[str, str]]) -> None:
    text = "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)])
    file.write_text(f"{text}\n")


@pytest.fixture(scope="module")
def bench(taxi: Bench) -> Iterator[Bench]:
    """The taxi pipeline, which has pushed version 1, with another configuration: of a source to which files are added."""
    made = _Watched(taxi.folder)
    shutil.copy(taxi.config, made.config)
    made.edit(lambda raw: raw["data"]["source"].update(path="*.csv"))
    made.edit(lambda raw: raw.update(schedule={"triggers": {"decayed_quality": TRIGGER}}))
    yield made
    made.config.unlink()


class _Watched(Bench):
    @property
    def config(self) -> Path:
        return self.folder / "watched.yaml"


@pytest.fixture
def added(bench: Bench) -> Any:
    """Where rows are added, for one test."""
    file = bench.folder / "more.csv"
    yield file
    file.unlink(missing_ok=True)


class Evaluations:
    """Stands in for the process that evaluates: keeps the jobs, and answers as it is told."""

    def __init__(self, value: float = 0.5, interval: tuple[float, float] | None = None, rows: int = 1000) -> None:
        self.jobs: list[Mapping[str, Any]] = []
        self.figure = {"metric": "auc", "value": value, "interval": interval, "digest": "", "n": rows}
        self.rows = rows

    def __call__(self, job: Mapping[str, Any]) -> Outcome:
        self.jobs.append(job)
        return Outcome({"rows": self.rows, "figures": [{**self.figure, "digest": job["digest"]}]})


def recorded_auc(bench: Bench) -> float | None:
    """By which version 1 was decided on."""
    lineage = Lineage(load_config(bench.config).config.metadata, "taxi")
    decision = lineage.decision(lineage.run_of_version(1) or "")
    assert decision is not None
    return next(gate.value for gate in decision.gates if gate.metric == "auc" and not gate.slice)


def config_of(bench: Bench, source: dict[str, Any] | None = None, **changed: Any) -> PipelineConfig:
    raw = load_config(bench.config).config.canonical()
    raw["data"]["source"] = source or raw["data"]["source"]
    raw["schedule"]["triggers"]["decayed_quality"] = {**TRIGGER, **changed}
    return PipelineConfig.model_validate(raw, strict=False)


def measure(
    bench: Bench,
    run: Callable[[Mapping[str, Any]], Outcome] = evaluate,
    files: dict[Path, str] | None = None,
    **changed: Any,
) -> Quality:
    config = config_of(bench, **changed)
    store = open_store(config.metadata, read_only=True)
    served = trained_on(store, store.get_artifacts_by_type("PushedModel"), config.push.serving.base_path)
    digests = files or {file: _digest(file) for file in sorted(bench.folder.glob("*.csv"))}
    schema = Path(config.data.schema_path).read_text()
    return quality_of(config, store, served.push, digests, schema, run)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_rows_like_those_before(bench: Bench, added: Path) -> None:
    """Are within the noise, and the figure and its interval are the Evaluator's; rows without a tip do not count."""
    rows = other_rows(1200)
    for row in rows[:200]:
        row["tips"] = ""
    write_rows(added, rows)
    found = measure(bench, max_drop=0.2)
    assert (found.verdict, found.n) == ("pass", 1000), found
    assert found.interval is not None
    assert found.value is not None
    assert found.interval[0] < found.value < found.interval[1]
    assert found.then == recorded_auc(bench)
    assert "auc of version 1 on 1,000 newly labelled rows is 0." in found.reason
    few = measure(bench, min_examples=1001)
    assert few.verdict == "too_few_examples"
    assert few.reason == "1,000 of 1,001 newly labelled rows, by which version 1 could be judged"


def test_rows_with_other_labels(bench: Bench, added: Path) -> None:
    """Ask for a run, in a tick that records the figures."""
    rows = other_rows(1000)
    for row in rows:
        row["tips"] = "9" if float(row["tips"] or 0) == 0 else "0"
    write_rows(added, rows)
    answer = satisfice("watch", bench.config, "--once", "--explain", "--json")
    assert answer.code == 0, answer.out + answer.err
    quality = answer.json["looked"]["quality"]
    assert quality["verdict"] == "fail"
    assert quality["value"] < 0.5 < quality["then"]
    assert answer.json["decision"]["fired"] == ["decayed_quality"]
    assert answer.json["decision"]["verdict"].startswith(
        "retrains: auc of version 1 on 1,000 newly labelled rows is 0."
    )


def test_noise_asks_for_nothing(bench: Bench, added: Path) -> None:
    """A limit within the interval is said and left."""
    write_rows(added, other_rows(400))
    then = measure(bench, Evaluations()).then
    assert then is not None
    found = measure(bench, Evaluations(then - 0.03, (then - 0.06, then + 0.01)))
    assert (found.verdict, found.shortfall) == ("inconclusive", 0.0)
    assert "lies inside the noise" in found.reason
    sure = measure(bench, Evaluations(then - 0.03, (then - 0.031, then - 0.029)), max_drop=0.001)
    assert sure.verdict in ("fail", "inconclusive")  # the interval of the figure then counts as well
    floor = measure(bench, Evaluations(0.6, (0.58, 0.62)), max_drop=None, min=0.7)
    assert floor.verdict == "fail"
    assert floor.shortfall == pytest.approx(0.1)


def test_only_rows_that_were_not_read(bench: Bench, added: Path) -> None:
    """A file that has grown counts with its eval split alone; nothing new is said, without a process."""
    run = Evaluations()
    assert measure(bench, run).reason == "no rows have come that version 1 was not made of"
    assert not run.jobs
    write_rows(added, other_rows(10))
    before = bench.data.read_text()
    bench.rows(lambda rows: [*rows, *other_rows(500)])
    try:
        measure(bench, run)
        assert run.jobs[0]["files"] == [str(added)]
        assert run.jobs[0]["grown"] == [str(bench.data)]
        outcome = evaluate({**run.jobs[0], "files": [], "least": 10_000})
        assert outcome.result is not None
        assert 400 < outcome.result["rows"] < 600  # two of ten of 2,500
    finally:
        bench.data.write_text(before)


def test_the_next_full_snapshot(bench: Bench, tmp_path: Path) -> None:
    """Counts with its eval split alone, as it holds the rows of before; whether the file's name or the span is another."""
    run, snapshot = Evaluations(), tmp_path / "dump-2.csv"
    write_rows(snapshot, other_rows(400))
    read = {bench.data: _digest(bench.data)}
    measure(bench, run, files={snapshot: _digest(snapshot)})
    measure(bench, run, files={**read, snapshot: _digest(snapshot)})
    path = str(tmp_path / "dump-{SPAN}.csv")
    for window in (None, {"last_spans": 2}):
        source = {"format": "csv", "path": path, "window": window}
        measure(bench, run, files={snapshot: _digest(snapshot)}, source=source)
    told = [(job["files"], job["grown"]) for job in run.jobs]
    whole, split = ([str(snapshot)], []), ([], [str(snapshot)])
    assert told == [split, whole, split, whole]


def test_bytes_that_are_gone_or_changed(bench: Bench, added: Path) -> None:
    """Are said, and nothing is loaded."""
    write_rows(added, other_rows(400))
    run = Evaluations()
    model = bench.served / "1" / "saved_model.pb"
    content = model.read_bytes()
    try:
        model.write_bytes(content + b"x")
        assert "the SavedModel of version 1 is not what was pushed" in measure(bench, run).reason
        (bench.served / "1").rename(bench.served / "gone")
        assert "the SavedModel of version 1 cannot be read" in measure(bench, run).reason
        (bench.served / "gone").rename(bench.served / "1")
    finally:
        model.write_bytes(content)
    assert not run.jobs
    lost = measure(bench, lambda _: Outcome(None, "its process was killed by SIGKILL"))
    assert lost.verdict == "not_measured"
    assert "version 1 could not be evaluated: its process was killed by SIGKILL" in lost.reason


def test_nothing_is_served(fresh_taxi: Bench) -> None:
    """Is a recorded reason."""
    fresh_taxi.edit(lambda raw: raw.update(schedule={"triggers": {"decayed_quality": TRIGGER}}))
    answer = satisfice("watch", fresh_taxi.config, "--once")
    assert answer.code == 0, answer.out + answer.err
    assert "did not retrain: quality was not measured: nothing is served yet, no run yet" in answer.out


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"metric": "mean_absolute_error"}, "is in no decision, so that a drop cannot be told"),
        ({"labelled": ["tip"]}, "is no column of the data schema"),
        ({"labelled": []}, "is missing: the label 'big_tipper' is made of columns, and nothing says of which"),
    ],
)
def test_what_cannot_be_measured(bench: Bench, changed: dict[str, Any], told: str) -> None:
    """Is a fault of the configuration, and `validate` finds it."""
    (fault,) = schedule_faults(config_of(bench, **changed))
    assert fault.problem == told
    assert fault.path.startswith("schedule.triggers.decayed_quality.")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"metric": "aucc"}, "did you mean 'auc'"),
        ({"max_drop": None}, "at least one of max_drop, min and max"),
        ({"metric": "size_mb"}, "is a figure of the payload"),
        ({"max": 0.9}, "max is no lower end of quality for auc, which is better when higher"),
    ],
)
def test_faults_of_the_file(bench: Bench, changed: dict[str, Any], told: str) -> None:
    """Say what was expected."""
    override = json.dumps({**TRIGGER, **changed})
    with pytest.raises(ConfigError) as caught:
        load_config(bench.config, [f"schedule.triggers.decayed_quality={override}"])
    assert told in str(caught.value)


def test_validate_finds_them(bench: Bench) -> None:
    """Also those for which the schema has to be read."""
    wrong = "schedule.triggers.decayed_quality.labelled=[tipps]"
    answer = satisfice("validate", bench.config, "--set", wrong)
    assert answer.code == 2, answer.out
    assert "did you mean 'tips'" in answer.err
