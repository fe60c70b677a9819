"""Cursors cannot be forged, changed or used for another query."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cursors import Cursors
from service.problems import CursorInvalid
from store.data_root import DataRoot

CURSORS = Cursors(b"k" * 32)


def test_a_cursor_leads_back_to_its_place() -> None:
    cursor = CURSORS.write("question", {"offset": 20})
    assert CURSORS.read("question", cursor) == {"offset": 20}


def test_a_cursor_is_for_one_query_and_one_secret() -> None:
    cursor = CURSORS.write("question", {"offset": 20})
    with pytest.raises(CursorInvalid):
        CURSORS.read("another", cursor)
    with pytest.raises(CursorInvalid):
        Cursors(b"x" * 32).read("question", cursor)


def test_every_change_of_a_character_is_found() -> None:
    cursor = CURSORS.write("question", {"offset": 20})
    for place in range(len(cursor)):
        changed = cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :]
        try:
            assert CURSORS.read("question", changed) == {"offset": 20}  # the last bits of base64 may mean nothing
            assert place == len(cursor) - 1
        except CursorInvalid:
            continue


@given(st.text(max_size=200))
def test_no_other_text_is_a_cursor(text: str) -> None:
    with pytest.raises(CursorInvalid):
        CURSORS.read("question", text)


def test_of_two_first_starts_both_take_the_first_ones_secret(tmp_path: Path) -> None:
    both = threading.Barrier(2)

    def start(number: int) -> str:
        both.wait()
        return Cursors.under(DataRoot(tmp_path / str(number))).write("question", {"offset": 1})

    with ThreadPoolExecutor(2) as starts:
        for number in range(50):
            first, second = starts.map(start, (number, number))
            assert first == second


def test_the_secret_outlives_a_restart_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    cursor = Cursors.under(DataRoot(tmp_path)).write("question", {"offset": 1})
    assert Cursors.under(DataRoot(tmp_path)).read("question", cursor) == {"offset": 1}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())
