"""What a file costs, measured in processes of their own."""

import math

import pytest

from components.tflite.cost import Limits, costs
from schemas.metrics import PROFILED

METRICS = {
    "size_mb", "compressed_size_mb", "arena_mb", "peak_memory_mb", "load_time_ms", "latency_p50_ms", "latency_p95_ms",
    "latency_p99_ms",
}  # fmt: skip


@pytest.fixture(scope="module")
def figures(ladder):
    """Of two files; float32 is the one that devices have."""
    files = {"float32": ladder.file("float32"), "int8": ladder.file("int8")}
    row = {name: values[:1] for name, values in ladder.rows.items()}
    digests = {name: f"digest of {name}" for name in files}
    return costs(files, digests, row, "a machine", champion="float32", limits=Limits(timeout_s=300, budget_s=0.1))


def of(figures, variant, metric, **where):
    return next(f for f in figures if (f.digest, f.metric, f.slice) == (f"digest of {variant}", metric, where))


def test_every_figure_of_every_file(figures):
    """With unit, payload and, where it depends on it, the machine."""
    for variant in ("float32", "int8"):
        own = [figure for figure in figures if figure.digest == f"digest of {variant}"]
        assert {figure.metric for figure in own} == METRICS
        for figure in own:
            assert figure.payload == "tflite"
            assert figure.unit == PROFILED[figure.metric].unit
            assert figure.value is not None
            assert math.isfinite(figure.value)
            assert bool(figure.machine) == (figure.metric not in ("size_mb", "compressed_size_mb", "arena_mb"))


def test_latency_has_an_interval_and_a_ratio(figures):
    """The ratio to the file that devices have stands on the other one alone."""
    figure = of(figures, "int8", "latency_p50_ms")
    assert figure.interval[0] <= figure.value <= figure.interval[1]
    assert figure.ratio_interval[0] <= figure.ratio_to_champion <= figure.ratio_interval[1]
    assert figure.batch_size == 1
    assert of(figures, "float32", "latency_p50_ms").ratio_to_champion is None


def test_percentiles_rise(figures):
    """By their definition."""
    p50, p95, p99 = (of(figures, "float32", f"latency_p{q}_ms").value for q in (50, 95, 99))
    assert 0 < p50 <= p95 <= p99


def test_a_file_that_does_not_run_is_told(ladder, tmp_path):
    """Its figures have no value, and say why; the other file is measured all the same."""
    content = bytearray(ladder.file("float32").read_bytes())
    broken = tmp_path / "model.tflite"
    broken.write_bytes(content)
    row = {name: values[:1] for name, values in ladder.rows.items() if name != "number"}
    found = costs({"float32": broken}, {"float32": "d"}, row, "m", limits=Limits(timeout_s=300, budget_s=0.05))
    told = {figure.metric: figure.why_not for figure in found if figure.value is None}
    assert set(told) == {"peak_memory_mb", "load_time_ms", "latency_p50_ms", "latency_p95_ms", "latency_p99_ms"}
    assert all("takes number" in why for why in told.values())
