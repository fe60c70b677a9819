"""Retention: which versions no rollback can serve any more, and so may be pruned. Removes no file.

In reach are the newest releases, as many as are to be kept, and what a rollback of one language from any of them would
serve. While an expansion is in progress, every release since it was submitted is in reach too, and the one that served
then. Nothing that is younger than the oldest release in reach goes, whether a release names it or not. The datasets of
a version in reach are all that its language was taught from, those of pruned versions too: it is taught anew from them.

One writer transaction decides. A version that was pruned can never serve its language again, nor be the shared one when
no version in reach builds upon it. So whatever is removed after that, and however late, nobody needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import case, func, literal, select, update
from sqlalchemy.orm import Session

from store.audit import record_act
from store.clock import Instant, now
from store.database import RegistryPart
from store.expansions import ACTIVE, Expansion, build_expansion
from store.serving import find_reachable, get_serving
from store.tables import ExpansionRow, ReleaseRow, VersionRow
from store.versions import Version, build_version, find_needed, find_reused_as_shared

KEEP = 10  # releases
LEAST = 2  # the one that serves, and the one before it: it is still open in every process
_LONG_AGO = literal(datetime.fromtimestamp(0, UTC), Instant())


@dataclass(frozen=True)
class PruningPlan:
    """The `versions`, and the `datasets` of finished expansions, that may go; `oldest` is the oldest release in reach.

    `release` serves. The files of the `needed` versions stay, because a version in reach builds upon them.
    """

    release: int
    oldest: int
    versions: tuple[Version, ...]
    needed: frozenset[int]
    datasets: tuple[Expansion, ...]


class Retention(RegistryPart):
    """The pruning of a registry."""

    def plan(self, keep: int = KEEP, *, expected: int | None = None) -> PruningPlan:
        """Return what `prune` would do now, with pruned versions whose files are still there. Raises AliasMoved."""
        with self._database.read() as session:
            return _plan_pruning(session, keep, expected)

    def prune(self, keep: int = KEEP, *, expected: int | None = None) -> PruningPlan:
        """Mark the versions out of reach as unable to serve; `index.janitor` removes their files afterwards.

        Raises AliasMoved when another release than `expected` serves.
        """
        with self._database.begin() as session:
            pruning = _plan_pruning(session, keep, expected)
            numbers = [version.number for version in pruning.versions]
            new = VersionRow.pruned_at.is_(None) | VersionRow.number.in_(find_reused_as_shared(session))
            mark = update(VersionRow).where(VersionRow.number.in_(numbers), new)
            marked = mark.values(pruned_at=now(), pruned_release=pruning.release).returning(VersionRow.number)
            record_act(session, {f"version {number}": "pruned" for number in session.scalars(marked)})
            return pruning

    def list_removable(self) -> list[Version]:
        """List the pruned versions whose files are still there, and on which no other version builds."""
        with self._database.read() as session:
            needed = find_needed(session)
            return [build_version(row) for row in _list_pending(session) if row.number not in needed]

    def note_version_removed(self, number: int) -> None:
        """Record that the files of a pruned version are gone."""
        pruned = update(VersionRow).where(VersionRow.number == number, VersionRow.pruned_at.is_not(None))
        with self._database.begin() as session:
            session.execute(pruned.values(folder=None))

    def note_dataset_removed(self, expansion: str) -> None:
        """Record that the dataset of an expansion is gone."""
        with self._database.begin() as session:
            session.execute(update(ExpansionRow).where(ExpansionRow.id == expansion).values(dataset_path=None))
            record_act(session, {f"dataset {expansion}": "removed"})


def _plan_pruning(session: Session, keep: int, expected: int | None) -> PruningPlan:
    release = get_serving(session, expected).number
    oldest = _find_oldest(session, release, max(keep, LEAST))
    reach = session.scalars(select(ReleaseRow).where(ReleaseRow.number >= oldest)).all()
    first = _find_earliest(session, oldest)
    since = select(func.min(ReleaseRow.created_at)).where(ReleaseRow.number >= first).scalar_subquery()
    at_work = select(ExpansionRow.id).where(ACTIVE)
    older = (VersionRow.created_at < since, func.coalesce(VersionRow.expansion, "").not_in(at_work))
    can_serve = VersionRow.pruned_at.is_(None) | VersionRow.number.in_(find_reused_as_shared(session))
    in_reach = find_reachable(session, reach)
    new = [row for row in session.scalars(select(VersionRow).where(*older, can_serve)) if row.number not in in_reach]
    numbers = {row.number for row in new}
    needed = find_needed(session, numbers)
    pending = [row for row in _list_pending(session) if row.number not in needed]
    versions = [build_version(row) for _, row in sorted({row.number: row for row in (*new, *pending)}.items())]

    in_use = select(VersionRow.datasets).where(VersionRow.pruned_at.is_(None), VersionRow.number.not_in(numbers))
    sources = {source for datasets in session.scalars(in_use) for source in datasets}  # a move teaches from them again
    ended = (ExpansionRow.finished_at < since, ExpansionRow.dataset_path.is_not(None))
    finished = session.scalars(select(ExpansionRow).where(*ended, ~ACTIVE).order_by(ExpansionRow.created_at))
    datasets = tuple(build_expansion(row) for row in finished if row.id not in sources)
    kept_files = frozenset(needed & {version.number for version in versions})
    return PruningPlan(release, oldest, tuple(versions), kept_files, datasets)


def _find_oldest(session: Session, release: int, keep: int) -> int:
    oldest = max(1, release - keep + 1)
    if session.scalar(select(ExpansionRow.id).where(ACTIVE, ExpansionRow.kind == "base").limit(1)) is not None:
        return 1  # it encodes the captions of every release, or goes on with what an earlier move has made
    # one that was submitted in the future, as a wrong clock said, may have begun with any release
    began = func.min(case((ExpansionRow.created_at > now(), _LONG_AGO), else_=ExpansionRow.created_at))
    then = select(began).where(ACTIVE).scalar_subquery()
    first_since = session.scalar(select(func.min(ReleaseRow.number)).where(ReleaseRow.created_at > then))
    return oldest if first_since is None else max(1, min(oldest, first_since - 1))


def _find_earliest(session: Session, oldest: int) -> int:
    """Return the release `oldest` or, if the clock was ahead when that was made, one before it whose time fits."""
    times = {row.number: row.created_at for row in session.execute(select(ReleaseRow.number, ReleaseRow.created_at))}
    moment = session.scalars(select(now())).one()
    earliest = min(moment, *(at for number, at in times.items() if number >= oldest))
    return max((number for number, at in times.items() if number <= oldest and at <= earliest), default=1)


def _list_pending(session: Session) -> Sequence[VersionRow]:
    """List the pruned versions whose files are still there."""
    pending = (VersionRow.pruned_at.is_not(None), VersionRow.folder.is_not(None))
    return session.scalars(select(VersionRow).where(*pending)).all()
