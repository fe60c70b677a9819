"""Measures one language: its held-out captions, or English ones of the gallery, against all pictures. Encodes nothing.

All vectors are in the registry: the captions' as the version reads them, and the pictures'.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.captions import ReadBy
from index.gallery import Gallery
from index.states import last_change
from index.vectors import Matrix
from model.calibrating import Answers, fit, measured
from model.calibration import RIVALS, Curves, between, ordinary, stored
from model.languages import ENGLISH
from store.data_root import DataRoot
from store.encodings import Encoding
from store.errors import Unavailable
from store.registry import Registry
from worker.validation import MAX_CAPTIONS, kept_of

SAMPLE = 512  # pictures with which z is measured; with 128 the error is half as large again
LIKE = 0.025  # share of the pictures that count as like a text's own: without them the gallery has nothing of its kind
_ORDINARY = 2_000  # pictures among which it is told which are like another
LEAST_PICTURES = 100
LEAST_CAPTIONS = 20  # of a language of which nothing is known; of one beside English: `LEAST_BESIDE`
LEAST_BESIDE = 5


@dataclass(frozen=True)
class Texts:
    """Captions as `pairs` of picture and text, with unit vectors (n, dimension) of the texts and of the pictures.

    `right` are the ids of all pictures that have the same caption.
    """

    pairs: list[tuple[str, str]]
    vectors: Matrix
    own: Matrix
    right: list[set[str]]


class Calibrator:
    """Measures languages of the release that serves."""

    def __init__(self, registry: Registry, root: DataRoot) -> None:
        """Raises `Unavailable` in a registry of which nobody has opened the base."""
        encoding, base = registry.encodings.current(), registry.bases.serving()
        if encoding is None or base is None:
            raise Unavailable("no process has opened the base yet")
        made_by = Encoding(encoding.backend, encoding.precision)
        self._image_tower = made_by.fingerprint(base.image_fingerprint)
        self._text_tower = made_by.fingerprint(base.text_fingerprint)
        self._registry, self._root, self._encoding = registry, root, encoding.number
        self._gallery = Gallery(registry, root)

    def measure(self, language: str, version: int) -> None:
        """Measure one language as this version reads it, and record that; or why its chances cannot be told."""
        change, near = last_change(self._registry), self.english(language)
        pictures = sum(len(part) for part in self._pictures())
        texts = self.texts(language, version) if pictures >= LEAST_PICTURES else None
        captions = 0 if texts is None else len(texts.right)
        among: Any = {"encoding": self._encoding, "change": change, "pictures": pictures}
        if texts is None or captions < (LEAST_CAPTIONS if near is None else LEAST_BESIDE):
            reason = "few_pictures" if pictures < LEAST_PICTURES else "few_captions"
            result: dict[str, Any] = {"reason": reason, "captions": captions, "pictures": pictures}
            return self._registry.calibrations.put(language, version, result=result, **among)
        answers, sample = self.answers(texts)
        curves = fit(answers, near)
        result = {**measured(answers, near), "pictures": pictures, "near": None if near is None else ENGLISH}
        self._registry.calibrations.put(
            language, version, result=result, curves=asdict(curves), sample=stored(sample), **among
        )

    def english(self, language: str) -> Curves | None:
        """The curves of English, which every base reads, if they are known; None for English itself."""
        if language == ENGLISH:
            return None
        read = (ENGLISH, self._registry.releases.serving().base)
        record = self._registry.calibrations.of(dict([read])).get(read)
        return None if record is None or record.curves is None else Curves(**record.curves)

    def texts(self, language: str, version: int) -> Texts | None:
        """What to measure a language with, in an order by hash; None when nothing was held out."""
        pairs = self._pairs(language, version)
        described = [
            ((caption.picture, caption.text), caption.id)
            for caption in self._gallery.captions(sorted({picture for picture, _ in pairs}), language)
            if (caption.picture, caption.text) in pairs
        ]
        vectors = self._gallery.caption_vectors([id for _, id in described], ReadBy(version, self._text_tower))
        found = {pair: id for pair, id in described if id in vectors}  # of two that are the same, one has it
        own = self._gallery.picture_vectors(sorted({picture for picture, _ in found}), self._image_tower)
        usable = [pair for pair in found if pair[0] in own]
        usable = sorted(usable, key=lambda pair: sha256("\0".join(pair).encode()).digest())[:MAX_CAPTIONS]
        if not usable:
            return None
        same = self._gallery.captioned_as(language, {text for _, text in usable})
        return Texts(
            usable,
            np.stack([vectors[found[pair]] for pair in usable]),
            np.stack([own[picture] for picture, _ in usable]),
            [same[text] | {picture} for picture, text in usable],
        )

    def answers(self, texts: Texts) -> tuple[Answers, Matrix]:
        """What the texts find among all pictures, with and without those like their own; and the sample of z."""
        beside: list[NDArray[np.float32]] = []
        for part in self._pictures():
            beside += part.values()
            if len(beside) >= _ORDINARY:
                break
        some = np.stack(beside[:_ORDINARY])
        like = np.quantile(texts.own @ some.T, 1 - LIKE, axis=1)[:, None]
        sample = some[:SAMPLE].astype(np.float16).astype(np.float32)  # as it is stored
        best = np.full((len(texts.right), RIVALS), -np.inf)
        right, absent = np.zeros(best.shape, dtype=bool), best.copy()
        for part in self._pictures():
            if part:
                vectors = np.stack([*part.values()])
                own = _marked(texts.right, [*part])
                scores = texts.vectors @ vectors.T  # (texts, pictures of this part)
                best, right = _first(np.hstack([best, scores]), np.hstack([right, own]))
                left = np.where((texts.own @ vectors.T >= like) | own, -np.inf, scores)
                absent, _ = _first(np.hstack([absent, left]), np.zeros((len(best), RIVALS + len(vectors)), dtype=bool))
        mean, each_own = (each[:, None] for each in ordinary(texts.vectors, sample))
        usual = float(each_own.mean())
        deviation = between(each_own, usual)
        return Answers((best - mean) / deviation, right, (absent - mean) / deviation, usual), sample

    def _pairs(self, language: str, version: int) -> set[tuple[str, str]]:
        """Pictures and captions that the version did not learn from: held out, or English ones of the gallery."""
        learned = self._registry.versions.get(version).learned
        if not learned:
            pictures = self._gallery.captioned(language, ())
            some = pictures[:: -(-len(pictures) // MAX_CAPTIONS) or 1]
            captions = self._gallery.captions_for(some, [language])
            return {(picture, text) for picture, by_tag in captions.items() for text in by_tag.get(language, ())}
        held_out = kept_of(self._root, learned, "pictures")
        if held_out is None:
            return set()
        return set(zip(held_out.targets, held_out.captions, strict=True))

    def _pictures(self) -> Iterator[Mapping[str, NDArray[np.float32]]]:
        """The vectors of all pictures, in the order of the hash of their content, some at a time."""
        return self._gallery.sampled(1.0, self._image_tower)


def _first(scores: NDArray[Any], marks: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The `RIVALS` highest scores of each row, falling, and their marks."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :RIVALS]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(marks, order, axis=1)


def _marked(right: list[set[str]], pictures: Collection[str]) -> NDArray[np.bool_]:
    """Which of the pictures are right for which text (texts, pictures)."""
    places = {picture: place for place, picture in enumerate(pictures)}
    marks = np.zeros((len(right), len(places)), dtype=bool)
    for row, ids in enumerate(right):
        marks[row, [places[id] for id in ids if id in places]] = True
    return marks
