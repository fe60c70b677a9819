"""Tests for releases: one alias moved by compare-and-set, promotion once only, restoring."""

from collections.abc import Callable
from functools import partial

import pytest

from store.errors import AliasMoved, ExpansionCancelled, LeaseLost, VersionNotFound
from store.registry import Registry
from store.releases import Release
from tests.registries import publish_release
from tests.store.steps import begin, promote, race, teach, write


def test_a_published_release_serves_and_always_has_the_built_in_language(registry: Registry) -> None:
    first = registry.releases.get_serving()
    assert (first.number, first.shared, first.languages) == (1, 0, {"en": 0})
    teach(registry, "cy")
    made = publish_release(registry, expected=2, shared=1, languages={"cy": 1, "en": 1}, actor="ann", reason="why")
    assert registry.releases.get_serving() == registry.releases.get(3) == made
    assert (made.languages, made.actor, made.reason) == ({"cy": 1, "en": 0}, "ann", "why")


def test_promotion_routes_the_language_and_moves_shared_unless_told_not_to(registry: Registry) -> None:
    lease = begin(registry, "cy")
    release = promote(registry, lease, write(registry, lease, "cy", 0), shared=False)
    assert (release.shared, release.languages) == (0, {"en": 0, "cy": 1})
    assert registry.expansions.get(lease.expansion).release == release.number
    lease = begin(registry, "de")
    version = write(registry, lease, "de", 0)
    release = promote(registry, lease, version)
    assert (release.shared, release.languages) == (2, {"en": 0, "cy": 1, "de": 2})
    teach(registry, "fr")
    assert promote(registry, lease, version) == release, "a repeated call"
    assert registry.releases.get_serving().number == 4


def test_shared_moves_along_one_chain_only(registry: Registry) -> None:
    slow, quick = begin(registry, "a"), begin(registry, "b")
    for lease, tag in ((quick, "b"), (slow, "a")):
        version = write(registry, lease, tag, 0)  # both on top of version 0
        release = promote(registry, lease, version)
    assert (release.shared, release.languages) == (1, {"en": 0, "b": 1, "a": 2})


def test_shared_does_not_come_back_to_what_was_withdrawn_during_the_training(registry: Registry) -> None:
    teach(registry, "a")
    lease = begin(registry, "b")  # starts from version 1
    registry.releases.roll_back("a", actor="t", reason="")
    release = promote(registry, lease, write(registry, lease, "b", 1))
    assert (release.shared, release.languages) == (0, {"en": 0, "b": 2})


def test_a_rebuild_moves_shared_over_all_its_versions_and_routes_nothing(registry: Registry) -> None:
    for tag in "abc":
        teach(registry, tag)
    registry.releases.roll_back("a", actor="t", reason="")
    lease = begin(registry, "a", kind="rebuild")
    last = write(registry, lease, "c", write(registry, lease, "b", 0).number)
    release = promote(registry, lease, last)
    assert (release.shared, release.languages) == (5, {"en": 0, "b": 2, "c": 3})


MEANWHILE: dict[str, tuple[Callable[[Registry], object], int, dict[str, int]]] = {
    "it is not served any more": (
        lambda registry: registry.releases.restore(1, expected=5, actor="t", reason=""),
        0,
        {"en": 0},
    ),  # shared is 0 there as well
    "an older version serves": (
        lambda registry: publish_release(registry, expected=5, shared=0, languages={"b": 2}),
        *(0, {"en": 0, "b": 2}),
    ),
    "it is taught further": (lambda registry: teach(registry, "b", shared=False), 4, {"en": 0, "b": 5}),
}


@pytest.mark.parametrize(("act", "shared", "languages"), MEANWHILE.values(), ids=MEANWHILE)
def test_a_rebuild_moves_shared_unless_what_it_replayed_was_withdrawn_meanwhile(
    registry: Registry, act: Callable[[Registry], object], shared: int, languages: dict[str, int]
) -> None:
    for tag, moves in (("a", True), ("b", False), ("b", True)):
        teach(registry, tag, shared=moves)  # b: versions 2 and 3
    plan = registry.releases.roll_back("a", actor="t", reason="")  # release 5
    assert (plan.shared_version, plan.replay) == (0, ["b"])
    lease = begin(registry, "a", kind="rebuild", replay=plan.replay)
    rebuilt = write(registry, lease, "b", 0)
    act(registry)
    release = promote(registry, lease, rebuilt)
    assert (rebuilt.number, release.shared, release.languages) == (4, shared, languages)


def test_a_cancelled_expansion_is_not_promoted(registry: Registry) -> None:
    lease = begin(registry, "cy")
    version = write(registry, lease, "cy", 0)
    registry.expansions.cancel(lease.expansion)
    with pytest.raises(ExpansionCancelled):
        promote(registry, lease, version)
    assert registry.releases.get_serving().number == 1


def test_racing_promotions_of_two_languages_both_serve(registry: Registry) -> None:
    leases = {tag: begin(registry, tag) for tag in "abcdefgh"}
    versions = {tag: write(registry, lease, tag, 0) for tag, lease in leases.items()}
    race(*[partial(promote, registry, leases[tag], versions[tag]) for tag in leases])
    assert registry.releases.get_serving().languages == {"en": 0, **{tag: v.number for tag, v in versions.items()}}


@pytest.mark.row("R1")
def test_a_promotion_and_a_rollback_that_race_both_hold_or_the_rollback_is_refused(registry: Registry) -> None:
    teach(registry, "a")
    for number in range(8):
        lease = begin(registry, f"x-{number}")
        version = write(registry, lease, f"x-{number}", 0)
        seen = registry.releases.get_serving().number
        roll_back = partial(registry.releases.roll_back, "a", actor="t", reason="", expected=seen)
        both = partial(promote, registry, lease, version), roll_back
        promoted, rolled = race(*both) if number % 2 else reversed(race(*reversed(both)))
        assert isinstance(promoted, Release)
        serving = registry.releases.get_serving()
        assert serving.languages[f"x-{number}"] == version.number
        assert ("a" in serving.languages) == isinstance(rolled, AliasMoved)
        if "a" not in serving.languages:
            teach(registry, "a")


def test_what_was_withdrawn_is_what_an_earlier_release_served_without_pruned_versions(registry: Registry) -> None:
    first, second = teach(registry, "a"), teach(registry, "a")
    registry.releases.roll_back("a", actor="t", reason="")
    assert registry.releases.find_no_longer_served(registry.releases.get_serving()) == {}, "the first one serves"
    registry.releases.roll_back("a", actor="t", reason="")
    assert registry.releases.find_no_longer_served(registry.releases.get_serving()) == {"a": first} != {"a": second}
    assert registry.releases.find_no_longer_served(registry.releases.get(3)) == {}
    for tag in "bc":
        teach(registry, tag)
    registry.retention.prune(2)
    assert registry.releases.find_no_longer_served(registry.releases.get_serving()) == {}


# --- Tests for versions: numbers, immutability, lineage ---


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
