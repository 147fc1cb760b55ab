"""Arrays in a file, by name: written and read without pickling, so that what a stranger could have written is data only."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "load_arrays", "save_arrays"]

Array = npt.NDArray[Any]

_OURS = "="
"""Before each name, so that none is the name of an argument of NumPy's."""


def save_arrays(file: Path, arrays: Mapping[str, Array]) -> None:
    """Writes arrays of numbers or texts; texts become bytes of one width, and lose the zeros at their end."""
    plain: dict[str, Any] = {
        f"{_OURS}{name}": array.astype(np.bytes_) if array.dtype == object else array for name, array in arrays.items()
    }
    with file.open("wb") as out:
        np.savez(out, **plain)


def load_arrays(file: Path) -> dict[str, Array]:
    """Reads what `save_arrays` wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else.
    """
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            return {name.removeprefix(_OURS): stored[name] for name in stored.files}
    except (EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} holds no arrays") from error
