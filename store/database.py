"""One database, SQLite or PostgreSQL: `read` sees one consistent state, `begin` makes the caller the only writer.

Writers take turns on both: `BEGIN IMMEDIATE` in SQLite, one advisory lock in PostgreSQL. Writes are short and few, so
numbering rows by `max + 1`, and a feed that others follow, are correct without retries. Knows no other table.
"""

import json
import math
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple
from urllib.parse import quote

from sqlalchemy import (
    URL,
    Connection,
    Double,
    Engine,
    Row,
    Select,
    create_engine,
    event,
    func,
    make_url,
    select,
    type_coerce,
)
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, InterfaceError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from store.audit import write_acts
from store.clock import SteadyClock, now
from store.errors import RegistryUnavailable, StorageFull
from store.files import make_folder
from store.tables import GalleryChangeRow

_WAIT = 1.5  # seconds that a writer waits for its turn, so that it is refused within two
_POLL = 0.05  # seconds that SQLite itself waits before we try again: on its own it would poll ever more rarely
_CONNECT = 2  # seconds; libpq takes whole ones and none below two
_SECONDS = 5.0  # for all of one reading, where that is bounded
_SHORTER = 0.9  # of the bound that PostgreSQL has: with less time left, it gets a new one
_STEPS = 100_000  # of SQLite's machine, some milliseconds, after which it asks whether to go on
_FAULTS = 10  # of SQLite's own file that are reported
_IDLE = 10  # seconds after which PostgreSQL ends an idle transaction
_WRITER = 0x7069_6374  # the advisory lock's number: "pict"
_BEFORE = "changes before"  # in SQLAlchemy's notes on a connection of SQLite: what it had changed when its turn began
_DISK_FULL, _NO_TABLE, _READ_ONLY = "53100", "42P01", "25006"  # SQLSTATE
_DAMAGED = ("XX001", "XX002", sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)  # XX001: a page fails its checksum
_CRC = 4  # bytes
_NOT_UTF8 = "Could not decode to UTF-8"  # as Python's driver begins; the text itself follows

T = TypeVar("T")
Columns = TypeVarTuple("Columns")


