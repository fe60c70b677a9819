"""Captions in languages that nobody taught, on a base that reads many: found as they come, sealed, and given up."""

from dataclasses import asdict
from threading import Event, Thread
from typing import Any

import pytest
from sqlalchemy import insert

from index import loader
from index.captions import EncoderId
from index.live import LiveIndex
from index.rows import MOST_LANGUAGES
from store.errors import EngineMismatch
from store.leases import SEALING
from store.tables import VectorSetRow
from tests.index.world import Clock, World, fail_with, find_captions, list_captions, put_picture, wait_until
from tests.patience import PATIENCE, bound_time

FEW = 70  # more captions than are encoded while a write waits


@pytest.fixture
def many(world: World) -> World:
    """On a base of many languages."""
    world.encoder.languages = ("en", "mul")
    return world


def note_looks(world: World, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, EncoderId | None]]:
    """Note each count of captions from now on: up to how many, and not read by what."""
    looks, count = list[tuple[int, EncoderId | None]](), world.gallery.count_own_captions

    def note_look(language: str, most: int, unread: EncoderId | None = None) -> int:
        looks.append((most, unread))
        return count(language, most, unread)

    monkeypatch.setattr(world.gallery, "count_own_captions", note_look)
    return looks


def find_french(live: LiveIndex, text: str, limit: int = 1, version: int = 0) -> list[tuple[str, str]]:
    return find_captions(live, "fr", version, text, limit)


def test_a_caption_in_a_language_that_is_not_taught_is_found_when_its_put_returns(many: World) -> None:
    live, other = many.serve(), many.serve()
    put_picture(live, "a", 1, {"en": ["an apple"], "fr": ["une pomme"]})
    put_picture(live, "b", 2, {"fr": ["un chien", "un chat"]})
    assert find_french(live, "un chat") == [("un chat", "b")]
    assert list_captions(live, "a") == {"en": ["an apple"], "fr": ["une pomme"]}
    assert set(live.current.views) == {"en"}, "it is not taught by this"
    other.refresh()
    assert find_french(other, "une pomme") == [("une pomme", "a")]
    live.delete_picture("b")
    assert find_french(live, "un chat", 9) == [("une pomme", "a")]
    assert find_french(many.serve(), "un chat", 9) == [("une pomme", "a")]


def test_on_an_english_base_it_waits(world: World) -> None:
    live = world.serve()
    put_picture(live, "a", 1, {"fr": ["une pomme"]})
    assert live.current.find_reader("fr") is None and set(live.current.captions) == {"en"}
    assert world.encoder.texts_encoded == 0 and list_captions(live, "a") == {}


def test_the_worker_seals_it_without_a_model_and_a_restart_encodes_nothing(many: World) -> None:
    live = many.serve()
    for seed in range(5):
        put_picture(live, f"p{seed}", seed, {"fr": [f"image {seed}"]})
    before = find_french(live, "image 3", 9)
    assert many.seal() > 0, "a set that a release does not name is due all the same"
    state = many.state(many.captions("fr", 0))
    assert sum(written.rows for written in state.segments) == 5 and state.upto_change == many.gallery.read_last_change()
    encoded = many.encoder.texts_encoded
    live.refresh()
    assert find_french(live, "image 3", 9) == before == find_french(many.serve(), "image 3", 9)
    assert many.encoder.texts_encoded == encoded and live.verify() == []


def test_a_taught_version_takes_the_captions_over_and_a_rollback_gives_them_back(many: World) -> None:
    live = many.serve()
    put_picture(live, "a", 1, {"en": ["an apple"], "fr": ["une pomme"]})
    english = find_captions(live, "en", 0, "an apple", 9)
    many.teach("fr", {"a": "la pomme"})
    live.refresh()
    assert find_french(live, "la pomme", 9, version=1) == [("la pomme", "a"), ("une pomme", "a")]
    put_picture(live, "b", 2, {"fr": ["un chien"]})  # read by the version that serves, not by the base
    fingerprint = many.encoder.text_fingerprint
    ids = {caption.text: caption.id for caption in many.gallery.find_captions(["b"], "fr")}
    assert not many.gallery.find_caption_vectors([*ids.values()], EncoderId(0, fingerprint))
    many.registry.releases.roll_back("fr", actor="test", reason="")
    live.refresh()
    assert find_french(live, "un chien", 9)[0] == ("un chien", "b"), "what came meanwhile is read by the base then"
    assert list_captions(live, "a") == {"en": ["an apple"], "fr": ["une pomme"]}, "its expansion has none here"
    assert find_captions(live, "en", 0, "an apple", 9) == english
    many.registry.releases.restore(2, expected=3, actor="test", reason="")
    live.refresh()
    assert len(find_french(live, "la pomme", 9, version=1)) == 3


