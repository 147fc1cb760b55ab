"""A base path that does not exist yet, and four payloads."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.store import VersionStore
from tests.serving.store.payloads import publish, saved_model


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "serving_models" / "taxi"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved_model(tmp_path / "model")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return saved_model(tmp_path / "other", "another graph")


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """Four payloads that differ."""
    return [saved_model(tmp_path / f"model-{number}", f"graph {number}") for number in range(1, 5)]


@pytest.fixture
def store(base: Path, models: list[Path]) -> VersionStore:
    """A store with the first three of `models` as versions 1 to 3."""
    store = VersionStore(base)
    for model in models[:3]:
        publish(store, model)
    return store
