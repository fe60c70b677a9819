"""Pruning removes files and vectors of what is out of reach, with any engine, and nothing that may still be needed."""

from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from pymilvus import MilvusClient
from sqlalchemy import func, inspect, select, update

from index.captions import EncoderId
from index.gallery import Gallery
from index.janitor import Pruner, sweep
from index.set_states import NOTHING_SEALED
from index.sets import VectorSets
from store import files
from store.bases import FIRST_ENCODING
from store.data_root import DataRoot
from store.errors import RegistryUnavailable, StoreUnavailable, VersionPruned
from store.reach import LEAST
from store.tables import CaptionVectorRow, ExpansionRow
from tests.doubles import make_picture_vector, make_text_vector
from tests.index.world import World, ask, digest, draw, fail_with, find_captions, kill_at, run_beside
from tests.store.steps import begin_move

PICTURES = 6
ANY = make_text_vector(0, "anything")


def withdraw_welsh(world: World) -> World:
    """Roll Welsh back, so that its version is out of reach, with its set in segments or in the engine."""
    world.put_many(PICTURES, en="picture", cy="llun")
    world.serve()
    world.seal()
    world.teach("cy", {f"p{seed}": f"llun {seed} arall" for seed in range(PICTURES)})
    world.registry.releases.roll_back("cy", actor="test", reason="")
    world.teach("br", {f"p{seed}": f"skeudenn {seed}" for seed in range(PICTURES)})
    world.teach("de", {f"p{seed}": f"Bild {seed}" for seed in range(PICTURES)})
    return world


def keep_datasets(world: World) -> set[str]:
    """Give each version's expansion the dataset that it would have had; return their ids."""
    named = {str(version.expansion) for version in world.registry.versions.list() if version.number}
    for name in named:
        path = f"expansions/{name}/dataset"
        files.write_bytes(world.root.locate(path), b"{}")
        world.root.commit(path)
        with world.registry.begin() as session:
            facts = {"dataset_path": path, "dataset_sha256": "0" * 64, "dataset_bytes": 2}
            session.execute(update(ExpansionRow).where(ExpansionRow.id == name).values(**facts))
    return named


def make_pruner(world: World) -> Pruner:
    return Pruner(world.sets)


def prune(world: World) -> list[Any]:
    """Prune with as few releases in reach as possible."""
    return make_pruner(world).prune(LEAST)[1]


def count_vectors(world: World, version: int) -> int:
    """Count the vectors of captions as a version reads them in the tables."""
    with world.registry.read() as session:
        return session.scalar(select(func.count()).where(CaptionVectorRow.version == version)) or 0


def is_gone(world: World, version: int = 1) -> bool:
    """Whether nothing is left of Welsh."""
    number = world.captions("cy", version)
    folder = world.registry.versions.get(version).folder
    return folder is None and count_vectors(world, version) == 0 and world.state(number) == NOTHING_SEALED


@pytest.fixture
def served(empty: World) -> World:
    """Welsh is out of reach, with each engine in turn."""
    return withdraw_welsh(empty)


def count_places(world: World, index: str) -> int:
    """Count the places of vectors: folders of segments, tables or collections."""
    if index == "faiss":
        return len(world.list_segments())
    if index == "pgvector":
        with world.registry.read() as session:
            return sum(name.startswith("vectors_") for name in inspect(session.connection()).get_table_names())
    client = MilvusClient(index.partition("+")[2])
    return len(client.list_collections())


