"""What belongs to the speakers of a language: terms, answers, rows that wait, captions, unknown words.

Of the terms each change is a row, and nothing of it is deleted. Captions that people propose for pictures stand apart
from the pictures' captions until two agree or a keeper accepts. No ranking depends on any of it.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import JSON, ColumnElement, ForeignKey, Index, delete, func, insert, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from store.audit import note_act
from store.clock import now
from store.database import RegistryPart
from store.errors import InsufficientScope, PictureNotFound, TooManyAnswers
from store.leases import refuse_active
from store.tables import AliasRow, AutoKey, CaptionRow, PictureRow, RegistryRow, ReleaseRow

MOST_ANSWERS = 20_000  # of one language: ten times what a speaker types in a week
MOST_OF_ONE = 10_000  # answers, or proposals that wait, of one key: none fills a language alone
MOST_CAPTIONS = 100  # of one answer, to which others were added
MOST_UNKNOWN = 2_000  # words of one language, those of most searches
MOST_OPEN = 20_000  # proposals of one language that wait
_AT_ONCE = 1_000  # captions that are read


class WordAnswerRow(RegistryRow):
    """What one speaker, a key, calls an English word, as answered last: `captions`, or none if there is no word.

    It is taught with the next dataset that is made of all answers.
    """

    __tablename__ = "word_answers"

    language: Mapped[str] = mapped_column(primary_key=True)
    english: Mapped[str] = mapped_column(primary_key=True)
    actor: Mapped[str] = mapped_column(primary_key=True)
    captions: Mapped[list[str]] = mapped_column(JSON)
    answered_at: Mapped[datetime] = mapped_column(default=now())


@dataclass(frozen=True)
class WordAnswer:
    """What speakers call an English word: the `captions` of all, each once; none where none of them has a word."""

    english: str
    captions: Sequence[str]


class WordAnswers(RegistryPart):
    """The answers of a registry."""

    def keep(
        self, language: str, answers: Mapping[str, Sequence[str]], actor: str, *, more: Collection[str] = ()
    ) -> None:
        """Keep an actor's captions of English words, in place of what the same one answered before: all or none.

        What is answered to the words in `more` stands beside that. Raises TooManyAnswers.
        """
        row, new = WordAnswerRow, {english: dict.fromkeys(captions) for english, captions in answers.items()}
        with self._database.begin() as session:
            own = (row.language == language, row.actor == actor, row.english.in_([*new]))
            for earlier in session.scalars(select(row).where(*own)):
                if earlier.english in more:
                    new[earlier.english] = dict.fromkeys(earlier.captions) | new[earlier.english]
            session.execute(delete(row).where(*own))
            is_full = _is_full(session, row, MOST_ANSWERS, len(new), actor, row.language == language)
            if is_full or any(len(captions) > MOST_CAPTIONS for captions in new.values()):
                most = f"at most {MOST_ANSWERS:,} answers of a language are kept, {MOST_OF_ONE:,} of them of one key"
                raise TooManyAnswers(f"{most}, each of {MOST_CAPTIONS} captions: send a dataset instead")
            rows = [
                {"language": language, "english": english, "captions": [*captions], "actor": actor}
                for english, captions in new.items()
            ]
            session.execute(insert(row), rows)

    def list(self, language: str) -> Sequence[WordAnswer]:
        """List the answers of a language, one for each English word, in their order; captions in that of answering."""
        row, united = WordAnswerRow, dict[str, dict[str, None]]()
        query = select(row).where(row.language == language).order_by(row.english, row.answered_at, row.actor)
        for each in self._database.read_values(query):
            united.setdefault(each.english, {}).update(dict.fromkeys(each.captions))
        return [WordAnswer(english, [*captions]) for english, captions in united.items()]


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

        Then some came, or were taught or deleted, meanwhile. Raises ExpansionInProgress while the language is taught.
        """
        row = WaitingRow
        contents = {sha256(json.dumps(each, sort_keys=True).encode()).hexdigest(): each for each in rows}
        with self._database.begin() as session:
            refuse_active(session, language)
            there = {*session.scalars(select(row.digest).where(row.language == language))}
            if there != {*seen}:
                return False
            new = contents.keys() - there
            kept = [{"language": language, "digest": key, "content": contents[key], "actor": actor} for key in new]
            if kept:
                session.execute(insert(row), kept)
                note_act(session, {language: f"{len(kept)} rows kept"})
            return True

    def get(self, language: str) -> dict[str, dict[str, Any]]:
        """Return the rows of a language by their digests, which have no order of their own."""
        row = WaitingRow
        query = select(row.digest, row.content).where(row.language == language).order_by(row.digest)
        return {each.digest: each.content for each in self._database.read_rows(query)}

    def count(self) -> dict[str, int]:
        """Count the rows of each language that has any."""
        query = select(WaitingRow.language, func.count()).group_by(WaitingRow.language)
        return {each.language: each[1] for each in self._database.read_rows(query)}


