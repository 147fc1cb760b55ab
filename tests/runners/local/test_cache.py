"""What names a node's work, what is kept of it, and how damage shows."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_metadata.proto import metadata_store_pb2

from runners.local.cache import Cache, Ingredients, content_digest, files_of

WORK = Ingredients({"steps": "a1", "seed": "b2"}, {"examples": ["c3", "d4"]}, "code", {"tfx": "1.21", "pyarrow": "18"})
OTHER = {
    "parameter steps": replace(WORK, parameters={**WORK.parameters, "steps": "a2"}),
    "parameter new": replace(WORK, parameters={**WORK.parameters, "new": "e5"}),
    "parameter seed": replace(WORK, parameters={"steps": "a1"}),
    "input examples": replace(WORK, inputs={"examples": ["d4", "c3"]}),
    "input model": replace(WORK, inputs={**WORK.inputs, "model": ["f6"]}),
    "library tfx": replace(WORK, libraries={**WORK.libraries, "tfx": "1.22"}),
    "its code": replace(WORK, code="other code"),
}


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def model(tmp_path):
    """An artifact with two files."""
    folder = tmp_path / "root" / "Trainer" / "model" / "7"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "weights").write_bytes(b"weights")
    return metadata_store_pb2.Artifact(id=7, uri=str(folder))


@pytest.mark.parametrize("what", OTHER)
def test_every_ingredient_is_in_the_key(what) -> None:
    """And the difference is told in words."""
    assert OTHER[what].key != WORK.key
    assert OTHER[what].difference(WORK) == f"{what} changed"
    assert WORK.difference(OTHER[what]) == f"{what} changed"


def test_the_order_of_names_is_not_in_the_key() -> None:
    """The same work has the same key, however its parameters were listed."""
    again = replace(WORK, parameters=dict(reversed(WORK.parameters.items())))
    assert again.key == WORK.key
    assert again.difference(WORK) == ""


def test_all_differences_are_told() -> None:
    """In the order parameters, inputs, libraries, code."""
    other = Ingredients({"steps": "z", "seed": "b2"}, {"examples": []}, "new", {})
    assert other.difference(WORK) == (
        "parameter steps changed, input examples changed, library pyarrow changed, library tfx changed, its code changed"
    )


def test_what_is_kept_is_found(cache, model) -> None:
    """By exactly this work of exactly this node."""
    kept = cache.keep("Trainer", WORK, {"model": [model]})
    assert cache.find("Trainer", WORK) == kept
    assert cache.find("Tuner", WORK) is None
    assert [what for what, other in OTHER.items() if cache.find("Trainer", other) is not None] == []
    (record,) = kept.outputs["model"]
    assert (record["id"], record["uri"]) == (7, model.uri)
    assert set(record["files"]) == {"saved_model.pb", "variables/weights"}


BESIDE = replace(WORK, inputs={**WORK.inputs, "champion": ["f6"]})
ALONE = replace(WORK, inputs={**WORK.inputs, "champion": []})


def test_what_was_measured_beside_a_champion_holds_without_one(cache, model) -> None:
    """Where all else is the same; not the other way round, and not beside another champion."""
    kept = cache.keep("Evaluator", BESIDE, {"evaluation": [model]})
    assert cache.find_beside("Evaluator", ALONE, "champion") == kept
    assert cache.find_beside("Evaluator", WORK, "champion") == kept
    other = replace(BESIDE, inputs={**WORK.inputs, "champion": ["a7"]})
    assert cache.find_beside("Evaluator", other, "champion") is None
    for changed in (replace(ALONE, code="other code"), replace(ALONE, inputs={**ALONE.inputs, "examples": ["d4"]})):
        assert cache.find_beside("Evaluator", changed, "champion") is None
    assert cache.find_beside("Profiler", ALONE, "champion") is None
    alone = cache.keep("Profiler", ALONE, {"profile": [model]})
    assert cache.find("Profiler", ALONE) == alone
    assert cache.find_beside("Profiler", BESIDE, "champion") is None


def test_what_is_forgotten_is_gone(cache, model) -> None:
    """Twice does no harm."""
    kept = cache.keep("Trainer", WORK, {"model": [model]})
    cache.forget(kept)
    cache.forget(kept)
    assert cache.find("Trainer", WORK) is None
    assert cache.why_not("Trainer", WORK) == ""


def test_the_newest_is_compared_with(cache, model) -> None:
    """A reason names what is new beside the last work of the node, not beside the first."""
    for age, work in ((20, OTHER["its code"]), (10, OTHER["library tfx"])):
        cache.keep("Trainer", work, {"model": [model]})
        path = cache._path("Trainer", work.key)
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age))
    assert cache.why_not("Trainer", WORK) == "library tfx changed"
    assert cache.why_not("Tuner", WORK) == ""


def test_no_damage_where_there_is_none(cache, model) -> None:
    """Times do not count."""
    kept = cache.keep("Trainer", WORK, {"model": [model]})
    os.utime(Path(model.uri, "saved_model.pb"), (0, 0))
    assert kept.damage() == ""


def test_a_flipped_byte_is_found(cache, model) -> None:
    """Though size and time are as they were."""
    kept = cache.keep("Trainer", WORK, {"model": [model]})
    file = Path(model.uri, "variables", "weights")
    before = file.stat()
    file.write_bytes(b"weighty")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert kept.damage() == "model/variables/weights was changed"


def test_a_lost_file_is_found(cache, model) -> None:
    """And a lost folder."""
    kept = cache.keep("Trainer", WORK, {"model": [model]})
    Path(model.uri, "variables", "weights").unlink()
    assert kept.damage() == "model/variables/weights is gone"
    Path(model.uri).rename(Path(model.uri).with_name("elsewhere"))
    assert kept.damage() == "model/saved_model.pb is gone"


def test_an_added_file_is_found(cache, model) -> None:
    """A reader that takes whatever lies in the folder would take it too."""
    kept = cache.keep("Trainer", WORK, {"model": [model]})
    Path(model.uri, "variables", "weights-2").write_bytes(b"")
    assert kept.damage() == "model/variables/weights-2 was added"


def test_damage_is_asked_for_by_artifacts(cache, model) -> None:
    """Of the entry that put out exactly these; nothing is said of others."""
    cache.keep("Trainer", WORK, {"model": [model]})
    Path(model.uri, "saved_model.pb").unlink()
    assert cache.damage("Trainer", {7}) == "model/saved_model.pb is gone"
    assert cache.damage("Trainer", {8}) == cache.damage("Trainer", {7, 8}) == cache.damage("Tuner", {7}) == ""


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"node": "Trainer"}', '{"node": 1, "ingredients": {"x": 1}}'])
def test_an_entry_that_is_none_is_ignored(cache, model, text) -> None:
    """However it came there; the next work writes over it."""
    cache.keep("Trainer", WORK, {"model": [model]})
    path = cache._path("Trainer", WORK.key)
    path.write_text(text)
    assert cache.find("Trainer", WORK) is None
    assert cache.why_not("Trainer", WORK) == ""
    assert cache.damage("Trainer", {7}) == ""
    cache.keep("Trainer", WORK, {"model": [model]})
    assert cache.find("Trainer", WORK) is not None


def test_a_half_written_entry_is_never_seen(cache, model, monkeypatch) -> None:
    """A process that dies while it writes leaves no entry."""

    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            cache.keep("Trainer", WORK, {"model": [model]})
    assert cache.find("Trainer", WORK) is None
    assert cache.why_not("Trainer", WORK) == ""


def test_an_entry_that_lacks_nothing_is_json(cache, model) -> None:
    """A person can read why something was reused."""
    cache.keep("Trainer", WORK, {"model": [model]})
    raw = json.loads(cache._path("Trainer", WORK.key).read_text())
    assert raw["ingredients"]["libraries"] == {"tfx": "1.21", "pyarrow": "18"}


names = st.text("abc.-", min_size=1, max_size=4).filter(lambda name: name.strip("."))


@given(st.dictionaries(names, st.binary(max_size=8), max_size=5))
def test_content_is_independent_of_place(tmp_path_factory, files) -> None:
    """The same files elsewhere, written in another order, have the same digest; another file has another."""
    digests = []
    for order in (list(files), sorted(files, reverse=True)):
        folder = tmp_path_factory.mktemp("content")
        for name in order:
            (folder / name).write_bytes(files[name])
        digests.append(content_digest(files_of(folder)))
    assert digests[0] == digests[1]
    (folder / "new").write_bytes(b"")
    assert content_digest(files_of(folder)) != digests[0]


def test_names_and_contents_do_not_run_into_each_other() -> None:
    """A file that is renamed is another content."""
    assert content_digest({"a": "1"}) != content_digest({"b": "1"})
    assert content_digest({"a": "1", "b": "2"}) != content_digest({"a": "2", "b": "1"})


def test_what_differs_between_like_trainings_is_not_content(tmp_path) -> None:
    """`fingerprint.pb` does; it is still checked for damage."""
    for name in ("saved_model.pb", "fingerprint.pb"):
        (tmp_path / name).write_bytes(b"1")
    before = content_digest(files_of(tmp_path))
    (tmp_path / "fingerprint.pb").write_bytes(b"2")
    assert content_digest(files_of(tmp_path)) == before
    assert "fingerprint.pb" in files_of(tmp_path)


def test_a_folder_that_is_not_there_has_no_files(tmp_path) -> None:
    """As an artifact whose files were removed."""
    assert files_of(tmp_path / "gone") == {}
