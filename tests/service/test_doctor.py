"""What `doctor` finds in a registry: a worker that is missing, tables of an earlier release."""

import re
from contextlib import closing
from pathlib import Path

from sqlalchemy import text

from service.commands.doctor import Checkup, Finding
from service.settings import Settings
from store.registry import Registry, open_registry
from tests.registries import make_registry


def submit(registry: Registry, language: str) -> str:
    return registry.expansions.submit(kind="learn", language=language, settings={}, actor="admin")[0].id


def pass_by(registry: Registry, seconds: int) -> None:
    """Let everything have been so many seconds ago."""
    with registry.begin() as session:
        earlier = "UPDATE expansions SET created_at = created_at - :s, lease_expires = lease_expires - :s"
        session.execute(text(earlier), {"s": seconds})


def test_a_worker_that_is_needed_and_missing_is_told(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database_url=make_registry(tmp_path / "registry.db"))

    def check_worker() -> Finding | None:
        return Checkup(settings).check("worker")

    with closing(open_registry(settings.database)) as registry:
        registry.initialise("base")
        assert check_worker() is None
        submit(registry, "cy")
        assert check_worker() == Finding("worker", "ok", "0 expansions in work, 1 waiting for a worker")
        assert registry.expansions.take_lease(registry.expansions.list_runnable()[0], "w") is not None
        submit(registry, "qu")
        assert check_worker() == Finding("worker", "ok", "1 expansion in work, 1 waiting for a worker")
        pass_by(registry, 31)  # the worker was killed, and its lease has just run out
        silent = check_worker()
        assert silent is not None and silent.outcome == "note"
        assert "2 waiting for a worker, of which 1 had one that is silent" in silent.detail
        pass_by(registry, 90)
        dead = check_worker()
        assert dead is not None and dead.outcome == "bad"
        assert re.search(r", for 12\d s: is `pictoglot worker` running\?$", dead.detail)


def check_database(settings: Settings) -> tuple[str, str]:
    finding = Checkup(settings).check("database")
    assert finding is not None
    return finding.outcome, finding.detail


def test_why_a_database_cannot_be_read_or_is_refused_is_told(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database_url=make_registry(tmp_path / "registry.db"))
    assert check_database(settings) == ("ok", "sqlite answers")
    folder = Settings(home=tmp_path, database_url=f"sqlite:///{tmp_path}")
    assert "does not answer: unable to open database file" in check_database(folder)[1]
    with closing(open_registry(settings.database)) as registry, registry.begin() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0007'"))
    outcome, detail = check_database(settings)
    assert outcome == "bad" and "(r0007)" in detail and "`pictoglot export`" in detail
