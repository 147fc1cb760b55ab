"""A base path that does not exist yet, a bucket that holds nothing yet, and four payloads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.store import VersionStore, open_versions
from serving.store.cloud import CloudVersionStore
from tests.serving.store.fake_gcs import BASE, Bucket, fake_gcs
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


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """What a fake of Google Cloud Storage holds."""
    with fake_gcs() as (held, address):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        yield held


@pytest.fixture
def cloud(bucket: Bucket) -> CloudVersionStore:
    """A store in it, without a version."""
    found = open_versions(BASE)
    assert isinstance(found, CloudVersionStore)
    return found
