"""Reach: what serves, what served before it, what a rollback would serve, and so which versions may be pruned.

In reach are the newest releases, as many as are to be kept, and what a rollback of one language from any of them would
serve. While an expansion is in progress, every release since it was submitted is in reach too, and the one that served
then. Nothing that is younger than the oldest release in reach goes, whether a release names it or not. The datasets of
a version in reach are all that its language was taught from, those of pruned versions too: it is taught anew from them.

One writer transaction decides. A version that was pruned can never serve its language again, nor be the shared one when
no version in reach builds upon it. So whatever is removed after that, and however late, nobody needs. Removes no file.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, case, func, literal, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from store.audit import note_act
from store.clock import Instant, now
from store.database import RegistryPart
from store.errors import AliasMoved, ExpansionInProgress, LanguageNotFound, RegistryUnavailable, RollbackNotPossible
from store.expansions import Expansion, build_expansion
from store.leases import ACTIVE, refuse_active
from store.tables import SERVING, AliasRow, ExpansionRow, RegistryRow, ReleaseRow, VersionRow
from store.versions import (
    BUILT_IN_LANGUAGE,
    Version,
    build_version,
    find_needed,
    find_reused_as_shared,
    find_roots,
    keep_figures,
    refuse_pruned,
    strip_language,
    trace_lineage,
)

KEEP = 10  # releases
LEAST = 2  # the one that serves, and the one before it: it is still open in every process
_SERVING = select(ReleaseRow).join(AliasRow, AliasRow.release == ReleaseRow.number).where(AliasRow.name == SERVING)
_RELEASES = select(ReleaseRow.number, ReleaseRow.languages, ReleaseRow.change).order_by(ReleaseRow.number)
_LONG_AGO = literal(datetime.fromtimestamp(0, UTC), Instant())


@dataclass(frozen=True)
class RollbackPlan:
    """A rollback of a language from `from_version` to `to_version` (None: no longer served); others are `unchanged`.

    `shared_version` is the shared table afterwards. `replay` are the other languages, in the order of learning, that it
    loses and that a rebuild would teach it again. `release` serves, before or after the rollback.
    """

    language: str
    from_version: int
    to_version: int | None
    unchanged: list[str]
    shared_version: int
    replay: list[str]
    release: int
    rebuild: str | None = None  # the expansion that was queued for it


def get_serving(session: Session, expected: int | None = None) -> ReleaseRow:
    """Return the release that the alias names. Raises AliasMoved, with its number, when another one is `expected`.

    Raises RegistryUnavailable before the registry is initialised.
    """
    row = session.scalar(_SERVING)
    if row is None:
        raise RegistryUnavailable("The registry has not been initialised.")
    if expected not in (None, row.number):
        raise AliasMoved(f"Release {row.number} is serving, not {expected}.", release=row.number)
    return row


def plan_rollback(session: Session, serving: ReleaseRow, tag: str) -> RollbackPlan:
    """Return the plan for the language `tag`.

    Raises LanguageNotFound, RollbackNotPossible for English, ExpansionInProgress while it is taught, VersionPruned.
    """
    if tag == BUILT_IN_LANGUAGE:
        raise RollbackNotPossible("English is built in and cannot be rolled back.")
    if tag not in serving.languages:
        raise LanguageNotFound(languages=sorted(serving.languages))
    refuse_active(session, tag)
    _refuse_replayed(session, tag)
    chain = list(reversed(trace_lineage(session, serving.shared)))  # the base first
    current = serving.languages[tag]
    previous = _find_previous(_trace_histories(_list_releases(session), tag)[serving.number], find_roots(session))
    refuse_pruned(session, () if previous is None else (previous,))
    others = sorted(set(serving.languages) - {tag})

    # With a previous version, the shared table keeps what that one taught; without, it keeps nothing of the language.
    oldest = current if previous is not None else 0
    taken_back = [place for place, version in enumerate(chain) if version.language == tag and version.number >= oldest]
    end = taken_back[0] if taken_back else len(chain)
    lost = dict.fromkeys(version.language for version in chain[end:])
    return RollbackPlan(
        language=tag,
        from_version=current,
        to_version=previous,
        unchanged=others,
        shared_version=chain[end - 1].number,
        replay=[language for language in lost if language in others],
        release=serving.number,
    )


def find_reachable(session: Session, releases: Sequence[ReleaseRow]) -> set[int]:
    """Return the versions that these releases name, and those to which a language would be rolled back from them."""
    tags = {tag for release in releases for tag in release.languages} - {BUILT_IN_LANGUAGE}
    every = _list_releases(session)
    histories = {tag: _trace_histories(every, tag) for tag in tags}
    named = {version for each in releases for version in (each.shared, *each.languages.values())}
    bases = find_roots(session)
    before = (_find_previous(histories[tag][row.number], bases) for row in releases for tag in {*row.languages} & tags)
    return named.union(version for version in before if version is not None)


def find_history(session: Session, serving: ReleaseRow, tag: str, version: int) -> tuple[int, ...]:
    """Return the language's versions served, and not rolled back, when `version` was first served; it comes last.

    If it never was, those of now. Oldest first.
    """
    histories = _trace_histories(_list_releases(session), tag)
    served = (versions for versions in histories.values() if versions[-1:] == (version,))
    return next(served, _append_version(histories[serving.number], version))


def has_nothing_rolled_back(session: Session, serving: ReleaseRow, language: str, replayed: Iterable[str]) -> bool:
    """Return whether nothing that the rebuild after a rollback may have replayed was rolled back since that rollback.

    A rebuild replays the version of each language that serves when it begins, so none that served since may be gone.
    """
    columns = select(ReleaseRow.languages, ReleaseRow.change).order_by(ReleaseRow.number.desc())
    since: list[dict[str, int]] = []
    for languages, change in session.execute(columns):
        since.append(languages)
        if (change.get("kind"), change.get("language")) == ("rollback", language):
            break
    every = _list_releases(session)
    return all(
        {languages.get(tag) for languages in since} <= set(_trace_histories(every, tag)[serving.number])
        for tag in replayed
    )


def _refuse_replayed(session: Session, tag: str) -> None:
    """Raise ExpansionInProgress, with its id, when a queued or running rebuild replays the language."""
    for row in session.scalars(select(ExpansionRow).where(ExpansionRow.kind == "rebuild", ACTIVE)):
        if tag in row.settings.get("replay", ()):
            raise ExpansionInProgress(f"Expansion {row.id} replays this language and is {row.state}.", expansion=row.id)


def _find_previous(versions: Sequence[int], bases: Mapping[int, int]) -> int | None:
    """Return the version to which a rollback goes: the newest of the earlier ones that was made for the same base."""
    *older, current = versions
    return next((version for version in reversed(older) if bases[version] == bases[current]), None)


def _list_releases(session: Session) -> Sequence[Any]:
    """List what each release served and changed, oldest first."""
    return session.execute(_RELEASES).all()


def _trace_histories(releases: Sequence[Any], tag: str) -> dict[int, tuple[int, ...]]:
    """Return, by release, the language's versions served and not rolled back up to then; the last one serves.

    A release that names an older version rolls the newer ones back. A restored release has its history again. That of a
    language goes on over bases, as its captions do; a rollback stays with its base.
    """
    histories: dict[int, tuple[int, ...]] = {}
    versions: tuple[int, ...] = ()
    for number, languages, change in releases:
        version = languages.get(tag)
        restored = histories.get(change.get("restored"), ())
        if version is None:
            versions = ()
        else:  # an undo of an encoding alone restores no language
            versions = restored if restored[-1:] == (version,) else _append_version(versions, version)
        histories[number] = versions
    return histories


def _append_version(versions: tuple[int, ...], version: int) -> tuple[int, ...]:
    return (*(old for old in versions if old < version), version)


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

        Their reports keep figures alone, even while others build upon their files. Raises AliasMoved when another
        release than `expected` serves.
        """
        with self._database.begin() as session:
            pruning = _plan_pruning(session, keep, expected)
            numbers = [version.number for version in pruning.versions]
            new = VersionRow.pruned_at.is_(None) | VersionRow.number.in_(find_reused_as_shared(session))
            rows = session.scalars(select(VersionRow).where(VersionRow.number.in_(numbers), new)).all()
            for row in rows:
                row.pruned_at, row.pruned_release, row.report = now(), pruning.release, keep_figures(row.report)
                if row.expansion is not None:
                    made = session.get_one(ExpansionRow, row.expansion)
                    made.report = strip_language(made.report, row.language)
            note_act(session, {f"version {row.number}": "pruned" for row in rows})
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
        """Record that the dataset of an expansion is gone; what its report and doubts quote of it goes, too."""
        with self._database.begin() as session:
            row = session.get_one(ExpansionRow, expansion)
            row.dataset_path, row.report = None, keep_figures(row.report)
            row.settings = {name: value for name, value in row.settings.items() if name != "doubts"}
            note_act(session, {f"dataset {expansion}": "removed"})


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


class DeletedPictureRow(RegistryRow):
    """A deleted picture; `captions` are [language, text, expansion] in order. The other columns are `PictureRow`'s."""

    __tablename__ = "deleted_pictures"

    id: Mapped[str] = mapped_column(primary_key=True)
    deleted_at: Mapped[datetime] = mapped_column(default=now())
    content_sha256: Mapped[str]
    collection: Mapped[str]
    width: Mapped[int]
    height: Mapped[int]
    original: Mapped[bool]
    created_at: Mapped[datetime]
    tags: Mapped[list[str]] = mapped_column(JSON)
    facts: Mapped[dict[str, Any]] = mapped_column("metadata", JSON)
    captions: Mapped[list[list[str | None]]] = mapped_column(JSON)
