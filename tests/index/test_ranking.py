"""One ranking of meaning and words, in bands; and the recall that an operator reads, against an exact scan."""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from index import ivf, ranking
from index.captions import EncoderId
from index.engine import FoundRows
from index.gallery import NewPicture
from index.live import LiveIndex
from index.ranking import Fusion, PictureHit, fuse_rankings
from index.vectors import Candidates
from index.word_search import WordHit
from service.commands.doctor import Checkup
from service.settings import Settings
from store.bases import FIRST_ENCODING
from tests.doubles import DIMENSION, make_text_vector
from tests.index.conftest import numbered, unit
from tests.index.world import World, digest, flip, put
from tests.store.steps import begin_move


def make_hits(*pictures: str, match: Sequence[float | None] = ()) -> list[PictureHit]:
    chances = [*match, *[None] * len(pictures)]
    return [
        PictureHit(picture, 0.9 - rank / 100, rank, match=chances[rank - 1]) for rank, picture in enumerate(pictures, 1)
    ]


def make_word_hits(*pictures: str) -> list[WordHit]:
    return [WordHit(picture, 1.0) for picture in pictures]


def list_ids(hits: Sequence[PictureHit]) -> list[str]:
    return [hit.picture for hit in hits]


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
        assert all(hit.score == pytest.approx(sums[hit.picture] * 61 / sum(weights) / 4, abs=1e-8) for hit in hits)


def test_a_hit_tells_its_scores_in_both_and_the_first_in_both_that_is_called_so_has_1() -> None:
    hits = fuse_rankings(make_hits("a", "b"), [WordHit("a", 1.0, True, True), WordHit("c", 1.0)], (1.0, 1.0))
    assert hits[0] == PictureHit("a", 1.0, 1, 0.89, 1.0, has_all_words=True)
    assert {hit.picture: (hit.meaning, hit.words) for hit in hits[1:]} == {"b": (0.88, None), "c": (None, 1.0)}


def test_bands_follow_each_other_whatever_the_ranks() -> None:
    near = make_hits("a", "b", "c", "d", "e", match=[0.9, 0.6, 0.4, 0.3, 0.2])
    words = [WordHit("e", 1.0, True, True), WordHit("x", 0.9, True), WordHit("d", 0.8)]
    hits = fuse_rankings(near, words, (1.0, 1.0), {"b": 0.5, "d": 0.8})
    assert list_ids(hits) == ["e", "x", "a", "d", "b", "c"]
    assert [hit.match for hit in hits] == [0.95, 0.95, 0.9, 0.24, 0.3, 0.4]
    assert [hit.likely for hit in hits] == [True, True, True, False, False, False]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@pytest.mark.parametrize(("likely", "worded"), [(0, 60), (30, 60), (250, 60), (30, 0)])
def test_pages_of_any_size_are_parts_of_one_ranking(likely: int, worded: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.ranking.NEAR", 20)
    random, ids = Random(likely), [f"p{number:03}" for number in range(400)]
    chances = [0.9 if rank < likely else 0.2 for rank in range(400)] if likely else []
    meaning = make_hits(*random.sample(ids, 400), match=chances)
    words = [WordHit(id, random.choice([0.8, 0.9, 1.0]), random.random() < 0.3) for id in random.sample(ids, worded)]
    whole = fuse_rankings(meaning, words, (1.0, 1.0))
    for size in (7, 50):
        found, after = list[PictureHit](), None
        while page := Fusion(lambda near: meaning[:near], words, (1.0, 1.0), lambda _: {}).list_hits_after(size, after):
            found, after = [*found, *page], page[-1]
        assert found == whole


@pytest.mark.parametrize(("least", "worded"), [(0.3, 40), (0.7, 40), (0.3, 0), (0.7, 0)])
def test_hits_below_the_least_chance_follow_all_others_whatever_the_size_of_a_page(least: float, worded: int) -> None:
    random, ids = Random(0), [f"p{number:03}" for number in range(300)]
    meaning = make_hits(*ids, match=[0.95 - rank / 400 for rank in range(300)])
    shares = {id: random.choice([0.2, 0.6]) for id in ids[::2]}  # so chances do not fall from hit to hit
    words = [WordHit(id, 0.8, random.random() < 0.3) for id in random.sample(ids, worded)]
    whole = fuse_rankings(meaning, words, (1.0, 1.0), shares)
    expected = [hit.picture for hit in whole if (hit.match or 0.0) >= least]
    assert expected != list_ids(whole)[: len(expected)]

    def list_page(size: int, after: PictureHit | None, without: Sequence[str] = ()) -> list[PictureHit]:
        near = [hit for hit in meaning if hit.picture not in without]
        fusion = Fusion(lambda depth: near[:depth], words, (1.0, 1.0), measure_shares, True, least)
        return fusion.list_hits_after(size, after)

    def measure_shares(asked: Sequence[str]) -> dict[str, float]:
        return {id: shares[id] for id in asked if id in shares}

    for size in (7, 60):
        found, after = list[PictureHit](), None
        while len(found) < len(expected):
            found += list_page(size, after)
            after = found[-1]
        assert list_ids(found[: len(expected)]) == expected
        assert {hit.picture: hit.match for hit in found}.items() <= {hit.picture: hit.match for hit in whole}.items()
        assert [hit.rank for hit in found] == [*range(1, len(found) + 1)]
    gone = next(hit for hit in found[20:] if hit.picture not in {each.picture for each in words})
    assert list_page(1, gone, [gone.picture])[0].picture == expected[gone.rank]


def test_what_has_all_words_keeps_its_chance_where_nothing_is_found_by_meaning() -> None:
    words = [WordHit("x", 0.9, True), WordHit("y", 0.8)]
    for weights in ((0.0, 1.0), (1.0, 1.0)):
        hits = Fusion(lambda _: [], words, weights, lambda _: {}, True, 0.5).list_hits_after(9, None)
        assert [(hit.picture, hit.match) for hit in hits] == [("x", 0.95), ("y", None)]


def test_how_deep_searches_go_is_told_beside_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ivf, "SCAN_LIMIT", 15)
    live = put(world.serve(), *range(60))
    world.seal(live)
    found = live.measure_recall()
    assert found is not None and found.unit == "lists" and found.depth is not None and found.depth >= 1
    line = Checkup(Settings(home=world.home)).check("recall")
    assert line is not None and line.detail.endswith(f", {found.depth} lists deep")


