"""Tests for rolling a language back: its new version, the shared version, what a rebuild would replay."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from store.errors import AliasMoved, ExpansionInProgress, LanguageNotFound
from store.registry import Registry
from tests.store.steps import begin, promote, race, teach, write


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


def test_a_rebuilt_language_leaves_shared_too_when_it_is_rolled_back(registry: Registry) -> None:
    for tag in "abc":
        teach(registry, tag)
    roll_back(registry, "a")
    lease = begin(registry, "a", kind="rebuild")
    rebuilt = write(registry, lease, "c", write(registry, lease, "b", 0).number)
    release = promote(registry, lease, rebuilt)
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
