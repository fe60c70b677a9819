"""Captions that people propose for pictures, apart from the pictures' captions until two agree or a keeper accepts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, ForeignKey, Index, delete, func, select, update
from sqlalchemy.orm import Mapped, mapped_column

from store.audit import record_act
from store.clock import now
from store.database import RegistryPart
from store.errors import PictureNotFound, TooManyAnswers
from store.tables import AutoKey, CaptionRow, PictureRow, RegistryRow

MOST_OPEN = 20_000  # proposals of one language that wait


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
class Person:
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

    def propose(self, language: str, picture: str, text: str, same: str, person: Person) -> Sequence[ProposalRow]:
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
            waiting = select(func.count()).select_from(row).where(*of_language)
            if not earlier and (session.scalar(waiting) or 0) >= MOST_OPEN:
                raise TooManyAnswers(f"at most {MOST_OPEN:,} captions of a language wait: accept or reject some first")
            session.execute(delete(row).where(row.id.in_(earlier)))
            by = {**vars(person), "person": person.person}
            session.add(ProposalRow(language=language, picture=picture, text=text, same=same, **by))
            session.flush()
            record_act(session, {picture: "caption proposed"})
            alike = select(row).where(row.picture == picture, row.same == same, *of_language).order_by(row.id)
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
        with self._database.read() as session:
            return session.scalars(query).all()

    def get(self, language: str, ids: Sequence[int]) -> Sequence[ProposalRow]:
        """Return those of these ids that wait, in the order of their ids."""
        row = ProposalRow
        query = select(row).where(row.language == language, row.id.in_(ids), row.accepted_at.is_(None)).order_by(row.id)
        with self._database.read() as session:
            return session.scalars(query).all()

    def accept(self, proposals: Sequence[ProposalRow], actor: str) -> None:
        """Record that these have become captions."""
        ids = [proposal.id for proposal in proposals]
        which = update(ProposalRow).where(ProposalRow.id.in_(ids), ProposalRow.accepted_at.is_(None))
        with self._database.begin() as session:
            accepted = which.values(accepted_at=now(), accepted_by=actor).returning(ProposalRow.picture)
            record_act(session, dict.fromkeys(session.scalars(accepted), "caption accepted"))

    def reject(self, language: str, ids: Sequence[int]) -> None:
        """Delete proposals that wait."""
        row = ProposalRow
        with self._database.begin() as session:
            gone = delete(row).where(row.language == language, row.id.in_(ids), row.accepted_at.is_(None))
            record_act(session, {f"proposal {id}": "rejected" for id in session.scalars(gone.returning(row.id))})

    def find_wanted(self, language: str, person: Person, count: int) -> Sequence[str]:
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

    def list_captions(
        self, language: str, limit: int | None = None, collections: frozenset[str] | None = None
    ) -> Sequence[tuple[str, str]]:
        """List captions, as (picture, text), that came with pictures or were accepted, in the order of adding.

        With `collections`, those of their pictures.
        """
        columns = select(CaptionRow.picture_id, CaptionRow.text).where(*_is_own(language)).order_by(CaptionRow.id)
        if collections is not None:
            shown = PictureRow.collection.in_(collections)
            columns = columns.join(PictureRow, PictureRow.id == CaptionRow.picture_id).where(shown)
        with self._database.read() as session:
            return [(row.picture_id, row.text) for row in session.execute(columns.limit(limit))]

    def count_captions(self, language: str, most: int) -> int:
        """Count them, up to `most`."""
        some = select(CaptionRow.id).where(*_is_own(language)).limit(most).subquery()
        with self._database.read() as session:
            return session.scalar(select(func.count()).select_from(some)) or 0


def _is_own(language: str) -> tuple[ColumnElement[bool], ...]:
    return CaptionRow.language == language, CaptionRow.expansion.is_(None)
