"""Which captions belong to a version: its own, and those of the earlier versions that were not taken back."""

from tests.index.world import World, captions_of
from tests.registries import publish_release


def test_a_version_shows_its_languages_captions_up_to_it_without_those_taken_back(world: World) -> None:
    world.put("a", 1)
    for text in ("un", "dau"):
        world.teach("cy", {"a": text})
    world.registry.releases.roll_back("cy", actor="test", reason="")
    world.teach("cy", {"a": "tri"})
    expansions = {version.number: version.expansion for version in world.registry.versions.list()}
    assert world.registry.releases.visible("cy", 1) == {expansions[1]}
    assert world.registry.releases.visible("cy", 2) == {expansions[1], expansions[2]}
    assert world.registry.releases.visible("cy", 3) == {expansions[1], expansions[3]}


def test_captions_that_a_restored_release_took_back_are_not_in_the_next_version(world: World) -> None:
    world.put("a", 1)
    world.teach("cy", {"a": "un"})
    world.registry.releases.restore(1, expected=2, actor="test", reason="")
    live = world.started()
    world.teach("cy", {"a": "dau"})
    live.refresh()
    assert captions_of(live, "a") == {"cy": ["dau"]}


def test_captions_that_a_restored_release_brought_back_stay_in_the_next_version(world: World) -> None:
    world.put("a", 1)
    world.teach("cy", {"a": "un"})
    world.registry.releases.roll_back("cy", actor="test", reason="")
    world.registry.releases.restore(2, expected=3, actor="test", reason="")
    live = world.started()
    world.teach("cy", {"a": "dau"})
    live.refresh()
    assert captions_of(live, "a") == {"cy": ["un", "dau"]}


def test_captions_of_an_expansion_that_was_cancelled_before_it_served_are_never_shown(world: World) -> None:
    world.put("a", 1)
    lease, _ = world.trained_version("cy", {"a": "un"})
    world.registry.expansions.cancelled(lease)
    world.teach("cy", {"a": "dau"})
    assert captions_of(world.started(), "a") == {"cy": ["dau"]}


def test_before_and_after_its_promotion_a_version_shows_the_same_captions(world: World) -> None:
    world.teach("cy")
    _, version = world.trained_version("cy")
    expansions = {other.expansion for other in world.registry.versions.list() if other.number}
    assert world.registry.releases.visible("cy", version.number) == expansions
    routed = {"cy": version.number}
    for expected, languages in ((2, routed), (3, {}), (4, routed)):  # only the first time it serves counts
        publish_release(world.registry, expected=expected, shared=1, languages=languages)
        assert world.registry.releases.visible("cy", version.number) == expansions
