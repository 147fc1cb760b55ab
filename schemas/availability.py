"""Keys that are part of the configuration's contract and whose use is not built yet.

They are validated like all others, and refused where they would otherwise be ignored in silence; a default is never
refused. Whoever builds one takes its entry out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.errors import Fault, spell

__all__ = ["LATER", "Later", "faults_of_unavailable_keys", "values_at"]


@dataclass(frozen=True)
class Later:
    """A key of which only some values are acted on.

    Attributes:
        path: dotted, with `*` for each entry of a list.
        what: the thing that is not built yet.
        works: the values that are acted on, the default among them.
        refuses: for a key of which only some texts are not acted on, what tells them; `works` then says nothing.
        instead: what to write instead; "" where it follows from `works`.
    """

    path: str
    what: str
    works: tuple[object, ...] = (None,)
    refuses: Callable[[str], bool] | None = None
    instead: str = ""

    def accepts(self, value: object) -> bool:
        """True where the value is acted on, or is none that the key can hold."""
        if self.refuses:
            return not (isinstance(value, str) and self.refuses(value))
        return value in self.works

    @property
    def expected(self) -> str:
        """What to write instead, in words."""
        words = [spell(value) for value in self.works if value not in (None, {}, [])]
        return self.instead or (" or ".join(words) if words else "this key left out")


def _is_remote(path: str) -> bool:
    return "://" in path


def _is_no_store(path: str) -> bool:
    return _is_remote(path) and not path.startswith("gs://")


_LOCAL = "a path on this machine"
_STORE = f"{_LOCAL}, or gs://BUCKET"

LATER: tuple[Later, ...] = (
    Later("data.source.format", "Avro and BigQuery", ("csv", "parquet", "arrow", "tfrecord")),
    Later("data.source.path", "remote data", refuses=_is_remote, instead=_LOCAL),
    Later("data.schema", "remote schemas", refuses=_is_remote, instead=_LOCAL),
    Later("push.serving.base_path", "remote stores of versions", refuses=_is_no_store, instead=_STORE),
    Later("push.edge.base_path", "remote stores of versions", refuses=_is_no_store, instead=_STORE),
)


def faults_of_unavailable_keys(raw: Mapping[str, Any]) -> list[Fault]:
    """One fault for each key that is set and that nothing would act on.

    Args:
        raw: the configuration as its file spells it, or `PipelineConfig.canonical()`. It need not be valid, so that
            these faults stand in one list with all others.
    """
    return [
        Fault(path, f"not available yet: {later.what}", later.expected, spell(value))
        for later in LATER
        for path, value in values_at(raw, later.path.split("."))
        if not later.accepts(value)
    ]


def values_at(here: object, keys: Sequence[str], path: str = "") -> Iterator[tuple[str, Any]]:
    """The values that stand at a path, each with its own path; `*` is every entry of a list. None where no value is.

    >>> list(values_at({"gates": [{"min": 1}, {"max": 2}]}, ["gates", "*", "min"]))
    [('gates.0.min', 1)]
    """
    if not keys:
        yield path.removeprefix("."), here
        return
    key, *rest = keys
    entries = here.items() if isinstance(here, dict) else enumerate(here) if isinstance(here, list) else ()
    for name, value in entries:
        if name == key or (key == "*" and isinstance(here, list)):
            yield from values_at(value, rest, f"{path}.{name}")
