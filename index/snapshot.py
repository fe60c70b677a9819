"""The snapshot that answers a request: release, views, vector sets and detector in one immutable object. Opens nothing.

A request takes the reference to it once. Nothing here reads a file or the registry, so searches work without them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from index.engine import Vector
from index.errors import PictureNotFound
from index.generation import Identity
from index.vectors import Hit, VectorSet
from model.detection import Detector, Guess, count
from model.errors import LanguageNotFound
from model.languages import canonical, in_script
from model.registry import Release

AUTO, SHARED = "auto", "shared"  # instead of a tag: detect the language; use the shared version
_SAME_SCORE = 1e-5  # scores closer than this are taken as equal
_GROWTH = 1.25  # captions are counted again when their number grew or shrank by more than this factor

Source = Literal["told", "detected", "shared"]


@dataclass(frozen=True)
class Route:
    """Which version encodes a text, and how it was chosen; `used` is a served tag or `shared`."""

    requested: str
    used: str
    source: Source
    confidence: float | None
    view: Any
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class PictureHit:
    """A picture in a search result; `rank` counts from 1 over all pages."""

    picture: str
    score: float
    rank: int


@dataclass(frozen=True)
class CaptionHit:
    """A caption in a search result, with the picture it describes; `rank` counts from 1 within its language."""

    caption: str
    language: str
    score: float
    rank: int
    picture: str


@dataclass(frozen=True)
class Generations:
    """The names of the generations that a snapshot uses; `captions` by language."""

    pictures: str
    captions: dict[str, str]


@dataclass(frozen=True)
class Snapshot:
    """An opened release. `views` and `captions` have exactly its languages; `degraded` has a sentence for each problem.

    `counted` has the version and the number of captions from which the detector's counts of each language come.
    """

    release: Release
    views: Mapping[str, Any]
    shared_view: Any
    sets: Mapping[Identity, VectorSet]
    detector: Detector = field(default_factory=Detector)
    degraded: tuple[str, ...] = ()
    counted: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @cached_property
    def pictures(self) -> VectorSet:
        """The set of all pictures."""
        return next(vector_set for identity, vector_set in self.sets.items() if identity.kind == "pictures")

    @cached_property
    def captions(self) -> Mapping[str, VectorSet]:
        """The set of each language's captions."""
        return {identity.language: vector_set for identity, vector_set in self.sets.items() if identity.language}

    @property
    def change(self) -> int:
        """The last change of the gallery that is in every set."""
        return min(vector_set.change for vector_set in self.sets.values())

    @property
    def generations(self) -> Generations:
        """The generations of the vector sets."""
        captions = {tag: vector_set.generation for tag, vector_set in self.captions.items()}
        return Generations(self.pictures.generation, captions)

    def with_detector(self, previous: "Snapshot | None") -> "Snapshot":
        """This snapshot with a detector of its languages; counts of `previous` that are still right are used again.

        Each version has n-gram counts: of the captions it was trained on or, for version 0, of English words. For
        English, and for versions without counts, the captions of the gallery are counted too.
        """
        detector = Detector() if previous is None else previous.detector
        counted = {} if previous is None else {tag: of for tag, of in previous.counted.items() if tag in self.captions}
        for tag, vector_set in self.captions.items():
            counted_version, counted_captions = counted.get(tag, (-1, 0))
            ngrams, version = self.views[tag].ngrams, self.release.languages[tag]
            fewer, more = sorted((counted_captions, vector_set.count))
            count_captions = version == 0 or not ngrams
            if counted_version != version or (count_captions and more > _GROWTH * fewer):
                counts = Counter(ngrams)
                if count_captions:
                    counts.update(count(vector_set.texts()))
                detector = detector.with_counts(tag, counts)
                counted[tag] = (version, vector_set.count)
        return replace(self, detector=detector, counted=counted)

    def served(self, tag: str) -> str:
        """The canonical form of a tag that is served; raises `LanguageTagInvalid` or `LanguageNotFound`."""
        tag = canonical(tag)
        if tag not in self.views:
            raise LanguageNotFound(languages=sorted(self.views))
        return tag

    def route(self, requested: str, text: str) -> Route:
        """Choose the version that encodes a cleaned text: of the given or detected language, or the shared one.

        `requested` is a tag, `auto` or `shared`; raises `LanguageTagInvalid` or `LanguageNotFound` for a tag.
        """
        if requested == SHARED:
            return Route(requested, SHARED, "shared", None, self.shared_view)
        if requested != AUTO:
            tag = self.served(requested)
            return Route(requested, tag, "told", None, self.views[tag])
        languages = sorted(self.views)
        guess = self.detector.guess(text, languages)
        if guess.language is not None:
            return Route(requested, guess.language, "detected", guess.confidence, self.views[guess.language])
        return Route(requested, SHARED, "shared", 0.0, self.shared_view, tuple(self._warnings(text, languages, guess)))

    def _warnings(self, text: str, languages: Sequence[str], guess: Guess) -> Iterable[str]:
        unknown = any(self.detector.totals.values()) and guess.known == 0 and any(c.isalpha() for c in text)
        if unknown or all(in_script(text, tag) is False for tag in languages):
            yield "language_not_supported"
        elif guess.ties:
            yield "detection_tie"

    def search_pictures(
        self, vector: Vector, limit: int, after: PictureHit | None = None, min_score: float | None = None
    ) -> list[PictureHit]:
        """The `limit` pictures nearest to a unit vector, ties by id: the first ones, or those that follow `after`.

        Pictures added or deleted since the page of `after` cause no other picture to be repeated or skipped.
        """
        offset = after.rank if after else 0
        while True:
            hits = self.pictures.search(vector, offset + limit)
            skipped = _count_until(hits, after) if after else 0
            if skipped <= offset:
                break
            offset = skipped  # pictures were added before `after`: search again, deeper
        page = enumerate(hits[skipped : skipped + limit], skipped + 1)
        ranked = [PictureHit(hit.entry.picture, hit.score, rank) for rank, hit in page]
        return [hit for hit in ranked if min_score is None or hit.score >= min_score]

    def search_captions(self, vector: Vector, tags: Sequence[str], limit: int) -> list[CaptionHit]:
        """The captions nearest to a unit vector, at most `limit` in each language, in the order of `tags`.

        Raises `LanguageNotFound`.
        """
        hits = []
        for tag in map(self.served, tags):
            for rank, hit in enumerate(self.captions[tag].search(vector, limit), 1):
                hits.append(CaptionHit(hit.entry.text, tag, hit.score, rank, hit.entry.picture))
        return hits

    def picture_vector(self, picture: str) -> Vector:
        """The vector of a picture in the gallery; raises `PictureNotFound`."""
        vector = self.pictures.vector(picture)
        if vector is None:
            raise PictureNotFound("there is no picture with this id")
        return vector

    def captions_of(self, picture: str, tags: Iterable[str] | None = None) -> dict[str, list[str]]:
        """The captions of a picture by language, in all served languages or those of `tags`; without empty ones."""
        captions = {
            tag: [entry.text for entry in self.captions[tag].entries_of(picture)]
            for tag in (self.captions if tags is None else tags)
            if tag in self.captions
        }
        return {tag: texts for tag, texts in captions.items() if texts}


def _count_until(hits: Sequence[Hit], after: PictureHit) -> int:
    """How many hits of a ranking come up to and including `after`, or before its score if it was deleted."""
    for rank, hit in enumerate(hits, 1):
        if hit.entry.picture == after.picture and abs(hit.score - after.score) < _SAME_SCORE:
            return rank
    return sum((-hit.score, hit.entry.picture) < (-after.score, after.picture) for hit in hits)
