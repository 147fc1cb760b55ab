"""Imports many modules at once, in less time: what a pipeline does not use stays closed, and nothing is collected."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

__all__ = ["import_all", "leave_closed"]


def import_all(modules: Sequence[str]) -> None:
    """Imports modules by name, for good.

    Nothing that an import makes goes away again, so that looking for garbage while it goes on is in vain; it takes a
    third of the time. Nor is it looked through later: what is shared with copies of this process stays shared.
    """
    gc.disable()
    try:
        for module in modules:
            importlib.import_module(module)
    finally:
        gc.freeze()
        gc.enable()


def leave_closed(package: str) -> None:
    """Lets modules of a package be imported without all that its `__init__` imports for convenience.

    Whoever asks the package itself for a name has it opened, and finds there what would have been there.
    """
    if package in sys.modules:
        return
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"no package {package!r}", name=package)
    sys.modules[package] = module = _Closed(package)
    parent, _, name = package.rpartition(".")
    setattr(sys.modules[parent], name, module)
    for key, value in (("__spec__", spec), ("__loader__", spec.loader), ("__file__", spec.origin)):
        setattr(module, key, value)
    module.__package__ = package
    module.__path__ = list(spec.submodule_search_locations or [])


class _Closed(ModuleType):
    """A package whose `__init__` has not been run."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = ModuleType  # type: ignore[assignment]
        assert self.__spec__ is not None
        assert self.__spec__.loader is not None
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)
