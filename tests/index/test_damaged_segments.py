"""A damaged segment never serves; its rows come from the tables, and it is made again in the background."""

from collections.abc import Callable
from pathlib import Path

import pytest

from index import segment
from store import files
from store.errors import StorageFull
from tests.doubles import text_vector
from tests.index.world import (
    Clock,
    World,
    answers,
    captions_of,
    content,
    flip,
    nearest_captions,
    put,
    scored_pictures,
    wait_until,
)


def cut(file: Path) -> None:
    """Lose the second half of a file."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def sealed(world: World) -> Path:
    """Twelve pictures in segments, with one deleted and one replaced since; returns the folder of the larger one."""
    live = world.started()
    put(live, *range(8))
    world.seal()
    put(live, *range(8, 12))
    live.delete_picture("p1")
    put(live, 22)
    world.seal()
    live.delete_picture("p9")
    assert [written.rows for written in world.state().segments] == [8, 5]
    return world.home / "segments" / world.state().segments[0].id


Damage = Callable[[Path], object]
DAMAGE: dict[str, Damage] = {
    "rows flipped": lambda folder: flip(folder / "rows.safetensors"),
    "index flipped": lambda folder: flip(folder / "index.faiss"),
    "manifest flipped": lambda folder: flip(folder / "manifest.json"),
    "rows cut": lambda folder: cut(folder / "rows.safetensors"),
    "index cut": lambda folder: cut(folder / "index.faiss"),
    "rows missing": lambda folder: (folder / "rows.safetensors").unlink(),
    "manifest missing": lambda folder: (folder / "manifest.json").unlink(),
    "folder missing": files.remove,
    "a file too many": lambda folder: (folder / "more").write_bytes(b""),
}


@pytest.mark.row("I1", "I2")
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_segment_serves_nothing_and_is_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch, damage: Damage
) -> None:
    folder = sealed(world)
    before = answers(world.started())
    assert before[0] == [world.nearest(seed) for seed in range(8)]
    damage(folder)
    encoded = world.encoder.texts_encoded, world.encoder.pictures_encoded

    def full(*_: object) -> None:
        raise StorageFull

    clock = Clock()
    with monkeypatch.context() as patch:
        patch.setattr(files, "require_free", full)  # so that it cannot be made again yet
        live = world.started(clock=clock)
        assert answers(live) == before
        (problem,) = live.current.degraded
        assert folder.name in problem and "index_file_corrupt" in problem
    clock.now += 61
    live.refresh()
    wait_until(lambda: not live.current.degraded)
    assert answers(live) == before and live.verify() == []
    assert (world.encoder.texts_encoded, world.encoder.pictures_encoded) == encoded
    again = world.started()
    assert again.current.degraded == () and answers(again) == before


def test_the_only_segment_of_a_set_is_made_again_with_the_same_name(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing new has to be registered then, and yet what was read from the tables is to go from memory."""
    live = world.started()
    put(live, *range(8))
    world.seal()
    before, state = answers(live), world.state()
    (folder,) = world.segments("pictures")
    flip(folder / "rows.safetensors")
    live = world.started()
    wait_until(lambda: not live.current.degraded)
    assert answers(live) == before and live.verify() == []
    assert f"segment {folder.name} is unusable (index_file_corrupt)" in caplog.text
    assert live.current.pictures.tail.count == 0 and world.state().segments == state.segments
    assert world.started().current.degraded == ()


@pytest.mark.row("I3", "I4")
def test_a_segment_of_another_set_is_foreign_though_its_files_are_whole(world: World) -> None:
    world.put("a", 1)
    world.teach("cy", {"a": "ci"})
    world.teach("de", {"a": "Hund"})
    live = world.started()
    before = [nearest_captions(live, tag, version, "x") for tag, version in (("cy", 1), ("de", 2))]
    folders = [
        world.home / "segments" / world.state(world.captions(tag, version)).segments[0].id
        for tag, version in (("cy", 1), ("de", 2))
    ]
    for file in folders[0].iterdir():
        file.write_bytes((folders[1] / file.name).read_bytes())
    live = world.started()
    assert [nearest_captions(live, tag, version, "x") for tag, version in (("cy", 1), ("de", 2))] == before
    wait_until(lambda: not live.current.degraded)
    assert live.verify() == [] and world.started().current.degraded == ()


