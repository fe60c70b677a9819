"""The service and the worker on an engine: what they refuse at the start, and what two services on one engine show."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from milvus_lite.server_manager import server_manager_instance
from sqlalchemy import create_engine, make_url, text

from service.commands.doctor import Checkup
from service.settings import Settings
from tests.index.world import World, put
from tests.patience import PATIENCE
from tests.service.processes import clean_environment, run_module, weightless

REINDEX = ("-c", "from client.main import main; main()", "reindex")


@pytest.fixture
def without_pgvector(shared_postgresql: str) -> Iterator[str]:
    """The URL of a database without the extension, for a user who may not make it."""
    server, name = make_url(shared_postgresql).set(drivername="postgresql+psycopg"), f"plain_{uuid4().hex[:12]}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN"))
        connection.execute(text(f"CREATE DATABASE {name} OWNER {name}"))
        yield server.set(database=name, username=name).render_as_string(hide_password=False)
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        connection.execute(text(f"DROP ROLE {name}"))
    admin.dispose()


def test_a_postgresql_without_pgvector_ends_the_start_with_one_sentence(tmp_path: Path, without_pgvector: str) -> None:
    with weightless(tmp_path, INDEX="pgvector", DATABASE_URL=without_pgvector) as service:
        _, said = service.communicate(timeout=PATIENCE)
    assert (service.returncode, len(said.splitlines())) == (78, 1), said
    assert said.startswith("PICTOGLOT_INDEX: pgvector is not installed in this PostgreSQL")
    assert run_module("worker", tmp_path, INDEX="pgvector", DATABASE_URL=without_pgvector) == (78, "", said)


def test_vectors_elsewhere_than_the_setting_says_end_the_start_until_they_are_moved(
    tmp_path: Path, postgresql_url: str
) -> None:
    world = World(tmp_path, postgresql_url)
    put(world.started(), 1, 2)
    world.seal()
    world.close()
    settings = {"HOME": str(tmp_path), "INDEX": "pgvector", "DATABASE_URL": postgresql_url}
    names = {f"PICTOGLOT_{name}": value for name, value in settings.items()}
    status, _, refusal = run_module("worker", tmp_path, INDEX="pgvector", DATABASE_URL=postgresql_url)
    assert (status, len(refusal.splitlines())) == (78, 1), refusal
    assert "the vectors are in faiss, not in pgvector" in refusal and "`pictoglot reindex`" in refusal
    with weightless(tmp_path, INDEX="pgvector", DATABASE_URL=postgresql_url) as service:
        _, said = service.communicate(timeout=PATIENCE)
    assert (service.returncode, said) == (78, refusal)
    there = Settings(home=tmp_path, index="pgvector", database_url=postgresql_url)
    assert check_index(there) == ("bad", said.strip())
    command, environment = [sys.executable, *REINDEX], clean_environment() | names
    moved = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert (moved.returncode, moved.stdout) == (
        0, "2 vector sets are made anew in pgvector when a service or worker starts.\n",
    )  # fmt: skip
    assert check_index(there)[0] == "ok"


def check_index(settings: Settings) -> tuple[str, str]:
    finding = Checkup(settings).check("index")
    assert finding is not None
    return finding.outcome, finding.detail


def test_the_doctor_has_a_line_about_the_engine(tmp_path: Path, postgresql_url: str, without_pgvector: str) -> None:
    assert check_index(Settings(home=tmp_path)) == ("ok", "faiss: files under the data root")
    outcome, detail = check_index(Settings(home=tmp_path, index="pgvector", database_url=without_pgvector))
    assert outcome == "note" and "CREATE EXTENSION" in detail
    file = str(tmp_path / "milvus.db")
    there = Settings(home=tmp_path, index=f"milvus+{server_manager_instance.start_and_get_uri(file)}")
    assert check_index(there)[0] == "ok"
    server_manager_instance.release_server(file)
    assert check_index(there)[0] == "bad"
