"""One service for a whole module: most tests change nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.harness import Service, running


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The event loop of tests that are coroutines."""
    return "asyncio"


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
