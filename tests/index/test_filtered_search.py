"""A filtered search is an exact scan of what the filter leaves, with any engine; malformed filters are refused."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from sqlalchemy import event, select, text

from index import engine, segment
from index.facts import parse_instant
from index.filters import FIELDS, parse_filter
from index.gallery import Gallery, NewPicture
from index.live import LiveIndex
from index.records import Patch, RecordInput
from index.selection import Criteria, Selection
from store import database
from store.data_root import DataRoot
from store.errors import RegistryUnavailable
from store.registry import open_registry
from store.tables import PictureRow
from tests.doubles import DIMENSION
from tests.house.source import ROOT
from tests.index.conftest import make_criteria, make_match, numbered, unit
from tests.index.test_engines import find_expected, search
from tests.index.world import World, digest

COUNT = 48


# Each filter, and which of the numbered pictures it leaves
FILTERS: list[tuple[dict[str, Any], Callable[[int], bool]]] = [
    (make_match("number", 17), lambda number: number == 17),
    ({"must": [{"key": "number", "range": {"gte": 20, "lt": 25}}]}, lambda number: 20 <= number < 25),
    (make_match("tags", "odd"), lambda number: number % 2 == 1),
    ({"must_not": [{"key": "tags", "match": {"any": ["odd", "even"]}}]}, lambda number: False),
    ({"should": [make_match("tags", "odd"), make_match("tags", "even")]}, lambda number: True),
    (make_match("collection", "late"), lambda number: number >= 40),
]


def record(number: int) -> RecordInput:
    where = "late" if number >= 40 else "early"
    return RecordInput(collection=where, tags=["odd" if number % 2 else "even"], metadata={"number": number})


@pytest.fixture
def live(empty: World) -> LiveIndex:
    """Pictures sealed in two steps, some of them replaced since, and the last ones in the tail."""
    vectors, live = unit(COUNT + 8, dimension=DIMENSION), empty.serve()

    def put(numbers: range, seed: int = 0) -> None:
        pictures = [
            NewPicture(f"p{number:03d}", digest(number + seed), 9, 9, None, vectors[(number + seed) % len(vectors)])
            for number in numbers
        ]
        given = [NewPicture(**{**vars(new), "record": record(int(new.id[1:]))}) for new in pictures]
        empty.gallery.put(given, empty.encoder.image_fingerprint)

    for first in (0, 20):
        put(range(first, first + 20))
        empty.seal()
    put(range(16, 22), 1_000)
    put(range(40, COUNT))
    live.refresh()
    return live


def test_scores_and_order_are_those_of_an_exact_scan_of_what_is_left(
    empty: World, live: LiveIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    selection, placed = Selection(empty.registry), empty.gallery.find_content_keys(empty.gallery.list_ids())
    for few in (10_000, 0):  # compared one by one, and through the engine's index
        monkeypatch.setattr(segment, "_FEW", few)
        monkeypatch.setattr(engine, "FEW", few)
        for asked, left in FILTERS:
            keys = numbered(*sorted(place.key for id, place in placed.items() if left(int(id[1:]))))
            allowed = selection.find_allowed_keys(make_criteria(asked))
            for query in unit(3, seed=4, dimension=DIMENSION):
                assert search(live, query, 10, allowed) == find_expected(empty, query, 10, keys)


def test_a_changed_record_is_found_by_what_it_is_now(empty: World, live: LiveIndex) -> None:
    selection, query = Selection(empty.registry), unit(1, seed=5, dimension=DIMENSION)[0]
    wanted = make_criteria(make_match("tags", "new"))

    def find() -> set[str]:
        return {hit.entry.picture for hit in search(live, query, 10, selection.find_allowed_keys(wanted))}

    assert find() == set()
    generation = live.current.picture_set.generation
    for id in ("p003", "p045"):
        live.patch_picture(Patch(id, {"tags": ["new"]}))
    assert find() == {"p003", "p045"} and live.current.picture_set.generation == generation
    live.patch_picture(Patch("p003", {"tags": []}))
    live.delete_picture("p045")
    assert find() == set()


def test_there_may_be_more_values_than_32_bits_count(postgresql_url: str, tmp_path: Path) -> None:
    with closing(open_registry(postgresql_url)) as registry:
        gallery = Gallery(registry, DataRoot(tmp_path))
        with registry.begin() as session:
            session.execute(text("SELECT setval(pg_get_serial_sequence('picture_values', 'id'), 1::bigint << 31)"))
        gallery.put([NewPicture("p", digest(1), 9, 9, record=RecordInput(tags=["bridge"]))], "tower")
        left = Selection(registry).find_allowed_keys(make_criteria(make_match("tags", "bridge")))
        assert left is not None and len(left) == 1


def test_after_a_change_only_the_pictures_that_changed_are_looked_at(tmp_path: Path) -> None:
    """Not all that have a value which the filter asks for, at each upload."""
    with closing(open_registry(f"sqlite:///{tmp_path / 'registry.db'}")) as registry:
        gallery, selection = Gallery(registry, DataRoot(tmp_path)), Selection(registry)
        some = {"must": [make_match("tags", "red"), {"key": "year", "range": {"lt": 2_000}}]}
        wanted = Criteria(parse_filter({"must": [some], "must_not": [make_match("tags", "blue")]}))
        given = RecordInput(tags=["red"], metadata={"year": 1950})
        gallery.put([NewPicture("p", digest(1), 9, 9, record=given)], "tower")
        assert selection.find_allowed_keys(wanted) is not None
        gallery.patch(Patch("p", {"tags": ["red", "green"]}), {})
        asked = list[tuple[str, Any]]()
        event.listen(registry.engine, "before_cursor_execute", lambda *given: asked.append((given[2], given[3])))
        left = selection.find_allowed_keys(wanted)
        assert left is not None and len(left) == 1
        with registry.read() as session:
            (query,) = [each for each in asked if "picture_values" in each[0]]
            plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {query[0]}", query[1]).all()
        steps = [row[3] for row in plan if "picture_values" in row[3]]
        assert len(steps) == 3 and all("ix_picture_values_picture" in each for each in steps), plan


def test_postgresql_does_not_go_through_all_values_for_each_picture(postgresql_url: str) -> None:
    """With as little memory as it has for a million values: a condition that need not hold, and one that must not."""
    conditions: list[dict[str, Any]] = [{"key": "rank", "range": {"gte": number}} for number in (10, 20)]
    with closing(open_registry(postgresql_url)) as registry:
        with registry.begin() as session:
            session.execute(text(_MANY_PICTURES))
            session.execute(text(_MANY_VALUES))
            session.execute(text("ANALYZE pictures, picture_values"))
        for asked, expected in (({"must_not": conditions}, 9), ({"should": conditions}, 29_991)):
            with registry.read() as session:
                session.execute(text("SET LOCAL work_mem = '64kB'; SET LOCAL statement_timeout = 3000"))
                query = select(PictureRow.key).where(*Criteria(parse_filter(asked)).build_conditions())
                assert len(session.scalars(query).all()) == expected


_MANY_PICTURES = """
    INSERT INTO pictures (id, content_sha256, width, height, created_at, change, key)
    SELECT n, n, 1, 1, 0, n, n FROM generate_series(1, 30000) AS n"""
_MANY_VALUES = """
    INSERT INTO picture_values (id, picture, key, kind, number)
    SELECT n, n, 'rank', 'number', n FROM generate_series(1, 30000) AS n"""


def test_what_takes_a_database_too_long_ends_there(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {}) SELECT count(*) FROM c"
    with closing(open_registry(database_url)) as registry:
        registry.initialise("base")
        monkeypatch.setattr(database, "_SECONDS", 0.2)
        with pytest.raises(RegistryUnavailable), registry.read_in_time() as session:
            session.execute(text(count.format(5_000_000)))
        sleep(0.3)
        with registry.read() as session:  # with the same connection
            assert session.scalar(text(count.format(300_000))) == 300_000


def test_all_statements_of_a_reading_have_one_time(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL bounds each by itself; a search by words has up to 65."""
    monkeypatch.setattr(database, "_SECONDS", 0.5)
    with closing(open_registry(postgresql_url)) as registry:
        with registry.read_in_time() as session:
            assert session.scalar(text("SHOW statement_timeout")) != "0"
        for slow, most in ((0.1, 4), (0.4, 1)):  # between two, and in one that must not have the whole time again
            done = 0
            with pytest.raises(RegistryUnavailable), registry.read_in_time() as session:
                for _ in range(20):
                    session.execute(text(f"SELECT pg_sleep({slow})"))
                    done += 1
            assert done <= most
        with registry.read() as session:  # with the same connection
            assert session.scalar(text("SHOW statement_timeout")) == "0"


