"""Tests for opening a registry: migrations, initialising, and a database that is unreachable, busy, full or broken."""

import hashlib
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import UniqueConstraint, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import Pool

from store.errors import ExpansionInProgress, RegistryOutdated, RegistryUnavailable, StorageFull
from store.registry import NEWEST, Registry, open_registry
from store.tables import RegistryRow
from tests.house.source import ROOT
from tests.patience import PATIENCE, bound_time, insist
from tests.registries import publish_release
from tests.store.steps import submit

LATER = f"r{int(NEWEST) + 1:04}"
COLUMN = '    mood: Mapped[str] = mapped_column(server_default="calm")\n'
STEP = f'''
import sqlalchemy as sa
from alembic import op

revision = "{LATER[1:]}"
down_revision = "{NEWEST}"


def upgrade() -> None:
    op.add_column("expansions", sa.Column("mood", sa.String, nullable=False, server_default="calm"))
'''
OPENS = """
import logging, sys
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from store.registry import open_registry
from store.tables import RegistryRow
logging.basicConfig(stream=sys.stdout, format="%(message)s")
for url, migrate in ((sys.argv[1], False), (sys.argv[1], True), (sys.argv[1], True), (sys.argv[2], True)):
    registry = open_registry(url, migrate=migrate)
    sys.stdout.write(f"{registry.describe_migration() or 'nothing to do'}\\n")
    with registry.engine.connect() as connection:
        options = {"include_name": lambda name, kind, parents: not str(name).startswith("picture_terms")}
        context = MigrationContext.configure(connection, opts=options)
        assert (compare_metadata(context, RegistryRow.metadata) == []) == migrate
    registry.close()
"""


@contextmanager
def check_refusal(seconds: float) -> Iterator[None]:
    """Check that the block is refused as unavailable, and not later than that."""
    with bound_time(seconds), pytest.raises(RegistryUnavailable):
        yield


def test_why_the_registry_does_not_answer_is_for_logs_without_the_password(postgresql_url: str) -> None:
    address = make_url(postgresql_url).set(database="a b", password="a b")
    with pytest.raises(RegistryUnavailable) as refused:
        open_registry(address.render_as_string(hide_password=False), migrate=False)
    assert (refused.value.detail, refused.value.extra) == ("The registry does not answer.", {})
    detail = refused.value.full_detail
    assert detail.startswith("The registry does not answer: ") and 'database "***" does not exist' in detail, detail
    assert "\n" not in detail and "a b" not in detail


def _open_and_submit(database_url: str, start: "multiprocessing.synchronize.Barrier") -> bool:
    start.wait()
    registry = insist(lambda: open_registry(database_url))
    insist(lambda: registry.initialise("base-fingerprint"))
    try:
        insist(lambda: submit(registry, "cy"))
    except ExpansionInProgress:
        return False
    finally:
        registry.close()
    return True


