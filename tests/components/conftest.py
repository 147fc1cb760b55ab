"""What the tests of the components share."""

import pytest


@pytest.fixture(scope="session")
def first_run(taxi):
    """The artifacts of the small pipeline's first run."""
    from tests.components.first_run import first_run_of

    return first_run_of(taxi)
