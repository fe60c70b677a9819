"""However much there is to seal, it is written in parts of the size that fits into memory, and counts part by part."""

from typing import Any

import pytest

from index import indexer, ivf, segment
from index.states import Written
from index.vectors import Rows
from store.errors import StorageFull
from tests.index.world import World, flip, put_picture, scored_pictures


def watched(monkeypatch: pytest.MonkeyPatch, room: int = 99) -> list[int]:
    """The rows of each segment that is written from now on; the disk is full after `room` of them."""
    real, sizes = segment.write, list[int]()

    def counted(root: Any, identity: Any, rows: Rows, *rest: Any) -> Written:
        if len(sizes) == room:
            raise StorageFull
        sizes.append(len(rows))
        return real(root, identity, rows, *rest)

    monkeypatch.setattr(segment, "write", counted)
    return sizes


def test_changes_of_many_rows_are_counted_by_their_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    live = world.started()
    for seed in range(6):
        put_picture(live, f"p{seed:02d}", seed, {"en": [f"{seed} {number}" for number in range(50)]})
    monkeypatch.setattr(indexer, "SHARD", 1)
    sizes = watched(monkeypatch)
    world.indexer(most=100, seal_at=1_000).seal(world.captions("en", 0))
    assert sizes == [100, 100, 100]
    live.refresh()
    assert live.current.captions["en"].count == 300


def test_a_damaged_segment_is_made_again_in_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.started()
    for seed in range(60):
        world.put(f"p{seed:02d}", seed)
    world.seal()
    (folder,) = world.segments("pictures")
    flip(folder / "rows.safetensors")
    monkeypatch.setattr(ivf, "SCAN_LIMIT", 15)
    sizes = watched(monkeypatch)
    world.indexer(most=20, seal_at=100).seal(world.pictures())
    assert sizes == [20, 20, 20, 60]
    live = world.started()
    assert scored_pictures(live, 1) == world.nearest(1) and live.current.degraded == ()


def test_parts_without_an_index_count_before_they_are_merged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merging takes minutes and much memory; whoever ends meanwhile has not sealed for nothing."""
    live = world.started()
    for seed in range(50):
        world.put(f"p{seed:02d}", seed)
    monkeypatch.setattr(ivf, "SCAN_LIMIT", 15)
    with monkeypatch.context() as patch:
        watched(patch, room=3)
        with pytest.raises(StorageFull):
            world.indexer(most=20, seal_at=100).seal(world.pictures())
    assert [written.rows for written in world.state().segments] == [20, 20, 10]
    live.refresh()
    assert scored_pictures(live, 1) == world.nearest(1) and live.current.pictures.tail.count == 0
    world.indexer(most=20, seal_at=100).seal(world.pictures())
    assert [written.rows for written in world.state().segments] == [10, 40]
