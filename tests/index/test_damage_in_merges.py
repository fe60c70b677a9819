"""F4, I2: what was damaged after it was verified is not copied under a new hash, but made again from the registry."""

import json
from typing import Any

import pytest

from index import segment
from index.segment import Segment
from tests.bitrot import flip
from tests.index.world import World, ask, put

pytestmark = [pytest.mark.row("F4"), pytest.mark.row("I2")]


def damage_file(world: World) -> None:
    """Flip the signs of numbers in every segment of pictures, all verified before: vectors stay of unit length."""
    for folder in world.list_segments("pictures"):
        file = folder / "rows.safetensors"
        length = int.from_bytes(file.read_bytes()[:8], "little")
        start, end = json.loads(file.read_bytes()[8 : 8 + length])["vectors"]["data_offsets"]
        for number in range(0, (end - start) // 2, 5):
            flip(file, 8 * (8 + length + start + 2 * number + 1) + 7, world.home)


def make_four_segments(world: World) -> None:
    """Make three segments, and what makes a fourth: the next sealing merges them."""
    live = world.serve()
    for round in range(4):
        put(live, *range(3 * round, 3 * round + 3))
        if round < 3:
            world.seal(seal_at=3)
    world.serve()


def test_damage_is_not_merged_but_made_again(world: World, caplog: pytest.LogCaptureFixture) -> None:
    make_four_segments(world)
    before = [world.rank(seed) for seed in range(8)]
    assert len(world.list_segments("pictures")) == 3
    damage_file(world)
    assert ask(world.serve())[0] != before, "the damage would be in answers: nobody hashes what was hashed before"
    world.seal(seal_at=3)
    fresh = world.serve()
    assert ask(fresh)[0] == before and fresh.verify() == [] and fresh.current.degraded == ()
    assert "were damaged after they were verified" in caplog.text and "is made again" in caplog.text


def test_damage_in_a_segment_that_is_only_purged_is_made_again(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """One with few dead rows, alone of its size, which no sealing before it merges."""
    live = put(world.serve(), *range(10))
    world.seal()
    live.delete_picture("p1")
    world.serve()
    before = [world.rank(seed) for seed in range(8)]
    damage_file(world)
    assert ask(world.serve())[0] != before
    world.make_indexer().purge()
    fresh = world.serve()
    assert ask(fresh)[0] == before and fresh.verify() == [] and fresh.current.degraded == ()
    assert "were damaged after they were verified" in caplog.text and "p1" not in list_pictures(world)


def list_pictures(world: World) -> set[str]:
    parts = world.sets.open_sealed(world.pictures(), world.state())[0].parts
    assert all(isinstance(part, Segment) and part.count == len(part.keys) for part in parts)
    return {part.read_entry(row).picture for part in parts if isinstance(part, Segment) for row in range(part.count)}


def test_the_service_that_had_the_damaged_files_open_serves_what_was_made_again(world: World) -> None:
    """Also where that has the same name: the registry's state names the same segments, in other files."""
    live = put(world.serve(), *range(8))
    world.seal(live)
    before = ask(live)
    damage_file(world)
    assert ask(live) != before and live.verify()
    world.make_indexer().mend(world.pictures())
    live.refresh()
    assert ask(live) == before and live.verify() == []


def test_what_was_written_again_by_another_process_is_not_merged_from_the_earlier_files(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pages are those of the damaged files, whatever the files on the disk hash to."""
    make_four_segments(world)
    before, intact = [world.rank(seed) for seed in range(8)], segment.is_intact
    good = {file: file.read_bytes() for folder in world.list_segments("pictures") for file in folder.iterdir()}
    damage_file(world)

    def rebuild(*given: Any) -> bool:
        monkeypatch.setattr(segment, "is_intact", intact)
        for file, data in good.items():
            file.unlink()
            file.write_bytes(data)
        return True

    monkeypatch.setattr(segment, "is_intact", rebuild)
    world.seal(seal_at=3)
    assert ask(world.serve())[0] == before and len(world.state().segments) == 1
