"""Snapshots: what is served changes at once and as a whole; which version encodes a query."""

import time
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from threading import Event
from typing import Any

import pytest

from index import ivf, segment
from index.records import Patch
from index.segment import Segment
from index.snapshot import Snapshot
from model.lexicon import Detector
from store.errors import LanguageNotFound, LanguageTagInvalid, PageTooDeep, PictureNotFound
from store.releases import Release
from tests.doubles import make_picture_vector, make_text_vector, make_view
from tests.index.world import (
    World,
    draw,
    find_captions,
    find_pictures,
    flip,
    list_captions,
    put,
    put_picture,
    run_beside,
    wait_until,
)
from tests.registries import publish_release
from tests.tiny import make_detector

CAPTIONS = {
    "en": ["a red apple on the table", "two dogs are playing in the snow", "the bus drives through the city"],
    "cy": ["afal coch ar y bwrdd", "mae dau gi yn chwarae yn yr eira", "mae'r bws yn gyrru drwy'r ddinas"],
}
DETECTOR = make_detector(CAPTIONS)


def test_a_page_goes_on_behind_the_last_one_whatever_was_put_or_deleted(world: World) -> None:
    live = world.serve()
    for seed in range(12):
        put_picture(live, f"p{seed}", seed)
    vector = make_picture_vector(draw(3).rgb)
    names = [hit.picture for hit in live.current.search_pictures(vector, 12)]
    last = live.current.search_pictures(vector, 4)[-1]

    def list_behind() -> list[tuple[str, int]]:
        return [(hit.picture, hit.rank) for hit in live.current.search_pictures(vector, 3, last)]

    assert list_behind() == [(names[4], 5), (names[5], 6), (names[6], 7)]
    live.delete_picture(names[1])
    assert list_behind() == [(names[4], 4), (names[5], 5), (names[6], 6)]
    live.delete_picture(names[3])  # the last one itself
    assert list_behind() == [(names[4], 3), (names[5], 4), (names[6], 5)]
    for twin in range(6):  # identical to the query: all rank first
        put_picture(live, f"twin{twin}", 3)
    assert list_behind() == [(names[4], 9), (names[5], 10), (names[6], 11)]


def test_the_pages_of_an_index_are_mapped_when_it_is_served(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ivf, "SCAN_LIMIT", 15)
    live = put(world.serve(), *range(20))
    world.seal(live)
    for served in (live, world.serve()):  # sealed meanwhile, and from the start
        (part,) = served.current.picture_set.parts
        assert isinstance(part, Segment) and not part.exact
        lists = part.lists
        wait_until(lambda: lists.is_mapped)  # noqa: B023 - called at once


def test_pictures_put_before_a_page_do_not_make_its_search_deeper_than_allowed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = world.serve()
    for seed in range(6):
        put_picture(live, f"p{seed}", seed)
    vector = make_picture_vector(draw(3).rgb)
    last = live.current.search_pictures(vector, 2)[-1]
    monkeypatch.setattr("index.ranking.DEEPEST_RANK", 5)
    assert len(live.current.search_pictures(vector, 3, last)) == 3
    for twin in range(4):
        put_picture(live, f"twin{twin}", 3)
    with pytest.raises(PageTooDeep, match="rank 5"):
        live.current.search_pictures(vector, 3, last)


def test_a_promotion_is_followed_and_encodes_what_is_missing(world: World) -> None:
    live = world.serve()
    put_picture(live, "a", 1, {"en": ["dog"], "cy": ["ci"]})
    with pytest.raises(LanguageNotFound):
        live.current.search_captions(make_text_vector(0, "ci"), ["cy"], 1)
    release = world.teach("cy", {"a": "ci bach"})
    assert live.refresh() and live.current.release == release
    assert find_captions(live, "cy", 1, "ci bach") == [("ci bach", "a")]
    assert list_captions(live, "a") == {"en": ["dog"], "cy": ["ci", "ci bach"]}
    assert live.current.views["cy"].version == live.current.shared_view.version == 1
    assert live.current.captions["cy"].tail.count == 0 and live.current.captions["cy"].state > 0


def test_a_segment_that_is_purged_while_it_is_verified_is_not_damaged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = put(world.serve(), *range(5))
    world.seal(live)
    live.delete_picture("p1")
    before = world.list_segments("pictures")

    def purge_first(*given: Any) -> bool:
        monkeypatch.undo()
        world.make_indexer().purge()
        return segment.is_intact(*given)

    monkeypatch.setattr(segment, "is_intact", purge_first)
    assert live.verify() == [] and world.list_segments("pictures") != before


def test_a_release_that_is_opened_while_the_process_ends_is_not_called_damaged(world: World) -> None:
    """The thread that follows the registry cannot be stopped, and may end after everything was closed."""
    world.put("a", 1)
    live = world.serve()
    world.teach("cy", {"a": "ci"})
    live.close()
    live.refresh()
    assert set(live.current.views) == {"en", "cy"} and live.current.degraded == ()


@pytest.mark.row("I5", "R6")
def test_a_language_that_is_gone_stays_so_where_the_release_without_it_cannot_be_opened(world: World) -> None:
    world.put("a", 1)
    world.teach("cy", {"a": "ci"})
    live = world.serve()
    last = world.teach("de", {"a": "Hund"})
    publish_release(world.registry, expected=last.number, shared=2, languages={"en": 0, "de": 2})
    flip(world.get_folder(2) / "rows.safetensors")
    live.refresh()
    for each in (live, world.serve()):
        assert each.current.release.number == 2 and each.current.degraded
        assert set(each.current.views) == set(each.current.captions) == {"en"}
        with pytest.raises(LanguageNotFound):
            find_captions(each, "cy", 1, "ci")


