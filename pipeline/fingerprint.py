"""A fingerprint of one function of a module: it changes when the code changes that the function can reach.

Comments, blank lines and docstrings do not count, nor does another function of the same module that this one does not
use: changing `build_model` leaves the fingerprint of `preprocessing_fn` as it was.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["fingerprint", "module_fingerprint"]

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def fingerprint(file: Path, function: str, own_roots: Iterable[Path]) -> str:
    """SHA-256 over what a function can reach by name.

    Args:
        file: of the module.
        function: name of a function at its top level.
        own_roots: folders whose modules count as the user's own: one that is imported counts whole, with what it
            imports in turn. Installed packages do not count.

    Returns:
        A hexadecimal digest. It is stable for one minor version of Python. A file that the code reads when it runs is
        not seen.
    """
    roots = [root.resolve() for root in own_roots]
    statements = _reachable(ast.parse(file.read_text(encoding="utf-8"), str(file)), function)
    digest = hashlib.sha256()
    for statement in statements:
        digest.update(_text(statement).encode())
    imported = _imported(statements, _package_of(file, roots))
    for module in sorted(_own_modules(imported, roots, {file.resolve()})):
        digest.update(module.name.encode())
        for statement in ast.parse(module.read_text(encoding="utf-8"), str(module)).body:
            digest.update(_text(statement).encode())
    return digest.hexdigest()


def module_fingerprint(file: Path, own_roots: Iterable[Path]) -> str:
    """SHA-256 over a whole module and what it imports below the roots; see `fingerprint`."""
    roots = [root.resolve() for root in own_roots]
    files = _own_modules(_imported_by(file, roots), roots, {file.resolve()})
    digest = hashlib.sha256()
    for module in [file, *sorted(files)]:
        digest.update(module.name.encode() + b"\0" + module.read_bytes())
    return digest.hexdigest()


def _reachable(tree: ast.Module, function: str) -> list[ast.stmt]:
    """The top-level statements that the function depends on, in the order of the file."""
    by_name: dict[str, list[int]] = {}
    always = set()
    for index, statement in enumerate(tree.body):
        names = [] if _is_star(statement) else list(_bound_by(statement))
        for name in names:
            by_name.setdefault(name, []).append(index)
        if not names and not _is_docstring(statement):
            always.add(index)
    wanted, queue = set(always), [function, *(name for i in always for name in _used_by(tree.body[i]))]
    seen: set[str] = set()
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        for index in by_name.get(name, []):
            wanted.add(index)
            queue += _used_by(tree.body[index])
    return [tree.body[index] for index in sorted(wanted)]


def _bound_by(statement: ast.stmt) -> Iterator[str]:
    """Names that a top-level statement binds; nothing for one that only acts (an expression, an `if`, a loop)."""
    if isinstance(statement, _Definition):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        for alias in statement.names:
            yield (alias.asname or alias.name).split(".")[0]
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def _is_star(statement: ast.stmt) -> bool:
    """`from x import *` binds names that only running it would tell, so it counts for every function."""
    return isinstance(statement, ast.ImportFrom) and any(alias.name == "*" for alias in statement.names)


def _used_by(statement: ast.stmt) -> list[str]:
    return [node.id for node in ast.walk(statement) if isinstance(node, ast.Name)]


def _is_docstring(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _text(statement: ast.stmt) -> str:
    """The statement without comments, positions and docstrings."""
    for node in ast.walk(statement):
        if isinstance(node, _Definition) and node.body and _is_docstring(node.body[0]):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(statement)


def _own_modules(imported: Iterable[str], roots: list[Path], seen: set[Path]) -> set[Path]:
    """Files below the roots that modules of these names are in, and what those import in turn."""
    found: set[Path] = set()
    for name in imported:
        file = _file_of(name, roots)
        if file is None or file in seen:
            continue
        seen.add(file)
        found.add(file)
        found |= _own_modules(_imported_by(file, roots), roots, seen)
    return found


def _imported_by(file: Path, roots: list[Path]) -> tuple[str, ...]:
    return _imported_in(file.read_text(encoding="utf-8"), str(file), _package_of(file, roots))


@functools.lru_cache(maxsize=1024)
def _imported_in(source: str, file: str, package: str) -> tuple[str, ...]:
    """Names that a source imports. Nodes share most of what they import, and parsing it takes much longer than reading it."""
    return tuple(dict.fromkeys(_imported(ast.parse(source, file).body, package)))


def _imported(statements: Iterable[ast.AST], package: str) -> Iterator[str]:
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                    base = ".".join([*parents, base]).strip(".")
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)


def _file_of(name: str, roots: list[Path]) -> Path | None:
    """The source of a dotted module below one of the roots, outside installed packages; else None."""
    if not name or name.split(".", maxsplit=1)[0] in sys.stdlib_module_names:
        return None
    for root in roots:
        stem = root.joinpath(*name.split("."))
        for file in (stem.with_suffix(".py"), stem / "__init__.py"):
            if file.is_file() and "site-packages" not in file.parts:
                return file.resolve()
    return None


def _package_of(file: Path, roots: list[Path]) -> str:
    for root in roots:
        if file.resolve().is_relative_to(root):
            return ".".join(file.resolve().relative_to(root).parent.parts)
    return ""
