"""Examples that are written once, and each preprocessing function transformed both ways, once."""

import pytest

from tests.components.transform.workbench import FUNCTIONS, SCHEMA, transform, write_examples


@pytest.fixture(scope="session")
def examples(tmp_path_factory):
    """A folder with the splits of the workbench's rows, each in one file: Beam keeps no order between files."""
    folder = tmp_path_factory.mktemp("examples")
    write_examples(folder)
    return folder


@pytest.fixture(scope="session")
def examples_in_files(tmp_path_factory):
    """The same rows, `train` in two files, the second gzipped."""
    folder = tmp_path_factory.mktemp("examples_in_files")
    write_examples(folder, files=2)
    return folder


@pytest.fixture
def ours(examples, tmp_path):
    """Transforms the examples with one of the functions."""
    return lambda name: transform(examples, SCHEMA, f"{FUNCTIONS}.{name}", tmp_path / name)


@pytest.fixture
def both(examples, tmp_path):
    """Transforms the examples with one of the functions, in this process and on Beam."""

    def pair(name):
        function = f"{FUNCTIONS}.{name}"
        mine = transform(examples, SCHEMA, function, tmp_path / "ours")
        return mine, transform(examples, SCHEMA, function, tmp_path / "stock", stock=True)

    return pair
