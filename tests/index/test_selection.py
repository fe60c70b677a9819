"""Filters as SQL mean on both databases what they mean in plain Python, and stay right while pictures change."""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from index import records, selection
from index.facts import validate_metadata, validate_tags
from index.filters import parse_filter
from index.gallery import Gallery, NewPicture
from index.records import Order, Patch, RecordInput
from index.selection import MONTHS, PICTURES, Criteria, KeySelection, Selection
from store.data_root import DataRoot
from store.registry import open_registry
from tests.index.conftest import make_criteria, make_match
from tests.index.world import digest

TEXTS = ["Chur", "chur", "", "é", "e\u0301", "x" * 300, "1", "true", "1950-01-01", "1950-01-01T01:00:00+01:00"]
NUMBERS = [0, -0.0, 1, 1.0, 1.5, -7, 1950, 2**60, 1e300]
SCALARS = [*TEXTS, *NUMBERS, True, False]
DATES = ["1949-12-31T23:00:00Z", "1950-01-01", "1950-01-01T00:00:00.000001Z", "2000-01-01", "2999-01-01"]
TAKEN = [
    "1969-12-31",
    "2019-07-31T23:59:59Z",
    "2019-08-01",
    "unknown",
    ["x", "1950-01-01"],
    7,
    "0001-01-01T00:00:00+09:00",
]
KEYS = [
    "tags",
    "collection",
    "id",
    "created_at",
    "shown_at",
    "place",
    "year",
    "metadata.year",
    "metadata.tags",
    "nope",
    "No key",
]
Picture = Mapping[str, Any]


def list_values(picture: Picture, key: str) -> list[Any]:
    if key in ("id", "collection", "created_at", "shown_at"):
        return [picture[key]]
    if key == "tags":
        return list(picture["tags"])
    value = picture["metadata"].get(key.removeprefix("metadata."), [])
    return value if isinstance(value, list) else [value]


def is_equal(value: Any, wanted: Any) -> bool:
    if isinstance(value, str) and isinstance(wanted, str):
        return unicodedata.normalize("NFC", value) == unicodedata.normalize("NFC", wanted)
    kinds = {type(value) is bool, type(wanted) is bool}
    return len(kinds) == 1 and isinstance(value, int | float) and isinstance(wanted, int | float) and value == wanted


