"""One database, SQLite or PostgreSQL, behind the same two verbs: `read` a consistent state, `begin` to write it alone.

Writers take turns on both: `BEGIN IMMEDIATE` in SQLite, one advisory lock in PostgreSQL. Writes are short and few, so a
number that is `max + 1`, and a feed that others follow, are right without a retry anywhere.
"""

import json
import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from model.errors import RegistryUnavailable, StorageFull

_WAIT = 1.5  # seconds that anyone waits for the writer before him, so that a refusal comes within two
_CONNECT = 2  # seconds; libpq takes whole ones and none below two
_IDLE = 10  # seconds after which PostgreSQL ends the transaction of a client that stands still
_WRITER = 0x7069_6374  # the advisory lock's number: "pict"
_DISK_FULL = "53100"  # SQLSTATE


class Database:
    """Connections to one registry; safe to use from many threads, and beside other processes."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._postgresql = self.engine.dialect.name == "postgresql"
        reads = {"isolation_level": "REPEATABLE READ"} if self._postgresql else {}
        self._reader = self.engine.execution_options(**reads)
        self._writer = self.engine.execution_options(writes=True)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One state of the database, whoever writes meanwhile; RegistryUnavailable."""
        with _border(), Session(self._reader) as session, session.begin():
            yield session

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """The only writer until the block ends: it commits or, on an error, leaves nothing.

        RegistryUnavailable, StorageFull.
        """
        with _border(), Session(self._writer) as session, session.begin():
            if self._postgresql:
                session.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _WRITER})
            else:
                session.connection()  # begins here, not at the first statement of the block
            yield session

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()


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


def _engine(url: str) -> Engine:
    try:
        address = make_url(url)
        backend = address.get_backend_name()
    except (ArgumentError, NoSuchModuleError):
        raise RegistryUnavailable("The registry's URL cannot be read.") from None
    if backend == "sqlite" and address.database:
        return _sqlite(address, Path(address.database))
    if backend == "postgresql":
        return _postgresql(address)
    raise RegistryUnavailable("The registry's URL names neither a file of SQLite nor PostgreSQL.")


def _sqlite(address: URL, file: Path) -> Engine:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RegistryUnavailable("The registry's folder cannot be made.") from error
    engine = create_engine(
        address,
        connect_args={"timeout": _WAIT},
        max_overflow=-1,  # a connection is an open file; waiting for one would come on top of waiting for the writer
        json_serializer=to_json,
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # the driver would begin late, by itself, and never IMMEDIATE
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # in WAL mode NORMAL may lose the last commits with the power
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql(address: URL) -> Engine:
    engine = create_engine(
        address.set(drivername="postgresql+psycopg"),
        connect_args={
            "connect_timeout": _CONNECT,
            "application_name": "pictoglot",
            # a peer that vanished without a word is noticed by the kernel
            "keepalives_idle": 5,
            "keepalives_interval": 1,
            "keepalives_count": 2,
            "tcp_user_timeout": 2000,
        },
        pool_size=8,
        max_overflow=24,
        pool_timeout=_WAIT,
        pool_pre_ping=True,
        json_serializer=to_json,
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: object) -> None:
        connection.execute(f"SET lock_timeout = {round(_WAIT * 1000)}")
        connection.execute(f"SET idle_in_transaction_session_timeout = {_IDLE * 1000}")
        connection.commit()

    return engine


def to_json(value: object) -> str:
    """JSON as PostgreSQL takes it: a number that is not finite (a diverged loss in a report) becomes null."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
