"""One service for a whole module: most tests change nothing."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from index.copier import make_database
from tests.postgresql_server import find_programs
from tests.service.harness import Service, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """With three pictures that have captions in English and in German, a learned language."""
    with running(tmp_path_factory.mktemp("home")) as service:
        service.learn("de")
        for number, (english, german) in enumerate([("a red apple", "ein roter Apfel"), ("a dog", "ein Hund")]):
            assert service.put(f"p{number}", en=[english], de=[german]).status_code == 201
        assert service.put("p9", en=["a blue car on the road"]).status_code == 201
        service.context.live.refresh()
        yield service


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Service]:
    """An empty one for a single test."""
    with running(tmp_path) as service:
        yield service


@pytest.fixture
def new_postgresql(shared_postgresql: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Makes databases of its own; the programs of its release are on PATH."""
    monkeypatch.setenv("PATH", f"{find_programs()}:{os.environ['PATH']}")
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(make_database(shared_postgresql))


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Makes the URL of an empty database, or none, which is a file in the data root."""
    return (lambda: "") if request.param == "sqlite" else request.getfixturevalue("new_postgresql")
