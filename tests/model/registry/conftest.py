"""A fresh registry per test: in SQLite, and in PostgreSQL too when PICTOGLOT_TEST_DATABASE_URL names a server."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, make_url, text

from model.registry import Registry, open_registry

_SERVER = os.environ.get("PICTOGLOT_TEST_DATABASE_URL")
DATABASES = ["sqlite", *(["postgresql"] if _SERVER else [])]


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL for a registry of this test's own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'registry.db'}"
        return
    assert _SERVER is not None
    server = make_url(_SERVER).set(drivername="postgresql+psycopg")
    schema = f"test_{uuid4().hex}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
        own = server.update_query_dict({"options": f"-csearch_path={schema}"})
        yield own.render_as_string(hide_password=False)
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    admin.dispose()


@pytest.fixture
def empty(url: str) -> Iterator[Registry]:
    """A registry with empty tables."""
    registry = open_registry(url)
    yield registry
    registry.close()


@pytest.fixture
def registry(empty: Registry) -> Registry:
    """A registry that was initialised: version 0, release 1."""
    empty.initialise("base-fingerprint", {"t2i": {"R@1": 0.9}})
    return empty
