"""Duties: work that one process at a time does for all, such as sealing segments. Does no work itself.

Only the database's clock is read. A process that dies keeps its duty until it expires.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from sqlalchemy import delete, insert, or_, select, update

from store.clock import has_ended, is_recent, now
from store.database import Database
from store.errors import LeaseLost, PictoglotError
from store.tables import DutyRow

SEALING = "indexer"  # to seal vector sets
PURGING = "purge"  # to write anew what still has deleted rows; nobody takes it, only `done` notes it
CALIBRATING = "calibration"  # to measure with what chance hits are what is meant
_RENEWALS = 3  # within the time for which a duty is taken


class Duties:
    """Who has which duty."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def held(self, name: str, owner: str, seconds: float) -> Iterator[bool]:
        """Have a duty while the block runs, however long that takes; False when another process has it.

        A thread renews it. If this process stands still for so long that another one takes the duty, `keep` tells.
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
        """Take a duty, or keep it, for so many seconds from now; False when another process has it."""
        free = or_(DutyRow.owner == owner, has_ended(DutyRow.expires))
        with self._database.begin() as session:
            if session.scalar(select(DutyRow.name).where(DutyRow.name == name)) is None:
                session.execute(insert(DutyRow).values(name=name, owner=owner, expires=now() + seconds))
                return True
            taken = update(DutyRow).where(DutyRow.name == name, free).values(owner=owner, expires=now() + seconds)
            return session.scalar(taken.returning(DutyRow.name)) is not None

    def keep(self, name: str, owner: str, seconds: float) -> None:
        """As `take`, of a duty that this process has; raises LeaseLost when another one has it now."""
        if not self.take(name, owner, seconds):
            raise LeaseLost

    def give_back(self, name: str, owner: str) -> None:
        """Leave a duty to the next process, if this one still has it."""
        with self._database.begin() as session:
            session.execute(delete(DutyRow).where(DutyRow.name == name, DutyRow.owner == owner))

    def done(self, name: str) -> None:
        """Note that a duty which nobody takes was done just now."""
        with self._database.begin() as session:
            session.execute(delete(DutyRow).where(DutyRow.name == name))
            session.execute(insert(DutyRow).values(name=name, owner="", expires=now()))

    def done_within(self, name: str, seconds: float) -> bool:
        """Whether `done` noted it in the last so many seconds."""
        lately = select(DutyRow.name).where(DutyRow.name == name, is_recent(DutyRow.expires, seconds))
        with self._database.read() as session:
            return session.scalar(lately) is not None

    def _renew(self, name: str, owner: str, seconds: float, ended: Event) -> None:
        taken = True
        while taken and not ended.wait(seconds / _RENEWALS):
            with suppress(PictoglotError):  # while the database is away, no other process can take it either
                taken = self.take(name, owner, seconds)
