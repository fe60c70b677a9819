"""Rollback, promotion and restore leave every other answer as it was, to the last bit, and touch no picture set."""

import gc
import shutil
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from index.live import LiveIndex
from store.bases import Encoding
from tests.doubles import make_text_vector
from tests.index.world import World, list_captions, score_pictures
from tests.registries import publish_release
from tests.store.steps import move_encoding

PICTURES = 30


def make_serving(world: World) -> LiveIndex:
    """Seal thirty pictures with English captions, and Welsh; a few changes wait to be sealed."""
    for seed in range(PICTURES):
        world.put(f"p{seed}", seed, {"en": [f"picture {seed}"]})
    world.serve()
    world.seal()
    world.teach("cy", {f"p{seed}": f"llun {seed}" for seed in range(PICTURES)})
    live = world.serve()
    world.put("p30", 30, {"en": ["picture 30"], "cy": ["llun 30"]})
    world.gallery.delete("p4")
    live.refresh()
    return live


@pytest.fixture
def served(world: World) -> LiveIndex:
    return make_serving(world)


def find_others(live: LiveIndex) -> tuple[Any, ...]:
    """Find everything in pictures, English and Welsh, with scores."""
    captions = [
        live.current.search_captions(make_text_vector(version, "llun 7"), ["cy", "en"], 99) for version in (0, 1)
    ]
    return [score_pictures(live, seed) for seed in range(6)], captions, [row.tobytes() for row in _count_vectors(live)]


def _count_vectors(live: LiveIndex) -> list[Any]:
    return [vector for number in range(PICTURES) for vector in live.current.picture_set.read_rows(f"p{number}").vectors]


def promote(world: World) -> None:
    world.teach("de", {f"p{seed}": f"Bild {seed}" for seed in range(PICTURES)})


def roll_back(world: World) -> None:
    world.registry.releases.roll_back("de", actor="test", reason="")


def restore(world: World) -> None:
    world.registry.releases.restore(3, expected=world.registry.releases.get_serving().number, actor="test", reason="")


def test_no_move_of_one_language_changes_another_or_touches_the_set_of_pictures(
    world: World, served: LiveIndex
) -> None:
    before, state = find_others(served), world.state()
    away = world.home / "elsewhere"
    away.mkdir()
    for folder in world.list_segments("pictures"):
        shutil.move(folder, away / folder.name)
    moves: list[Callable[[World], None]] = [promote, roll_back, restore, roll_back]
    for number, move in enumerate(moves):
        move(world)
        assert served.refresh() and ("de" in served.current.views) == (number % 2 == 0)
        assert find_others(served) == before and served.current.degraded == ()
        assert served.current.picture_set.state == state.number
    assert world.list_segments("pictures") == [] and world.state().number == state.number
    for folder in away.iterdir():
        shutil.move(folder, world.home / "segments" / folder.name)
    assert find_others(world.serve()) == before


def test_a_rollback_opens_nothing(world: World, served: LiveIndex) -> None:
    before = served.current
    promote(world)
    served.refresh()
    roll_back(world)
    opened, encoded = list(world.encoder.opened), world.encoder.texts_encoded
    assert served.refresh() and set(served.current.views) == {"en", "cy"}
    assert (world.encoder.opened, world.encoder.texts_encoded) == (opened, encoded)
    assert served.current.views["cy"] is before.views["cy"]


def test_views_and_sets_of_the_release_before_stay_and_older_ones_are_closed(world: World) -> None:
    world.put("a", 1, {"de": ["eins"]})
    world.teach("de", {"a": "zwei"}, shared=False)
    live = world.serve()
    opened: list[weakref.ref[Any]] = [weakref.ref(live.current.views["de"]), weakref.ref(live.current.captions["de"])]
    roll_back(world)
    live.refresh()
    gc.collect()
    assert all(each() is not None for each in opened), "to roll back in a second"
    world.teach("cy", {"a": "tri"}, shared=False)
    live.refresh()
    gc.collect()
    assert [each() for each in opened] == [None, None]
    world.registry.releases.restore(2, expected=4, actor="test", reason="")
    assert live.refresh() and list_captions(live, "a") == {"de": ["eins", "zwei"]}
    assert world.encoder.opened == [1, 2, 1]


def test_a_version_shows_its_languages_captions_up_to_it_without_those_taken_back(world: World) -> None:
    world.put("a", 1)
    for text in ("un", "dau"):
        world.teach("cy", {"a": text})
    world.registry.releases.roll_back("cy", actor="test", reason="")
    world.teach("cy", {"a": "tri"})
    expansions = {version.number: version.expansion for version in world.registry.versions.list()}
    assert world.registry.releases.find_visible("cy", 1) == {expansions[1]}
    assert world.registry.releases.find_visible("cy", 2) == {expansions[1], expansions[2]}
    assert world.registry.releases.find_visible("cy", 3) == {expansions[1], expansions[3]}


def test_captions_that_a_restored_release_took_back_are_not_in_the_next_version(world: World) -> None:
    world.put("a", 1)
    world.teach("cy", {"a": "un"})
    world.registry.releases.restore(1, expected=2, actor="test", reason="")
    live = world.serve()
    world.teach("cy", {"a": "dau"})
    live.refresh()
    assert list_captions(live, "a") == {"cy": ["dau"]}


def test_captions_of_an_expansion_that_was_cancelled_before_it_served_are_never_shown(world: World) -> None:
    world.put("a", 1)
    lease, _ = world.add_version("cy", {"a": "un"})
    world.registry.expansions.end_as_cancelled(lease)
    world.teach("cy", {"a": "dau"})
    assert list_captions(world.serve(), "a") == {"cy": ["dau"]}


def test_before_and_after_its_promotion_a_version_shows_the_same_captions(world: World) -> None:
    world.teach("cy")
    _, version = world.add_version("cy")
    expansions = {other.expansion for other in world.registry.versions.list() if other.number}
    assert world.registry.releases.find_visible("cy", version.number) == expansions
    routed = {"cy": version.number}
    for expected, languages in ((2, routed), (3, {}), (4, routed)):  # only the first time it serves counts
        publish_release(world.registry, expected=expected, shared=1, languages=languages)
        assert world.registry.releases.find_visible("cy", version.number) == expansions


def test_a_release_in_another_encoding_is_not_served_by_the_one_that_is_open(world: World, served: LiveIndex) -> None:
    world.registry.encodings.record_first("torch", "float32")
    before = served.current.release
    release = move_encoding(world.registry, Encoding("openvino", "float32"))
    assert served.refresh() and served.current.release == before
    problem = f"Release {release.number} is for vectors made by openvino in float32, which is not open here."
    assert served.current.degraded == (problem, f"Release {before.number} is still served.")
    undone = world.registry.bases.undo(actor="t", reason="")
    assert served.refresh() and served.current.release.number == undone.release and not served.current.degraded