class UnknownWordRow(RegistryRow):
    """A word of searches that nobody taught the language, and in how many of them it was; nothing tells whose."""

    __tablename__ = "unknown_words"

    language: Mapped[str] = mapped_column(primary_key=True)
    word: Mapped[str] = mapped_column(primary_key=True)
    searches: Mapped[int]


class UnknownWords(RegistryPart):
    """The counts of a registry."""

    def add(self, language: str, counts: Mapping[str, int]) -> None:
        """Add the searches of each word; of very many words, those of fewest searches are dropped.

        Of a language that is not served any more nothing is added: it may have been withdrawn since it was searched.
        """
        row = UnknownWordRow
        serving = select(ReleaseRow.languages).join(AliasRow, AliasRow.release == ReleaseRow.number)
        with self._database.begin() as session:
            if language not in (session.scalar(serving) or {}):
                return
            rows = session.scalars(select(row).where(row.language == language))
            searches = Counter({each.word: each.searches for each in rows}) + Counter(counts)
            session.execute(delete(row).where(row.language == language))
            kept = searches.most_common(MOST_UNKNOWN)
            session.execute(insert(row), [{"language": language, "word": w, "searches": n} for w, n in kept])

    def list(self, language: str) -> list[tuple[str, int]]:
        """List the words of a language with their searches, those of most searches first."""
        row = UnknownWordRow
        query = select(row).where(row.language == language).order_by(row.searches.desc(), row.word)
        return [(each.word, each.searches) for each in self._database.read_values(query)]


