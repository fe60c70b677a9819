"""Releases: what is served, moved by compare-and-set and never edited. Opens no version and swaps nothing in memory."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from model.errors import AliasMoved, ExpansionCancelled, RegistryUnavailable, ReleaseNotFound
from model.registry.database import Database
from model.registry.expansions import new_expansion_id, queue
from model.registry.idempotency import Once, done, remember
from model.registry.leases import held
from model.registry.rollback import RollbackPlan, history, plan, stands
from model.registry.tables import SERVING, AliasRow, ExpansionRow, ReleaseRow, VersionRow
from model.registry.versions import BASE, BASE_LANGUAGE, find, lineage


@dataclass(frozen=True)
class Release:
    """One routing table: text of a language is encoded by `languages[tag]`, other text by `shared`."""

    number: int
    shared: int
    languages: dict[str, int]
    created_at: datetime
    actor: str
    reason: str
    change: dict[str, Any]


class Releases:
    """All releases; exactly one is serving at any moment."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def serving(self) -> Release:
        """The release that the alias names; RegistryUnavailable before the registry was initialised."""
        with self._database.read() as session:
            return _release(serving(session))

    def get(self, number: int) -> Release:
        """ReleaseNotFound."""
        with self._database.read() as session:
            return _release(_find(session, number))

    def list(self, limit: int | None = None, before: int | None = None) -> Sequence[Release]:
        """Newest first; `before` is the last number of the page before."""
        query = select(ReleaseRow).order_by(ReleaseRow.number.desc()).limit(limit)
        if before is not None:
            query = query.where(ReleaseRow.number < before)
        with self._database.read() as session:
            return [_release(row) for row in session.scalars(query)]

    def history(self, language: str, version: int) -> tuple[int, ...]:
        """The language's versions served and not taken back when `version` was first served, oldest first, it last.

        Of a version that was never served: those that stand now, and itself.
        """
        with self._database.read() as session:
            return history(session, serving(session), language, version)

    def publish(
        self, *, expected: int, shared: int, languages: dict[str, int], actor: str, reason: str, change: dict[str, Any]
    ) -> Release:
        """Serve this from now on, if `expected` still serves; AliasMoved, VersionNotFound."""
        with self._database.begin() as session:
            for number in {shared, *languages.values()}:
                find(session, number)
            row = ReleaseRow(shared=shared, languages=languages, actor=actor, reason=reason, change=change)
            return publish(session, expected, row)

    def promote(self, *, expansion: str, version: int, move_shared: bool, fence: int) -> Release:
        """Serve a version that the expansion made; again gives the same release. LeaseLost, ExpansionCancelled.

        Its language moves to it, unless it is a rebuild's. With `move_shared`, `shared` moves to
        it if it continues the shared chain as that is now: not when its parent was withdrawn meanwhile, nor when
        anything that a rebuild replayed was.
        """
        with self._database.begin() as session:
            holder = held(session, expansion, fence)
            done = session.scalar(
                select(ReleaseRow).where(ReleaseRow.expansion == expansion, ReleaseRow.version == version)
            )
            if done is not None:
                return _release(done)
            if holder.cancel_requested:
                raise ExpansionCancelled
            route = holder.kind == "learn"
            made, before = find(session, version), serving(session)
            languages = before.languages | ({made.language: made.number} if route else {})
            moves = move_shared and _continues(session, made, before, holder)
            row = ReleaseRow(
                shared=made.number if moves else before.shared,
                languages=languages,
                actor=holder.actor,
                reason="",
                change={
                    "kind": "promote" if route else "rebuild",
                    "expansion": expansion,
                    "language": made.language,
                    "from_version": before.languages.get(made.language),
                    "to_version": languages.get(made.language),
                },
                expansion=expansion,
                version=version,
            )
            release = publish(session, before.number, row)
            holder.release, holder.version = release.number, made.number
            holder.stalled, holder.cause = 0, None  # nothing is greater progress
            return release

    def plan_rollback(self, tag: str, *, expected: int | None = None) -> RollbackPlan:
        """What rolling back would do now; LanguageNotFound, RollbackNotPossible, ExpansionInProgress, AliasMoved."""
        with self._database.read() as session:
            before = serving(session)
            _expect(before.number, expected)
            return plan(session, before, tag)

    def roll_back(
        self,
        tag: str,
        *,
        actor: str,
        reason: str,
        expected: int | None = None,
        rebuild: bool = False,
        once: Once | None = None,
    ) -> RollbackPlan:
        """Serve the language's version before, or none of it, at once; what was done, with the new release.

        With `rebuild`, an expansion is queued that teaches the shared table again what it loses beside the language.

        `expected` is the release that the caller saw, by default the one serving now: of two who roll back one language
        at the same moment, one does. Raises as `plan_rollback`, and IdempotencyKeyReused.
        """
        expected = self.serving().number if expected is None else expected
        with self._database.begin() as session:
            if (known := done(session, once)) is not None:
                return RollbackPlan(**(known.answer or {}))
            before = serving(session)
            _expect(before.number, expected)
            planned = plan(session, before, tag)
            languages = {name: number for name, number in before.languages.items() if name != tag}
            if planned.to_version is not None:
                languages[tag] = planned.to_version
            row = ReleaseRow(
                shared=planned.shared_version,
                languages=languages,
                actor=actor,
                reason=reason,
                change={
                    "kind": "rollback",
                    "language": tag,
                    "from_version": planned.from_version,
                    "to_version": planned.to_version,
                },
            )
            release = publish(session, expected, row)
            if rebuild and planned.replay:
                settings = {"replay": planned.replay}
                again = queue(
                    session, id=new_expansion_id(), kind="rebuild", language=tag, settings=settings, actor=actor
                )
                planned = replace(planned, rebuild=again.id)
            planned = replace(planned, release=release.number)
            remember(session, once, answer=asdict(planned))
            return planned

    def restore(self, number: int, *, expected: int, actor: str, reason: str) -> Release:
        """Serve again what release `number` served, under a new number; ReleaseNotFound, AliasMoved."""
        with self._database.begin() as session:
            old = _find(session, number)
            row = ReleaseRow(
                shared=old.shared,
                languages=old.languages,
                actor=actor,
                reason=reason,
                change={"kind": "restore", "restored": number},
            )
            return publish(session, expected, row)


