"""Stock TFX's Transform on Beam, for what this package cannot do: the same artifact, more slowly."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from components.code import OUR_PACKAGES

__all__ = ["transform"]

_INSTALLED = frozenset(("site-packages", "dist-packages"))


def transform(
    context: Any,
    input_dict: dict[str, list[Any]],
    output_dict: dict[str, list[Any]],
    exec_properties: Mapping[str, Any],
) -> None:
    """Does what `Transform` does, without statistics and without the analyzer cache.

    Args:
        context: of the executor, with the arguments of the Beam engine.
        input_dict, output_dict, exec_properties: of the executor.
    """
    from tfx.components.transform.executor import Executor

    function = exec_properties["preprocessing_fn"]
    properties = {
        "preprocessing_fn": function,
        "disable_statistics": 1,
        "force_tf_compat_v1": 0,
        "custom_config": "null",
    }
    with _carried(list(_own_modules(function.rpartition(".")[0]))):
        Executor(context).Do(input_dict, output_dict, properties)


@contextlib.contextmanager
def _carried(modules: list[ModuleType]) -> Iterator[None]:
    """Has Beam carry modules to its workers, which may be processes that do not have them, in the place of their names."""
    from apache_beam.internal.cloudpickle import register_pickle_by_value, unregister_pickle_by_value

    for module in modules:
        register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            unregister_pickle_by_value(module)


def _own_modules(name: str) -> Iterator[ModuleType]:
    """The user's module and what it has imported from beside it; none where it is installed, as it is for every worker."""
    module = importlib.import_module(name)
    file = Path(module.__file__ or "")
    if _is_installed(name, file):
        return
    root = file.parents[name.count(".") + (file.name == "__init__.py")]
    for other, loaded in list(sys.modules.items()):
        place = Path(getattr(loaded, "__file__", None) or "/")
        if place.is_relative_to(root) and not _is_installed(other, place) and loaded.__name__ == other:
            yield loaded


def _is_installed(name: str, file: Path) -> bool:
    """Whether a module comes with a package, or with ours."""
    return name.partition(".")[0] in (*OUR_PACKAGES, "runners") or not _INSTALLED.isdisjoint(file.parts)
