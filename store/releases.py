"""Releases: what is served, changed by compare-and-set and never edited. Opens no version."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from store.audit import CURRENT, Act, note_act
from store.database import RegistryPart
from store.errors import BaseMoved, ExpansionCancelled, ReleaseNotFound
from store.expansions import IdempotencyKey, enqueue, find_earlier_request, record_request
from store.leases import require_lease
from store.reach import RollbackPlan, find_history, get_serving, has_nothing_rolled_back, plan_rollback
from store.speakers import WaitingRow
from store.tables import SERVING, AliasRow, EncodingRow, ExpansionRow, ReleaseRow, VersionRow
from store.versions import BUILT_IN_LANGUAGE, find_roots, get_row, refuse_pruned, trace_lineage


@dataclass(frozen=True)
class Release:
    """One routing table: text in a language is encoded by version `languages[tag]`, other text by `shared`."""

    number: int
    shared: int
    languages: dict[str, int]
    created_at: datetime
    actor: str
    reason: str
    change: dict[str, Any]

    @property
    def base(self) -> int:
        """The version that is its base, which reads English."""
        return self.languages[BUILT_IN_LANGUAGE]

    def find_version(self, language: str) -> int:
        """Return the version that reads texts in a language: its own or, if it is not taught, the base."""
        return self.languages.get(language, self.base)


class Releases(RegistryPart):
    """All releases; exactly one is serving at any moment."""

    def get_serving(self) -> Release:
        """Return the release that the alias names. Raises RegistryUnavailable before the registry is initialised."""
        with self._database.read() as session:
            return get_serving(session).convert_to(Release)

    def get(self, number: int) -> Release:
        """Return the release. Raises ReleaseNotFound."""
        with self._database.read() as session:
            return _get_row(session, number).convert_to(Release)

    def list(self, limit: int | None = None, before: int | None = None) -> Sequence[Release]:
        """List them, newest first; `before` is the last number of the previous page."""
        query = select(ReleaseRow).order_by(ReleaseRow.number.desc()).limit(limit)
        if before is not None:
            query = query.where(ReleaseRow.number < before)
        return [row.convert_to(Release) for row in self._database.read_values(query)]

    def find_visible(self, language: str, version: int) -> frozenset[str]:
        """Return the expansions whose captions belong to a version of a language; none of an untaught one.

        These are its own expansion, and those of earlier versions of the language that were still served when this one
        was first served. If one of them replaced its predecessors, only those from that one on.
        """
        query = select(VersionRow.number, ExpansionRow.id, ExpansionRow.settings)
        query = query.join(ExpansionRow, VersionRow.expansion == ExpansionRow.id).where(VersionRow.language == language)
        with self._database.read() as session:
            makers = {row.number: row for row in session.execute(query)}
            if version not in makers:
                return frozenset()
            history = find_history(session, get_serving(session), language, version)
        chain = [makers[number] for number in history if number in makers]
        replacing = [place for place, row in enumerate(chain) if row.settings.get("replace")]
        return frozenset(row.id for row in chain[max(replacing, default=0) :])

    def promote(
        self,
        *,
        expansion: str,
        version: int,
        move_shared: bool,
        fence: int,
        reason: str = "",
        forced: str | None = None,
    ) -> Release:
        """Serve a version that the expansion made; a repeated call returns the same release.

        Its language is routed to it, unless the expansion is a rebuild. With `move_shared`, it becomes the shared
        version if it continues the shared chain as that is now: not when its parent, or anything that a rebuild
        replayed, was rolled back meanwhile. `reason`, and why the gate was `forced`, are recorded with the release.
        Raises LeaseLost, ExpansionCancelled, BaseMoved.
        """
        with self._database.begin() as session:
            maker = require_lease(session, expansion, fence)
            if (earlier := find_published(session, expansion, version)) is not None:
                return earlier
            if maker.cancel_requested:
                raise ExpansionCancelled
            learns = maker.kind in ("learn", "import")
            promoted, before = get_row(session, version), get_serving(session)
            if find_roots(session)[version] != before.languages[BUILT_IN_LANGUAGE]:
                raise BaseMoved("Another base serves now than the one that this was learned for: teach it again.")
            session.execute(delete(WaitingRow).where(WaitingRow.expansion == expansion))  # they are taught
            languages = before.languages | ({promoted.language: promoted.number} if learns else {})
            moves = move_shared and _is_continuation(session, promoted, before, maker)
            change = {
                "kind": "promote" if learns else "rebuild",
                "expansion": expansion,
                "language": promoted.language,
                "from_version": before.languages.get(promoted.language),
                "to_version": languages.get(promoted.language),
                **({} if forced is None else {"forced": forced}),
            }
            shared = promoted.number if moves else before.shared
            row = ReleaseRow(shared=shared, languages=languages, actor=maker.actor, reason=reason, change=change)
            return publish_for(session, maker, before.number, row, version)

    def plan_rollback(self, tag: str, *, expected: int | None = None) -> RollbackPlan:
        """Return what a rollback would do.

        Raises LanguageNotFound, RollbackNotPossible, ExpansionInProgress, VersionPruned, AliasMoved.
        """
        with self._database.read() as session:
            return plan_rollback(session, get_serving(session, expected), tag)

    def roll_back(
        self,
        tag: str,
        *,
        actor: str,
        reason: str,
        expected: int | None = None,
        rebuild: bool = False,
        key: IdempotencyKey | None = None,
    ) -> RollbackPlan:
        """Serve the language's previous version, or none, at once; return what was done, with the new release.

        With `rebuild`, queue an expansion that teaches the shared table the other languages that it loses by this.
        `expected` is the release that the caller saw, by default the one serving now: of two simultaneous rollbacks of
        one language, one succeeds. Raises IdempotencyKeyReused, and what `plan_rollback` raises.
        """
        expected = self.get_serving().number if expected is None else expected
        with self._database.begin() as session:
            if (earlier := find_earlier_request(session, key)) is not None:
                return RollbackPlan(**(earlier.answer or {}))
            before = get_serving(session, expected)
            planned = plan_rollback(session, before, tag)
            languages = {name: number for name, number in before.languages.items() if name != tag}
            if planned.to_version is not None:
                languages[tag] = planned.to_version
            change = {"kind": "rollback", "language": tag, "from_version": planned.from_version}
            change["to_version"] = planned.to_version
            shared = planned.shared_version
            row = ReleaseRow(shared=shared, languages=languages, actor=actor, reason=reason, change=change)
            planned = replace(planned, release=publish(session, expected, row).number)
            if rebuild and planned.replay:
                settings = {"replay": planned.replay}
                queued = enqueue(session, kind="rebuild", language=tag, settings=settings, actor=actor)
                planned = replace(planned, rebuild=queued.id)
            record_request(session, key, answer=asdict(planned))
            return planned

    def restore(self, number: int, *, expected: int, actor: str, reason: str) -> Release:
        """Serve again, under a new number, what release `number` served, with the vectors of its encoding.

        Raises ReleaseNotFound, VersionPruned, AliasMoved.
        """
        with self._database.begin() as session:
            old = _get_row(session, number)
            change = {"kind": "restore", "restored": number}
            row = ReleaseRow(shared=old.shared, languages=old.languages, actor=actor, reason=reason, change=change)
            return publish_restored(session, expected, row, number)


def publish(session: Session, expected: int, row: ReleaseRow) -> Release:
    """Store a release, and move the alias from `expected` to it. Raises AliasMoved, VersionPruned."""
    # English is read by the base of the shared version
    row.languages = row.languages | {BUILT_IN_LANGUAGE: find_roots(session)[row.shared]}
    refuse_pruned(session, row.languages.values(), row.shared)
    row.number = (session.scalar(select(func.max(ReleaseRow.number))) or 0) + 1
    session.add(row)
    session.flush()
    alias = update(AliasRow).where(AliasRow.name == SERVING, AliasRow.release == expected)
    if session.scalar(alias.values(release=row.number).returning(AliasRow.release)) is None:
        get_serving(session, expected)
    kind, language = row.change.get("kind", "release"), row.change.get("language")
    became = {language: kind} if language else {}
    note_act(session, {**became, f"release {row.number}": kind}, CURRENT.get() or Act(row.actor, kind))
    return row.convert_to(Release)


def publish_restored(session: Session, expected: int, row: ReleaseRow, restored: int) -> Release:
    """Publish a release in the encoding that release `restored` had: in another one most vectors may be missing."""
    release = publish(session, expected, row)
    if (made_by := find_newest_encoding(session, restored)) is not None:
        serve_encoding(session, made_by.backend, made_by.precision, release.number)
    return release


def find_newest_encoding(session: Session, release: int | None = None) -> EncodingRow | None:
    """Return the newest encoding, or that of a release; None where no process has opened a base."""
    query = select(EncodingRow).order_by(EncodingRow.number.desc()).limit(1)
    return session.scalars(query if release is None else query.where(EncodingRow.release <= release)).first()


def serve_encoding(session: Session, backend: str, precision: str, release: int, reason: str = "") -> EncodingRow:
    """Record the encoding from a new release on, unless it is the newest already; return the newest."""
    newest = find_newest_encoding(session)
    if newest is not None and (newest.backend, newest.precision) == (backend, precision):
        return newest
    number = newest.number + 1 if newest else 1
    row = EncodingRow(number=number, release=release, backend=backend, precision=precision, reason=reason)
    session.add(row)
    session.flush()
    return row


def publish_for(session: Session, maker: ExpansionRow, expected: int, row: ReleaseRow, version: int) -> Release:
    """Publish the release that an expansion made for this version, and record it with the expansion."""
    row.expansion, row.version = maker.id, version
    release = publish(session, expected, row)
    maker.release, maker.version = release.number, version
    maker.stalled, maker.vanished, maker.cause = 0, 0, None  # a release is progress
    return release


def find_published(session: Session, expansion: str, version: int) -> Release | None:
    """Return what an earlier attempt of the expansion published for this version."""
    row = session.scalar(select(ReleaseRow).where(ReleaseRow.expansion == expansion, ReleaseRow.version == version))
    return None if row is None else row.convert_to(Release)


def _is_continuation(session: Session, version: VersionRow, before: ReleaseRow, maker: ExpansionRow) -> bool:
    """Return whether a version continues the shared chain through versions of `maker`, none of them rolled back."""
    chain = trace_lineage(session, version.number)
    older = (row.number for row in chain if row.expansion != maker.id)
    replayed = {row.language for row in chain if row.expansion == maker.id} if maker.kind == "rebuild" else set()
    return next(older, None) == before.shared and has_nothing_rolled_back(session, before, maker.language, replayed)


def _get_row(session: Session, number: int) -> ReleaseRow:
    row = session.get(ReleaseRow, number)
    if row is None:
        raise ReleaseNotFound(f"There is no release {number}.")
    return row
