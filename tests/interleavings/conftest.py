"""Stages, and what was explored at the end of the output."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import own_schema
from tests.interleavings.explorer import Explored
from tests.interleavings.schedule import watch
from tests.interleavings.stage import PostgreSQLStage, Stage

EXPLORED = pytest.StashKey[dict[str, Explored]]()
_MEMORY = "/dev/shm"  # where the disk is waited for, an hour becomes a day


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(dir=_MEMORY if Path(_MEMORY).is_dir() else None) as folder:
        if request.param == "sqlite":
            with Stage(Path(folder)).open() as stage, watch():
                yield stage
        else:
            server = request.getfixturevalue("shared_postgresql")
            with own_schema(server) as url, PostgreSQLStage(Path(folder), url).open() as stage, watch():
                yield stage


@pytest.fixture(scope="session")
def explored(request: pytest.FixtureRequest) -> dict[str, Explored]:
    """Where a test writes what it explored."""
    return request.config.stash.setdefault(EXPLORED, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name, counts in config.stash.get(EXPLORED, {}).items():
        terminalreporter.write_line(f"{name:40}{counts}")
