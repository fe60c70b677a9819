"""What a release opened is closed when neither the served release nor the one before names it any more."""

import gc
import weakref
from typing import Any

from tests.index.test_promotion import rolled_back
from tests.index.world import World, captions_of


def test_views_and_sets_of_the_release_before_stay_and_older_ones_are_closed(world: World) -> None:
    world.put("a", 1, {"de": ["eins"]})
    world.teach("de", {"a": "zwei"}, shared=False)
    live = world.started()
    opened: list[weakref.ref[Any]] = [weakref.ref(live.current.views["de"]), weakref.ref(live.current.captions["de"])]
    rolled_back(world)
    live.refresh()
    gc.collect()
    assert all(each() is not None for each in opened), "to roll back in a second"
    world.teach("cy", {"a": "tri"}, shared=False)
    live.refresh()
    gc.collect()
    assert [each() for each in opened] == [None, None]
    world.registry.releases.restore(2, expected=4, actor="test", reason="")
    assert live.refresh() and captions_of(live, "a") == {"de": ["eins", "zwei"]}
    assert world.encoder.opened == [1, 2, 1]


def test_what_an_open_version_builds_upon_stays_open(world: World) -> None:
    """Otherwise its rows would be added to the encoder's table again for each language."""
    for tag in ("cy", "br", "cy", "cy"):
        world.teach(tag)
    live = world.started()
    for tag in ("de", "fr", "es"):
        world.teach(tag)
        live.refresh()
    assert world.encoder.opened == [1, 2, 3, 4, 5, 6, 7]
