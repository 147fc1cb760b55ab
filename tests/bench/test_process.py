"""Cost seen from outside: of the process, of what it starts, and of a part of it."""

from __future__ import annotations

import sys

import pytest

from bench.process import Sample, run_measured, stage

FORKS = """
import os, time
block = bytearray(os.urandom(1 << 20)) * 100
for _ in range(2):
    if os.fork() == 0:
        ended = time.process_time() + 0.5
        while time.process_time() < ended: pass
        time.sleep(1)
        os._exit(0)
os.wait(); os.wait()
print("done")
"""


def test_forked_processes_count_once(tmp_path):
    """Their time in full; pages that they share once in PSS, and for each in RSS."""
    ended = run_measured([sys.executable, "-c", FORKS], tmp_path / "log")
    assert (ended.code, ended.output) == (0, "done\n")
    assert 1.0 <= ended.cost.cpu_s < 3.0
    assert ended.cost.wall_s >= 1.5
    assert 100 < ended.cost.peak_pss_mb < 170
    assert ended.cost.peak_rss_mb > 2.5 * 100
    whole = stage(ended.samples, ended.started, ended.started + ended.cost.wall_s)
    assert 0.5 < whole["cpu_s"] < ended.cost.cpu_s + 0.1  # what is used after the last sample is not seen
    assert whole["peak_mb"] == pytest.approx(ended.cost.peak_pss_mb, abs=0.1)


def test_a_stage_is_what_lies_between():
    """CPU time between samples is interpolated; the peak is that of the samples within and next to it."""
    samples = [Sample(10.0, 0.0, 5, 5), Sample(11.0, 2.0, 9, 9), Sample(12.0, 2.0, 7, 7), Sample(20.0, 4.0, 99, 99)]
    assert stage(samples, 10.5, 12.0) == {"seconds": 1.5, "cpu_s": 1.0, "peak_mb": 9}
    assert stage(samples, 12.0, 16.0)["cpu_s"] == 1.0
    assert stage(samples, 25.0, 26.0) == {"seconds": 1.0, "cpu_s": 0.0, "peak_mb": 99}
