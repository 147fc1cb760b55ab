"""The tree of errors: what a person reads, what a script reads, and that nothing is lost on the way."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas.errors
from schemas.errors import (
    ConfigError,
    DataError,
    Fault,
    MissingColumnError,
    SatisficeError,
    StoreBusyError,
    StoreError,
    UserModuleError,
    close_match,
    find_cause,
    shorten,
    spell,
)

FAULTS = (Fault("training.epohs", "unknown key", "", "3", "epochs"), Fault("", "is empty"))


def kinds(base=SatisficeError):
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


def test_message():
    """Thing, problem, expectation, what came and the remedy, in one line."""
    error = SatisficeError(
        "data.csv", "lacks a column", expected="tips", got=["fare"], remedy="Add the column, or change the schema."
    )
    assert str(error) == (
        "data.csv: lacks a column; expected tips; got ['fare']. Add the column, or change the schema."
    )
    assert str(SatisficeError("data.csv", "is empty")) == "data.csv: is empty"


def test_fields():
    """A script reads the same fields."""
    error = MissingColumnError("data.csv", "lacks a column", expected="tips", got=0, remedy="Add it.")
    assert error.as_dict() == {
        "error": "MissingColumnError",
        "thing": "data.csv",
        "problem": "lacks a column",
        "expected": "tips",
        "got": "0",
        "remedy": "Add it.",
        "exit_code": 1,
    }


def test_what_came_is_bounded():
    """A large value does not flood the message."""
    assert len(str(SatisficeError("x", "is wrong", got="y" * 10_000))) < 200
    assert len(spell({"key": "y" * 10_000})) == 120


def test_config_error():
    """All faults are listed, each on its line; the exit code is that of bad usage."""
    error = ConfigError("satisfice.yaml", FAULTS)
    assert str(error) == (
        "satisfice.yaml: 2 faults:\n"
        "  - training.epohs: unknown key; got 3 (did you mean 'epochs'?)\n"
        "  - (file): is empty"
    )
    assert error.exit_code == 2
    assert str(ConfigError("x", FAULTS[1:])) == "x: 1 fault:\n  - (file): is empty"


def test_config_error_fields():
    """For a script: the fields of any error, and one entry for each fault."""
    assert ConfigError("satisfice.yaml", FAULTS).as_dict() == {
        "error": "ConfigError",
        "thing": "satisfice.yaml",
        "problem": "2 faults",
        "expected": "",
        "got": "",
        "remedy": "",
        "exit_code": 2,
        "faults": [
            {
                "path": "training.epohs",
                "problem": "unknown key",
                "expected": "",
                "got": "3",
                "close_match": "epochs",
            },
            {"path": "", "problem": "is empty", "expected": "", "got": "", "close_match": None},
        ],
    }


def test_tree():
    """Every error is in `__all__` and in the tree of the module's docstring, with its exit code."""
    for kind in kinds():
        assert kind.__name__ in schemas.errors.__all__
        line = next(line for line in schemas.errors.__doc__.splitlines() if kind.__name__ in line)
        words = line.split(kind.__name__)[1].replace("exit code", "").split()
        assert words[0] == str(kind.exit_code)
    assert issubclass(StoreBusyError, StoreError)
    assert issubclass(UserModuleError, ConfigError)


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_errors_cross_processes(kind, way):
    """An error that a worker process raises arrives with every field."""
    error = kind("x", FAULTS) if issubclass(kind, ConfigError) else kind("x", "is wrong", got=1, remedy="Mend it.")
    arrived = way(error)
    assert type(arrived) is kind
    assert str(arrived) == str(error)
    assert arrived.as_dict() == error.as_dict()


def test_find_cause():
    """The first error of ours in a chain is found, through causes and contexts, and a loop ends."""
    ours = DataError("data.csv", "is empty")
    assert find_cause(ours) is ours
    foreign = RuntimeError("a worker failed")
    foreign.__cause__ = ours
    assert find_cause(foreign) is ours
    foreign = RuntimeError("a worker failed")
    foreign.__context__ = ValueError("while")
    foreign.__context__.__context__ = ours
    assert find_cause(foreign) is ours
    assert find_cause(ValueError("alone")) is None
    one, other = ValueError("one"), ValueError("other")
    one.__context__, other.__context__ = other, one
    assert find_cause(one) is None


@given(st.text(), st.integers(1, 200))
def test_shorten(text, limit):
    """Never longer than asked, and what fits is left as it is."""
    short = shorten(text, limit)
    assert len(short) <= limit
    assert short == text or short[-1] == "…"
    assert shorten([1], 10) == "[1]"


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "'a'"), (None, "null"), (True, "true"), (1.5, "1.5"), ({"a": [1, "ä"]}, '{"a": [1, "ä"]}'), ({1}, '"{1}"')],
)
def test_spell(value, text):
    """A value is shown as a file would spell it; text is in quotes, so that "12" is not taken for 12."""
    assert spell(value) == text


@pytest.mark.parametrize(
    ("word", "match"), [("epohs", "epochs"), ("EPOCHS", "epochs"), ("csv", "CSV"), ("zzz", None), ("", None)]
)
def test_close_match(word, match):
    """The known word is given as it is spelled, whatever the case of the other."""
    assert close_match(word, ["epochs", "CSV"]) == match
