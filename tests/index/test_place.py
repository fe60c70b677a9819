"""Two processes that would keep vectors in different places: the one whose setting differs is refused, and says why."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from index.live import LiveIndex
from index.set_states import request_reindex
from index.sets import VectorSets
from store.errors import EngineMismatch, IndexUnavailable
from tests.index.world import World, ask, put, score_pictures


@pytest.fixture
def world(tmp_path: Path, postgresql_url: str) -> Iterator[World]:
    """An empty gallery whose vector sets pgvector keeps."""
    world = World(tmp_path, postgresql_url, index="pgvector")
    yield world
    world.close()


def test_two_that_run_already_do_not_make_all_sets_anew_in_turns(world: World) -> None:
    other = LiveIndex(world.encoder, VectorSets(world.gallery), seal_first=2)
    live = world.serve(seal_first=2)
    assert other.start()  # nothing is sealed yet, so nobody knows that its setting is wrong
    put(live, *range(6))
    world.seal()
    newest = {identity: world.state(identity) for identity in world.sets.list_newest()}
    for _ in range(3):
        live.refresh()
        other.refresh()
    assert {identity: world.state(identity) for identity in world.sets.list_newest()} == newest
    assert live.current.degraded == () and live.current.picture_set.tail.count == 0
    sentence = "Vectors are sealed in pgvector now, not in faiss: PICTOGLOT_INDEX must be the same."
    assert set(other.current.degraded) == {sentence} == set(other.verify())
    put(other, 6)
    live.refresh()
    assert score_pictures(other, 3) == score_pictures(live, 3) == world.rank(3)
    with pytest.raises(EngineMismatch):
        other._loader.make_indexer().seal(world.pictures())
    assert world.state() == newest[world.pictures()]
    other.close()


def test_after_a_move_every_set_is_sealed_in_the_new_place(world: World) -> None:
    put(world.serve(), 1, 2, 3)
    world.seal()
    before = ask(world.serve())
    newest = world.state()
    with pytest.raises(IndexUnavailable):
        request_reindex("milvus+http://127.0.0.1:1", world.registry)
    assert world.state() == newest, "what cannot be reached takes nothing over"
    assert request_reindex("faiss", world.registry) == 2
    moved = World(world.home, world.registry.engine.url.render_as_string(hide_password=False))
    live = moved.serve()
    assert ask(live) == before and moved.state().segments == ()
    moved.seal()
    live.refresh()
    assert live.current.picture_set.tail.count == 0 and ask(live) == before
    assert moved.state().segments
    assert moved.encoder.pictures_encoded == moved.encoder.texts_encoded == 0
    moved.close()
