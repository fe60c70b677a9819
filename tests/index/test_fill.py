"""Filling the set of a language's captions resumes by shard, whatever a kill interrupts; no race fails a training."""

import os
from typing import Any

import pytest

from index import ivf, segment
from index.indexer import Indexer, fill_pictures
from index.janitor import sweep
from index.set_states import PartRecord
from index.sets import VectorSets
from index.sources import CaptionSource, make_source
from index.vectors import Entry, Hit, VectorRows, VectorSet
from store.errors import StorageFull
from tests.doubles import make_text_vector, make_view
from tests.index.world import (
    World,
    ask,
    digest,
    find_captions,
    find_pictures,
    flip,
    interrupt,
    kill_at,
    list_captions,
    put,
    score_pictures,
    wait_until,
)
from tests.registries import publish_release

PICTURES = 40
PUT = 'from tests.index.world import put_picture; put_picture(world.serve(), "b", 2, {"en": ["two"]})'
WRITING = [f"files.{step}" for step in ("temp_open", "written", "fsynced", "renamed", "folder_fsynced")]
# of the segment itself; of the note that it was verified, and of the merged segment
NTH = [*(f"{step}:1" for step in WRITING), "files.fsynced:2", "files.renamed:2", "files.renamed:3"]
INDEXER = ("indexer.written:1", "indexer.registered:1")


def prepare(world: World) -> World:
    """Put forty pictures, and train a version whose captions are not encoded yet."""
    for seed in range(PICTURES):
        world.put(f"p{seed:02d}", seed, {"cy": [f"llun {seed}"], "en": [f"picture {seed}"]})
    world.add_version("cy", {f"p{seed:02d}": f"disgrifiad {seed}" for seed in range(0, PICTURES, 2)})
    return world


def make_worker_source(world: World) -> CaptionSource:
    """Make the source that the worker has, without a model."""
    return CaptionSource(world.gallery, world.captions("cy", 1), world.registry.releases.find_visible("cy", 1))


def open_captions(world: World) -> VectorSet:
    """Open what is sealed of the trained version's captions."""
    return world.open_set(make_worker_source(world))


def publish(world: World) -> None:
    """Serve the trained version."""
    publish_release(world.registry, expected=1, shared=0, languages={"en": 0, "cy": 1})


def test_a_filled_set_holds_the_captions_of_the_language_as_the_version_reads_them(world: World) -> None:
    prepare(world)
    state = world.encode("cy", 1)
    filled = open_captions(world)
    rows = VectorRows.merge([filled.read_rows(picture) for picture in world.gallery.list_ids()])
    assert sorted(rows.entries) == [
        Entry(f"p{seed:02d}", text)
        for seed in range(PICTURES)
        for text in (*([] if seed % 2 else [f"disgrifiad {seed}"]), f"llun {seed}")
    ]
    for entry, vector in zip(rows.entries, rows.vectors, strict=True):
        assert vector.astype("<f2").tobytes() == make_text_vector(1, entry.text).astype("<f2").tobytes()
    assert (len(state.segments), filled.count, filled.tail.count, filled.problems) == (1, len(rows), 0, ())


def test_a_fill_that_is_stopped_goes_on_at_the_shard_it_was_at(world: World) -> None:
    prepare(world)

    def stop(done: int, _: int) -> None:
        if done >= 20:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        world.encode("cy", 1, on_progress=stop, shard=10)
    encoded = world.encoder.texts_encoded
    world.encode("cy", 1, shard=10)
    assert (encoded, world.encoder.texts_encoded) == (30, 60)


def test_a_picture_put_while_filling_is_taken_in_from_the_feed(world: World) -> None:
    prepare(world)

    def put(done: int, _: int) -> None:
        if done == 20:
            world.put("p03", 3, {"cy": ["wedi newid"]})
            world.gallery.delete("p04")
            world.put("new", 99, {"cy": ["newydd"]})

    world.encode("cy", 1, on_progress=put, shard=10)
    publish(world)
    expected = [[Entry("p03", "wedi newid")], [], [Entry("new", "newydd")]]
    for seal in (0, 1):
        captions = world.serve().current.captions["cy"]
        assert [[*captions.read_rows(picture).entries] for picture in ("p03", "p04", "new")] == expected
        assert captions.tail.count == 2 * (1 - seal)
        world.seal()


