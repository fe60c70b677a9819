"""The grammar of filters: what is read, and where a malformed one is wrong."""

import json
from typing import Any

import pytest

from index.facts import Fact, parse_instant
from index.filters import FIELDS, Filter, Match, Range, find_stored_key, parse_filter
from store.errors import InvalidFilter
from tests.house.source import ROOT
from tests.index.conftest import make_match


def make_nested(depth: int) -> dict[str, Any]:
    return {"must": [make_nested(depth - 1)]} if depth > 1 else {"must": []}


def test_a_filter_is_read_as_it_is_written() -> None:
    given = {
        "must": [make_match("place", "Chur"), {"key": "taken_at", "range": {"gte": "1950-01-01", "lt": "1960-01-01"}}],
        "must_not": [{"should": [{"key": "year", "match": {"any": [1, True]}}]}],
    }
    decade = (("gte", -631_152_000.0), ("lt", -315_619_200.0))
    either = Match("year", (Fact("number", number=1.0), Fact("boolean", number=1.0)))
    assert parse_filter(given) == Filter(
        must=(Match("place", (Fact("string", "Chur"),)), Range("taken_at", "date", decade)),
        must_not=(Filter(should=(either,)),),
    )
    assert parse_filter({}) == Filter()
    assert parse_filter(make_nested(8)).must and len(parse_filter({"must": [make_match("a", 1)] * 64}).must) == 64


@pytest.mark.parametrize(
    ("given", "place", "code"),
    [
        ([], "body.filter", "dict_type"),
        ("x", "body.filter", "dict_type"),
        ({"all": []}, "body.filter.all", "unknown"),
        ({"<script>": []}, "body.filter.?", "unknown"),
        ({"must": {}}, "body.filter.must", "list_type"),
        ({"must": [make_match("a", 1), 7]}, "body.filter.must.1", "dict_type"),
        ({"must": [{"key": "a"}]}, "body.filter.must.0", "condition"),
        ({"must": [{"key": "a", "match": {"value": 1}, "range": {"gt": 1}}]}, "body.filter.must.0", "condition"),
        ({"must": [make_match(1, 1)]}, "body.filter.must.0.key", "value_type"),
        ({"must": [make_match("a", None)]}, "body.filter.must.0.match.value", "value_type"),
        ({"must": [make_match("a", [1])]}, "body.filter.must.0.match.value", "value_type"),
        ({"must": [make_match("a", "\0")]}, "body.filter.must.0.match.value", "string_unicode"),
        ({"must": [make_match("a", "\ud800")]}, "body.filter.must.0.match.value", "string_unicode"),
        ({"must": [make_match("a", float("inf"))]}, "body.filter.must.0.match.value", "finite_number"),
        ({"must": [make_match("a", 10**400)]}, "body.filter.must.0.match.value", "finite_number"),
        ({"must": [{"key": "a", "match": {"any": "x"}}]}, "body.filter.must.0.match", "match"),
        ({"must": [{"key": "a", "match": {"any": [1, {}]}}]}, "body.filter.must.0.match.any.1", "value_type"),
        ({"should": [{"must_not": [{"key": "a", "range": {}}]}]}, "body.filter.should.0.must_not.0.range", "range"),
        ({"must": [{"key": "a", "range": {"gt": 1, "above": 2}}]}, "body.filter.must.0.range", "range"),
        ({"must": [{"key": "a", "range": {"gt": 1, "lt": "1950-01-01"}}]}, "body.filter.must.0.range", "range"),
        ({"must": [{"key": "a", "range": {"gt": "yesterday"}}]}, "body.filter.must.0.range.gt", "bound"),
        ({"must": [{"key": "a", "range": {"gt": True}}]}, "body.filter.must.0.range.gt", "bound"),
        ({"must": [make_match("a", 1)] * 65}, "body.filter.must.64", "too_long"),
        ({"must": [{"key": "a", "match": {"any": [*range(1_001)]}}]}, "body.filter.must.0.match.any.1000", "too_long"),
        (make_nested(9), f"body.filter{'.must.0' * 8}", "too_deep"),
    ],
)
def test_a_malformed_filter_is_refused_with_its_place(given: object, place: str, code: str) -> None:
    with pytest.raises(InvalidFilter) as refused:
        parse_filter(given)
    assert [(error.location, error.code) for error in refused.value.errors] == [(place, code)]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1970-01-02", 86_400.0),
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01t02:00:00.5+02:00", 0.5),
        ("1970-01-01T00:00:00", 0.0),
        ("1970-01-01T00:00:00.1234567891Z", 0.123456),
        ("0001-01-01", -62_135_596_800.0),
        ("1970-02-30", None),
        ("1970-01-01T24:00:00Z", None),
        ("1970-01-01T00:00:00+24:00", None),
        ("0000-01-01", None),
        ("1970-1-1", None),
        ("19700101", None),
        ("1970-01-01 00:00:01Z", 1.0),
        ("1970-01-01  00:00:01Z", None),
        ("١٩٧٠-٠١-٠١", None),
        ("", None),
    ],
)
def test_dates_are_those_of_rfc_3339(text: str, moment: float | None) -> None:
    assert parse_instant(text) == moment


def test_a_bare_key_names_a_field_of_the_record_before_metadata() -> None:
    keys = ("place", "metadata.place", "metadata.tags", "created_at", "Place", "a.b", "metadata.a.b", "")
    assert [find_stored_key(key) for key in keys] == ["place", "place", "tags", None, None, None, None, None]


def test_the_page_has_the_same_fields() -> None:
    script = (ROOT / "service/pages/static/filters.js").read_text()
    assert {*json.loads(script.partition("const FIELDS = ")[2].partition(";")[0])} == FIELDS
