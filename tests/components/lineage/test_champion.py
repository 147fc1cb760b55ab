"""The resolver strategy around `components.lineage.served`, as TFX calls it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfx.types import standard_artifacts

from components.lineage.champion import ChampionStrategy
from serving.payload import digest

BASE = "/serving_models/taxi"


def model(root: Path, number: int) -> standard_artifacts.Model:
    artifact = standard_artifacts.Model()
    artifact.id = number
    artifact.uri = str(root / str(number))
    folder = root / str(number) / "Format-Serving"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_text(f"graph {number}")
    return artifact


def push(number: int, pushed: standard_artifacts.Model) -> standard_artifacts.PushedModel:
    artifact = standard_artifacts.PushedModel()
    artifact.id = number
    artifact.set_int_custom_property("pushed", 1)
    artifact.set_int_custom_property("model_id", pushed.id)
    artifact.set_string_custom_property("digest", digest(Path(pushed.uri, "Format-Serving")))
    artifact.set_string_custom_property("base_path", BASE)
    return artifact


def resolve(base_path: str = BASE, **channels: list[Any]) -> dict[str, list[Any]]:
    found = ChampionStrategy(base_path).resolve_artifacts(None, channels)
    assert found is not None
    return found


def test_each_channel_resolves_to_artifacts_of_its_own(tmp_path: Path) -> None:
    """The very artifacts that came in: the candidate, the newest push record and the model that it pushed."""
    old, served, candidate = (model(tmp_path, number) for number in (1, 2, 3))
    records = [push(10, old), push(11, served)]
    found = resolve(candidate=[candidate], served=records, champion=[candidate, served, old])
    assert {key: [id(one) for one in artifacts] for key, artifacts in found.items()} == {
        "candidate": [id(candidate)],
        "served": [id(records[1])],
        "champion": [id(served)],
    }


def test_channels_without_a_champion_resolve_to_nothing(tmp_path: Path) -> None:
    """Empty, and not unresolved: what stands below runs on a first run as well."""
    candidate = model(tmp_path, 1)
    assert resolve(candidate=[candidate], served=[], champion=[candidate]) == {
        "candidate": [candidate],
        "served": [],
        "champion": [],
    }
    same = resolve(candidate=[candidate], served=[push(10, candidate)], champion=[candidate])
    assert (len(same["served"]), same["champion"]) == (1, [])
    assert resolve(candidate=[], served=[], champion=[]) == {"candidate": [], "served": [], "champion": []}


def test_another_base_path_has_another_champion(tmp_path: Path) -> None:
    """The strategy takes it from the graph."""
    old, candidate = model(tmp_path, 1), model(tmp_path, 2)
    found = resolve("/elsewhere", candidate=[candidate], served=[push(10, old)], champion=[old, candidate])
    assert (found["served"], found["champion"]) == ([], [])
