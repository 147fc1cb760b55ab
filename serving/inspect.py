"""What a payload is and holds, read from its bytes: no model is loaded, nothing is unpickled or executed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving import payload, saved_model_file, tflite_file
from serving.saved_model_file import SavedModelFile
from serving.tflite_file import TFLiteFile

__all__ = ["Inspection", "inspect"]


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        path: of the payload itself.
        digest: that names its bytes.
        size_bytes: of all its files.
        compressed_bytes: of a `.tflite` file, packed with gzip; None for a SavedModel.
        content: what it holds.
    """

    path: str
    kind: payload.Kind
    digest: str
    size_bytes: int
    compressed_bytes: int | None
    content: SavedModelFile | TFLiteFile

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "path": self.path,
            "kind": self.kind,
            "digest": self.digest,
            "size_bytes": self.size_bytes,
            "compressed_bytes": self.compressed_bytes,
            **{key: value for key, value in self.content.as_dict().items() if key != "size_bytes"},
        }


def inspect(path: str | os.PathLike[str]) -> Inspection:
    """Looks into a SavedModel directory, a `.tflite` file, or a version directory that holds one.

    Raises:
        NotAPayloadError: it is none of them, or is damaged.
        StoreError: it cannot be read.
    """
    found = _payload(Path(path))
    if payload.kind(found) == "tflite":
        content: SavedModelFile | TFLiteFile = tflite_file.read(found)
        compressed: int | None = tflite_file.compressed_bytes(found)
    else:
        content, compressed = saved_model_file.read(found), None
    return Inspection(
        str(found), payload.kind(found), payload.digest(found), payload.size_bytes(found), compressed, content
    )


def _payload(path: Path) -> Path:
    inner = path / payload.TFLITE_NAME
    return inner if path.is_dir() and inner.is_file() else path
