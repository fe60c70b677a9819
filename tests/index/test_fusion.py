"""Rankings put together by reciprocal rank."""

from random import Random

import pytest

from index.fusion import by_words, following, fused
from index.snapshot import PictureHit
from index.word_search import Worded


def near(*pictures: str) -> list[PictureHit]:
    return [PictureHit(picture, 0.9 - rank / 100, rank) for rank, picture in enumerate(pictures, 1)]


def worded(*pictures: str) -> list[Worded]:
    return [Worded(picture, 1.0) for picture in pictures]


def test_a_fused_ranking_is_by_the_sum_of_reciprocal_ranks() -> None:
    random = Random(0)
    ids = [f"p{number}" for number in range(30)]
    for weights in ((1.0, 1.0), (1.0, 0.0), (0.5, 3.0)):
        meaning, words = random.sample(ids, 20), random.sample(ids, 12)
        hits = fused(near(*meaning), worded(*words), weights)
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
    hits = fused(near("a", "b"), worded("a", "c"), (1.0, 1.0))
    assert hits[0] == PictureHit("a", 1.0, 1, 0.89, 1.0)
    assert {hit.picture: (hit.meaning, hit.words) for hit in hits[1:]} == {"b": (0.88, None), "c": (None, 1.0)}


def test_a_picture_with_less_than_half_of_the_words_is_not_found_by_them() -> None:
    assert fused([], [Worded("a", 0.5), Worded("b", 0.49)], (1.0, 1.0))[-1].picture == "a"
    assert [hit.picture for hit in by_words([Worded("a", 0.5), Worded("b", 0.49)])] == ["a", "b"]
    assert [hit.picture for hit in by_words([Worded("a", 0.5), Worded("b", 0.49)], 0.5)] == ["a"]


def test_pages_follow_each_other_also_when_the_last_hit_is_gone() -> None:
    hits = by_words(worded(*"abcdef"))
    pages = [following(hits, 2, None)]
    for _ in range(3):
        pages.append(following(hits, 2, pages[-1][-1] if pages[-1] else None))
    assert ["".join(hit.picture for hit in page) for page in pages] == ["ab", "cd", "ef", ""]
    assert [hit.picture for hit in following([*hits[:1], *hits[2:]], 2, hits[1])] == ["c", "d"]
