"""A search by words finds on both databases what it finds in plain Python, while pictures and captions change."""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from index.filters import parse_filter
from index.gallery import Gallery, NewPicture
from index.records import Patch, RecordInput
from index.selection import Criteria, Selection
from index.word_search import WordHit, WordSearch
from model.text import extract_query_terms, index_terms, make_whole_term
from store.data_root import DataRoot
from store.registry import open_registry
from store.releases import Release
from store.tables import PictureWordsRow
from tests.index.conftest import make_match
from tests.index.world import digest, wait_until
from tests.patience import PATIENCE
from tests.registries import publish_release
from tests.service.harness import hold_up, learn

LATIN = ["red", "Äpfel", "apple", "the", "bridge"]
WORDS = [*LATIN, "猫", "黒猫", "りんご", "사과", "นก", "🍎", "1950", "o'clock", "NEAR"]
EVERYTHING = Criteria()
FILTER = {"must_not": [make_match("tags", "red")]}
anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
phrases = st.lists(st.sampled_from([*WORDS, "*", '"', "-", "AND", ":", "(", "猫 猫", "x"]), max_size=5).map(" ".join)


class WordWorld:
    """A gallery that changes at random, and its words."""

    def __init__(self, url: str, home: Path) -> None:
        self.registry = open_registry(url)
        self.registry.initialise("base")
        self.gallery = Gallery(self.registry, DataRoot(home))
        self.selection, self.words = Selection(self.registry), WordSearch(self.registry)
        self.random = Random(0)
        self.learnt = [learn(self.registry, tag) for tag in ("de", "ja")]
        for number in range(25):
            self.put(f"p{number}", number)

    @property
    def release(self) -> Release:
        return self.registry.releases.get_serving()

    def put(self, id: str, seed: int) -> None:
        record, captions = self._record(), {"en": self._draw_texts(), "rm": self._draw_texts()}
        self.gallery.put([NewPicture(id, digest(seed), 9, 9, captions, record=RecordInput(**record))], "tower")

    def change(self) -> None:
        """Put a picture again, patch one, delete one, and add captions of expansions."""
        ids = self.random.sample(self.gallery.list_ids(), 6)
        self.put(ids[0], self.random.randrange(1_000, 9_999))
        self.gallery.patch(Patch(ids[1], {**self._record(), "captions": {"en": self._draw_texts(), "rm": None}}), {})
        self.gallery.patch(Patch(ids[2], {"tags": self._draw_texts()}), {})
        self.gallery.delete(ids[3])
        version = self.random.choice(self.learnt)
        captions = [(id, text) for id in ids[2:] for text in self._draw_texts()]
        self.gallery.add_captions(str(version.expansion), str(version.language), captions)

    def read_documents(self) -> dict[str, list[list[str]]]:
        """Return the texts that a search may find each picture by: its own, and each expansion's."""
        shown = {version.expansion for version in self.learnt if version.number in self.release.languages.values()}
        found = dict[str, list[list[str]]]()
        for id in self.gallery.list_ids():
            record, captions = self.gallery.get(id).record, self.gallery.find_captions([id])
            strings = [
                each for value in record.metadata.values() for each in (value if isinstance(value, list) else [value])
            ]
            texts = [each.text for each in captions if each.expansion is None]
            own = [*record.tags, *(each for each in strings if isinstance(each, str)), *texts]
            found[id] = [own, *([each.text for each in captions if each.expansion == by] for by in shown)]
        return found

    def _draw_texts(self) -> list[str]:
        some = self.random.sample
        return [" ".join(some(WORDS, self.random.randrange(1, 4))) for _ in range(self.random.randrange(3))]

    def _record(self) -> dict[str, Any]:
        where = self.random.choice(["default", "other"])
        metadata = {"place": self.random.choice(WORDS), "names": self._draw_texts(), "year": 1950}
        return {"collection": where, "tags": self._draw_texts(), "metadata": metadata}


def search_slowly(
    query: str, documents: Mapping[str, Sequence[Sequence[str]]], without: str | None = None
) -> list[WordHit]:
    kept = {id: [{*index_terms(texts)[0].split()} for texts in each] for id, each in documents.items()}
    terms, unwanted = extract_query_terms(query), {*extract_query_terms(without or "")}
    kept = {id: each for id, each in kept.items() if not unwanted or not unwanted <= set().union(*each)}
    counts = {term: sum(any(term in words for words in each) for each in kept.values()) for term in terms}
    most = max([1, *counts.values()])
    weights = {term: round(1_000 * (1 + math.log(most / max(1, counts[term])))) for term in terms}
    ranked, whole = [], make_whole_term(query)
    for id, each in kept.items():
        has = [term for term in terms if any(term in words for words in each)]
        if has:
            length, named = min(len(words) for words in each if words & {*terms}), any(whole in words for words in each)
            ranked.append((not named, -sum(weights[term] for term in has), length, id, len(has) == len(terms)))
    total = sum(weights.values())
    return [WordHit(id, -weight / total, all_, not other) for other, weight, _, id, all_ in sorted(ranked)]


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[WordWorld]:
    world = WordWorld(database_url, tmp_path)
    yield world
    world.registry.close()