def publish(session: Session, expected: int, row: ReleaseRow) -> Release:
    """Number the row, store it and move the alias from `expected` to it, all or nothing; AliasMoved."""
    row.number = (session.scalar(select(func.max(ReleaseRow.number))) or 0) + 1
    row.languages = row.languages | {BASE_LANGUAGE: BASE}
    session.add(row)
    session.flush()
    moved = session.scalar(
        update(AliasRow)
        .where(AliasRow.name == SERVING, AliasRow.release == expected)
        .values(release=row.number)
        .returning(AliasRow.release)
    )
    if moved is None:
        _expect(serving(session).number, expected)
    return _release(row)


def serving(session: Session) -> ReleaseRow:
    """RegistryUnavailable before the registry was initialised."""
    row = session.scalar(
        select(ReleaseRow).join(AliasRow, AliasRow.release == ReleaseRow.number).where(AliasRow.name == SERVING)
    )
    if row is None:
        raise RegistryUnavailable("The registry has not been initialised.")
    return row


def _expect(number: int, expected: int | None) -> None:
    if expected is not None and number != expected:
        raise AliasMoved(f"Release {number} is serving, not {expected}.", release=number)


def _continues(session: Session, version: VersionRow, before: ReleaseRow, maker: ExpansionRow) -> bool:
    """Whether all between the version and the shared one was made by its expansion, from what was not taken back."""
    chain = lineage(session, version.number)
    older = (row.number for row in chain if row.expansion != maker.id)
    replayed = {row.language for row in chain if row.expansion == maker.id} if maker.kind == "rebuild" else set()
    return next(older, None) == before.shared and stands(session, before, maker.language, replayed)


def _find(session: Session, number: int) -> ReleaseRow:
    row = session.get(ReleaseRow, number)
    if row is None:
        raise ReleaseNotFound(f"There is no release {number}.")
    return row


def _release(row: ReleaseRow) -> Release:
    return Release(row.number, row.shared, row.languages, row.created_at, row.actor, row.reason, row.change)