def test_nothing_is_left_of_what_no_release_in_reach_names_and_no_answer_changes(served: World, index: str) -> None:
    live = served.serve()
    before, listed = ask(live), served.registry.releases.list()
    folder = served.get_folder(1)
    there = count_places(served, index)
    assert folder.exists() and count_vectors(served, 1) == 2 * PICTURES
    planned = make_pruner(served).plan(LEAST)[1]
    assert folder.exists() and count_places(served, index) == there and not is_gone(served), "a plan removes nothing"
    assert prune(served) == planned
    assert [(item.what, item.language) for item in planned] == [("version", "cy"), ("vectors", "cy")]
    assert is_gone(served) and not folder.exists() and count_places(served, index) == there - 1
    assert count_vectors(served, 2) == count_vectors(served, 3) == PICTURES
    assert ask(live) == before == ask(served.serve()) and live.current.degraded == ()
    assert find_captions(live, "br", 2, "skeudenn 3") == [("skeudenn 3", "p3")]
    assert served.registry.releases.list() == listed and prune(served) == []


def test_a_process_that_would_serve_a_pruned_version_does_not_and_makes_nothing_of_it(world: World) -> None:
    """One that was cut off, and falls back to an old release; and an indexer that began before."""
    prune(withdraw_welsh(world))
    with pytest.raises(VersionPruned):
        world.make_live().open(world.registry.releases.get(2))
    assert world.sets.register(world.captions("cy", 1), NOTHING_SEALED, NOTHING_SEALED) is None
    assert is_gone(world)


def test_a_rollback_from_any_release_in_reach_opens_at_once(world: World) -> None:
    live = withdraw_welsh(world).serve()
    prune(world)
    encoded = world.encoder.texts_encoded
    world.registry.releases.restore(4, expected=5, actor="test", reason="")
    assert live.refresh() and set(live.current.views) == {"en", "br"}
    world.registry.releases.restore(5, expected=6, actor="test", reason="")
    assert live.refresh() and find_captions(live, "de", 3, "Bild 2") == [("Bild 2", "p2")]
    assert world.encoder.texts_encoded == encoded


def test_what_a_cancelled_move_has_encoded_goes_also_where_it_had_written_no_set(world: World) -> None:
    world.put_many(PICTURES, en="picture", fr="image")
    world.registry.encodings.record_first(FIRST_ENCODING.backend, FIRST_ENCODING.precision)
    lease = begin_move(world.registry)
    base = world.registry.bases.add("B", "image-b", "text-b", lease).number
    ids = world.gallery.list_ids()
    ours, theirs = world.encoder.image_fingerprint, FIRST_ENCODING.compute_fingerprint("image-b")
    assert len(world.gallery.find_picture_vectors(ids, ours)) == PICTURES
    encoded = {digest(seed): make_picture_vector(draw(seed).rgb) for seed in range(PICTURES)}
    world.gallery.put_picture_vectors(theirs, encoded)
    captions = {number: make_text_vector(base, "any") for number in range(1, 2 * PICTURES + 1)}
    world.gallery.put_caption_vectors(EncoderId(base, FIRST_ENCODING.compute_fingerprint("text-b")), captions)
    assert len(world.gallery.find_picture_vectors(ids, theirs)) == PICTURES
    assert count_vectors(world, base) == 2 * PICTURES, "a base reads captions of many languages"
    world.registry.expansions.cancel(lease.expansion)
    world.registry.expansions.end_as_cancelled(lease)
    for tag in ("br", "de"):
        world.teach(tag, {"p1": tag})
    assert [item.name for item in prune(world)] == [f"version {base}"]
    assert world.gallery.find_picture_vectors(ids, theirs) == {} and count_vectors(world, base) == 0
    assert len(world.gallery.find_picture_vectors(ids, ours)) == PICTURES and prune(world) == []


@pytest.mark.faults
def test_a_pruning_that_is_killed_is_finished_by_the_next_one(served: World, index: str) -> None:
    live = served.serve()
    before, there = ask(live), count_places(served, index)
    for point in ("prune.decided:1", "prune.set:1", "prune.version:1"):
        kill_at(served, "from index.janitor import Pruner; Pruner(world.sets).prune(2)", point, index)
        assert ask(live) == before and not is_gone(served)
        with pytest.raises(VersionPruned):
            served.registry.releases.restore(2, expected=5, actor="test", reason="")
    assert prune(served) != [] and prune(served) == []
    assert is_gone(served) and count_places(served, index) == there - 1
    assert ask(live) == before == ask(served.serve())


