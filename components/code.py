"""A fingerprint of our own code, for the parameters of our nodes: TFX's cache key does not see what a class path runs."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
from pathlib import Path

__all__ = ["OUR_PACKAGES", "code_fingerprint", "library_versions", "sources_digest"]

OUR_PACKAGES = ("schemas", "serving", "components", "pipeline")
"""Those that a node can run."""

_LIBRARIES = (
    "apache-beam",
    "pyarrow",
    "tensorflow",
    "tensorflow-data-validation",
    "tensorflow-model-analysis",
    "tensorflow-transform",
    "tf-keras",
    "tfx",
    "tfx-bsl",
)


@functools.cache
def code_fingerprint(*packages: str) -> str:
    """SHA-256, in hex, over the sources of packages of ours and the versions of the libraries that they call.

    >>> code_fingerprint("components.gate") == code_fingerprint("components.gate")
    True
    """
    digest = hashlib.sha256()
    for package in packages:
        spec = importlib.util.find_spec(package)
        assert spec is not None, package
        assert spec.origin, package
        for file in sorted(Path(spec.origin).parent.glob("*.py")):
            digest.update(f"{package}/{file.name}\0".encode() + file.read_bytes())
    for library, version in library_versions().items():
        digest.update(f"{library}=={version}\n".encode())
    return digest.hexdigest()


def library_versions() -> dict[str, str]:
    """Name to version of the libraries on which what a node puts out depends."""
    return {library: _version(library) for library in _LIBRARIES}


@functools.cache
def _version(library: str) -> str:
    return importlib.metadata.version(library)


def sources_digest() -> str:
    """SHA-256, in hex, over the sources of all our packages that a node can run."""
    digest = hashlib.sha256()
    for package in OUR_PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None, package
        assert spec.origin, package
        for file in sorted(Path(spec.origin).parent.rglob("*.py")):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
