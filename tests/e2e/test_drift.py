"""Data that has changed since the model now served was trained, in whole runs of the small taxi pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.workbench import REPOSITORY, Answer, Bench, satisfice, taxi_bench

ROWS = 6000


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A pipeline with the drift limits that ship, that has pushed version 1 from every second row."""
    made = taxi_bench(tmp_path_factory.mktemp("drift"), rows=ROWS)
    made.edit(lambda raw: raw["gates"].update(satisfy=[{"metric": "auc", "min": 0.01}], optimize=None))
    rows_of(made, lambda number, row: row if number % 2 else None)
    return made


def rows_of(bench: Bench, change: Any) -> None:
    """The first rows of the real data, each as `change(number, row)` gives it, or left out."""
    lines = (REPOSITORY / "data/taxi/data.csv").read_text().splitlines(keepends=True)
    bench.data.write_text("".join(lines[: ROWS + 1]))
    bench.rows(lambda rows: [new for number, row in enumerate(rows) if (new := change(number, dict(row)))])


def data_of(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = answer.json["data_decision"]
    return found


def exceeded(answer: Answer) -> set[tuple[str, str]]:
    return {(one["feature"], one["measure"]) for one in data_of(answer)["comparisons"] if one["verdict"] == "exceeded"}


def test_a_first_run_has_no_baseline(bench: Bench) -> None:
    """Said of every limit, passed by none, and no hindrance."""
    answer = bench.run()
    assert (answer.code, answer.json["outcome"]) == (0, "pushed"), answer.out
    assert {one["verdict"] for one in data_of(answer)["comparisons"]} == {"no_baseline"}
    assert data_of(answer)["baseline"]["reason"].startswith("nothing is served yet")
    assert "NO_BASELINE: 17 of 17 limits were not judged: nothing is served yet" in shown(bench)


def shown(bench: Bench) -> str:
    return satisfice("show", "latest", bench.config).out


def test_the_same_data(bench: Bench) -> None:
    """The same artifact as baseline and as what is judged: nothing apart, and the next run reuses the verdict."""
    assert exceeded(bench.run()) == set()
    answer = bench.run()
    states = {node["node"]: node["state"] for node in answer.json["nodes"]}
    assert states["DataGate"] == "cached"
    assert data_of(answer)["baseline"]["same_data"]
    assert "are met (version 1 was trained on the same data)" in shown(bench)


def test_other_rows_of_the_same_population_are_no_drift(bench: Bench) -> None:
    """No row in common with what version 1 was trained on; no false alarm at the limits that ship."""
    rows_of(bench, lambda number, row: None if number % 2 else row)
    answer = bench.run("data.validate.on_drift=block", "gates.satisfy.0.min=1.0")
    assert exceeded(answer) == set()
    assert not data_of(answer)["baseline"]["same_data"]


def in_km(number: int, row: dict[str, str]) -> dict[str, str] | None:
    if row["trip_miles"]:
        row["trip_miles"] = str(float(row["trip_miles"]) * 1.609)
    return row if number % 2 else None


def test_another_unit_blocks_where_it_should(bench: Bench) -> None:
    """Kilometres in the column of miles: found, named, and nothing is trained."""
    rows_of(bench, in_km)
    answer = bench.run("data.validate.on_drift=block")
    assert (answer.code, answer.json["outcome"]) == (3, "data_blocked")
    assert exceeded(answer) == {("trip_miles", "jensen_shannon")}
    (reason,) = data_of(answer)["reasons"]
    assert reason.startswith("trip_miles (train): jensen_shannon from version 1 is 0.0")
    assert reason.endswith("above 0.02 [drift]")
    text = satisfice("run", bench.config, "--set", "data.validate.on_drift=block").out
    assert "raise the limit in data.validate.drift (or set data.validate.on_drift: warn)" in text


def test_retrain_is_recorded_and_goes_on(bench: Bench) -> None:
    """For whoever decides about the next run; the data gate lets this one proceed."""
    rows_of(bench, in_km)
    answer = bench.run("data.validate.on_drift=retrain", "gates.satisfy.0.min=1.0")
    assert answer.json["outcome"] == "blocked"  # by the model's gate
    assert (data_of(answer)["outcome"], data_of(answer)["retrain"]) == ("proceed", True)
    assert "Drift asks for a new model" in shown(bench)


def test_a_new_category(bench: Bench) -> None:
    """A third of the payments in a kind that was never seen; the schema's own anomaly is a warning here."""

    def paid(number: int, row: dict[str, str]) -> dict[str, str] | None:
        if number % 3 == 0:
            row["payment_type"] = "Gift"
        return row if number % 2 else None

    rows_of(bench, paid)
    answer = bench.run("data.validate.anomalies=warn", "data.validate.on_drift=block")
    assert exceeded(answer) == {("payment_type", "l_infinity")}
    assert data_of(answer)["anomalies"]


def test_statistics_that_are_gone(bench: Bench) -> None:
    """What version 1 was trained on cannot be known any more: reported, and a block where that is wanted."""
    rows_of(bench, lambda number, row: row if number % 2 == 0 else None)
    (bench.folder / "pipelines/taxi/StatisticsGen/statistics").rename(bench.folder / "gone")
    answer = bench.run("data.validate.on_no_baseline=block")
    assert answer.code == 3, answer.out
    (reason,) = data_of(answer)["reasons"]
    assert reason.startswith("no baseline: the statistics of the data that version 1 was trained on cannot be read")
    assert {one["verdict"] for one in data_of(answer)["comparisons"]} == {"no_baseline"}
    assert bench.run("gates.satisfy.0.min=1.0").json["outcome"] == "blocked"  # by the model's gate


def test_a_wrong_name_is_found_before_anything_runs(bench: Bench) -> None:
    """With the close match."""
    answer = bench.run("data.validate.drift={trip_mils: {jensen_shannon: 0.1}, fare: {l_infinity: 0.1}}")
    assert answer.code == 2
    found = {fault["path"]: fault["close_match"] for fault in answer.json["faults"]}
    assert found == {"data.validate.drift.trip_mils": "trip_miles", "data.validate.drift.fare.l_infinity": None}


def test_without_limits_nothing_is_compared(tmp_path: Path) -> None:
    """Nor is there a node that looks for a baseline."""
    made = taxi_bench(tmp_path, rows=300)
    plan = satisfice("run", made.config, "--explain", "--json", "--set", "data.validate.drift={}").json
    assert "Baseline" not in {one["node"] for one in plan}
