"""A filtered search is an exact scan of what the filter leaves, whichever engine keeps what is sealed."""

from collections.abc import Callable
from typing import Any

import pytest

from index import engine, segment
from index.filters import parsed
from index.gallery import NewPicture
from index.live import LiveIndex
from index.records import Given, Patch
from index.selection import Selection, Wanted
from tests.doubles import DIMENSION
from tests.index.conftest import numbered, unit
from tests.index.test_engines import expected, search
from tests.index.world import World, content

COUNT = 48


def equals(key: str, value: object) -> dict[str, Any]:
    return {"must": [{"key": key, "match": {"value": value}}]}


# Each filter, and which of the numbered pictures it leaves
FILTERS: list[tuple[dict[str, Any], Callable[[int], bool]]] = [
    (equals("number", 17), lambda number: number == 17),
    ({"must": [{"key": "number", "range": {"gte": 20, "lt": 25}}]}, lambda number: 20 <= number < 25),
    (equals("tags", "odd"), lambda number: number % 2 == 1),
    ({"must_not": [{"key": "tags", "match": {"any": ["odd", "even"]}}]}, lambda number: False),
    ({"should": [equals("tags", "odd"), equals("tags", "even")]}, lambda number: True),
    (equals("collection", "late"), lambda number: number >= 40),
]


def record(number: int) -> Given:
    where = "late" if number >= 40 else "early"
    return Given(collection=where, tags=["odd" if number % 2 else "even"], metadata={"number": number})


@pytest.fixture
def live(empty: World) -> LiveIndex:
    """Pictures sealed in two steps, some of them replaced since, and the last ones in the tail."""
    vectors, live = unit(COUNT + 8, dimension=DIMENSION), empty.started()

    def put(numbers: range, seed: int = 0) -> None:
        pictures = [
            NewPicture(f"p{number:03d}", content(number + seed), 9, 9, None, vectors[(number + seed) % len(vectors)])
            for number in numbers
        ]
        given = [NewPicture(**{**vars(new), "given": record(int(new.id[1:]))}) for new in pictures]
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
    selection, placed = Selection(empty.registry), empty.gallery.placed(empty.gallery.ids())
    for few in (10_000, 0):  # compared one by one, and through the engine's index
        monkeypatch.setattr(segment, "_FEW", few)
        monkeypatch.setattr(engine, "FEW", few)
        for asked, left in FILTERS:
            keys = numbered(*sorted(place.key for id, place in placed.items() if left(int(id[1:]))))
            allowed = selection.allowed(Wanted(parsed(asked)))
            for query in unit(3, seed=4, dimension=DIMENSION):
                assert search(live, query, 10, allowed) == expected(empty, query, 10, keys)


def test_a_changed_record_is_found_by_what_it_is_now(empty: World, live: LiveIndex) -> None:
    selection, query = Selection(empty.registry), unit(1, seed=5, dimension=DIMENSION)[0]
    wanted = Wanted(parsed(equals("tags", "new")))

    def found() -> set[str]:
        return {hit.entry.picture for hit in search(live, query, 10, selection.allowed(wanted))}

    assert found() == set()
    generation = live.current.pictures.generation
    for id in ("p003", "p045"):
        live.patch_picture(Patch(id, {"tags": ["new"]}))
    assert found() == {"p003", "p045"} and live.current.pictures.generation == generation
    live.patch_picture(Patch("p003", {"tags": []}))
    live.delete_picture("p045")
    assert found() == set()
