"""The database's clock: one for all processes, so that a wrong clock on one machine does no harm.

It may be wrong itself for a moment. So nothing waits for a moment that only a wrong clock can have written.
"""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Dialect, Double, and_, or_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

LONGEST_LEASE = 600.0  # seconds; nothing is leased for longer
_JUMP = 600.0  # seconds by which a clock is set right without anything being lost
_DISTRUST = 3_600.0  # seconds for which a clock that jumped is not believed


class Instant(TypeDecorator[datetime]):
    """Seconds since 1970 in the database, an aware UTC datetime in Python; `instant + 30.0` is thirty seconds later."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> float | None:
        """Refuse a naive datetime: it would be read in the time zone of this machine."""
        if value is not None and value.tzinfo is None:
            raise ValueError("a datetime needs a time zone")
        return None if value is None else value.timestamp()

    def process_result_value(self, value: float | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromtimestamp(value, UTC)

    def coerce_compared_value(self, op: Any, value: object) -> Any:
        """Take plain numbers that are added to an instant, or compared with it, for seconds."""
        return Double() if isinstance(value, int | float) else self


class now(FunctionElement[datetime]):
    """The database's clock, as an SQL expression, with fractions of a second."""

    type = Instant()
    inherit_cache = True


@compiles(now, "sqlite")
def _compile_for_sqlite(element: now, compiler: SQLCompiler, **_: Any) -> str:
    # milliseconds; unixepoch('subsec') would need SQLite 3.42
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _compile_for_postgresql(element: now, compiler: SQLCompiler, **_: Any) -> str:
    # the time of the statement: now() is the time when the transaction began, perhaps before a wait
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


def has_ended(until: Any) -> ColumnElement[bool]:
    """Return whether a lease until this moment has ended; one longer than `LONGEST_LEASE` counts as ended."""
    return or_(until < now(), until > now() + LONGEST_LEASE)


def is_recent(moment: Any, seconds: float) -> ColumnElement[bool]:
    """Return whether a moment was in the last so many seconds; a future one was not."""
    return and_(moment > now() - seconds, moment <= now())


def read_uptime() -> float:
    """Return the seconds of a clock that nobody sets; on Linux it also runs while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


class SteadyClock:
    """A check whether a clock can be believed when it says that something is old enough to be deleted.

    It compares the clock with the uptime of this machine: a jump is noticed, a clock that was always wrong is not.
    """

    def __init__(self, running: Callable[[], float] = read_uptime) -> None:
        self._running = running
        self._ahead: float | None = None
        self._believed_from = 0.0

    def is_steady(self, moment: float) -> bool:
        """Return whether the clock, which shows this moment in seconds, has not jumped within the last hour."""
        running = self._running()
        if self._ahead is not None and abs(moment - running - self._ahead) > _JUMP:
            self._believed_from = running + _DISTRUST
        self._ahead = moment - running
        return running >= self._believed_from
