"""Sealing and merging change no answer, and write each row a few times only."""

from math import log
from typing import Any

import pytest

from index import segment
from index.segment import Segment
from index.sets import VectorSets
from index.states import NOTHING, State, Written
from index.vectors import Rows
from store.errors import IndexFileCorrupt
from tests.doubles import text_vector
from tests.index.world import World, answers, captions_of, content, interrupted, put, put_picture, scored_pictures


def test_sealing_and_merging_change_no_score_and_no_order(world: World) -> None:
    live = world.started()
    for round in range(12):
        put(live, *range(3 * round, 3 * round + 3))
        if round % 2:
            live.delete_picture(f"p{3 * round - 2}")
            put_picture(live, f"p{3 * round}", 100 + round, {"en": [f"other {round}"]})
        before = answers(live)
        assert before[0] == [world.nearest(seed) for seed in range(8)]
        assert world.seal() == 2
        assert live.refresh() and live.current.pictures.tail.count == 0
        assert answers(live) == before
        assert answers(world.started()) == before
    assert live.current.pictures.count == 30
    assert live.verify() == [] and live.current.degraded == ()


def test_what_was_replaced_or_deleted_stays_dead_after_every_restart(world: World) -> None:
    live = world.started()
    put(live, *range(12))
    world.seal()
    for seed in range(12):
        live.delete_picture(f"p{seed}") if seed % 3 else put(live, seed + 20)
        world.seal()
        fresh = world.started()
        assert scored_pictures(fresh, 1) == world.nearest(1)
        assert fresh.current.pictures.count == len(world.gallery.ids())
        gone = {f"p{other}" for other in range(seed + 1) if other % 3}
        assert not gone & {hit.picture for hit in fresh.current.search_captions(text_vector(0, "a"), ["en"], 99)}


def test_a_caption_that_was_replaced_stays_away_though_its_picture_stays(world: World) -> None:
    live = world.started()
    put(live, 1, 2)
    world.seal()
    put_picture(live, "p1", 1, {"en": ["picture 1", "new"]})
    for _ in range(2):
        world.seal()
        live.refresh()
        for each in (live, world.started()):
            assert captions_of(each, "p1") == {"en": ["picture 1", "new"]}
            assert each.current.captions["en"].count == 4