class ProposalRow(RegistryRow):
    """What a person calls a picture, the last time; accepted, it is one of the picture's captions, and stays here.

    A `person` is a key (its id, and its `label` then) and the `name` that was given with it. `same` is the text without
    what does not matter for two to agree. `accepted_by` is the key of the keeper, or of the second who agreed. Ids are
    not reused: a keeper accepts what he has read.
    """

    __tablename__ = "caption_proposals"
    __table_args__ = (
        Index("ix_caption_proposals_language_picture", "language", "picture"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[AutoKey]
    language: Mapped[str]
    picture: Mapped[str] = mapped_column(ForeignKey("pictures.id", ondelete="CASCADE"), index=True)
    text: Mapped[str]
    same: Mapped[str]
    actor: Mapped[str]
    label: Mapped[str]
    name: Mapped[str]
    person: Mapped[str]
    proposed_at: Mapped[datetime] = mapped_column(default=now())
    accepted_at: Mapped[datetime | None]
    accepted_by: Mapped[str | None]


@dataclass(frozen=True)
class Proposer:
    """Who proposes: the id and the label of a key, and the name that was given with it."""

    actor: str
    label: str
    name: str

    @property
    def person(self) -> str:
        """What tells two people apart, whatever capital letters they write."""
        return f"{self.actor} {self.name.casefold()}"


class CaptionProposals(RegistryPart):
    """The proposals of a registry."""

    def propose(
        self, language: str, picture: str, text: str, canonical_text: str, person: Proposer
    ) -> Sequence[ProposalRow]:
        """Keep a proposal in place of this person's earlier one; return all of the picture that say the same.

        A correction is always kept. Raises PictureNotFound, TooManyAnswers.
        """
        row = ProposalRow
        with self._database.begin() as session:
            if session.scalar(select(PictureRow.id).where(PictureRow.id == picture)) is None:
                raise PictureNotFound("there is no picture with this id")
            of_language = (row.language == language, row.accepted_at.is_(None))
            mine = select(row.id).where(row.picture == picture, row.person == person.person, *of_language)
            earlier = session.scalars(mine).all()
            if not earlier and _is_full(session, row, MOST_OPEN, 1, person.actor, *of_language):
                most = f"at most {MOST_OPEN:,} captions of a language wait, {MOST_OF_ONE:,} of them of one key"
                raise TooManyAnswers(f"{most}: accept or reject some first")
            session.execute(delete(row).where(row.id.in_(earlier)))
            by = {**vars(person), "person": person.person}
            session.add(ProposalRow(language=language, picture=picture, text=text, same=canonical_text, **by))
            session.flush()
            note_act(session, {picture: "caption proposed"})
            alike = select(row).where(row.picture == picture, row.same == canonical_text, *of_language).order_by(row.id)
            return session.scalars(alike).all()

    def list(
        self, language: str, *, accepted: bool, pictures: Sequence[str] = (), limit: int = 1_000
    ) -> Sequence[ProposalRow]:
        """List those that are accepted, or wait, the newest first; of these pictures alone, if any are given."""
        row = ProposalRow
        state = row.accepted_at.is_not(None) if accepted else row.accepted_at.is_(None)
        query = select(row).where(row.language == language, state).order_by(row.id.desc()).limit(limit)
        if pictures:
            query = query.where(row.picture.in_(pictures))
        return self._database.read_values(query)

    def get(self, language: str, ids: Sequence[int]) -> Sequence[ProposalRow]:
        """Return those of these ids that wait, in the order of their ids."""
        row = ProposalRow
        query = select(row).where(row.language == language, row.id.in_(ids), row.accepted_at.is_(None)).order_by(row.id)
        return self._database.read_values(query)

    def accept(self, proposals: Sequence[ProposalRow], actor: str) -> None:
        ids = [proposal.id for proposal in proposals]
        which = update(ProposalRow).where(ProposalRow.id.in_(ids), ProposalRow.accepted_at.is_(None))
        with self._database.begin() as session:
            accepted = which.values(accepted_at=now(), accepted_by=actor).returning(ProposalRow.picture)
            note_act(session, dict.fromkeys(session.scalars(accepted), "caption accepted"))

    def reject(self, language: str, ids: Sequence[int]) -> None:
        """Delete proposals that wait."""
        row = ProposalRow
        with self._database.begin() as session:
            gone = delete(row).where(row.language == language, row.id.in_(ids), row.accepted_at.is_(None))
            note_act(session, {f"proposal {id}": "rejected" for id in session.scalars(gone.returning(row.id))})

    def find_wanted(self, language: str, person: Proposer, count: int) -> Sequence[str]:
        """Find pictures without a caption in a language that this person has not captioned yet.

        First those that somebody else has, then the newest. Raises RegistryUnavailable where that takes too long.
        """
        row, picture = ProposalRow, PictureRow
        open_ones = (row.language == language, row.accepted_at.is_(None))
        mine = select(row.picture).where(*open_ones, row.person == person.person)
        captioned = select(CaptionRow.id).where(CaptionRow.picture_id == picture.id, CaptionRow.language == language)
        query = select(picture.id).where(~captioned.exists(), picture.id.not_in(mine)).order_by(picture.key.desc())
        begun = select(row.picture).where(*open_ones)
        with self._database.read_in_time() as session:
            found = [*session.scalars(query.where(picture.id.in_(begun)).limit(count))]
            more = query.where(picture.id.not_in(begun)).limit(count - len(found))
            return [*found, *session.scalars(more)] if len(found) < count else found

    def iterate_captions(self, language: str, collections: frozenset[str] | None = None) -> Iterator[tuple[str, str]]:
        """Yield captions, as (picture, text), that came with pictures or were accepted, in the order of adding.

        With `collections`, those of their pictures. However many there are, some at a time are in memory.
        """
        columns = select(CaptionRow.picture_id, CaptionRow.text).where(*_is_own(language)).order_by(CaptionRow.id)
        if collections is not None:
            shown = PictureRow.collection.in_(collections)
            columns = columns.join(PictureRow, PictureRow.id == CaptionRow.picture_id).where(shown)
        with self._database.read() as session:
            for row in session.execute(columns.execution_options(yield_per=_AT_ONCE)):
                yield row.picture_id, row.text

    def count_captions(self, language: str, most: int) -> int:
        some = select(CaptionRow.id).where(*_is_own(language)).limit(most).subquery()
        return self._database.read_value(select(func.count()).select_from(some)) or 0


def _is_full(session: Session, row: type[Any], most: int, new: int, actor: str, *which: ColumnElement[bool]) -> bool:
    """Tell whether so many new rows of an actor are too many beside those that there are."""
    counts = select(func.count(), func.count().filter(row.actor == actor)).select_from(row).where(*which)
    kept, own = session.execute(counts).one()
    return bool(kept + new > most or own + new > MOST_OF_ONE)


def _is_own(language: str) -> tuple[ColumnElement[bool], ...]:
    return CaptionRow.language == language, CaptionRow.expansion.is_(None)


class TermsRow(RegistryRow):
    """Terms of a language, from `set_at` until the next row of it; `terms` is empty where they were taken away.

    A dataset and a version name the row that held when they were made. `actor` is the key that set them.
    """

    __tablename__ = "language_terms"

    number: Mapped[AutoKey]
    language: Mapped[str] = mapped_column(index=True)
    terms: Mapped[dict[str, Any]]
    set_at: Mapped[datetime] = mapped_column(default=now())
    actor: Mapped[str]


class TermsHistory(RegistryPart):
    """The terms of all languages of a registry."""

    def set(self, language: str, terms: Mapping[str, Any], actor: str, *, may_change: bool) -> TermsRow:
        """Set the terms of a language; those that it has already are not written again.

        Raises InsufficientScope where others stand, unless the actor `may_change` them.
        """
        with self._database.begin() as session:
            return set_terms(session, language, terms, actor, may_change=may_change)

    def require_right(self, language: str, terms: Mapping[str, Any], *, may_change: bool) -> None:
        """Raise InsufficientScope where other terms stand, unless the actor `may_change` them."""
        with self._database.read() as session:
            _refuse_change(_find_row(session, language), terms, may_change)

    def list_current(self) -> dict[str, TermsRow]:
        """List the terms that hold now, by language, those that were taken away too."""
        newest = select(func.max(TermsRow.number)).group_by(TermsRow.language)
        with self._database.read() as session:
            rows = session.scalars(select(TermsRow).where(TermsRow.number.in_(newest)))
            return {row.language: row for row in rows}

    def get(self, number: int | None) -> TermsRow | None:
        """Return the terms with this number; None without one."""
        with self._database.read() as session:
            return None if number is None else session.get(TermsRow, number)


def set_terms(session: Session, language: str, terms: Mapping[str, Any], actor: str, *, may_change: bool) -> TermsRow:
    """Set the terms of a language in the transaction of `session`. Raises InsufficientScope."""
    row = _find_row(session, language)
    _refuse_change(row, terms, may_change)
    if row is None or row.terms != terms:
        row = TermsRow(language=language, terms=dict(terms), actor=actor)
        session.add(row)
        session.flush()
        note_act(session, {f"terms of {language}": "set"})
    return row


def find_number(session: Session, language: str) -> int | None:
    """Return the number of the terms that a language has now; None if it never had any."""
    row = _find_row(session, language)
    return None if row is None else row.number


def _refuse_change(row: TermsRow | None, terms: Mapping[str, Any], may_change: bool) -> None:
    if not may_change and row is not None and row.terms and row.terms != terms:
        raise InsufficientScope("the terms of this language stand; only an administrator changes them")


def _find_row(session: Session, language: str) -> TermsRow | None:
    query = select(TermsRow).where(TermsRow.language == language).order_by(TermsRow.number.desc())
    return session.scalars(query.limit(1)).first()