def find(world: WordWorld, query: str, wanted: Criteria = EVERYTHING, *languages: str) -> list[WordHit]:
    allowed = world.selection.find_allowed_keys(wanted)
    return [*world.words.find(query, world.release, allowed, None, languages).hits]


def find_ids(world: WordWorld, query: str, *languages: str) -> list[str]:
    return [hit.picture for hit in find(world, query, EVERYTHING, *languages)]


def test_any_text_is_searched_as_words_and_finds_what_plain_python_finds(world: WordWorld) -> None:
    world.change()
    documents, release = world.read_documents(), world.release
    hits = 0

    @settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
    @given(query=anything | phrases, without=st.none() | phrases)
    def agree(query: str, without: str | None) -> None:
        nonlocal hits
        ranking = [*world.words.find(query, release, None, without).hits]
        assert ranking == search_slowly(query, documents, without)
        hits += bool(ranking)

    agree()
    assert hits > 15


def test_words_follow_every_change_and_filters_hold(world: WordWorld) -> None:
    here = Criteria(parse_filter(FILTER), collections=frozenset(["other"]))
    for _ in range(5):
        documents = world.read_documents()
        for query in ("red 黒猫", "the apfel 1950", "猫", "사과 bridge 🍎", "o'clock"):
            assert find(world, query) == search_slowly(query, documents)
            records = {id: world.gallery.get(id).record for id in documents}
            left = {id for id, each in records.items() if each.collection == "other" and "red" not in each.tags}
            assert find(world, query, here) == search_slowly(query, {id: documents[id] for id in left})
        world.change()


def test_captions_of_an_expansion_are_found_while_its_language_is_served(world: WordWorld) -> None:
    version = world.learnt[0]
    assert find_ids(world, "SCHMETTERLING") == []
    world.gallery.add_captions(str(version.expansion), "de", [("p3", "Schmetterling")])
    assert find_ids(world, "SCHMETTERLING") == ["p3"]
    release = world.release
    languages = {tag: number for tag, number in release.languages.items() if tag != "de"}
    publish_release(world.registry, expected=release.number, shared=release.shared, languages=languages)
    assert find(world, "schmetterling") == []


