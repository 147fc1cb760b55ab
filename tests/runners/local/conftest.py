"""A tiny pipeline and a store of its own for each test."""

from __future__ import annotations

import pytest

from tests.runners.local.desk import Desk


@pytest.fixture
def desk(tmp_path):
    """A compiled pipeline, an empty store and a cache, nothing run yet."""
    return Desk(tmp_path)
