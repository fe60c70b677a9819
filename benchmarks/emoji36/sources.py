"""Digests of sources, so that a method that was changed is not taken for the one before."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path

from store.files import format_json

_OURS = "benchmarks."


@cache
def digest(module: str) -> str:
    """Return hex sha256 of `read_sources`, as they were when it was first asked for."""
    return sha256(format_json(read_sources(module))).hexdigest()


def read_sources(module: str) -> dict[str, str]:
    """Return a loaded module and all of the benchmarks that it imports, by name.

    As they are on disk, without what changes no figure: comments, docstrings, layout.
    """
    found, names = dict[str, str](), [module]
    while names:
        name = names.pop()
        if name not in found:
            tree = ast.parse(Path(str(sys.modules[name].__file__)).read_bytes())
            found[name] = _strip_docstrings(tree)
            names += [each for each in _list_imported(tree) if each.startswith(_OURS) and each in sys.modules]
    return found


def _list_imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{each.name}" for each in node.names))


def _strip_docstrings(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            node.body = node.body[1:]
    return ast.unparse(tree)
