"""The record of the files that were read."""

from pathlib import Path

from components.lineage.files_read import FilesRead, files_record


def test_there_and_back():
    """What is written is read; of examples without a record nothing is known."""
    digests = {Path("/d/a b.csv"): "1" * 64, Path("/d/ä.csv"): "2" * 64}
    read = FilesRead.of(files_record(digests))
    assert read is not None
    assert read.digests == digests
    assert read.contents == {"1" * 64, "2" * 64}
    assert FilesRead.of("") is None