@pytest.mark.row("R5")
def test_pruning_while_others_search_teach_and_restore_takes_nothing_that_serves(world: World) -> None:
    live, wrong = withdraw_welsh(world).serve(), list[object]()

    def search(stop: Event) -> None:
        while not stop.is_set():
            snapshot = live.current
            wrong.extend(tag for tag in snapshot.views if not snapshot.search_captions(ANY, [tag], 1))

    def prune_again_and_again(stop: Event) -> None:
        while not stop.wait(0.01):
            with suppress(RegistryUnavailable):  # others write
                prune(world)

    with run_beside(search, prune_again_and_again):
        for turn, tag in enumerate(("fr", "es", "it", "nl", "pt", "sv", "da", "fi")):
            world.teach(tag, {"p1": f"text {turn}"}, shared=bool(turn % 2))
            serving = world.registry.releases.get_serving()
            with suppress(VersionPruned):  # somebody may have pruned it just now
                world.registry.releases.restore(serving.number - 1, expected=serving.number, actor="t", reason="")
            live.refresh()
            serving = world.registry.releases.get_serving()
            assert not world.registry.versions.find_pruned() & {*serving.languages.values()}
            assert live.current.release == serving and live.current.degraded == ()
    assert wrong == [] and len(world.registry.versions.find_pruned()) > 3
    assert ask(live) == ask(world.serve())


# --- files, on one machine and on several -----------------------------------------------------------------------------


def test_other_machines_lose_their_copies_at_their_next_start(tmp_path: Path, store: str) -> None:
    here = withdraw_welsh(World(tmp_path, store=store))
    there = DataRoot(tmp_path / "there", store)
    keep_datasets(here)
    gone, kept = (
        [f"{version.folder}", f"expansions/{version.expansion}/dataset"]
        for version in map(here.registry.versions.get, (1, 2))
    )
    assert all(there.open(name).exists() for name in (*gone, *kept))
    prune(here)
    assert not any(DataRoot(tmp_path / "new", store).open(name).exists() for name in gone)
    assert sweep(VectorSets(Gallery(here.registry, there)), seconds=0) == 2
    assert not any(there.locate(name).exists() for name in gone) and all(there.locate(name).exists() for name in kept)
    assert not there.locate(gone[1]).parent.exists()
    here.close()


def test_while_the_store_is_away_the_decision_stands_and_the_next_call_removes(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = withdraw_welsh(World(tmp_path, store=store))

    with monkeypatch.context() as patch:
        patch.setattr(world.root, "remove_from_store", fail_with(StoreUnavailable()))
        with pytest.raises(StoreUnavailable):
            prune(world)
    assert world.registry.versions.find_pruned() == {1} and world.get_folder(1).exists()
    assert [item.what for item in prune(world)] == ["version", "vectors"]
    assert is_gone(world) and prune(world) == []
    world.close()


def test_a_version_folder_that_nobody_registered_goes_unless_its_expansion_runs(world: World) -> None:
    running, _ = world.add_version("cy")
    left, own, working = (
        world.home / "versions" / name for name in (f"exp_{0:020}", running.expansion, f"{running.expansion}-br")
    )
    for folder in (left, working):
        folder.mkdir(parents=True)
        (folder / "rows").write_bytes(b"x")
    assert sweep(world.sets) == 0
    world.age()
    assert sweep(world.sets) == 1
    assert not left.exists() and own.exists() and working.exists()


def test_datasets_go_with_the_last_version_that_came_from_them(world: World) -> None:
    named = keep_datasets(withdraw_welsh(world))
    items = prune(world)
    assert [(item.what, item.bytes) for item in items if item.what == "dataset"] == [("dataset", 2)]
    left = {path.name for path in (world.home / "expansions").iterdir()}
    assert left == named - {str(world.registry.versions.get(1).expansion)} and prune(world) == []
