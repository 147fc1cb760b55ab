"""The same machine has the same fingerprint, busy or not."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import numpy as np
import pytest

from components.profiler import machine as module
from components.profiler.machine import load_average, machine, threads
from components.profiler.memory import peak_mb, reset_peak


def test_the_fingerprint_names_the_machine() -> None:
    """Processor, cores, threads and the version of TensorFlow; not its load."""
    text = machine()
    assert text == machine.__wrapped__()
    assert f"{os.cpu_count()} cores, {threads()} threads" in text
    assert importlib.metadata.version("tensorflow") in text
    assert threads() == len(os.sched_getaffinity(0))
    assert load_average() >= 0


def test_another_processor_is_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its model, and by what governs its clock."""
    monkeypatch.setattr(module, "_CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(module, "_GOVERNOR", tmp_path / "governor")
    without = machine.__wrapped__()
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Abacus 9\n")
    (tmp_path / "governor").write_text("powersave\n")
    found = machine.__wrapped__()
    assert found != without
    assert found.startswith("Abacus 9 (")
    assert "governor powersave" in found


def test_a_peak_is_that_of_memory_that_was_touched() -> None:
    """Also of memory that has been given back; after a reset it begins again."""
    reset_peak()
    before = peak_mb()
    held = np.ones(80_000_000, np.uint8)
    del held
    assert 70 < peak_mb() - before < 120
    reset_peak()
    assert peak_mb() - before < 40


def test_a_kernel_that_keeps_the_peak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old peak stands, and nothing fails; a status without a peak is an error."""
    from components.profiler import memory

    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "nowhere" / "clear_refs")
    reset_peak()
    (tmp_path / "status").write_text("Name:\tpython\n")
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "status")
    with pytest.raises(OSError, match="tells no VmHWM"):
        peak_mb()