def test_processes_that_start_at_once_make_the_tables_once_and_submit_once(database_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, spawn.Pool(3) as pool:
        start = manager.Barrier(3)
        assert sum(pool.starmap(_open_and_submit, [(database_url, start)] * 3, chunksize=1)) == 1


@pytest.mark.row("E10")
def test_a_writer_that_never_ends_is_a_refusal_within_two_seconds(database_url: str, registry: Registry) -> None:
    other = open_registry(database_url)
    with other.begin():
        registry.releases.get_serving()  # reading goes on
        with check_refusal(2.0):
            submit(registry, "cy")
    other.close()
    submit(registry, "cy")


def test_an_error_in_a_block_leaves_nothing_and_is_not_reported_as_an_unreachable_database(registry: Registry) -> None:
    with pytest.raises(IntegrityError), registry.begin() as session:
        session.execute(text("UPDATE aliases SET name = 'other'"))
        session.execute(text("INSERT INTO aliases VALUES ('other', 1)"))
    assert registry.releases.get_serving().number == 1


def test_a_reader_sees_one_state_throughout_and_cannot_write(registry: Registry) -> None:
    count = text("SELECT count(*) FROM expansions")
    with registry.read() as session:
        before = session.scalar(count)
        submit(registry, "cy")
        assert session.scalar(count) == before == 0
    with pytest.raises(DBAPIError), registry.engine.begin() as connection:
        connection.execute(text("DELETE FROM aliases"))
    assert registry.releases.get_serving().number == 1


# --- SQLite only ------------------------------------------------------------------------------------------------------


def test_sqlite_is_durable_and_checks_references(tmp_path: Path) -> None:
    registry = open_registry(f"sqlite:///{tmp_path}/new folder/registry.db")
    with registry.begin() as session:
        pragmas = {
            name: session.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    registry.close()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_what_is_deleted_is_overwritten_with_any_build_of_sqlite(tmp_path: Path) -> None:
    # some overwrite it by themselves: here each connection begins as one of a build that does not

    def turn_off(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA secure_delete = OFF")

    file, word = tmp_path / "registry.db", "somebody"
    event.listen(Pool, "connect", turn_off)
    try:
        registry = open_registry(f"sqlite:///{file}")
        with registry.begin() as session:
            session.execute(text("CREATE TABLE told (word TEXT)"))
            session.execute(text("INSERT INTO told VALUES (:word)"), {"word": word})
        registry.truncate_log()
        assert word.encode() in file.read_bytes()
        with registry.begin() as session:
            session.execute(text("DELETE FROM told"))
        registry.truncate_log()
        assert word.encode() not in file.read_bytes()
        registry.close()
    finally:
        event.remove(Pool, "connect", turn_off)


def test_a_writer_waits_whatever_sqlite_is_busy_with(tmp_path: Path) -> None:
    busy = sqlite3.OperationalError("database is locked")
    busy.sqlite_errorcode = sqlite3.SQLITE_BUSY_RECOVERY
    registry, errors = open_registry(f"sqlite:///{tmp_path / 'registry.db'}"), [busy]

    def refuse_once(*_: object) -> None:
        if errors:
            raise errors.pop()

    event.listen(registry._writer, "before_cursor_execute", refuse_once)  # as while another process mends the log
    registry.probe()
    assert errors == []
    registry.close()


@pytest.mark.parametrize("content", [b"x" * 5000, None])
def test_a_file_that_is_no_database_and_a_folder_that_cannot_be_made_are_unavailable(
    tmp_path: Path, content: bytes | None
) -> None:
    place = tmp_path / "registry.db"
    place.mkdir() if content is None else place.write_bytes(content)
    with check_refusal(2.0):
        open_registry(f"sqlite:///{place}")
    (tmp_path / "file").touch()
    with check_refusal(2.0):
        open_registry(f"sqlite:///{tmp_path}/file/registry.db")


@pytest.mark.row("S5")
def test_a_full_disk_is_storage_full_and_keeps_existing_rows(tmp_path: Path) -> None:
    registry = open_registry(f"sqlite:///{tmp_path}/registry.db")
    registry.initialise("f")
    with registry.begin() as session:  # the same connection comes out of the pool again
        pages = session.scalar(text("PRAGMA page_count"))
        session.execute(text(f"PRAGMA max_page_count = {pages + 2}"))
    with pytest.raises(StorageFull):
        publish_release(registry, expected=1, shared=0, languages={}, actor="t", reason="x" * 100_000)
    assert registry.releases.get_serving().number == 1
    assert len(registry.releases.list()) == 1
    registry.close()


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["", "registry.db", "mysql://x/y", "nothing://x", "sqlite://", "postgresql://nobody@127.0.0.1:9/none"]
)
def test_an_unknown_url_and_a_server_that_is_not_there_are_unavailable(url: str) -> None:
    with check_refusal(2.0):
        open_registry(url)


def test_a_database_without_tables_is_unavailable_until_a_service_has_started(database_url: str) -> None:
    # as for a worker that was started first
    registry = open_registry(database_url, migrate=False)
    with pytest.raises(RegistryUnavailable):
        registry.releases.get_serving()
    service = open_registry(database_url)
    with pytest.raises(RegistryUnavailable):
        registry.releases.get_serving()
    assert registry.bases.find_serving() is None and registry.bases.list() == []
    service.initialise("base-fingerprint")
    service.close()
    assert registry.releases.get_serving().number == 1
    registry.close()


def test_connections_that_the_server_closed_are_replaced(postgresql_url: str) -> None:
    registry = open_registry(postgresql_url)
    registry.initialise("base-fingerprint")
    admin = create_engine(postgresql_url)
    with admin.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND datname = current_database() AND application_name = 'pictoglot'"
            )
        )
    admin.dispose()
    assert registry.releases.get_serving().number == 1
    registry.close()


