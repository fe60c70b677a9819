"""Leases: which worker may work on an expansion, and which process does what one does for all (a duty).

Both are taken by one conditional statement that reads the database's clock alone, and end when nobody renews them: a
process that dies keeps what it has until then. A fencing token refuses late writers to an expansion. Does no work.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

from sqlalchemy import ColumnElement, and_, case, delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from store.clock import has_ended, is_recent, now
from store.database import RegistryPart
from store.errors import ExpansionInProgress, ExpansionNotFound, LeaseLost, PictoglotError, TooManyAttempts
from store.tables import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED, DutyRow, ExpansionRow

SEALING = "indexer"  # to seal vector sets
PURGING = "purge"  # to write anew what still has deleted rows; nobody takes it, it is only noted
FITTING = "match"  # to fit the chances of hits
_RENEWALS = 3  # within the time for which a duty is taken
MAX_ATTEMPTS = 3  # without progress, whose process died by itself
# Without progress, and the worker died with it: a machine that restarts, or an upgrade, is no fault of the expansion;
# but one for which the kernel kills the whole service, again and again, would never end.
MAX_VANISHED = 20
_NO_LEASE = {"lease_owner": None, "lease_expires": None, "eta_seconds": None}
ACTIVE = ExpansionRow.state.in_((QUEUED, RUNNING))
# No worker holds it: never leased, given back, or the lease expired without a heartbeat.
UNLEASED = or_(ExpansionRow.state == QUEUED, and_(ExpansionRow.state == RUNNING, has_ended(ExpansionRow.lease_expires)))
# It gets no further attempt.
_SPENT = or_(ExpansionRow.cancel_requested, ExpansionRow.stalled >= MAX_ATTEMPTS, ExpansionRow.vanished >= MAX_VANISHED)


@dataclass(frozen=True)
class Lease:
    """The right to write to an expansion until another worker takes a lease; `fence`, the token, rises with each."""

    expansion: str
    owner: str
    fence: int


class Leases(RegistryPart):
    """The leases of expansions. Every write checks the fence, and raises LeaseLost for an old one."""

    def take_lease(self, expansion: str, owner: str, seconds: float = 30.0) -> Lease | None:
        """Begin an attempt; return None when another worker has the lease or nothing is left to do.

        An unleased expansion that was cancelled, or had too many attempts without progress, is ended here. Raises
        ExpansionNotFound.
        """
        unleased = (ExpansionRow.id == expansion, UNLEASED)
        take = (
            update(ExpansionRow)
            .where(*unleased, ~_SPENT)
            .values(
                state=RUNNING,
                lease_owner=owner,
                lease_expires=now() + seconds,
                fence=ExpansionRow.fence + 1,
                attempt=ExpansionRow.attempt + 1,
                vanished=ExpansionRow.vanished + 1,  # until it is given back
                moved_at=now(),
                started_at=func.coalesce(ExpansionRow.started_at, now()),
            )
            .returning(ExpansionRow.fence)
        )
        with self._database.begin() as session:
            fence = session.scalar(take)
            if fence is not None:
                return Lease(expansion, owner, fence)
            row = session.get(ExpansionRow, expansion)
            if row is None:
                raise ExpansionNotFound
            detail = f"{MAX_VANISHED} attempts without progress ended with their worker, or with a locked registry."
            if row.stalled >= MAX_ATTEMPTS:
                detail = f"{MAX_ATTEMPTS} attempts without progress; the last one: {row.cause}."
            end = _describe_end(TooManyAttempts.code, detail)
            # the condition again: a lease that ran out since the first statement is the next attempt's
            session.execute(update(ExpansionRow).where(*unleased, _SPENT).values(**end))
            return None

    def renew_lease(self, lease: Lease, seconds: float = 30.0) -> bool:
        """Extend the lease to `seconds` from now; return whether the expansion is to be cancelled."""
        return self._write(lease, lease_expires=now() + seconds).cancel_requested

    def record_progress(
        self,
        lease: Lease,
        *,
        phase: str,
        progress: float,
        step: int = 0,
        steps: int = 0,
        eta_seconds: float | None = None,
        made_progress: bool = False,
    ) -> None:
        """Record the progress; with `made_progress`, when something durable was written, count attempts anew."""
        values: dict[str, Any] = {"stalled": 0, "vanished": 0, "cause": None} if made_progress else {}
        values |= {"moved_at": now()}
        values |= {"phase": phase, "progress": progress, "step": step, "steps": steps, "eta_seconds": eta_seconds}
        self._write(lease, **values)

    def succeed(self, lease: Lease, version: int | None, release: int | None, report: dict[str, Any]) -> None:
        """End the expansion as succeeded; an assessment has made no version and no release."""
        end = {"state": SUCCEEDED, "finished_at": now(), **_NO_LEASE}
        self._write(lease, version=version, release=release, report=report, progress=1.0, **end)

    def fail(self, lease: Lease, code: str, detail: str, report: dict[str, Any] | None = None) -> None:
        """End the expansion as failed, or cancelled if that was requested, or succeeded if its version is released."""
        self._write(lease, report=report, **_describe_end(code, detail))

    def end_as_cancelled(self, lease: Lease) -> None:
        """End the expansion as cancelled; if its version is released, leave it to the next attempt to finish."""
        released = ExpansionRow.release.is_not(None)
        self._write(
            lease,
            state=case((released, QUEUED), else_=CANCELLED),
            cancel_requested=case((released, False), else_=ExpansionRow.cancel_requested),
            finished_at=case((released, None), else_=now()),
            **_NO_LEASE,
        )

    def give_back_lease(
        self, lease: Lease, *, cause: str | None = None, stopped: bool = False, suspect: bool = False
    ) -> None:
        """Give the lease back for the next attempt: after a crash, with its `cause`, or `stopped` on request.

        A crash counts towards MAX_ATTEMPTS. A `suspect` attempt, ended because another process may have locked the
        registry, counts towards MAX_VANISHED.
        """
        self._write(
            lease,
            state=QUEUED,
            stalled=ExpansionRow.stalled + (0 if stopped or suspect else 1),
            vanished=case((ExpansionRow.vanished > 0, ExpansionRow.vanished - (0 if suspect else 1)), else_=0),
            cause=cause,
            **_NO_LEASE | {"lease_expires": now()},
        )

    def _write(self, lease: Lease, **values: Any) -> ExpansionRow:
        change = update(ExpansionRow).where(_is_holder(lease.expansion, lease.fence)).values(**values)
        with self._database.begin() as session:
            row: ExpansionRow | None = session.scalar(change.returning(ExpansionRow))
            if row is None:
                raise LeaseLost
            session.expunge(row)
            return row


class Duties(RegistryPart):
    """The duties of a registry, and which process has which."""

    @contextmanager
    def hold(self, name: str, owner: str, seconds: float) -> Iterator[bool]:
        """Hold a duty while the block runs, and renew it in a thread; yield False when another process has it.

        A process that stands still may lose it: `keep` raises then.
        """
        ours: bool | None = None
        ended = Event()
        renewing = Thread(target=self._renew, args=(name, owner, seconds, ended), name=f"duty {name}", daemon=True)
        try:
            ours = self.take(name, owner, seconds)
            if ours:
                renewing.start()
            yield ours
        finally:
            ended.set()
            if renewing.ident is not None:
                renewing.join()
            if ours is not False:  # nor unknown: a signal may have ended the block right after it was taken
                with suppress(PictoglotError):  # it expires
                    self.give_back(name, owner)

    def take(self, name: str, owner: str, seconds: float) -> bool:
        """Take a duty, or keep it, for so many seconds from now; return False when another process has it."""
        free = or_(DutyRow.owner == owner, has_ended(DutyRow.expires))
        with self._database.begin() as session:
            if session.scalar(select(DutyRow.name).where(DutyRow.name == name)) is None:
                session.execute(insert(DutyRow).values(name=name, owner=owner, expires=now() + seconds))
                return True
            taken = update(DutyRow).where(DutyRow.name == name, free).values(owner=owner, expires=now() + seconds)
            return session.scalar(taken.returning(DutyRow.name)) is not None

    def keep(self, name: str, owner: str, seconds: float) -> None:
        """Keep a duty for so many seconds from now. Raises LeaseLost when another process has it."""
        if not self.take(name, owner, seconds):
            raise LeaseLost

    def give_back(self, name: str, owner: str) -> None:
        """Give a duty back, if this process still has it."""
        with self._database.begin() as session:
            session.execute(delete(DutyRow).where(DutyRow.name == name, DutyRow.owner == owner))

    def note_done(self, name: str) -> None:
        """Note that a duty which nobody takes was done just now."""
        with self._database.begin() as session:
            session.execute(delete(DutyRow).where(DutyRow.name == name))
            session.execute(insert(DutyRow).values(name=name, owner="", expires=now()))

    def is_done_within(self, name: str, seconds: float) -> bool:
        """Return whether `note_done` was called for it in the last so many seconds."""
        lately = select(DutyRow.name).where(DutyRow.name == name, is_recent(DutyRow.expires, seconds))
        return self._database.read_value(lately) is not None

    def _renew(self, name: str, owner: str, seconds: float, ended: Event) -> None:
        taken = True
        while taken and not ended.wait(seconds / _RENEWALS):
            with suppress(PictoglotError):  # while the database is away, no other process can take it either
                taken = self.take(name, owner, seconds)


def _describe_end(code: str, detail: str) -> dict[str, Any]:
    """Return the columns of an expansion that failed. If its version is released, it has succeeded all the same."""
    released, cancelled = ExpansionRow.release.is_not(None), ExpansionRow.cancel_requested
    return {
        "state": case((released, SUCCEEDED), (cancelled, CANCELLED), else_=FAILED),
        "error_code": case((released | cancelled, None), else_=code),
        "error_detail": case((released | cancelled, None), else_=detail),
        **{"finished_at": now(), **_NO_LEASE},
    }


def refuse_active(session: Session, language: str) -> None:
    """Raise ExpansionInProgress, with its id, when the language has a queued or running expansion."""
    row = session.scalar(select(ExpansionRow).where(ExpansionRow.language == language, ACTIVE))
    if row is not None:
        raise ExpansionInProgress(f"Expansion {row.id} of this language is {row.state}.", expansion=row.id)


def require_lease(session: Session, expansion: str, fence: int) -> ExpansionRow:
    """Return the expansion that is leased with this fence, in the transaction that then writes. Raises LeaseLost."""
    row = session.scalar(select(ExpansionRow).where(_is_holder(expansion, fence)))
    if row is None:
        raise LeaseLost
    return row


def _is_holder(expansion: str, fence: int) -> ColumnElement[bool]:
    return and_(ExpansionRow.id == expansion, ExpansionRow.state == RUNNING, ExpansionRow.fence == fence)
