"""The words that captions, tags and metadata of all pictures hold: forms and mistyped words are looked for among them.

Derived from the documents of `picture_words`, so that no word outlives its last caption. Some may be in captions that a
release does not show, or of collections that a caller may not see: who tells a word asks for pictures first.
"""

import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from threading import Lock

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from index.selection import read_last_change
from model.spelling import Speller
from model.words import is_spelled
from store.tables import CaptionRow

_MOST = 200_000  # words that are kept
_SOON = 0.05  # seconds: a list that is read in less is always of now
_PATIENCE = 20  # times as long as reading them took that any other is used though there are newer captions
_NEWEST_CAPTION = select(func.max(CaptionRow.id))  # those of expansions are no change of the gallery
# SQLite has the terms in the index of its full-text search, and tells them by a table of the connection alone
_OPEN = "CREATE VIRTUAL TABLE IF NOT EXISTS temp.picture_vocabulary USING fts5vocab(main, picture_terms, row)"
_SQLITE = "SELECT term FROM temp.picture_vocabulary"
_POSTGRESQL = "SELECT DISTINCT unnest(string_to_array(terms, ' ')) FROM picture_words"


class WordList:
    """Words, sorted. Immutable."""

    def __init__(self, words: Iterable[str] = ()) -> None:
        self.words: Sequence[str] = sorted(words)

    @cached_property
    def speller(self) -> Speller:
        """What finds the nearest of them; it takes a second to make of 200,000."""
        return Speller(self.words)


class CaptionWords:
    """The newest list of one registry. Thread-safe; raises `RegistryUnavailable`."""

    def __init__(self) -> None:
        self._list, self._as_of, self._until, self._lock = WordList(), (-1, 0), 0.0, Lock()

    def read(self, session: Session) -> WordList:
        """Return the list: of now, or where many words take long to read, of a moment ago."""
        newest = read_last_change(session), session.scalar(_NEWEST_CAPTION) or 0
        if newest == self._as_of or time.monotonic() < self._until:
            return self._list
        with self._lock:
            if newest != self._as_of:
                begun = time.monotonic()
                self._list, self._as_of = WordList(_read_words(session)), newest
                took = time.monotonic() - begun
                self._until = begun + _PATIENCE * took if took > _SOON else 0.0
            return self._list


def _read_words(session: Session) -> list[str]:
    connection = session.connection()
    if connection.dialect.name != "sqlite":
        terms = connection.execute(text(_POSTGRESQL)).scalars()
    else:
        connection.exec_driver_sql("PRAGMA query_only = OFF")
        try:
            connection.exec_driver_sql(_OPEN)
        finally:
            connection.exec_driver_sql("PRAGMA query_only = ON")
        terms = connection.execute(text(_SQLITE)).scalars()
    return [term for term in terms if is_spelled(term)][:_MOST]
