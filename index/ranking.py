"""A page of hits, how two rankings become one, and how many of the nearest pictures searches find.

What is found by meaning and by words becomes one ranking, in four bands: first pictures that are called exactly like
the text, then those that have all of its words, then those that are likely meant, then all others. Within a band a
picture's score is the sum of weight / (60 + rank) over the rankings that have it: ranks can be compared where scores
cannot. 60 is of Cormack, Clarke and Büttcher (SIGIR 2009).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from threading import Lock
from typing import Literal, NamedTuple

import numpy as np

from index import ivf
from index.engine import EnginePart
from index.gallery import Gallery
from index.vectors import VectorSet
from index.word_search import WordHit
from model.match import CUT
from store.errors import PageTooDeep

DEEPEST_RANK = 10_000  # rank of the last hit on the last page: time and memory of a search grow with its depth
NEAR = 100  # first hits by meaning, at least, that are fused; ranks beyond count for no picture that has the words
LEAST_CHANCE_WITH_ALL_WORDS = 0.95  # as good as that of the surest by meaning: its words say that it is meant
_BANDS = 4
_RANK_OFFSET = 60
_K = 10
_QUERIES = 100
SAMPLE = 131_072  # pictures that answers are compared with
_ROUNDING = 1e-4  # between scores in float32 and ours


class PictureHit(NamedTuple):
    """A picture in a search result; `rank` counts from 1 over all pages.

    `score` orders the hits. Where two rankings were joined, `meaning` and `words` are its scores in these, or None.
    `match` is the chance that it is what the text means, where that is known. `has_all_words`: all those of the text.
    """

    picture: str
    score: float
    rank: int
    meaning: float | None = None
    words: float | None = None
    match: float | None = None
    has_all_words: bool = False

    @property
    def likely(self) -> bool | None:
        """Whether it is rather what was meant than not; None where that is not known."""
        return True if self.has_all_words else None if self.match is None else self.match >= CUT

    def has_chance(self, least: float | None) -> bool:
        """Whether it has at least this chance, or none is asked for."""
        return least is None or (self.match is not None and self.match >= least)


def require_depth(depth: int) -> int:
    """Return a depth that is not beyond one more than the deepest rank."""
    if depth > DEEPEST_RANK + 1:
        raise PageTooDeep(f"results go to rank {DEEPEST_RANK:,}: ask for fewer on this page, or set min_score")
    return depth


def rank_by_words(found: Sequence[WordHit], min_score: float | None = None) -> list[PictureHit]:
    ranked = [
        PictureHit(each.picture, each.score, rank, words=each.score, has_all_words=each.complete)
        for rank, each in enumerate(found, 1)
    ]
    return [hit for hit in ranked if min_score is None or hit.score >= min_score]


@dataclass(frozen=True)
class Fusion:
    """What a text finds by meaning and by words, with these weights: not both may be 0, and of 0 a ranking is empty.

    `search` returns so many first hits by meaning; `measure_shares` says of pictures with captions, which share of the
    words these have. `has_chances`: chances of hits are known. Those below `min_match` come last.
    """

    search: Callable[[int], Sequence[PictureHit]]
    words: Sequence[WordHit]
    weights: tuple[float, float]
    measure_shares: Callable[[Sequence[str]], Mapping[str, float]]
    has_chances: bool = False
    min_match: float | None = None

    def list_hits_after(self, count: int, after: PictureHit | None) -> list[PictureHit]:
        """Return the next `count` hits, or the first ones: the same whatever the depth; raise `PageTooDeep`."""
        depth, least = require_depth(count + (after.rank if after else 0)), self.min_match
        some = sum(not each.complete for each in self.words)  # these may come behind
        near = NEAR if self.words and depth <= NEAR else depth + some
        while True:
            meaning = self.search(near) if self.weights[0] else []
            share_dependent = self._choose_share_dependent(meaning) if self.weights[1] else []
            shares = self.measure_shares(share_dependent)
            fused = fuse_rankings(meaning, self.words, self.weights, shares, has_chances=self.has_chances)
            kept = [hit for hit in fused if hit.has_chance(least)]
            last = (meaning[-1].match or 0.0) if len(meaning) == near else -1.0  # no other has a higher chance
            sure = sum(bool(hit.likely) for hit in kept) if last >= CUT else len(kept) - some
            if last < (CUT if least is None else least) or sure >= depth:
                if below := [hit for hit in fused if not hit.has_chance(least)]:
                    fused = [hit._replace(rank=rank) for rank, hit in enumerate([*kept, *below], 1)]
                page = list_hits_after(fused, count, after, least)
                return self._lower_chances(page, share_dependent) if self.weights[1] else page
            near *= 2

    def _choose_share_dependent(self, meaning: Sequence[PictureHit]) -> list[str]:
        """Choose the pictures whose place may depend on their share: of all others only a page's are read."""
        bound = CUT if self.min_match is None else min(CUT, self.min_match)
        near = (hit.picture for hit in meaning if hit.match is not None and hit.match >= bound)
        return [*dict.fromkeys(chain(near, (hit.picture for hit in self.words if not hit.complete)))]

    def _lower_chances(self, page: Sequence[PictureHit], share_dependent: Collection[str]) -> list[PictureHit]:
        """Return a page on which each hit has as much of its chance as is its share, those chosen before already."""
        others = {hit.picture: hit.match for hit in page if hit.match is not None and not hit.has_all_words}
        shares = self.measure_shares([picture for picture in others if picture not in share_dependent])
        lowered = {picture: round(others[picture] * share, 4) for picture, share in shares.items()}
        return [hit._replace(match=lowered[hit.picture]) if hit.picture in lowered else hit for hit in page]


