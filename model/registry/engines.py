"""SQLAlchemy's engines, two per registry: one only reads, the other's transactions take turns. Knows no table."""

import json
import math
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError

from model.errors import RegistryUnavailable

WAIT = 1.5  # seconds that a writer waits for its turn, so that it is refused within two
_POLL = 0.05  # seconds that SQLite itself waits before we try again: on its own it would poll ever more rarely
_CONNECT = 2  # seconds; libpq takes whole ones and none below two
_IDLE = 10  # seconds after which PostgreSQL ends an idle transaction
_WRITER = 0x7069_6374  # the advisory lock's number: "pict"


def engines(url: str) -> tuple[Engine, Engine]:
    """The reader and the writer of a registry; does not connect yet. Raises RegistryUnavailable for an unusable URL."""
    try:
        address = make_url(url)
        backend = address.get_backend_name()
    except (ArgumentError, NoSuchModuleError):
        raise RegistryUnavailable("The registry's URL is malformed.") from None
    if backend == "sqlite" and address.database:
        return _sqlite(address, Path(address.database))
    if backend == "postgresql":
        return _postgresql(address)
    raise RegistryUnavailable("The registry's URL is neither a SQLite file nor PostgreSQL.")


# --- SQLite -----------------------------------------------------------------------------------------------------------


def _sqlite(address: URL, file: Path) -> tuple[Engine, Engine]:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RegistryUnavailable("The registry's folder cannot be created.") from error
    common: dict[str, Any] = {"json_serializer": to_json, "hide_parameters": True}
    # a connection is only an open file, so readers never wait for one
    reader = create_engine(address, max_overflow=-1, connect_args={"timeout": WAIT}, **common)
    # with a pool of one, the threads of this process queue in order; SQLite itself keeps no order
    writer = create_engine(
        address, pool_size=1, max_overflow=0, pool_timeout=WAIT, connect_args={"timeout": _POLL}, **common
    )

    @event.listens_for(reader, "connect")
    def only_read(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # otherwise the driver begins a transaction late or not at all
        connection.execute("PRAGMA query_only = ON")

    @event.listens_for(reader, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    @event.listens_for(writer, "connect")
    def write_durably(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None
        _retry_while_busy(lambda: connection.execute("PRAGMA journal_mode = WAL"), time.monotonic() + WAIT)
        connection.execute("PRAGMA synchronous = FULL")  # in WAL mode NORMAL may lose the last commits with the power
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(writer, "begin")
    def take_turn(connection: Connection) -> None:
        until = connection.get_execution_options()["until"]
        _retry_while_busy(lambda: connection.exec_driver_sql("BEGIN IMMEDIATE"), until)

    return reader, writer


def _retry_while_busy(act: Callable[[], object], until: float) -> None:
    """Repeat `act` while another process writes: to take turns, and to switch to WAL, where SQLite does not wait."""
    while True:
        try:
            act()
            return
        except (sqlite3.OperationalError, OperationalError) as error:
            cause = error.orig if isinstance(error, OperationalError) else error
            if getattr(cause, "sqlite_errorcode", None) != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.001)


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def _postgresql(address: URL) -> tuple[Engine, Engine]:
    common: dict[str, Any] = {
        "pool_pre_ping": True,
        "pool_timeout": WAIT,
        "json_serializer": to_json,
        "hide_parameters": True,
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
        reader = create_engine(address, pool_size=8, max_overflow=24, **common)
        writer = create_engine(address, pool_size=1, max_overflow=0, **common)
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


# --- both -------------------------------------------------------------------------------------------------------------


def to_json(value: object) -> str:
    """JSON that PostgreSQL accepts: a number that is not finite (a diverged loss in a report) becomes null."""
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