@pytest.mark.row("I11")
def test_a_picture_deleted_during_a_swap_is_in_neither_snapshot(world: World) -> None:
    """Between opening the new snapshot and publishing it."""
    live = world.serve()
    for seed in range(5):
        put_picture(live, f"p{seed}", seed, {"cy": [f"llun {seed}"]})
    candidate = live.open(world.teach("cy", {"p1": "gair"}))
    live.delete_picture("p1")
    put_picture(live, "new", 9, {"en": ["new"]})
    stale = candidate.search_pictures(make_picture_vector(draw(1).rgb), 9)
    assert "p1" in [hit.picture for hit in stale]  # so that it could come back
    assert "p1" not in find_pictures(live, 1)
    live.publish(candidate)
    assert "p1" not in find_pictures(live, 1) and find_pictures(live, 9)[0] == "new"
    assert list_captions(live, "p1") == {} and ("gair", "p1") not in find_captions(live, "cy", 1, "gair", 99)


def test_no_search_finds_what_its_process_has_said_is_gone(world: World) -> None:
    one, other = world.serve(), world.serve()
    put(one, 1, 2)
    other.refresh()
    one.delete_picture("p1")
    with pytest.raises(PictureNotFound):
        other.delete_picture("p1")
    assert find_pictures(other, 1) == ["p2"]
    one.delete_picture("p2")
    with pytest.raises(PictureNotFound):
        other.patch_picture(Patch("p2", {"captions": {"en": ["a cat"]}}))
    assert find_pictures(other, 1) == []


@pytest.mark.row("I7")
def test_no_answer_mixes_two_releases(world: World) -> None:
    """A vector depends on the version that encoded it, so a mix of two releases has a low score."""
    world.put_many(20, cy="llun")
    for _ in range(2):
        world.teach("cy")
    live = world.serve()
    releases = [world.registry.releases.get(number) for number in (2, 3)]
    mixed, searches = 0, [0] * 4

    def search(thread: int, stop: Event) -> None:
        nonlocal mixed
        while not stop.is_set():
            snapshot = live.current
            view = snapshot.views["cy"]
            vector = world.encoder.encode_texts([(view, "llun 7")]).vectors[0]
            (hit,) = snapshot.search_captions(vector, ["cy"], 1)
            right = hit.score > 0.999 and view.version == snapshot.release.languages["cy"]
            mixed += not right
            searches[thread] += 1

    with run_beside(*(partial(search, number) for number in range(4))):
        for swap in range(1_500):  # at least 30 s; a slow machine may need more than 30 swaps
            if swap >= 30 and min(searches) >= 500:
                break
            live.publish(live.open(releases[swap % 2]))
            time.sleep(0.02)
    assert mixed == 0 and min(searches) >= 500


def test_a_gallery_is_encoded_again_a_few_pictures_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a change of the image tower. 500 decoded pictures at once would take 1.5 GB."""
    world.put_many(40)
    sizes: list[int] = []
    pictures = world.encoder.encode_pictures

    def note_images(images: Any, batch: int = 64) -> Any:
        sizes.append(len(images))
        return pictures(images, batch)

    monkeypatch.setattr(world.encoder, "encode_pictures", note_images)
    monkeypatch.setattr(world.encoder, "image_fingerprint", "another tower")
    assert world.serve().current.picture_set.count == 40
    assert sum(sizes) == 40 and max(sizes) <= 16


def snapshot(languages: Collection[str], detector: Detector = DETECTOR) -> Snapshot:
    """Make a release of these languages with no pictures or captions."""
    views = {tag: make_view(version, tag) for version, tag in enumerate(languages)}
    release = Release(1, 0, {tag: view.version for tag, view in views.items()}, datetime.now(UTC), "", "", {})
    return Snapshot(release, views, make_view(9), {}, detector)


def route(requested: str, text: str, languages: Collection[str], detector: Detector = DETECTOR) -> Any:
    return snapshot(languages, detector).route(requested, text)


def test_a_base_of_many_languages_reads_a_language_that_was_not_taught() -> None:
    many = replace(snapshot(CAPTIONS), built_in=("en", "de"))
    assert (many.require_readable("en-GB"), many.route("en-GB", "a cat").used) == (
        "en-GB",
        "en",
    )  # captions of a kind stay its own
    choice = many.route("FR", "une pomme rouge")
    assert (choice.used, choice.source, choice.view.version) == ("fr", "requested", 0)
    assert choice.warnings == ("language_not_taught",)
    assert many.route("cy", "afal coch").warnings == ()
    assert many.route("auto", "తెలుగు").warnings == (), "the shared table may well read it"
    assert many.require_readable("fr") == "fr"
    with pytest.raises(LanguageTagInvalid):
        many.route("french", "une pomme rouge")


@pytest.mark.parametrize("text", ["12345", "తెలుగు", "zzz", "xylophon quizzed"])
def test_where_no_language_is_claimed_there_is_no_confidence_in_one(text: str) -> None:
    choice = route("auto", text, CAPTIONS)
    assert (choice.source, choice.confidence) == ("shared", 0.0)


def test_a_tie_gives_a_warning() -> None:
    twins = make_detector({"en": CAPTIONS["en"], "sco": CAPTIONS["en"]})
    assert route("auto", "the dogs", ["en", "sco"], twins).warnings == ("detection_tie",)