def fuse_rankings(
    meaning: Sequence[PictureHit],
    words: Sequence[WordHit],
    weights: tuple[float, float],
    shares: Mapping[str, float] | None = None,
    *,
    has_chances: bool = False,
) -> list[PictureHit]:
    """Join a ranking by meaning and one by words, with these weights, best first, ties by id.

    A score of 1 is the first place in both of a picture that is called exactly so. A picture whose captions have some
    of the words has so much of its chance as is their share: one of "two o'clock" is no picture of two dogs. Where
    chances are known, what has all words has one though nothing is found by meaning.
    """
    found = {each.picture: (rank, each) for rank, each in enumerate(words, 1)} if weights[1] else {}
    near = {hit.picture: hit for hit in meaning if hit.picture not in found or hit.rank <= NEAR} if weights[0] else {}
    least = min((hit.match for hit in meaning[:NEAR] if hit.match is not None), default=None)
    fused = list[tuple[float, str, float | None, float | None, float | None, bool]]()
    for picture in {**near, **found}:
        hit, (place, word) = near.get(picture), found.get(picture, (None, None))
        has_all_words = word is not None and word.complete
        chance = hit.match if hit is not None else least
        if has_all_words and (has_chances or chance is not None):
            chance = max(chance or 0.0, LEAST_CHANCE_WITH_ALL_WORDS)
        elif chance is not None:
            chance = round(chance * ((shares or {}).get(picture) or 1.0), 4)
        near_rank, meaning_score = (None, None) if hit is None else (hit.rank, hit.score)
        score = weights[0] * (_RANK_OFFSET + 1) / (_RANK_OFFSET + near_rank) if near_rank else 0.0
        score += weights[1] * (_RANK_OFFSET + 1) / (_RANK_OFFSET + place) if place else 0.0
        band = 3 if word is not None and word.whole else 2 if has_all_words else (chance or 0.0) >= CUT
        score = round((band + score / sum(weights)) / _BANDS, 9)
        share = None if word is None else word.score
        fused.append((-score, picture, meaning_score, share, chance, has_all_words))
    fused.sort()  # no picture comes twice
    return [
        PictureHit(picture, -less, rank, meaning_score, share, chance, has_all_words)
        for rank, (less, picture, meaning_score, share, chance, has_all_words) in enumerate(fused, 1)
    ]


def _rank(hit: PictureHit) -> tuple[float, str]:
    return -hit.score, hit.picture