def test_a_base_shows_no_expansions_captions_of_a_language_that_is_taught_now(many: World) -> None:
    many.teach("fr", {})
    lease, _ = many.add_version("br")
    base = many.registry.bases.add("B", "image-b", "text-b", lease).number
    visible = many.registry.releases.find_visible
    assert base > 1 and visible("fr", 1), "captions go on from one base to the next"
    assert visible("fr", 0) == visible("fr", base) == frozenset()


def test_while_it_is_taught_what_the_base_read_before_keeps_no_deletion_in_the_feed(many: World) -> None:
    live = many.serve()
    put_picture(live, "a", 1, {"fr": ["une pomme"]})
    for _ in range(2):  # the release before is in use as well
        many.teach("fr", {})
    live.refresh()
    put_picture(live, "b", 2, {"fr": ["un chien"]})
    assert many.captions("fr", 0) not in many.make_indexer(seal_at=1).list_due()
    many.seal()
    assert many.captions("fr", 2) not in many.make_indexer(seal_at=1).list_due()


def test_many_that_no_base_has_read_are_encoded_in_the_background(many: World) -> None:
    for seed in range(FEW):
        many.put(f"p{seed}", seed, {"fr": [f"image {seed}"]})
    live = many.serve()
    assert "fr" not in live.current.captions, "the start does not wait for them"
    wait_until(lambda: live.refresh() or "fr" in live.current.captions)
    assert find_french(live, "image 7") == [("image 7", "p7")] and live.current.captions["fr"].count == FEW
    assert many.encoder.texts_encoded == FEW


