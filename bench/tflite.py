"""The `.tflite` ladder of the taxi and the digits pipeline: size, latency, quality and parity, into RESULTS.md.

    python -m bench.tflite [--cases "taxi; digits"] [--kept]

Each case is a run of the pipeline itself, in a folder of its own; the figures are those by which its gate decides.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bench.process import REPOSITORY
from bench.results import machine, table, write_section
from schemas.tflite import VARIANTS

__all__ = ["CASES", "main", "read_case", "run_case"]

WORK = REPOSITORY / "bench" / "work" / "tflite"
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "taxi": ("satisfice.yaml", {}),
    "digits": ("digits.yaml", {}),
    "digits, quantization-aware": ("digits.yaml", {"quantization_aware": True}),
    "digits, pruned to 80 %": ("digits.yaml", {"pruning": {"final_sparsity": 0.8}}),
    "digits, 16 values per layer": ("digits.yaml", {"clustering": {"clusters": 16}}),
}
_QUALITY = {"satisfice.yaml": "auc", "digits.yaml": "sparse_categorical_accuracy"}
_CALLS = 300
_RUN_FILE = "run.json"
_MADE = ("TFLiteExporter", "TFLiteEvaluator")
_LARGEST_SHARE, _LARGEST_LOSS, _LONGEST_S = 0.30, 0.005, 10.0
_COLUMNS = (
    ("size", "size_mb", 1e3, "{:.1f} kB"),
    ("packed", "compressed_size_mb", 1e3, "{:.1f} kB"),
    ("p50", "latency_p50_ms", 1e3, "{:.1f} µs"),
    ("peak memory", "peak_memory_mb", 1.0, "{:.1f} MB"),
    ("largest difference", "max_abs_difference", 1.0, "{:.4f}"),
    ("classes alike", "class_agreement", 100.0, "{:.2f} %"),
)


def main() -> None:
    """Runs the cases that are asked for, and rewrites the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="; ".join(CASES), help="separated by semicolons")
    parser.add_argument("--kept", action="store_true", help="read what earlier runs left, and run nothing")
    arguments = parser.parse_args()
    asked = [name.strip() for name in arguments.cases.split(";")]
    if not arguments.kept:
        for name in asked:
            run_case(name)
    found = {name: read_case(name) for name in asked}
    write_section("tflite", _section(found))
    print(_section(found))