def test_all_words_of_a_large_document_are_found(world: WordWorld) -> None:
    long = [f"{number:05}{'𐌰' * 59}" for number in range(12_000)]
    world.gallery.put([NewPicture("long", digest(1), 9, 9, {"en": [" ".join(long)]})], "tower")
    kept = index_terms([" ".join(long)])[0].split()
    with world.registry.read() as session:
        query = select(PictureWordsRow.length).order_by(PictureWordsRow.length.desc())
        assert session.scalars(query).first() == len(kept)
    for some in (kept[:5], kept[len(kept) // 2 :][:5], kept[-5:]):
        assert find(world, " ".join(some)) == [WordHit("long", 1.0, complete=True)]
    assert find(world, long[len(kept)]) == []


def test_a_search_finds_no_more_than_the_best_and_none_with_less_than_asked_for(world: WordWorld) -> None:
    whole, ask = find(world, "1950 red the"), (world.release, None, None, ())
    assert [*world.words.find("1950 red the", *ask, most=3).hits] == whole[:3] and len(whole) > 3
    least = whole[2].score
    enough = [hit for hit in whole if hit.score >= least or hit.complete]
    assert [*world.words.find("1950 red the", *ask, least=least).hits] == enough and len(enough) < len(whole)


def test_the_share_of_words_in_captions_is_that_of_the_search(world: WordWorld) -> None:
    put_called(world, a="two melons and a fern")
    (hit,) = [hit for hit in find(world, "melon fern glen", EVERYTHING, "en") if hit.picture == "a"]
    found = world.words.find("melon fern glen", world.release, None, None, ["en"])
    assert found.measure_share(["two melons", "a fern"]) == pytest.approx(hit.score)
    assert found.measure_share([]) == found.measure_share(["a glade"]) == 0


def test_no_word_stays_of_a_picture_that_is_gone(world: WordWorld) -> None:
    for id in world.gallery.list_ids():
        world.gallery.delete(id)
    with world.registry.read() as session:
        assert session.scalar(select(func.count()).select_from(PictureWordsRow)) == 0
    assert find(world, "red the 猫 1950") == []
    for id, tag in (("old", "Libelle"), ("new", "Falter")):  # the second may get the number of the first
        world.gallery.put([NewPicture(id, digest(1), 9, 9, record=RecordInput(tags=[tag]))], "tower")
        assert find_ids(world, "libelle") == (["old"] if id == "old" else [])
        world.gallery.delete(id)


def make_endings(count: int) -> list[str]:
    return [f"{first}{second}" for first in "abcde" for second in "abcdefgh"][:count]


def put_called(world: WordWorld, **called: str) -> None:
    for number, (id, caption) in enumerate(called.items(), 1_000):
        world.gallery.put([NewPicture(id, digest(number), 9, 9, {"en": [caption]})], "tower")


def test_what_is_called_exactly_so_comes_before_what_has_all_words_and_more(world: WordWorld) -> None:
    put_called(world, z="A glowing fern.", a="fern glowing", b="a glowing fern in a glen", c="glowing")
    hits = find(world, "a glowing fern", EVERYTHING, "en")
    assert [(hit.picture, hit.whole, hit.complete) for hit in hits] == [
        ("z", True, True),
        ("a", False, True),
        ("b", False, True),
        ("c", False, False),
    ]


def test_words_are_found_in_the_forms_of_their_language_after_the_word_itself(world: WordWorld) -> None:
    put_called(world, a="two melons", b="one melon", c="melody", d="Kinderwagen", e="brezhoneger")
    assert find_ids(world, "melon", "en") == ["b", "a"] and find_ids(world, "melon") == ["b"]
    assert [hit.complete for hit in find(world, "melon", EVERYTHING, "en")] == [True, True]
    assert find_ids(world, "Kinderwagens", "de") == ["d"] and find_ids(world, "brezhonegez", "br") == ["e"]
    assert find_ids(world, "brezhonek", "br") == []


def test_words_that_no_picture_has_are_missing_and_the_nearest_are_suggested(world: WordWorld) -> None:
    put_called(world, a="a giraffe", b="melons")
    found = world.words.find("girafe melon red xyzzyx 19", world.release, None, None, ["en"])
    assert found.missing == ["girafe", "xyzzyx"]
    assert world.words.suggest(found.missing, world.release) == {"girafe": "giraffe"}
    world.gallery.delete("a")
    assert world.words.suggest(found.missing, world.release) == {}


def test_words_that_take_the_place_of_others_are_suggested(world: WordWorld) -> None:
    put_called(world, a="a giraffe")
    assert world.words.suggest(["girafe"], world.release) == {"girafe": "giraffe"}
    world.gallery.delete("a")
    put_called(world, a="a gorilla")  # in rows of the numbers that were free, on SQLite
    assert world.words.suggest(["gorila"], world.release) == {"gorila": "gorilla"}
    version = world.learnt[0]
    world.gallery.add_captions(str(version.expansion), "de", [("p3", "Schmetterling")])
    assert world.words.suggest(["schmeterling"], world.release) == {"schmeterling": "schmetterling"}


def test_while_many_words_are_read_anew_searches_use_those_of_before(
    world: WordWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.word_list._SOON", -1.0)
    monkeypatch.setattr("index.word_list._PATIENCE", 0)
    put_called(world, a="two melons")
    assert find_ids(world, "melon", "en") == ["a"]
    with ThreadPoolExecutor() as threads, hold_up(world.words._words, "_read_anew") as reading:
        put_called(world, b="a fern")
        assert threads.submit(find_ids, world, "ferns", "en").result(PATIENCE / 2) == []
        assert threads.submit(find_ids, world, "melon", "en").result(PATIENCE / 2) == ["a"]
        assert reading.acquire(timeout=PATIENCE)
    wait_until(lambda: find_ids(world, "ferns", "en") == ["b"])


def test_of_too_many_words_those_of_most_pictures_are_kept(world: WordWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.word_list._MOST_KEPT", len(LATIN) + 1)
    put_called(world, a="aardvark", **{f"b{number}": "giraffe" for number in range(30)})
    assert world.words.suggest(["girafe", "aardvarc"], world.release) == {"girafe": "giraffe"}


def test_what_a_bound_key_misses_and_is_found_depends_on_its_collection_alone(world: WordWorld) -> None:
    put_called(world, a="a giraffe")
    here = world.selection.find_allowed_keys(Criteria(collections=frozenset(["other"])))
    found = world.words.find("giraffe", world.release, here, None, ["en"], is_bound=True)
    assert found.missing == ["giraffe"]
    assert world.words.find("giraffe", world.release, None, None, ["en"]).missing == []
    documents = {f"{letters}{number}": f"brezh{letters}" for number, letters in enumerate(["on", *make_endings(40)])}
    put_called(world, **documents)
    mine = RecordInput(collection="mine")
    world.gallery.put([NewPicture("mine", digest(1), 9, 9, {"en": ["brezhzz"]}, record=mine)], "tower")
    here = world.selection.find_allowed_keys(Criteria(collections=frozenset(["mine"])))
    found = world.words.find("brezhon", world.release, here, None, ["br"], is_bound=True)
    assert [hit.picture for hit in found.hits] == ["mine"], "among many forms in other collections"
