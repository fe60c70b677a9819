"""What is out of reach: never what a release in reach names, nor what a rollback from one or an expansion needs."""

import pkgutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

import pytest

from store.errors import VersionPruned
from store.reach import LEAST
from store.registry import Registry
from tests.patience import insist
from tests.registries import publish_release
from tests.store.steps import begin, learn, promote, teach, write


def prune(registry: Registry, keep: int = LEAST) -> list[int]:
    planned = registry.retention.plan(keep)
    done = registry.retention.prune(keep)
    assert planned.datasets == done.datasets and planned.needed == done.needed
    numbers = [version.number for version in done.versions]
    assert numbers == [version.number for version in planned.versions]
    assert set(numbers) <= registry.versions.find_pruned()
    return numbers


def roll_back(registry: Registry, tag: str) -> int | None:
    """Roll back; returns the version that serves then."""
    return registry.releases.roll_back(tag, actor="t", reason="").to_version


def test_what_no_release_in_reach_names_goes_and_history_stays(registry: Registry) -> None:
    for tag in "abc":
        teach(registry, tag)
    roll_back(registry, "c")
    assert prune(registry, keep=2) == [], "the release before names it"
    teach(registry, "d", shared=False)
    assert prune(registry, keep=3) == []
    assert prune(registry, keep=2) == [3]
    assert [version.number for version in registry.versions.list()] == [4, 3, 2, 1, 0]
    assert registry.versions.get(3).pruned_at is not None and registry.versions.get(2).pruned_at is None
    assert [release.number for release in registry.releases.list()] == [6, 5, 4, 3, 2, 1]
    assert prune(registry) == [3], "as long as its files are there"
    registry.retention.note_version_removed(3)
    assert prune(registry) == [] and registry.versions.get(3).folder is None


def test_each_rollback_from_a_release_in_reach_works_and_a_deeper_one_is_refused(registry: Registry) -> None:
    for _ in range(5):
        teach(registry, "a", shared=False)
    for tag in "bcd":
        teach(registry, tag)
    assert prune(registry) == [1, 2, 3]
    with pytest.raises(VersionPruned):
        registry.releases.restore(4, expected=9, actor="t", reason="")
    assert roll_back(registry, "a") == 4
    for call in (registry.releases.plan_rollback, partial(registry.releases.roll_back, actor="t", reason="")):
        with pytest.raises(VersionPruned):
            call("a")
    assert registry.releases.get_serving().languages["a"] == 4
    assert roll_back(registry, "d") is None and roll_back(registry, "b") is None


def serve(registry: Registry, shared: int, times: int = LEAST) -> None:
    """Publish releases of English alone with this shared version."""
    for _ in range(times):
        now = registry.releases.get_serving().number
        publish_release(registry, expected=now, shared=shared, languages={})


def test_a_rollback_may_make_a_pruned_version_the_shared_one_while_others_build_upon_it(registry: Registry) -> None:
    for tag in "abaaaa":  # 1, 3 to 6 are of a; without b, the shared version is 1
        teach(registry, tag)
    teach(registry, "c", shared=False)
    teach(registry, "c", shared=False)
    assert prune(registry) == [1, 3, 4] and registry.retention.list_removable() == []
    assert registry.releases.roll_back("b", actor="t", reason="").shared_version == 1
    assert registry.releases.get_serving().shared == 1


def test_files_stay_as_long_as_a_version_in_reach_builds_upon_them_or_shares_them(registry: Registry) -> None:
    for tag in "aaab":
        teach(registry, tag)
    for _ in range(2):
        teach(registry, "c", shared=False)
    assert prune(registry) == [1]
    assert registry.retention.plan(LEAST).versions == () and registry.retention.list_removable() == []
    assert registry.versions.find_unneeded() == set()
    serve(registry, shared=1)  # the pruned one is the shared one again
    assert prune(registry) == [2, 3, 4, 5, 6] and 1 not in registry.versions.find_unneeded()
    assert [version.number for version in registry.retention.list_removable()] == [2, 3, 4, 5, 6]
    serve(registry, shared=0, times=1)
    registry.releases.restore(9, expected=10, actor="t", reason="")
    serve(registry, shared=0)
    assert 1 in prune(registry) and 1 in registry.versions.find_unneeded()
    with pytest.raises(VersionPruned):
        serve(registry, shared=1)


def test_what_is_younger_than_the_oldest_release_in_reach_stays(registry: Registry) -> None:
    # a version that the gate refused: somebody may want to look at it
    teach(registry, "a")
    lease = begin(registry, "b")
    write(registry, lease, "b", 1)
    registry.expansions.fail(lease, "gate_failed", "", {"taught": None, "missed": ["red house"], "pairs": 7})
    other = begin(registry, "x")  # which never made a version
    registry.expansions.fail(other, "dataset_invalid", "")
    assert prune(registry) == [] and registry.retention.plan(LEAST).datasets == ()
    teach(registry, "c")
    teach(registry, "d")
    done = registry.retention.prune(LEAST)
    assert [version.number for version in done.versions] == [2]
    assert [expansion.id for expansion in done.datasets] == [lease.expansion, other.expansion]
    for expansion in done.datasets:
        registry.retention.note_dataset_removed(expansion.id)
    assert registry.retention.plan(LEAST).datasets == ()
    removed = registry.expansions.get(lease.expansion)
    assert removed.dataset_path is None and removed.report == {"taught": None, "pairs": 7}


