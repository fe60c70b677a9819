"""Tests for versions: numbers, immutability, lineage."""

import pytest

from store.errors import LeaseLost, VersionNotFound
from store.registry import Registry
from tests.store.steps import begin, race, teach, write


def test_a_version_is_read_as_it_was_added_once_and_version_0_is_the_base(registry: Registry) -> None:
    base = registry.versions.get(0)
    assert (base.language, base.parent, base.folder, base.manifest_sha256) == ("en", None, None, "base-fingerprint")
    lease = begin(registry, "cy")
    added = write(registry, lease, "cy", 0)
    assert (added.number, added.parent, added.language, added.rows, added.bytes) == (1, 0, "cy", 3, 4096)
    assert write(registry, lease, "cy", 0) == registry.versions.get(1) == added
    assert registry.expansions.get(lease.expansion).version == 1
    assert [version.number for version in registry.versions.list()] == [1, 0]


def test_racing_writers_get_numbers_without_a_gap(registry: Registry) -> None:
    leases = [begin(registry, f"x-{n}") for n in range(12)]
    race(*[lambda lease=lease: write(registry, lease, "x", 0) for lease in leases])
    assert sorted(version.number for version in registry.versions.list()) == list(range(13))


def test_a_version_needs_a_lease_and_a_parent(registry: Registry) -> None:
    lease = begin(registry, "cy")
    with pytest.raises(VersionNotFound):
        write(registry, lease, "cy", 9)
    registry.expansions.give_back_lease(lease)
    with pytest.raises(LeaseLost):
        write(registry, lease, "cy", 0)


def test_the_lineage_goes_down_to_version_0_and_pages_are_newest_first(registry: Registry) -> None:
    for tag in "abc":
        teach(registry, tag, shared=tag != "b")  # beside the shared chain
    assert [version.number for version in registry.versions.trace_lineage(3)] == [3, 1, 0]
    assert [version.number for version in registry.versions.trace_lineage(0)] == [0]
    assert [version.number for version in registry.versions.list(limit=2, before=3)] == [2, 1]
    for call in (registry.versions.get, registry.versions.trace_lineage):
        with pytest.raises(VersionNotFound):
            call(7)


def test_what_was_fitted_earlier_comes_not_in_place_of_what_is_newer(registry: Registry) -> None:
    # a fitter may have slept for longer than its duty lasts
    for pictures, change, kept in ((1, 9, 1), (2, 8, 1), (3, 9, 3), (4, 10, 4)):
        registry.versions.set_match(0, {"pictures": pictures, "change": change, "curves": None})
        assert registry.versions.read_matches([0])[0]["pictures"] == kept
    with pytest.raises(VersionNotFound):
        registry.versions.set_match(7, {"pictures": 1, "change": 1, "curves": None})
