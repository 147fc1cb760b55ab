"""Finds, imports and checks a user's model module when a pipeline is built, before anything runs."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.fingerprint import fingerprint
from schemas.errors import Fault, UserModuleError, close_match

__all__ = ["UserModule", "add_to_path", "load_user_module", "locate_user_module"]

_KEY = "model.module"
_FUNCTIONS = {"preprocessing_fn": ("inputs",), "build_model": ("keras", "features", "hyperparameters")}


@dataclass(frozen=True)
class UserModule:
    """A user's module that imports and holds both functions.

    Attributes:
        name: dotted.
        file: its source.
        preprocessing_fingerprint, build_model_fingerprint: of the code that each function can reach.
    """

    name: str
    file: Path
    preprocessing_fingerprint: str
    build_model_fingerprint: str

    @property
    def preprocessing_fn(self) -> str:
        """Dotted path of the function, as the Transform node takes it."""
        return f"{self.name}.preprocessing_fn"


def add_to_path(folder: Path) -> None:
    """Appends a configuration's folder to `sys.path`: a module in it is found and never shadows an installed one."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def locate_user_module(name: str, folder: Path) -> UserModule:
    """Finds a module and takes its fingerprints without importing it, which would take TensorFlow's seconds.

    Raises:
        UserModuleError: no such module, a name that clashes with another module, a file that is no Python, a module without a file.
    """
    add_to_path(folder)
    _refuse_clash(name, folder)
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    except Exception as error:
        raise _import_failed(name, error) from error
    if spec is None or not spec.has_location or not spec.origin:
        raise UserModuleError(f"module {name}", [_not_found(name, folder)])
    try:
        return _described(name, Path(spec.origin).resolve(), folder)
    except (SyntaxError, ValueError, OSError) as error:  # ValueError: bytes that are no text
        raise _import_failed(name, error) from error


def load_user_module(name: str, folder: Path) -> UserModule:
    """Imports a module and checks that it holds what a pipeline calls.

    Args:
        name: dotted; found beside the configuration or among the installed packages.
        folder: of the configuration; it is appended to `sys.path`.

    Raises:
        UserModuleError: no such module, a name that clashes with another module, an import that fails, a function
            that is missing or takes other arguments.
    """
    add_to_path(folder)
    _refuse_clash(name, folder)
    module = _import(name, folder)
    faults = [fault for function, arguments in _FUNCTIONS.items() for fault in _check(module, function, arguments)]
    if faults:
        raise UserModuleError(f"module {name}", faults)
    return _described(name, Path(inspect.getfile(module)).resolve(), folder)


def _described(name: str, file: Path, folder: Path) -> UserModule:
    roots = [folder, *_root_of(name, file)]
    return UserModule(name, file, fingerprint(file, "preprocessing_fn", roots), fingerprint(file, "build_model", roots))


def _refuse_clash(name: str, folder: Path) -> None:
    """Refuses a module beside the configuration that an installed one of the same name hides."""
    top = name.split(".", maxsplit=1)[0]
    beside = importlib.machinery.PathFinder.find_spec(top, [str(folder)])
    if beside is None or not (_origin(beside)):
        return
    found = importlib.util.find_spec(top)
    if found is not None and not _origin(found) & _origin(beside):
        where = ", ".join(sorted(_origin(found))) or "the Python interpreter"
        raise UserModuleError(
            f"module {name}",
            [Fault(_KEY, f"{top!r} beside the configuration is hidden by another module of that name ({where})",
                   "a name that no installed package has", name)],
        )  # fmt: skip


def _origin(spec: importlib.machinery.ModuleSpec) -> set[str]:
    if spec.origin and spec.origin not in ("built-in", "frozen"):
        return {str(Path(spec.origin).resolve())}
    return {str(Path(place).resolve()) for place in spec.submodule_search_locations or ()}


def _import(name: str, folder: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserModuleError(f"module {name}", [_not_found(name, folder)]) from None
        raise _import_failed(name, error) from error
    except Exception as error:
        raise _import_failed(name, error) from error


def _not_found(name: str, folder: Path) -> Fault:
    expected = f"a module in {folder} or an installed one"
    return Fault(_KEY, "there is no such module", expected, name, _close_name(name, folder))


def _close_name(name: str, folder: Path) -> str | None:
    """The module that was probably meant: the first part that is not there gives way to one that is close to it.

    What is installed counts below its top level only, where there are too many names. Nothing is imported.
    """
    parts = name.split(".")
    places = [str(folder)]
    for depth, part in enumerate(parts):
        inside = [str(place) for parent in (places if depth else [*places, *sys.path])
                  if (place := Path(parent, part)).is_dir()]  # fmt: skip
        if inside and depth < len(parts) - 1:
            places = inside
            continue
        guess = close_match(part, [found.name for found in pkgutil.iter_modules(places)])
        rest = parts[depth + 1 :] if guess != part else []
        meant = ".".join([*parts[:depth], guess, *rest]) if guess else None
        return None if meant == name else meant
    return None


def _import_failed(name: str, error: BaseException) -> UserModuleError:
    where, said = "", str(error)
    if isinstance(error, SyntaxError):
        said = error.msg
        where = f" ({error.filename}, line {error.lineno})"
    elif error.__traceback__ is not None:
        frame = inspect.getinnerframes(error.__traceback__)[-1]
        where = f" ({frame.filename}, line {frame.lineno})"
    text = " ".join(said.split())
    return UserModuleError(
        f"module {name}", [Fault(_KEY, f"does not import: {type(error).__name__}: {text}{where}", "", name)]
    )


def _check(module: ModuleType, function: str, arguments: tuple[str, ...]) -> list[Fault]:
    found: Any = getattr(module, function, None)
    signature = f"{function}({', '.join(arguments)})"
    if found is None:
        guess = close_match(function, [name for name in vars(module) if not name.startswith("_")])
        return [Fault(_KEY, f"lacks the function {function}", signature, "", guess)]
    if not callable(found):
        return [Fault(_KEY, f"{function} is not a function", signature, type(found).__name__)]
    if not _takes(found, len(arguments)):
        return [Fault(_KEY, f"{function} takes other arguments", signature, f"{function}{inspect.signature(found)}")]
    return []


def _takes(function: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    return True


def _root_of(name: str, file: Path) -> list[Path]:
    """The folder from which the module's own package is imported, unless it is an installed package."""
    depth = name.count(".") + (file.name == "__init__.py")
    root = file.parents[depth]
    return [] if "site-packages" in file.parts else [root]
