"""What a person wants to know of a finished node, in a few words, read from its lineage."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from components.lineage.reader import NodeRecord, OutputRecord
from schemas.decision import FIGURES_FILE, TRAINING_FILE, Figures

__all__ = ["note_of", "training_of"]


def note_of(record: NodeRecord | None) -> str:
    """A few words on what a node put out; "" where there is nothing to say."""
    if record is None:
        return ""
    teller = _TELLERS.get(record.node)
    return teller({output.key: output for output in record.outputs}) if teller else ""


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


def _example_gen(outputs: dict[str, OutputRecord]) -> str:
    properties = outputs["examples"].properties if "examples" in outputs else {}
    if "rows_in" not in properties:
        return ""
    splits = ", ".join(
        f"{key.removeprefix('rows_')} {properties[key]:,}" for key in ("rows_train", "rows_validate", "rows_eval")
        if key in properties
    )  # fmt: skip
    return f"{properties['rows_in']:,} rows: {splits}"


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
    "ExampleGen": _example_gen,
    "DataGate": _data_gate,
    "Trainer": _trainer,
    "Champion": _champion,
    "Profiler": _profiler,
    "TFLiteExporter": _tflite_exporter,
    "Devices": _devices,
    "WarmStart": _warm_start,
    "Gate": _gate,
    "Pusher": _pusher,
}
