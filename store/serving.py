"""What serves, what served before it, and what a rollback would serve. Changes nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.errors import AliasMoved, ExpansionInProgress, LanguageNotFound, RegistryUnavailable, RollbackNotPossible
from store.expansions import ACTIVE, refuse_active
from store.tables import SERVING, AliasRow, ExpansionRow, ReleaseRow
from store.versions import BUILT_IN_LANGUAGE, find_roots, refuse_pruned, trace_lineage


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
    row = session.scalar(
        select(ReleaseRow).join(AliasRow, AliasRow.release == ReleaseRow.number).where(AliasRow.name == SERVING)
    )
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
    columns = (ReleaseRow.number, ReleaseRow.languages, ReleaseRow.change)
    return session.execute(select(*columns).order_by(ReleaseRow.number)).all()


def _trace_histories(releases: Sequence[Any], tag: str) -> dict[int, tuple[int, ...]]:
    """Return, by release, the language's versions served and not rolled back up to then; the last one serves.

    A release that names an older version rolls the newer ones back. A restored release has its history again. That of a
    language goes on over bases, as its captions do; a rollback stays with its base.
    """
    histories: dict[int, tuple[int, ...]] = {}
    versions: tuple[int, ...] = ()
    for number, languages, change in releases:
        version = languages.get(tag)
        if change.get("restored") in histories:
            versions = histories[change["restored"]]
        else:
            versions = () if version is None else _append_version(versions, version)
        histories[number] = versions
    return histories


def _append_version(versions: tuple[int, ...], version: int) -> tuple[int, ...]:
    return (*(old for old in versions if old < version), version)
