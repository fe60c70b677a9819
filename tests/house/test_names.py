"""A function's name and its docstring begin with a verb; properties, fixtures and classes have nouns for names."""

import ast
import builtins
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.house.source import ALL_PYTHON, GENERATED, HOUSE, Module, list_modules

# What a name or a sentence may begin with, one a line: whoever needs another verb adds it.
VERBS = {*Path(__file__).with_name("verbs.txt").read_text(encoding="utf-8").split()}
CONVERTERS = {"as", "from", "on", "to", "with", "without"}  # `as_json`, `on_close`: with what
GIVEN = {"main", "lifespan"}  # names that others expect
PARTICIPLE = re.compile(r"\w+(ed|ing)|Done|Found|Given|Held|Kept|Known|Left|Lost|Made|Shown|Taught|Told|Undone|Written")
NOUNS = {"Embedding", "Encoding", "Finding", "Keyring", "Reading", "Spelling", "Timing", "Training", "Tuning"}
# Classes whose document in `service.schemas` has the same name.
TWINS = {"CaptionHit", "Doubt", "DuplicateGroup", "FacetValue", "PictureHit", "PrunedItem", "ShownRow"}

# Today's (names, docstrings) that begin with no verb, and classes that are participles: who lowers one lowers it here.
MOST = {
    "client": (0, 0, 0),
    "store": (0, 0, 0),
    "model": (1, 0, 0),
    "index": (0, 0, 0),
    "service": (9, 25, 0),
    "worker": (0, 0, 0),
    "demo": (2, 0, 0),
    "benchmarks": (111, 2, 11),
    "scripts": (0, 0, 0),
    "tests": (320, 98, 19),
}


def list_misnamed(module: Module) -> tuple[list[str], list[str], list[str]]:
    """List functions whose name begins with no verb, those whose docstring does, and classes that are participles.

    A test's docstring says why it is there. An exception may say what happened: `PictureNotFound`.
    """
    names, docstrings, classes = [], [], []
    for function in _list_functions(module):
        place, text = f"{module.name}:{function.lineno}: {function.name}", ast.get_docstring(function)
        first, *more = function.name.strip("_").split("_")
        if first not in VERBS | (CONVERTERS if more else GIVEN):
            names.append(place)
        if text and first != "test" and text.split()[0].strip(",.;").lower() not in {*VERBS, "whether"}:
            docstrings.append(f"{place}: {text}")
    for node in _list_classes(module):
        last = re.split("(?=[A-Z])", node.name)[-1]
        if PARTICIPLE.fullmatch(last) and last not in NOUNS and node.name not in find_exceptions():
            classes.append(f"{module.name}:{node.lineno}: {node.name}")
    return names, docstrings, classes


def _list_functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("__"):
            kinds = " ".join(map(ast.unparse, node.decorator_list))
            if "property" not in kinds and "fixture" not in kinds:
                yield node


def _list_classes(module: Module) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef))


@cache
def find_exceptions() -> frozenset[str]:
    """Find the names of exceptions, Python's and those of the tree."""
    known = {
        name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)
    }
    classes = [node for module in list_modules(*ALL_PYTHON) for node in _list_classes(module)]
    bases = {each.name: {ast.unparse(base).rpartition(".")[2] for base in each.bases} for each in classes}
    while more := {name for name, above in bases.items() if known & above} - known:
        known |= more
    return frozenset(known)


@pytest.mark.parametrize("package", MOST)
def test_no_more_is_misnamed_than_today(package: str) -> None:
    found = [list_misnamed(module) for module in list_modules(package) if module.name not in GENERATED]
    for kind, most in enumerate(MOST[package]):
        misnamed = [place for places in found for place in places[kind]]
        assert len(misnamed) <= most, "\n".join(misnamed)


def test_a_verb_that_is_missing_and_a_participle_are_found() -> None:
    text = 'class {}:\n  def _{}(self): "{}"\n  @property\n  def told(self): "What was told."\n'
    assert list_misnamed(Module("m", text.format("MoveSubmitted", "told", "What it told."))) == (
        ["m:2: _told"],
        ["m:2: _told: What it told."],
        ["m:1: MoveSubmitted"],
    )
    for name in ("SubmittedMove", "PictureNotFound", "PictureEmbedding"):
        assert list_misnamed(Module("m", text.format(name, "as_json", "Return it as JSON."))) == ([], [], [])


def test_two_classes_of_one_name_are_one_thing_and_its_document() -> None:
    names = Counter(
        node.name for module in list_modules(*HOUSE) if module.name not in GENERATED for node in _list_classes(module)
    )
    assert {name for name, count in names.items() if count > 1} == TWINS
