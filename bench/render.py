"""The sections of RESULTS.md, from records alone: what is rendered twice from the same records is the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

from bench import plots
from bench.contenders import BARE_EPOCH, BARE_STEPS, OURS, OURS_EPOCH, OURS_STEPS, STOCK, TITLES
from bench.data import REAL_ROWS
from bench.records import Record, latest
from bench.results import FILE, table, write_section

__all__ = [
    "compare_section",
    "ingest_section",
    "payload_section",
    "ratios",
    "render",
    "rerun_section",
    "scale_section",
    "targets_section",
]

RATIOS = (
    (OURS_STEPS, STOCK),
    (OURS, STOCK),
    (OURS_STEPS, BARE_STEPS),
    (OURS_EPOCH, BARE_EPOCH),
    (STOCK, BARE_STEPS),
)
_FIGURES = {"wall_s": "wall, s", "cpu_s": "CPU, s", "peak_pss_mb": "peak memory (PSS), MB"}
_MILLION = 1_000_000
PROFILER = "Profiler"
_RESOLVERS = ("Baseline", "Champion")
_SHOWN_ERROR = 200
_HOW = (
    "Whole processes, imports included; bytecode compiled; in turns, each turn in another order; minimum / median / maximum. "
    "CPU: user and system time of the process and all that it started. Peak memory: the sum over the process and all that it started "
    "of the proportional set size, sampled up to five times a second, where a page that forked workers share counts once; in "
    "brackets the plain sum of resident sets, where it counts for each. `AUC` and `accuracy` are each contender's own, on the "
    "rows that it kept for evaluation and never trained on; each labels and splits by itself (stock TFX 2 : 1, the others 7 : 1 : 2). "
    "The limits of our gates are lowered so that each run pushes; their number and kind is that of `satisfice.yaml`. "
    "Ours reads the source while TFX is imported and the graph is built: the seconds of its `ExampleGen` are what was left to wait for. "
    "Files for devices are made in `as configured` alone. "
    f"{REAL_ROWS:,} rows are the real trips; more are drawn from them with noise "
    "(`bench/data.py`), so that a row kept for evaluation has near copies among those learnt: their `AUC` shows that the same work "
    "was done, not how well a model would do on new trips."
)


def render(records: Sequence[Record], session: str = "", file: Path = FILE) -> None:
    """Writes the sections for which there are records, and their plots beside the file.

    Args:
        records: of all benchmarks.
        session: which one of each to show; without it the newest.
        file: Markdown.
    """
    known = {name: latest(records, name, session) for name in _SECTIONS}
    if known["compare"]:
        plots.draw(known["compare"], file.parent)
    write_section("targets", targets_section(known), file)
    for name, section in _SECTIONS.items():
        if known[name]:
            write_section(name, section(known[name]), file)


def ratios(records: Sequence[Record], ours: str, theirs: str, rows: int, key: str = "wall_s") -> list[float]:
    """A figure of one contender over another's, for each turn in which both succeeded."""
    mine, other = (_by_turn(records, name, rows) for name in (ours, theirs))
    return [mine[turn].measured[key] / other[turn].measured[key] for turn in sorted(mine.keys() & other.keys())]


def _ratios_without(node: str, records: Sequence[Record], ours: str, theirs: str, rows: int) -> list[float]:
    """Ratios of wall time, our run less the seconds of one node in which it has the machine for itself."""
    mine, other = (_by_turn(records, name, rows) for name in (ours, theirs))
    spent = {turn: record.measured["stages"].get(node, {"seconds": 0.0})["seconds"] for turn, record in mine.items()}
    return [
        (mine[turn].measured["wall_s"] - spent[turn]) / other[turn].measured["wall_s"]
        for turn in sorted(mine.keys() & other.keys())
    ]


def compare_section(records: Sequence[Record]) -> str:
    """First runs of all contenders, a table of figures, of ratios and of stages for each number of rows."""
    parts = ["## A first run, beside stock TFX and a hand-written script", f"`python -m bench.compare`. {_HOW}"]
    parts += ["![Wall time over rows](wall.png)", "![Seconds per stage](stages.png)"]
    for rows in _sizes(records):
        here = [record for record in records if record.rows == rows]
        parts += [
            f"### {rows:,} rows",
            _machines(here),
            _figures_table(here),
            _ratio_table(here, rows),
            _stage_table(here),
        ]
        parts += _failures(here)
    return "\n\n".join(part for part in parts if part)


