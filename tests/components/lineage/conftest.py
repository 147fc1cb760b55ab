"""A metadata store for each test."""

import pytest

from tests.components.lineage.ledger import Ledger


@pytest.fixture
def ledger(tmp_path):
    """An empty store."""
    return Ledger(tmp_path)
