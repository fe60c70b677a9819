"""Tables of this release are migrated by a later one; those of an earlier release are refused, and stay as they are."""

import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from store.errors import RegistryOutdated, RegistryUnavailable
from store.migrations import NEWEST
from store.registry import Registry, open_registry
from tests.house.source import ROOT
from tests.patience import PATIENCE
from tests.store.steps import submit

LATER = f"r{int(NEWEST) + 1:04}"
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
from store.registry import open_registry
logging.basicConfig(stream=sys.stdout, format="%(message)s")
for migrate in (False, True, True):
    registry = open_registry(sys.argv[1], migrate=migrate)
    sys.stdout.write(f"{registry.outdated or 'nothing to do'}\\n")
    registry.close()
"""


def test_a_later_release_migrates_once_and_keeps_what_is_there(
    database_url: str, registry: Registry, tmp_path: Path
) -> None:
    made = submit(registry, "cy")
    shutil.copytree(ROOT / "store", tmp_path / "store")
    (tmp_path / f"store/migrations/versions/{LATER}_mood.py").write_text(STEP, encoding="utf-8")
    later = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", OPENS, database_url]
    done = subprocess.run(command, env=later, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stdout.splitlines() == [
        f"the next start migrates its tables from r{NEWEST} to {LATER}",
        f"the registry's tables were migrated from r{NEWEST} to {LATER}",
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