def compare(value: Any, wanted: Any, key: str) -> int | None:
    """Return -1, 0 or 1 for below, equal or above; None for what cannot be compared."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float) and isinstance(wanted, int | float):
        return (value > wanted) - (value < wanted)
    if isinstance(wanted, str) and (isinstance(value, datetime) or key not in ("id", "collection")):
        one, other = read_moment(value), read_moment(wanted)
        return None if one is None or other is None else (one > other) - (one < other)
    return None


def read_moment(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value
    try:
        read = datetime.fromisoformat(value) if isinstance(value, str) and len(value) >= 10 else None
    except ValueError:
        return None
    return read and read.replace(tzinfo=read.tzinfo or UTC)


ALLOWED = {"gt": {1}, "gte": {0, 1}, "lt": {-1}, "lte": {-1, 0}}


def is_met(asked: Mapping[str, Any], picture: Picture) -> bool:
    """Evaluate a filter or condition: slow and obvious."""
    if "key" not in asked:
        should = asked.get("should", [])
        return (
            all(is_met(each, picture) for each in asked.get("must", []))
            and (not should or any(is_met(each, picture) for each in should))
            and not any(is_met(each, picture) for each in asked.get("must_not", []))
        )
    key, found = asked["key"], list_values(picture, asked["key"])
    if "match" in asked:
        wanted = asked["match"].get("any", [asked["match"].get("value")])
        return any(is_equal(value, each) for value in found for each in wanted)
    bounds = asked["range"].items()
    return any(all(compare(value, bound, key) in ALLOWED[name] for name, bound in bounds) for value in found)


def make_condition(key: str, pictures: Mapping[str, Picture]) -> st.SearchStrategy[Any]:
    """Draw conditions on a key; every second value is one that some picture has there."""
    found = [value for picture in pictures.values() for value in list_values(picture, key)]
    own = [value.isoformat() if isinstance(value, datetime) else value for value in found]
    value = st.sampled_from(SCALARS) | st.sampled_from(own or SCALARS)
    match = st.fixed_dictionaries({"value": value}) | st.fixed_dictionaries({"any": st.lists(value, max_size=3)})
    range = st.sampled_from([NUMBERS, DATES, [each for each in own if read_moment(each)] or DATES]).flatmap(
        lambda bounds: st.dictionaries(st.sampled_from([*ALLOWED]), st.sampled_from(bounds), min_size=1, max_size=2)
    )
    named = {"key": st.just(key)}
    return st.fixed_dictionaries({**named, "match": match}) | st.fixed_dictionaries({**named, "range": range})


class SelectionWorld:
    """A gallery with some pictures, what they are in plain Python, and a selection that follows."""

    def __init__(self, url: str, home: Path) -> None:
        self.registry = open_registry(url)
        self.gallery = Gallery(self.registry, DataRoot(home))
        self.selection = Selection(self.registry)
        self._random = Random(0)
        for number in range(40):
            self.put(f"p{number}", number)

    def put(self, id: str, seed: int) -> None:
        self.gallery.put([NewPicture(id, digest(seed), 9, 9, record=RecordInput(**self._record()))], "tower")

    def change(self) -> None:
        """Put one picture again, patch one, delete one, and bring it back."""
        some = self._random.sample(self.gallery.list_ids(), 3)
        self.put(some[0], self._random.randrange(1_000, 9_999))
        record = self._record()
        self.gallery.patch(Patch(some[1], {**record, "metadata": {**record["metadata"], "year": None}}), {})
        self.gallery.delete(some[2])
        self.put(some[2], self._random.randrange(1_000, 9_999))

    def read_pictures(self) -> dict[str, Picture]:
        found = dict[str, Picture]()
        for id in self.gallery.list_ids():
            picture = self.gallery.get(id)
            about: dict[str, Any] = {name: getattr(picture, name) for name in ("created_at", "shown_at")}
            about["collection"] = picture.record.collection
            found[id] = {"id": id, "tags": picture.record.tags, "metadata": picture.record.metadata, **about}
        return found

    def select_ids(self, asked: Mapping[str, Any]) -> set[str]:
        """Return what the selection allows, without keys of deleted pictures."""
        keys = self.selection.find_allowed_keys(Criteria(parse_filter(asked)), PICTURES)
        placed = self.gallery.find_content_keys(self.gallery.list_ids())
        return {id for id, place in placed.items() if keys is None or place.key in keys}

    def _record(self) -> dict[str, Any]:
        random, scalar = self._random, self._random.choice
        year = scalar([*NUMBERS, "1950-01-01", True])
        metadata = {"place": scalar([scalar(SCALARS), random.sample(TEXTS, 2)]), "year": year, "tags": scalar(SCALARS)}
        metadata["taken_at"] = scalar(TAKEN)
        kept = {key: metadata[key] for key in random.sample([*metadata], random.randrange(5))}
        tags = random.sample([text for text in TEXTS if 0 < len(text) < 200], random.randrange(4))
        where = scalar(["default", "other", "Chur"])
        return {"collection": where, "tags": validate_tags(tags), "metadata": validate_metadata(kept)}


@pytest.fixture
def world(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SelectionWorld]:
    monkeypatch.setattr(records, "_READ_BLOCK", 7)  # keys come in several blocks
    world = SelectionWorld(database_url, tmp_path)
    yield world
    world.registry.close()


def test_every_filter_leaves_what_it_leaves_in_plain_python(world: SelectionWorld) -> None:
    pictures = world.read_pictures()

    def count_parting(conditions: st.SearchStrategy[Any], examples: int) -> int:
        """Compare with plain Python; count the filters that leave some of the pictures."""
        parting = 0

        @settings(max_examples=examples, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(asked=conditions)
        @example(asked={"key": "created_at", "range": {"gt": 1 << 60}})  # its year is no integer of C
        def agree(asked: Mapping[str, Any]) -> None:
            nonlocal parting
            whole = {"must": [asked]} if "key" in asked else asked
            expected = {id for id, picture in pictures.items() if is_met(whole, picture)}
            assert world.select_ids(whole) == expected
            parting += 0 < len(expected) < len(pictures)

        agree()
        return parting

    single = {key: make_condition(key, pictures) for key in KEYS}
    parting = {key: count_parting(conditions, 20) for key, conditions in single.items()}
    assert {key for key, count in parting.items() if not count} == {"nope", "No key"}
    several = st.recursive(
        st.one_of([*single.values()]),
        lambda inner: st.dictionaries(
            st.sampled_from(["must", "should", "must_not"]), st.lists(inner, max_size=3), min_size=1
        ),
        max_leaves=6,
    )
    assert count_parting(several, 100) > 15


def test_what_was_asked_before_follows_every_change(world: SelectionWorld) -> None:
    asked: list[dict[str, Any]] = [
        {"must": [{"key": "tags", "match": {"any": ["Chur", "é"]}}]},
        {"must_not": [{"key": "year", "range": {"gte": 1}}]},
        {"must": [{"key": "collection", "match": {"value": "other"}}]},
    ]
    for _ in range(15):
        pictures = world.read_pictures()
        for each in asked:
            assert world.select_ids(each) == {id for id, picture in pictures.items() if is_met(each, picture)}
        world.change()


def test_facets_count_the_values_of_what_is_left(world: SelectionWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"must_not": [{"key": "collection", "match": {"value": "Chur"}}]}
    pictures = [picture for picture in world.read_pictures().values() if is_met(asked, picture)]
    keys = ["tags", "place", "year", "collection", "id", "No key"]
    found = world.selection.count_facets(Criteria(parse_filter(asked)), keys)
    monkeypatch.setattr(selection, "_MANY_KEYS", 0)
    assert Selection(world.registry).count_facets(Criteria(parse_filter(asked)), keys) == found
    for key in ("tags", "place", "year", "collection"):
        shown = [value for picture in pictures for value in list_values(picture, key) if value != "x" * 300]
        counted = Counter((type(value) is bool, value) for value in shown)
        assert Counter({(type(each.value) is bool, each.value): each.count for each in found[key]}) == counted
        assert [each.count for each in found[key]] == sorted(counted.values(), reverse=True)
    assert found["id"] == found["No key"] == []


def test_pictures_are_shown_under_when_they_were_taken_else_when_they_came(world: SelectionWorld) -> None:
    asked = {"must_not": [{"key": "collection", "match": {"value": "Chur"}}]}
    pictures = [picture for picture in world.read_pictures().values() if is_met(asked, picture)]
    for picture in pictures:
        date = picture["metadata"].get("taken_at")
        text = "1950-01-01" if isinstance(date, list) else date if date in TAKEN[:3] else None
        expected = picture["created_at"] if text is None else read_moment(text)
        assert abs(picture["shown_at"] - expected) <= timedelta(seconds=text is None)
    expected = Counter(f"{picture['shown_at']:%Y-%m}" for picture in pictures)
    assert len(expected) > 3
    found = world.selection.count_facets(Criteria(parse_filter(asked)), [MONTHS])[MONTHS]
    assert [(each.value, each.count) for each in found] == sorted(expected.items(), reverse=True)


def test_facets_that_are_kept_follow_every_change(world: SelectionWorld) -> None:
    queries = list[str]()
    event.listen(world.registry.engine, "before_cursor_execute", lambda *given: queries.append(given[2]))
    wanted = Criteria(collection="kept")

    def count_tags() -> dict[Any, int]:
        return {each.value: each.count for each in world.selection.count_facets(wanted, ["tags"])["tags"]}

    for id in ("p1", "p2"):
        world.gallery.patch(Patch(id, {"tags": ["red"], "collection": "kept"}), {})
    assert count_tags() == {"red": 2}
    queries.clear()
    assert count_tags() == {"red": 2} and not any("picture_values" in query for query in queries)
    world.gallery.patch(Patch("p2", {"tags": ["red", "blue"]}), {})
    assert count_tags() == {"red": 2, "blue": 1}
    world.gallery.delete("p1")
    assert count_tags() == {"red": 1, "blue": 1}


def test_the_moment_that_a_picture_tells_is_its_own_in_a_range(world: SelectionWorld) -> None:
    """SQLite's clock has finer fractions than an answer."""
    pictures = world.read_pictures()
    for picture in pictures.values():
        moment = picture["created_at"].isoformat()
        for bound, with_it in (("gte", True), ("lte", True), ("gt", False), ("lt", False)):
            left = world.select_ids({"must": [{"key": "created_at", "range": {bound: moment}}]})
            assert (picture["id"] in left) is with_it, (bound, moment)
        both = world.select_ids({"must": [{"key": "created_at", "range": {"gte": moment, "lte": moment}}]})
        assert both == {each["id"] for each in pictures.values() if each["created_at"] == picture["created_at"]}
    for moment in ("0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"):
        since = world.select_ids({"must": [{"key": "created_at", "range": {"gt": moment}}]})
        assert since == (set() if moment.startswith("9") else {*pictures})


