"""The sample data in `data/taxi`, `data/penguin` and `data/digits`, made of files that the installed wheels of tfx and
scikit-learn carry; no download.

Run by `make data` as `python data/samples.py`. What is read and what is written is held against its SHA-256, so that a
figure measured on one machine is measured on the same bytes on another. What already stands is left alone.
"""

from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import importlib.util
import io
import os
import re
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "DIGITS",
    "PENGUIN",
    "SAMPLES",
    "TAXI",
    "Sample",
    "SampleError",
    "digits_csv",
    "main",
    "make",
    "package_folder",
    "penguin_csv",
]

HERE = Path(__file__).resolve().parent


class SampleError(Exception):
    """The wheel does not hold what it should. The message names the file, what was expected and what to do."""


@dataclass(frozen=True)
class Sample:
    """One file of sample data.

    Attributes:
        path: where it is written, below `data/`.
        sha256: of its content.
        sources: path below the package -> SHA-256, in the order in which `convert` takes their contents.
        convert: from the contents of the sources to the content of the file.
        package: whose wheel carries the sources.
    """

    path: str
    sha256: str
    sources: Mapping[str, str]
    convert: Callable[[Sequence[bytes]], bytes]
    package: str = "tfx"


def make(sample: Sample, package: Path, folder: Path = HERE) -> bool:
    """Writes the file unless it stands already; says whether it wrote.

    Args:
        sample: which.
        package: the folder of the sample's package.
        folder: below which the file is written: whole under another name, then renamed.

    Raises:
        SampleError: a source is missing or is not the one that is known; nothing was written.
    """
    target = folder / sample.path
    if target.is_file() and _digest(target.read_bytes()) == sample.sha256:
        return False
    content = sample.convert([_read(package / path, digest) for path, digest in sample.sources.items()])
    _expect(sample.sha256, content, f"{sample.path}, as converted")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")  # hidden: a glob for *.csv never sees it
    unfinished.write_bytes(content)
    unfinished.replace(target)
    return True


def package_folder(package: str) -> Path:
    """Where a package is installed, without importing it, which would take seconds.

    Raises:
        SampleError: it is not.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SampleError(f"{package} is not installed in this Python. Run `make data`, which sets it up.")
    return Path(spec.submodule_search_locations[0])


def _read(path: Path, digest: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SampleError(
            f"{path}: cannot be read ({error.strerror}); expected in the locked wheel. {_REMEDY}"
        ) from error
    _expect(digest, content, str(path))
    return content


def _expect(digest: str, content: bytes, what: str) -> None:
    got = _digest(content)
    if got != digest:
        raise SampleError(f"{what}: SHA-256 is {got}; expected {digest}. {_REMEDY}")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


_REMEDY = "Install the locked packages again: rm -rf .venv && make setup"


# --- penguins ---------------------------------------------------------------------------------------------------------

# The wheel holds the measurements scaled to [0, 1] by these ranges, the extremes of the published table.
_RANGES: dict[str, tuple[float, float]] = {
    "culmen_length_mm": (32.1, 59.6),
    "culmen_depth_mm": (13.1, 21.5),
    "flipper_length_mm": (172, 231),
    "body_mass_g": (2700, 6300),
}
_DECIMALS = {"culmen_length_mm": 1, "culmen_depth_mm": 1, "flipper_length_mm": 0, "body_mass_g": 0}

# Each record is a tf.Example of five features with one value each. The bytes are known by their checksum, so that these
# patterns are enough; TensorFlow's parser would take seconds to load.
_MEASUREMENT = re.compile(rb"\n.(\w+_(?:mm|g))\x12\x08\x12\x06\n\x04(.{4})", re.DOTALL)
_SPECIES = re.compile(rb"\n\x07species\x12\x05\x1a\x03\n\x01(.)", re.DOTALL)


def penguin_csv(shards: Sequence[bytes]) -> bytes:
    """A CSV in millimetres and grams from gzipped TFRecord files of scaled measurements."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_RANGES, "species"])
    for shard in shards:
        writer.writerows(_row(record) for record in _records(gzip.decompress(shard)))
    return out.getvalue().encode("ascii")


def _records(data: bytes) -> Iterator[bytes]:
    """The payloads of a TFRecord file: each stands after its length (8 bytes) and a CRC (4), and before a CRC (4)."""
    position = 0
    while position < len(data):
        (length,) = struct.unpack_from("<Q", data, position)
        yield data[position + 12 : position + 12 + length]
        position += 12 + length + 4


def _row(record: bytes) -> list[str]:
    scaled = {name.decode(): struct.unpack("<f", value)[0] for name, value in _MEASUREMENT.findall(record)}
    species = _SPECIES.search(record)
    if scaled.keys() != _RANGES.keys() or species is None:
        raise SampleError(f"a penguin's record lacks features: it has {', '.join(sorted(scaled))}. {_REMEDY}")
    return [*(_unscaled(name, scaled[name]) for name in _RANGES), str(species[1][0])]


def _unscaled(name: str, share: float) -> str:
    low, high = _RANGES[name]
    return f"{low + share * (high - low):.{_DECIMALS[name]}f}"


# --- digits -----------------------------------------------------------------------------------------------------------

_PIXELS = 64
_WHITE = 16


def digits_csv(contents: Sequence[bytes]) -> bytes:
    """A CSV of images and what they show, from scikit-learn's rows of 64 pixels between 0 and 16 and a digit.

    An image is 8 by 8 pixels of one byte, 0 black to 255 white, row by row, as web-safe base64 without padding.
    """
    (content,) = contents
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["image", "digit"])
    for row in csv.reader(gzip.decompress(content).decode("ascii").splitlines()):
        pixels = bytes(int(float(value)) * 255 // _WHITE for value in row[:_PIXELS])
        writer.writerow([base64.urlsafe_b64encode(pixels).decode("ascii").rstrip("="), int(float(row[_PIXELS]))])
    return out.getvalue().encode("ascii")


# --- what there is ----------------------------------------------------------------------------------------------------

_TAXI_DIGEST = "cdaf0b5931442ef47693f408f25a37af710aca23fccb90a78f00930e89548805"
_SHARD = "components/testdata/penguin/data/Split-{}/data_tfrecord-00000-of-00001.gz"

TAXI = Sample(
    path="taxi/data.csv",
    sha256=_TAXI_DIGEST,
    sources={"examples/chicago_taxi_pipeline/data/simple/data.csv": _TAXI_DIGEST},
    convert=b"".join,
)
PENGUIN = Sample(
    path="penguin/data.csv",
    sha256="72063594c45e9453ed541a5e08614f575bd04a34a42e33e072e44ba27e421512",
    sources={
        _SHARD.format("train"): "79b4b312b978da32514fb459dc5d7df7b50fcaa4a8696a6d1a72bb3f45f193c3",
        _SHARD.format("eval"): "4b64f7f0ff513919bcc91d341a82c7aca1a6d77002c9f7e478330510ded8511f",
    },
    convert=penguin_csv,
)
DIGITS = Sample(
    path="digits/data.csv",
    sha256="26b0980478642acde007e4189ac220e7e87dbaf27c88de34de361e6bebdaa3be",
    sources={"datasets/data/digits.csv.gz": "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"},
    convert=digits_csv,
    package="sklearn",
)
SAMPLES = (TAXI, PENGUIN, DIGITS)


def main() -> int:
    """Makes all of them; 0, or 1 with the reason on standard error."""
    try:
        for sample in SAMPLES:
            if make(sample, package_folder(sample.package)):
                print(f"data/{sample.path} written")
    except (SampleError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