def ingest_section(records: Sequence[Record]) -> str:
    """Our ExampleGen's executor beside stock CsvExampleGen's."""
    parts = [
        "## Ingest alone",
        "`python -m bench.ingest`. The executors alone, each in a process that has imported all it needs before the clock starts; "
        "both write two splits, 2 : 1; the records that were written are counted and are as many as the rows of the file. Minimum / median / "
        "maximum. Peak memory (PSS) is that of the whole process.",
    ]
    for rows in _sizes(records):
        lines = [
            [f"{title}, {rows:,} rows", *(_spread(found, key) for key in ("seconds", "cpu_s", "peak_pss_mb"))]
            for name, title in (("stock", "stock CsvExampleGen"), ("ours", "ours"))
            if (found := _good(records, name, rows))
        ]
        parts += [
            _machines(records),
            table(["", "seconds", "CPU, s", "peak memory, MB"], lines),
            _over("ours / stock, seconds", ratios(records, "ours", "stock", rows, "seconds")),
        ]
    return "\n\n".join(part for part in [*parts, *_failures(records)] if part)


_WAYS = {
    "records-columns": "TFRecords of tf.Examples and columns beside them",
    "records-columns-tfx-bsl": "… encoded by tfx_bsl, written by TensorFlow",
    "parquet": "Parquet alone",
}


def payload_section(records: Sequence[Record]) -> str:
    """What each way of laying rows down costs to write and to read."""
    parts = [
        "## How rows lie in an artifact of examples",
        "`python -m bench.payload`. Processor seconds, minimum / median / maximum over turns. A payload in Parquet is the cheapest to write, and "
        "its rows have to become tf.Examples wherever a model is asked through `serving_examples`; TFX's own Trainer cannot read it "
        "(`ParquetTFXIO` gives neither record batches nor a data set outside of Beam). So the artifact keeps TFRecords, which everything "
        "stock reads, with the columns beside them.",
    ]
    for rows in _sizes(records):
        lines = [
            [title, *(_seconds(found, key) for key in ("write", "columns", "examples")), _spread(found, "disk_mb")]
            for name, title in _WAYS.items()
            if (found := _good(records, name, rows))
        ]
        here = [record for record in records if record.rows == rows]
        head = [f"{rows:,} rows", "write", "read as columns", "read as examples", "MB"]
        parts += [_machines(here), table(head, lines)]
    return "\n\n".join(part for part in [*parts, *_failures(records)] if part)


def _seconds(records: Sequence[Record], key: str) -> str:
    return _numbers([record.measured[key]["cpu_s"] for record in records], 2)


def scale_section(records: Sequence[Record]) -> str:
    """Our pipeline on many rows: memory, rows, and where the time goes."""
    good = [record for record in records if not record.error]
    sizes = _sizes(good)
    figures = []
    for rows in sizes:
        found = _good(good, OURS_EPOCH, rows)
        costs = [_spread(found, "wall_s"), _spread(found, "cpu_s"), _memory(found), _spread(found, "disk_mb")]
        figures.append([f"{rows:,}", *costs, _split_rows(found[-1].measured["rows"])])
    stages = {rows: _typical(_good(good, OURS_EPOCH, rows)).measured["stages"] for rows in sizes}
    lines = [
        [name, *(_stage(stages[rows].get(name)) for rows in sizes)]
        for name in (next(iter(stages.values())) if stages else ())
    ]
    parts = [
        "## Many rows",
        "`python -m bench.scale`. Our pipeline alone, one epoch at batch 1,024. The rows of all splits are as many as went in, or the "
        "measurement fails. Peak memory as above: proportional, in brackets the sum of resident sets.",
        _machines(records),
        table(["rows", "wall, s", "CPU, s", "peak memory (PSS), MB", "written, MB", "rows per split"], figures),
        "Per node: seconds / CPU seconds / peak memory of its process (resident, with what it shares with the others), MB.",
        table(["node", *(f"{rows:,} rows" for rows in sizes)], lines),
    ]
    return "\n\n".join(part for part in [*parts, *_failures(records)] if part)


def rerun_section(records: Sequence[Record]) -> str:
    """Running again: wall time, and which nodes ran."""
    good = [record.measured["runs"] for record in records if not record.error]
    lines = [
        [
            name,
            _numbers([runs[name]["wall_s"] for runs in good], 2),
            _numbers([runs[name]["cpu_s"] for runs in good], 2),
            ", ".join(good[-1][name]["ran"]) or "none",
        ]
        for name in (good[-1] if good else ())
    ]
    parts = [
        "## Running again",
        "`python -m bench.rerun`. The same pipeline in the same folders, three times unchanged, then with another activation in "
        "`build_model`. Whole processes; minimum / median / maximum. `Baseline` and `Champion` choose among what is recorded and do no work.",
        _machines(records),
        table(["run", "wall, s", "CPU, s", "nodes that ran"], lines),
    ]
    return "\n\n".join([*parts, *_failures(records)])