class Database:
    """Connections to one registry; safe with many threads and with other processes."""

    def __init__(self, url: str) -> None:
        self.engine, self._writer = _create_engines(url)
        self._clock = SteadyClock()
        self._refused_since: float | None = None

    @property
    def is_local(self) -> bool:
        """Whether it is a file of this machine: reading it waits only for a hanging disk, or a repair."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Read one state of the database, whoever writes meanwhile: what was read stays. Raises RegistryUnavailable."""
        with self._translate_errors(), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    def read_rows(self, query: Select[*Columns]) -> Sequence[Row[*Columns]]:
        """Read what a query finds. Raises RegistryUnavailable."""
        with self.read() as session:
            return session.execute(query).all()

    def read_values(self, query: Select[T]) -> Sequence[T]:
        """Read the first column of what a query finds. Raises RegistryUnavailable."""
        with self.read() as session:
            return session.scalars(query).all()

    def read_value(self, query: Select[T]) -> T | None:
        """Read the one value that a query finds, or the first; None without any. Raises RegistryUnavailable."""
        with self.read() as session:
            return session.scalar(query)

    @contextmanager
    def read_in_time(self) -> Iterator[Session]:
        """Read for a bounded time: no filter keeps the database or a thread busy. Raises RegistryUnavailable."""
        with self.read() as session:
            connection, until = session.connection(), time.monotonic() + _SECONDS
            if self.engine.dialect.name == "postgresql":
                _limit_statements(connection, until)
                yield session
                return
            driver: Any = connection.connection.driver_connection
            driver.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
            try:
                yield session
            finally:
                driver.set_progress_handler(None, 0)  # others will use the connection

    @contextmanager
    def connect_for_reading(self) -> Iterator[Connection]:
        """Read without SQLAlchemy's session, which takes longer than a small query. Raises RegistryUnavailable."""
        with self._translate_errors(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """Write alone until the block ends, which commits or, on an error, rolls back.

        Acts that change something are entered in the audit log with it. Do nothing slow in the block, and do not begin
        a second one in it. Raises RegistryUnavailable, StorageFull.
        """
        until, refused = time.monotonic() + _WAIT, False
        try:
            with (
                self._translate_errors(),
                self._writer.connect() as connection,
                Session(connection, expire_on_commit=False, info={"database": self}) as session,
                session.begin(),
            ):
                # waits for its turn here, not at the first statement of the block
                session.connection(execution_options={"until": until})
                yield session
                written = write_acts(session) if self.has_changed(session) else {}
            for number, act in written.items():
                act.number = number
        except RegistryUnavailable:
            refused = True
            raise
        finally:
            self._refused_since = (self._refused_since or time.monotonic()) if refused else None

    @property
    def refused_seconds(self) -> float:
        """The seconds for which every write of this process has been refused; 0 when the last one was not."""
        return 0.0 if self._refused_since is None else time.monotonic() - self._refused_since

    def is_steady(self, session: Session) -> bool:
        """Return whether the database's clock has not jumped within the last hour, between calls of this method.

        The first call in a process, made when it opens the registry, says yes: it has nothing to compare with.
        """
        moment: float = session.scalars(select(type_coerce(now(), Double()))).one()
        return self._clock.is_steady(moment)

    def has_changed(self, session: Session) -> bool:
        """Return whether this transaction has changed any row so far."""
        session.flush()
        connection = session.connection()
        if self.is_local:
            driver: Any = connection.connection.driver_connection
            return bool(driver.total_changes > connection.info[_BEFORE])
        return bool(connection.exec_driver_sql("SELECT pg_current_xact_id_if_assigned() IS NOT NULL").scalar())

    def read_last_change(self) -> int:
        """Return the number of the last change of the gallery; 0 when there is none."""
        return self.read_value(select(func.max(GalleryChangeRow.change))) or 0

    def find_damage(self) -> list[str]:
        """Let SQLite read its whole file, and return what is wrong there; PostgreSQL has checksums for that."""
        if not self.is_local:
            return []
        with self.connect_for_reading() as connection:
            found = connection.exec_driver_sql(f"PRAGMA integrity_check({_FAULTS})").scalars().all()
        return [] if found == ["ok"] else [str(fault) for fault in found]

    def truncate_log(self) -> None:
        """Clear SQLite's log, which may still have what was deleted, as soon as nobody reads it.

        Gives up after some time: the log is written over later, and emptied by whoever closes the database last.
        """
        if self.is_local:
            until = time.monotonic() + _WAIT
            with self._translate_errors(), closing(self._writer.raw_connection()) as connection:
                cursor = connection.cursor()
                while cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] and time.monotonic() < until:
                    time.sleep(_POLL)

    def close(self) -> None:
        self.engine.dispose()
        self._writer.dispose()

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Raise our errors for those of a driver: unreachable, busy, full, damaged. No SQL leaves the registry."""
        try:
            yield
        except PoolTimeout as error:
            raise RegistryUnavailable("The registry has no free connection.") from error
        except (DBAPIError, sqlite3.OperationalError) as error:  # the latter of who reads the driver's own cursor
            cause = error.orig if isinstance(error, DBAPIError) else error
            sqlite_code, state = (getattr(cause, name, None) for name in ("sqlite_errorcode", "sqlstate"))
            if sqlite_code == sqlite3.SQLITE_FULL or state == _DISK_FULL:
                raise StorageFull("The registry's disk is full.") from error
            if state == _NO_TABLE:
                raise RegistryUnavailable("The registry has no tables yet.") from error
            if state == _READ_ONLY:  # of a server that is a copy of another one
                raise RegistryUnavailable("The registry takes no writes.", reason=self._describe(cause)) from error
            if str(cause).startswith(_NOT_UTF8):
                raise RegistryUnavailable("A text in the registry is not UTF-8 any more.", damaged=True) from None
            if state in _DAMAGED or (sqlite_code or 0) & 0xFF in _DAMAGED:  # SQLite's last byte is the kind of error
                damaged = "The registry's files are damaged."
                raise RegistryUnavailable(damaged, reason=self._describe(cause), damaged=True) from error
            # exactly DatabaseError: SQLite's "malformed" and "not a database"
            unreachable = not isinstance(error, DBAPIError) or error.connection_invalidated
            if unreachable or isinstance(error, OperationalError | InterfaceError) or type(error) is DatabaseError:
                raise RegistryUnavailable("The registry does not answer.", reason=self._describe(cause)) from error
            raise

    def _describe(self, cause: object) -> str:
        """Return the driver's message in one line, without the password, which libpq repeats in some."""
        message, url = " ".join(str(cause).split()), self.engine.url
        for secret in (url.password, url.query.get("password")):
            for form in (secret, quote(secret, safe="")) if isinstance(secret, str) and secret else ():
                message = message.replace(form, "***")
        return message


def append_crc(value: bytes) -> bytes:
    """Return a small value and its CRC-32, for a database, which does not notice when a bit flips."""
    return value + zlib.crc32(value).to_bytes(_CRC, "little")


def strip_crc(stored: bytes) -> bytes | None:
    """Return the value without its CRC-32; None when a bit has flipped."""
    value = stored[:-_CRC]
    return value if append_crc(value) == stored else None


class RegistryPart:
    """What a registry has of one kind, such as its versions or its keys, by methods of one transaction each."""

    def __init__(self, database: Database) -> None:
        self._database = database


