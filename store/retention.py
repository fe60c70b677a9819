"""Retention: which versions are out of reach, so that their files may go. Decides and records; removes no file.

In reach are the newest releases, as many as are to be kept, and what a rollback of one language from any of them would
serve. While an expansion is in progress, every release since it was submitted is in reach too, and the one that served
then. Nothing that is younger than the oldest release in reach goes, whether a release names it or not. The datasets of
a version in reach are all that its language was taught from, those of pruned versions too: it is taught anew from them.

One writer transaction decides. A version that was pruned can never serve its language again, nor be the shared one when
no version in reach builds upon it. So whatever is removed after that, and however late, nobody needs.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import case, func, literal, select, update
from sqlalchemy.orm import Session

from store.clock import Instant, now
from store.database import Database
from store.expansions import ACTIVE, Expansion, expansion_of
from store.releases import serving
from store.rollback import reachable
from store.tables import ExpansionRow, ReleaseRow, VersionRow
from store.versions import Version, named_since, needed, version_of

KEEP = 10  # releases
LEAST = 2  # the one that serves, and the one before it: it is still open in every process
_LONG_AGO = literal(datetime.fromtimestamp(0, UTC), Instant())


@dataclass(frozen=True)
class Pruning:
    """What may go: `versions` and `datasets`, those of finished expansions; `oldest` is the oldest release in reach.

    `release` serves. `needed` are those of the versions whose files stay, because a version in reach builds upon them.
    """

    release: int
    oldest: int
    versions: tuple[Version, ...]
    needed: frozenset[int]
    datasets: tuple[Expansion, ...]


class Retention:
    """What of one registry is out of reach."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def plan(self, keep: int = KEEP, *, expected: int | None = None) -> Pruning:
        """Return what `prune` would do now, and what it did whose files are still there. Raises AliasMoved."""
        with self._database.read() as session:
            return _plan(session, keep, expected)

    def prune(self, keep: int = KEEP, *, expected: int | None = None) -> Pruning:
        """Record that these versions can serve their languages no more. Raises AliasMoved.

        `expected` is the release that the caller saw. Afterwards `index.sweep` removes their files.
        """
        with self._database.begin() as session:
            pruning = _plan(session, keep, expected)
            numbers = [version.number for version in pruning.versions]
            new = VersionRow.pruned_at.is_(None) | VersionRow.number.in_(named_since(session))
            mark = update(VersionRow).where(VersionRow.number.in_(numbers), new)
            session.execute(mark.values(pruned_at=now(), pruned_release=pruning.release))
            return pruning

    def removable(self) -> list[Version]:
        """Return the pruned versions whose files are still there, and upon which no other version builds."""
        with self._database.read() as session:
            used = needed(session)
            return [version_of(row) for row in _pending(session) if row.number not in used]

    def version_removed(self, number: int) -> None:
        """Record that the files of a pruned version are gone."""
        gone = update(VersionRow).where(VersionRow.number == number, VersionRow.pruned_at.is_not(None))
        with self._database.begin() as session:
            session.execute(gone.values(folder=None))

    def dataset_removed(self, expansion: str) -> None:
        """Record that the dataset of an expansion is gone."""
        with self._database.begin() as session:
            session.execute(update(ExpansionRow).where(ExpansionRow.id == expansion).values(dataset_path=None))


def _plan(session: Session, keep: int, expected: int | None) -> Pruning:
    release = serving(session, expected).number
    oldest = _oldest(session, release, max(keep, LEAST))
    reach = session.scalars(select(ReleaseRow).where(ReleaseRow.number >= oldest)).all()
    first = _earliest(session, oldest)
    since = select(func.min(ReleaseRow.created_at)).where(ReleaseRow.number >= first).scalar_subquery()
    at_work = select(ExpansionRow.id).where(ACTIVE)
    older = (VersionRow.created_at < since, func.coalesce(VersionRow.expansion, "").not_in(at_work))
    again, named = named_since(session), reachable(session, reach)
    served = VersionRow.pruned_at.is_(None) | VersionRow.number.in_(again)
    new = [row for row in session.scalars(select(VersionRow).where(*older, served)) if row.number not in named]
    used = needed(session, {row.number for row in new})
    left = [row for row in _pending(session) if row.number not in used]
    versions = [version_of(row) for _, row in sorted({row.number: row for row in (*new, *left)}.items())]

    taught = _taught(session, {row.number for row in new})
    ended = (ExpansionRow.finished_at < since, ExpansionRow.dataset_path.is_not(None))
    finished = session.scalars(select(ExpansionRow).where(*ended, ~ACTIVE).order_by(ExpansionRow.created_at))
    datasets = tuple(expansion_of(row) for row in finished if row.id not in taught)
    return Pruning(release, oldest, tuple(versions), frozenset(used & {v.number for v in versions}), datasets)


def _taught(session: Session, pruned: Collection[int]) -> set[str]:
    """The expansions whose datasets a language is taught again from: all that a version in reach was taught from."""
    kept = session.scalars(select(VersionRow).where(VersionRow.pruned_at.is_(None), VersionRow.number.not_in(pruned)))
    return {source for row in kept for source in version_of(row).learned}


def _oldest(session: Session, release: int, keep: int) -> int:
    """Return the oldest release in reach."""
    oldest = max(1, release - keep + 1)
    everything = ExpansionRow.kind.in_(("reencode", "base"))
    if session.scalar(select(ExpansionRow.id).where(ACTIVE, everything).limit(1)) is not None:
        return 1  # it encodes the captions of every release, or goes on with what an earlier move has made
    # one that was submitted in the future, as a wrong clock said, may have begun with any release
    began = func.min(case((ExpansionRow.created_at > now(), _LONG_AGO), else_=ExpansionRow.created_at))
    then = select(began).where(ACTIVE).scalar_subquery()
    first_since = session.scalar(select(func.min(ReleaseRow.number)).where(ReleaseRow.created_at > then))
    return oldest if first_since is None else max(1, min(oldest, first_since - 1))


def _earliest(session: Session, oldest: int) -> int:
    """The oldest release in reach or, if the clock was ahead when that was made, one before it whose time fits."""
    made = {row.number: row.created_at for row in session.execute(select(ReleaseRow.number, ReleaseRow.created_at))}
    moment = session.scalars(select(now())).one()
    earliest = min(moment, *(at for number, at in made.items() if number >= oldest))
    return max((number for number, at in made.items() if number <= oldest and at <= earliest), default=1)


def _pending(session: Session) -> Sequence[VersionRow]:
    """Return the pruned versions whose files are still there."""
    pending = (VersionRow.pruned_at.is_not(None), VersionRow.folder.is_not(None))
    return session.scalars(select(VersionRow).where(*pending)).all()