def test_the_number_of_segments_is_logarithmic_and_each_row_is_written_a_few_times(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.started()
    real, sizes = segment.write, list[int]()

    def counted(root: Any, identity: Any, rows: Rows, *rest: Any) -> Written:
        if identity.kind == "pictures":
            sizes.append(len(rows))
        return real(root, identity, rows, *rest)

    monkeypatch.setattr(segment, "write", counted)
    for seed in range(64):
        world.put(f"p{seed}", seed)
        world.seal()
        assert len(world.state().segments) <= 3 * (1 + log(seed + 1, 4))
    assert [written.rows for written in world.state().segments] == [64]
    assert sum(sizes) <= 64 * (1 + log(64, 4))


def test_small_segments_are_merged_however_small(world: World) -> None:
    """Below the size that is sealed together, as when an operator seals by hand."""
    live = world.started()
    for first, next in ((0, 1), (1, 6), (6, 26)):
        put(live, *range(first, next))
        world.indexer().seal(world.pictures())
    assert [written.rows for written in world.state().segments] == [1, 5, 20]
    put(live, 26)
    world.indexer().seal(world.pictures())
    assert [written.rows for written in world.state().segments] == [27]


def test_a_segment_with_many_dead_rows_is_written_again_without_them(world: World) -> None:
    live = world.started()
    put(live, *range(20))
    world.seal()
    (whole,) = world.state().segments
    for seed in range(5):
        live.delete_picture(f"p{seed}")
    world.seal()
    assert world.state().segments == (whole,)  # a quarter: not worth it
    live.delete_picture("p5")
    world.seal()
    (rest,) = world.state().segments
    assert rest.rows == 14 and world.state().dead == NOTHING.dead
    assert scored_pictures(world.started(), 7) == world.nearest(7)


def test_a_segment_without_a_row_that_is_alive_goes(world: World) -> None:
    live = world.started()
    put(live, 1, 2)
    world.seal()
    for seed in (1, 2):
        live.delete_picture(f"p{seed}")
    world.seal()
    assert world.state().segments == ()
    put(live, 3)
    world.seal()
    put(live, 4)
    world.seal()
    named = {written.id for state in _states(world) for written in state.segments}
    assert {path.name for path in world.segments("pictures")} == named
    assert scored_pictures(world.started(), 1) == world.nearest(1)


def _states(world: World) -> list[State]:
    return VectorSets(world.gallery).states(world.pictures())


def test_only_two_states_of_a_set_are_kept_with_their_segments(world: World) -> None:
    live = world.started()
    for seed in range(6):
        put(live, seed)
        world.seal()
    assert len(_states(world)) == 2
    named = {written.id for state in _states(world) for written in state.segments}
    assert {path.name for path in world.segments("pictures")} == named


def test_only_sets_of_which_enough_has_changed_are_sealed_those_that_changed_most_first(world: World) -> None:
    live = world.started()
    put(live, *range(3))
    assert world.indexer(seal_at=4).due() == [] and world.seal(seal_at=4) == 0
    world.indexer().seal(world.pictures())
    put(live, 3)
    order: list[int] = []
    assert world.indexer(seal_at=1).due() == [world.captions("en", 0), world.pictures()]
    assert world.seal(seal_at=4) == 1 and world.state(world.captions("en", 0)).upto_change == 4
    assert world.indexer(seal_at=1).run(lambda: order.append(world.state().number)) == 1 and len(order) == 1


def test_a_set_of_which_nothing_changed_is_not_registered_again(world: World) -> None:
    put(world.started(), 1)
    world.seal()
    before = world.state()
    assert world.indexer().seal(world.pictures()) == before and world.state().number == before.number


def test_captions_that_nobody_encoded_yet_are_left_and_the_other_sets_are_sealed(world: World) -> None:
    world.started()
    world.put("a", 1, {"en": ["dog"]})  # by a process without a model
    assert world.seal() == 1
    assert world.state().upto_change == 1 and world.state(world.captions("en", 0)).upto_change == 0
    live = world.started()  # encodes it
    assert world.seal() == 1 and world.state(world.captions("en", 0)).upto_change == 1
    live.refresh()
    assert captions_of(live, "a") == {"en": ["dog"]}


def test_pictures_that_nobody_encoded_yet_are_not_sealed_as_if_there_were_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a change of the image tower, while the API encodes them: they would be missing for ever."""
    put(world.started(), 1, 2)
    monkeypatch.setattr(world.encoder, "image_fingerprint", "another tower")
    VectorSets(world.gallery).register(world.pictures(), NOTHING, NOTHING)
    world.seal()
    assert world.state().upto_change == 0
    live = world.started()
    assert live.current.pictures.count == 2
    world.seal()
    assert world.state().upto_change == 2 and world.started().current.pictures.count == 2


def test_a_picture_whose_file_is_lost_does_not_keep_the_others_from_being_sealed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(world.started(), 1, 2)
    world.gallery.files.content_path(content(1)).write_bytes(b"not a picture")
    monkeypatch.setattr(world.encoder, "image_fingerprint", "another tower")
    assert world.started().current.pictures.count == 1
    world.seal()
    assert world.state().upto_change == 2 and [written.rows for written in world.state().segments] == [1]


def test_what_is_put_while_a_segment_is_written_is_in_the_answers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = world.started()
    put(live, 1, 2)

    def meanwhile() -> None:
        put(live, 3)
        live.delete_picture("p2")

    interrupted(monkeypatch, segment, "write", meanwhile, 1)
    world.seal()
    live.refresh()
    for each in (live, world.started()):
        assert scored_pictures(each, 3) == world.nearest(3) and each.current.pictures.count == 2
        assert captions_of(each, "p3") == {"en": ["picture 3", "drawing 3"]}


def test_sealing_ends_though_pictures_are_put_all_the_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    live, seeds = world.started(), iter(range(2, 50))
    put(live, 1)
    interrupted(monkeypatch, segment, "write", lambda: put(live, next(seeds)), 40)
    world.seal()
    assert next(seeds) < 10
    assert scored_pictures(world.started(), 1) == world.nearest(1)


def test_a_segment_is_opened_before_it_is_registered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    put(world.started(), 1)

    def unreadable(*_: object) -> Segment:
        raise IndexFileCorrupt("a fault of the disk")

    with monkeypatch.context() as patch:
        patch.setattr(segment, "read", unreadable)
        with pytest.raises(IndexFileCorrupt):
            world.indexer().seal(world.pictures())
    assert world.state().segments == ()


def test_the_files_of_a_segment_are_the_same_whoever_writes_it(world: World) -> None:
    """So that two machines that seal the same put the same objects into the store."""
    world.started()
    for seed in range(5):
        world.put(f"p{seed}", seed)
    first = world.indexer().seal(world.pictures())
    (folder,) = world.segments("pictures")
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    segment.remove(world.root, folder.name)
    again = world.indexer().seal(world.pictures())
    assert again.segments == first.segments
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == files
