"""The snapshot that answers a request: release, views, vector sets and detector in one immutable object. Opens nothing.

A request takes the reference to it once. No search reads a file or the registry, so it works without them.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from index.rows import PictureTables
from index.vectors import Hit, Identity, Keys, Vector, VectorSet
from model.detection import Detector, Guess, count_ngrams
from model.languages import ENGLISH, canonicalize, is_in_script, look_up
from model.match import CUT, RIVALS, Calibration, Curves, take_first
from model.table import View
from store.errors import LanguageNotFound, PageTooDeep, PictureNotFound
from store.releases import Release

AUTO, SHARED = "auto", "shared"  # instead of a tag: detect the language; use the shared version
DEEPEST_RANK = 10_000  # rank of the last hit on the last page: time and memory of a search grow with its depth
LEAST_PICTURES = 50  # with which the curves of a base tell chances: among fewer they are far too low
_SAME_SCORE = 1e-5  # scores closer than this are taken as equal
_GROWTH = 1.25  # captions are counted again when their number grew or shrank by more than this factor

_SAMPLED_CAPTIONS = 2_000  # captions of a language whose n-grams are counted, about

Source = Literal["requested", "detected", "shared"]


@dataclass(frozen=True)
class Route:
    """The version that encodes a text, and how it was chosen; `used` is `shared`, or a tag.

    A tag that no version serves is read by a multilingual base.
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

    `score` orders the hits. Where two rankings were joined (`index.fusion`), `meaning` and `words` are its scores in
    these, or None. `match` is the chance that it is what the text means, where that is known. `said`: it has all words
    of the text.
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
class Calibrations:
    """The calibrations by version, the `rows` of the registry that they come from, and the `change` of the sample."""

    by_version: Mapping[int, Calibration] = field(default_factory=dict)
    rows: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    change: int = 0

    def refresh(
        self,
        gallery: PictureTables,
        fingerprint: str,
        release: Release,
        change: int,
        base: Curves | None = None,
        pictures: int = 0,
    ) -> "Calibrations":
        """Return what is fitted now to this fingerprint, itself if unchanged; raise `RegistryUnavailable`.

        All share one sample of pictures. It is read again after each change, so that no deleted picture stays in it,
        and processes that serve the same change name the same chances. Of English, where nothing is fitted, chances are
        told by the curves of the `base`, if it has some, among enough `pictures`.
        """
        rows = gallery.registry.versions.read_matches(release.languages.values())
        fitted = {number: match for number, match in rows.items() if match["curves"] and match["tower"] == fingerprint}
        by_base = base is not None and release.base not in fitted and pictures >= LEAST_PICTURES
        if rows == self.rows and (change == self.change or not (fitted or by_base or self.by_version)):
            return self
        if not (fitted or by_base):
            return Calibrations({}, rows, change)
        sample = take_first(gallery.sample_vectors(1.0, fingerprint))
        calibrations = {
            number: Calibration(Curves(**match["curves"]), sample, match["pictures"], match["change"])
            for number, match in fitted.items()
        }
        if base is not None and by_base:
            calibrations[release.base] = Calibration(base, sample, pictures, change)
        return Calibrations(calibrations if len(sample) else {}, rows, change)


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
    calibrations: Calibrations = field(default_factory=Calibrations)

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
    def generations(self) -> dict[str, str]:
        """The generation of each vector set: of `pictures`, and by language."""
        return {identity.language or identity.kind: each.generation for identity, each in self.sets.items()}

    def add_detector(self, previous: "Snapshot | None", texts: Callable[[Identity, int], Sequence[str]]) -> "Snapshot":
        """Return this snapshot with a detector of its languages, which reuses counts of `previous` that still hold.

        Each version has n-gram counts: of the captions it was trained on or, for a base, of English words. For
        English, and for versions without counts, captions of the gallery are counted too: `texts` reads about this
        number of a set's captions, none that a bound key could have written.
        """
        detector = Detector() if previous is None else previous.detector
        tags = {*self.views, *self.withdrawn}
        sources = previous.ngram_sources if previous is not None else {}
        counted = {tag: each for tag, each in sources.items() if tag in tags}
        for tag, version in self.release.languages.items():
            counted_version, counted_captions = counted.get(tag, (-1, 0))
            ngrams, vector_set = self.views[tag].ngrams, self.captions[tag]
            counts_captions = version == self.release.base or not ngrams
            captions = vector_set.count if counts_captions else 0
            fewer, more = sorted((counted_captions, captions))
            if counted_version != version or more > _GROWTH * fewer:
                counts = Counter(ngrams)
                if captions:
                    counts.update(count_ngrams(texts(vector_set.identity, _SAMPLED_CAPTIONS)))
                detector = detector.replace_counts(tag, counts)
                counted[tag] = (version, captions)
        for tag, gone in self.withdrawn.items():
            if gone.ngrams and counted.get(tag) != (gone.version, 0):
                detector, counted[tag] = detector.replace_counts(tag, gone.ngrams), (gone.version, 0)
        return replace(self, detector=detector, ngram_sources=counted)

    def restrict_to(self, languages: Collection[str]) -> "Snapshot":
        """Return this snapshot with no other languages than these; itself if it has no other."""
        if self.views.keys() <= set(languages):
            return self
        served = {tag: version for tag, version in self.release.languages.items() if tag in languages}
        views = {tag: view for tag, view in self.views.items() if tag in served}
        sets = {of: each for of, each in self.sets.items() if of.language not in self.views or of.language in served}
        gone = {
            tag: Withdrawn(version, self.views[tag].ngrams)
            for tag, version in self.release.languages.items()
            if tag not in served
        }
        release = replace(self.release, languages=served)
        return replace(self, release=release, views=views, sets=sets, withdrawn={**self.withdrawn, **gone})

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
        if guess.language is not None and self._is_withdrawn(text):
            warnings = () if self.multilingual else ("language_not_supported",)
            return Route(requested, SHARED, "shared", 0.0, self.shared_view, warnings)
        if guess.language is not None:
            return Route(requested, guess.language, "detected", guess.confidence, self.views[guess.language])
        return Route(
            requested, SHARED, "shared", 0.0, self.shared_view, tuple(self._list_warnings(text, languages, guess))
        )

    def _is_withdrawn(self, text: str) -> bool:
        """Whether a text is surely in a language that is not served any more."""
        return (
            bool(self.withdrawn)
            and self.detector.guess(text, {*self.views, *self.withdrawn}).language in self.withdrawn
        )

    def find_calibration(self, route: Route) -> Calibration | None:
        """Return the calibration of the chances of hits for a text read so, or None.

        What may be of any language, and is read by the base alone, is read as English.
        """
        is_english = route.requested == AUTO and route.view.version == self.release.base
        if route.used not in self.release.languages and not is_english:
            return None
        calibration = self.calibrations.by_version.get(route.view.version)
        return calibration if calibration is not None and calibration.is_valid_at(self.change) else None

    def _list_warnings(self, text: str, languages: Sequence[str], guess: Guess) -> Iterable[str]:
        unknown = any(self.detector.totals.values()) and guess.known == 0 and any(c.isalpha() for c in text)
        if (unknown or all(is_in_script(text, tag) is False for tag in languages)) and not self.multilingual:
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
        """Return the `limit` pictures nearest to a unit vector, ties by id: the first ones, or those after `after`.

        Only those with an `allowed` key, if given (`index.selection`), and none of `without`, a few. With `calibration`
        each has its chance among these, since only they can be meant. Pictures added or deleted since the page of
        `after` cause no other picture to be repeated or skipped. Raise `PageTooDeep` beyond rank
        `DEEPEST_RANK`, but for one more, which tells of a next page.
        """
        offset = after.rank if after else 0
        while True:
            if offset and offset + limit > DEEPEST_RANK + 1:
                raise PageTooDeep(f"results go to rank {DEEPEST_RANK:,}: ask for fewer on this page, or set min_score")
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
            matches = calibration.compute_matches(
                vector, [hit.score for hit in hits[:RIVALS]], [hit.score for hit in page]
            )
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


def _count_until(hits: Sequence[Hit], after: PictureHit) -> int:
    """Count the hits of a ranking up to and including `after`, or before its score if it was deleted."""
    for rank, hit in enumerate(hits, 1):
        if hit.entry.picture == after.picture and abs(hit.score - after.score) < _SAME_SCORE:
            return rank
    return sum((-hit.score, hit.entry.picture) < (-after.score, after.picture) for hit in hits)
