"""Many pictures in one transaction, and deleted ones that come back as they were while their files are kept."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from index.bulk import BulkChange, change_pictures
from index.janitor import sweep
from index.records import RecordInput
from store.errors import InvalidInput
from tests.index.world import World, make_picture


@pytest.fixture
def world(tmp_path: Path, database_url: str) -> Iterator[World]:
    world = World(tmp_path, database_url)
    for seed, id in enumerate("abc"):
        record = RecordInput("museum", ["red"], {"taken_at": "1950-06-01", "year": 1950})
        new = make_picture(id, seed, {"en": ["an apple", "a pear"], "de": ["ein Apfel"]})
        world.gallery.put([type(new)(**{**vars(new), "record": record})], world.encoder.image_fingerprint)
    world.gallery.add_captions("e1", "cy", [("a", "afal"), ("b", "gellygen")])
    yield world
    world.close()


def describe(world: World, id: str) -> object:
    """Describe all that is said of a picture, but what is new after each change."""
    picture = asdict(world.gallery.get(id))
    record = {name: each for name, each in picture.pop("record").items() if name not in ("etag", "change")}
    own, captions = world.gallery.find_own_captions([id]), world.gallery.group_captions([id])
    return {name: picture[name] for name in picture if name not in ("key", "places")}, record, own, captions


def change(world: World, *ids: str, **what: object) -> dict[str, str]:
    return dict(change_pictures(world.gallery, BulkChange(ids, **what), {}))  # type: ignore[arg-type]


def test_deleted_pictures_come_back_as_they_were(world: World) -> None:
    before = {id: describe(world, id) for id in "ab"}
    assert change(world, "a", "b", "x", deleted=True) == {"a": "changed", "b": "changed", "x": "missing"}
    assert world.gallery.list_ids() == ["c"]
    assert change(world, "a", "b", deleted=True) == {"a": "kept", "b": "kept"}
    assert change(world, "b", "a", "c", "x", deleted=False) == {
        "b": "changed", "a": "changed", "c": "kept", "x": "missing"
    }  # fmt: skip
    assert {id: describe(world, id) for id in "ab"} == before
    assert world.gallery.files.read(world.gallery.find_contents(["a"])["a"])
    fingerprint = world.encoder.image_fingerprint
    assert world.gallery.find_picture_vectors(["a", "b"], fingerprint).keys() == {"a", "b"}
    assert change(world, "a", deleted=False) == {"a": "kept"}


def test_what_was_deleted_too_long_ago_or_has_another_picture_in_its_place_stays(world: World) -> None:
    world.gallery.delete("a")
    world.gallery.delete("b")
    world.put("b", 9)
    assert change(world, "b", deleted=False) == {"b": "kept"}
    sweep(world.sets, kept=0)
    assert change(world, "a", deleted=False) == {"a": "missing"}
    assert world.gallery.list_ids() == ["b", "c"]


def test_a_change_is_made_of_all_or_of_none(world: World) -> None:
    assert change(world, "a", "b", add_tags=["blue"], remove_tags=["red"], collection="Levrioù kozh") == {
        "a": "changed", "b": "changed"
    }  # fmt: skip
    record = world.gallery.get("a").record
    assert (record.collection, record.tags, record.metadata["year"]) == ("Levrioù kozh", ["blue"], 1950)
    assert change(world, "a", add_tags=["blue"], collection="LEVRIOÙ KOZH") == {"a": "kept"}
    change(world, "b", add_tags=[str(number) for number in range(63)])
    with pytest.raises(InvalidInput, match="64 tags") as refused:
        change(world, "c", "b", add_tags=["one more"])
    assert refused.value.errors[0].location == "body.ids.1"
    assert world.gallery.get("c").record.tags == ["red"]


def test_who_may_see_one_collection_changes_and_restores_no_other(world: World) -> None:
    change(world, "a", collection="other")
    world.gallery.delete("b")
    within = frozenset({"other"})
    for what in ({"deleted": True}, {"deleted": False}, {"add_tags": ["x"]}):
        assert change(world, "b", "c", collections=within, **what) == {"b": "missing", "c": "missing"}
    assert change(world, "a", collections=within, deleted=True) == {"a": "changed"}
    assert change(world, "a", collections=frozenset({"museum"}), deleted=False) == {"a": "missing"}
    assert change(world, "a", collections=within, deleted=False) == {"a": "changed"}
