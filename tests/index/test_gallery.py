"""The gallery: puts and deletes are atomic and in the feed, unchanged captions keep their ids, pages are stable."""

from dataclasses import asdict, replace
from typing import Any, get_args

import pytest
from sqlalchemy import delete, event
from sqlalchemy.exc import IntegrityError

from index.bulk import BulkChange, change_pictures
from index.captions import EncoderId
from index.gallery import NewPicture
from index.janitor import sweep
from index.records import Order, RecordInput
from index.selection import Criteria, Selection
from store.errors import PictureNotFound
from store.tables import PictureVectorRow
from tests.doubles import Vectors
from tests.index.conftest import unit
from tests.index.world import World, digest, draw, find_pictures, make_picture, put_picture

pytestmark = pytest.mark.parametrize("database", ["sqlite", "postgresql"])
FIRST = EncoderId(0, "tower")


def read_captions(world: World, id: str) -> dict[str, list[str]]:
    return world.gallery.group_captions([id])[id]


def halve(vector: Vectors) -> bytes:
    """Round a vector as the tables do, to float32 bytes."""
    return vector.astype("<f2").astype("<f4").tobytes()


def test_a_caption_that_stays_keeps_its_id_and_vector(world: World) -> None:
    world.put("a", 1, {"en": ["red", "round"]})
    (old,) = [caption for caption in world.gallery.find_captions(["a"]) if caption.text == "round"]
    world.gallery.put_caption_vectors(FIRST, {old.id: unit(1)[0]})
    world.put("a", 1, {"en": ["round"]})
    assert world.gallery.find_captions(["a"]) == [old]
    assert world.gallery.find_caption_vectors([old.id], FIRST)[old.id].tobytes() == halve(unit(1)[0])


def test_deleting_the_last_of_a_content_leaves_no_rows_and_after_a_day_no_files(world: World) -> None:
    world.put("a", 1, {"en": ["red"]})
    ids = [caption.id for caption in world.gallery.find_captions(["a"])]
    world.gallery.put_caption_vectors(FIRST, {ids[0]: unit(1)[0]})
    world.gallery.delete("a")
    assert world.gallery.list_ids() == [] and world.gallery.find_captions(["a"]) == []
    assert world.gallery.find_caption_vectors(ids, FIRST) == {}

    with pytest.raises(PictureNotFound):
        world.gallery.delete("a")
    sweep(world.sets)
    assert world.gallery.files.read(digest(1))
    world.age(25)
    sweep(world.sets)
    assert not world.gallery.files.locate(digest(1)).exists()
    assert not world.gallery.files.locate(digest(1), thumbnail=True).exists() and world.gallery.list_discarded(0) == []
    assert world.gallery.find_vector(digest(1), world.encoder.image_fingerprint) is None


def test_other_content_under_the_same_id_replaces_it(world: World) -> None:
    world.put("a", 1, {"en": ["red"]})
    put = world.put("a", 2)
    assert not put.created and put.picture.content_sha256 == digest(2) and read_captions(world, "a") == {"en": ["red"]}
    assert world.gallery.list_discarded(0) == [digest(1)] and world.gallery.files.read(digest(1))
    world.age(25)
    sweep(world.sets)
    assert not world.gallery.files.locate(digest(1)).exists() and world.gallery.files.read(digest(2))


@pytest.mark.row("F10")
def test_a_content_that_is_put_again_stays_and_is_kept_for_a_day_from_its_last_end(world: World) -> None:
    world.put("a", 1)
    world.gallery.delete("a")
    world.age(25)
    world.put("b", 1)
    sweep(world.sets)
    assert world.gallery.files.read(digest(1)) and world.gallery.list_discarded(0) == []
    world.put("b", 2)
    world.gallery.delete("b")
    sweep(world.sets)
    assert world.gallery.files.read(digest(1)) and world.gallery.files.read(digest(2))


@pytest.mark.row("F10")
def test_a_put_that_fails_leaves_nothing_and_removes_no_content_that_was_discarded_just_now(world: World) -> None:
    broken = NewPicture("b", digest(1), None, 32, {}, unit(1)[0], draw(1))  # type: ignore[arg-type]
    with pytest.raises(IntegrityError):
        world.gallery.put([broken], "f")
    assert world.gallery.list_ids() == [] and world.gallery.read_last_change() == 0
    assert not world.gallery.files.locate(digest(1)).exists()
    world.put("a", 1)
    world.gallery.delete("a")
    with pytest.raises(IntegrityError):
        world.gallery.put([broken], "f")
    assert world.gallery.files.read(digest(1))


def test_a_picture_whose_file_and_vector_were_lost_is_found_again_once_it_is_put_again(world: World) -> None:
    world.put("a", 1)
    world.put("same", 1)
    world.gallery.files.locate(digest(1)).unlink()
    with world.registry.begin() as session:
        session.execute(delete(PictureVectorRow))
    live = world.serve()
    assert find_pictures(live, 1) == []
    assert put_picture(live, "a", 1).outcome == "kept" and find_pictures(live, 1) == ["a", "same"]
    change = world.gallery.read_last_change()
    assert put_picture(live, "a", 1).outcome == "kept" and world.gallery.read_last_change() == change


