"""A function's name and its docstring begin with a verb; properties and fixtures have nouns for names."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.source import GENERATED, Module, list_modules

# What a name or a sentence may begin with, one a line: whoever needs another verb adds it.
VERBS = {*Path(__file__).with_name("verbs.txt").read_text(encoding="utf-8").split()}
CONVERTERS = {"as", "from", "on", "to", "with", "without"}  # `as_json`, `on_close`: with what
GIVEN = {"main", "lifespan"}  # names that others expect

# (names, docstrings) that begin with no verb today: whoever lowers one lowers it here.
MOST = {
    "client": (0, 0),
    "store": (0, 0),
    "model": (1, 0),
    "index": (0, 0),
    "service": (10, 25),
    "worker": (0, 0),
    "demo": (2, 0),
    "benchmarks": (112, 2),
    "scripts": (0, 0),
    "tests": (322, 106),
}


def list_verbless(module: Module) -> tuple[list[str], list[str]]:
    """List functions whose name begins with no verb, and those whose docstring does; a test's says why it is there."""
    names, docstrings = [], []
    for function in _list_functions(module):
        place, text = f"{module.name}:{function.lineno}: {function.name}", ast.get_docstring(function)
        first, *more = function.name.strip("_").split("_")
        if first not in VERBS | (CONVERTERS if more else GIVEN):
            names.append(place)
        if text and first != "test" and text.split()[0].strip(",.;").lower() not in {*VERBS, "whether"}:
            docstrings.append(f"{place}: {text}")
    return names, docstrings


def _list_functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("__"):
            kinds = " ".join(map(ast.unparse, node.decorator_list))
            if "property" not in kinds and "fixture" not in kinds:
                yield node


@pytest.mark.parametrize("package", MOST)
def test_no_more_begins_without_a_verb_than_today(package: str) -> None:
    found = [list_verbless(module) for module in list_modules(package) if module.name not in GENERATED]
    for kind, most in enumerate(MOST[package]):
        verbless = [place for places in found for place in places[kind]]
        assert len(verbless) <= most, "\n".join(verbless)


def test_a_name_and_a_docstring_without_a_verb_are_found() -> None:
    text = 'class C:\n  def _{}(self): "{}"\n  @property\n  def told(self): "What was told."\n'
    assert list_verbless(Module("m", text.format("told", "What it told."))) == (
        ["m:2: _told"],
        ["m:2: _told: What it told."],
    )
    assert list_verbless(Module("m", text.format("as_json", "Return it as JSON."))) == ([], [])