def describe_tables() -> str:
    """Describe all of the tables that a database keeps, in words that no library changes."""
    lines = []
    for table in RegistryRow.metadata.sorted_tables:
        for column in table.columns:
            keys = sorted(f"{key.target_fullname} {key.ondelete} {key.onupdate}" for key in column.foreign_keys)
            default = getattr(column.server_default, "arg", None)
            facts = (column.type, column.nullable, column.primary_key, *keys, default)
            lines.append(f"{table.name}.{column.name}: {', '.join(map(str, facts))}")
        for index in table.indexes:
            lines.append(f"{table.name}: {index.name} {[*index.columns.keys()]} {index.unique}")
        for unique in table.constraints:
            if isinstance(unique, UniqueConstraint):
                lines.append(f"{table.name}: {[*unique.columns.keys()]}")
    return "\n".join(sorted(lines))


def test_the_tables_are_those_that_the_newest_revision_has_left() -> None:
    # otherwise new registries and those that were there before would differ
    noted = next((ROOT / "store/migrations/versions").glob(f"r{NEWEST}_*.py")).read_text(encoding="utf-8")
    today = hashlib.sha256(describe_tables().encode()).hexdigest()[:16]
    assert f'tables = "{today}"' in noted, f"write the next revision and note {today} in it"


def test_a_later_release_migrates_once_and_keeps_what_is_there(
    database_url: str, registry: Registry, tmp_path: Path
) -> None:
    made = submit(registry, "cy")
    shutil.copytree(ROOT / "store", tmp_path / "store")
    (tmp_path / f"store/migrations/versions/{LATER}_mood.py").write_text(STEP, encoding="utf-8")
    tables, before = tmp_path / "store/tables.py", "    cause: Mapped[str | None]"
    tables.write_text(tables.read_text(encoding="utf-8").replace(before, COLUMN + before), encoding="utf-8")
    later = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", OPENS, database_url, f"sqlite:///{tmp_path}/new.db"]
    done = subprocess.run(command, env=later, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stdout.splitlines() == [
        f"the next start migrates its tables from r{NEWEST} to {LATER}",
        f"the registry's tables were migrated from r{NEWEST} to {LATER}",
        "nothing to do",
        "nothing to do",
        "nothing to do",
    ], done.stderr
    with registry.read() as session:
        assert session.execute(text("SELECT id, mood FROM expansions")).all() == [(made.id, "calm")]
    with pytest.raises(RegistryUnavailable, match="newer"):
        open_registry(database_url)


@pytest.mark.parametrize(
    ("revision", "way"),
    [("0001", "its pictures and teach its datasets again"), ("0028", "`pictoglot export` of the build")],
)
@pytest.mark.parametrize("migrate", [True, False])
def test_tables_of_an_earlier_release_are_refused_and_stay(
    database_url: str, migrate: bool, revision: str, way: str
) -> None:
    with closing(Registry(database_url)) as before, before.begin() as session:
        session.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        session.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision})
    with pytest.raises(RegistryOutdated, match=rf"\(r{revision}\).*{way}"):
        open_registry(database_url, migrate=migrate)
    with closing(Registry(database_url)) as after, after.read() as session:
        assert session.scalars(text("SELECT version_num FROM alembic_version")).all() == [revision]
        with pytest.raises(Exception, match="expansions"):
            session.execute(text("SELECT * FROM expansions"))