def test_a_segment_under_the_name_of_another_of_its_set_is_foreign_too(world: World) -> None:
    """What is written there again has the same name, and must not be taken for there already."""
    live = world.started()
    for seeds in (range(8), range(8, 12)):
        put(live, *seeds)
        world.seal()
    before, (folder, other) = answers(live), (world.home / "segments" / each.id for each in world.state().segments)
    for file in folder.iterdir():
        file.write_bytes((other / file.name).read_bytes())
    live = world.started()
    assert answers(live) == before
    wait_until(lambda: not live.current.degraded)
    assert answers(live) == answers(world.started()) == before and live.verify() == []


def test_a_damaged_set_without_rows_opens(world: World) -> None:
    world.teach("cy")
    live = world.started()
    assert live.current.degraded == () and live.current.captions["cy"].count == 0
    put(live, 1)
    world.seal()
    live.delete_picture("p1")
    (folder,) = world.segments("pictures")
    flip(folder / "rows.safetensors")
    live = world.started()
    wait_until(lambda: not live.current.degraded)
    assert scored_pictures(live, 1) == [] and world.started().current.degraded == ()


def test_damage_that_comes_while_a_segment_serves_is_found_at_the_next_start(world: World) -> None:
    folder = sealed(world)
    live = world.started()
    before = answers(live)
    stat = (folder / "rows.safetensors").stat()
    flip(folder / "rows.safetensors")
    assert (folder / "rows.safetensors").stat().st_size == stat.st_size
    assert [problem.split()[1] for problem in live.verify()] == [folder.name]
    live = world.started()
    assert answers(live) == before
    wait_until(lambda: not live.current.degraded)
    assert answers(live) == before and live.verify() == []


def test_what_changes_while_a_segment_is_damaged_is_in_the_answers(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = sealed(world)
    flip(folder / "rows.safetensors")

    def full(*_: object) -> None:
        raise StorageFull

    clock = Clock()
    with monkeypatch.context() as patch:
        patch.setattr(files, "require_free", full)
        live = world.started(clock=clock)
        wait_until(lambda: "making damaged segments again failed" in caplog.text)
    live.delete_picture("p3")
    put(live, 23)
    world.put("p4", 44)  # other content, put by another process
    assert live.current.degraded != ()
    live.refresh()
    assert [scored_pictures(live, seed) for seed in (3, 4, 23)] == [world.nearest(seed) for seed in (3, 4, 23)]
    clock.now += 61
    live.refresh()
    wait_until(lambda: not live.current.degraded)
    for each in (live, world.started()):
        assert [scored_pictures(each, seed) for seed in (3, 4, 23)] == [world.nearest(seed) for seed in (3, 4, 23)]
        assert captions_of(each, "p4") == {"en": ["picture 4", "drawing 4"]}


def test_damage_that_cannot_be_repaired_yet_is_repaired_later_and_not_tried_twice_a_second(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    flip(sealed(world) / "rows.safetensors")
    clock, attempts = Clock(), list[float]()

    def full_at_first(*_: object) -> None:
        attempts.append(clock.now)
        if clock.now == 0:
            raise MemoryError

    monkeypatch.setattr(files, "require_free", full_at_first)
    live = world.started(clock=clock)
    wait_until(lambda: "making damaged segments again failed (MemoryError)" in caplog.text)
    for _ in range(10):
        live.refresh()
    assert attempts == [0] and caplog.text.count("failed (MemoryError)") == 1
    assert live.current.degraded != ()
    clock.now += 61
    live.refresh()
    wait_until(lambda: not live.current.degraded)
    assert attempts[:2] == [0, 61] and world.started().current.degraded == ()


def test_the_worker_makes_a_damaged_segment_again_too(world: World) -> None:
    live = world.started()
    put(live, *range(8))
    world.seal()
    (folder,) = world.segments("pictures")
    flip(folder / "index.faiss")
    put(live, 9)
    world.seal()
    fresh = world.started()
    assert fresh.current.degraded == () and scored_pictures(fresh, 9) == world.nearest(9)
    assert all(segment.intact(world.root, written) for written in world.state().segments)


def test_a_whole_machine_without_segments_serves_from_the_tables(world: World) -> None:
    sealed(world)
    world.teach("cy", {"p2": "dau"})
    before = answers(world.started())
    for path in world.segments():
        files.remove(path)
    live = world.started()
    assert answers(live) == before and nearest_captions(live, "cy", 1, "dau") == [("dau", "p2")]
    assert len(live.current.degraded) >= 3
    wait_until(lambda: not live.current.degraded)
    assert answers(live) == before and live.verify() == []
    assert live.current.search_captions(text_vector(1, "dau"), ["cy"], 1)[0].picture == "p2"
    assert content(1) in world.gallery.discarded(0)
