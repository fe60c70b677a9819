"""Leases: who may work on an expansion. One conditional UPDATE takes it, a fence refuses whoever was overtaken.

Only the database's clock is read. Does no work and sends no message.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, case, func, or_, select, update
from sqlalchemy.orm import Session

from model.errors import ExpansionNotFound, LeaseLost, TooManyAttempts
from model.registry.clock import now
from model.registry.database import Database
from model.registry.tables import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED, ExpansionRow

MAX_ATTEMPTS = 3  # without progress
_FREE = {"lease_owner": None, "lease_expires": None, "eta_seconds": None}
# Nobody holds it: never leased, given back, or its holder has not been heard of for a whole lease.
UNLEASED = or_(
    ExpansionRow.state == QUEUED,
    and_(ExpansionRow.state == RUNNING, ExpansionRow.lease_expires < now()),
)


@dataclass(frozen=True)
class Lease:
    """The right to write about an expansion as long as nobody took a later one; `fence` rises with each."""

    expansion: str
    owner: str
    fence: int


class Leases:
    """The part of the expansions that workers use; every write asks for the fence and raises LeaseLost."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def lease(self, expansion: str, owner: str, seconds: float = 30.0) -> Lease | None:
        """Begin an attempt; None when somebody holds it or it is finished. ExpansionNotFound.

        An expansion nobody holds that was cancelled, or had three attempts without progress, is finished here instead.
        """
        free = (ExpansionRow.id == expansion, UNLEASED)
        take = (
            update(ExpansionRow)
            .where(*free, ~ExpansionRow.cancel_requested, ExpansionRow.stalled < MAX_ATTEMPTS)
            .values(
                state=RUNNING,
                lease_owner=owner,
                lease_expires=now() + seconds,
                fence=ExpansionRow.fence + 1,
                attempt=ExpansionRow.attempt + 1,
                stalled=ExpansionRow.stalled + 1,
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
            detail = f"{MAX_ATTEMPTS} attempts without progress; the last one: {row.cause or 'not heard of again'}."
            end = _failed(TooManyAttempts.code, detail)
            session.execute(update(ExpansionRow).where(*free).values(finished_at=now(), **end, **_FREE))
            return None

    def heartbeat(self, lease: Lease, seconds: float = 30.0) -> bool:
        """Hold on for `seconds` from now; whether the expansion is to be cancelled."""
        return self._write(lease, lease_expires=now() + seconds).cancel_requested

    def progress(
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
        """Say how far it is; `made_progress` (something durable was reached) gives it three new attempts."""
        values: dict[str, Any] = {"stalled": 0, "cause": None} if made_progress else {}
        values |= {"phase": phase, "progress": progress, "step": step, "steps": steps, "eta_seconds": eta_seconds}
        self._write(lease, **values)

    def succeed(self, lease: Lease, version: int, release: int, report: dict[str, Any]) -> None:
        """The end that was wanted."""
        self._finish(lease, state=SUCCEEDED, version=version, release=release, report=report, progress=1.0)

    def fail(self, lease: Lease, code: str, detail: str, report: dict[str, Any] | None = None) -> None:
        """The end of this expansion; `cancelled` instead when that was asked for, `succeeded` when it is released."""
        self._finish(lease, report=report, **_failed(code, detail))

    def cancelled(self, lease: Lease) -> None:
        """The worker stopped because it was asked to. What is already released is not cancelled but finished next."""
        released = ExpansionRow.release.is_not(None)
        self._write(
            lease,
            state=case((released, QUEUED), else_=CANCELLED),
            cancel_requested=case((released, False), else_=ExpansionRow.cancel_requested),
            finished_at=case((released, None), else_=now()),
            **_FREE,
        )

    def release_lease(self, lease: Lease, *, cause: str | None = None, stopped: bool = False) -> None:
        """Give it back for the next attempt: after a crash with its `cause`, or `stopped` on request: not a failure."""
        self._write(
            lease,
            state=QUEUED,
            stalled=case((ExpansionRow.stalled > 0, ExpansionRow.stalled - (1 if stopped else 0)), else_=0),
            cause=cause,
            **_FREE | {"lease_expires": now()},
        )

    def _finish(self, lease: Lease, **values: Any) -> None:
        self._write(lease, finished_at=now(), **values, **_FREE)

    def _write(self, lease: Lease, **values: Any) -> ExpansionRow:
        change = (
            update(ExpansionRow)
            .where(
                ExpansionRow.id == lease.expansion,
                ExpansionRow.state == RUNNING,
                ExpansionRow.fence == lease.fence,
            )
            .values(**values)
            .returning(ExpansionRow)
        )
        with self._database.begin() as session:
            row = session.scalar(change)
            if row is None:
                raise LeaseLost
            session.expunge(row)
            return row


def _failed(code: str, detail: str) -> dict[str, Any]:
    """How an expansion that cannot go on ends: what is released has done what it was to do, whatever came after."""
    released, cancelled = ExpansionRow.release.is_not(None), ExpansionRow.cancel_requested
    return {
        "state": case((released, SUCCEEDED), (cancelled, CANCELLED), else_=FAILED),
        "error_code": case((released | cancelled, None), else_=code),
        "error_detail": case((released | cancelled, None), else_=detail),
    }


def held(session: Session, expansion: str, fence: int) -> ExpansionRow:
    """The running expansion of the lease with this fence; LeaseLost. Call it in the transaction that then writes."""
    row = session.scalar(
        select(ExpansionRow).where(
            ExpansionRow.id == expansion, ExpansionRow.state == RUNNING, ExpansionRow.fence == fence
        )
    )
    if row is None:
        raise LeaseLost
    return row