def test_a_listing_has_what_is_left_in_order(world: SelectionWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    either = parse_filter({"should": [make_match("tags", "Chur"), make_match("tags", "chur")]})
    wanted = Criteria(either, frozenset({"default", "other"}))
    pictures = world.read_pictures().values()
    inside = [p for p in pictures if p["collection"] != "Chur" and {"Chur", "chur"} & {*p["tags"]}]
    moments = ("created_at", "shown_at")
    added, shown = ([p["id"] for p in sorted(inside, key=lambda p: (p[moment], p["id"]))] for moment in moments)
    expected: dict[Order, list[str]] = {"created_at": added, "-created_at": added[::-1]}
    expected |= {"shown_at": shown, "-shown_at": shown[::-1]}
    assert len(added) > 3 and added != shown

    def list_ids(order: Order) -> list[str]:
        found, after = list[str](), None
        while page := world.selection.list_pictures(wanted, 2, after, order):
            found += [picture.id for picture in page]
            after = page[-1].find_place(order)
        return found

    for few, walked in ((1_000, 16_000), (0, 3), (0, 16_000)):  # sorted by the database; both; known by their keys
        monkeypatch.setattr(records, "FEW_KEYS", few)
        monkeypatch.setattr(records, "MOST_WALKED", walked)
        monkeypatch.setattr(records, "_BLOCK", 3)
        assert {order: list_ids(order) for order in expected} == expected
    known = world.selection.select_vector_keys(wanted)
    assert known is not None
    outdated = KeySelection(known.keys + 1_000_000, known.as_of_change - 1, known.full_read_at)  # of no picture
    monkeypatch.setattr(world.selection, "select_vector_keys", lambda _: outdated)
    assert list_ids("-shown_at") == shown[::-1]
    names = dict(world.selection.list_collections(frozenset({"other", "nothing"})))
    assert names == {"other": sum(p["collection"] == "other" for p in pictures)}


def test_long_ids_are_compared_whole(world: SelectionWorld) -> None:
    """Other texts of more than 256 characters are compared by a hash."""
    one, other = ("/".join(["x" * 100] * 3) + end for end in "ab")
    for id in (one, other):
        world.put(id, 1)
    assert world.select_ids({"must": [{"key": "id", "match": {"any": [one, "p1"]}}]}) == {one, "p1"}
    others = {*world.gallery.list_ids()} - {other}
    assert world.select_ids({"must_not": [make_match("id", other)]}) == others


def test_keys_of_pictures_that_are_gone_are_counted(world: SelectionWorld) -> None:
    wanted = make_criteria(make_match("tags", "kept"))
    for id in ("p1", "p2", "p3", "p4"):
        world.gallery.patch(Patch(id, {"tags": ["kept"]}), {})
    first = world.selection.select_vector_keys(wanted)
    assert first is not None and first.least_count == len(first.keys) == 4
    world.gallery.patch(Patch("p4", {"metadata": {}}), {})
    same = world.selection.select_vector_keys(wanted, without_deleted=True)
    assert same is not None and same.keys is first.keys and same.least_count == 4
    world.gallery.delete("p1")
    world.gallery.put([NewPicture("p2", digest(5_000), 9, 9, record=RecordInput(tags=["other"]))], "tower")
    left = world.selection.select_vector_keys(wanted)
    assert left is not None and left.least_count <= 2
    left = world.selection.select_vector_keys(wanted, without_deleted=True)
    assert left is not None and left.least_count == 2
    keys = world.gallery.find_content_keys(["p3", "p4"]).values()
    assert left.keys.tolist() == sorted(each.key for each in keys)