def run_case(name: str) -> None:
    """Runs a pipeline in the case's folder."""
    source, compression = CASES[name]
    folder = _folder(name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    text = yaml.safe_dump(_config(source, compression), sort_keys=False)
    (folder / source).write_text(text, encoding="utf-8")
    result = _satisfice("run", folder / source)
    (folder / _RUN_FILE).write_text(json.dumps(result), encoding="utf-8")
    if result["outcome"] != "pushed":
        raise SystemExit(f"{name}: the run ended as {result['outcome']}: {result['error']}")


def read_case(name: str) -> dict[str, Any]:
    """What a run of the case decided by.

    Returns:
        `ladder`, `nodes` (wall and CPU seconds), `quality` (name of the metric), `saved_model` (figures), `compression`
        (the Trainer's record, or None).
    """
    quality = _QUALITY[CASES[name][0]]
    folder = _folder(name)
    result = json.loads((folder / _RUN_FILE).read_text(encoding="utf-8"))
    (training,) = folder.glob("pipelines/*/Trainer/model_run/*/training.json")
    (model,) = folder.glob("pipelines/*/Trainer/model/*/Format-Serving")
    return {
        "ladder": result["decision"]["edge"]["ladder"],
        "nodes": {node["node"]: (node["seconds"], node["cpu_s"]) for node in result["nodes"]},
        "quality": quality,
        "saved_model": {
            "size_mb": sum(file.stat().st_size for file in model.rglob("*") if file.is_file()) / 1e6,
            "latency_p50_ms": _latency_ms(model),
            quality: next(gate["value"] for gate in result["decision"]["gates"] if gate["metric"] == quality),
        },
        "compression": json.loads(training.read_text(encoding="utf-8")).get("compression"),
    }


def _folder(name: str) -> Path:
    return WORK / name.replace(" ", "-").replace(",", "").replace("%", "percent")


def _satisfice(*arguments: str | Path) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "runners.cli", *map(str, arguments), "--json"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return json.loads(done.stdout)


def _config(source: str, compression: Mapping[str, Any]) -> dict[str, Any]:
    """The shipped configuration with all variants, and gates that any of them may meet."""
    raw: dict[str, Any] = yaml.safe_load((REPOSITORY / source).read_text(encoding="utf-8"))
    raw["data"]["source"]["path"] = str(REPOSITORY / raw["data"]["source"]["path"])
    raw["data"]["schema"] = str(REPOSITORY / raw["data"]["schema"])
    raw["export"] = {"tflite": {"variants": list(VARIANTS), **compression}}
    raw["runner"] = {"max_parallel": 1}  # so that each node's seconds are its own
    raw["gates"].pop("intervals", None)
    own = [gate for gate in raw["gates"]["satisfy"] if gate.get("payload", "saved_model") == "saved_model"]
    raw["gates"]["satisfy"] = [
        *(gate for gate in own if gate["metric"] == _QUALITY[source]),
        {"metric": _QUALITY[source], "payload": "tflite", "min": 0.5},
    ]
    return raw


def _latency_ms(model: Path) -> float:
    """Median of calls with one row of zeros, in this process."""
    import tensorflow as tf

    call = tf.saved_model.load(str(model)).signatures["transformed"]
    row = {
        name: tf.zeros([1, *spec.shape[1:]], spec.dtype) for name, spec in call.structured_input_signature[1].items()
    }
    seconds = []
    for _ in range(_CALLS):
        begun = time.perf_counter()
        call(**row)
        seconds.append(time.perf_counter() - begun)
    return 1e3 * statistics.median(seconds)


def _section(found: Mapping[str, Mapping[str, Any]]) -> str:
    parts = [
        "## Files for devices",
        f"`python -m bench.tflite`; {machine()}. Quality, differences and classes on the whole `eval` split, by LiteRT's "
        "interpreter on the file itself, against the SavedModel; p50 of one row with one thread, all variants in turns in "
        "one process (the SavedModel's apart, through TensorFlow); packed with gzip.",
        _targets(found),
    ]
    for name, case in found.items():
        parts += [f"### {name}", _table(case), _told(case)]
    return "\n\n".join(parts)


def _table(case: Mapping[str, Any]) -> str:
    rows = {rung["variant"]: rung for rung in case["ladder"]}
    plain = rows["float32"]["figures"]["size_mb"]
    lines = [["SavedModel", *_cells(case["saved_model"], case["quality"]), ""]]
    for variant in VARIANTS:
        rung = rows[variant]
        share = f"{rung['figures']['size_mb'] / plain:.3f}" if rung["figures"] else ""
        cells = _cells(rung["figures"], case["quality"])
        lines.append([variant, *cells, share or "not made"])
    return table(["", *(title for title, *_ in _COLUMNS), case["quality"], "size / float32"], lines)


def _targets(found: Mapping[str, Mapping[str, Any]]) -> str:
    """What is wanted of the files, and what was reached, as far as the cases tell."""
    lines = []
    ladders = {name: {rung["variant"]: rung["figures"] for rung in case["ladder"]} for name, case in found.items()}
    if "taxi" in found:
        spent = [found["taxi"]["nodes"][node] for node in _MADE]
        wall, cpu = (sum(one[index] or 0.0 for one in spent) for index in (0, 1))
        reached = f"{wall:.1f} s ({cpu:.1f} s of CPU)"
        lines.append(["taxi: five variants made, evaluated and measured", reached, f"at most {_LONGEST_S:.0f} s"])
    if "digits" in found:
        digits = ladders["digits"]
        share = digits["int8"]["size_mb"] / digits["float32"]["size_mb"]
        lines.append(["digits: size of int8 / float32", f"{share:.3f}", f"at most {_LARGEST_SHARE}"])
        quality = found["digits"]["quality"]
        float_, plain = found["digits"]["saved_model"][quality], digits["int8"][quality]
        lines.append(["digits: accuracy of int8 less that of the float model", f"{plain - float_:+.4f}", ""])
        for name in found.keys() & {"digits, quantization-aware"}:
            aware = ladders[name]["int8"][quality]
            told = f"{aware - float_:+.4f}"
            lines.append(["digits: the same, trained quantization-aware", told, f"at least -{_LARGEST_LOSS}"])
        for name in found.keys() & {"digits, pruned to 80 %", "digits, 16 values per layer"}:
            for variant in ("float32", "int8"):
                packed = [ladder[variant]["compressed_size_mb"] for ladder in (ladders[name], digits)]
                lines.append([f"{name}: packed size of {variant} / that of digits", f"{packed[0] / packed[1]:.3f}", ""])
    return table(["", "reached", "target"], sorted(lines))


def _cells(figures: Mapping[str, float], quality: str) -> list[str]:
    cells = [form.format(figures[key] * scale) if key in figures else "" for _, key, scale, form in _COLUMNS]
    return [*cells, f"{figures[quality]:.4f}" if quality in figures else ""]


def _told(case: Mapping[str, Any]) -> str:
    told = [f"{wall:.1f} s ({cpu or 0:.1f} s of CPU)" for wall, cpu in (case["nodes"][node] for node in _MADE)]
    text = f"Converting took {told[0]}, evaluating and measuring {told[1]}, one node at a time."
    text += "".join(f" {rung['variant']} {rung['problems'][0]}" for rung in case["ladder"] if rung["problems"])
    if case["compression"]:
        before, after = (case["compression"][key] for key in ("before", "after"))
        name = next(key for key in before if key != "val_loss")
        reached = {key: case["compression"][key] for key in ("sparsity", "values") if key in case["compression"]}
        text += f" Training on: {name} {before[name]:.4f} before, {after[name]:.4f} after"
        text += f"; reached {json.dumps(reached)}." if reached else "."
    return text


if __name__ == "__main__":
    main()
