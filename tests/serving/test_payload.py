"""What `serving.payload` counts as a payload, and what its digest does and does not depend on."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import NotAPayloadError, StoreError
from serving import payload


def saved_model(folder: Path, **extra: bytes) -> Path:
    """A directory that passes for a SavedModel; `extra` files lie at its top."""
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "fingerprint.pb").write_bytes(b"run 1")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    for name, content in extra.items():
        (folder / name).write_bytes(content)
    return folder


def test_digest_is_the_documented_one(tmp_path: Path) -> None:
    """The digest is SHA-256 over sorted `path NUL sha256 LF` lines: other programs can compute it too."""
    graph, index = (hashlib.sha256(content).hexdigest() for content in (b"graph", b"index"))
    lines = f"saved_model.pb\0{graph}\nvariables/variables.index\0{index}\n"
    assert payload.digest(saved_model(tmp_path / "m")) == hashlib.sha256(lines.encode()).hexdigest()


def test_digest_ignores_place_times_fingerprint_and_empty_folders(tmp_path: Path) -> None:
    """Identical trainings have one digest although `fingerprint.pb` differs."""
    first = saved_model(tmp_path / "a")
    second = Path(shutil.copytree(first, tmp_path / "elsewhere" / "b"))
    (second / "fingerprint.pb").write_bytes(b"run 2")
    (second / "assets").mkdir()
    os.utime(second / "saved_model.pb", (0, 0))
    assert payload.digest(first) == payload.digest(second)


def test_only_the_fingerprint_at_the_top_is_left_out(tmp_path: Path) -> None:
    """An asset that happens to be called fingerprint.pb is content like any other."""
    model = saved_model(tmp_path / "m")
    before = payload.digest(model)
    (model / "variables" / "fingerprint.pb").write_bytes(b"x")
    assert payload.digest(model) != before


@pytest.mark.parametrize("change", ["content", "name", "new", "gone"])
def test_digest_sees_every_change(tmp_path: Path, change: str) -> None:
    """Content, names and the set of files all count."""
    model = saved_model(tmp_path / "m")
    before = payload.digest(model)
    index = model / "variables" / "variables.index"
    match change:
        case "content":
            index.write_bytes(b"indey")
        case "name":
            index.rename(index.with_name("variables.indey"))
        case "new":
            (model / "keras_metadata.pb").write_bytes(b"")
        case "gone":
            index.unlink()
    assert payload.digest(model) != before


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
LISTS = st.dictionaries(NAMES, st.binary(max_size=3).map(lambda b: hashlib.sha256(b).hexdigest()), max_size=4)


@given(LISTS, LISTS)
def test_two_lists_have_one_digest_only_where_they_are_equal(one: dict[str, str], other: dict[str, str]) -> None:
    """Names with blanks or line ends cannot make two different payloads look alike; order does not matter."""

    def digest(names: dict[str, str]) -> str:
        return payload.digest_of(payload.PayloadFile(name, 1, sha) for name, sha in reversed(names.items()))

    assert (digest(one) == digest(other)) == (
        {n: s for n, s in one.items() if n != "fingerprint.pb"}
        == {n: s for n, s in other.items() if n != "fingerprint.pb"}
    )


def test_files_lists_all_of_them_sorted_with_size_and_sum(tmp_path: Path) -> None:
    """`files` names every file, fingerprint.pb included; `size_bytes` adds them up."""
    model = saved_model(tmp_path / "m")
    assert [(file.path, file.size) for file in payload.files(model)] == [
        ("fingerprint.pb", 5),
        ("saved_model.pb", 5),
        ("variables/variables.index", 5),
    ]
    assert payload.files(model)[1].sha256 == hashlib.sha256(b"graph").hexdigest()
    assert payload.size_bytes(model) == 15


def test_kind(tmp_path: Path) -> None:
    """Binary and text SavedModels and .tflite files are payloads."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "saved_model.pbtxt").write_bytes(b"graph")
    (tmp_path / "m.tflite").write_bytes(b"flat")
    assert payload.kind(saved_model(tmp_path / "m")) == "saved_model"
    assert payload.kind(tmp_path / "text") == "saved_model"
    assert payload.kind(tmp_path / "m.tflite") == "tflite"


