"""What a person wants to know of a finished node, in a few words, read from its lineage."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.example_gen.spans import files_of, window_of
from components.lineage.reader import NodeRecord, OutputRecord
from schemas.config import SourceConfig
from schemas.decision import FIGURES_FILE, TRAINING_FILE, Figures

__all__ = ["data_line", "data_read", "note_of", "training_of"]

_SHOWN = 40
"""Characters of a list of spans; a longer one is counted."""


def note_of(record: NodeRecord | None) -> str:
    """A few words on what a node put out; "" where there is nothing to say."""
    if record is None:
        return ""
    outputs = {output.key: output for output in record.outputs}
    if record.node == "ExampleGen":
        return _example_gen(outputs, ran=record.state == "ran")
    teller = _TELLERS.get(record.node)
    return teller(outputs) if teller else ""


def training_of(nodes: Iterable[NodeRecord]) -> dict[str, Any]:
    """The training record of a run, which holds its plan, its curve and its figures; empty where there is none."""
    for node in nodes:
        if node.node == "Trainer":
            return _training({output.key: output for output in node.outputs})
    return {}


def _training(outputs: dict[str, OutputRecord]) -> dict[str, Any]:
    if "model_run" not in outputs:
        return {}
    try:
        record: dict[str, Any] = json.loads(
            (Path(outputs["model_run"].uri) / TRAINING_FILE).read_text(encoding="utf-8")
        )
    except (OSError, ValueError):
        return {}
    return record


def _example_gen(outputs: dict[str, OutputRecord], *, ran: bool) -> str:
    properties = outputs["examples"].properties if "examples" in outputs else {}
    if "rows_in" not in properties:
        return ""
    splits = ", ".join(
        f"{key.removeprefix('rows_')} {properties[key]:,}" for key in ("rows_train", "rows_validate", "rows_eval")
        if key in properties
    )  # fmt: skip
    return f"{properties['rows_in']:,} rows: {splits}{_spans(properties, ran=ran)}"


def _spans(properties: Mapping[str, Any], *, ran: bool) -> str:
    """Which spans the rows are of, which of them were read in this run, and what the window lacks."""
    spans = str(properties.get("spans", "")).split(", ")
    if spans == [""]:
        return ""
    read = str(properties.get("spans_read", ""))
    parts = [_span_words(spans)]
    if ran:
        parts.append(f"read anew: {(read if len(read) <= _SHOWN else read.count(',') + 1) or 'none'}")
    return "; " + "; ".join([*parts, *_lacking(properties)])


def data_read(source: SourceConfig) -> dict[str, Any]:
    """What a run would read now: how many files; of a path with spans also which, and what its window lacks.

    Raises:
        DataError: there is nothing to read.
    """
    window = window_of(source)
    if window is None:
        return {"files": len(files_of(source))}
    return {
        "files": len(window.files),
        "spans": [span.name for span in window.spans],
        "missing": list(window.missing_names),
        "short": window.short,
    }


def data_line(read: Mapping[str, Any]) -> str:
    """The same for people."""
    files = f"{read['files']:,} file{'s' if read['files'] != 1 else ''}"
    if "spans" not in read:
        return f"data: {files}"
    lacks = {"missing_spans": ", ".join(read["missing"]), "short_spans": read["short"]}
    return "data: " + "; ".join([f"{_span_words(read['spans'])}, {files}", *_lacking(lacks)])


def _span_words(spans: Sequence[str]) -> str:
    return f"span {spans[0]}" if len(spans) == 1 else f"{len(spans)} spans {spans[0]} to {spans[-1]}"


def _lacking(properties: Mapping[str, Any]) -> list[str]:
    """What a window lacks, in words."""
    missing, short = properties.get("missing_spans"), properties.get("short_spans")
    return [
        *([f"MISSING {missing}"] if missing else []),
        *([f"{short} fewer than the window holds: the data begin there"] if short else []),
    ]


def _tuner(outputs: dict[str, OutputRecord]) -> str:
    return str(outputs["tuner_results"].properties.get("summary", "")) if "tuner_results" in outputs else ""


def _trainer(outputs: dict[str, OutputRecord]) -> str:
    record = _training(outputs)
    if not record:
        return ""
    return f"{record['epochs']} epochs, {record['examples_per_s']:,.0f} examples/s, {record['parameters']:,} parameters"


def _baseline(outputs: dict[str, OutputRecord]) -> str:
    if "served" not in outputs:
        return "none yet"
    version = outputs["served"].properties.get("version")
    return f"version {version}" if "baseline" in outputs else f"version {version}, whose statistics are gone"


def _data_gate(outputs: dict[str, OutputRecord]) -> str:
    properties = outputs["decision"].properties if "decision" in outputs else {}
    return str(properties.get("summary") or properties.get("outcome", ""))


def _warm_start(outputs: dict[str, OutputRecord]) -> str:
    if "served" not in outputs:
        return "none yet: cold start"
    version = outputs["served"].properties.get("version")
    return f"version {version}" if "champion" in outputs else f"version {version}, whose files are gone: cold start"


def _champion(outputs: dict[str, OutputRecord]) -> str:
    if "served" not in outputs:
        return "none yet"
    version = outputs["served"].properties.get("version")
    same = "" if "champion" in outputs else ": the candidate's bytes are the same"
    return f"version {version}{same}"


def _profiler(outputs: dict[str, OutputRecord]) -> str:
    if "profile" not in outputs:
        return ""
    try:
        figures = Figures.model_validate_json((Path(outputs["profile"].uri) / FIGURES_FILE).read_bytes())
    except (OSError, ValueError):
        return ""
    told = [
        f"{name} {figure.value:.3g} {figure.unit}"
        for name, metric in (("p50", "latency_p50_ms"), ("memory", "peak_memory_mb"), ("size", "size_mb"))
        for figure in figures.of(figures.candidate)
        if figure.metric == metric and figure.value is not None and figure.batch_size in (None, 1)
    ]
    return ", ".join(told) or "not measured"


def _gate(outputs: dict[str, OutputRecord]) -> str:
    return str(outputs["decision"].properties.get("outcome", "")) if "decision" in outputs else ""


def _pusher(outputs: dict[str, OutputRecord]) -> str:
    if "pushed_model" not in outputs:
        return ""
    properties = outputs["pushed_model"].properties
    outcome = str(properties.get("outcome", "")).replace("_", " ")
    version = properties.get("version")
    return f"{outcome}, version {version}" if version else outcome


def _tflite_exporter(outputs: dict[str, OutputRecord]) -> str:
    if "tflite" not in outputs:
        return ""
    made = int(outputs["tflite"].properties.get("variants", 0))
    return f"{made} files" if made != 1 else "1 file"


def _devices(outputs: dict[str, OutputRecord]) -> str:
    if "served" not in outputs:
        return "none yet"
    same = "" if "devices" in outputs else ": one of the candidate's files"
    return f"version {outputs['served'].properties.get('version')}{same}"


_TELLERS = {
    "Baseline": _baseline,
    "DataGate": _data_gate,
    "Trainer": _trainer,
    "Tuner": _tuner,
    "Champion": _champion,
    "Profiler": _profiler,
    "TFLiteExporter": _tflite_exporter,
    "Devices": _devices,
    "WarmStart": _warm_start,
    "Gate": _gate,
    "Pusher": _pusher,
}
