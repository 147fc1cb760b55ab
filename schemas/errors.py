"""The tree of errors, each of which says which thing, what was expected, what came and what to do.

    SatisficeError                 exit code 1
    |-- ConfigError                2   the configuration (or the command line) is wrong; holds every fault found
    |   `-- UserModuleError        2   the user's model module does not import or lacks a function
    |-- DataError                  1   the data cannot be ingested or trained on
    |   |-- MissingColumnError     1   a column of the schema is not in the file
    |   `-- BadValueError          1   a value does not parse as its column's type
    |-- MetadataError              1   the metadata store cannot be read, or lacks what was asked for
    |-- NodeFailedError            1   a node of the pipeline failed
    |-- RootLockedError            1   another run holds the same pipeline root
    |-- InterpreterError         1   a `.tflite` file does not load, or does not run, in LiteRT's interpreter
    |-- ApprovalError              1   a decision cannot be approved or rejected
    |-- TuningError                1   a search for hyperparameters cannot go on
    |   `-- NoTrialWonError        1   no trial of a search can ship, or none could be trained
    |-- KubeflowError              1   the API of Kubeflow Pipelines cannot be reached, or refuses
    |-- KubernetesError            1   the API of Kubernetes cannot be reached, or refuses; a pod does not start
    `-- StoreError                 1   the version store refuses or cannot act
        |-- StoreBusyError         1   another publisher holds the base path's lock
        |-- DigestMismatchError    1   bytes are not the ones that were measured
        |-- NotAPayloadError       1   a directory is not a servable payload
        |-- RolledBackError        3   the bytes were rolled back, and nobody has allowed them since
        |-- EarlierSpanError       3   what serves was trained on later data
        `-- SupersededError        3   a rollback was made since it was decided to publish

The exit codes are those of the command line: 0 done, 1 failed, 2 bad configuration or usage, 3 blocked, 4 waits for
approval. A block is no error: it is a `schemas.decision.Decision`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

__all__ = [
    "ApprovalError",
    "BadValueError",
    "ConfigError",
    "DataError",
    "DigestMismatchError",
    "EarlierSpanError",
    "Fault",
    "InterpreterError",
    "KubeflowError",
    "KubernetesError",
    "MetadataError",
    "MissingColumnError",
    "NoTrialWonError",
    "NodeFailedError",
    "NotAPayloadError",
    "RolledBackError",
    "RootLockedError",
    "SatisficeError",
    "StoreBusyError",
    "StoreError",
    "SupersededError",
    "TuningError",
    "UserModuleError",
    "close_match",
    "find_cause",
    "from_record",
    "shorten",
    "spell",
]

_SHOWN = 120


def shorten(value: object, limit: int = _SHOWN) -> str:
    """The value as text of at most `limit` characters, with an ellipsis where it was cut."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def spell(value: object) -> str:
    """A value of a configuration as a file spells it: text in quotes, `null`, `true`; shortened.

    >>> spell("auto"), spell(None), spell([True, 2])
    ("'auto'", 'null', '[true, 2]')
    """
    return shorten(repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def close_match(word: str, words: Iterable[str]) -> str | None:
    """The one of `words` that `word` was probably meant to be, or None; upper and lower case do not matter.

    >>> close_match("trainig", ["training", "data"])
    'training'
    """
    known = {name.casefold(): name for name in words}
    matches = difflib.get_close_matches(word.casefold(), known, n=1, cutoff=0.6)
    return known[matches[0]] if matches else None


class SatisficeError(Exception):
    """The base of all errors that a user can cause or mend. `str()` is the whole message.

    Attributes:
        thing: what the error is about (a path, a column, a gate, a node).
        expected: what would have been right, or "" where the message says it.
        got: what came instead, shortened.
        remedy: what to do.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, thing: str, problem: str, *, expected: str = "", got: object = "", remedy: str = "") -> None:
        self.thing = thing
        self.problem = problem
        self.expected = expected
        self.got = shorten(got) if got != "" else ""
        self.remedy = remedy
        parts = [f"{thing}: {problem}"]
        if expected:
            parts.append(f"expected {expected}")
        if self.got:
            parts.append(f"got {self.got}")
        text = "; ".join(parts)
        super().__init__(f"{text.removesuffix('.')}. {remedy}" if remedy else text)

    def say_instead(self, words: str, instead: str) -> None:
        """Puts other words into the message: a place that is gone when it is read has another name."""
        self.remedy = self.remedy.replace(words, instead)
        self.args = tuple(one.replace(words, instead) if isinstance(one, str) else one for one in self.args)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles by its fields, so that an error crosses from a worker process whole."""
        return _revive, (type(self), self.args, self.__dict__)

    def as_dict(self) -> dict[str, object]:
        """The fields for `--json` output."""
        return {
            "error": type(self).__name__,
            "thing": self.thing,
            "problem": self.problem,
            "expected": self.expected,
            "got": self.got,
            "remedy": self.remedy,
            "exit_code": self.exit_code,
        }


def _revive(kind: type[SatisficeError], args: tuple[object, ...], fields: dict[str, object]) -> SatisficeError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a configuration.

    Attributes:
        path: dotted path of the key, with list indexes (`gates.satisfy.0.min`); "" for the file itself.
        problem: what is wrong, in words.
        expected: what would be right.
        got: the value that was there, shortened; "" where none was.
        close_match: the known key or name that was probably meant, or None.
    """

    path: str
    problem: str
    expected: str = ""
    got: str = ""
    close_match: str | None = None

    def __str__(self) -> str:
        text = f"{self.path or '(file)'}: {self.problem}"
        if self.expected:
            text += f"; expected {self.expected}"
        if self.got:
            text += f"; got {self.got}"
        if self.close_match:
            text += f" (did you mean {self.close_match!r}?)"
        return text

    def as_dict(self) -> dict[str, object]:
        """The fields for `--json` output."""
        return {
            "path": self.path,
            "problem": self.problem,
            "expected": self.expected,
            "got": self.got,
            "close_match": self.close_match,
        }


class ConfigError(SatisficeError):
    """A configuration or a command line is wrong. Holds every fault that was found, not only the first."""

    exit_code = 2

    def __init__(self, source: str, faults: Sequence[Fault]) -> None:
        self.source = source
        self.faults = tuple(faults)
        count = "1 fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
        lines = "\n".join(f"  - {fault}" for fault in self.faults)
        super().__init__(source, f"{count}:\n{lines}")
        self.problem = count

    def as_dict(self) -> dict[str, object]:
        """The fields for `--json` output, with one entry per fault."""
        return {**super().as_dict(), "faults": [fault.as_dict() for fault in self.faults]}


class UserModuleError(ConfigError):
    """The user's model module does not import, or lacks a function, or a function takes other arguments."""


class DataError(SatisficeError):
    """The data cannot be ingested or trained on."""


class MissingColumnError(DataError):
    """A column that the schema or the configuration names is not in the file."""


class BadValueError(DataError):
    """A value does not parse as its column's type; file, line and column are named."""


class MetadataError(SatisficeError):
    """The metadata store cannot be read, or does not hold what was asked for."""


class NodeFailedError(SatisficeError):
    """A node of the pipeline failed; names the node, the cause, the log and the command that resumes."""


class RootLockedError(SatisficeError):
    """Another run holds the same pipeline root."""


class InterpreterError(SatisficeError):
    """A `.tflite` file does not load, or does not run, in LiteRT's interpreter."""


class ApprovalError(SatisficeError):
    """A decision cannot be approved or rejected: it waits for nobody, or no longer."""


class TuningError(SatisficeError):
    """A search for hyperparameters cannot go on: its workers are killed, or the model does not log the objective."""


class NoTrialWonError(TuningError):
    """A search came to its end without a winner: every trial violates a gate, or none could be trained."""


class KubeflowError(SatisficeError):
    """The API of Kubeflow Pipelines cannot be reached, or refuses what it was asked for."""


class KubernetesError(SatisficeError):
    """The API of Kubernetes cannot be reached or refuses what it was asked for, or a pod cannot do what it is there for."""


class StoreError(SatisficeError):
    """The version store refuses an act, or cannot carry it out; nothing that was published is touched."""


class StoreBusyError(StoreError):
    """Another publisher holds the lock of the base path."""


class DigestMismatchError(StoreError):
    """The bytes are not the ones that were measured, or not the ones that were written."""


class NotAPayloadError(StoreError):
    """A directory is not a servable payload (no saved_model.pb, no .tflite file)."""


class RolledBackError(StoreError):
    """The bytes were rolled back: they are not published again until somebody allows it."""

    exit_code = 3


class SupersededError(StoreError):
    """Somebody rolled back since it was decided to publish: the decision knew nothing of what serves now."""

    exit_code = 3


class EarlierSpanError(StoreError):
    """What serves was trained on later data of the same pipeline."""

    exit_code = 3


def from_record(record: Mapping[str, Any]) -> SatisficeError:
    """The error that `as_dict` made a record of, as it comes from a worker process."""
    kinds = {kind.__name__: kind for kind in _tree(SatisficeError)}
    kind = kinds.get(str(record["error"]), SatisficeError)
    if issubclass(kind, ConfigError):
        return kind(str(record["thing"]), [Fault(**fault) for fault in record["faults"]])
    fields = {name: record[name] for name in ("expected", "got", "remedy")}
    return kind(str(record["thing"]), str(record["problem"]), **fields)


def _tree(kind: type[SatisficeError]) -> Iterator[type[SatisficeError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


def find_cause(error: BaseException) -> SatisficeError | None:
    """The first error of ours in the chain of causes and contexts of `error`, or None."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if isinstance(current, SatisficeError):
            return current
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return None
