"""Every row of the tables in docs/reliability.md, and every mended fault, is named by the test that proves it."""

import ast
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.house.source import ROOT, Module, list_modules

ROWS = re.findall(r"^\| ([A-Z]\d+) \|", (ROOT / "docs/reliability.md").read_text(encoding="utf-8"), re.MULTILINE)
FAULTS = {f"F{number}" for number in range(1, 16)}

EXCUSED = {  # row: why no test proves it, and what does
    "L1": "a rate is a matter of the machine: `make bench` measures it",
    "L3": "a share of a rate is that too: `make bench` has a block of searches while a language is learned; K2's test "
    "sees that the child gives way to it",
}


def list_markers(module: Module) -> Iterator[ast.Call]:
    """Yield every call of `pytest.mark.row` in a file."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.row":
            yield node


def list_named(module: Module) -> Iterator[str]:
    """Yield what the markers of a file name: each once in a marker, and as a text that is written out."""
    for call in list_markers(module):
        ids = [node.value if isinstance(node, ast.Constant) else None for node in call.args]
        place = f"{module.name}, line {call.lineno}: row"
        assert ids and not call.keywords, f"{place} names nothing"
        for id in ids:
            assert isinstance(id, str), f"{place} needs ids as texts"
            assert id in FAULTS or id in ROWS, f"{place} names {id}, which docs/reliability.md does not have"
            yield id


def test_the_tables_have_119_rows_and_none_twice() -> None:
    assert Counter(id[0] for id in ROWS) == {
        "T": 20, "P": 14, "H": 15, "A": 9, "E": 16, "K": 11, "I": 12, "R": 6, "S": 12, "L": 4,
    }  # fmt: skip
    assert len(ROWS) == len(set(ROWS)) == 119


def test_every_row_is_named_by_a_test_or_excused() -> None:
    proven = {id for module in list_modules("tests") for id in list_named(module)}
    assert sorted({*ROWS, *FAULTS} - proven - EXCUSED.keys()) == []
    assert sorted(proven & EXCUSED.keys()) == [], "these have a test, and need no excuse"


@pytest.mark.parametrize("marker", ['row("X1")', "row()", "row(NAME)", 'row(id="T1")', 'row("T1", 2)'])
def test_a_marker_that_names_no_row_is_noticed(marker: str) -> None:
    with pytest.raises(AssertionError, match="line 1: row"):
        list(list_named(Module("made_up", f"@pytest.mark.{marker}\ndef test_x(): ...")))
