"""A search by words finds on both databases what it finds in plain Python, while pictures and captions change."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, func, select

from index import selection, word_search
from index.filters import parse_filter
from index.gallery import Gallery, NewPicture
from index.records import Patch, RecordInput
from index.selection import Criteria, Selection
from index.snapshot import PictureHit
from index.word_search import WordHit, WordSearch, fuse_rankings, list_hits_after, rank_by_words
from model.words import extract_query_terms, index_terms
from store.data_root import DataRoot
from store.errors import RegistryUnavailable
from store.registry import open_registry
from store.releases import Release
from store.tables import PictureWordsRow
from tests.index.conftest import make_criteria, make_match
from tests.index.world import digest
from tests.registries import publish_release
from tests.service.harness import learn

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
        self.words = WordSearch(self.registry, Selection(self.registry))
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
) -> list[tuple[str, float]]:
    """Search: slow and obvious."""
    kept = {id: [{*index_terms(texts)[0].split()} for texts in each] for id, each in documents.items()}
    terms, unwanted = extract_query_terms(query), {*extract_query_terms(without or "")}
    kept = {id: each for id, each in kept.items() if not unwanted or not unwanted <= set().union(*each)}
    counts = {term: sum(any(term in words for words in each) for each in kept.values()) for term in terms}
    most = max([1, *counts.values()])
    weights = {term: round(1_000 * (1 + math.log(most / max(1, counts[term])))) for term in terms}
    ranked = []
    for id, each in kept.items():
        weight = sum(weights[term] for term in terms if any(term in words for words in each))
        if weight:
            ranked.append((-weight, min(len(words) for words in each if words & {*terms}), id))
    return [(id, -weight / sum(weights.values())) for weight, _, id in sorted(ranked)]


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[WordWorld]:
    world = WordWorld(database_url, tmp_path)
    yield world
    world.registry.close()


def find(world: WordWorld, query: str, wanted: Criteria = EVERYTHING) -> list[tuple[str, float]]:
    return [(each.picture, each.score) for each in world.words.find(query, world.release, wanted)]


def test_any_text_is_searched_as_words_and_finds_what_plain_python_finds(world: WordWorld) -> None:
    world.change()
    documents, release = world.read_documents(), world.release
    hits = 0

    @settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
    @given(query=anything | phrases, without=st.none() | phrases)
    def agree(query: str, without: str | None) -> None:
        nonlocal hits
        ranking = [(each.picture, each.score) for each in world.words.find(query, release, Criteria(), without)]
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
    world.gallery.add_captions(str(version.expansion), "de", [("p3", "Schmetterling")])
    assert [id for id, _ in find(world, "SCHMETTERLING")] == ["p3"]
    release = world.release
    languages = {tag: number for tag, number in release.languages.items() if tag != "de"}
    publish_release(world.registry, expected=release.number, shared=release.shared, languages=languages)
    assert find(world, "schmetterling") == []


def test_what_is_wanted_is_said_once_however_many_the_words(world: WordWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = make_criteria({"key": "id", "match": {"any": [f"p{number}" for number in range(1_000)]}})
    query, without = ("".join(f"{letter}{number} " for number in range(31)) + "red" for letter in "ab")
    monkeypatch.setattr(world.words, "_find_visible_expansions", lambda _: frozenset(map(str, range(36))))
    parameters = list[int]()

    @event.listens_for(world.registry.engine, "before_cursor_execute")
    def count(*given: Any) -> None:
        parameters.append(len(given[3]))

    release, documents = world.release, world.read_documents()
    ranking = [(each.picture, each.score) for each in world.words.find(query, release, wanted, without)]
    assert ranking == search_slowly(query, documents, without) and ranking
    assert [each for each in parameters if each > 64] == [1_000]


def test_all_words_of_a_large_document_are_found(world: WordWorld) -> None:
    long = [f"{number:05}{'𐌰' * 59}" for number in range(12_000)]
    world.gallery.put([NewPicture("long", digest(1), 9, 9, {"en": [" ".join(long)]})], "tower")
    kept = index_terms([" ".join(long)])[0].split()
    with world.registry.read() as session:
        query = select(PictureWordsRow.length).order_by(PictureWordsRow.length.desc())
        assert session.scalars(query).first() == len(kept)
    for some in (kept[:5], kept[len(kept) // 2 :][:5], kept[-5:]):
        assert find(world, " ".join(some)) == [("long", 1.0)]
    assert find(world, long[len(kept)]) == []


def test_a_search_finds_no_more_than_the_best(world: WordWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = find(world, "1950 red the")
    monkeypatch.setattr(word_search, "MOST", 3)
    assert [id for id, _ in find(world, "1950 red the")] == [id for id, _ in whole[:3]] and len(whole) > 3


def test_one_search_at_a_time_has_much_in_memory(world: WordWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "_LOCK_SECONDS", 0.1)
    monkeypatch.setattr(word_search, "_MANY_MATCHES", 10)  # matches; each picture has 1950
    release, whole = world.release, find(world, "1950 red")
    with world.words._turn:
        with pytest.raises(RegistryUnavailable):
            world.words.find("1950 red", release, EVERYTHING)
        few = world.words.find("1950", release, make_criteria(make_match("id", "p3")))
        assert [each.picture for each in few] == ["p3"]
    assert find(world, "1950 red") == whole


def test_no_word_stays_of_a_picture_that_is_gone(world: WordWorld) -> None:
    for id in world.gallery.list_ids():
        world.gallery.delete(id)
    with world.registry.read() as session:
        assert session.scalar(select(func.count()).select_from(PictureWordsRow)) == 0
    assert find(world, "red the 猫 1950") == []
    for id, tag in (("old", "Libelle"), ("new", "Falter")):  # the second may get the number of the first
        world.gallery.put([NewPicture(id, digest(1), 9, 9, record=RecordInput(tags=[tag]))], "tower")
        assert [name for name, _ in find(world, "libelle")] == (["old"] if id == "old" else [])
        world.gallery.delete(id)


def test_without_its_documents_nothing_is_found(world: WordWorld) -> None:
    """The precondition of the others: it is these that are searched."""
    with world.registry.begin() as session:
        session.execute(delete(PictureWordsRow))
    assert find(world, "red the 猫 1950") == []


def make_hits(*pictures: str) -> list[PictureHit]:
    return [PictureHit(picture, 0.9 - rank / 100, rank) for rank, picture in enumerate(pictures, 1)]


def make_word_hits(*pictures: str) -> list[WordHit]:
    return [WordHit(picture, 1.0) for picture in pictures]


def test_a_fused_ranking_is_by_the_sum_of_reciprocal_ranks() -> None:
    random = Random(0)
    ids = [f"p{number}" for number in range(30)]
    for weights in ((1.0, 1.0), (1.0, 0.0), (0.5, 3.0)):
        meaning, words = random.sample(ids, 20), random.sample(ids, 12)
        hits = fuse_rankings(make_hits(*meaning), make_word_hits(*words), weights)
        sums = {
            id: sum(
                weight / (60 + ranking.index(id) + 1)
                for weight, ranking in zip(weights, (meaning, words), strict=True)
                if id in ranking
            )
            for id in ids
        }
        expected = sorted((id for id in ids if sums[id]), key=lambda id: (-round(sums[id] * 61 / sum(weights), 9), id))
        assert [hit.picture for hit in hits] == expected and [hit.rank for hit in hits] == [*range(1, len(hits) + 1)]
        assert all(hit.score == pytest.approx(sums[hit.picture] * 61 / sum(weights), abs=1e-8) for hit in hits)


def test_a_hit_tells_its_scores_in_both_and_the_first_in_both_has_1() -> None:
    hits = fuse_rankings(make_hits("a", "b"), make_word_hits("a", "c"), (1.0, 1.0))
    assert hits[0] == PictureHit("a", 1.0, 1, 0.89, 1.0)
    assert {hit.picture: (hit.meaning, hit.words) for hit in hits[1:]} == {"b": (0.88, None), "c": (None, 1.0)}


def test_a_picture_with_too_few_of_the_words_is_not_found_by_them() -> None:
    assert fuse_rankings([], [WordHit("a", 0.75), WordHit("b", 0.74)], (1.0, 1.0))[-1].picture == "a"
    assert [hit.picture for hit in rank_by_words([WordHit("a", 0.5), WordHit("b", 0.49)])] == ["a", "b"]
    assert [hit.picture for hit in rank_by_words([WordHit("a", 0.5), WordHit("b", 0.49)], 0.5)] == ["a"]


def test_pages_follow_each_other_also_when_the_last_hit_is_gone() -> None:
    hits = rank_by_words(make_word_hits(*"abcdef"))
    pages = [list_hits_after(hits, 2, None)]
    for _ in range(3):
        pages.append(list_hits_after(hits, 2, pages[-1][-1] if pages[-1] else None))
    assert ["".join(hit.picture for hit in page) for page in pages] == ["ab", "cd", "ef", ""]
    assert [hit.picture for hit in list_hits_after([*hits[:1], *hits[2:]], 2, hits[1])] == ["c", "d"]
