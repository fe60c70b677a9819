"""The source tree for the tests in this folder: its files, each parsed once."""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOUSE = ("client", "store", "model", "index", "service", "worker")
PACKAGES = (*HOUSE, "demo")
GENERATED = {"client.contract"}  # by scripts/clients.py, for programs to read
ALL_PYTHON = (*PACKAGES, "tests", "benchmarks", "scripts")


@dataclass(frozen=True)
class Module:
    """One Python file: its dotted name, its text, its syntax tree."""

    name: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return _parse(self.text)

    @property
    def package(self) -> str:
        return self.name.split(".")[0]

    def list_imports(self, types: bool = True) -> Iterator[tuple[str, int]]:
        """Yield every module imported anywhere in the file, lazily too and, if `types`, for typing, with its line."""
        tree = self.tree if types else ast.Module([node for node in self.tree.body if not _is_for_types(node)], [])
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self._resolve(node)
                yield base, node.lineno
                yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)

    def _resolve(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        above = self.name.split(".")[: -node.level]
        return ".".join([*above, *([node.module] if node.module else [])])


def _is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@cache
def _parse(text: str) -> ast.Module:
    return ast.parse(text)


@cache
def list_modules(*packages: str) -> tuple[Module, ...]:
    """Return the modules of these top-level packages, ordered by name."""
    files = [file for package in packages for file in (ROOT / package).rglob("*.py")]
    files = [file for file in files if "build" not in file.relative_to(ROOT).parts]  # of the client: a copy
    return tuple(Module(_name_module(file), file.read_text(encoding="utf-8")) for file in sorted(files))


def _name_module(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def list_tracked() -> tuple[Path, ...]:
    """Return files under version control, or all that look like it if this is not a checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        files = (ROOT / name for name in listed.stdout.decode().split("\0") if name)
        return tuple(file for file in files if file.is_file())
    hidden = {".git", ".venv", "var", "runs"}
    return tuple(f for f in ROOT.rglob("*") if f.is_file() and not hidden & set(f.relative_to(ROOT).parts))


def is_under(name: str, prefix: str) -> bool:
    """Whether a dotted name is `prefix` or inside it."""
    return name == prefix or name.startswith(prefix + ".")
