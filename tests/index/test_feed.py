"""Deletions leave the change feed when everybody has taken them in; who has not, notices."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from index import set_states
from index.gallery import Gallery
from index.indexer import Indexer, fill_captions
from index.live import LiveIndex
from index.set_states import NOTHING_SEALED
from index.sets import VectorSets
from store.clock import now
from store.tables import GalleryChangeRow, VectorSetRow
from tests.doubles import make_text_vector, make_view
from tests.index.world import (
    World,
    ask,
    find_captions,
    interrupt,
    kill_at,
    list_captions,
    put,
    put_picture,
    score_pictures,
)
from tests.registries import publish_release

PRUNE = "from index import set_states; set_states._BATCH = 2; set_states.prune_feed(world.registry)"


def read_feed(world: World) -> dict[str, int]:
    return world.gallery.list_changes(0)


def delete_pictures(world: World, *seeds: int) -> None:
    """Delete pictures as another process would, and let every kept state take that in."""
    for seed in seeds:
        world.gallery.delete(f"p{seed}")
    for seed in (90, 91):  # two states are kept of each set
        world.put(f"p{seed}", seed + world.gallery.read_last_change())
        with world.registry.begin() as session:  # other machines have had time to open what came after
            session.execute(update(VectorSetRow).values(created_at=now() - 3_600))
        world.seal()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_deletions_that_all_have_taken_in_leave_the_feed_and_pictures_stay(world: World) -> None:
    put(world.serve(), *range(6))
    world.seal()
    delete_pictures(world, 1, 3, 2)
    change = world.gallery.read_last_change()
    assert set_states.prune_feed(world.registry) == 3
    assert read_feed(world) == {"p0": 1, "p4": 5, "p5": 6, set_states.PRUNED: 9, "p90": 10, "p91": 11}
    assert world.gallery.read_last_change() == change and set_states.prune_feed(world.registry) == 0
    world.put("p1", 1)
    assert read_feed(world)["p1"] == change + 1


def test_the_newest_change_is_not_forgotten_with_its_picture(world: World) -> None:
    put(world.serve(), *range(6))
    world.gallery.delete("p5")
    world.seal()
    with world.registry.begin() as session:  # as if no older state were kept
        session.execute(update(VectorSetRow).values(upto_change=7))
    assert set_states.prune_feed(world.registry) == 1 and world.gallery.read_last_change() == 7
    world.put("p8", 8)
    assert world.gallery.read_last_change() == 8


def test_a_process_that_missed_deletions_takes_a_picture_and_finds_it(world: World) -> None:
    behind = world.serve()
    put(behind, *range(6))
    world.seal()
    delete_pictures(world, 1)
    set_states.prune_feed(world.registry)
    put_picture(behind, "new", 77)
    assert score_pictures(behind, 77) == world.rank(77)
    delete_pictures(world, 2)
    set_states.prune_feed(world.registry)
    behind.delete_picture("p3")
    assert score_pictures(behind, 2) == world.rank(2)


def test_a_snapshot_that_was_opened_before_the_pruning_is_published_without_what_went(world: World) -> None:
    live = put(world.serve(), *range(6))
    world.seal()
    candidate = live.open(world.registry.releases.get_serving())
    delete_pictures(world, 1)
    set_states.prune_feed(world.registry)
    live.publish(candidate)
    assert score_pictures(live, 1) == world.rank(1)


def test_a_rollback_long_after_misses_no_deletion(world: World) -> None:
    """The sets of the release before are still open, but were not followed."""
    world.put_many(6, cy="llun")
    world.teach("cy", {"p1": "un", "p2": "dau"})
    live = world.serve()
    world.teach("cy", {"p1": "tri"})
    live.refresh()
    publish_release(
        world.registry, expected=3, shared=0, languages=live.current.release.languages
    )  # version 1 is of no use any more: its set does not take changes in
    delete_pictures(world, 1)
    assert set_states.prune_feed(world.registry) == 1
    world.registry.releases.restore(2, expected=4, actor="test", reason="")
    assert live.refresh() and live.current.release.languages["cy"] == 1
    for each in (live, world.serve()):
        assert list_captions(each, "p1") == {} and list_captions(each, "p2") == {"cy": ["llun 2", "dau"]}
        assert score_pictures(each, 1) == world.rank(1)


def test_a_state_from_before_the_pruning_counts_as_nothing(world: World) -> None:
    """A fill that took long: what it made has pictures that were deleted meanwhile."""
    put(world.serve(), *range(6))
    world.seal()
    world.add_version("cy", {f"p{seed}": f"llun {seed}" for seed in range(6)})

    def delete_meanwhile() -> None:
        delete_pictures(world, 1)
        assert prune_whatever_runs(world) == 1

    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, VectorSets, "register", delete_meanwhile)
        view = make_view(1, "cy")
        made = fill_captions(world.encoder, view, world.sets, "cy", 1)
    assert made.upto_change < 7
    assert world.state(world.captions("cy", 1)).segments == ()
    publish_release(world.registry, expected=1, shared=0, languages={"cy": 1})
    for _ in range(2):
        captions = world.serve().current.captions["cy"]
        assert captions.list_texts([f"p{seed}" for seed in range(6)]) == {
            f"p{seed}": [f"llun {seed}"] if seed != 1 else [] for seed in range(6)
        }
        world.seal()


def prune_whatever_runs(world: World) -> int:
    """Prune the feed although an expansion is in progress."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.registry.expansions, "list_ids", lambda *_: set())
        return set_states.prune_feed(world.registry)


