"""What one request is answered from: release, views, vector sets, detector as one immutable object. Builds nothing.

A request takes the reference to it once. Nothing here reads a file or the registry: searches go on without them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from index.engine import Vector
from index.errors import PictureNotFound
from index.generation import Identity
from index.vectors import Hit, VectorSet
from model.detection import Detector, Guess
from model.errors import LanguageNotFound
from model.languages import canonical, in_script
from model.registry import Release

AUTO, SHARED = "auto", "shared"  # instead of a tag: detect the language; read with the shared version
_SAME = 1e-5  # a score is summed in another order among other vectors

Source = Literal["told", "detected", "shared"]


@dataclass(frozen=True)
class Route:
    """Which version reads a text, and how that was decided; `used` is a served tag or `shared`."""

    requested: str
    used: str
    source: Source
    confidence: float | None
    view: Any
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class PictureHit:
    """A picture that was found; `rank` counts from 1 over all pages."""

    picture: str
    score: float
    rank: int


@dataclass(frozen=True)
class CaptionHit:
    """A caption that was found, and the picture it describes; `rank` counts from 1 within its language."""

    caption: str
    language: str
    score: float
    rank: int
    picture: str


@dataclass(frozen=True)
class Generations:
    """The names of the generations an answer comes from; `captions` by language."""

    pictures: str
    captions: dict[str, str]


@dataclass(frozen=True)
class Snapshot:
    """A release, opened. `views` and `captions` have exactly the release's languages; `degraded` says what is amiss.

    `detected` says from which version and how many captions the detector knows each language.
    """

    release: Release
    views: Mapping[str, Any]
    shared_view: Any
    pictures: VectorSet
    captions: Mapping[str, VectorSet]
    detector: Detector
    degraded: tuple[str, ...] = ()
    detected: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    identities: Mapping[str, Identity] = field(default_factory=dict)  # of the captions, by language

    @property
    def change(self) -> int:
        """The last change of the gallery that every set has taken in."""
        return min([self.pictures.change, *(found.change for found in self.captions.values())])

    @property
    def generations(self) -> Generations:
        """Which generations the sets stand on."""
        return Generations(self.pictures.generation, {tag: found.generation for tag, found in self.captions.items()})

    def served(self, tag: str) -> str:
        """The canonical form of a tag that is served; raises `LanguageTagInvalid` or `LanguageNotFound`."""
        tag = canonical(tag)
        if tag not in self.views:
            raise LanguageNotFound(languages=sorted(self.views))
        return tag

    def route(self, requested: str, text: str) -> Route:
        """How a cleaned text is to be read: as the language that was told, or detected, or by the shared version.

        `requested` is a tag, `auto` or `shared`; raises `LanguageTagInvalid` or `LanguageNotFound` for a tag.
        """
        if requested == SHARED:
            return Route(requested, SHARED, "shared", None, self.shared_view)
        if requested != AUTO:
            tag = self.served(requested)
            return Route(requested, tag, "told", None, self.views[tag])
        known = sorted(self.views)
        guess = self.detector.guess(text, known)
        if guess.language is not None:
            return Route(requested, guess.language, "detected", guess.confidence, self.views[guess.language])
        return Route(requested, SHARED, "shared", 0.0, self.shared_view, tuple(self._doubts(text, known, guess)))

    def _doubts(self, text: str, known: Sequence[str], guess: Guess) -> Iterable[str]:
        unseen = any(self.detector.totals.values()) and guess.known == 0 and any(c.isalpha() for c in text)
        if unseen or all(in_script(text, tag) is False for tag in known):
            yield "language_not_supported"
        elif guess.ties:
            yield "detection_tie"

    def search_pictures(
        self, vector: Vector, limit: int, after: PictureHit | None = None, min_score: float | None = None
    ) -> list[PictureHit]:
        """The pictures nearest to a unit vector, ties by id: the first `limit`, or those behind `after`.

        What was put or deleted since `after` was found makes no other picture come twice or be left out.
        """
        start = after.rank if after else 0
        while True:
            found = self.pictures.search(vector, start + limit)
            now = _place_behind(found, after) if after else 0
            if now <= start:
                break
            start = now  # so many were put before it
        page = enumerate(found[now : now + limit], now + 1)
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
            raise PictureNotFound("there is no picture of this id")
        return vector

    def captions_of(self, picture: str, tags: Iterable[str] | None = None) -> dict[str, list[str]]:
        """The captions of a picture in the learned languages, or those of `tags`; only languages that have one."""
        texts = {
            tag: [entry.text for entry in self.captions[tag].of(picture)]
            for tag in (self.captions if tags is None else tags)
            if tag in self.captions
        }
        return {tag: said for tag, said in texts.items() if said}


def _place_behind(found: Sequence[Hit], after: PictureHit) -> int:
    """How many of a ranking stand before what follows `after`, by its place or, if it is gone, by its score."""
    for place, hit in enumerate(found, 1):
        if hit.entry.picture == after.picture and abs(hit.score - after.score) < _SAME:
            return place
    return sum((-hit.score, hit.entry.picture) < (-after.score, after.picture) for hit in found)
