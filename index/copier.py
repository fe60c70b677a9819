"""What a backup copies: the registry as one file, and the files of a data root, whoever removes files meanwhile.

The registry's file holds one moment: it is SQLite's own, or an archive of `pg_dump`. Of the data root, a file that
cannot change any more is linked, where data root and backup are on one file system. Others, and all of them elsewhere,
are copied once, and linked to the backup before while they stay the same; each has its sha256. Each day some of these
links are read and compared.
"""

import os
import re
import shutil
import sqlite3
import subprocess
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from index.picture_files import FOLDER as PICTURES
from store import files
from store.data_root import DataRoot
from store.errors import BackupFailed, CorruptFolder
from store.files import TEMPORARY, write_pieces
from store.registry import Registry, read_revision
from store.settings import CommonSettings

_CHUNK = 1 << 20  # bytes read at a time
# What belongs to a server and its people stays there; comments on extensions are their owners' alone.
_PORTABLE = ("--no-owner", "--no-privileges")
HOME = "home"  # the files of the data root, in a backup
CACHE = ".cache"  # bases from the network, where the data root is the home of the user that serves
LEFT_OUT = ("verified", "compiled", "teacher", "uploads", CACHE)  # folders of the data root that are made again
_UNCHANGED = (PICTURES, "segments", "versions")  # folders whose files are never written to again
_DAYS = 14  # as many as backups are kept
_SQLITE = ("", "-wal", "-shm", "-journal")


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


@dataclass
class Copier:
    """Fills the folder `staged`; `earlier` is the backup before, whose files are linked while they stay the same."""

    settings: CommonSettings
    staged: Path
    earlier: Path | None
    known: Mapping[str, Mapping[str, Any]]  # files of the backup before, as in its manifest
    files: dict[str, dict[str, Any]] = field(default_factory=dict)  # as in the manifest
    new_bytes: int = 0  # that the backup before has not
    damaged: list[str] = field(
        default_factory=list
    )  # files of the data root that nobody has changed, and are otherwise

    def copy_all(self) -> None:
        """Copy what is there, but temporary files and what is left out; called again, add what came meanwhile."""
        home, gone = self.settings.home, set[Path]()
        database = Path(str(make_url(self.settings.database).database)).absolute()
        registry = {database.with_name(f"{database.name}{suffix}") for suffix in _SQLITE}

        def pass_over(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise error
            gone.add(Path(error.filename))

        for parent, folders, names in os.walk(home, onerror=pass_over, followlinks=True):
            here = Path(parent)
            left_out = LEFT_OUT if here == home else ()
            folders[:] = [name for name in folders if not name.startswith(TEMPORARY) and name not in left_out]
            for name in names:
                if name.startswith(TEMPORARY) or here / name in registry:
                    continue
                try:
                    self._copy(here / name, (here / name).relative_to(home).as_posix())
                except FileNotFoundError:
                    gone.add(here)
        for folder in gone:
            if not folder.exists():  # removed as a whole, and perhaps copied in part
                while not folder.parent.exists():
                    folder = folder.parent
                self._drop(folder.relative_to(home).as_posix())

    def ensure(self, name: str) -> bool:
        """Return whether a file or folder of the data root is in the backup; takes it from the store if it is there."""
        path, found = self.staged / HOME / name, self._find_before(name)
        if f"{HOME}/{name}" in self.files or path.is_dir():
            return True
        if not self.settings.store:
            return False
        if found is not None:
            for file in _list_files(found):
                self._copy(file, f"{name}{file.as_posix().removeprefix(found.as_posix())}")
            return True
        with suppress(CorruptFolder):
            DataRoot(self.staged / HOME, self.settings.store).open(name)
            for file in _list_files(path) if path.exists() else ():
                self.note_file(file.relative_to(self.staged).as_posix())
        return path.exists()

    def note_file(self, key: str, sha256: str = "", modified: int | None = None) -> None:
        """Enter a file of the backup in the manifest; one without a known sha256 is new."""
        path = self.staged / key
        facts = path.stat()
        self.new_bytes += 0 if sha256 else facts.st_size
        self.files[key] = {
            "sha256": sha256 or _hash(path),
            "size": facts.st_size,
            "modified": facts.st_mtime_ns if modified is None else modified,  # nanoseconds
        }

    def _copy(self, source: Path, name: str) -> None:
        key, facts = f"{HOME}/{name}", source.stat()
        if _is_same(self.files.get(key), facts):
            return
        target, before, sha256 = self.staged / key, self._find_before(name), ""
        known = None if before is None else self.known.get(key)
        if known is not None and (
            _is_same(known, facts)
            or (known["size"] == facts.st_size and files.hash_file(source) == known["sha256"])  # written again
        ):
            sha256 = known["sha256"]
        target.unlink(missing_ok=True)
        is_link = place_file(name, source, target, before if sha256 else None)
        if is_link and sha256 and self._is_due(key) and _hash(target) != sha256:
            target.unlink()  # linked from one backup to the next, it would be damaged in all of them
            shutil.copy2(source, target)
            is_link = False
        self.note_file(key, sha256 if is_link else "", facts.st_mtime_ns)
        if sha256 and self.files[key]["sha256"] != sha256:
            self.damaged.append(name)
            self.files[key]["sha256"] = sha256  # `verify` then says it, too

    @staticmethod
    def _is_due(key: str) -> bool:
        """Tell whether a file that nobody has changed is read today: each is, once in so many days."""
        return zlib.crc32(key.encode()) % _DAYS == int(time.time() // 86_400) % _DAYS

    def _find_before(self, name: str) -> Path | None:
        """Return the path of a file or folder in the backup before, if it is there."""
        path = None if self.earlier is None else self.earlier / HOME / name
        return path if path is not None and path.exists() else None

    def _drop(self, name: str) -> None:
        prefix = f"{HOME}/{name}"
        shutil.rmtree(self.staged / prefix, ignore_errors=True)
        for key in [key for key in self.files if key.startswith(f"{prefix}/")]:
            del self.files[key]


def _hash(path: Path) -> str:
    return files.hash_file(path, lambda _: None)  # searches need the page cache


def _is_same(known: Mapping[str, Any] | None, facts: os.stat_result) -> bool:
    return known is not None and (known["size"], known["modified"]) == (facts.st_size, facts.st_mtime_ns)


def _list_files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def place_file(name: str, source: Path, target: Path, before: Path | None = None) -> bool:
    """Put a file of the data root at `target`, as a link where possible; returns whether it is one.

    A file that may be written to again is linked to `before` alone.
    """
    files.make_folder(target.parent)
    for way in (source if name.partition("/")[0] in _UNCHANGED else None, before):
        with suppress(OSError):  # another file system, or one without links
            if way is not None:
                os.link(way, target)
                return True
    shutil.copy2(source, target)
    return False
