"""Tables of the command line: on a terminal no word is broken as long as there is room; in a file nothing is."""

import io
import sys
from collections.abc import Callable, Sequence

import pytest
from rich.console import Console

from client import output
from client.tables import fitted, lines

EXPANSIONS = ("id", "kind", "language", "state", "phase", "version", "error")
FAILED = ("exp_01m8farknbthstpd9t2a", "assess", "zh-Hant", "running 34%", "evaluate", "12", "dataset_language_mismatch")
Shown = Callable[..., list[str]]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """The lines of a table on a terminal of some width."""

    def show(width: int, columns: Sequence[str], *rows: Sequence[object], spare: Sequence[str] = ()) -> list[str]:
        file = io.StringIO()
        monkeypatch.setattr(output, "console", Console(width=width, file=file, highlight=False))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        output.table(columns, rows, spare=spare)
        return [line.rstrip() for line in file.getvalue().splitlines()]

    return show


def test_words_stay_whole_on_a_terminal_of_80_columns(shown: Shown) -> None:
    told = shown(80, EXPANSIONS, FAILED, spare=("phase", "version"))
    assert max(map(len, told)) <= 80
    words = {word for line in told for word in line.split()}
    assert {"id", "language", FAILED[0], "zh-Hant", "running", "34%", "dataset_language_mismatch"} <= words
    assert "phase" not in words  # for which there was no room
    everything = {word for line in shown(120, EXPANSIONS, FAILED, spare=("phase", "version")) for word in line.split()}
    assert {"phase", "evaluate", "version", "12"} <= everything


def test_cells_are_wrapped_between_words_before_a_column_is_left_out(shown: Shown) -> None:
    told = shown(24, ("a", "b"), ("one two three", "four five six seven"), spare=("a",))
    assert told == ["a            b", "one two      four five", "three        six seven"]


def test_where_even_that_is_too_wide_words_are_broken_but_no_id(shown: Shown) -> None:
    told = shown(30, ("id", "name"), ("x" * 20, "y" * 30))
    assert told == [
        "id                   name",
        *(f"{id:<20} {'y' * 9}" for id in ("x" * 20, "", "")),
        " " * 21 + "yyy",
    ]


def test_a_word_longer_than_half_the_terminal_does_not_push_the_others_out(shown: Shown) -> None:
    told = shown(40, ("picture", "size"), ("p" * 100, "256×256"), spare=("size",))
    assert told[1].endswith("256×256") and sum(line.count("p") for line in told[1:]) == 100


def test_wide_characters_count_twice() -> None:
    assert fitted(("name",), [("日本語",)], 80).widths == (6,)


def test_a_terminal_too_narrow_for_anything_ends_as_well() -> None:
    assert fitted(("id", "name"), [("x" * 20, "y")], 3, whole=("id",)).widths == (20, 1)


def test_in_a_file_nothing_is_wrapped_and_one_long_cell_widens_no_other_line() -> None:
    told = lines(("id", "n"), [("a", "1"), ("b" * 200, "2"), ("c\nd", "30")], right=("n",))
    assert told == ["id     n", "a      1", f"{'b' * 200}    2", "c d   30"]


def test_a_table_in_a_file_has_every_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("caption",), [("score 1:100:2 and :apple: [b]bold[/b]",)])
    assert "score 1:100:2 and :apple: [b]bold[/b]" in capsys.readouterr().out