def test_what_sqlite_ends_while_rows_are_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """These come from the driver's own cursor, with its own errors."""
    with closing(open_registry(f"sqlite:///{tmp_path / 'registry.db'}")) as registry:
        with registry.begin() as session:
            session.execute(text(_MANY_PICTURES.replace(*_SERIES)))
            session.execute(text(_MANY_VALUES.replace(*_SERIES)))
        among, other = (make_criteria({"key": "rank", "range": {"gte": number}}) for number in (1, 2))
        selection = Selection(registry)
        assert len(selection.list_pictures(among, 2)) == 2
        monkeypatch.setattr(database, "_SECONDS", 0.0)
        monkeypatch.setattr(database, "_STEPS", 1_000)
        with pytest.raises(RegistryUnavailable):
            selection.find_allowed_keys(other)
        with pytest.raises(RegistryUnavailable):
            selection.list_pictures(among, 2)


_SERIES = (
    "generate_series(1, 30000) AS n",
    "(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 30000) SELECT n FROM c)",
)


# --- their grammar ----------------------------------------------------------------------------------------------------


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


def test_the_page_has_the_same_fields() -> None:
    script = (ROOT / "service/pages/static/filters.js").read_text()
    assert {*json.loads(script.partition("const FIELDS = ")[2].partition(";")[0])} == FIELDS
