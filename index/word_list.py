"""The words of all documents of a registry, sorted, as each process keeps them; finds no picture.

Reading them takes longer than a search should: of many words a search may use a list of a while ago.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from threading import Lock, Thread
from typing import NamedTuple

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from index.records import LAST_CHANGE
from model.lexicon import Speller
from model.text import is_spelled
from store.errors import RegistryUnavailable
from store.registry import Registry
from store.tables import CaptionRow

_MOST_KEPT = 200_000  # words that are kept
_SOON = 0.05  # seconds: a list that is read in less is always of now
_PATIENCE = 20  # times as long as reading it took that any other is used, though there are newer captions
# Captions of expansions are no change of the gallery
_NEWEST = select(LAST_CHANGE.scalar_subquery(), select(func.max(CaptionRow.id)).scalar_subquery())
# SQLite has the terms in the index of its full-text search, and tells them by a table of the connection alone
_OPEN = "CREATE VIRTUAL TABLE IF NOT EXISTS temp.picture_vocabulary USING fts5vocab(main, picture_terms, row)"
_SQLITE = "SELECT term FROM temp.picture_vocabulary ORDER BY doc DESC, term"
_POSTGRESQL = (
    "SELECT term FROM (SELECT unnest(string_to_array(terms, ' ')) AS term FROM picture_words) AS words "
    "GROUP BY term ORDER BY count(*) DESC, term"
)


class WordList:
    """Words, sorted. Immutable."""

    def __init__(self, words: Iterable[str] = ()) -> None:
        self.words: Sequence[str] = sorted(words)

    @cached_property
    def speller(self) -> Speller:
        """What finds the nearest of them; it takes a second to make of 200,000."""
        return Speller(self.words)


class Newest(NamedTuple):
    """What a session sees last: as long as nothing comes, terms find the same pictures."""

    change: int
    caption: int


class CaptionWords:
    """The newest list of one registry. Thread-safe; raises `RegistryUnavailable`."""

    def __init__(self, registry: Registry) -> None:
        self._registry, self._lock = registry, Lock()
        self._list, self._as_of, self._until = WordList(), Newest(-1, 0), 0.0

    def read(self, session: Session, newest: Newest) -> WordList:
        """Return the list: as of the `newest` change or, where many words take long to read, of a while before.

        Such a list is read anew beside the searches, which use the one before until then.
        """
        if newest == self._as_of or time.monotonic() < self._until:
            return self._list
        if self._until:  # it took long
            if self._lock.acquire(blocking=False):
                Thread(target=self._read_beside, daemon=True, name="words").start()
            return self._list
        with self._lock:
            if newest != self._as_of:
                self._read_anew(session, newest)
            return self._list

    def _read_beside(self) -> None:
        try:
            with suppress(RegistryUnavailable), self._registry.read() as session:
                self._read_anew(session, read_newest(session))
        finally:
            self._lock.release()

    def _read_anew(self, session: Session, newest: Newest) -> None:
        begun = time.monotonic()
        try:
            self._list, self._as_of = WordList(_read_words(session)), newest
        except BaseException:
            self._until = time.monotonic()  # it may be too much for one search
            raise
        took = time.monotonic() - begun
        self._until = begun + _PATIENCE * took if took > _SOON else 0.0


def read_newest(session: Session) -> Newest:
    """Read what this session sees last."""
    change, caption = session.connection().execute(_NEWEST).one()
    return Newest(change, caption or 0)


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
    return [term for term in terms if is_spelled(term)][:_MOST_KEPT]
