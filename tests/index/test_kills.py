"""Whatever a kill interrupts, what serves is untouched, and the next run ends in the same answers."""

import pytest

from index.janitor import sweep
from index.sets import VectorSets
from index.vectors import Hit
from tests.doubles import make_text_vector
from tests.index.test_fill import make_worker_source, prepare, publish
from tests.index.world import (
    World,
    ask,
    digest,
    find_captions,
    find_pictures,
    kill_at,
    list_captions,
    put,
    score_pictures,
    wait_until,
)

PUT = 'from tests.index.world import put_picture; put_picture(world.serve(), "b", 2, {"en": ["two"]})'
WRITING = [f"files.{step}" for step in ("temp_open", "written", "fsynced", "renamed", "folder_fsynced")]
# of the segment itself; of the note that it was verified, and of the merged segment
NTH = [*(f"{step}:1" for step in WRITING), "files.renamed:2", "files.renamed:3"]
INDEXER = ("indexer.written:1", "indexer.registered:1")


def has_only_named_segments(world: World) -> None:
    """Whether the sweep of a later start leaves exactly what states name."""
    world.age()
    sweep(world.sets)
    sets = VectorSets(world.gallery)
    named = {each.id for of in sets.list_newest() for state in sets.list_states(of) for each in state.segments}
    # the live indexes of this test may still be sweeping too
    wait_until(lambda: {path.name for path in (world.home / "segments").iterdir()} == named)


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
    "point", ["files.fsynced:1", "files.renamed:1", "build.shard:4", "build.written:1", "build.registered:1"]
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
