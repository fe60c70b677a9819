"""Tables of this release are migrated by a later one; those of an earlier release are refused, and stay as they are."""

import hashlib
import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import UniqueConstraint, text

from store.errors import RegistryOutdated, RegistryUnavailable
from store.migrations import NEWEST
from store.registry import Registry, open_registry
from store.tables import RegistryRow
from tests.house.source import ROOT
from tests.patience import PATIENCE
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


@pytest.mark.parametrize("migrate", [True, False])
def test_tables_of_an_earlier_release_are_refused_and_stay(database_url: str, migrate: bool) -> None:
    with closing(Registry(database_url)) as before, before.begin() as session:
        session.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        session.execute(text("INSERT INTO alembic_version VALUES ('0001')"))
    with pytest.raises(RegistryOutdated, match=r"\(r0001\).*`pictoglot export` of the release that wrote it"):
        open_registry(database_url, migrate=migrate)
    with closing(Registry(database_url)) as after, after.read() as session:
        assert session.scalars(text("SELECT version_num FROM alembic_version")).all() == ["0001"]
        with pytest.raises(Exception, match="expansions"):
            session.execute(text("SELECT * FROM expansions"))
