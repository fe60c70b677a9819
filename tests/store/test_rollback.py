"""Tests for rolling a language back: its new version, the shared version, what a rebuild would replay."""

from dataclasses import replace
from functools import partial

import pytest

from store.errors import AliasMoved, ExpansionInProgress, LanguageNotFound, RollbackNotPossible
from store.registry import Registry
from store.rollback import RollbackPlan
from tests.store.steps import begin, promote, race, teach, write


def back(registry: Registry, tag: str) -> RollbackPlan:
    """Roll back, and check that the plan made before is what is served after."""
    planned = registry.releases.plan_rollback(tag)
    before = registry.releases.serving()
    done = registry.releases.roll_back(tag, actor="t", reason="worse")
    release = registry.releases.serving()
    assert done == replace(planned, release=release.number)
    assert release.shared == planned.shared_version
    assert release.languages.get(tag) == planned.to_version
    for other in planned.unchanged:
        assert release.languages[other] == before.languages[other]
    return planned


def test_the_newest_language_goes_and_shared_goes_to_its_parent(registry: Registry) -> None:
    for tag in "abc":
        teach(registry, tag)
    plan = back(registry, "c")
    assert plan == RollbackPlan("c", 3, None, ["a", "b", "en"], shared_version=2, replay=[], release=4)


@pytest.mark.row("R2")
def test_a_middle_language_goes_and_the_later_ones_would_be_replayed(registry: Registry) -> None:
    for tag in "abcd":
        teach(registry, tag)
    plan = back(registry, "b")
    assert (plan.from_version, plan.to_version, plan.shared_version, plan.replay) == (2, None, 1, ["c", "d"])


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


@pytest.mark.row("R2")
def test_a_language_taught_twice_goes_back_to_its_first_version(registry: Registry) -> None:
    for tag in "aba":
        teach(registry, tag)
    plan = back(registry, "a")
    assert (plan.from_version, plan.to_version, plan.shared_version, plan.replay) == (3, 1, 2, [])


def test_rolling_back_twice_goes_further_back(registry: Registry) -> None:
    for tag in "abab":
        teach(registry, tag)  # a: 1, 3; b: 2, 4
    first, second = back(registry, "a"), back(registry, "a")
    assert (first.to_version, first.shared_version, first.replay) == (1, 2, ["b"])
    assert (second.to_version, second.shared_version, second.replay) == (None, 0, ["b"])
    with pytest.raises(LanguageNotFound):
        registry.releases.plan_rollback("a")


def test_a_version_that_was_rolled_back_is_not_gone_back_to(registry: Registry) -> None:
    teach(registry, "a")
    back(registry, "a")
    teach(registry, "a")
    assert back(registry, "a").to_version is None


def test_going_back_to_an_older_version_leaves_out_the_ones_taken_back_between(registry: Registry) -> None:
    teach(registry, "a")  # 1
    teach(registry, "a")  # 2
    back(registry, "a")
    teach(registry, "a")  # 3
    assert back(registry, "a").to_version == 1


def test_shared_stays_when_the_language_is_not_in_its_lineage(registry: Registry) -> None:
    teach(registry, "a")
    teach(registry, "b", shared=False)
    teach(registry, "c")
    plan = back(registry, "b")
    assert (plan.shared_version, plan.replay) == (3, [])


def test_languages_that_are_no_longer_served_are_not_replayed(registry: Registry) -> None:
    for tag in "abc":
        teach(registry, tag)
    back(registry, "c")
    assert back(registry, "a").replay == ["b"]


def test_a_rebuilt_language_leaves_shared_too_when_it_is_rolled_back(registry: Registry) -> None:
    for tag in "abc":
        teach(registry, tag)
    back(registry, "a")
    lease = begin(registry, "a", kind="rebuild")
    rebuilt = write(registry, lease, "c", write(registry, lease, "b", 0).number)
    release = promote(registry, lease, rebuilt)
    registry.expansions.succeed(lease, rebuilt.number, release.number, {})
    plan = back(registry, "b")
    assert (plan.from_version, plan.shared_version, plan.replay) == (2, 0, ["c"])


def test_restoring_brings_the_history_back_with_the_release(registry: Registry) -> None:
    teach(registry, "a")  # release 2
    teach(registry, "a")  # release 3
    back(registry, "a")
    back(registry, "a")
    registry.releases.restore(3, expected=5, actor="t", reason="")
    assert back(registry, "a").to_version == 1


def test_restoring_an_older_release_takes_back_what_came_later(registry: Registry) -> None:
    teach(registry, "a")
    teach(registry, "a")
    registry.releases.restore(2, expected=3, actor="t", reason="")
    assert (back(registry, "a").from_version) == 1


def test_the_built_in_language_cannot_be_rolled_back(registry: Registry) -> None:
    for call in (registry.releases.plan_rollback, partial(registry.releases.roll_back, actor="t", reason="")):
        with pytest.raises(RollbackNotPossible):
            call("en")


def test_a_language_that_is_not_served_is_not_found_and_the_available_ones_are_listed(registry: Registry) -> None:
    teach(registry, "cy")
    with pytest.raises(LanguageNotFound) as refusal:
        registry.releases.roll_back("de", actor="t", reason="")
    assert "cy, en" in refusal.value.detail and "de" not in refusal.value.detail
    assert registry.releases.serving().number == 2


@pytest.mark.row("R4")
def test_a_language_in_its_own_expansion_is_not_rolled_back_but_others_are(registry: Registry) -> None:
    teach(registry, "a")
    teach(registry, "b")
    lease = begin(registry, "a")
    for call in (registry.releases.plan_rollback, partial(registry.releases.roll_back, actor="t", reason="")):
        with pytest.raises(ExpansionInProgress) as refusal:
            call("a")
        assert refusal.value.extra == {"expansion": lease.expansion}
    assert back(registry, "b").from_version == 2


def test_a_language_that_a_rebuild_replays_is_not_rolled_back_until_that_ends(registry: Registry) -> None:
    for tag in "abc":
        teach(registry, tag)
    replay = back(registry, "a").replay
    lease = begin(registry, "a", kind="rebuild", replay=replay)
    for call in (registry.releases.plan_rollback, partial(registry.releases.roll_back, actor="t", reason="")):
        with pytest.raises(ExpansionInProgress) as refusal:
            call("b")
        assert refusal.value.extra == {"expansion": lease.expansion}
    registry.expansions.cancelled(lease)
    assert back(registry, "b").to_version is None


@pytest.mark.row("R1")
def test_of_racing_rollbacks_of_one_language_one_wins_and_it_goes_back_once(registry: Registry) -> None:
    for _ in range(4):
        teach(registry, "a")
    for expected_version in (3, 2, 1):
        seen = registry.releases.serving().number
        roll_back = partial(registry.releases.roll_back, "a", actor="t", reason="", expected=seen)
        answers = race(roll_back, roll_back)
        assert sum(isinstance(answer, AliasMoved) for answer in answers) == 1
        assert registry.releases.serving().languages["a"] == expected_version
