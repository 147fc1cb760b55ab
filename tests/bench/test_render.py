"""The page is rendered from records alone: the figures in it are theirs, and what was not measured is said."""

from __future__ import annotations

import pytest

from bench import plots, render
from bench.contenders import BARE_EPOCH, BARE_STEPS, OURS, OURS_EPOCH, OURS_STEPS, STOCK
from bench.records import Record

MILLION = 1_000_000
STAGES = {
    "Trainer": {"seconds": 6.0, "cpu_s": 7.0, "peak_mb": 700.0},
    "Profiler": {"seconds": 2.0, "cpu_s": 2.0, "peak_mb": 400.0},
}


def compared(contender, rows, turn, wall, memory=1000.0):
    measured = {
        "wall_s": wall,
        "cpu_s": 2 * wall,
        "peak_pss_mb": memory,
        "peak_rss_mb": 1.5 * memory,
        "stages": STAGES,
        "rows": {"train": 700, "eval": 200},
        "quality": {"auc": 0.95639, "accuracy": 0.90721, "rows": 200},
        "steps": 1000,
    }
    return Record("compare", contender, rows, turn, "one", measured, "", "a machine")


def rerun(second, ran):
    runs = {name: {"wall_s": second, "cpu_s": 0.5, "ran": []} for name in ("first", "second", "third")}
    runs["changed model"] = {"wall_s": 9.0, "cpu_s": 9.0, "ran": ran}
    return Record("rerun", "ours", 15_002, 0, "one", {"runs": runs}, "", "a machine")


def scaled(rows, memory):
    record = compared(OURS_EPOCH, rows, 0, rows / 1e5, memory)
    return Record("scale", OURS_EPOCH, rows, 0, "one", {**record.measured, "disk_mb": 3.0}, "", "a machine")


def ingested(contender, turn, seconds):
    measured = {"seconds": seconds, "cpu_s": seconds, "peak_pss_mb": 900.0, "rows": {"train": 2, "eval": 1}}
    return Record("ingest", contender, MILLION, turn, "one", measured, "", "a machine")


@pytest.fixture
def records():
    """Two turns of everything at 15,002 rows, the second of them twice as slow, and one at a million."""
    walls = {STOCK: 40.0, OURS: 16.0, OURS_STEPS: 10.0, BARE_STEPS: 5.0, OURS_EPOCH: 9.0, BARE_EPOCH: 6.0}
    found = [compared(name, 15_002, turn, wall * (1 + turn)) for turn in (0, 1) for name, wall in walls.items()]
    found += [compared(name, MILLION, 0, wall * (10 if name == STOCK else 2)) for name, wall in walls.items()]
    found += [
        ingested("stock", 0, 200.0),
        ingested("ours", 0, 8.0),
        scaled(MILLION, 1500.0),
        scaled(10 * MILLION, 1650.0),
    ]
    return [*found, rerun(1.25, ["Trainer", "Champion", "Evaluator", "Gate", "Pusher"])]


