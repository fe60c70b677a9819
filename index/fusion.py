"""Puts two rankings of pictures together by reciprocal rank. Searches nothing.

A picture's score is the sum of weight / (60 + rank) over the rankings that have it: ranks can be compared where scores
cannot. 60 is the constant of Cormack, Clarke and Büttcher (SIGIR 2009).
"""

from collections.abc import Sequence

from index.snapshot import PictureHit
from index.word_search import Worded

_K = 60
_HALF = 0.5  # of what the words weigh: a picture that has less of them is not found by words


def by_words(found: Sequence[Worded], min_score: float | None = None) -> list[PictureHit]:
    """A ranking by words alone."""
    hits = enumerate(found, 1)
    ranked = [PictureHit(each.picture, each.score, rank, words=each.score) for rank, each in hits]
    return [hit for hit in ranked if min_score is None or hit.score >= min_score]


def fused(meaning: Sequence[PictureHit], words: Sequence[Worded], weights: tuple[float, float]) -> list[PictureHit]:
    """A ranking by meaning and one by words together, with these weights, best first, ties by id.

    A score of 1 is the first place in both. Not both weights may be 0; a ranking whose weight is 0 finds nothing.
    """
    found = [each for each in words if each.score >= _HALF]
    nearness = {hit.picture: hit.score for hit in meaning} if weights[0] else {}
    shares = {each.picture: each.score for each in found} if weights[1] else {}
    sums = dict[str, float]()
    for weight, pictures in zip(weights, (nearness, shares), strict=True):
        for rank, picture in enumerate(pictures, 1):
            sums[picture] = sums.get(picture, 0.0) + weight * (_K + 1) / (_K + rank)
    scored = {picture: round(total / sum(weights), 9) for picture, total in sums.items()}
    return [
        PictureHit(picture, scored[picture], rank, nearness.get(picture), shares.get(picture))
        for rank, picture in enumerate(sorted(scored, key=lambda picture: (-scored[picture], picture)), 1)
    ]


def following(hits: Sequence[PictureHit], count: int, after: PictureHit | None) -> list[PictureHit]:
    """The first `count` hits of a whole ranking, or those after one of it, though it may be there no more."""
    if after is None:
        return list(hits[:count])
    places = [place for place, hit in enumerate(hits, 1) if hit.picture == after.picture]
    passed = places[0] if places else sum((-hit.score, hit.picture) < (-after.score, after.picture) for hit in hits)
    return list(hits[passed : passed + count])
