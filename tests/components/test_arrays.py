"""Arrays in files: what was written comes back, and nothing is unpickled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.arrays import load_arrays, save_arrays


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    """Numbers as they are, texts as bytes, under any name."""
    arrays = {"file": np.arange(3), "a/b c": np.ones((2, 0), np.float32), "text": np.array([b"one", b""], object)}
    save_arrays(tmp_path / "arrays.npz", arrays)
    found = load_arrays(tmp_path / "arrays.npz")
    assert found.keys() == arrays.keys()
    np.testing.assert_array_equal(found["file"], arrays["file"])
    assert found["a/b c"].shape == (2, 0)
    assert found["text"].tolist() == [b"one", b""]


def test_objects_are_refused(tmp_path: Path) -> None:
    """A file that only unpickling would read is none of ours."""
    with (tmp_path / "objects.npz").open("wb") as file:
        np.savez(file, objects=np.array([{}], object))
    with pytest.raises(ValueError, match="allow_pickle"):
        load_arrays(tmp_path / "objects.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"text"])
def test_something_else_is_refused(content: bytes, tmp_path: Path) -> None:
    """Whatever it is."""
    (tmp_path / "other.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"holds no arrays|allow_pickle|pickle"):
        load_arrays(tmp_path / "other.npz")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Is told by the system's own error."""
    with pytest.raises(OSError, match="No such file"):
        load_arrays(tmp_path / "arrays.npz")