def list_hits_after(
    hits: Sequence[PictureHit], count: int, after: PictureHit | None, least: float | None = None
) -> list[PictureHit]:
    """Return the next `count` hits of a whole ranking, after one that may have gone meanwhile, or the first ones.

    Those with less than the `least` chance come last, and `after` was none of them.
    """
    if after is None:
        return list(hits[:count])
    kept = [hit for hit in hits if hit.has_chance(least)]
    places = [place for place, hit in enumerate(kept, 1) if hit.picture == after.picture]
    passed = places[0] if places else sum(_rank(hit) < _rank(after) for hit in kept)
    return list(hits[passed : passed + count])


@dataclass(frozen=True)
class SampledRecall:
    """Share of the ten nearest pictures that `queries` searches found; by captions of the gallery, or generated ones.

    `depth` is the most that is searched of a part of the index for ten hits: lists of a segment, or candidates of
    pgvector's graph; None where all is compared, or Milvus decides.
    """

    share: float
    queries: int
    captions: bool
    depth: int | None
    unit: Literal["lists", "candidates"] | None


def measure(pictures: VectorSet, gallery: Gallery) -> SampledRecall | None:
    """Search with captions of the gallery, or without any with generated texts; None for an empty set.

    Answers are compared with the pictures of the tables, or a sample of them: rows that an engine has lost are missed.
    By score, not by picture: of equal pictures any is as good. Raises `IndexUnavailable`.
    """
    parts = [part for part in (*pictures.parts, pictures.tail) if part.count]
    sample = gallery.sample_vectors(min(1.0, SAMPLE / max(pictures.count, 1)), pictures.identity.fingerprint)
    if not parts or (first := next(filter(None, sample), None)) is None:
        return None
    k = min(_K, pictures.count)
    newest = gallery.list_newest_vectors(_QUERIES, pictures.identity.fingerprint)
    captions = [each for each in newest if len(each) == pictures.identity.dimension]
    known = np.stack([*first.values()])[:_QUERIES]
    queries = np.stack(captions) if captions else ivf.generate_queries(known.astype(np.float16))
    answers = [pictures.search(query, k) for query in queries]
    names = [{hit.entry.picture for hit in hits} for hits in answers]
    lowest = np.array([hits[-1].score if hits else np.inf for hits in answers], dtype=np.float32) + _ROUNDING
    missed: list[list[float]] = [[] for _ in answers]  # scores of those that are nearer than the last that was found
    compared = 0
    for block in chain([first], filter(None, sample)):
        ids, products = [*block], queries @ np.stack([*block.values()]).T
        for query, row in np.argwhere(products > lowest[:, None]).tolist():
            if ids[row] not in names[query]:
                missed[query].append(products[query, row])
        compared += len(ids)
    scale = max(pictures.count, compared) / compared  # so many times more are missed among all
    found = sum(
        rank + scale * sum(score > hit.score + _ROUNDING for score in nearer) <= k
        for hits, nearer in zip(answers, missed, strict=True)
        for rank, hit in enumerate(hits, 1)
    )
    depth = max((depth for part in parts if (depth := part.get_depth(k)) is not None), default=None)
    unit: Literal["lists", "candidates"] = "candidates" if isinstance(parts[0], EnginePart) else "lists"
    share = round(found / (k * len(queries)), 4)
    return SampledRecall(share, len(queries), bool(captions), depth, None if depth is None else unit)


class KnownRecall:
    """Recall of a set, measured again only when something else is sealed of it: a tail is compared exactly."""

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self._measuring = Lock()  # one at a time: it takes a core for seconds
        self._known: tuple[object, SampledRecall] | None = None

    def measure(self, pictures: VectorSet, *, anew: bool) -> SampledRecall | None:
        """Measure recall; without `anew`, return the last result while the same rows are sealed.

        While another thread measures, return what was known last: many that wait would take all threads of a process.
        """
        sealed = pictures.identity, pictures.state
        if not self._measuring.acquire(blocking=anew):
            known = self._known
            return None if known is None else known[1]
        try:
            if not anew and self._known is not None and self._known[0] == sealed:
                return self._known[1]
            found = measure(pictures, self._gallery)
            self._known = None if found is None else (sealed, found)
            return found
        finally:
            self._measuring.release()
