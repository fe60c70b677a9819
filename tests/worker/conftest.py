"""Sites with real worker processes, gone at the end of each test, and a registry without any."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from store.registry import Registry, open_registry
from tests.registries import make_registry
from tests.tiny import write_tiny_base
from tests.worker.harness import PICTURES, Site
from tests.worker.moving import OTHER


@pytest.fixture(scope="session")
def other_base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A base of other weights and another dimension."""
    return write_tiny_base(tmp_path_factory.mktemp("other"), seed=7, name=OTHER, dimension=48)


@pytest.fixture
def new_site(tiny_base: str, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def make(pictures: int = PICTURES, **settings: str) -> Site:
        sites.append(Site(tmp_path / f"home{len(sites)}", tiny_base, settings=settings, pictures=pictures))
        return sites[-1]

    yield make
    for site in sites:
        site.close()


@pytest.fixture
def site(new_site: Callable[..., Site]) -> Site:
    return new_site()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = open_registry(make_registry(tmp_path / "registry.db"))
    yield registry
    registry.close()
