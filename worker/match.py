"""Fits of the chance of a hit for the languages that serve, in a child of the worker.

Nothing is encoded here: the vectors of pictures and captions are in the registry. The queries are held-out captions of
a taught language, or the gallery's captions in English, which the base reads.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.captions import EncoderId
from index.gallery import Gallery
from index.set_states import find_last_change
from index.vectors import Matrix
from model.backend import find_recorded_encoding
from model.languages import ENGLISH
from model.match import Answers, Curves, fit, measure_error, search_gallery
from store.data_root import DataRoot
from store.errors import Unavailable
from store.registry import Registry
from worker.validation import MAX_CAPTIONS, find_validation

LEAST_PICTURES = 100
LEAST_CAPTIONS = 20  # of a language of which nothing is known; of one beside English: `LEAST_CAPTIONS_BESIDE`
LEAST_CAPTIONS_BESIDE = 5


@dataclass(frozen=True)
class CaptionQueries:
    """Captions that are searched for as a user's queries would be."""

    pairs: list[tuple[str, str]]  # picture and text
    vectors: Matrix  # unit vectors (n, dimension) of the texts
    picture_vectors: Matrix  # and of the pictures
    right: list[set[str]]  # ids of all pictures that have the same caption


class MatchFitter:
    """Fitter of the chances of hits, for languages of the release that serves."""

    def __init__(self, registry: Registry, root: DataRoot) -> None:
        """Raises `Unavailable` in a registry of which nobody has opened the base."""
        encoding, base = find_recorded_encoding(registry), registry.bases.find_serving()
        if encoding is None or base is None:
            raise Unavailable("no process has opened the base yet")
        self._image_tower = encoding.compute_fingerprint(base.image_fingerprint)
        self._text_tower = encoding.compute_fingerprint(base.text_fingerprint)
        self._registry, self._root, self._base = registry, root, base.number
        self._gallery = Gallery(registry, root)

    def fit(self, language: str, version: int) -> None:
        """Store with a version how the chances of hits are computed for its language, or why they cannot be."""
        change, near = find_last_change(self._registry), self.load_english_curves(language)
        pictures = sum(len(part) for part in self.read_vectors())
        queries = self.choose_queries(language, version) if pictures >= LEAST_PICTURES else None
        captions = 0 if queries is None else len(queries.right)
        result: dict[str, Any] = {"measured_at": datetime.now(UTC).isoformat(), "pictures": pictures}
        curves = None
        if queries is None or captions < (LEAST_CAPTIONS if near is None else LEAST_CAPTIONS_BESIDE):
            result |= {"reason": "few_pictures" if pictures < LEAST_PICTURES else "few_captions", "captions": captions}
        else:
            answers = self.search(queries)
            curves = asdict(fit(answers, near))
            result |= {**measure_error(answers, near), "near": None if near is None else ENGLISH}
        among = {"tower": self._image_tower, "change": change, "pictures": pictures}
        self._registry.versions.set_match(version, {**among, "curves": curves, "result": result})

    def load_english_curves(self, language: str) -> Curves | None:
        """Load the curves of English, which every base reads, if they are known; returns None for English itself."""
        match = None if language == ENGLISH else self._registry.versions.read_matches([self._base]).get(self._base)
        return None if match is None or match["curves"] is None else Curves(**match["curves"])

    def choose_queries(self, language: str, version: int) -> CaptionQueries | None:
        """Choose captions of a language, in an order by hash; returns None when nothing was held out."""
        pairs = self._list_pairs(language, version)
        described = [
            ((caption.picture, caption.text), caption.id)
            for caption in self._gallery.find_captions(sorted({picture for picture, _ in pairs}), language)
            if (caption.picture, caption.text) in pairs
        ]
        vectors = self._gallery.find_caption_vectors([id for _, id in described], EncoderId(version, self._text_tower))
        ids = {pair: id for pair, id in described if id in vectors}  # of two that are the same, one has it
        own = self._gallery.find_picture_vectors(sorted({picture for picture, _ in ids}), self._image_tower)
        usable = [pair for pair in ids if pair[0] in own]
        usable = sorted(usable, key=lambda pair: sha256("\0".join(pair).encode()).digest())[:MAX_CAPTIONS]
        if not usable:
            return None
        same = self._gallery.find_pictures_by_caption(language, {text for _, text in usable})
        return CaptionQueries(
            usable,
            np.stack([vectors[ids[pair]] for pair in usable]),
            np.stack([own[picture] for picture, _ in usable]),
            [same[text] | {picture} for picture, text in usable],
        )

    def search(self, queries: CaptionQueries) -> Answers:
        """Search for the queries among all pictures."""
        return search_gallery(queries.vectors, queries.picture_vectors, queries.right, self.read_vectors)

    def read_vectors(self) -> Iterator[Mapping[str, NDArray[np.float32]]]:
        """Yield the vectors of all pictures, some at a time, in the order of the hash of their content."""
        return self._gallery.sample_vectors(1.0, self._image_tower)

    def _list_pairs(self, language: str, version: int) -> set[tuple[str, str]]:
        """List pictures and captions that the version did not learn from: held out, or English ones of the gallery."""
        sources = self._registry.versions.get(version).dataset_expansions
        if not sources:
            pictures = self._gallery.list_captioned(language, ())
            some = pictures[:: -(-len(pictures) // MAX_CAPTIONS) or 1]
            captions = self._gallery.group_captions(some, [language])
            return {(picture, text) for picture, by_tag in captions.items() for text in by_tag.get(language, ())}
        validation = find_validation(self._root, sources, "pictures")
        return set() if validation is None else set(zip(validation.targets, validation.captions, strict=True))