def test_a_tflite_file_is_named_by_its_content_alone(tmp_path: Path) -> None:
    """The exporter's name for the file does not change the digest; in the store it is model.tflite."""
    for name in ("int8.tflite", "model.tflite"):
        (tmp_path / name).write_bytes(b"flat")
    assert payload.digest(tmp_path / "int8.tflite") == payload.digest(tmp_path / "model.tflite")
    assert [file.path for file in payload.files(tmp_path / "int8.tflite")] == ["model.tflite"]
    assert payload.size_bytes(tmp_path / "int8.tflite") == 4


def test_what_is_no_payload_is_refused_by_name(tmp_path: Path) -> None:
    """Each refusal says which path, what was expected and what was there."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder").mkdir()
    for name in ("a", "b", "c", "d", "e", "f"):
        (tmp_path / "folder" / name).touch()
    (tmp_path / "model.h5").write_bytes(b"x")
    (tmp_path / "cut.tflite").touch()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "saved_model.pb").touch()
    os.mkfifo(tmp_path / "pipe")
    for name, words in {
        "empty": "is a directory without a SavedModel; expected saved_model.pb or saved_model.pbtxt in it; got nothing",
        "folder": "got a, b, c, d, e, …",
        "model.h5": "is a file of another kind; expected a name that ends in .tflite",
        "cut.tflite": "is empty",
        "cut": "saved_model.pb: is empty",
        "pipe": "is neither a file nor a directory",
        "nowhere": "does not exist; expected a SavedModel directory or a .tflite file",
    }.items():
        for question in (payload.kind, payload.digest, payload.files, payload.size_bytes):
            with pytest.raises(NotAPayloadError) as caught:
                question(tmp_path / name)
            assert str(tmp_path / name) in str(caught.value)
            assert words in str(caught.value)


def test_a_link_inside_counts_as_its_content(tmp_path: Path) -> None:
    """A link to a file of the same payload ships the bytes it points to."""
    linked, plain = saved_model(tmp_path / "a"), saved_model(tmp_path / "b", copy=b"graph")
    (linked / "copy").symlink_to("saved_model.pb")
    assert payload.digest(linked) == payload.digest(plain)


def test_links_out_of_the_payload_and_odd_files_are_refused(tmp_path: Path) -> None:
    """Bytes that lie elsewhere, nowhere, or in no file are not what was measured."""
    (tmp_path / "secret").write_bytes(b"x")
    cases = {
        "out": ("../secret", "is a link that leaves the payload, to "),
        "dangling": ("missing", "is a link to nothing"),
        "itself": ("link", "is a link to nothing"),
        "loop": ("variables", "is a link to a directory"),
    }
    for name, (target, words) in cases.items():
        model = saved_model(tmp_path / f"model-{name}")
        (model / "link").symlink_to(target)
        with pytest.raises(NotAPayloadError, match=words) as caught:
            payload.digest(model)
        assert str(model / "link") in str(caught.value)
    model = saved_model(tmp_path / "with-pipe")
    os.mkfifo(model / "pipe")
    with pytest.raises(NotAPayloadError, match="is no regular file"):
        payload.digest(model)


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """Such a name could not stand in the manifest."""
    model = saved_model(tmp_path / "m")
    (Path(os.fsdecode(os.fsencode(model) + b"/\xff"))).touch()
    with pytest.raises(NotAPayloadError, match="has a name that is not UTF-8"):
        payload.digest(model)


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or folder that may not be read is no reason for a traceback."""
    model = saved_model(tmp_path / "m")

    def refuse(path: Path, *arguments: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    for owner, name, path in (
        (Path, "open", "fingerprint.pb"),
        (os, "scandir", ""),
        (os, "listdir", ""),
        (Path, "stat", ""),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, refuse)
            with pytest.raises(
                StoreError, match=r"cannot be read: Permission denied\. Check its permissions"
            ) as caught:
                payload.digest(model)
            assert caught.value.thing == str(model / path)


def test_imports_neither_tensorflow_nor_tfx() -> None:
    """A command that only reads the watch directory answers at once."""
    heavy = ("tensorflow", "tfx", "numpy", "pydantic")
    code = f"import sys, serving.payload; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_file_that_vanishes_while_it_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's clean-up during a digest is an error of ours too, with the file's name."""
    model = saved_model(tmp_path / "m")
    real = Path.is_symlink

    def is_symlink(path: Path) -> bool:
        found = real(path)
        if path.name == "variables.index":
            path.unlink()
        return found

    monkeypatch.setattr(Path, "is_symlink", is_symlink)
    with pytest.raises(StoreError, match="index: cannot be read: No such file or directory"):
        payload.digest(model)
