"""The tiny data set, written once."""

import pytest


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Transformed examples, preprocessing and schema of the tiny data set."""
    from tests.components.trainer.tiny import write_tiny

    return write_tiny(tmp_path_factory.mktemp("tiny"))