def test_those_that_cannot_be_encoded_keep_nothing_else_from_serving(
    many: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(FEW):
        many.put(f"p{seed}", seed, {"fr": [f"image {seed}"]})

    live, encode = many.make_live(), many.encoder.encode_texts
    with monkeypatch.context() as patched:
        patched.setattr(many.encoder, "encode_texts", fail_with(MemoryError()))
        assert live.start()
        live.close()  # waits for it
    assert set(live.current.captions) == {"en"} and many.encoder.encode_texts == encode
    again = many.serve()
    wait_until(lambda: again.refresh() or "fr" in again.current.captions)


def test_one_process_fills_a_set_and_meanwhile_no_write_looks_at_its_captions(
    many: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(FEW):
        many.put(f"p{seed}", seed, {"fr": [f"image {seed}"]})
    assert many.registry.duties.take(SEALING, "another process", 600)
    live = many.serve(clock=(clock := Clock()))
    looks = note_looks(many, monkeypatch)
    for seed in range(FEW, FEW + 5):
        put_picture(live, f"p{seed}", seed, {"en": ["a"], "fr": [f"image {seed}"]})
        live.refresh()
    assert looks == [] and set(live.current.captions) == {"en"}
    many.registry.duties.give_back(SEALING, "another process")
    clock.now += 61
    wait_until(lambda: live.refresh() or "fr" in live.current.captions)
    assert live.current.captions["fr"].count == FEW + 5
    assert many.encoder.texts_encoded == FEW + 10
    assert find_french(live, f"image {FEW + 4}") == [(f"image {FEW + 4}", f"p{FEW + 4}")]
    assert len(set(looks)) == 1  # one set; the refresh may have looked again before it was full


def test_a_set_that_cannot_be_opened_lets_no_write_fail(many: World) -> None:
    live, identity = many.serve(), many.captions("fr", 0)
    elsewhere = [{"id": "pgvector-1", "manifest_sha256": "", "rows": 1}]
    row = insert(VectorSetRow).values(**asdict(identity), upto_change=0, segments=elsewhere, dead=b"")
    with many.registry.begin() as session:
        session.execute(row)
    with pytest.raises(EngineMismatch):
        many.state(identity)
    put_picture(live, "a", 1, {"en": ["an apple"], "fr": ["une pomme"]})
    assert find_captions(live, "en", 0, "an apple") == [("an apple", "a")]
    live.refresh()
    assert set(live.current.captions) == {"en"}


def test_of_too_many_languages_those_that_came_first_are_read(many: World) -> None:
    live = many.serve()
    put_picture(live, "a", 1, {"zu": ["i-apula"], "sw": ["tufaha"]})
    many.put("b", 2, {f"aa-x-{number:04d}": ["y"] for number in range(MOST_LANGUAGES)})
    languages = many.gallery.list_languages()
    assert {"sw", "zu"} <= {*languages} and len(languages) == MOST_LANGUAGES and languages == sorted(languages)
    assert find_captions(many.serve(), "sw", 0, "tufaha", 1) == [("tufaha", "a")]
    live.delete_picture("a")
    assert many.gallery.list_languages() == [f"aa-x-{number:04d}" for number in range(MOST_LANGUAGES)]


def test_a_start_and_a_write_make_few_sets_and_leave_the_others_to_the_background(many: World) -> None:
    clock, tags = Clock(), [f"en-x-{number}" for number in range(9)]
    for seed in range(20):
        many.put(f"p{seed}", seed, {tag: [f"{tag} {seed}"] for tag in tags[:5]})
    assert many.registry.duties.take(SEALING, "another process", 600)  # nothing is made in the background
    live = many.serve(clock=clock)
    assert set(live.current.captions) == {"en", *tags[:3]} and many.encoder.texts_encoded == 60
    put_picture(live, "a", 99, {"fr": ["y"], "de": ["y"], "cy": ["y"], "es": ["y"], "it": ["y"]})
    assert set(live.current.captions) == {"en", *tags[:3], "cy", "de", "es", "fr"} - {"it"}
    many.registry.duties.give_back(SEALING, "another process")
    clock.now += 61
    wait_until(lambda: live.refresh() or {*tags[:5], "it"} <= {*live.current.captions})
    for again in (many.serve(), many.serve()):
        assert set(again.current.captions) == {*live.current.captions}, "what is sealed counts for nothing"


def test_what_cannot_be_filled_is_not_waited_for_while_another_process_seals(
    many: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = many.serve(seal_first=2, clock=(clock := Clock()))
    for seed in range(5):
        many.put(f"p{seed}", seed, {"fr": [f"image {seed}"]})
    assert many.registry.duties.take(SEALING, "another process", 600)

    with monkeypatch.context() as patched:
        patched.setattr(loader, "PATIENCE", 20.0)
        patched.setattr(many.encoder, "encode_texts", fail_with(MemoryError()))
        with bound_time(10):
            live.refresh()
    assert set(live.current.captions) == {"en"} and live.current.picture_set.count == 5
    many.registry.duties.give_back(SEALING, "another process")
    clock.now += 61
    live.refresh()
    assert find_french(live, "image 3") == [("image 3", "p3")]


def test_closing_encodes_nothing_that_waits(many: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(FEW):
        many.put(f"p{seed}", seed, {tag: [f"image {seed}"] for tag in ("cy", "fr", "sw")})
    begun, closing, encode = Event(), Event(), many.encoder.encode_texts

    def encode_slowly(*given: Any) -> Any:
        begun.set()
        closing.wait(PATIENCE)
        return encode(*given)

    monkeypatch.setattr(many.encoder, "encode_texts", encode_slowly)
    live = many.serve()
    assert begun.wait(PATIENCE)
    closer = Thread(target=live.close)
    closer.start()
    closer.join(0.2)
    closing.set()
    closer.join()
    assert many.encoder.texts_encoded == FEW


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_both_databases_go_from_one_language_to_the_next(world: World) -> None:
    world.put("a", 1, {tag: [tag] for tag in ("sw", "cy", "he")})
    assert world.gallery.list_languages() == ["cy", "he", "sw"]
    world.put("b", 2, {"aa": ["aa"]})
    assert world.gallery.list_languages(3) == ["cy", "he", "sw"], "of too many, those that came first"
