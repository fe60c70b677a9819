"""Rollback, promotion and restore leave every other answer as it was, to the last bit, and touch no picture set."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from index.live import LiveIndex
from tests.doubles import text_vector
from tests.index.world import World, scored_pictures

PICTURES = 30


def serving(world: World) -> LiveIndex:
    """Thirty pictures with English captions in segments, and Welsh; a few changes wait to be sealed."""
    for seed in range(PICTURES):
        world.put(f"p{seed}", seed, {"en": [f"picture {seed}"]})
    world.started()
    world.seal()
    world.teach("cy", {f"p{seed}": f"llun {seed}" for seed in range(PICTURES)})
    live = world.started()
    world.put("p30", 30, {"en": ["picture 30"], "cy": ["llun 30"]})
    world.gallery.delete("p4")
    live.refresh()
    return live


@pytest.fixture
def served(world: World) -> LiveIndex:
    return serving(world)


def others(live: LiveIndex) -> tuple[Any, ...]:
    """Everything that is found in pictures, English and Welsh, with scores."""
    captions = [live.current.search_captions(text_vector(version, "llun 7"), ["cy", "en"], 99) for version in (0, 1)]
    return [scored_pictures(live, seed) for seed in range(6)], captions, [row.tobytes() for row in _vectors(live)]


def _vectors(live: LiveIndex) -> list[Any]:
    return [vector for number in range(PICTURES) for vector in live.current.pictures.of(f"p{number}").vectors]


def promoted(world: World) -> None:
    world.teach("de", {f"p{seed}": f"Bild {seed}" for seed in range(PICTURES)})


def rolled_back(world: World) -> None:
    world.registry.releases.roll_back("de", actor="test", reason="")


def restored(world: World) -> None:
    world.registry.releases.restore(3, expected=world.registry.releases.serving().number, actor="test", reason="")


def test_no_move_of_one_language_changes_another_or_touches_the_set_of_pictures(
    world: World, served: LiveIndex
) -> None:
    before, state = others(served), world.state()
    away = world.home / "elsewhere"
    away.mkdir()
    for folder in world.segments("pictures"):
        shutil.move(folder, away / folder.name)
    moves: list[Callable[[World], None]] = [promoted, rolled_back, restored, rolled_back]
    for number, move in enumerate(moves):
        move(world)
        assert served.refresh() and ("de" in served.current.views) == (number % 2 == 0)
        assert others(served) == before and served.current.degraded == ()
        assert served.current.pictures.state == state.number
    assert world.segments("pictures") == [] and world.state().number == state.number
    for folder in away.iterdir():
        shutil.move(folder, world.home / "segments" / folder.name)
    assert others(world.started()) == before


def test_a_rollback_opens_nothing(world: World, served: LiveIndex) -> None:
    before = served.current
    promoted(world)
    served.refresh()
    rolled_back(world)
    opened, encoded = list(world.encoder.opened), world.encoder.texts_encoded
    assert served.refresh() and set(served.current.views) == {"en", "cy"}
    assert (world.encoder.opened, world.encoder.texts_encoded) == (opened, encoded)
    assert served.current.views["cy"] is before.views["cy"]


def test_after_a_restart_every_move_gives_the_same_answers(world: World, served: LiveIndex) -> None:
    before = others(served)
    for move in (promoted, rolled_back, restored):
        move(world)
        world.seal()
        assert others(world.started()) == before
