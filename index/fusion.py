"""One ranking of what is found by meaning and by words, in four bands, each ordered by reciprocal rank.

First come pictures that are called exactly like the text, then those that have all of its words, then those that are
likely meant, then all others. Within a band a picture's score is the sum of weight / (60 + rank) over the rankings that
have it: ranks can be compared where scores cannot. 60 is of Cormack, Clarke and Büttcher (SIGIR 2009).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from types import MappingProxyType

from index import snapshot
from index.snapshot import PictureHit
from index.word_search import WordHit
from model.match import CUT
from store.errors import PageTooDeep

NEAR = 100  # first hits by meaning, at least, that are fused; ranks beyond count for no picture that has the words
SAID = 0.95  # the chance of a picture whose words say that it is meant: as good as that of the surest by meaning
MOST_WORDED = 200  # pictures that a text finds by words beside meaning
_BANDS = 4
_RANK_OFFSET = 60
# Of what the words weigh: a picture that has less is not found by words. With half, every picture of one of two things
# that are asked for came before the picture of both, which has no text (`benchmarks.records.modes`, R@1 .57 for .89).
LEAST_SHARE = 0.75


def rank_by_words(found: Sequence[WordHit], min_score: float | None = None) -> list[PictureHit]:
    """Rank by words alone."""
    ranked = [
        PictureHit(each.picture, each.score, rank, words=each.score, said=each.complete)
        for rank, each in enumerate(found, 1)
    ]
    return [hit for hit in ranked if min_score is None or hit.score >= min_score]


@dataclass(frozen=True)
class Fusion:
    """What a text finds by meaning and by words, with these weights: not both may be 0, and of 0 a ranking is empty.

    `search` returns so many first hits by meaning; `measure_shares` says of pictures with captions, which share of the
    words these have. `is_told`: chances of hits are known. Those below `min_match` come last.
    """

    search: Callable[[int], Sequence[PictureHit]]
    words: Sequence[WordHit]
    weights: tuple[float, float]
    measure_shares: Callable[[Sequence[str]], Mapping[str, float]]
    is_told: bool = False
    min_match: float | None = None

    def list_hits_after(self, count: int, after: PictureHit | None) -> list[PictureHit]:
        """Return the next `count` hits, or the first ones; raise `PageTooDeep`."""
        depth = count + (after.rank if after else 0)
        if depth > snapshot.DEEPEST_RANK + 1:
            raise PageTooDeep(
                f"results go to rank {snapshot.DEEPEST_RANK:,}: ask for fewer on this page, or set min_score"
            )
        return list_hits_after(self.list_first(depth), count, after, self.min_match)

    def list_first(self, depth: int) -> list[PictureHit]:
        """Return the `depth` first hits or more, best first, ties by id; the same ones whatever the depth."""
        some = sum(not each.complete and _is_found(each) for each in self.words)  # these may come behind
        near = NEAR if depth <= NEAR else depth + some
        least = CUT if self.min_match is None else self.min_match
        while True:
            meaning = self.search(near) if self.weights[0] else []
            told = [hit.picture for hit in meaning if hit.match is not None] if self.weights[1] else []
            fused = fuse_rankings(meaning, self.words, self.weights, self.measure_shares(told), is_told=self.is_told)
            kept, others = split_at(fused, self.min_match)
            last = (meaning[-1].match or 0.0) if len(meaning) == near else -1.0  # no other has a higher chance
            sure = sum(bool(hit.likely) for hit in kept) if last >= CUT else len(kept) - some
            if last < least or sure >= depth:
                return [replace(hit, rank=rank) for rank, hit in enumerate([*kept, *others], 1)] if others else kept
            near *= 2


def fuse_rankings(
    meaning: Sequence[PictureHit],
    words: Sequence[WordHit],
    weights: tuple[float, float],
    shares: Mapping[str, float] = MappingProxyType({}),
    *,
    is_told: bool = False,
) -> list[PictureHit]:
    """Join a ranking by meaning and one by words, with these weights, best first, ties by id.

    A score of 1 is the first place in both of a picture that is called exactly so. A picture whose captions have some
    of the words has so much of its chance as is their share: one of "two o'clock" is no picture of two dogs. Where
    chances are told, what has all words has one though nothing is found by meaning.
    """
    by_words = {each.picture: each for each in words} if weights[1] else {}
    found = {id: rank for rank, (id, each) in enumerate(by_words.items(), 1) if _is_found(each)}
    near = {hit.picture: hit for hit in meaning if hit.picture not in found or hit.rank <= NEAR} if weights[0] else {}
    least = min((hit.match for hit in meaning[:NEAR] if hit.match is not None), default=None)
    scored = list[tuple[float, str, PictureHit]]()
    for picture in {**near, **found}:
        hit, word = near.get(picture), by_words.get(picture)
        said = word is not None and word.complete
        chance = hit.match if hit is not None else least
        if said and (is_told or chance is not None):
            chance = max(chance or 0.0, SAID)
        elif chance is not None:
            chance = round(chance * (shares.get(picture) or 1.0), 4)
        ranks = (hit.rank if hit is not None else None, found.get(picture))
        fused = sum(
            weight * (_RANK_OFFSET + 1) / (_RANK_OFFSET + rank)
            for weight, rank in zip(weights, ranks, strict=True)
            if rank is not None
        )
        band = 3 if word is not None and word.whole else 2 if said else (chance or 0.0) >= CUT
        score = round((band + fused / sum(weights)) / _BANDS, 9)
        share = word.score if word is not None and picture in found else None
        one = PictureHit(picture, score, 0, hit.score if hit is not None else None, share, chance, said)
        scored.append((-score, picture, one))
    return [replace(hit, rank=rank) for rank, (_, _, hit) in enumerate(sorted(scored, key=itemgetter(0, 1)), 1)]


def _is_found(hit: WordHit) -> bool:
    return hit.complete or hit.score >= LEAST_SHARE


def split_at(hits: Sequence[PictureHit], least: float | None) -> tuple[list[PictureHit], list[PictureHit]]:
    """Split hits into those with at least this chance, or all where none is asked for, and the others."""
    kept, others = list[PictureHit](), list[PictureHit]()
    for hit in hits:
        (kept if least is None or (hit.match is not None and hit.match >= least) else others).append(hit)
    return kept, others


def list_hits_after(
    hits: Sequence[PictureHit], count: int, after: PictureHit | None, least: float | None = None
) -> list[PictureHit]:
    """Return the next `count` hits of a whole ranking, after one that may have gone meanwhile, or the first ones.

    Those with less than the `least` chance come last, and `after` was none of them.
    """
    if after is None:
        return list(hits[:count])
    kept, _ = split_at(hits, least)
    places = [place for place, hit in enumerate(kept, 1) if hit.picture == after.picture]
    passed = places[0] if places else sum((-hit.score, hit.picture) < (-after.score, after.picture) for hit in kept)
    return list(hits[passed : passed + count])