def test_a_caption_from_two_sources_is_found_once(world: World) -> None:
    world.put("a", 1, {"cy": ["ci"]})
    world.add_version("cy", {"a": "ci"})
    world.encode("cy", 1)
    assert open_captions(world).count == 1


def test_all_pictures_are_encoded_again_for_another_image_tower(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put_many(20)
    world.gallery.files.locate(digest(3)).write_bytes(b"")
    monkeypatch.setattr(world.encoder, "image_fingerprint", "another tower")
    seen: list[tuple[int, int]] = []
    fill_pictures(world.encoder, world.sets, lambda *args: seen.append(args))
    encoded = world.encoder.pictures_encoded
    live = world.serve()
    assert live.current.picture_set.count == 19 and live.current.picture_set.tail.count == 0
    assert world.encoder.pictures_encoded == encoded and seen == [(20, 20)]


@pytest.mark.parametrize("owner_and_name", [(segment, "read"), (VectorSets, "register")], ids=["read", "registered"])
def test_a_finished_training_does_not_fail_because_a_sweeper_took_its_segment(
    world: World, monkeypatch: pytest.MonkeyPatch, owner_and_name: tuple[Any, str]
) -> None:
    prepare(world)
    removed: list[int] = []

    def act_as_another() -> None:
        removed.append(sweep(world.sets, seconds=0))

    interrupt(monkeypatch, *owner_and_name, act_as_another)
    world.encode("cy", 1)
    assert removed == [1] and open_captions(world).count == 60 and open_captions(world).problems == ()


def test_a_fill_goes_on_when_a_sweeper_took_the_first_of_its_segments(world: World) -> None:
    """It lasts for hours, and no state names them before its end."""
    prepare(world)
    removed: list[int] = []

    def sweep_once(done: int, _: int) -> None:
        if done == 30:
            removed.append(sweep(world.sets, seconds=0))

    encoding = make_source(world.captions("cy", 1), world.gallery, world.encoder, make_view(1, "cy"))
    state = Indexer(world.sets, lambda _: encoding, most=15).fill(encoding, 10, sweep_once)
    assert removed[0] > 0 and [written.rows for written in state.segments] == [60]
    assert open_captions(world).count == 60 and open_captions(world).problems == ()


def test_a_fill_that_another_process_overtook_loses_nothing_of_either(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(world)

    def act_as_another() -> None:
        world.put("new", 99, {"cy": ["newydd"]})
        world.encode("cy", 1)

    interrupt(monkeypatch, VectorSets, "register", act_as_another)
    state = world.encode("cy", 1)
    assert state.number == world.state(world.captions("cy", 1)).number > 0
    publish(world)
    live = world.serve()
    assert find_captions(live, "cy", 1, "newydd") == [("newydd", "new")]
    assert live.current.captions["cy"].count == 61 and live.current.degraded == ()


def watch_segments(monkeypatch: pytest.MonkeyPatch, room: int = 99) -> list[int]:
    """Watch the rows of each segment that is written from now on; the disk is full after `room` of them."""
    real, sizes = segment.write, list[int]()

    def count_call(root: Any, identity: Any, rows: VectorRows, *rest: Any) -> PartRecord:
        if len(sizes) == room:
            raise StorageFull
        sizes.append(len(rows))
        return real(root, identity, rows, *rest)

    monkeypatch.setattr(segment, "write", count_call)
    return sizes


def test_a_damaged_segment_is_made_again_in_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.serve()
    for seed in range(60):
        world.put(f"p{seed:02d}", seed)
    world.seal()
    (folder,) = world.list_segments("pictures")
    flip(folder / "rows.safetensors")
    monkeypatch.setattr(ivf, "SCAN_LIMIT", 15)
    sizes = watch_segments(monkeypatch)
    world.make_indexer(most=20, seal_at=100).seal(world.pictures())
    assert sizes == [20, 20, 20, 60]
    live = world.serve()
    assert score_pictures(live, 1) == world.rank(1) and live.current.degraded == ()


def test_parts_without_an_index_count_before_they_are_merged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merging takes minutes and much memory; whoever ends meanwhile has not sealed for nothing."""
    live = world.serve()
    for seed in range(50):
        world.put(f"p{seed:02d}", seed)
    monkeypatch.setattr(ivf, "SCAN_LIMIT", 15)
    with monkeypatch.context() as patch:
        watch_segments(patch, room=3)
        with pytest.raises(StorageFull):
            world.make_indexer(most=20, seal_at=100).seal(world.pictures())
    assert [written.rows for written in world.state().segments] == [20, 20, 10]
    live.refresh()
    assert score_pictures(live, 1) == world.rank(1) and live.current.picture_set.tail.count == 0
    world.make_indexer(most=20, seal_at=100).seal(world.pictures())
    assert [written.rows for written in world.state().segments] == [50]


def has_only_named_segments(world: World) -> None:
    """Whether the sweep of a later start leaves exactly what states name, and nowhere a temporary file."""
    world.age()
    sweep(world.sets)
    sets = VectorSets(world.gallery)
    named = {each.id for of in sets.list_newest() for state in sets.list_states(of) for each in state.segments}
    # the live indexes of this test may still be sweeping too
    wait_until(lambda: {path.name for path in (world.home / "segments").iterdir()} == named)
    wait_until(lambda: ".tmp-" not in str([*os.walk(world.home)]))


@pytest.mark.row("I10")
@pytest.mark.faults
@pytest.mark.parametrize(
    ("point", "database"),
    [
        *((point, "sqlite") for point in (*NTH, *INDEXER, "indexer.written:2")),
        *((point, "postgresql") for point in (*INDEXER, "files.renamed:3")),
    ],
)
def test_an_indexer_that_was_killed_changed_no_answer_and_the_next_one_finishes(world: World, point: str) -> None:
    live = world.serve()
    for seed in range(3):
        put(live, seed)
        world.seal()
    put(live, 3, 4)
    live.delete_picture("p1")
    before = ask(live)
    kill_at(world, "world.seal()", point)
    live.refresh()
    assert ask(live) == ask(world.serve()) == before
    has_only_named_segments(world)
    assert ask(world.serve()) == before
    world.seal(live)
    assert ask(live) == ask(world.serve()) == before
    assert live.current.picture_set.tail.count == 0 and live.verify() == [] and live.current.degraded == ()
    has_only_named_segments(world)
    assert ask(world.serve()) == before


Filled = tuple[list[Hit], list[str]]


def describe_fill(world: World) -> Filled:
    """Return what a fill in shards of five ends in: every caption with its score, and its segments."""
    state = world.encode("cy", 1, shard=5)
    opened = world.open_set(make_worker_source(world))
    assert opened.problems == ()
    return opened.search(make_text_vector(1, "llun 7"), 99), [written.id for written in state.segments]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """What a fill that nothing interrupted ends in."""
    world = prepare(World(tmp_path_factory.mktemp("whole")))
    expected = describe_fill(world)
    world.close()
    assert len(expected[0]) == 60
    return expected


@pytest.mark.row("I10")
@pytest.mark.faults
@pytest.mark.parametrize(
    "point",
    [
        "files.temp_open:1",
        "files.fsynced:1",
        "files.renamed:1",
        "build.shard:4",
        "build.written:1",
        "build.registered:1",
    ],
)
def test_killed_fills_end_in_the_same_as_one_that_was_not(world: World, whole: Filled, point: str) -> None:
    prepare(world)
    live = world.serve()
    kill_at(world, 'world.encode("cy", 1, shard=5)', point)
    live.refresh()
    assert score_pictures(live, 1) == world.rank(1) and live.current.degraded == ()
    assert describe_fill(world) == whole
    has_only_named_segments(world)
    publish(world)
    live.refresh()
    for each in (live, world.serve()):
        assert find_captions(each, "cy", 1, "llun 7") == [("llun 7", "p07")]
        assert each.current.captions["cy"].count == 60 and each.current.degraded == ()


@pytest.mark.row("I9")
@pytest.mark.faults
@pytest.mark.parametrize(("point", "kept"), [("files.renamed:2", False), ("picture.committed:1", True)])
def test_a_picture_whose_put_was_killed_is_there_whole_or_not_at_all(world: World, point: str, kept: bool) -> None:
    """Before and after the commit."""
    world.put("a", 1)
    kill_at(world, PUT, point)
    world.age()
    live = world.serve()
    live.close()  # the sweep is done
    assert find_pictures(live, 2) == (["b", "a"] if kept else ["a"])
    assert list_captions(live, "b") == ({"en": ["two"]} if kept else {})
    assert world.gallery.files.locate(digest(2)).exists() == kept
