"""The registry as one file, which holds one moment: SQLite's own, or an archive of `pg_dump`. And back from it."""

import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from store.errors import BackupFailed
from store.files import write_pieces
from store.migrations import read_revision
from store.registry import Registry

_CHUNK = 1 << 20  # bytes read at a time
# What belongs to a server and its people stays there; comments on extensions are their owners' alone.
_PORTABLE = ("--no-owner", "--no-privileges")


def dump_registry(registry: Registry, session: Session, file: Path) -> None:
    """Write the registry to `file` as the open transaction of `session` sees it.

    Raises BackupFailed where `pg_dump` is missing, older than the server or fails.
    """
    if registry.is_local:
        driver: Any = session.connection().connection.driver_connection
        with closing(sqlite3.connect(file)) as copy:
            driver.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file: no log beside it
        return
    server = int(session.scalars(text("SHOW server_version_num")).one()) // 10_000
    snapshot = session.scalars(text("SELECT pg_export_snapshot()")).one()
    options = ("--format=custom", f"--snapshot={snapshot}", "--no-comments", f"--file={file}")
    _run("pg_dump", registry.engine.url, server, *options)


def load_registry(url: str, file: Path) -> None:
    """Make the registry at `url`, where none is, from a file of `dump_registry`, wholly or not at all.

    Raises BackupFailed as `dump_registry`, with `pg_restore`.
    """
    address = make_url(url)
    if _is_file(address):
        with file.open("rb") as stream:
            write_pieces(Path(str(address.database)), iter(lambda: stream.read(_CHUNK), b""))
    else:
        _run("pg_restore", address, 0, "--exit-on-error", "--single-transaction", str(file))


def has_registry(url: str) -> bool:
    """Return whether there is a registry at `url`, and make none. Raises RegistryUnavailable, RegistryOutdated."""
    address = make_url(url)
    if _is_file(address) and not Path(str(address.database)).exists():
        return False
    with closing(Registry(url)) as registry, registry.read() as session:
        return read_revision(session.connection()) is not None


def find_sqlite_files(url: str) -> list[Path]:
    """Find the file that SQLite would open at `url`, and logs of it, which it would play back onto another."""
    path = str(make_url(url).database)
    return [file for end in ("", "-wal", "-shm", "-journal") if (file := Path(path + end)).exists()]


@contextmanager
def make_database(url: str) -> Iterator[str]:
    """Make an empty database on the PostgreSQL server of `url`, yield its URL, and drop it. Raises BackupFailed."""
    address, name = make_url(url).set(drivername="postgresql+psycopg"), f"pictoglot_verify_{uuid4().hex[:12]}"
    engine = create_engine(address, isolation_level="AUTOCOMMIT", poolclass=NullPool, hide_parameters=True)
    try:
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
    except DBAPIError as error:
        raise BackupFailed(
            "To open the backup, the user of PICTOGLOT_DATABASE_URL must be allowed to make a database "
            f"(ALTER ROLE … CREATEDB): {_tell_first_line(str(error.orig))}"
        ) from error
    try:
        yield address.set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


def _is_file(address: URL) -> bool:
    return address.get_backend_name() == "sqlite"


def _run(name: str, url: URL, server: int, *options: str) -> None:
    """Run a program of PostgreSQL on a database; the password does not show among the processes."""
    program = _find_program(name, server)
    secrets = {key: url.query[key] for key in ("password", "sslpassword") if key in url.query}
    query = {key: value for key, value in url.query.items() if key not in secrets}
    database = URL.create("postgresql", url.username, None, url.host, url.port, url.database, query)
    password = url.password or secrets.get("password")
    variables = {"PGPASSWORD": str(password)} if password else {}
    command = [program, *_PORTABLE, f"--dbname={database.render_as_string()}", *options]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BackupFailed(f"{name} failed: {_tell_first_line(done.stderr) or f'status {done.returncode}'}")


def _find_program(name: str, server: int) -> str:
    program = shutil.which(name)
    wanted = f"install PostgreSQL's client programs{f' of release {server} or later' if server else ''}"
    if program is None:
        raise BackupFailed(f"{name} is not on PATH: {wanted}")
    output = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    release = int(found[0]) if (found := re.findall(r"\d+", output)) else 0
    if release < server:
        raise BackupFailed(f"{name} on PATH is of release {release}, and the server of {server}: {wanted}")
    return program


def _tell_first_line(said: str) -> str:
    return said.strip().partition("\n")[0].removesuffix(".")
