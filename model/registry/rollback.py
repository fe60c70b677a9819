"""What rolling back a language does, from the history of releases and the lineage of versions. Writes nothing."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from model.errors import ExpansionInProgress, LanguageNotFound, RollbackNotPossible
from model.registry.expansions import ACTIVE, refuse_active
from model.registry.tables import ExpansionRow, ReleaseRow
from model.registry.versions import BUILT_IN_LANGUAGE, lineage


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
    """The plan for `tag`. Raises LanguageNotFound, RollbackNotPossible for English, and ExpansionInProgress while an
    expansion teaches this language.
    """
    if tag == BUILT_IN_LANGUAGE:
        raise RollbackNotPossible("English is built in and cannot be rolled back.")
    if tag not in serving.languages:
        raise LanguageNotFound(languages=sorted(serving.languages))
    refuse_active(session, tag)
    _refuse_replayed(session, tag)
    *older, current = _histories(session, tag)[serving.number]
    previous = older[-1] if older else None
    others = sorted(set(serving.languages) - {tag})

    chain = list(reversed(lineage(session, serving.shared)))  # version 0 first
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


def history(session: Session, serving: ReleaseRow, tag: str, version: int) -> tuple[int, ...]:
    """The language's versions that `version` builds upon, oldest first, and itself at the end.

    They had been served, and not withdrawn, when it was first served; if it never was, those that count now.
    """
    histories = _histories(session, tag)
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
    return all(
        {languages.get(tag) for languages in since} <= set(_histories(session, tag)[serving.number]) for tag in replayed
    )


def _refuse_replayed(session: Session, tag: str) -> None:
    """Raises ExpansionInProgress, with its id, when a queued or running rebuild replays the language."""
    for row in session.scalars(select(ExpansionRow).where(ExpansionRow.kind == "rebuild", ACTIVE)):
        if tag in row.settings.get("replay", ()):
            raise ExpansionInProgress(f"Expansion {row.id} replays this language and is {row.state}.", expansion=row.id)


def _histories(session: Session, tag: str) -> dict[int, tuple[int, ...]]:
    """By release, oldest first: the language's versions served and not withdrawn up to then; the last one serves.

    A release that names an older version withdraws the newer ones. Restoring a release restores its history with it.
    """
    columns = (ReleaseRow.number, ReleaseRow.languages, ReleaseRow.change)
    histories: dict[int, tuple[int, ...]] = {}
    versions: tuple[int, ...] = ()
    for number, languages, change in session.execute(select(*columns).order_by(ReleaseRow.number)):
        version = languages.get(tag)
        if change.get("restored") in histories:
            versions = histories[change["restored"]]
        else:
            versions = () if version is None else _extended(versions, version)
        histories[number] = versions
    return histories


def _extended(versions: tuple[int, ...], version: int) -> tuple[int, ...]:
    return (*(old for old in versions if old < version), version)
