"""What rolling back a language means, told by the history of releases and the lineage of versions. Writes nothing."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from model.errors import ExpansionInProgress, LanguageNotFound, RollbackNotPossible
from model.registry.expansions import refuse_active
from model.registry.tables import QUEUED, RUNNING, ExpansionRow, ReleaseRow
from model.registry.versions import BASE_LANGUAGE, lineage


@dataclass(frozen=True)
class RollbackPlan:
    """The language goes `from_version` `to_version` (None: is served no longer); `unchanged` are all other languages.

    `shared_version` is the shared table afterwards. `replay` are the languages, in the order of their learning, that it
    loses beside the one rolled back and that a rebuild would teach it again. `release` is the one planned upon; of a
    rollback that was done, the new one.
    """

    language: str
    from_version: int
    to_version: int | None
    unchanged: list[str]
    shared_version: int
    replay: list[str]
    release: int
    rebuild: str | None = None  # the expansion that was queued with it


def plan(session: Session, serving: ReleaseRow, tag: str) -> RollbackPlan:
    """LanguageNotFound, RollbackNotPossible for the base's language, ExpansionInProgress while one teaches this one."""
    if tag == BASE_LANGUAGE:
        raise RollbackNotPossible("English is built in and cannot be rolled back.")
    if tag not in serving.languages:
        raise LanguageNotFound(languages=sorted(serving.languages))
    refuse_active(session, tag)
    _refuse_replayed(session, tag)
    *older, current = _histories(session, tag)[serving.number]
    previous = older[-1] if older else None
    others = sorted(set(serving.languages) - {tag})

    chain = list(reversed(lineage(session, serving.shared)))  # the base first
    # Back to an older version of itself, the table keeps what that one taught; out altogether, it keeps nothing of it.
    first = current if previous is not None else 0
    withdrawn = [at for at, version in enumerate(chain) if version.language == tag and version.number >= first]
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


def history(session: Session, serving: ReleaseRow, tag: str, version: int) -> tuple[int, ...]:
    """The language's versions that `version` builds upon, oldest first, and itself at the end.

    They had been served, and not taken back, when it was first served; of one never served, as things stand now.
    """
    at = _histories(session, tag)
    served = (versions for versions in at.values() if versions[-1:] == (version,))
    return next(served, _followed(at[serving.number], version))


def stands(session: Session, serving: ReleaseRow, rolled_back: str, replayed: Iterable[str]) -> bool:
    """Whether nothing that the rebuild after a rollback may have replayed was taken back since that rollback.

    A rebuild takes for each language the version that serves when it begins, so none that served since may be gone.
    """
    columns = select(ReleaseRow.languages, ReleaseRow.change).order_by(ReleaseRow.number.desc())
    since: list[dict[str, int]] = []
    for languages, change in session.execute(columns):
        since.append(languages)
        if (change.get("kind"), change.get("language")) == ("rollback", rolled_back):
            break
    return all(
        {languages.get(tag) for languages in since} <= set(_histories(session, tag)[serving.number]) for tag in replayed
    )


def _refuse_replayed(session: Session, tag: str) -> None:
    """ExpansionInProgress, with its id, when a queued or running rebuild teaches the language to the shared table."""
    active = ExpansionRow.state.in_((QUEUED, RUNNING))
    for row in session.scalars(select(ExpansionRow).where(ExpansionRow.kind == "rebuild", active)):
        if tag in row.settings.get("replay", ()):
            raise ExpansionInProgress(f"Expansion {row.id} replays this language and is {row.state}.", expansion=row.id)


def _histories(session: Session, tag: str) -> dict[int, tuple[int, ...]]:
    """At each release, the first one first, the language's versions served and not taken back since; the last serves.

    A release that names an older version takes back the newer ones. Restoring a release restores its history with it.
    """
    columns = (ReleaseRow.number, ReleaseRow.languages, ReleaseRow.change)
    at: dict[int, tuple[int, ...]] = {}
    versions: tuple[int, ...] = ()
    for number, languages, change in session.execute(select(*columns).order_by(ReleaseRow.number)):
        version = languages.get(tag)
        if change.get("restored") in at:
            versions = at[change["restored"]]
        else:
            versions = () if version is None else _followed(versions, version)
        at[number] = versions
    return at


def _followed(versions: tuple[int, ...], version: int) -> tuple[int, ...]:
    return (*(old for old in versions if old < version), version)