def test_every_change_is_in_the_feed_once_with_its_last_number(world: World) -> None:
    world.put("a", 1)
    world.put("b", 2)
    start = world.gallery.read_last_change()
    world.put("c", 3)
    world.gallery.delete("a")
    world.put("c", 3, {"en": ["new"]})
    assert world.gallery.list_changes(start) == {"a": start + 2, "c": start + 3}
    assert world.gallery.list_changes(world.gallery.read_last_change()) == {}


def test_captions_of_an_expansion_are_added_once_and_only_to_pictures_that_exist(world: World) -> None:
    world.put("a", 1, {"cy": ["coch"]})
    rows = [("a", "coch"), ("a", "crwn"), ("gone", "glas"), ("a", "crwn")]
    assert world.gallery.add_captions("e1", "cy", rows) == 2
    assert world.gallery.add_captions("e1", "cy", rows) == 0
    grouped = world.gallery.group_captions(["a", "gone"], ["cy"])
    assert grouped == {"a": {"cy": ["coch", "coch", "crwn"]}, "gone": {}}


@pytest.mark.parametrize("order", get_args(Order))
@pytest.mark.parametrize("collection", [None, "museum"])
def test_a_page_is_read_from_an_index_in_its_order(world: World, collection: str | None, order: Order) -> None:
    """Otherwise every page sorts the whole gallery or collection: 100 ms at a million pictures."""
    record = RecordInput("museum")
    world.gallery.put([replace(make_picture("a", 1), record=record)], world.encoder.image_fingerprint)
    statements: list[tuple[str, Any]] = []

    def note(_: object, __: object, statement: str, parameters: Any, *___: object) -> None:
        statements.append((statement, parameters))

    event.listen(world.registry.engine, "before_cursor_execute", note)
    wanted = Criteria(collections=frozenset({collection}), collection=collection) if collection else Criteria()
    Selection(world.registry).list_pictures(wanted, 10, (0.0, "a"), order)
    assert not any("captions" in text for text, _ in statements), "36 languages would cost 36 times as much"
    ((text, values),) = [each for each in statements if "ORDER BY pictures." in each[0]]
    with world.registry.engine.connect() as connection:
        explain = "EXPLAIN QUERY PLAN"
        if connection.dialect.name == "postgresql":
            explain = "EXPLAIN"
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")  # the faster way for one row
            connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        steps = " | ".join(row[-1] for row in connection.exec_driver_sql(f"{explain} {text}", values))
    index = f"ix_pictures_{'collection_' if collection else ''}{order.lstrip('-')}_id"
    assert index in steps and "TEMP B-TREE" not in steps and "Sort" not in steps, steps


def test_each_content_of_a_picture_has_a_key_of_its_own_that_is_never_used_again(world: World) -> None:
    keys = []
    for seed in (1, 2, 1):
        world.put("a", seed)
        keys.append(world.gallery.find_content_keys(["a"])["a"].key)
    world.put("a", 1, {"en": ["red"]})  # other captions: the same content
    assert world.gallery.find_content_keys(["a", "nowhere"])["a"] == (keys[-1], digest(1))
    world.gallery.delete("a")
    world.put("a", 1)
    keys.append(world.gallery.find_content_keys(["a"])["a"].key)
    assert keys == sorted(set(keys))


def describe(world: World, id: str) -> object:
    """Describe all that is said of a picture, but what is new after each change."""
    picture = asdict(world.gallery.get(id))
    record = {name: each for name, each in picture.pop("record").items() if name not in ("etag", "change")}
    own, captions = world.gallery.find_own_captions([id]), world.gallery.group_captions([id])
    return {name: picture[name] for name in picture if name not in ("key", "places")}, record, own, captions


def test_deleted_pictures_come_back_as_they_were_until_others_have_their_place_or_files(world: World) -> None:
    def change(*ids: str, **what: object) -> list[str]:
        return list(dict(change_pictures(world.gallery, BulkChange(ids, **what), {})).values())  # type: ignore[arg-type]

    for seed, id in enumerate("abc"):
        record = RecordInput("museum", ["red"], {"taken_at": "1950-06-01", "year": 1950})
        new = make_picture(id, seed, {"en": ["an apple", "a pear"], "de": ["ein Apfel"]})
        world.gallery.put([replace(new, record=record)], world.encoder.image_fingerprint)
    world.gallery.add_captions("e1", "cy", [("a", "afal"), ("b", "gellygen")])
    before = {id: describe(world, id) for id in "ab"}
    assert change("a", "b", "x", deleted=True) == ["changed", "changed", "missing"]
    assert world.gallery.list_ids() == ["c"] and change("a", "b", deleted=True) == ["kept", "kept"]
    assert change("b", "a", "c", "x", deleted=False) == ["changed", "changed", "kept", "missing"]
    assert {id: describe(world, id) for id in "ab"} == before
    assert world.gallery.files.read(world.gallery.find_contents(["a"])["a"])
    fingerprint = world.encoder.image_fingerprint
    assert world.gallery.find_picture_vectors(["a", "b"], fingerprint).keys() == {"a", "b"}
    change("a", "b", deleted=True)
    world.put("b", 9)
    assert change("b", deleted=False) == ["kept"]
    sweep(world.sets, kept_seconds=0)
    assert change("a", deleted=False) == ["missing"] and world.gallery.list_ids() == ["b", "c"]
