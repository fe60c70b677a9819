"""Snapshots: what is served changes at once and as a whole, and never goes back on a put or a delete."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest

from index.swap import SnapshotHolder
from model import storage
from model.errors import (
    IndexFileCorrupt,
    IndexUnavailable,
    LanguageNotFound,
    OutOfMemory,
    PictureNotFound,
    VersionCorrupt,
)
from tests.doubles import picture_vector, text_vector
from tests.index.world import World, content, drawn, flip

ROOT = Path(__file__).parents[2]


def found(holder: SnapshotHolder, seed: int, limit: int = 10) -> list[str]:
    """The pictures nearest to a drawing."""
    return [hit.picture for hit in holder.current.search_pictures(picture_vector(drawn(seed).rgb), limit)]


def captions(holder: SnapshotHolder, tag: str, version: int, text: str, limit: int = 1) -> list[tuple[str, str]]:
    """The captions nearest to a text as a version reads it, with their pictures."""
    hits = holder.current.search_captions(text_vector(version, text), [tag], limit)
    return [(hit.caption, hit.picture) for hit in hits]


def test_nothing_serves_before_the_start(world: World) -> None:
    with pytest.raises(IndexUnavailable):
        _ = world.holder().current


def test_an_empty_gallery_serves_and_finds_nothing(world: World) -> None:
    holder = world.started()
    assert found(holder, 1) == [] and holder.current.search_captions(text_vector(0, "a"), ["en"], 3) == []
    assert holder.current.degraded == () and holder.current.generations.captions.keys() == {"en"}


def test_a_put_picture_is_found_when_the_call_returns_and_gone_when_delete_returns(world: World) -> None:
    holder = world.started()
    put = holder.put_picture("a", content(1), drawn(1), {"en": ["a red ball"], "xx": ["not served"]})
    assert put.created and found(holder, 1) == ["a"]
    assert captions(holder, "en", 0, "a red ball") == [("a red ball", "a")]
    assert holder.current.captions_of("a") == {"en": ["a red ball"]}
    holder.delete_picture("a")
    assert found(holder, 1) == [] and captions(holder, "en", 0, "a red ball") == []
    with pytest.raises(PictureNotFound):
        holder.delete_picture("a")


def test_the_score_of_a_picture_with_itself_is_one(world: World) -> None:
    holder = world.started()
    holder.put_picture("a", content(1), drawn(1))
    (hit,) = holder.current.search_pictures(holder.current.picture_vector("a"), 1)
    assert hit.score == pytest.approx(1.0, abs=1e-6) and hit.rank == 1
    with pytest.raises(PictureNotFound):
        holder.current.picture_vector("b")


def test_pages_and_least_scores_cut_one_ranking(world: World) -> None:
    holder = world.started()
    for seed in range(12):
        holder.put_picture(f"p{seed}", content(seed), drawn(seed))
    vector = picture_vector(drawn(3).rgb)
    whole = holder.current.search_pictures(vector, 12)
    assert [hit.rank for hit in whole] == list(range(1, 13))
    assert holder.current.search_pictures(vector, 5, offset=4) == whole[4:9]
    assert holder.current.search_pictures(vector, 12, min_score=whole[4].score) == whole[:5]


def test_no_picture_and_no_caption_is_encoded_twice(world: World) -> None:
    holder = world.started()
    for id in ("a", "b", "a"):
        holder.put_picture(id, content(1), drawn(1), {"en": ["one", "two"]})
    assert (world.encoder.pictures_encoded, world.encoder.texts_encoded) == (1, 4)
    world.started()
    assert (world.encoder.pictures_encoded, world.encoder.texts_encoded) == (1, 4)


def test_another_process_follows_puts_and_deletes(world: World) -> None:
    ours, theirs = world.started(), world.started()
    ours.put_picture("a", content(1), drawn(1), {"en": ["one"]})
    assert found(theirs, 1) == [] and theirs.refresh() and found(theirs, 1) == ["a"]
    ours.delete_picture("a")
    assert theirs.refresh() and found(theirs, 1) == []
    assert not theirs.refresh()


def test_a_promotion_is_followed_and_encodes_what_is_missing(world: World) -> None:
    holder = world.started()
    holder.put_picture("a", content(1), drawn(1), {"en": ["dog"], "cy": ["ci"]})
    with pytest.raises(LanguageNotFound):
        holder.current.search_captions(text_vector(0, "ci"), ["cy"], 1)
    release = world.teach("cy", {"a": "ci bach"})
    assert holder.refresh() and holder.current.release == release
    assert captions(holder, "cy", 1, "ci bach") == [("ci bach", "a")]
    assert holder.current.captions_of("a") == {"en": ["dog"], "cy": ["ci", "ci bach"]}
    assert holder.current.view("cy").version == holder.current.shared_view.version == 1
    assert holder.current.generations.captions["cy"].startswith("captions-")


def test_captions_are_encoded_at_opening_when_the_generation_was_never_built(world: World) -> None:
    world.put("a", 1, {"cy": ["ci"]})
    _, version = world.lesson("cy", {"a": "ci bach"})
    world.registry.releases.publish(
        expected=1, shared=0, languages={"cy": version.number}, actor="test", reason="", change={}
    )
    holder = world.started()
    assert captions(holder, "cy", 1, "ci bach") == [("ci bach", "a")]


def test_a_rollback_opens_nothing_and_leaves_every_other_answer_bit_for_bit(world: World) -> None:
    for seed in range(30):
        world.put(f"p{seed}", seed, {"en": [f"picture {seed}"]})
    world.teach("cy", {f"p{seed}": f"llun {seed}" for seed in range(30)})
    holder = world.started()
    before = holder.current
    world.teach("de", {f"p{seed}": f"Bild {seed}" for seed in range(30)})
    holder.refresh()
    world.registry.releases.roll_back("de", actor="test", reason="")
    opened = list(world.encoder.opened)
    start = time.monotonic()
    assert holder.refresh() and time.monotonic() - start < 1.0
    assert world.encoder.opened == opened and set(holder.current.views) == {"en", "cy"}
    vector = text_vector(1, "llun 7")
    assert holder.current.search_captions(vector, ["cy", "en"], 30) == before.search_captions(vector, ["cy", "en"], 30)
    assert holder.current.search_pictures(vector, 30) == before.search_pictures(vector, 30)
    assert holder.current.views["cy"] is before.views["cy"]


def test_a_language_taught_twice_goes_back_to_its_first_captions(world: World) -> None:
    world.put("a", 1)
    world.teach("cy", {"a": "un"})
    holder = world.started()
    world.teach("cy", {"a": "dau"})
    holder.refresh()
    assert holder.current.captions_of("a") == {"cy": ["dau", "un"]}
    world.registry.releases.roll_back("cy", actor="test", reason="")
    holder.refresh()
    assert holder.current.captions_of("a") == {"cy": ["un"]}


def test_the_detector_knows_each_language_from_its_captions(world: World) -> None:
    for seed in range(30):
        world.put(f"p{seed}", seed, {"en": [f"the little dog with number {seed}"]})
    world.teach("cy", {f"p{seed}": f"y ci bach gyda rhif {seed}" for seed in range(30)})
    holder = world.started()
    guess = holder.current.detector.guess
    assert guess("ci bach", ["en", "cy"]).language == "cy" and guess("little dog", ["en", "cy"]).language == "en"


def test_the_detector_learns_captions_that_come_later(world: World) -> None:
    world.put("a", 1)
    world.teach("cy", {"a": "y ci bach gwyn"})
    holder = world.started()
    for seed in range(2, 12):
        holder.put_picture(f"p{seed}", content(seed), drawn(seed), {"en": [f"the little white dog {seed}"]})
    holder.refresh()
    assert holder.current.detector.guess("little white dog", ["en", "cy"]).language == "en"


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_damaged_version_is_not_swapped_in_and_the_old_release_goes_on(world: World) -> None:
    holder = world.started()
    holder.put_picture("a", content(1), drawn(1))
    old = holder.current.release
    new = world.teach("cy", {"a": "ci"})
    flip(world.version_folder(1) / "rows.safetensors")
    with pytest.raises(VersionCorrupt):
        holder.open(new)
    holder.refresh()
    assert holder.current.release == old and "version_corrupt" in holder.current.degraded[0]
    assert world.registry.releases.serving() == new  # the alias is nobody's here to move
    holder.put_picture("b", content(2), drawn(2))
    assert found(holder, 2)[0] == "b"


@pytest.mark.parametrize("file", ["vectors.safetensors", "ids.json", "manifest.json"])
def test_a_damaged_generation_is_not_swapped_in(world: World, file: str) -> None:
    holder = world.started()
    holder.put_picture("a", content(1), drawn(1))
    old = holder.current.release
    new = world.teach("cy", {"a": "ci"})
    (folder,) = (world.root / "generations").glob("captions-*")
    flip(folder / file)
    with pytest.raises(IndexFileCorrupt):
        holder.open(new)
    holder.refresh()
    assert holder.current.release == old and "index_file_corrupt" in holder.current.degraded[0]


def test_a_start_falls_back_to_the_newest_release_that_can_be_verified(world: World) -> None:
    world.put("a", 1)
    good = world.teach("cy", {"a": "ci"})
    world.teach("de", {"a": "Hund"})
    world.teach("fr", {"a": "chien"})
    flip(world.version_folder(2) / "rows.safetensors")  # de, which the shared table of fr descends from
    holder = world.started()
    assert holder.current.release == good and set(holder.current.views) == {"en", "cy"}
    assert len(holder.current.degraded) == 3 and f"Release {good.number} serves" in holder.current.degraded[2]


def test_a_start_makes_a_damaged_generation_again_from_the_registry(world: World) -> None:
    world.put("a", 1)
    release = world.teach("cy", {"a": "ci"})
    (folder,) = (world.root / "generations").glob("captions-*")
    (folder / "vectors.safetensors").write_bytes(b"")
    encoded = world.encoder.texts_encoded
    holder = world.started()
    assert holder.current.release == release and captions(holder, "cy", 1, "ci") == [("ci", "a")]
    assert "index_file_corrupt" in holder.current.degraded[0] and world.encoder.texts_encoded == encoded
    holder.close()
    assert world.started().current.degraded == ()


def test_nothing_serves_when_no_release_can_be_verified(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.teach("cy")
    languages = {"en": 0, "cy": 1}
    world.registry.releases.publish(expected=2, shared=1, languages=languages, actor="t", reason="", change={})
    flip(world.version_folder(1) / "rows.safetensors")
    monkeypatch.setattr(world.registry.releases, "list", lambda **_: [])  # no ancestor is left
    holder = world.holder()
    assert not holder.start()
    with pytest.raises(IndexUnavailable):
        _ = holder.current


def test_a_damaged_release_is_served_once_it_is_repaired(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = world.started()
    new = world.teach("cy")
    file = world.version_folder(1) / "rows.safetensors"
    good = file.read_bytes()
    flip(file)
    holder.refresh()
    file.write_bytes(good)
    holder.refresh()
    assert holder.current.release != new  # not verified again and again
    monkeypatch.setattr("index.swap._RETRY_SECONDS", 0.0)
    assert holder.refresh() and holder.current.release == new and holder.current.degraded == ()


def test_no_room_for_a_second_snapshot_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = world.started()
    old = holder.current.release
    new = world.teach("cy")

    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(world.encoder, "open", full)
    with pytest.raises(OutOfMemory):
        holder.open(new)
    holder.refresh()
    assert holder.current.release == old and "out_of_memory" in holder.current.degraded[0]


def test_verify_names_what_differs(world: World) -> None:
    world.put("a", 1)
    world.teach("cy", {"a": "ci"})
    holder = world.started()
    assert holder.verify() == []
    flip(world.version_folder(1) / "rows.safetensors")
    (folder,) = (world.root / "generations").glob("captions-*")
    flip(folder / "ids.json")
    assert [problem.split()[0] for problem in holder.verify()] == ["Version", "Generation"]


# --- compaction -------------------------------------------------------------------------------------------------------


def test_compaction_changes_no_answer(world: World) -> None:
    holder = world.started()
    for seed in range(40):
        holder.put_picture(f"p{seed}", content(seed), drawn(seed), {"en": [f"picture {seed}", f"drawing {seed}"]})
    assert holder.compact(at=10) == 2
    for seed in range(0, 40, 3):
        holder.delete_picture(f"p{seed}")
    holder.put_picture("p1", content(77), drawn(77))
    vectors = [picture_vector(drawn(seed).rgb) for seed in range(10)]
    before = [holder.current.search_pictures(vector, 40) for vector in vectors]
    texts = holder.current.search_captions(text_vector(0, "picture 5"), ["en"], 99)
    assert holder.compact(at=0) == 2
    assert holder.current.pictures.overlay_size == 0
    assert [holder.current.search_pictures(vector, 40) for vector in vectors] == before
    assert holder.current.search_captions(text_vector(0, "picture 5"), ["en"], 99) == texts
    again = world.started()
    assert [again.current.search_pictures(vector, 40) for vector in vectors] == before
    assert again.current.generations == holder.current.generations


def test_compaction_keeps_two_generations_and_what_was_put_meanwhile(world: World) -> None:
    holder = world.started()
    for round in range(4):
        holder.put_picture(f"p{round}", content(round), drawn(round))
        holder.compact(at=0)
    assert len(list((world.root / "generations").glob("pictures-*"))) == 2
    assert world.started().current.pictures.count == 4


def test_an_overlay_that_grew_is_folded_in_the_background(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.swap.COMPACT_AT", 8)
    holder = world.started()
    for seed in range(20):
        holder.put_picture(f"p{seed}", content(seed), drawn(seed))
    holder.close()
    assert holder.current.pictures.generation.startswith("pictures-") and holder.current.pictures.count == 20
    assert world.started().current.pictures.count == 20


def test_a_compaction_that_fails_leaves_the_overlay_serving(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.swap.COMPACT_AT", 4)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "require_free", full)
    holder, fingerprint = world.started(), world.encoder.image_fingerprint
    for seed in range(8):
        world.gallery.put(f"p{seed}", content(seed), 32, 32, None, picture_vector(drawn(seed).rgb), fingerprint)
    holder.refresh()
    holder.close()
    assert holder.current.pictures.count == holder.current.pictures.overlay_size == 8
    assert not list((world.root / "generations").glob("*"))


# --- kills ------------------------------------------------------------------------------------------------------------

KILLED = """
import sys
from pathlib import Path
from tests.index.world import World, content, drawn
World(Path(sys.argv[1])).started().put_picture("b", content(2), drawn(2), {"en": ["two"]})
"""


@pytest.mark.faults
@pytest.mark.parametrize(("point", "kept"), [("storage.renamed:2", False), ("picture.committed:1", True)])
def test_a_picture_whose_put_was_killed_is_there_whole_or_not_at_all(world: World, point: str, kept: bool) -> None:
    """I9: before and after the commit."""
    world.put("a", 1)
    environment = {**os.environ, "FAULT_POINT": point}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(world.root)], cwd=ROOT, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    holder = world.started()
    holder.close()  # the sweep is done
    assert found(holder, 2) == (["b", "a"] if kept else ["a"])
    assert holder.current.captions_of("b") == ({"en": ["two"]} if kept else {})
    assert world.gallery.content_path(content(2)).exists() == kept


# --- at the same time -------------------------------------------------------------------------------------------------


def test_a_picture_deleted_during_a_swap_is_in_neither_snapshot(world: World) -> None:
    """I11: between opening the new snapshot and publishing it."""
    holder = world.started()
    for seed in range(5):
        holder.put_picture(f"p{seed}", content(seed), drawn(seed), {"cy": [f"llun {seed}"]})
    candidate = holder.open(world.teach("cy", {"p1": "gair"}))
    holder.delete_picture("p1")
    holder.put_picture("new", content(9), drawn(9), {"en": ["new"]})
    assert "p1" in [hit.picture for hit in candidate.search_pictures(picture_vector(drawn(1).rgb), 9)]  # the danger
    assert "p1" not in found(holder, 1)
    holder.publish(candidate)
    assert "p1" not in found(holder, 1) and found(holder, 9)[0] == "new"
    assert holder.current.captions_of("p1") == {} and ("gair", "p1") not in captions(holder, "cy", 1, "gair", 99)


def test_no_answer_mixes_two_releases(world: World) -> None:
    """I7, short: a text's vector names the version that read it, a caption's vector the version that encoded it."""
    for seed in range(20):
        world.put(f"p{seed}", seed, {"cy": [f"llun {seed}"]})
    for _ in range(2):
        world.teach("cy")
    holder = world.started()
    releases = [world.registry.releases.get(number) for number in (2, 3)]
    stop, mixed, searches = Event(), 0, [0] * 4

    def search(place: int) -> None:
        nonlocal mixed
        while not stop.is_set():
            snapshot = holder.current
            view = snapshot.view("cy")
            vector = world.encoder.texts([(view, "llun 7")]).vectors[0]
            (hit,) = snapshot.search_captions(vector, ["cy"], 1)
            right = hit.score > 0.999 and view.version == snapshot.release.languages["cy"]
            mixed += not right
            searches[place] += 1

    threads = [Thread(target=search, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    try:
        for swap in range(30):
            holder.publish(holder.open(releases[swap % 2]))
            time.sleep(0.02)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert mixed == 0 and min(searches) >= 500


def test_taking_view_and_captions_from_two_snapshots_would_mix(world: World) -> None:
    """The precondition of the test above: another version's vector of the same text is far away."""
    world.put("a", 1, {"cy": ["ci"]})
    world.teach("cy")
    world.teach("cy")
    (hit,) = world.started().current.search_captions(text_vector(1, "ci"), ["cy"], 1)
    assert hit.score < 0.9


def test_puts_of_many_threads_are_all_found(world: World) -> None:
    holder = world.started()

    def put(start: int) -> None:
        for seed in range(start, start + 8):
            holder.put_picture(f"p{seed}", content(seed), drawn(seed), {"en": [f"text {seed}"]})

    threads = [Thread(target=put, args=(start,)) for start in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert holder.current.pictures.count == holder.current.captions["en"].count == 24
    matrix = np.array([holder.current.pictures.vector(id) for id in world.gallery.ids()])
    assert matrix.shape == (24, world.encoder.dimension)