def test_datasets_of_versions_in_reach_stay_for_a_rebuild(registry: Registry) -> None:
    for tag in "abcd":
        teach(registry, tag)
    roll_back(registry, "d")
    teach(registry, "e")
    teach(registry, "f")
    done = registry.retention.prune(LEAST)
    assert [version.language for version in done.versions] == ["d"]
    assert [expansion.language for expansion in done.datasets] == ["d"]


def test_all_datasets_that_a_language_was_taught_from_stay_as_long_as_it_is_in_reach(registry: Registry) -> None:
    first, *_, last = taught = [teach(registry, "a") for _ in range(3)]
    for tag in "bcd":
        teach(registry, tag)
    sources = registry.versions.get(last).dataset_expansions
    assert sources == tuple(registry.versions.get(number).expansion for number in taught)
    done = registry.retention.prune(LEAST)
    assert [version.number for version in done.versions] == [first], "nothing goes back to it"
    assert done.datasets == (), "another base is taught from all three"
    languages = dict(zip("bcd", range(4, 7), strict=True))
    publish_release(registry, expected=7, shared=0, languages=languages)
    for tag in "ef":
        teach(registry, tag, shared=False)
    done = registry.retention.prune(LEAST)
    assert [version.number for version in done.versions] == taught[1:], "the others build upon the first one"
    assert tuple(expansion.id for expansion in done.datasets) == sources


def test_a_dataset_goes_when_another_replaced_it_and_no_rollback_needs_it(registry: Registry) -> None:
    # what docs/operate.md says to one who wants to be rid of captions

    def is_gone() -> bool:
        return first in [expansion.id for expansion in registry.retention.plan(LEAST).datasets]

    first = learn(registry, "a").expansion
    learn(registry, "a")
    assert not any((teach(registry, tag), is_gone())[1] for tag in "bcd"), "it is taught again"
    learn(registry, "a", datasets=())
    learn(registry, "a", datasets=())
    assert not is_gone(), "a rollback from the release before serves it"
    teach(registry, "b")
    assert is_gone()


def test_what_served_when_an_expansion_began_stays_until_it_ends(registry: Registry) -> None:
    teach(registry, "a")
    lease = begin(registry, "z")
    roll_back(registry, "a")
    for tag in "bcd":
        teach(registry, tag)
    assert registry.retention.plan(LEAST).oldest == 2 and prune(registry) == []
    made = write(registry, lease, "z", 1)
    promote(registry, lease, made)
    assert prune(registry) == []
    registry.expansions.succeed(lease, made.number, 7, {})
    teach(registry, "e")
    assert prune(registry) == [1] and registry.retention.list_removable() == [], "z builds upon it"


def test_while_all_vectors_are_made_anew_nothing_goes(registry: Registry) -> None:
    teach(registry, "a")
    roll_back(registry, "a")
    for tag in "bc":
        teach(registry, tag)
    registry.expansions.submit(kind="base", language="mul", settings={}, actor="t")
    assert prune(registry) == []
    registry.expansions.cancel(registry.expansions.list(1)[0].id)
    assert prune(registry) == [1]


@pytest.mark.row("R5")
@pytest.mark.parametrize("decision", ["store.reach:_plan_pruning", "store.releases:refuse_pruned"])
def test_when_a_pruning_or_a_restore_has_decided_the_other_comes_too_late(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, decision: str
) -> None:
    teach(registry, "a")
    roll_back(registry, "a")
    for tag in "bc":
        teach(registry, tag)
    restore = partial(registry.releases.restore, 2, expected=5, actor="t", reason="")
    acts: list[Callable[[], object]] = [partial(registry.retention.prune, LEAST), restore]
    prunes, decide, others = "plan" in decision, pkgutil.resolve_name(decision), list[Future[object]]()
    first, second = acts if prunes else acts[::-1]

    def decide_and_wait(*given: Any) -> Any:
        decided = decide(*given)
        if not others:
            others.append(pool.submit(insist, second))
            wait(others, 0.3)
        return decided

    monkeypatch.setattr(decision.replace(":", "."), decide_and_wait)
    with ThreadPoolExecutor(1) as pool:
        first()
    serving = registry.releases.get_serving()
    assert not registry.versions.find_pruned() & {serving.shared, *serving.languages.values()}
    assert isinstance(others[0].exception(), VersionPruned) == prunes == (1 in registry.versions.find_pruned())