def test_while_an_expansion_is_in_progress_nothing_goes(world: World) -> None:
    put(world.serve(), *range(6))
    world.seal()
    lease, version = world.add_version("cy")
    delete_pictures(world, 1)
    assert set_states.prune_feed(world.registry) == 0
    world.registry.expansions.fail(lease, "gate_failed", "")
    assert set_states.prune_feed(world.registry) == 1 and version.number == 1


def test_a_set_that_is_made_in_several_steps_begins_again_when_the_feed_is_pruned_between(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(world.serve(), *range(9))
    world.seal()
    delete_pictures(world, 8)
    set_states.prune_feed(world.registry)
    with world.registry.begin() as session:
        session.execute(insert(VectorSetRow).values(**make_empty_row(world)))
    own = Indexer(world.sets, seal_at=1, most=3)
    reads, pages = Gallery.find_content_keys, list[int]()

    def overtake(gallery: Gallery, ids: Sequence[str]) -> Any:
        page = reads(gallery, ids)
        pages.append(len(ids))
        if len(pages) == 1:  # p1 is in it
            world.gallery.delete("p1")
            with world.registry.begin() as session:
                gone = session.scalars(select(GalleryChangeRow.change).where(GalleryChangeRow.picture_id == "p1")).one()
                set_states._remove_deletions(session, [gone])
        return page

    monkeypatch.setattr(Gallery, "find_content_keys", overtake)
    own.seal(world.pictures())
    assert pages == [3, 3, 3, 1, 3, 3, 3]  # once; a deleted picture keeps its vector; then once more
    live = world.serve()
    assert live.current.picture_set.tail.count == 0 and score_pictures(live, 1) == world.rank(1)


def make_empty_row(world: World) -> dict[str, object]:
    """Make a row that says that nothing of the set of pictures is sealed."""
    identity = world.pictures()
    of = {"kind": identity.kind, "fingerprint": identity.fingerprint, "dimension": identity.dimension}
    return {**of, "upto_change": 0, "segments": [], "dead": NOTHING_SEALED.dead}


@pytest.mark.faults
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_pruning_that_is_killed_is_finished_by_the_next_one(world: World) -> None:
    behind: LiveIndex = world.serve()
    put(behind, *range(6))
    world.seal()
    delete_pictures(world, 0, 1, 2, 3, 4)
    kill_at(world, PRUNE, "feed.pruned:1")
    assert {name for name in read_feed(world) if name in ("p0", "p1", "p2", "p3", "p4")} == {"p2", "p3", "p4"}
    behind.refresh()
    assert score_pictures(behind, 0) == world.rank(0)
    assert set_states.prune_feed(world.registry) == 3
    assert ask(world.serve()) == ask(behind)


# --- which sets are sealed --------------------------------------------------------------------------------------------


def teach_twice(world: World) -> LiveIndex:
    """Serve the second version of a language; captions are sealed as the first one reads them."""
    world.put_many(6, cy="llun")
    world.teach("cy")
    world.serve()
    world.seal()
    world.teach("cy")
    live = world.serve()
    return live


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_sets_that_no_used_release_names_do_not_wait_to_be_sealed(world: World) -> None:
    live = teach_twice(world)
    world.seal()
    publish_release(world.registry, expected=3, shared=0, languages=live.current.release.languages)
    assert live.refresh() and live.current.release.number == 4
    put_picture(live, "new", 7, {"cy": ["newydd"]})  # encoded as version 2 reads it
    assert set_states.count_unsealed(world.registry) == 1
    assert {each.version for each in world.make_indexer(seal_at=1).list_due()} == {None, 0, 2}
    assert world.seal() == 3
    assert set_states.count_unsealed(world.registry) == 0
    assert world.sets.count_unsealed_changes()[world.captions("cy", 1)] == 1


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_version_that_serves_no_more_holds_nothing_up_and_can_serve_again(world: World) -> None:
    live = teach_twice(world)
    put_picture(live, "new", 7, {"cy": ["newydd"]})  # encoded as version 2 alone reads it
    delete_pictures(world, 1)
    assert set_states.count_unsealed(world.registry) == 0
    assert set_states.prune_feed(world.registry) == 1 and "p1" not in read_feed(world)
    languages = live.current.release.languages | {"cy": 1}
    publish_release(world.registry, expected=3, shared=0, languages=languages)
    assert live.refresh() and find_captions(live, "cy", 1, "newydd") == [("newydd", "new")]
    hits = live.current.search_captions(make_text_vector(1, "llun 1"), ["cy"], 99)
    assert {hit.picture for hit in hits} == {"p0", "p2", "p3", "p4", "p5", "new"}


def test_of_two_encodings_the_set_that_was_sealed_last_counts(world: World) -> None:
    with world.registry.begin() as session:
        earlier = make_empty_row(world) | {"fingerprint": "earlier", "upto_change": 1, "number": 0}
        session.execute(insert(VectorSetRow).values(**earlier))
    put(world.serve(), 1, 2, 3)
    assert set_states.count_unsealed(world.registry) == 3
    world.make_indexer(seal_at=1).seal(world.pictures())
    world.make_indexer(seal_at=1).seal(world.captions("en", 0))
    assert set_states.count_unsealed(world.registry) == 0
    delete_pictures(world, 1)
    assert set_states.prune_feed(world.registry) == 1