# --- targets ----------------------------------------------------------------------------------------------------------


def targets_section(known: Mapping[str, Sequence[Record]]) -> str:
    """What was aimed at and what was reached, by the benchmarks' names."""
    compare, ingest, scale, rerun = (known.get(name, ()) for name in ("compare", "ingest", "scale", "rerun"))
    lines = [
        _target("First run against stock TFX, 15,002 rows, both 1,000 steps of 40, without the Profiler's time", 0.33,
                _ratios_without(PROFILER, compare, OURS_STEPS, STOCK, REAL_ROWS)),
        _target("… with the Profiler", 0.55, ratios(compare, OURS_STEPS, STOCK, REAL_ROWS)),
        _target("… with the Profiler, as configured", 0.55, ratios(compare, OURS, STOCK, REAL_ROWS)),
        _target("First run against stock TFX, 1,000,000 rows, both 1,000 steps of 40", 0.12,
                ratios(compare, OURS_STEPS, STOCK, _MILLION)),
        _target("… as configured", 0.12, ratios(compare, OURS, STOCK, _MILLION)),
        _target("Against the hand-written script, 1,000,000 rows, 1,000 steps of 40", 3.0,
                ratios(compare, OURS_STEPS, BARE_STEPS, _MILLION)),
        _beside("… without the Profiler's time, which the script does not have",
                _ratios_without(PROFILER, compare, OURS_STEPS, BARE_STEPS, _MILLION)),
        _target("… one epoch at batch 1,024", 1.5, ratios(compare, OURS_EPOCH, BARE_EPOCH, _MILLION)),
        _beside("… one epoch at batch 1,024, without the Profiler's time",
                _ratios_without(PROFILER, compare, OURS_EPOCH, BARE_EPOCH, _MILLION)),
        _target("Ingest alone against stock CsvExampleGen, 1,000,000 rows", 0.08,
                ratios(ingest, "ours", "stock", _MILLION, "seconds")),
        _target("Unchanged run, the second, seconds", 5.0, _rerun_walls(rerun, "second")),
        _target("… the third, seconds", 5.0, _rerun_walls(rerun, "third")),
        _target("Peak memory, 10,000,000 rows over 1,000,000", 1.2, _growth(scale)),
        _target("Peak memory at 10,000,000 rows, GB", 3.0,
                [one.measured["peak_pss_mb"] / 1000 for one in _good(scale, OURS_EPOCH, 10 * _MILLION)]),
        _model_only(rerun),
    ]  # fmt: skip
    return "\n\n".join(
        [
            "## Targets",
            "Minimum / median / maximum over turns; the median is held against the target. Ratios are of wall time, taken between runs of one turn.",
            table(["", "target", "reached", ""], lines),
        ]
    )


def _target(title: str, limit: float, values: Sequence[float]) -> list[str]:
    if not values:
        return [title, f"≤ {limit:g}", "not measured", ""]
    return [title, f"≤ {limit:g}", _numbers(values, 2), "met" if median(values) <= limit else "**missed**"]


def _beside(title: str, values: Sequence[float]) -> list[str]:
    """A figure without a target of its own, to read beside the one that has it."""
    return [title, "-", _numbers(values, 2) if values else "not measured", ""]


def _model_only(records: Sequence[Record]) -> list[str]:
    title, wanted = "Changed model code only: what runs", "Trainer and what follows"
    good = [record for record in records if not record.error]
    if not good:
        return [title, wanted, "not measured", ""]
    ran = [set(record.measured["runs"]["changed model"]["ran"]) for record in good]
    allowed = {"Trainer", "TFLiteExporter", "TFLiteEvaluator", "Profiler", "Evaluator", "Gate", "Pusher", *_RESOLVERS}
    met = all("Trainer" in one and one <= allowed for one in ran)
    told = ", ".join(good[-1].measured["runs"]["changed model"]["ran"])
    return [title, wanted, told, "met" if met else "**missed**"]


def _rerun_walls(records: Sequence[Record], name: str) -> list[float]:
    return [record.measured["runs"][name]["wall_s"] for record in records if not record.error]


def _growth(records: Sequence[Record]) -> list[float]:
    """10,000,000 rows over 1,000,000, where the code was the same."""
    small, large = (_good(records, OURS_EPOCH, rows) for rows in (_MILLION, 10 * _MILLION))
    alike = {one.session for one in [*small, *large]}
    return (
        [_median(large, "peak_pss_mb") / _median(small, "peak_pss_mb")] if small and large and len(alike) == 1 else []
    )


# --- tables -----------------------------------------------------------------------------------------------------------


