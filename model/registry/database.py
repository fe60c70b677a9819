"""One database, SQLite or PostgreSQL: `read` sees one consistent state, `begin` makes the caller the only writer.

Writers take turns on both: `BEGIN IMMEDIATE` in SQLite, one advisory lock in PostgreSQL. Writes are short and few, so
numbering rows by `max + 1`, and a feed that others follow, are correct without retries.
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
    """Connections to one registry; safe with many threads and with other processes."""

    def __init__(self, url: str) -> None:
        self.engine, self._writer = engines(url)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One state of the database, whoever writes meanwhile. Raises RegistryUnavailable."""
        with _translated_errors(), Session(self.engine) as session, session.begin():
            yield session

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """The only writer until the block ends, which commits or, on an error, rolls back.

        Do nothing slow in the block, and do not begin a second one in it. Raises RegistryUnavailable, StorageFull.
        """
        until = time.monotonic() + WAIT
        with (
            _translated_errors(),
            self._writer.connect() as connection,
            Session(connection) as session,
            session.begin(),
        ):
            # waits for its turn here, not at the first statement of the block
            session.connection(execution_options={"until": until})
            yield session

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()
        self._writer.dispose()


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Errors of the driver, translated when the database is unreachable, busy or full: no SQL leaves the registry."""
    try:
        yield
    except PoolTimeout as error:
        raise RegistryUnavailable("The registry has no free connection.") from error
    except DBAPIError as error:
        if _is_full(error.orig):
            raise StorageFull("The registry's disk is full.") from error
        # exactly DatabaseError: SQLite's "malformed" and "not a database"
        unreachable = isinstance(error, OperationalError | InterfaceError) or type(error) is DatabaseError
        if unreachable or error.connection_invalidated:
            raise RegistryUnavailable("The registry does not answer.") from error
        raise


def _is_full(error: BaseException | None) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL or (
        getattr(error, "sqlstate", None) == _DISK_FULL
    )
