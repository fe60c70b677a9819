"""What speakers answered when asked for words, and words of searches that nobody taught. No search uses it."""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import JSON, delete, func, insert, select
from sqlalchemy.orm import Mapped, mapped_column

from store.audit import record_act
from store.clock import now
from store.database import RegistryPart
from store.errors import TooManyAnswers
from store.tables import RegistryRow

MOST_ANSWERS = 20_000  # of one language: ten times what a speaker types in a week
MOST_UNKNOWN = 2_000  # words of one language, those of most searches


class WordAnswerRow(RegistryRow):
    """What a speaker answered when asked for an English word, the last time: `captions`, or none if there is no word.

    It is taught with the next dataset that is made of all answers.
    """

    __tablename__ = "word_answers"

    language: Mapped[str] = mapped_column(primary_key=True)
    english: Mapped[str] = mapped_column(primary_key=True)
    captions: Mapped[list[str]] = mapped_column(JSON)
    answered_at: Mapped[datetime] = mapped_column(default=now())
    actor: Mapped[str]


class WordAnswers(RegistryPart):
    """The answers of a registry."""

    def keep(self, language: str, answers: Mapping[str, Sequence[str]], actor: str) -> None:
        """Keep the captions of English words, in place of earlier answers to the same words: all or none.

        Raises TooManyAnswers.
        """
        row = WordAnswerRow
        with self._database.begin() as session:
            session.execute(delete(row).where(row.language == language, row.english.in_([*answers])))
            kept = session.scalar(select(func.count()).select_from(row).where(row.language == language)) or 0
            if kept + len(answers) > MOST_ANSWERS:
                raise TooManyAnswers(f"at most {MOST_ANSWERS:,} answers are kept of a language: send a dataset instead")
            rows = [
                {"language": language, "english": english, "captions": [*captions], "actor": actor}
                for english, captions in answers.items()
            ]
            session.execute(insert(row), rows)

    def list(self, language: str) -> Sequence[WordAnswerRow]:
        """List the answers of a language, by the English word."""
        query = select(WordAnswerRow).where(WordAnswerRow.language == language).order_by(WordAnswerRow.english)
        with self._database.read() as session:
            return session.scalars(query).all()


class WaitingRow(RegistryRow):
    """A row of a dataset that was too small to teach a language from: it waits until there are enough."""

    __tablename__ = "waiting_rows"

    language: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(primary_key=True)
    content: Mapped[dict[str, Any]]  # as a line of a dataset
    kept_at: Mapped[datetime] = mapped_column(default=now())
    actor: Mapped[str]
    expansion: Mapped[str | None]  # whose dataset it joined last: it goes when that is promoted


class WaitingRows(RegistryPart):
    """The rows that wait in a registry: of each language fewer than it needs."""

    def keep(self, language: str, rows: Sequence[dict[str, Any]], actor: str, seen: Collection[str]) -> bool:
        """Keep these rows, too, and return True; or keep none, where others wait now than were `seen`: digests.

        Then some came, or were taught or deleted, meanwhile.
        """
        row = WaitingRow
        contents = {sha256(json.dumps(each, sort_keys=True).encode()).hexdigest(): each for each in rows}
        with self._database.begin() as session:
            there = {*session.scalars(select(row.digest).where(row.language == language))}
            if there != {*seen}:
                return False
            new = contents.keys() - there
            kept = [{"language": language, "digest": key, "content": contents[key], "actor": actor} for key in new]
            if kept:
                session.execute(insert(row), kept)
                record_act(session, {language: f"{len(kept)} rows kept"})
            return True

    def get(self, language: str) -> dict[str, dict[str, Any]]:
        """Return the rows of a language by their digests, which have no order of their own."""
        row = WaitingRow
        query = select(row.digest, row.content).where(row.language == language).order_by(row.digest)
        with self._database.read() as session:
            return {each.digest: each.content for each in session.execute(query)}

    def count(self) -> dict[str, int]:
        """Count the rows of each language that has any."""
        query = select(WaitingRow.language, func.count()).group_by(WaitingRow.language)
        with self._database.read() as session:
            return {each.language: each[1] for each in session.execute(query)}


class UnknownWordRow(RegistryRow):
    """A word of searches that nobody taught the language, and in how many of them it was; nothing tells whose."""

    __tablename__ = "unknown_words"

    language: Mapped[str] = mapped_column(primary_key=True)
    word: Mapped[str] = mapped_column(primary_key=True)
    searches: Mapped[int]


class UnknownWords(RegistryPart):
    """The counts of a registry."""

    def add(self, language: str, counts: Mapping[str, int]) -> None:
        """Add the searches of each word; of very many words, those of fewest searches are dropped."""
        row = UnknownWordRow
        with self._database.begin() as session:
            rows = session.scalars(select(row).where(row.language == language))
            searches = Counter({each.word: each.searches for each in rows}) + Counter(counts)
            session.execute(delete(row).where(row.language == language))
            kept = searches.most_common(MOST_UNKNOWN)
            session.execute(insert(row), [{"language": language, "word": w, "searches": n} for w, n in kept])

    def list(self, language: str) -> list[tuple[str, int]]:
        """List the words of a language with their searches, those of most searches first."""
        row = UnknownWordRow
        query = select(row).where(row.language == language).order_by(row.searches.desc(), row.word)
        with self._database.read() as session:
            return [(each.word, each.searches) for each in session.scalars(query)]
