"""Days of real rows, one run a day: what is read, what is pushed, what is skipped, and what a person is told."""

import csv
import json
from datetime import date, timedelta
from pathlib import Path

import pytest

from runners.backfill import Backfill
from tests.workbench import Bench, satisfice, taxi_bench

FIRST = date(2026, 11, 1)
ROWS = 500


def day(number: int) -> str:
    """The name of a day; the first is 0."""
    return (FIRST + timedelta(days=number)).isoformat()


class Days(Bench):
    """The taxi pipeline over files of a day each, with a window of three."""

    def arrive(self, number: int, of: int | None = None) -> None:
        """The file of a day; its rows are those that follow the ones of the day before."""
        (self.folder / "days").mkdir(exist_ok=True)
        with self.data.open(newline="") as lines:
            header, *rows = list(csv.reader(lines))
        start = (number if of is None else of) * ROWS
        with (self.folder / "days" / f"{day(number)}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows[start : start + ROWS]])

    def backfill(self, *arguments: str):
        return satisfice("backfill", self.config, *arguments, "--json")


def days_at(folder: Path) -> Days:
    bench = Days(taxi_bench(folder, 6 * ROWS).folder)
    source = {"format": "csv", "path": "days/{YYYY}-{MM}-{DD}.csv", "window": {"last_spans": 3}}
    bench.edit(lambda raw: raw["data"].update(source=source))
    bench.edit(lambda raw: raw["training"].update(epochs=2))
    never = {
        "optimize": {"metric": "auc", "at_least_champion_minus": 0.99},
        "satisfy": [{"metric": "auc", "min": 0.01}],
    }
    bench.edit(lambda raw: raw.update(gates=never))
    for number in (0, 1, 3, 4):
        bench.arrive(number)
    return bench


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Four of five days have arrived; the newest was run, then all from the missing one on by a backfill."""
    bench = days_at(tmp_path_factory.mktemp("days"))
    newest = bench.run(options=("--span", day(4)))
    assert newest.code == 0, newest.out + newest.err
    answer = bench.backfill("--from", day(2))
    assert answer.code == 0, answer.out + answer.err
    return bench, newest.json["run"], answer.json


def outputs(bench: Bench, run: str) -> dict[str, dict]:
    """Each artifact of a run, by node and key."""
    shown = satisfice("show", run, bench.config, "--json").json
    return {f"{node['node']}.{one['key']}": one for node in shown["nodes"] for one in node["outputs"]}


def test_one_run_a_span_and_none_that_is_known(filled):
    """Ascending; the newest is known by its data, code and configuration; the day without data is named."""
    _, newest, answer = filled
    assert [(one["span"], one["state"], one["outcome"]) for one in answer["spans"]] == [
        (day(3), "ran", "blocked"),
        (day(4), "known", "pushed"),
        (day(2), "no_data", ""),
    ]
    assert answer["spans"][1]["run"] == newest
    assert (answer["left"], answer["to_go_on"]) == ([], "")


def test_an_earlier_span_is_judged_and_not_pushed(filled):
    """Nor does it stop the backfill; what serves stays."""
    bench, _, answer = filled
    one = answer["spans"][0]
    assert one["reason"] == (
        f"Version 1 serves a model whose data end with span {day(4)}, and the candidate's end with {day(3)}: "
        "a model is not replaced by one of earlier data."
    )
    why = satisfice("why", one["run"], bench.config, "--json").json
    assert (why["decision"]["outcome"], why["push"]["outcome"]) == ("push", "earlier_span")
    assert [path.name for path in bench.served.iterdir() if path.name.isdigit()] == ["1"]


def test_a_window_that_moves_costs_its_new_rows(filled):
    """Of the second run only the day that the first had not was read and encoded, and only its rows were analyzed."""
    bench, newest, answer = filled
    first, second = outputs(bench, newest), outputs(bench, answer["spans"][0]["run"])
    assert first["ExampleGen.examples"]["properties"]["rows_read"] == 2 * ROWS
    examples = second["ExampleGen.examples"]["properties"]
    assert (examples["rows_in"], examples["rows_read"], examples["spans_read"]) == (2 * ROWS, ROWS, day(1))
    assert (examples["spans"], examples["missing_spans"]) == (f"{day(1)}, {day(3)}", day(2))
    record = json.loads(Path(second["ExampleGen.examples"]["uri"], "spans.json").read_text())
    new = next(one for one in record["spans"] if one["name"] == day(1))
    assert second["Transform.transform_graph"]["properties"]["rows_analyzed"] == new["rows"]["train"]


def test_commands_name_the_spans(filled):
    """`runs`, `show`, `why` and `validate`, for people and in JSON; what is missing is said."""
    bench, run, _ = filled
    (listed,) = [one for one in satisfice("runs", bench.config, "--json").json if one["run_id"] == run]
    assert (listed["spans"], listed["missing_spans"]) == (f"{day(3)}, {day(4)}", day(2))
    assert f"{day(3)} to {day(4)} (2), {day(2)} missing" in satisfice("runs", bench.config).out
    told = f"spans {day(3)}, {day(4)}; missing: {day(2)}"
    assert told in satisfice("show", run, bench.config).out
    assert told in satisfice("why", run, bench.config).out
    decision = satisfice("why", run, bench.config, "--json").json["decision"]
    assert (decision["span"], decision["spans"]) == ((date.fromisoformat(day(4)) - date(1970, 1, 1)).days, told[6:28])
    valid = satisfice("validate", bench.config)
    assert f"data: 2 spans {day(3)} to {day(4)}, 2 files; MISSING {day(2)}" in valid.out, valid.out + valid.err
    assert satisfice("validate", bench.config, "--json").json["data"] == {
        "files": 2,
        "spans": [day(3), day(4)],
        "missing": [day(2)],
        "short": 0,
    }


def test_a_failure_stops_it_and_tells_what_goes_on(tmp_path):
    """A day whose file is damaged: the days after it are not run; the command begins with that day."""
    bench = days_at(tmp_path)
    (bench.folder / "days" / f"{day(1)}.csv").write_text("trip_miles\nx\n")
    bench.edit(lambda raw: raw["data"]["source"].pop("window"))
    answer = bench.backfill("--from", day(1))
    assert answer.code == 1
    (one,) = answer.json["spans"][:1]
    assert (one["span"], one["state"]) == (day(1), "failed")
    assert "lacks the column" in one["reason"]
    assert answer.json["left"] == [day(3), day(4)]
    assert answer.json["to_go_on"] == f"satisfice backfill {bench.config} --from {day(1)}"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--from", "7"], 2, "--from: is no span of this path; expected a date as YYYY-MM-DD; got 7"),
        (
            ["--from", day(3), "--to", day(1)],
            2,
            f"--from: is after the end of the range; expected a span up to {day(1)}",
        ),
        (
            ["--from", day(2), "--to", day(2)],
            1,
            f"the range from {day(2)} to {day(2)}: has no data; expected some of the 4",
        ),
        (["--from", "2026-02-30"], 2, "--from: is no date"),
        (["--from", day(1), "--set", "data.source={format: csv, path: data.csv}"], 2, "data.source.path: has no spans"),
    ],
)
def test_ranges_that_are_none(filled, arguments, code, message):
    """What was wrong, before anything runs."""
    bench, _, _ = filled
    answer = satisfice("backfill", bench.config, *arguments)
    assert (answer.code, message in answer.err) == (code, True), answer.err


def test_an_empty_first_span(tmp_path):
    """As of a variable that is not set, is refused by name; an empty last one is the newest."""
    bench = taxi_bench(tmp_path, 5)
    bench.data.rename(bench.folder / f"{day(0)}.csv")
    bench.edit(lambda raw: raw["data"]["source"].update(path="{YYYY}-{MM}-{DD}.csv"))
    answer = satisfice("backfill", bench.config, "--from", "")
    assert answer.code == 2, answer.err
    assert "--from: is no span of this path; expected a date as YYYY-MM-DD" in answer.err
    spans, missing = Backfill(bench.config, (), None).plan(day(0), "")
    assert ([span.name for span in spans], missing) == ([day(0)], [])


def test_a_span_that_is_none(filled):
    """`run --span` of a day without data, and of a source without spans."""
    bench, _, _ = filled
    answer = satisfice("run", bench.config, "--span", day(2))
    assert answer.code == 2
    assert f"span {day(2)} has no data; expected one of the 4 spans from {day(0)} to {day(4)}" in answer.err
    answer = satisfice("run", bench.config, "--set", "data.source={format: csv, path: data.csv}", "--span", "7")
    assert "data.source: span is given, but the path has no spans" in answer.err