def _figures_table(records: Sequence[Record]) -> str:
    lines = []
    for name, title in TITLES.items():
        found = [record for record in records if record.contender == name and not record.error]
        if found:
            last = found[-1].measured
            lines.append(
                [
                    title, _spread(found, "wall_s"), _spread(found, "cpu_s"), _memory(found), f"{last['steps']:,}",
                    _split_rows(last["rows"]), f"{last['quality']['auc']:.4f}", f"{last['quality']['accuracy']:.4f}",
                ]
            )  # fmt: skip
    return table(["", *_FIGURES.values(), "steps", "rows per split", "AUC", "accuracy"], lines)


def _memory(records: Sequence[Record]) -> str:
    """Proportional, and in brackets the sum of resident sets."""
    return f"{_spread(records, 'peak_pss_mb')} ({_median(records, 'peak_rss_mb'):,.0f})"


def _ratio_table(records: Sequence[Record], rows: int) -> str:
    lines = [
        [
            f"{TITLES[mine]} / {TITLES[other]}",
            *(_numbers(ratios(records, mine, other, rows, key), 2) for key in _FIGURES),
        ]
        for mine, other in RATIOS
        if ratios(records, mine, other, rows)
    ]
    return table(["ratio", "wall", "CPU", "peak memory"], lines) if lines else ""


def _stage_table(records: Sequence[Record]) -> str:
    """One line per contender and stage, in the run of median wall time."""
    lines = []
    for name, title in TITLES.items():
        found = [record for record in records if record.contender == name and not record.error]
        if found:
            stages = _typical(found).measured["stages"]
            lines.append([title, " · ".join(f"{stage} {_stage(cost)}" for stage, cost in stages.items())])
    told = "Per stage in the run of median wall time: seconds / CPU seconds / peak memory, MB (ours: of the node's own process)."
    return f"{told}\n\n{table(['', 'stages'], lines)}" if lines else ""


def _stage(cost: Mapping[str, float | None] | None) -> str:
    """Seconds / CPU seconds / MB; a dash for what a node without a process of its own has not."""
    if cost is None:
        return "-"
    figures = ((cost["seconds"], ".1f"), (cost["cpu_s"], ".1f"), (cost["peak_mb"], ",.0f"))
    return " / ".join("-" if value is None else format(value, form) for value, form in figures)


def _split_rows(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{split} {count:,}" for split, count in rows.items())


def _over(title: str, values: Sequence[float]) -> str:
    return f"{title}: {_numbers(values, 3)}." if values else ""


def _failures(records: Sequence[Record]) -> list[str]:
    """A line for each measurement that has not succeeded."""
    return [
        f"Failed: {record.contender}, {record.rows:,} rows, turn {record.turn}: {record.error[:_SHOWN_ERROR]}"
        for record in records
        if record.error
    ]


def _machines(records: Sequence[Record]) -> str:
    """Where and when, how often, and what: equal names are of equal code."""
    places = sorted({record.machine for record in records})
    sessions = sorted({record.session for record in records})
    turns = len({record.turn for record in records})
    return f"{'; '.join(places)}; {turns} {'turn' if turns == 1 else 'turns'}; code {', '.join(sessions)}."


def _sizes(records: Sequence[Record]) -> list[int]:
    return [rows for rows, _ in groupby(sorted(record.rows for record in records))]


def _good(records: Sequence[Record], contender: str, rows: int) -> list[Record]:
    return list(_by_turn(records, contender, rows).values())


def _by_turn(records: Sequence[Record], contender: str, rows: int) -> dict[int, Record]:
    return {
        one.turn: one for one in records if one.contender == contender and one.rows == rows and not one.error
    }  # fmt: skip


def _typical(records: Sequence[Record]) -> Record:
    """The one of median wall time, the slower of two."""
    return sorted(records, key=lambda record: record.measured["wall_s"])[len(records) // 2]


def _median(records: Sequence[Record], key: str) -> float:
    return float(median(record.measured[key] for record in records))


def _spread(records: Sequence[Record], key: str) -> str:
    return _numbers([record.measured[key] for record in records], 0 if key.endswith("_mb") else 1)


def _numbers(values: Sequence[float], digits: int) -> str:
    """Minimum / median / maximum; one number where there is one; a dash for none."""
    if not values:
        return "-"
    spread = (min(values), median(values), max(values)) if len(values) > 1 else values
    return " / ".join(f"{value:,.{digits}f}" for value in spread)


_SECTIONS: dict[str, Callable[[Sequence[Any]], str]] = {
    "compare": compare_section,
    "ingest": ingest_section,
    "payload": payload_section,
    "scale": scale_section,
    "rerun": rerun_section,
}
