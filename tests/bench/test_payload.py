"""Each way of laying rows down gives them all back, as columns and as examples."""

from __future__ import annotations

import pyarrow as pa
import pytest

from bench import payload


@pytest.mark.parametrize("name", list(payload.WAYS))
def test_all_rows_come_back(tmp_path, name):
    """Or the measurement fails."""
    batches = [pa.record_batch({"n": pa.array(range(start, start + 300), pa.int64())}) for start in (0, 300)]
    found = payload._measure(name, batches, tmp_path)
    assert found["rows"] == 600
    assert found["disk_mb"] > 0
    assert set(found) >= {"write", "columns", "examples"}
