"""What the registry's database answers in a large gallery: words, facets, pages of listings, pages of duplicates.

Each row has the median of some times in milliseconds, by the clock and of this thread's processor time, in which SQLite
works too, PostgreSQL does not. `first_ms` is the first time that this is asked, with nothing kept: what is asked again
is often kept.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from typing import Any

from benchmarks.records.material import NUMBER, PLACES, RANK, TAGS, WORDS, Collection, Records
from benchmarks.scale.material import name
from benchmarks.scale.measures import time_call
from index.duplicates import AT_ONCE, DuplicatesPage, find_groups
from index.filters import Range, parse_filter
from index.gallery import Gallery
from index.records import GalleryPicture, Patch, Place
from index.selection import Criteria, Selection
from index.word_search import WordSearch
from store.errors import RegistryUnavailable
from store.releases import Release

_TIMES = 7  # of which the median counts
_PAGE = 100
_GROUPS = 20
_GIVEN_UP = "given up"


def measure_words(records: Records) -> list[dict[str, Any]]:
    """Return searches by words that few and many pictures have, among all pictures and among half of them."""
    half, rows = _build_filter(records, records.made.count // 2), list[dict[str, Any]]()
    release = records.registry.releases.get_serving()
    for text, wanted in _list_queries(records, half):
        took = _measure_repeated(
            partial(_find_words, WordSearch(records.registry), records.selection(), text, release, wanted)
        )
        rows.append({"words": text.format(0), "among": _describe_filter(wanted), **took})
    return rows


def _find_words(
    search: WordSearch, selection: Selection, words: str, release: Release, wanted: Criteria, number: int
) -> object:
    return search.find(words.format(number), release, selection.find_allowed_keys(wanted), None, ["en"])


def _list_queries(records: Records, half: Criteria) -> Iterator[tuple[str, Criteria]]:
    """Yield texts, of which each has a number in it or not."""
    for word, pictures in WORDS.items():
        if pictures < records.made.count:
            yield f"{word}{{}}", Criteria()
    yield from (("place", Criteria()), ("place", half), ("tag other place", Criteria()), ("c{} place", Criteria()))
    yield from (("c{} place", half), ("tag other place title 1950 06 01", Criteria()))


def measure_facets(records: Records) -> list[dict[str, Any]]:
    """Return facets of a key with few values, with more, and of one that has another value for each picture."""
    rows = list[dict[str, Any]]()
    for wanted in _list_filters(records):
        for key, values in (("tags", 2 * TAGS), ("place", PLACES), (RANK, records.made.count)):
            took = _measure_repeated(partial(_count_facets, records.selection(), wanted, key))
            rows.append({"key": key, "values": values, "among": _describe_filter(wanted), **took})
    return rows


def _count_facets(selection: Selection, wanted: Criteria, key: str, number: int) -> object:
    return selection.count_facets(wanted, [key])


def measure_listings(records: Records) -> list[dict[str, Any]]:
    """Return the first page and the last one of listings with a filter, in both orders."""
    rows = list[dict[str, Any]]()
    later = Criteria(parse_filter({"must": [{"key": NUMBER, "range": {"gte": records.made.count // 2}}]}))
    for wanted in (*_list_filters(records), later):
        for newest_first in (False, True):
            page = partial(_list_page, records.selection(), wanted)
            first = _measure_repeated(partial(page, newest_first, None))
            end = page(not newest_first, None, 0)[-1].find_place("created_at")
            last = _measure_repeated(partial(page, newest_first, end))
            times = {f"last_{name}": value for name, value in last.items()}
            rows.append({"among": _describe_filter(wanted), "newest_first": newest_first, **first, **times})
    return rows


def _list_page(
    selection: Selection, wanted: Criteria, newest_first: bool, after: Place | None, number: int
) -> Sequence[GalleryPicture]:
    return selection.list_pictures(wanted, _PAGE, after, "-created_at" if newest_first else "created_at")


def measure_followed(records: Records) -> list[dict[str, Any]]:
    """Time the keys that a filter leaves: read the first time, and asked again after a picture's record changed."""
    rows = list[dict[str, Any]]()
    for wanted in _list_filters(records)[1:]:
        took = _measure_repeated(
            partial(_find_allowed, records.selection(), wanted), partial(_change_record, records.gallery)
        )
        rows.append({"among": _describe_filter(wanted), **took})
    return rows


def _find_allowed(selection: Selection, wanted: Criteria, number: int) -> object:
    return selection.find_allowed_keys(wanted)


def _change_record(gallery: Gallery, number: int) -> object:
    return gallery.patch(Patch(name(number), {"metadata": {"touched": time.time()}}), {})


def measure_duplicates(collection: Collection) -> list[dict[str, Any]]:
    """Return pictures that are compared at a time, of which a page has as many as two seconds allow."""
    rows = list[dict[str, Any]]()
    for wanted in _list_filters(collection):
        selection, took, place, examined = collection.selection(), list[float](), None, 0
        for _ in range(_TIMES):
            spent, part = time_call(_compare, collection, selection, wanted, place)
            took.append(spent)
            place, examined = part.place, examined + part.examined
            if place is None:
                break
        rows.append(
            {
                "among": _describe_filter(wanted),
                "at_once": AT_ONCE,
                "p50_ms": median(took),
                "longest_ms": max(took),
                "pictures_a_second": 1_000 * examined / sum(took),
            }
        )
    return rows


def _compare(collection: Collection, selection: Selection, wanted: Criteria, after: Place | None) -> DuplicatesPage:
    pictures = collection.live.current.picture_set
    return find_groups(
        collection.gallery,
        selection,
        pictures.identity.fingerprint,
        pictures,
        0.95,
        wanted,
        after,
        _GROUPS,
    )


def _list_filters(records: Records) -> list[Criteria]:
    count = records.made.count
    sizes = sorted({size for size in (100, 10_000, count // 2) if size <= count // 2}, reverse=True)
    return [Criteria(), *(_build_filter(records, size) for size in sizes)]


def _build_filter(records: Records, size: int) -> Criteria:
    return Criteria(parse_filter({"must": [{"key": RANK, "range": {"lt": size}}]}))


def _describe_filter(wanted: Criteria) -> str:
    ranges = [each for each in wanted.filter.must if isinstance(each, Range)] if wanted.filter else []
    parts = [f"{each.key} {name} {value:,.0f}" for each in ranges for name, value in each.bounds]
    return ", ".join(parts) or "all"


def _measure_repeated(act: Callable[[int], Any], before: Callable[[int], Any] | None = None) -> dict[str, Any]:
    """Time `act(0)`, then some more, `before` each what is not timed; say so where a database gives up."""
    took, used = list[float](), list[float]()
    try:
        for number in range(_TIMES + 1):
            if before is not None:
                before(number)
            begun = time.thread_time()
            took.append(time_call(act, number)[0])
            used.append(1_000 * (time.thread_time() - begun))
    except RegistryUnavailable:
        return dict.fromkeys(("first_ms", "first_cpu_ms", "p50_ms", "cpu_p50_ms"), _GIVEN_UP)
    return {
        "first_ms": took[0],
        "first_cpu_ms": used[0],
        "p50_ms": median(took[1:]),
        "cpu_p50_ms": median(used[1:]),
    }
