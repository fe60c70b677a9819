"""The snapshot that answers a request: release, views, vector sets and detector in one immutable object. Opens nothing.

A request takes the reference to it once. Nothing here reads a file or the registry, so it works without them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Literal

import numpy as np

from index.ranking import PictureHit, require_depth
from index.vectors import Hit, Identity, Vector, VectorKeys, VectorSet
from index.word_search import FoundWords
from model.encoder import View
from model.languages import ENGLISH, canonicalize, is_in_script, look_up
from model.lexicon import Detector, Guess
from model.match import RIVALS, Calibration
from store.errors import LanguageNotFound, PictureNotFound
from store.releases import Release

AUTO, SHARED = "auto", "shared"  # instead of a tag: detect the language; use the shared version
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
class CaptionHit:
    """A caption in a search result, with the picture it describes; `rank` counts from 1 within its language."""

    caption: str
    language: str
    score: float
    rank: int
    picture: str


@dataclass(frozen=True)
class Snapshot:
    """An opened release. `views` has exactly its languages; `problems` has sentences about the release.

    `ngram_sources` has the version and the number of captions from which the detector's counts of each language come.
    `built_in` are the languages that the base reads untaught.
    """

    release: Release
    views: Mapping[str, View]
    shared_view: View
    sets: Mapping[Identity, VectorSet]
    detector: Detector = field(default_factory=Detector)
    problems: tuple[str, ...] = ()
    ngram_sources: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    built_in: tuple[str, ...] = (ENGLISH,)
    calibrations: Mapping[int, Calibration] = field(default_factory=dict)  # by version

    @cached_property
    def picture_set(self) -> VectorSet:
        return next(vector_set for identity, vector_set in self.sets.items() if identity.kind == "pictures")

    @property
    def versions(self) -> set[int]:
        """The numbers of all versions that it names."""
        return {self.release.shared, *self.release.languages.values()}

    @cached_property
    def captions(self) -> Mapping[str, VectorSet]:
        """The set of each language's captions, as read by the language's version."""
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
            view = self.views.get(tag, self.views[ENGLISH])  # a multilingual base reads what nobody taught
            return Route(requested, tag, "requested", None, view, self.warn_of_untaught([tag]))
        languages = sorted(self.views)
        guess = self.detector.guess(text, languages)
        if guess.language is not None:
            return Route(requested, guess.language, "detected", guess.confidence, self.views[guess.language])
        warnings = self._list_warnings(text, languages, guess)
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
        allowed: VectorKeys | None = None,
        excluded_ids: Collection[str] = (),
        calibration: Calibration | None = None,
    ) -> list[PictureHit]:
        """Return the `limit` pictures nearest to a unit vector, ties by id: the first ones, or those after `after`.

        Only those with an `allowed` key, if given (`index.selection`), and none of `excluded_ids`, a few. With
        `calibration` each has its chance among these, since only they can be meant. Pictures added or deleted since the
        page of `after` cause no other picture to be repeated or skipped. Raise `PageTooDeep` beyond rank
        `DEEPEST_RANK`, but for one more, which tells of a next page.
        """
        offset = after.rank if after else 0
        while True:
            if offset:
                require_depth(offset + limit)
            depth = offset + limit if calibration is None else max(offset + limit, RIVALS)
            hits = self.picture_set.search(vector, depth + len(excluded_ids), allowed)
            hits = [hit for hit in hits if hit.entry.picture not in excluded_ids] if excluded_ids else hits
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
        self, vector: Vector, tags: Sequence[str], limit: int, allowed: Mapping[str, VectorKeys | None] | None = None
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
        if len(rows := self.picture_set.read_rows(picture)):
            vector: Vector = rows.vectors[0].astype(np.float32)
            return vector
        raise PictureNotFound("there is no picture with this id")

    def list_captions(self, ids: Sequence[str], tags: Iterable[str] | None = None) -> dict[str, dict[str, list[str]]]:
        """Return the captions of each picture by language, in `tags` or all that are searched; none are empty lists."""
        captions: dict[str, dict[str, list[str]]] = {id: {} for id in ids}
        for tag in self.captions if tags is None else tags:
            if tag in self.captions:
                for picture, texts in self.captions[tag].list_texts(ids).items():
                    if texts:
                        captions[picture][tag] = texts
        return captions

    def measure_shares(self, found: FoundWords, pictures: Sequence[str]) -> dict[str, float]:
        """Return for pictures with captions that have some of the words found, the share that these have."""
        captions = self.list_captions(pictures) if pictures else {}
        shares = {id: found.measure_share(chain.from_iterable(by_tag.values())) for id, by_tag in captions.items()}
        return {id: share for id, share in shares.items() if share}


def _count_until(hits: Sequence[Hit], after: PictureHit) -> int:
    """Count the hits of a ranking up to and including `after`, or before its score if it was deleted."""
    for rank, hit in enumerate(hits, 1):
        if hit.entry.picture == after.picture and abs(hit.score - after.score) < _SAME_SCORE:
            return rank
    return sum((-hit.score, hit.entry.picture) < (-after.score, after.picture) for hit in hits)
