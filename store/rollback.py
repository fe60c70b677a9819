"""What rolling back a language does, from the history of releases and the lineage of versions. Writes nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.errors import ExpansionInProgress, LanguageNotFound, RollbackNotPossible
from store.expansions import ACTIVE, refuse_active
from store.tables import ExpansionRow, ReleaseRow
from store.versions import BUILT_IN_LANGUAGE, lineage, refuse_pruned, roots


@dataclass(frozen=True)
class RollbackPlan:
    """The language moves from `from_version` to `to_version` (None: no longer served); `unchanged` lists all others.

    `shared_version` is the shared table afterwards. `replay` are the other languages, in the order of learning, that it
    loses and that a rebuild would teach it again. `release` is the release that the plan is based on or, after the
    rollback, the new one.
    """

    language: str
    from_version: int
    to_version: int | None
    unchanged: list[str]
    shared_version: int
    replay: list[str]
    release: int
    rebuild: str | None = None  # the expansion that was queued for it


def plan(session: Session, serving: ReleaseRow, tag: str) -> RollbackPlan:
    """Return the plan for `tag`. Raises LanguageNotFound, RollbackNotPossible for English, ExpansionInProgress while an
    expansion teaches this language, and VersionPruned.
    """
    if tag == BUILT_IN_LANGUAGE:
        raise RollbackNotPossible("English is built in and cannot be rolled back.")
    if tag not in serving.languages:
        raise LanguageNotFound(languages=sorted(serving.languages))
    refuse_active(session, tag)
    _refuse_replayed(session, tag)
    chain = list(reversed(lineage(session, serving.shared)))  # the base first
    current = serving.languages[tag]
    previous = _previous(_histories(_releases(session), tag)[serving.number], roots(session))
    refuse_pruned(session, () if previous is None else (previous,))
    others = sorted(set(serving.languages) - {tag})

    # With a previous version, the shared table keeps what that one taught; without, it keeps nothing of the language.
    oldest = current if previous is not None else 0
    withdrawn = [place for place, version in enumerate(chain) if version.language == tag and version.number >= oldest]
    kept = withdrawn[0] if withdrawn else len(chain)
    lost = dict.fromkeys(version.language for version in chain[kept:])
    return RollbackPlan(
        language=tag,
        from_version=current,
        to_version=previous,
        unchanged=others,
        shared_version=chain[kept - 1].number,
        replay=[language for language in lost if language in others],
        release=serving.number,
    )


def reachable(session: Session, releases: Sequence[ReleaseRow]) -> set[int]:
    """Return the versions that these releases name, and those that a language would go back to from one of them."""
    tags, every = {tag for release in releases for tag in release.languages} - {BUILT_IN_LANGUAGE}, _releases(session)
    histories = {tag: _histories(every, tag) for tag in tags}
    named = {version for each in releases for version in (each.shared, *each.languages.values())}
    bases = roots(session)
    previous = (_previous(histories[tag][each.number], bases) for each in releases for tag in {*each.languages} & tags)
    return named.union(version for version in previous if version is not None)


def history(session: Session, serving: ReleaseRow, tag: str, version: int) -> tuple[int, ...]:
    """Return the language's versions that `version` builds upon, oldest first, and itself at the end.

    They had been served, and not withdrawn, when it was first served; if it never was, those that count now.
    """
    histories = _histories(_releases(session), tag)
    served = (versions for versions in histories.values() if versions[-1:] == (version,))
    return next(served, _extended(histories[serving.number], version))


def nothing_withdrawn(session: Session, serving: ReleaseRow, rolled_back: str, replayed: Iterable[str]) -> bool:
    """Whether nothing that the rebuild after a rollback may have replayed was withdrawn since that rollback.

    A rebuild replays the version of each language that serves when it begins, so none that served since may be gone.
    """
    columns = select(ReleaseRow.languages, ReleaseRow.change).order_by(ReleaseRow.number.desc())
    since: list[dict[str, int]] = []
    for languages, change in session.execute(columns):
        since.append(languages)
        if (change.get("kind"), change.get("language")) == ("rollback", rolled_back):
            break
    every = _releases(session)
    return all(
        {languages.get(tag) for languages in since} <= set(_histories(every, tag)[serving.number]) for tag in replayed
    )


def _refuse_replayed(session: Session, tag: str) -> None:
    """Raise ExpansionInProgress, with its id, when a queued or running rebuild replays the language."""
    for row in session.scalars(select(ExpansionRow).where(ExpansionRow.kind == "rebuild", ACTIVE)):
        if tag in row.settings.get("replay", ()):
            raise ExpansionInProgress(f"Expansion {row.id} replays this language and is {row.state}.", expansion=row.id)


def _previous(versions: Sequence[int], bases: Mapping[int, int]) -> int | None:
    """Return the version that a rollback goes to: the newest of the others that was made for the same base."""
    *older, current = versions
    return next((version for version in reversed(older) if bases[version] == bases[current]), None)


def _releases(session: Session) -> Sequence[Any]:
    """Return what each release served and changed, oldest first."""
    columns = (ReleaseRow.number, ReleaseRow.languages, ReleaseRow.change)
    return session.execute(select(*columns).order_by(ReleaseRow.number)).all()


def _histories(releases: Sequence[Any], tag: str) -> dict[int, tuple[int, ...]]:
    """Return, by release, the language's versions served and not withdrawn up to then; the last one serves.

    A release that names an older version withdraws the newer ones. Restoring a release restores its history with it.
    That of a language goes on over bases: its captions do. A rollback stays with its base.
    """
    histories: dict[int, tuple[int, ...]] = {}
    versions: tuple[int, ...] = ()
    for number, languages, change in releases:
        version = languages.get(tag)
        if change.get("restored") in histories:
            versions = histories[change["restored"]]
        else:
            versions = () if version is None else _extended(versions, version)
        histories[number] = versions
    return histories


def _extended(versions: tuple[int, ...], version: int) -> tuple[int, ...]:
    return (*(old for old in versions if old < version), version)