def _create_engines(url: str) -> tuple[Engine, Engine]:
    """Return the reader and the writer, not yet connected. Raises RegistryUnavailable for an unusable URL."""
    try:
        address = make_url(url)
        backend = address.get_backend_name()
    except (ArgumentError, NoSuchModuleError):
        raise RegistryUnavailable("The registry's URL is malformed.") from None
    if backend == "sqlite" and address.database:
        return _create_sqlite_engines(address, Path(address.database))
    if backend == "postgresql":
        return _create_postgresql_engines(address)
    raise RegistryUnavailable("The registry's URL is neither a SQLite file nor PostgreSQL.")


# --- SQLite -----------------------------------------------------------------------------------------------------------


def _create_sqlite_engines(address: URL, file: Path) -> tuple[Engine, Engine]:
    try:
        make_folder(file.parent)
    except OSError as error:
        raise RegistryUnavailable("The registry's folder cannot be created.") from error
    # a connection is only an open file, so readers never wait for one
    reader = create_engine(address, max_overflow=-1, connect_args={"timeout": _WAIT}, **_BOTH)
    # with a pool of one, the threads of this process queue in order; SQLite itself keeps no order
    writer = create_engine(
        address, pool_size=1, max_overflow=0, pool_timeout=_WAIT, connect_args={"timeout": _POLL}, **_BOTH
    )

    @event.listens_for(reader, "connect")
    def forbid_writes(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # otherwise the driver begins a transaction late or not at all
        connection.execute("PRAGMA query_only = ON")

    @event.listens_for(reader, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    @event.listens_for(writer, "connect")
    def write_durably(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None
        _retry_while_busy(lambda: connection.execute("PRAGMA journal_mode = WAL"), time.monotonic() + _WAIT)
        connection.execute("PRAGMA synchronous = FULL")  # in WAL mode NORMAL may lose the last commits with the power
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten; not every build does so

    @event.listens_for(writer, "begin")
    def take_turn(connection: Connection) -> None:
        until = connection.get_execution_options()["until"]
        _retry_while_busy(lambda: connection.exec_driver_sql("BEGIN IMMEDIATE"), until)
        driver: Any = connection.connection.driver_connection
        connection.info[_BEFORE] = driver.total_changes

    return reader, writer


def _retry_while_busy(act: Callable[[], object], until: float) -> None:
    """Repeat `act` while another process writes; SQLite itself does not wait when it switches to WAL."""
    while True:
        try:
            act()
            return
        except (sqlite3.OperationalError, OperationalError) as error:
            cause = error.orig if isinstance(error, OperationalError) else error
            kind = (getattr(cause, "sqlite_errorcode", None) or 0) & 0xFF  # its last byte
            if kind != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.001)


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def _create_postgresql_engines(address: URL) -> tuple[Engine, Engine]:
    common: dict[str, Any] = {
        "pool_pre_ping": True,
        "pool_timeout": _WAIT,
        "connect_args": {
            "application_name": "pictoglot",
            "connect_timeout": _CONNECT,
            # lets the kernel notice a server that vanished without closing the connection
            "keepalives_idle": 5,
            "keepalives_interval": 1,
            "keepalives_count": 2,
            "tcp_user_timeout": 2000,
        },
    }
    address = address.set(drivername="postgresql+psycopg")
    try:
        reader = create_engine(address, pool_size=8, max_overflow=24, **_BOTH, **common)
        writer = create_engine(address, pool_size=1, max_overflow=0, **_BOTH, **common)
    except ModuleNotFoundError:
        raise RegistryUnavailable("PostgreSQL needs one more package: pip install 'pictoglot[postgres]'.") from None

    @event.listens_for(writer, "connect")
    def limit_idle_time(connection: Any, _: object) -> None:
        connection.execute(f"SET idle_in_transaction_session_timeout = {_IDLE * 1000}")
        connection.commit()

    @event.listens_for(writer, "begin")
    def take_turn(connection: Connection) -> None:
        milliseconds = max(1, round(1000 * (connection.get_execution_options()["until"] - time.monotonic())))
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds}")
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_WRITER,))

    return reader.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True), writer


def _limit_statements(connection: Connection, until: float) -> None:
    """Let all statements together last until a moment: PostgreSQL bounds each by itself.

    Its bound is set anew only when much less time is left: that costs a round trip.
    """
    bound = math.inf

    @event.listens_for(connection, "before_cursor_execute")
    def shorten(*_: object) -> None:
        nonlocal bound
        seconds = until - time.monotonic()
        if seconds <= 0:
            raise RegistryUnavailable("The registry takes too long.")
        if seconds < _SHORTER * bound:
            bound = seconds
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {max(1, round(1000 * seconds))}")


# --- both -------------------------------------------------------------------------------------------------------------


def encode_json(value: object) -> str:
    """Return JSON that PostgreSQL accepts: numbers that are not finite (a diverged loss) become null."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_replace_infinite(value), allow_nan=False)


def _replace_infinite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _replace_infinite(item) for key, item in value.items()}
    return [_replace_infinite(item) for item in value] if isinstance(value, list | tuple) else value


_BOTH: dict[str, Any] = {"json_serializer": encode_json, "hide_parameters": True}
