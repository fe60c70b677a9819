"""Tests for releases: one alias moved by compare-and-set, promotion once only, rolling back, restoring."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from store.errors import (
    AliasMoved,
    ExpansionCancelled,
    ExpansionInProgress,
    LanguageNotFound,
    VersionNotFound,
)
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


def test_a_version_needs_a_parent(registry: Registry) -> None:
    with pytest.raises(VersionNotFound):
        write(registry, begin(registry, "cy"), "cy", 9)


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
        registry.versions.set_calibration(0, {"pictures": pictures, "change": change, "curves": None})
        assert registry.versions.read_calibrations([0])[0]["pictures"] == kept
    with pytest.raises(VersionNotFound):
        registry.versions.set_calibration(7, {"pictures": 1, "change": 1, "curves": None})


def roll_back(registry: Registry, tag: str) -> Any:
    """Roll back, and check that the plan made before is what is served after."""
    planned = registry.releases.plan_rollback(tag)
    before = registry.releases.get_serving()
    done = registry.releases.roll_back(tag, actor="t", reason="worse")
    release = registry.releases.get_serving()
    assert done == replace(planned, release=release.number)
    assert release.shared == planned.shared_version
    assert release.languages.get(tag) == planned.to_version
    for other in planned.unchanged:
        assert release.languages[other] == before.languages[other]
    return planned


HISTORIES = [  # "a" is taught, "b." beside the shared chain, "a-" rolled back; versions have the numbers 1, 2, ...
    ("a b c", "c", (3, None, 2, [])),
    pytest.param("a b c d", "b", (2, None, 1, ["c", "d"]), marks=pytest.mark.row("R2")),
    pytest.param("a b a", "a", (3, 1, 2, []), marks=pytest.mark.row("R2")),
    pytest.param("a a a", "a", (3, 2, 2, []), marks=pytest.mark.row("R2")),
    ("a b a b", "a", (3, 1, 2, ["b"])),
    ("a b a b a-", "a", (1, None, 0, ["b"])),
    ("a a- a", "a", (2, None, 0, [])),  # not to what was rolled back
    ("a a a- a", "a", (3, 1, 1, [])),
    ("a b. c", "b", (2, None, 3, [])),  # shared stays: the language is not in its lineage
    ("a b c c-", "a", (1, None, 0, ["b"])),  # what is no longer served is not replayed
]


@pytest.mark.parametrize(("history", "tag", "expected"), HISTORIES)
def test_a_rollback_goes_to_the_version_before_and_shared_to_where_the_language_was_not_yet(
    registry: Registry, history: str, tag: str, expected: tuple[int, int | None, int, list[str]]
) -> None:
    for step in history.split():
        if step.endswith("-"):
            roll_back(registry, step[0])
        else:
            teach(registry, step[0], shared=not step.endswith("."))
    plan = roll_back(registry, tag)
    assert (plan.from_version, plan.to_version, plan.shared_version, plan.replay) == expected
    if plan.to_version is None:
        with pytest.raises(LanguageNotFound):
            registry.releases.plan_rollback(tag)


def test_a_rebuild_is_queued_with_the_rollback_or_not_at_all(registry: Registry) -> None:
    for tag in "abc":
        teach(registry, tag)
    plan = registry.releases.roll_back("a", actor="t", reason="", rebuild=True)
    assert plan.rebuild is not None
    queued = registry.expansions.get(plan.rebuild)
    assert (queued.kind, queued.state, queued.settings) == ("rebuild", "queued", {"replay": ["b", "c"]})
    with pytest.raises(AliasMoved):
        registry.releases.roll_back("b", actor="t", reason="", rebuild=True, expected=1)
    assert len(registry.expansions.list()) == 4
    registry.expansions.cancel(plan.rebuild)
    plan = registry.releases.roll_back("c", actor="t", reason="", rebuild=True)
    assert plan.rebuild is None  # no other language is lost


def test_a_rebuild_moves_shared_over_all_its_versions_and_they_leave_it_when_rolled_back(registry: Registry) -> None:
    for tag in "abc":
        teach(registry, tag)
    roll_back(registry, "a")
    lease = begin(registry, "a", kind="rebuild")
    rebuilt = write(registry, lease, "c", write(registry, lease, "b", 0).number)
    release = promote(registry, lease, rebuilt)
    assert (release.shared, release.languages) == (5, {"en": 0, "b": 2, "c": 3}), "nothing is routed"
    registry.expansions.succeed(lease, rebuilt.number, release.number, {})
    plan = roll_back(registry, "b")
    assert (plan.from_version, plan.shared_version, plan.replay) == (2, 0, ["c"])


def test_restoring_brings_the_history_back_with_the_release(registry: Registry) -> None:
    for _ in range(2):
        teach(registry, "a")  # releases 2 and 3
    for _ in range(2):
        roll_back(registry, "a")
    registry.releases.restore(3, expected=5, actor="t", reason="")
    assert roll_back(registry, "a").to_version == 1
    registry.releases.restore(2, expected=7, actor="t", reason="")
    assert roll_back(registry, "a").from_version == 1, "what came later was taken back"


@pytest.mark.row("R4")
@pytest.mark.parametrize("kind", ["learn", "rebuild"])
def test_a_language_that_an_expansion_teaches_or_replays_is_not_rolled_back_but_others_are(
    registry: Registry, kind: str
) -> None:
    for tag in "abc":
        teach(registry, tag)
    replay = roll_back(registry, "a").replay if kind == "rebuild" else ()
    lease = begin(registry, "a" if replay else "b", kind=kind, replay=replay)
    for call in (registry.releases.plan_rollback, partial(registry.releases.roll_back, actor="t", reason="")):
        with pytest.raises(ExpansionInProgress) as refusal:
            call("b")
        assert refusal.value.extra == {"expansion": lease.expansion}
    if not replay:
        assert roll_back(registry, "c").from_version == 3
    registry.expansions.end_as_cancelled(lease)
    assert roll_back(registry, "b").to_version is None


@pytest.mark.row("R1")
def test_of_racing_rollbacks_of_one_language_one_wins_and_it_goes_back_once(registry: Registry) -> None:
    for _ in range(4):
        teach(registry, "a")
    for expected_version in (3, 2, 1):
        seen = registry.releases.get_serving().number
        roll_back = partial(registry.releases.roll_back, "a", actor="t", reason="", expected=seen)
        answers = race(roll_back, roll_back)
        assert sum(isinstance(answer, AliasMoved) for answer in answers) == 1
        assert registry.releases.get_serving().languages["a"] == expected_version
