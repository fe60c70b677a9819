"""A purge: what is sealed is rid of deleted and replaced rows, in every engine, beside whoever serves."""

import json
from pathlib import Path

import pytest

from index import set_states, sets
from index.engine import EngineView
from index.janitor import remove_replaced
from index.set_states import NOTHING_SEALED
from index.sets import KEPT
from index.vectors import Identity
from store.objects import ObjectStore
from tests.index.world import Machines, World, ask, put, score_pictures


@pytest.fixture
def world(empty: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """An empty gallery in one engine after the other; no other machine searches in a state that was replaced."""
    monkeypatch.setattr(sets, "GRACE", 0.0)
    return empty


def read_language(segment: Path) -> str | None:
    language: str | None = json.loads((segment / "manifest.json").read_bytes())["language"]
    return language


def list_sealed(world: World, identity: Identity) -> set[str]:
    """List the pictures of which the engine, or any file of a segment, has a row of this set."""
    state = world.state(identity)
    if world.engine is not None:
        runs = tuple(each.run for each in state.segments)
        pages = world.engine.read_pages(EngineView(identity, runs, (), 0)) if runs else ()
        return {entry.picture for page in pages for entry in page.entries}
    of_set = [each for each in world.list_segments(identity.kind) if read_language(each) == identity.language]
    data = b"".join(file.read_bytes() for folder in of_set for file in folder.iterdir())
    return {f"p{seed}" for seed in range(9) if f"p{seed}".encode() in data}


def test_what_was_deleted_goes_from_every_set_and_answers_stay(world: World) -> None:
    live = put(world.serve(), *range(5))
    world.seal(live)
    live.delete_picture("p1")
    before = ask(live)
    english = next(each for each in world.sets.list_newest() if each.kind == "captions")
    assert "p1" in list_sealed(world, world.pictures()) and "p1" in list_sealed(world, english)
    for _ in range(2):  # an engine hides a row, and removes it when no state sees it any more
        world.make_indexer().purge()
        live.refresh()
        assert ask(live) == before
    assert list_sealed(world, world.pictures()) == list_sealed(world, english) == {"p0", "p2", "p3", "p4"}
    assert ask(world.serve()) == before and not set_states.has_dead_rows(world.registry)
    assert live.verify() == [] and live.current.degraded == ()
    assert set_states.prune_feed(world.registry) == 1, "the feed forgets its id"
    numbers = world.sets.list_newest()
    world.make_indexer().purge()
    assert world.sets.list_newest() == numbers, "there is nothing more to write"


def test_a_set_that_nobody_uses_loses_what_was_deleted_and_then_itself(world: World) -> None:
    """As that of a version that is being made; when the feed has forgotten a deletion, it can be used no more."""
    live = put(world.serve(), *range(4))
    world.seal()
    lease, version = world.add_version("cy", {f"p{seed}": f"llun {seed}" for seed in range(4)})
    world.encode("cy", version.number)
    welsh = world.captions("cy", version.number)
    assert list_sealed(world, welsh) == {"p0", "p1", "p2", "p3"}
    live.delete_picture("p1")
    upto = world.state(welsh).upto_change
    for _ in range(2):
        world.make_indexer().purge()
    assert list_sealed(world, welsh) == {"p0", "p2", "p3"} and world.state(welsh).upto_change == upto
    remove_replaced(world.sets)
    assert world.state(welsh).segments, "nothing is forgotten while an expansion may need it"
    world.registry.expansions.fail(lease, "internal", "")
    remove_replaced(world.sets)
    remove_replaced(world.sets)
    assert world.sets.list_states(welsh)[:KEPT] == [NOTHING_SEALED] * KEPT and list_sealed(world, welsh) == set()
    assert list_sealed(world, world.pictures()) == {"p0", "p2", "p3"}


def test_in_the_store_and_on_other_machines_nothing_is_left(machines: Machines) -> None:
    live = machines.there.serve()
    machines.here.put_many(3)
    machines.here.seal()
    live.refresh()
    (before,) = machines.there.list_segments("pictures")
    machines.here.gallery.delete("p1")
    machines.here.make_indexer().purge()
    live.refresh()
    names = {written.id for written in machines.here.state().segments}
    assert before.name not in names and len(names) == 1
    assert {name.split("/")[1] for name in ObjectStore(machines.url).list_keys("segments/")} == names
    for world in (machines.here, machines.there):
        assert {path.name for path in world.list_segments()} == names
    assert score_pictures(live, 1) == machines.here.rank(1) and live.verify() == []
