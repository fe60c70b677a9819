"""The snapshot that answers a request: release, views, vector sets and detector in one immutable object. Opens nothing.

A request takes the reference to it once. No search reads a file or the registry, so it works without them.

What is found by meaning and by words becomes one ranking, in four bands: first pictures that are called exactly like
the text, then those that have all of its words, then those that are likely meant, then all others. Within a band a
picture's score is the sum of weight / (60 + rank) over the rankings that have it: ranks can be compared where scores
cannot. 60 is of Cormack, Clarke and Büttcher (SIGIR 2009).
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Literal

import numpy as np

from index.vectors import Hit, Identity, Keys, Vector, VectorSet
from index.word_search import FoundWords, WordHit
from model.detection import Detector, Guess
from model.languages import ENGLISH, canonicalize, is_in_script, look_up
from model.match import CUT, RIVALS, Calibration
from model.table import View
from store.errors import LanguageNotFound, PageTooDeep, PictureNotFound
from store.releases import Release

AUTO, SHARED = "auto", "shared"  # instead of a tag: detect the language; use the shared version
DEEPEST_RANK = 10_000  # rank of the last hit on the last page: time and memory of a search grow with its depth
NEAR = 100  # first hits by meaning, at least, that are fused; ranks beyond count for no picture that has the words
SAID = 0.95  # the chance of a picture whose words say that it is meant: as good as that of the surest by meaning
_BANDS = 4
_RANK_OFFSET = 60
_SAME_SCORE = 1e-5  # scores closer than this are taken as equal


@dataclass(frozen=True)
class Route:
    """The version that encodes a text, and how it was chosen; `used` is `shared`, or a tag.

    A tag that no version serves is read by a multilingual base.
    """

    requested: str
    used: str
    source: Literal["requested", "detected", "shared"]
    confidence: float | None
    view: View
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class PictureHit:
    """A picture in a search result; `rank` counts from 1 over all pages.

    `score` orders the hits. Where two rankings were joined, `meaning` and `words` are its scores in these, or None.
    `match` is the chance that it is what the text means, where that is known. `said`: it has all words of the text.
    """

    picture: str
    score: float
    rank: int
    meaning: float | None = None
    words: float | None = None
    match: float | None = None
    said: bool = False

    @property
    def likely(self) -> bool | None:
        """Whether it is rather what was meant than not; None where that is not known."""
        return True if self.said else None if self.match is None else self.match >= CUT

    def has_chance(self, least: float | None) -> bool:
        """Whether it has at least this chance, or none is asked for."""
        return least is None or (self.match is not None and self.match >= least)


@dataclass(frozen=True)
class CaptionHit:
    """A caption in a search result, with the picture it describes; `rank` counts from 1 within its language."""

    caption: str
    language: str
    score: float
    rank: int
    picture: str


@dataclass(frozen=True)
class Withdrawn:
    """The last version of a language that is not served any more, and its n-gram counts."""

    version: int
    ngrams: Mapping[str, int]


@dataclass(frozen=True)
class Snapshot:
    """An opened release. `views` has exactly its languages; `problems` has sentences about the release.

    `captions` has these too and, on a multilingual base, untaught ones that pictures have captions in, once opened.
    `ngram_sources` has the version and the number of captions from which the detector's counts of each language come.
    `built_in` are the languages that the base reads untaught. The detector still knows languages that were `withdrawn`:
    their texts would often be taken for a similar language.
    """

    release: Release
    views: Mapping[str, View]
    shared_view: View
    sets: Mapping[Identity, VectorSet]
    detector: Detector = field(default_factory=Detector)
    problems: tuple[str, ...] = ()
    ngram_sources: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    built_in: tuple[str, ...] = (ENGLISH,)
    withdrawn: Mapping[str, Withdrawn] = field(default_factory=dict)
    calibrations: Mapping[int, Calibration] = field(default_factory=dict)  # by version

    @cached_property
    def pictures(self) -> VectorSet:
        """The set of all pictures."""
        return next(vector_set for identity, vector_set in self.sets.items() if identity.kind == "pictures")

    @property
    def versions(self) -> set[int]:
        """The numbers of all versions that it names."""
        return {self.release.shared, *self.release.languages.values()}

    @cached_property
    def captions(self) -> Mapping[str, VectorSet]:
        """The set of each language's captions, as read by the language's version, or else by the base."""
        return {identity.language: vector_set for identity, vector_set in self.sets.items() if identity.language}

    @property
    def change(self) -> int:
        """The last change of the gallery that is in every set."""
        return min(vector_set.change for vector_set in self.sets.values())

    @property
    def degraded(self) -> tuple[str, ...]:
        """A sentence for each problem: of the release, and of segments that could not be read."""
        return (*self.problems, *(problem for vector_set in self.sets.values() for problem in vector_set.problems))

    @property
    def multilingual(self) -> bool:
        """Whether the base reads more than English; then any language may be tried."""
        return len(self.built_in) > 1

    def require_readable(self, tag: str) -> str:
        """Return the canonical form of a tag that its own version reads, or a multilingual base.

        Raise `LanguageTagInvalid` or `LanguageNotFound`.
        """
        tag = canonicalize(tag)
        if tag not in self.views and not self.multilingual:
            raise LanguageNotFound(languages=sorted(self.views))
        return tag

    def find_reader(self, tag: str) -> View | None:
        """Return the view that reads a canonical tag: its own, or that of a multilingual base; else None."""
        return self.views.get(tag, self.views[ENGLISH] if self.multilingual else None)

    def warn_of_untaught(self, tags: Iterable[str]) -> tuple[str, ...]:
        """Return the warning of an answer in these languages if the base alone reads one of them."""
        return () if all(tag in self.views for tag in tags) else ("language_not_taught",)

    def route(self, requested: str, text: str) -> Route:
        """Choose the version that encodes a cleaned text: of the given or detected language, or the shared one.

        `requested` is a tag, `auto` or `shared`; raise `LanguageTagInvalid` or `LanguageNotFound` for a tag.
        """
        if requested == SHARED:
            return Route(requested, SHARED, "shared", None, self.shared_view)
        if requested != AUTO:
            tag = look_up(self.views, canonicalize(requested)) or self.require_readable(requested)  # `de` for `de-AT`
            view = self.find_reader(tag)
            assert view is not None  # of one that is `readable`
            return Route(requested, tag, "requested", None, view, self.warn_of_untaught([tag]))
        languages = sorted(self.views)
        guess = self.detector.guess(text, languages)
        among_all = self.detector.guess(text, {*languages, *self.withdrawn}) if self.withdrawn else guess
        if guess.language is None:
            warnings = self._list_warnings(text, languages, guess)
        elif among_all.language in self.withdrawn:  # it is surely in a language that is not served any more
            warnings = () if self.multilingual else ("language_not_supported",)
        else:
            return Route(requested, guess.language, "detected", guess.confidence, self.views[guess.language])
        return Route(requested, SHARED, "shared", 0.0, self.shared_view, warnings)

    def find_calibration(self, route: Route) -> Calibration | None:
        """Return the calibration of the chances of hits for a text read so, or None.

        What may be of any language, and is read by the base alone, is read as English.
        """
        if route.used not in self.release.languages and not (
            route.requested == AUTO and route.view.version == self.release.base
        ):
            return None
        calibration = self.calibrations.get(route.view.version)
        return calibration if calibration is not None and calibration.is_valid_at(self.change) else None

    def _list_warnings(self, text: str, languages: Sequence[str], guess: Guess) -> tuple[str, ...]:
        unknown = any(self.detector.totals.values()) and guess.known == 0 and any(c.isalpha() for c in text)
        if (unknown or all(is_in_script(text, tag) is False for tag in languages)) and not self.multilingual:
            return ("language_not_supported",)
        return ("detection_tie",) if guess.ties else ()

    def search_pictures(
        self,
        vector: Vector,
        limit: int,
        after: PictureHit | None = None,
        min_score: float | None = None,
        allowed: Keys | None = None,
        without: Collection[str] = (),
        calibration: Calibration | None = None,
    ) -> list[PictureHit]:
        """Return the `limit` pictures nearest to a unit vector, ties by id: the first ones, or those after `after`.

        Only those with an `allowed` key, if given (`index.selection`), and none of `without`, a few. With `calibration`
        each has its chance among these, since only they can be meant. Pictures added or deleted since the page of
        `after` cause no other picture to be repeated or skipped. Raise `PageTooDeep` beyond rank
        `DEEPEST_RANK`, but for one more, which tells of a next page.
        """
        offset = after.rank if after else 0
        while True:
            if offset:
                _require_depth(offset + limit)
            depth = offset + limit if calibration is None else max(offset + limit, RIVALS)
            hits = self.pictures.search(vector, depth + len(without), allowed)
            hits = [hit for hit in hits if hit.entry.picture not in without] if without else hits
            skipped = _count_until(hits, after) if after else 0
            if skipped <= offset:
                break
            offset = skipped  # pictures were added before `after`: search again, deeper
        page = hits[skipped : skipped + limit]
        matches: Sequence[float | None] = [None] * len(page)
        if calibration is not None and page:
            first, scores = ([hit.score for hit in some] for some in (hits[:RIVALS], page))
            matches = calibration.compute_matches(vector, first, scores)
        ranked = [
            PictureHit(hit.entry.picture, hit.score, rank, match=match)
            for rank, (hit, match) in enumerate(zip(page, matches, strict=True), skipped + 1)
        ]
        return [hit for hit in ranked if min_score is None or hit.score >= min_score]

    def search_captions(
        self, vector: Vector, tags: Sequence[str], limit: int, allowed: Mapping[str, Keys | None] | None = None
    ) -> list[CaptionHit]:
        """Return the captions nearest to a unit vector, at most `limit` in each language, in the order of `tags`.

        Only those with an `allowed` key of their language, if given. Raise `LanguageTagInvalid` or `LanguageNotFound`.
        """
        hits = []
        for tag in map(self.require_readable, tags):
            if tag not in self.captions:
                continue  # the base reads it, and no picture has a caption in it
            keys = allowed[tag] if allowed is not None else None
            for rank, hit in enumerate(self.captions[tag].search(vector, limit, keys), 1):
                hits.append(CaptionHit(hit.entry.text, tag, hit.score, rank, hit.entry.picture))
        return hits

    def find_picture_vector(self, picture: str) -> Vector:
        """Return the vector of a picture; raise `PictureNotFound`."""
        if len(rows := self.pictures.read_rows(picture)):
            vector: Vector = rows.vectors[0].astype(np.float32)
            return vector
        raise PictureNotFound("there is no picture with this id")

    def list_captions(
        self, pictures: Sequence[str], tags: Iterable[str] | None = None
    ) -> dict[str, dict[str, list[str]]]:
        """Return the captions of each picture by language, in `tags` or all that are searched; none are empty lists."""
        captions: dict[str, dict[str, list[str]]] = {picture: {} for picture in pictures}
        for tag in self.captions if tags is None else tags:
            if tag in self.captions:
                for picture, texts in self.captions[tag].list_texts(pictures).items():
                    if texts:
                        captions[picture][tag] = texts
        return captions

    def measure_shares(self, found: FoundWords, pictures: Sequence[str]) -> dict[str, float]:
        """Return for pictures with captions that have some of the words found, the share that these have."""
        captions = self.list_captions(pictures) if pictures else {}
        shares = {id: found.measure_share(chain.from_iterable(by_tag.values())) for id, by_tag in captions.items()}
        return {id: share for id, share in shares.items() if share}


def _require_depth(depth: int) -> int:
    """Return a depth that is not beyond one more than the deepest rank."""
    if depth > DEEPEST_RANK + 1:
        raise PageTooDeep(f"results go to rank {DEEPEST_RANK:,}: ask for fewer on this page, or set min_score")
    return depth


def _count_until(hits: Sequence[Hit], after: PictureHit) -> int:
    """Count the hits of a ranking up to and including `after`, or before its score if it was deleted."""
    for rank, hit in enumerate(hits, 1):
        if hit.entry.picture == after.picture and abs(hit.score - after.score) < _SAME_SCORE:
            return rank
    return sum((-hit.score, hit.entry.picture) < (-after.score, after.picture) for hit in hits)


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
        """Return the next `count` hits, or the first ones: the same whatever the depth; raise `PageTooDeep`."""
        depth, least = _require_depth(count + (after.rank if after else 0)), self.min_match
        some = sum(not each.complete for each in self.words)  # these may come behind
        near = NEAR if depth <= NEAR else depth + some
        while True:
            meaning = self.search(near) if self.weights[0] else []
            told = [hit.picture for hit in meaning if hit.match is not None] if self.weights[1] else []
            fused = fuse_rankings(meaning, self.words, self.weights, self.measure_shares(told), is_told=self.is_told)
            kept = [hit for hit in fused if hit.has_chance(least)]
            last = (meaning[-1].match or 0.0) if len(meaning) == near else -1.0  # no other has a higher chance
            sure = sum(bool(hit.likely) for hit in kept) if last >= CUT else len(kept) - some
            if last < (CUT if least is None else least) or sure >= depth:
                if below := [hit for hit in fused if not hit.has_chance(least)]:
                    fused = [replace(hit, rank=rank) for rank, hit in enumerate([*kept, *below], 1)]
                return list_hits_after(fused, count, after, least)
            near *= 2


def fuse_rankings(
    meaning: Sequence[PictureHit],
    words: Sequence[WordHit],
    weights: tuple[float, float],
    shares: Mapping[str, float] | None = None,
    *,
    is_told: bool = False,
) -> list[PictureHit]:
    """Join a ranking by meaning and one by words, with these weights, best first, ties by id.

    A score of 1 is the first place in both of a picture that is called exactly so. A picture whose captions have some
    of the words has so much of its chance as is their share: one of "two o'clock" is no picture of two dogs. Where
    chances are told, what has all words has one though nothing is found by meaning.
    """
    found = {each.picture: (rank, each) for rank, each in enumerate(words, 1)} if weights[1] else {}
    near = {hit.picture: hit for hit in meaning if hit.picture not in found or hit.rank <= NEAR} if weights[0] else {}
    least = min((hit.match for hit in meaning[:NEAR] if hit.match is not None), default=None)
    fused = list[PictureHit]()
    for picture in {**near, **found}:
        hit, (place, word) = near.get(picture), found.get(picture, (None, None))
        said = word is not None and word.complete
        chance = hit.match if hit is not None else least
        if said and (is_told or chance is not None):
            chance = max(chance or 0.0, SAID)
        elif chance is not None:
            chance = round(chance * ((shares or {}).get(picture) or 1.0), 4)
        near_rank, meaning_score = (None, None) if hit is None else (hit.rank, hit.score)
        ranked = ((weights[0], near_rank), (weights[1], place))
        score = sum(weight * (_RANK_OFFSET + 1) / (_RANK_OFFSET + rank) for weight, rank in ranked if rank is not None)
        band = 3 if word is not None and word.whole else 2 if said else (chance or 0.0) >= CUT
        score = round((band + score / sum(weights)) / _BANDS, 9)
        share = None if word is None else word.score
        fused.append(PictureHit(picture, score, 0, meaning_score, share, chance, said))
    fused.sort(key=_rank)
    return [replace(hit, rank=rank) for rank, hit in enumerate(fused, 1)]


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