def test_captions_as_the_base_before_reads_them_ask_nothing(world: World) -> None:
    """Of two bases of one width, one text has quite different vectors."""
    world.put("a", 1, {"en": ["an apple"]})
    world.registry.encodings.record_first(FIRST_ENCODING.backend, FIRST_ENCODING.precision)
    world.registry.bases.add("B", "image-b", "text-b", begin_move(world.registry))
    found = list[list[float]]()
    for version, (text, image) in enumerate([(world.encoder.base_fingerprint, ""), ("text-b", "image-b")]):
        here = FIRST_ENCODING.compute_fingerprint(image)
        assert world.gallery.list_newest_vectors(9, here) == []
        by = EncoderId(version, FIRST_ENCODING.compute_fingerprint(text))
        world.gallery.put_caption_vectors(by, {1: make_text_vector(version, "an apple")})
        (vector,) = world.gallery.list_newest_vectors(9, here)
        found.append(vector.tolist())
    assert found[0] != found[1]


def test_the_doctor_names_a_segment_that_is_damaged(world: World) -> None:
    world.seal(put(world.serve(), *range(12)))
    (folder,) = world.list_segments("pictures")
    flip(folder / "rows.safetensors")
    line = Checkup(Settings(home=world.home)).check("recall")
    assert line is not None and line.outcome == "bad" and f"Segment {folder.name} is unusable" in line.detail


def test_an_empty_set_has_none(world: World) -> None:
    assert world.serve().measure_recall() is None


PICTURES = 400


@pytest.fixture
def in_engine(remote: World) -> World:
    """Four hundred pictures, sealed in an engine, and five captions."""
    pictures = [
        NewPicture(f"n{number}", digest(number + 100), 9, 9, None, vector)
        for number, vector in enumerate(unit(PICTURES, 1, DIMENSION))
    ]
    remote.gallery.put(pictures, remote.encoder.image_fingerprint)
    put(remote.serve(), *range(5))
    remote.seal()
    return remote


def get_engine(world: World) -> Any:
    assert world.engine is not None
    return world.engine


def share(live: LiveIndex) -> float:
    found = live.measure_recall()
    assert found is not None and found.captions and found.queries == 10
    return found.share


def test_what_an_engine_misses_is_measured_also_by_a_sample(in_engine: World, monkeypatch: pytest.MonkeyPatch) -> None:
    live, real = in_engine.serve(), type(get_engine(in_engine)).find_nearest
    assert share(live) == 1.0
    in_engine.put("late", 7)  # in the tail
    live.refresh()
    assert share(live) == 1.0

    def find_every_other(*given: Any) -> Candidates:
        near = real(*given)
        kept = np.arange(0, len(near.scores), 2)
        return Candidates(near.scores[kept], near.vectors[kept], lambda number: near.entry(2 * number), exact=False)

    monkeypatch.setattr(type(in_engine.engine), "find_nearest", find_every_other)
    measured = share(live)
    assert 0.45 < measured < 0.6  # ten hits, and about as many that are as near and are missed
    monkeypatch.setattr(ranking, "SAMPLE", 200)
    assert abs(share(live) - measured) < 0.1

    nothing = FoundRows(numbered(), [], np.empty((0, DIMENSION), dtype=np.float32), numbered())
    empty = nothing.make_candidates(np.empty(0, dtype=np.float32), exact=False)
    monkeypatch.setattr(type(in_engine.engine), "find_nearest", lambda *_: empty)
    in_engine.seal()
    live.refresh()
    assert share(live) == 0.0, "rows that are not there count as missed"


def test_the_doctor_says_that_an_engine_has_lost_what_was_sealed(tmp_path: Path, postgresql_url: str) -> None:
    world = World(tmp_path, postgresql_url, index="pgvector")
    settings = Settings(home=tmp_path, index="pgvector", database_url=postgresql_url)
    put(world.serve(), 1, 2, 3)
    world.seal()
    get_engine(world).drop(world.pictures())
    line = Checkup(settings).check("recall")
    assert line is not None and line.outcome == "bad"
    assert world.pictures().name in line.detail and "not in pgvector" in line.detail
    world.close()
