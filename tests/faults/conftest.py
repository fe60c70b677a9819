"""The same sites as in the worker's tests, a Redis, and the weights of an expansion without faults."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import PATIENCE
from tests.redis_server import RedisServer
from tests.worker.conftest import new_site, registry, site
from tests.worker.harness import Site, pairs

__all__ = ["new_site", "registry", "site"]


@pytest.fixture(scope="session")
def undisturbed(tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hashes of the weights that `pairs("cy", picture=True)` gives when nothing fails."""
    site = Site(tmp_path_factory.mktemp("undisturbed") / "home", tiny_base)
    try:
        expansion = site.submit(pairs("cy", picture=True))
        assert site.attempt(expansion).wait(PATIENCE) == 0, site.log()
        return site.weights(expansion)
    finally:
        site.close()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    yield server
    server.kill()
