"""What rolling back a language means, told by the history of releases and the lineage of versions. Writes nothing."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from model.errors import LanguageNotFound, RollbackNotPossible
from model.registry.expansions import refuse_active
from model.registry.tables import ReleaseRow
from model.registry.versions import BASE_LANGUAGE, lineage


@dataclass(frozen=True)
class RollbackPlan:
    """The language goes `from_version` `to_version` (None: is served no longer); `unchanged` are all other languages.

    `shared_version` is the shared table afterwards. `replay` are the languages, in the order of their learning, that it
    loses beside the one rolled back and that a rebuild would teach it again. `release` is the one planned upon.
    """

    language: str
    from_version: int
    to_version: int | None
    unchanged: list[str]
    shared_version: int
    replay: list[str]
    release: int


def plan(session: Session, serving: ReleaseRow, tag: str) -> RollbackPlan:
    """LanguageNotFound, RollbackNotPossible for the base's language, ExpansionInProgress for this one's own."""
    if tag == BASE_LANGUAGE:
        raise RollbackNotPossible
    if tag not in serving.languages:
        raise LanguageNotFound(f"Learned are {', '.join(sorted(serving.languages))}.")
    refuse_active(session, tag)
    *older, current = _history(session, serving, tag)
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


def _history(session: Session, serving: ReleaseRow, tag: str) -> tuple[int, ...]:
    """The versions of the language that were served and not taken back since, oldest first; the last is current.

    A release that names an older version takes back the newer ones. Restoring a release restores its history with it.
    """
    columns = (ReleaseRow.number, ReleaseRow.languages, ReleaseRow.change)
    at: dict[int, tuple[int, ...]] = {}
    history: tuple[int, ...] = ()
    for number, languages, change in session.execute(select(*columns).order_by(ReleaseRow.number)):
        version = languages.get(tag)
        if change.get("restored") in at:
            history = at[change["restored"]]
        else:
            history = () if version is None else (*(old for old in history if old < version), version)
        at[number] = history
    return at[serving.number]
