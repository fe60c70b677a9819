"""Tests for versions: numbers, immutability, lineage."""

import pytest

from store.errors import LeaseLost, VersionNotFound
from store.registry import Registry
from tests.store.steps import begin, race, teach, write


def test_version_0_is_the_base(registry: Registry) -> None:
    first = registry.versions.get(0)
    assert (first.language, first.parent, first.folder, first.manifest_sha256) == ("en", None, None, "base-fingerprint")
    assert first.report == {}


def test_a_version_is_read_as_it_was_added(registry: Registry) -> None:
    added = write(registry, begin(registry, "cy"), "cy", 0)
    assert (added.number, added.parent, added.language, added.rows, added.bytes) == (1, 0, "cy", 3, 4096)
    assert registry.versions.get(1) == added
    assert registry.expansions.get(added.expansion or "").version == 1


def test_adding_again_gives_the_same_version(registry: Registry) -> None:
    lease = begin(registry, "cy")
    assert write(registry, lease, "cy", 0) == write(registry, lease, "cy", 0)
    assert len(registry.versions.list()) == 2


def test_a_rebuild_makes_a_version_for_each_language(registry: Registry) -> None:
    lease = begin(registry, "cy", kind="rebuild")
    first = write(registry, lease, "de", 0)
    second = write(registry, lease, "fr", first.number)
    assert (first.number, second.number) == (1, 2)


def test_racing_writers_get_numbers_without_a_gap(registry: Registry) -> None:
    leases = [begin(registry, f"x-{n}") for n in range(12)]
    race(*[lambda lease=lease: write(registry, lease, "x", 0) for lease in leases])
    assert sorted(version.number for version in registry.versions.list()) == list(range(13))


def test_a_version_needs_a_lease_and_a_parent(registry: Registry) -> None:
    lease = begin(registry, "cy")
    with pytest.raises(VersionNotFound):
        write(registry, lease, "cy", 9)
    registry.expansions.release_lease(lease)
    with pytest.raises(LeaseLost):
        write(registry, lease, "cy", 0)


def test_the_lineage_goes_down_to_version_0(registry: Registry) -> None:
    teach(registry, "a")
    teach(registry, "b", shared=False)  # beside the shared chain
    teach(registry, "c")
    assert [version.number for version in registry.versions.lineage(3)] == [3, 1, 0]
    assert [version.number for version in registry.versions.lineage(0)] == [0]


def test_pages_are_newest_first(registry: Registry) -> None:
    for tag in "abcd":
        teach(registry, tag)
    assert [version.number for version in registry.versions.list(limit=2)] == [4, 3]
    assert [version.number for version in registry.versions.list(limit=2, before=3)] == [2, 1]


def test_an_unknown_version_is_not_found(registry: Registry) -> None:
    for call in (registry.versions.get, registry.versions.lineage):
        with pytest.raises(VersionNotFound):
            call(7)
