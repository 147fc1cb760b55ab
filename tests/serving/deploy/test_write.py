"""Writing what was rendered: whole files, nothing of others overwritten, nothing touched that is the same."""

from __future__ import annotations

import os

import pytest

from schemas.errors import SatisficeError
from serving.deploy.render import File
from serving.deploy.write import MANIFEST, write

FILES = {"a/b.txt": File("one", ""), "c.txt": File("two", ""), "key.pem": File("secret", "", secret=True)}


def contents(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_again_and_again(tmp_path):
    """The second time nothing is touched; what is no longer rendered goes, with a folder that is left empty."""
    folder = tmp_path / "out"
    assert write(FILES, folder).written == tuple(FILES)
    assert (folder / "key.pem").stat().st_mode & 0o777 == 0o600
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.txt")}
    (folder / "of-others.txt").write_text("mine")
    done = write(FILES, folder)
    assert (done.written, done.unchanged) == ((), tuple(FILES))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    done = write({"c.txt": File("three", "")}, folder)
    assert (done.written, done.removed) == (("c.txt",), ("a/b.txt", "key.pem"))
    assert {name: text for name, text in contents(folder).items() if name != MANIFEST} == {
        "c.txt": "three",
        "of-others.txt": "mine",
    }
    assert not (folder / "a").exists()


@pytest.mark.parametrize("name", ["c.txt", "a/b.txt"])
def test_what_was_edited_stays(tmp_path, name):
    """Until told otherwise; nothing else is written either."""
    write(FILES, tmp_path)
    (tmp_path / name).write_text("edited")
    before = contents(tmp_path)
    new = {path: File(file.text + "!", file.about, file.secret) for path, file in FILES.items()}
    with pytest.raises(SatisficeError, match=rf"not as they were rendered: {name}"):
        write(new, tmp_path)
    assert contents(tmp_path) == before
    write(new, tmp_path, force=True)
    assert (tmp_path / name).read_text().endswith("!")


def test_a_file_of_others_in_the_place(tmp_path):
    """Is not overwritten."""
    (tmp_path / "c.txt").write_text("mine")
    with pytest.raises(SatisficeError, match=r"not as they were rendered: c\.txt"):
        write(FILES, tmp_path)
    assert contents(tmp_path) == {"c.txt": "mine"}


def test_a_secret_that_others_can_read(tmp_path):
    """Is written anew for its owner alone."""
    write(FILES, tmp_path)
    (tmp_path / "key.pem").chmod(0o644)
    assert write(FILES, tmp_path).written == ("key.pem",)
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600


def test_a_disk_that_refuses(tmp_path, monkeypatch):
    """Leaves every file as it was, and no staging behind."""
    write(FILES, tmp_path)
    before = contents(tmp_path)
    calls = iter(range(100))
    fsync = os.fsync

    def full(descriptor):
        if next(calls) == 1:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SatisficeError, match="No space left on device"):
        write({path: File(file.text + "!", "") for path, file in FILES.items()}, tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("text", ["odd", "[]", '{"files": 3}', '{"files": {"../outside.txt": "x", "/etc/x": "y"}}'])
def test_a_manifest_that_is_none(tmp_path, text):
    """Vouches for nothing, and nothing outside the folder is touched."""
    folder = tmp_path / "out"
    folder.mkdir()
    (tmp_path / "outside.txt").write_text("mine")
    (folder / MANIFEST).write_text(text)
    assert write(FILES, folder, force=True).removed == ()
    assert (tmp_path / "outside.txt").read_text() == "mine"


def test_a_folder_where_a_file_belongs(tmp_path):
    """Is named."""
    (tmp_path / "c.txt").mkdir()
    with pytest.raises(SatisficeError, match=r"c\.txt.*cannot be read"):
        write(FILES, tmp_path)


def test_a_file_where_a_folder_belongs(tmp_path):
    """Is named."""
    (tmp_path / "a").write_text("mine")
    with pytest.raises(SatisficeError, match="cannot be"):
        write(FILES, tmp_path)