def row(text, title):
    """The cells of the first line of a table that begins with a title."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {title} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def known(records):
    return {name: [one for one in records if one.benchmark == name] for name in ("compare", "ingest", "scale", "rerun")}


def test_ratios_are_taken_within_turns(records):
    """A slow turn slows both; a turn that one of them lacks gives none."""
    assert render.ratios(records, OURS_STEPS, STOCK, 15_002) == [0.25, 0.25]
    broken = Record("compare", STOCK, 15_002, 1, "one", error="it fell over")
    lacking = [one for one in records if one.key != broken.key] + [broken]
    assert render.ratios(lacking, OURS_STEPS, STOCK, 15_002) == [0.25]


def test_targets_stand_beside_what_was_reached(records):
    """Met or missed by the median; what was not measured is said so."""
    text = render.targets_section(known(records))
    first = "First run against stock TFX, 15,002 rows, both 1,000 steps of 40, without the Profiler's time"
    assert row(text, first) == ["≤ 0.33", "0.20 / 0.21 / 0.23", "met"]
    assert row(text, "… with the Profiler") == ["≤ 0.55", "0.25 / 0.25 / 0.25", "met"]
    assert row(text, "… with the Profiler, as configured") == ["≤ 0.55", "0.40 / 0.40 / 0.40", "met"]
    assert row(text, "First run against stock TFX, 1,000,000 rows, both 1,000 steps of 40") == ["≤ 0.12", "0.05", "met"]
    assert row(text, "Against the hand-written script, 1,000,000 rows, 1,000 steps of 40") == ["≤ 3", "2.00", "met"]
    without = "… without the Profiler's time, which the script does not have"
    assert row(text, without) == ["-", "1.80", ""]
    assert row(text, "… one epoch at batch 1,024") == ["≤ 1.5", "1.50", "met"]
    assert row(text, "… one epoch at batch 1,024, without the Profiler's time") == ["-", "1.33", ""]
    assert row(text, "Ingest alone against stock CsvExampleGen, 1,000,000 rows") == ["≤ 0.08", "0.04", "met"]
    assert row(text, "Unchanged run, the second, seconds") == ["≤ 5", "1.25", "met"]
    assert row(text, "Peak memory, 10,000,000 rows over 1,000,000") == ["≤ 1.2", "1.10", "met"]
    assert row(text, "Changed model code only: what runs")[2] == "met"
    nothing = render.targets_section({})
    assert "met" not in nothing.replace("median", "")
    assert row(nothing, "Unchanged run, the second, seconds") == ["≤ 5", "not measured", ""]


def test_a_change_of_the_model_that_runs_more_misses_its_target():
    """Transform does not follow the Trainer."""
    text = render.targets_section({"rerun": [rerun(1.0, ["Transform", "Trainer", "Evaluator", "Gate", "Pusher"])]})
    assert row(text, "Changed model code only: what runs")[2] == "**missed**"


def test_figures_are_those_of_the_records(records):
    """Minimum, median and maximum, with quality and rows beside them; failures are named."""
    broken = Record("compare", BARE_STEPS, MILLION, 1, "one", error="RuntimeError: it fell over", machine="a machine")
    text = render.compare_section([one for one in records if one.benchmark == "compare"] + [broken])
    small = text.split("### 15,002 rows")[1].split("### ")[0]
    assert row(small, "stock TFX, 1,000 steps of 40")[:3] == [
        "40.0 / 60.0 / 80.0",
        "80.0 / 120.0 / 160.0",
        "1,000 / 1,000 / 1,000 (1,500)",
    ]
    assert row(small, "ours, as configured")[3:] == ["1,000", "train 700, eval 200", "0.9564", "0.9072"]
    assert row(small, "ours, one epoch, batch 1,024 / hand-written, one epoch, batch 1,024")[0] == "1.50 / 1.50 / 1.50"
    assert "Trainer 6.0 / 7.0 / 700" in small
    assert "Failed: bare-steps, 1,000,000 rows, turn 1: RuntimeError: it fell over" in text


def test_the_page_is_written_twice_alike(records, tmp_path):
    """Sections keep their places, other sections stay, and both plots are there."""
    page = tmp_path / "RESULTS.md"
    page.write_text(
        "# Results\n\n<!-- targets: begin -->\n<!-- targets: end -->\n\n<!-- other: begin -->\nmine\n<!-- other: end -->\n"
    )
    render.render(records, file=page)
    once = page.read_text()
    assert [part.split(":")[0] for part in once.split("<!-- ")[1::2]] == [
        "targets",
        "other",
        "compare",
        "ingest",
        "scale",
        "rerun",
    ]
    assert "mine" in once
    assert {file.name for file in tmp_path.glob("*.png")} == {"wall.png", "stages.png"}
    plot = (tmp_path / "wall.png").read_bytes()
    render.render(records, file=page)
    assert (page.read_text(), (tmp_path / "wall.png").read_bytes()) == (once, plot)


def test_every_contender_has_the_same_stages():
    """What is in no stage is the rest; where nodes ran beside each other there is none."""
    stages = {
        name: {"seconds": 1.0} for name in ("CsvExampleGen", "SchemaGen", "ExampleValidator", "Trainer", "Resolver")
    }
    found = plots.stage_seconds({"wall_s": 10.0, "stages": stages})
    assert (found["ingest"], found["validation"], found["train, export"], found["imports, the rest"]) == (1, 2, 1, 6)
    assert plots.stage_seconds({"wall_s": 1.0, "stages": stages})["imports, the rest"] == 0


def test_payloads_are_rendered_by_processor_seconds():
    """Each way in a line, and one that was not measured in none."""
    cost = {"write": {"wall_s": 9.0, "cpu_s": 1.5}, "columns": {"wall_s": 9.0, "cpu_s": 0.25}}
    measured = {**cost, "examples": {"wall_s": 9.0, "cpu_s": 2.0}, "disk_mb": 560.0, "rows": MILLION}
    page = render.payload_section([Record("payload", "parquet", MILLION, 0, "one", measured, "", "a machine")])
    assert "| Parquet alone | 1.50 | 0.25 | 2.00 | 560 |" in page
    assert "TFRecords of tf.Examples and" not in page
