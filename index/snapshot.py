"""The snapshot that answers a request: release, views, vector sets and detector in one immutable object. Opens nothing.

A request takes the reference to it once. Nothing here reads a file or the registry, so searches work without them.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from index.matching import Matching
from index.vectors import Hit, Identity, Keys, Vector, VectorSet
from model.detection import Detector, Guess, count
from model.languages import ENGLISH, canonical, in_script, lookup
from model.match import RIVALS, Calibration
from model.table import View
from store.errors import LanguageNotFound, PageTooDeep, PictureNotFound
from store.releases import Release

AUTO, SHARED = "auto", "shared"  # instead of a tag: detect the language; use the shared version
DEEPEST = 10_000  # rank of the last hit on the last page: time and memory of a search grow with its depth
_SAME_SCORE = 1e-5  # scores closer than this are taken as equal
_GROWTH = 1.25  # captions are counted again when their number grew or shrank by more than this factor

_READ = 2_000  # captions of a language whose n-grams are counted, about

Source = Literal["requested", "detected", "shared"]


@dataclass(frozen=True)
class Route:
    """Which version encodes a text, and how it was chosen; `used` is `shared`, or a tag.

    A tag that no version serves is read by a base of many languages.
    """

    requested: str
    used: str
    source: Source
    confidence: float | None
    view: View
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class PictureHit:
    """A picture in a search result; `rank` counts from 1 over all pages.

    `score` is what orders the hits. Of two rankings that were put together (`index.word_search`), `meaning` and `words`
    are its scores in these, None where it is not in one.
    `match` is the chance that it is what the text means; None where that is not known.
    """

    picture: str
    score: float
    rank: int
    meaning: float | None = None
    words: float | None = None
    match: float | None = None


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

    `captions` has these too and, on a base of many languages, others that are not taught: those that pictures have
    captions in, as far as these are open already.
    `counted` has the version and the number of captions from which the detector's counts of each language come.
    `built_in` are the languages that the base reads untaught. Texts in languages that were `withdrawn` would often be
    taken for another one that is like them; so the detector goes on telling them.
    `matching` tells the chances of hits.
    """

    release: Release
    views: Mapping[str, View]
    shared_view: View
    sets: Mapping[Identity, VectorSet]
    detector: Detector = field(default_factory=Detector)
    problems: tuple[str, ...] = ()
    counted: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    built_in: tuple[str, ...] = (ENGLISH,)
    withdrawn: Mapping[str, Withdrawn] = field(default_factory=dict)
    matching: Matching = field(default_factory=Matching)

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
        """The set of each language's captions, as the version reads them that the language has, or else the base."""
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
    def generations(self) -> dict[str, str]:
        """The generation of each vector set: of `pictures`, and by language."""
        return {identity.language or identity.kind: each.generation for identity, each in self.sets.items()}

    def with_detector(self, previous: "Snapshot | None", texts: Callable[[Identity, int], Sequence[str]]) -> "Snapshot":
        """This snapshot with a detector of its languages; counts of `previous` that are still right are used again.

        Each version has n-gram counts: of the captions it was trained on or, for a base, of English words. For
        English, and for versions without counts, captions of the gallery are counted too: `texts` reads about
        so many of those of a set that no key of other collections could have written.
        """
        detector = Detector() if previous is None else previous.detector
        told = {*self.views, *self.withdrawn}
        counted = {} if previous is None else {tag: of for tag, of in previous.counted.items() if tag in told}
        for tag, version in self.release.languages.items():
            counted_version, counted_captions = counted.get(tag, (-1, 0))
            ngrams, vector_set = self.views[tag].ngrams, self.captions[tag]
            counts_captions = version == self.release.base or not ngrams
            captions = vector_set.count if counts_captions else 0
            fewer, more = sorted((counted_captions, captions))
            if counted_version != version or more > _GROWTH * fewer:
                counts = Counter(ngrams)
                if captions:
                    counts.update(count(texts(vector_set.identity, _READ)))
                detector = detector.with_counts(tag, counts)
                counted[tag] = (version, captions)
        for tag, gone in self.withdrawn.items():
            if gone.ngrams and counted.get(tag) != (gone.version, 0):
                detector, counted[tag] = detector.with_counts(tag, gone.ngrams), (gone.version, 0)
        return replace(self, detector=detector, counted=counted)

    def only(self, languages: Collection[str]) -> "Snapshot":
        """This snapshot without the languages that are not in `languages`; itself if it has none of those."""
        if self.views.keys() <= set(languages):
            return self
        serves = {tag: version for tag, version in self.release.languages.items() if tag in languages}
        views = {tag: view for tag, view in self.views.items() if tag in serves}
        sets = {of: each for of, each in self.sets.items() if of.language not in self.views or of.language in serves}
        gone = {
            tag: Withdrawn(version, self.views[tag].ngrams)
            for tag, version in self.release.languages.items()
            if tag not in serves
        }
        release = replace(self.release, languages=serves)
        return replace(self, release=release, views=views, sets=sets, withdrawn={**self.withdrawn, **gone})

    def served(self, tag: str) -> str:
        """The canonical form of a tag that is served; raises `LanguageTagInvalid` or `LanguageNotFound`."""
        tag = canonical(tag)
        if tag not in self.views:
            raise LanguageNotFound(languages=sorted(self.views))
        return tag

    @property
    def multilingual(self) -> bool:
        """Whether the base reads more than English, and so is worth asking about any language."""
        return len(self.built_in) > 1

    def readable(self, tag: str) -> str:
        """The canonical form of a tag whose texts are read, by its own version or else by the base.

        Raises `LanguageTagInvalid` or `LanguageNotFound`.
        """
        return canonical(tag) if self.multilingual else self.served(tag)

    def reader(self, tag: str) -> View | None:
        """The view that reads a canonical tag: its own, or that of a base of many languages; else None."""
        return self.views.get(tag, self.views[ENGLISH] if self.multilingual else None)

    def untaught(self, tags: Iterable[str]) -> tuple[str, ...]:
        """What an answer warns of when its texts are in these languages: that one of them is read by the base alone."""
        return () if all(tag in self.views for tag in tags) else ("language_not_taught",)

    def route(self, requested: str, text: str) -> Route:
        """Choose the version that encodes a cleaned text: of the given or detected language, or the shared one.

        `requested` is a tag, `auto` or `shared`; raises `LanguageTagInvalid` or `LanguageNotFound` for a tag.
        """
        if requested == SHARED:
            return Route(requested, SHARED, "shared", None, self.shared_view)
        if requested != AUTO:
            tag = lookup(self.views, canonical(requested)) or self.readable(requested)  # `de` for `de-AT`
            view = self.reader(tag)
            assert view is not None  # of one that is `readable`
            return Route(requested, tag, "requested", None, view, self.untaught([tag]))
        languages = sorted(self.views)
        guess = self.detector.guess(text, languages)
        if guess.language is not None and self._is_withdrawn(text):
            warnings = () if self.multilingual else ("language_not_supported",)
            return Route(requested, SHARED, "shared", 0.0, self.shared_view, warnings)
        if guess.language is not None:
            return Route(requested, guess.language, "detected", guess.confidence, self.views[guess.language])
        return Route(requested, SHARED, "shared", 0.0, self.shared_view, tuple(self._warnings(text, languages, guess)))

    def _is_withdrawn(self, text: str) -> bool:
        """Whether a text is surely in a language that is not served any more."""
        return (
            bool(self.withdrawn)
            and self.detector.guess(text, {*self.views, *self.withdrawn}).language in self.withdrawn
        )

    def calibration(self, route: Route) -> Calibration | None:
        """How the chances of hits are told for a text read so; None where that is not known."""
        if route.used not in self.release.languages:
            return None
        found = self.matching.calibrations.get(route.view.version)
        return found if found is not None and found.holds_at(self.change) else None

    def _warnings(self, text: str, languages: Sequence[str], guess: Guess) -> Iterable[str]:
        unknown = any(self.detector.totals.values()) and guess.known == 0 and any(c.isalpha() for c in text)
        if (unknown or all(in_script(text, tag) is False for tag in languages)) and not self.multilingual:
            yield "language_not_supported"
        elif guess.ties:
            yield "detection_tie"

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
        """The `limit` pictures nearest to a unit vector, ties by id: the first ones, or those that follow `after`.

        Only those with an `allowed` key, if given (`index.selection`), and none of `without`, a few. With `calibration`
        each has its chance among these, since only they can be meant. Pictures added or deleted since the page of
        `after` cause no other picture to be repeated or skipped. Raises `PageTooDeep` beyond rank `DEEPEST`, except for
        one more: is there a next page?
        """
        offset = after.rank if after else 0
        while True:
            if offset and offset + limit > DEEPEST + 1:
                raise PageTooDeep(f"results go to rank {DEEPEST:,}: ask for fewer on this page, or set min_score")
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
            matches = calibration.matches(vector, [hit.score for hit in hits[:RIVALS]], [hit.score for hit in page])
        ranked = [
            PictureHit(hit.entry.picture, hit.score, rank, match=match)
            for rank, (hit, match) in enumerate(zip(page, matches, strict=True), skipped + 1)
        ]
        return [hit for hit in ranked if min_score is None or hit.score >= min_score]

    def search_captions(
        self, vector: Vector, tags: Sequence[str], limit: int, allowed: Mapping[str, Keys | None] | None = None
    ) -> list[CaptionHit]:
        """The captions nearest to a unit vector, at most `limit` in each language, in the order of `tags`.

        Only those with an `allowed` key of their language, if given. Raises as `readable`.
        """
        hits = []
        for tag in map(self.readable, tags):
            if tag not in self.captions:
                continue  # the base reads it, and no picture has a caption in it
            left = allowed[tag] if allowed is not None else None
            for rank, hit in enumerate(self.captions[tag].search(vector, limit, left), 1):
                hits.append(CaptionHit(hit.entry.text, tag, hit.score, rank, hit.entry.picture))
        return hits

    def picture_vector(self, picture: str) -> Vector:
        """The vector of a picture in the gallery; raises `PictureNotFound`."""
        if len(rows := self.pictures.read_rows(picture)):
            vector: Vector = rows.vectors[0].astype(np.float32)
            return vector
        raise PictureNotFound("there is no picture with this id")

    def captions_of_each(
        self, pictures: Sequence[str], tags: Iterable[str] | None = None
    ) -> dict[str, dict[str, list[str]]]:
        """The captions of each picture by language, in all that are searched or those of `tags`; without empty ones."""
        captions: dict[str, dict[str, list[str]]] = {picture: {} for picture in pictures}
        for tag in self.captions if tags is None else tags:
            if tag in self.captions:
                for picture, texts in self.captions[tag].list_texts(pictures).items():
                    if texts:
                        captions[picture][tag] = texts
        return captions


def _count_until(hits: Sequence[Hit], after: PictureHit) -> int:
    """How many hits of a ranking come up to and including `after`, or before its score if it was deleted."""
    for rank, hit in enumerate(hits, 1):
        if hit.entry.picture == after.picture and abs(hit.score - after.score) < _SAME_SCORE:
            return rank
    return sum((-hit.score, hit.entry.picture) < (-after.score, after.picture) for hit in hits)
