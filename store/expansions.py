"""Expansions: the durable records of teaching a language, which are also the queue. Trains nothing.

Idempotency keys are here, too: a request that a client repeats with the same key acts once.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Double, and_, case, delete, func, or_, select, type_coerce, update
from sqlalchemy.orm import Session

from store.audit import note_act
from store.clock import LONGEST_LEASE, has_ended, now
from store.errors import Conflict, ExpansionFinished, ExpansionInProgress, ExpansionNotFound, IdempotencyKeyReused
from store.leases import ACTIVE, UNLEASED, Leases, refuse_active
from store.speakers import WaitingRow, find_number, set_terms
from store.tables import (
    CANCELLED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    AliasRow,
    BaseRow,
    ExpansionRow,
    IdempotencyRow,
    ReleaseRow,
    VersionRow,
)
from store.versions import BUILT_IN_LANGUAGE

ExpansionKind = Literal["learn", "assess", "import", "rebuild", "base"]
ExpansionState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32
KEPT_SECONDS = 7 * 86_400.0  # how long an idempotency key is remembered


@dataclass(frozen=True)
class FailureCause:
    """Why an expansion failed."""

    code: str
    detail: str


@dataclass(frozen=True)
class Expansion:
    """The state of one expansion; `version` and `release` are set as soon as they exist, `report` at the end."""

    id: str
    kind: ExpansionKind
    language: str
    state: ExpansionState
    phase: str | None
    progress: float
    step: int
    steps: int
    eta_seconds: float | None
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    version: int | None
    release: int | None
    error: FailureCause | None
    report: dict[str, Any] | None
    settings: dict[str, Any]
    dataset_path: str | None
    dataset_sha256: str | None
    dataset_bytes: int | None
    cancel_requested: bool
    actor: str
    terms: int | None
    trace: str | None

    @property
    def is_of_words(self) -> bool:
        """Whether its dataset has single words, as a dictionary does: one that is held out was never taught."""
        return "pivot" in self.settings or self.is_of_answers

    @property
    def doubts(self) -> Sequence[dict[str, Any]]:
        """What was doubted about its dataset, and confirmed."""
        doubts: Sequence[dict[str, Any]] = self.settings.get("doubts", ())
        return doubts

    @property
    def is_of_answers(self) -> bool:
        """Whether its dataset was made of all answers to words that there were."""
        return self.made_of == "words"

    @property
    def made_of(self) -> str | None:
        """Of what its dataset was made, all that there was: answers to `words`, or `captions`; None if it was sent."""
        return next((name for name in ("words", "captions") if self.settings.get(name)), None)


@dataclass(frozen=True)
class IdempotencyKey:
    """The idempotency key of a request: for one `actor` and `key`, the request with this body acts once."""

    actor: str
    key: str
    body_sha256: str

    @staticmethod
    def build(actor: str, key: str | None, body: object) -> "IdempotencyKey | None":
        """Return the key of a request with this body (plain JSON); None when the client sent none."""
        if key is None:
            return None
        return IdempotencyKey(actor, key, hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest())


class Expansions(Leases):
    """All expansions of a registry."""

    def submit(
        self,
        *,
        kind: ExpansionKind,
        language: str,
        settings: dict[str, Any],
        actor: str,
        dataset_path: str | None = None,
        dataset_sha256: str | None = None,
        dataset_bytes: int | None = None,
        key: IdempotencyKey | None = None,
        id: str | None = None,
        terms: Mapping[str, Any] | None = None,
        waiting: Collection[str] = (),
        may_change_terms: bool = False,
    ) -> tuple[Expansion, bool]:
        """Queue an expansion, and return it with True; with False the one that was queued under this key before.

        `id` is given by callers that store the dataset first. A move begins only when nothing else is in progress.
        `terms` become those of the language; None leaves them as they are. Where others stand, the actor must be one
        who `may_change_terms`. `waiting` are digests of rows that joined the dataset: they go when it is promoted.
        Raises ExpansionInProgress, IdempotencyKeyReused, InsufficientScope, and Conflict where a row waits no more.
        """
        with self._database.begin() as session:
            if (earlier := find_earlier_request(session, key)) is not None:
                return build_expansion(get_row(session, str(earlier.expansion))), False
            if kind == "base":
                refuse_active_kind(session)
            refuse_active(session, language)
            _refuse_while_moving(session, language)
            row = enqueue(
                session,
                id=id,
                kind=kind,
                language=language,
                settings=settings,
                dataset_path=dataset_path,
                dataset_sha256=dataset_sha256,
                dataset_bytes=dataset_bytes,
                actor=actor,
                terms=find_number(session, language)
                if terms is None
                else set_terms(session, language, terms, actor, may_change=may_change_terms).number,
            )
            _take_waiting(session, row, waiting)
            record_request(session, key, expansion=row.id)
            note_act(session, {row.id: "queued", language: kind})
            return build_expansion(row), True

    def confirm(self, id: str) -> Expansion | None:
        """Return the expansion whose `submit` got no answer; None when it was not committed, and never will be.

        It reads as the only writer, after every commit that had begun. Raises RegistryUnavailable.
        """
        with self._database.begin() as session:
            row = session.get(ExpansionRow, id)
            return None if row is None else build_expansion(row)

    def find_submitted(self, key: IdempotencyKey | None) -> Expansion | None:
        """Return what was queued under this idempotency key before, if anything. Raises IdempotencyKeyReused."""
        with self._database.read() as session:
            earlier = find_earlier_request(session, key)
            return None if earlier is None else build_expansion(get_row(session, str(earlier.expansion)))

    def get(self, id: str) -> Expansion:
        """Return the expansion. Raises ExpansionNotFound."""
        with self._database.read() as session:
            return build_expansion(get_row(session, id))

    def list_with_datasets(
        self, ids: Sequence[str], excluding_sha256: str | None = None, *, without_made_of: str | None = None
    ) -> Sequence[Expansion]:
        """Return those with a kept dataset, in the order of `ids`, but not those whose file has the excluded sha256.

        Nor those made of all words or captions, as `without_made_of` says: newer ones take their place; nor language
        files, from which nothing can be taught.
        """
        query = select(ExpansionRow).where(ExpansionRow.id.in_(ids))
        found = {row.id: build_expansion(row) for row in self._database.read_values(query)}
        listed = (found[id] for id in ids if id in found and found[id].kind != "import")
        kept = (each for each in listed if each.dataset_path is not None and each.dataset_sha256 != excluding_sha256)
        return [each for each in kept if each.made_of is None or each.made_of != without_made_of]

    def list(self, limit: int | None = None, before: str | None = None) -> Sequence[Expansion]:
        """List them, newest first, from the one after the id `before`. Raises ExpansionNotFound."""
        order = (ExpansionRow.created_at.desc(), ExpansionRow.id.desc())
        query = select(ExpansionRow).order_by(*order).limit(limit)
        with self._database.read() as session:
            if before is not None:
                get_row(session, before)
                # the database compares its own value: in Python the digits after the microsecond are lost
                last = select(ExpansionRow.created_at).where(ExpansionRow.id == before).scalar_subquery()
                earlier = and_(ExpansionRow.created_at == last, ExpansionRow.id < before)
                query = query.where(or_(ExpansionRow.created_at < last, earlier))
            return [build_expansion(row) for row in session.scalars(query)]

    def find_newest(self, kind: ExpansionKind) -> Expansion | None:
        """Return the newest one of this kind, if there is any."""
        order = (ExpansionRow.created_at.desc(), ExpansionRow.id.desc())
        with self._database.read() as session:
            row = session.scalars(select(ExpansionRow).where(ExpansionRow.kind == kind).order_by(*order)).first()
            return None if row is None else build_expansion(row)

    def find_assessments(self, base_fingerprint: str) -> dict[str, Expansion]:
        """Return the newest assessment of each language that was assessed with this base."""
        this = ExpansionRow.report["base"].as_string() == base_fingerprint
        done = (ExpansionRow.kind == "assess", ExpansionRow.state == SUCCEEDED, this)
        query = select(ExpansionRow).where(*done).order_by(ExpansionRow.finished_at, ExpansionRow.id)
        return {row.language: build_expansion(row) for row in self._database.read_values(query)}

    def count_by_state(self) -> dict[str, int]:
        """Return the number of expansions in each state; states without any are left out."""
        query = select(ExpansionRow.state, func.count()).group_by(ExpansionRow.state)
        return {row.state: row[1] for row in self._database.read_rows(query)}

    def list_ids(self, *states: ExpansionState) -> set[str]:
        """Return the ids of the expansions in these states; of all expansions when no state is given."""
        query = select(ExpansionRow.id)
        return set(self._database.read_values(query.where(ExpansionRow.state.in_(states)) if states else query))

    def cancel(self, id: str) -> Expansion:
        """End an expansion as cancelled at once if it is unleased; otherwise ask its worker to stop.

        One whose version is released counts as finished: a rollback takes that back. Raises ExpansionNotFound,
        ExpansionFinished.
        """
        with self._database.begin() as session:
            row = get_row(session, id)
            if row.state not in (QUEUED, RUNNING) or row.release is not None:
                raise ExpansionFinished
            session.execute(
                update(ExpansionRow)
                .where(ExpansionRow.id == id, UNLEASED)
                .values(state=CANCELLED, finished_at=now(), lease_owner=None, lease_expires=None, eta_seconds=None)
            )
            asks = update(ExpansionRow).where(ExpansionRow.id == id, ~ExpansionRow.cancel_requested)
            if session.scalar(asks.values(cancel_requested=True).returning(ExpansionRow.id)) is not None:
                note_act(session, {id: "cancelled"})
            session.refresh(row)
            return build_expansion(row)

    def list_runnable(self, *states: ExpansionState) -> Sequence[str]:
        """List the ids of those that a worker should take, oldest first: queued, or with an expired lease.

        Of those in these states alone, if any are given: a running one among them was abandoned.
        """
        query = select(ExpansionRow.id).where(UNLEASED).order_by(ExpansionRow.created_at, ExpansionRow.id)
        query = query.where(ExpansionRow.state.in_(states)) if states else query
        return self._database.read_values(query)

    def measure_longest_wait(self) -> float:
        """Return the longest time, in seconds, that a runnable expansion has had no lease; 0 when none is runnable.

        It is `LONGEST_LEASE` where only a wrong clock can have written the beginning.
        """
        since = func.coalesce(ExpansionRow.lease_expires, ExpansionRow.created_at)
        waited = case((since > now() + LONGEST_LEASE, LONGEST_LEASE), else_=type_coerce(now() - since, Double()))
        with self._database.read() as session:
            seconds = session.scalar(select(func.max(waited)).where(UNLEASED))
            return max(0.0, seconds or 0.0)

    def measure_longest_silence(self) -> float:
        """Return the longest time, in seconds, since a leased attempt reported its progress; 0 when there is none."""
        leased = (ExpansionRow.state == RUNNING, ~has_ended(ExpansionRow.lease_expires))
        still: Any = func.max(type_coerce(now() - ExpansionRow.moved_at, Double()))
        return max(0.0, self._database.read_value(select(still).where(*leased)) or 0.0)


def make_expansion_id() -> str:
    """Return `exp_` and 20 characters: ten for the milliseconds, by which ids sort, and ten random ones (50 bits)."""
    number = (time.time_ns() // 1_000_000) << 50 | secrets.randbits(50)
    return "exp_" + "".join(_ALPHABET[number >> shift & 31] for shift in range(95, -5, -5))


def enqueue(session: Session, *, id: str | None = None, **fields: Any) -> ExpansionRow:
    """Add an expansion with these fields to the queue, in the transaction of `session`."""
    row = ExpansionRow(id=id or make_expansion_id(), **fields)
    session.add(row)
    session.flush()
    return row


def get_row(session: Session, id: str) -> ExpansionRow:
    """Return the row with this id. Raises ExpansionNotFound."""
    row = session.get(ExpansionRow, id)
    if row is None:
        raise ExpansionNotFound
    return row


def _take_waiting(session: Session, expansion: ExpansionRow, digests: Collection[str]) -> None:
    """Note whose dataset the rows have joined. Raises Conflict when one is gone: what was deleted is not taught."""
    joined = (WaitingRow.language == expansion.language, WaitingRow.digest.in_([*digests]))
    take = update(WaitingRow).where(*joined).values(expansion=expansion.id).returning(WaitingRow.digest)
    if len(session.scalars(take).all()) < len(digests):
        raise Conflict("Rows that waited were taught or deleted meanwhile: send the dataset again.")


def _refuse_while_moving(session: Session, language: str) -> None:
    """Raise ExpansionInProgress when a move to another base also teaches this language."""
    move = session.scalar(select(ExpansionRow).where(ExpansionRow.kind == "base", ACTIVE))
    if move is None:
        return
    serving = select(ReleaseRow.languages).join(AliasRow, AliasRow.release == ReleaseRow.number)
    languages = session.scalar(serving) or {}
    base = session.get(BaseRow, languages.get(BUILT_IN_LANGUAGE))
    if base is not None and base.name == move.settings["base"]:
        return  # another encoding for the same base teaches nothing
    made = select(VersionRow.number).where(VersionRow.expansion == move.id, VersionRow.language == language)
    if language in languages or session.scalar(made) is not None:
        raise ExpansionInProgress(
            f"Expansion {move.id} moves to another base and teaches this language there: wait until it has ended.",
            expansion=move.id,
        )


def refuse_active_kind(session: Session, *kinds: ExpansionKind) -> None:
    """Raise ExpansionInProgress, with its id, when an expansion of these kinds, or of any, has not ended."""
    which = (ExpansionRow.kind.in_(kinds),) if kinds else ()
    row = session.scalar(select(ExpansionRow).where(ACTIVE, *which).limit(1))
    if row is not None:
        raise ExpansionInProgress(f"Expansion {row.id} is {row.state}: wait until it has ended.", expansion=row.id)


def build_expansion(row: ExpansionRow) -> Expansion:
    error = None if row.error_code is None else FailureCause(row.error_code, row.error_detail or "")
    return row.convert_to(Expansion, error=error)


def find_earlier_request(session: Session, key: IdempotencyKey | None) -> IdempotencyRow | None:
    """Return what was done before under this key, if anything. Raises IdempotencyKeyReused for another body."""
    if key is None:
        return None
    row = session.get(IdempotencyRow, (key.actor, key.key))
    if row is not None and row.body_sha256 != key.body_sha256:
        raise IdempotencyKeyReused("This key was used before with another body.")
    return row


def record_request(
    session: Session, key: IdempotencyKey | None, *, expansion: str | None = None, answer: dict[str, Any] | None = None
) -> None:
    """Record what was done under the key: the expansion that was queued, or an answer. Delete keys that are too old."""
    if key is not None:
        if session.info["database"].is_steady(session):  # otherwise a request might act twice
            session.execute(delete(IdempotencyRow).where(IdempotencyRow.created_at < now() - KEPT_SECONDS))
        session.add(IdempotencyRow(**vars(key), expansion=expansion, answer=answer))
        session.flush()
