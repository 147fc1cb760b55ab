"""Which model is served, from push records, models, and the bytes that lie there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2 as pb

from components.lineage.served import choose, newest_push, saved_model_of
from serving.payload import digest

BASE = "/serving_models/taxi"


def record(number: int, pushed: int | None, model_id: int = 0, payload: str = "", base_path: str = BASE) -> Any:
    """A Pusher's output; `pushed` None leaves the property out, as stock TFX does where nothing was pushed."""
    artifact = pb.Artifact(id=number)
    if pushed is not None:
        artifact.custom_properties["pushed"].int_value = pushed
    artifact.custom_properties["model_id"].int_value = model_id
    artifact.custom_properties["digest"].string_value = payload
    artifact.custom_properties["base_path"].string_value = base_path
    return artifact


def model(root: Path, number: int, graph: str, fingerprint: str = "") -> Any:
    """A Model artifact with a folder that passes for a SavedModel."""
    artifact = pb.Artifact(id=number, uri=str(root / str(number)))
    folder = saved_model_of(artifact)
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_text(graph)
    (folder / "fingerprint.pb").write_text(fingerprint)
    return artifact


def digest_of(artifact: Any) -> str:
    return digest(saved_model_of(artifact))


def found(candidate: Any | None, pushes: list[Any], models: list[Any]) -> tuple[int | None, int | None]:
    """The ids of the push record and of the champion."""
    served = choose(candidate, pushes, models, BASE)
    return served.push and served.push.id, served.champion and served.champion.id


@pytest.mark.parametrize(
    ("records", "newest"),
    [
        ([], None),
        ([(1, 0), (2, None)], None),
        ([(3, 1), (9, 1), (5, 1)], 9),
        ([(3, 1), (9, 0), (10, None)], 3),
    ],
)
def test_the_newest_record_by_which_something_was_pushed(records: list[Any], newest: int | None) -> None:
    """In whatever order they come; a record of a block or of bytes already served makes no champion."""
    push = newest_push([record(number, pushed) for number, pushed in records], BASE)
    assert (push.id if push is not None else None) == newest


def test_what_was_pushed_elsewhere_does_not_count() -> None:
    """Another watch directory has a champion of its own."""
    records = [record(1, 1), record(2, 1, base_path="/elsewhere")]
    assert newest_push(records, BASE).id == 1  # type: ignore[union-attr]
    assert newest_push(records[1:], BASE) is None


def test_before_the_first_push_there_is_no_champion(tmp_path: Path) -> None:
    """Earlier candidates are none."""
    candidate, older = model(tmp_path, 2, "new"), model(tmp_path, 1, "old")
    blocked = record(5, 0, model_id=1, payload=digest_of(older))
    assert found(candidate, [blocked], [older, candidate]) == (None, None)


def test_the_champion_is_the_model_of_the_newest_push(tmp_path: Path) -> None:
    """Not the newest model, nor the newest that a gate admitted."""
    first, second, blocked, candidate = (model(tmp_path, n, f"graph {n}") for n in (1, 2, 3, 4))
    records = [record(10, 1, 1, digest_of(first)), record(11, 1, 2, digest_of(second)), record(12, 0, 3)]
    assert found(candidate, records, [first, second, blocked, candidate]) == (11, 2)


def test_a_model_is_not_compared_with_itself(tmp_path: Path) -> None:
    """Where the candidate's bytes are those that are served, there is a push record and no champion to evaluate."""
    pushed, candidate = model(tmp_path, 1, "same", "one"), model(tmp_path, 2, "same", "another fingerprint")
    served = record(10, 1, 1, digest_of(pushed))
    assert found(candidate, [served], [pushed, candidate]) == (10, None)
    assert found(pushed, [served], [pushed]) == (10, None)


def test_a_champion_that_is_gone_is_still_served(tmp_path: Path) -> None:
    """The push record stays, so that the gate does not take what it cannot compare for a first run."""
    candidate, pushed = model(tmp_path, 4, "new"), model(tmp_path, 1, "old")
    served = record(10, 1, 1, digest_of(pushed))
    assert found(candidate, [served], [candidate]) == (10, None)
    shutil.rmtree(pushed.uri)
    assert found(candidate, [served], [pushed, candidate]) == (10, None)


def test_a_champion_with_other_bytes_than_were_pushed_is_none(tmp_path: Path) -> None:
    """What would be evaluated is not what is served."""
    candidate, pushed = model(tmp_path, 4, "new"), model(tmp_path, 1, "old")
    served = record(10, 1, 1, digest_of(pushed))
    (saved_model_of(pushed) / "saved_model.pb").write_text("changed")
    assert found(candidate, [served], [pushed, candidate]) == (10, None)


def test_without_a_candidate_the_champion_is_found_all_the_same(tmp_path: Path) -> None:
    """There is nothing whose bytes could be the same."""
    pushed = model(tmp_path, 1, "graph")
    assert found(None, [record(10, 1, 1, digest_of(pushed))], [pushed]) == (10, 1)


def test_it_lies_where_tfx_puts_it() -> None:
    """The folder is TFX's, whose own function for it imports TensorFlow."""
    from tfx.utils import path_utils

    assert str(saved_model_of(pb.Artifact(uri="/model/7"))) == path_utils.serving_model_path("/model/7")


def test_imports_no_tfx() -> None:
    """What decides who is champion can be asked by a command that only reads."""
    code = "import sys, components.lineage.served; print([m for m in ('tensorflow', 'tfx') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
