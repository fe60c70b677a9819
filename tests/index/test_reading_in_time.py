"""What a filter may take: the database ends what takes too long, and is asked so that little does."""

from contextlib import closing
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from sqlalchemy import select, text

from index.filters import parsed
from index.selection import Selection, Wanted
from store import database
from store.errors import RegistryUnavailable
from store.registry import open_registry
from store.tables import PictureRow


def test_postgresql_does_not_go_through_all_values_for_each_picture(postgresql_url: str) -> None:
    """With as little memory as it has for a million values: a condition that need not hold, and one that must not."""
    conditions: list[dict[str, Any]] = [{"key": "rank", "range": {"gte": number}} for number in (10, 20)]
    with closing(open_registry(postgresql_url)) as registry:
        with registry.begin() as session:
            session.execute(text(_MANY_PICTURES))
            session.execute(text(_MANY_VALUES))
            session.execute(text("ANALYZE pictures, picture_values"))
        for asked, expected in (({"must_not": conditions}, 9), ({"should": conditions}, 29_991)):
            with registry.read() as session:
                session.execute(text("SET LOCAL work_mem = '64kB'; SET LOCAL statement_timeout = 3000"))
                left = session.scalars(select(PictureRow.key).where(*Wanted(parsed(asked)).conditions)).all()
                assert len(left) == expected


_MANY_PICTURES = """
    INSERT INTO pictures (id, content_sha256, width, height, created_at, change, key)
    SELECT n, n, 1, 1, 0, n, n FROM generate_series(1, 30000) AS n"""
_MANY_VALUES = """
    INSERT INTO picture_values (id, picture, key, kind, number)
    SELECT n, n, 'rank', 'number', n FROM generate_series(1, 30000) AS n"""


def test_a_filter_that_takes_postgresql_too_long_is_given_up(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_SECONDS", 0.2)
    wanted = Wanted(parsed({"must": [{"key": "tags", "match": {"value": "Chur"}}]}))
    with closing(open_registry(postgresql_url)) as registry, registry.begin() as session:
        session.execute(text("LOCK TABLE picture_values IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(RegistryUnavailable):
            Selection(registry).allowed(wanted)


def test_what_takes_a_database_too_long_ends_there(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {}) SELECT count(*) FROM c"
    with closing(open_registry(database_url)) as registry:
        registry.initialise("base")
        monkeypatch.setattr(database, "_SECONDS", 0.2)
        with pytest.raises(RegistryUnavailable), registry.read_in_time() as session:
            session.execute(text(count.format(5_000_000)))
        sleep(0.3)
        with registry.read() as session:  # with the same connection
            assert session.scalar(text(count.format(300_000))) == 300_000


def test_all_statements_of_a_reading_have_one_time(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL bounds each by itself; a search by words has up to 65."""
    monkeypatch.setattr(database, "_SECONDS", 0.5)
    with closing(open_registry(postgresql_url)) as registry:
        with registry.read_in_time() as session:
            assert session.scalar(text("SHOW statement_timeout")) != "0"
        for slow, most in ((0.1, 4), (0.4, 1)):  # between two, and in one that must not have the whole time again
            done = 0
            with pytest.raises(RegistryUnavailable), registry.read_in_time() as session:
                for _ in range(20):
                    session.execute(text(f"SELECT pg_sleep({slow})"))
                    done += 1
            assert done <= most
        with registry.read() as session:  # with the same connection
            assert session.scalar(text("SHOW statement_timeout")) == "0"


def test_what_sqlite_ends_while_rows_are_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """These come from the driver's own cursor, with its own errors."""
    with closing(open_registry(f"sqlite:///{tmp_path / 'registry.db'}")) as registry:
        with registry.begin() as session:
            session.execute(text(_MANY_PICTURES.replace(*_SERIES)))
            session.execute(text(_MANY_VALUES.replace(*_SERIES)))
        among, other = (Wanted(parsed({"must": [{"key": "rank", "range": {"gte": n}}]})) for n in (1, 2))
        selection = Selection(registry)
        assert len(selection.page(among, 2)) == 2
        monkeypatch.setattr(database, "_SECONDS", 0.0)
        monkeypatch.setattr(database, "_STEPS", 1_000)
        with pytest.raises(RegistryUnavailable):
            selection.allowed(other)
        with pytest.raises(RegistryUnavailable):
            selection.page(among, 2)


_SERIES = (
    "generate_series(1, 30000) AS n",
    "(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 30000) SELECT n FROM c)",
)
