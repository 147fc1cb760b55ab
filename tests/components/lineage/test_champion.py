"""Who the champion is, from push records and models."""

from __future__ import annotations

from pathlib import Path

import pytest
from tfx.types import standard_artifacts

from components.lineage.champion import ChampionStrategy
from components.lineage.served import newest_push
from serving.payload import digest


BASE = "/serving/taxi"


def record(
    id: int, pushed: int | None, model_id: int = 0, payload: str = "", base_path: str = BASE
) -> standard_artifacts.PushedModel:
    """A Pusher's output; `pushed` None leaves the property out, as stock TFX does where nothing was pushed."""
    artifact = standard_artifacts.PushedModel()
    artifact.id = id
    if pushed is not None:
        artifact.set_int_custom_property("pushed", pushed)
    artifact.set_int_custom_property("model_id", model_id)
    artifact.set_string_custom_property("digest", payload)
    artifact.set_string_custom_property("base_path", base_path)
    return artifact


def model(root: Path, id: int, graph: str, fingerprint: str = "") -> standard_artifacts.Model:
    """A Model artifact with a folder that passes for a SavedModel."""
    artifact = standard_artifacts.Model()
    artifact.id = id
    artifact.uri = str(root / str(id))
    folder = root / str(id) / "Format-Serving"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_text(graph)
    (folder / "fingerprint.pb").write_text(fingerprint)
    return artifact


def digest_of(artifact: standard_artifacts.Model) -> str:
    return digest(Path(artifact.uri, "Format-Serving"))


def resolve(candidate: list, served: list, champion: list) -> dict:
    """What the strategy finds, as ids."""
    given = {"candidate": candidate, "served": served, "champion": champion}
    found = ChampionStrategy(BASE).resolve_artifacts(None, given)
    assert found is not None
    return {key: [artifact.id for artifact in artifacts] for key, artifacts in found.items()}


@pytest.mark.parametrize(
    ("records", "newest"),
    [
        ([], None),
        ([(1, 0), (2, None)], None),
        ([(3, 1), (9, 1), (5, 1)], 9),
        ([(3, 1), (9, 0), (10, None)], 3),
    ],
)
def test_the_newest_record_by_which_something_was_pushed(records: list, newest: int | None) -> None:
    """In whatever order they come; a record of a block or of bytes already served makes no champion."""
    found = newest_push([record(number, pushed).mlmd_artifact for number, pushed in records], BASE)
    assert (found.id if found else None) == newest


def test_before_the_first_push_there_is_no_champion(tmp_path: Path) -> None:
    """The candidate goes through alone, and earlier candidates are no champions."""
    candidate, older = model(tmp_path, 2, "new"), model(tmp_path, 1, "old")
    blocked = record(5, 0, model_id=1, payload=digest_of(older))
    assert resolve([candidate], [blocked], [older, candidate]) == {"candidate": [2], "served": [], "champion": []}


def test_the_champion_is_the_model_of_the_newest_push(tmp_path: Path) -> None:
    """Not the newest model, nor the newest blessed one."""
    first, second, blocked, candidate = (model(tmp_path, n, f"graph {n}") for n in (1, 2, 3, 4))
    records = [record(10, 1, 1, digest_of(first)), record(11, 1, 2, digest_of(second)), record(12, 0, 3, "")]
    found = resolve([candidate], records, [first, second, blocked, candidate])
    assert found == {"candidate": [4], "served": [11], "champion": [2]}


def test_a_model_is_not_compared_with_itself(tmp_path: Path) -> None:
    """Where the candidate's bytes are those that are served, there is a push record and no champion to evaluate."""
    pushed, candidate = model(tmp_path, 1, "same", "one"), model(tmp_path, 2, "same", "another fingerprint")
    served = record(10, 1, 1, digest_of(pushed))
    assert resolve([candidate], [served], [pushed, candidate]) == {"candidate": [2], "served": [10], "champion": []}
    assert resolve([pushed], [served], [pushed]) == {"candidate": [1], "served": [10], "champion": []}


def test_a_champion_whose_model_is_gone_from_the_store_is_still_served(tmp_path: Path) -> None:
    """The push record stays, so that the gate blocks what it cannot compare and does not take it for a first run."""
    candidate = model(tmp_path, 4, "new")
    assert resolve([candidate], [record(10, 1, 1, "gone")], [candidate]) == {
        "candidate": [4],
        "served": [10],
        "champion": [],
    }


def test_without_a_candidate_the_champion_is_found_all_the_same(tmp_path: Path) -> None:
    """There is nothing whose bytes could be the same."""
    pushed = model(tmp_path, 1, "graph")
    served = record(10, 1, 1, digest_of(pushed))
    assert resolve([], [served], [pushed]) == {"candidate": [], "served": [10], "champion": [1]}


def test_what_was_pushed_elsewhere_is_no_champion_here(tmp_path: Path) -> None:
    """A trial push into a scratch directory must not lower, or raise, what the served model has to be beaten by."""
    served, tried, candidate = (model(tmp_path, n, f"graph {n}") for n in (1, 2, 3))
    records = [record(10, 1, 1, digest_of(served)), record(11, 1, 2, digest_of(tried), base_path="/scratch")]
    found = resolve([candidate], records, [served, tried, candidate])
    assert (found["served"], found["champion"]) == ([10], [1])


@pytest.mark.parametrize("harm", ["gone", "changed"])
def test_a_champion_without_its_bytes_is_not_compared(tmp_path: Path, harm: str) -> None:
    """Its files are gone, or hold other bytes than were pushed: the gate then says that it was not measured."""
    served, candidate = model(tmp_path, 1, "graph"), model(tmp_path, 2, "new")
    pushed = record(10, 1, 1, digest_of(served))
    file = Path(served.uri, "Format-Serving", "saved_model.pb")
    if harm == "gone":
        file.unlink()
    else:
        file.write_text("other")
    found = resolve([candidate], [pushed], [served, candidate])
    assert (found["served"], found["champion"]) == ([10], [])
