"""What all tests share."""

import logging
import os

import pytest
from hypothesis import HealthCheck, settings

from runners.local.template import Template
from tests import order
from tests.nursery import Nursery

# No deadline, nor a limit on how long examples take to draw: what is slow on a busy machine is not wrong. The examples follow
# from the test alone, so that one commit has one verdict; `--hypothesis-profile search` looks for others, and many more.
settings.register_profile(
    "house", deadline=None, max_examples=50, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", settings.get_profile("house"), max_examples=1000, derandomize=False)
settings.load_profile("house")


def pytest_addoption(parser):
    parser.addoption("--renew", action="store_true", help="write golden files anew instead of comparing with them")
    parser.addoption("--renew-durations", action="store_true", help="record what each test file takes")


def pytest_configure(config):
    if config.getoption("--renew-durations") and not in_worker(config):
        config.pluginmanager.register(order.Recorder())


def pytest_collection_modifyitems(config, items):
    if in_worker(config):
        order.longest_first(items)


def in_worker(config):
    """Whether this is one of several processes of pytest-xdist that share the tests."""
    return hasattr(config, "workerinput")


@pytest.fixture(autouse=True)
def environment():
    """What a test, or a command that it calls in its own process, changes in the environment ends with the test."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    for name, value in before.items():  # what has not changed is left alone: threads read it meanwhile
        if os.environ.get(name) != value:
            os.environ[name] = value


@pytest.fixture(autouse=True)
def loggers():
    """What a test, or a command that it calls in its own process, silences speaks again in the next."""
    known = [logging.getLogger(), *logging.root.manager.loggerDict.values()]  # at once: threads may make more meanwhile
    before = [(one, one.level, one.disabled, one.propagate) for one in known if isinstance(one, logging.Logger)]
    yield
    for one, level, disabled, propagate in before:
        if one.level != level:
            one.setLevel(level)
        one.disabled, one.propagate = disabled, propagate


@pytest.fixture(scope="session", autouse=True)
def nursery():
    """Runs in this process get their worker templates without the imports."""
    made = Nursery()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Template, "_start", made.method)
        yield made
    made.close()


@pytest.fixture
def renew(request):
    """True where golden files are to be written and not compared."""
    return request.config.getoption("--renew")


@pytest.fixture(scope="session")
def taxi(tmp_path_factory):
    """A small taxi pipeline that has run once and pushed version 1: read it, copy it, run it anew, but leave version 1."""
    from tests.workbench import taxi_bench

    bench = taxi_bench(tmp_path_factory.mktemp("taxi"))
    answer = bench.run()
    assert answer.code == 0, answer.out + answer.err
    return bench


@pytest.fixture
def fresh_taxi(tmp_path):
    """A small taxi pipeline that has not run."""
    from tests.workbench import taxi_bench

    return taxi_bench(tmp_path / "taxi")


@pytest.fixture(scope="session")
def small_models(tmp_path_factory):
    """A folder with the models of `tests.serving.models` and their `models.config`: read it, copy from it."""
    from tests.serving.models import write_models

    return write_models(tmp_path_factory.mktemp("models")).parent
