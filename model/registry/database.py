"""One database, SQLite or PostgreSQL, behind the same two verbs: `read` a consistent state, `begin` to write it alone.

Writers take turns on both: `BEGIN IMMEDIATE` in SQLite, one advisory lock in PostgreSQL. Writes are short and few, so a
number that is `max + 1`, and a feed that others follow, are right without a retry anywhere.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from model.errors import RegistryUnavailable, StorageFull
from model.registry.engines import WAIT, engines

_DISK_FULL = "53100"  # SQLSTATE


class Database:
    """Connections to one registry; safe to use from many threads, and beside other processes."""

    def __init__(self, url: str) -> None:
        self.engine, self._writer = engines(url)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One state of the database, whoever writes meanwhile; RegistryUnavailable."""
        with _border(), Session(self.engine) as session, session.begin():
            yield session

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """The only writer until the block ends: it commits or, on an error, leaves nothing.

        Do nothing slow in the block, and do not begin a second one in it. RegistryUnavailable, StorageFull.
        """
        until = time.monotonic() + WAIT
        with _border(), self._writer.connect() as connection, Session(connection) as session, session.begin():
            # takes the turn here, not at the first statement of the block
            session.connection(execution_options={"until": until})
            yield session

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()
        self._writer.dispose()


@contextmanager
def _border() -> Iterator[None]:
    """Nothing of the driver or of SQL leaves the registry when the database is away, busy or full."""
    try:
        yield
    except PoolTimeout as error:
        raise RegistryUnavailable("The registry has no free connection.") from error
    except DBAPIError as error:
        if _is_full(error.orig):
            raise StorageFull("The registry's disk is full.") from error
        # exactly DatabaseError: SQLite's "malformed" and "not a database"
        away = isinstance(error, OperationalError | InterfaceError) or type(error) is DatabaseError
        if away or error.connection_invalidated:
            raise RegistryUnavailable("The registry does not answer.") from error
        raise


def _is_full(error: BaseException | None) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL or (
        getattr(error, "sqlstate", None) == _DISK_FULL
    )
