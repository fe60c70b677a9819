"""Fits of the chance of a hit for the languages that serve, in a child of the worker.

Nothing is encoded here. The queries are held-out captions of a taught language, as its version's proof reads them, or
the gallery's captions in English, which the base reads: their vectors are with the version, or in the registry.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.captions import EncoderId
from index.gallery import Gallery
from index.vectors import Matrix
from model.encoder import VersionFolder
from model.languages import ENGLISH
from model.match import Curves, MatchSample, fit, measure_error, read_alike, search_gallery
from store import files
from store.data_root import DataRoot
from store.errors import CorruptFolder, Unavailable
from store.registry import Registry
from worker.validation import HELD_OUT, LEAST_CAPTIONS, MAX_CAPTIONS, HeldOut

LEAST_PICTURES = 100
LEAST_CAPTIONS_BESIDE = 5


@dataclass(frozen=True)
class CaptionQueries:
    """Captions that are searched for as a user's queries would be."""

    pairs: list[tuple[str, str]]  # picture and text
    vectors: Matrix  # unit vectors (n, dimension) of the texts
    picture_vectors: Matrix  # and of the pictures
    right: list[set[str]]  # ids of all pictures that have the same caption
    texts: int = 0  # held-out captions without a picture that they were made from, of English ones


class MatchFitter:
    """Fitter of the chances of hits, for languages of the release that serves."""

    def __init__(self, registry: Registry, root: DataRoot) -> None:
        """Raises `Unavailable` in a registry of which nobody has opened the base."""
        encoding, base = registry.encodings.find_current(), registry.bases.find_serving()
        if encoding is None or base is None:
            raise Unavailable("no process has opened the base yet")
        self._image_tower = encoding.compute_fingerprint(base.image_fingerprint)
        self._text_tower = encoding.compute_fingerprint(base.text_fingerprint)
        self._registry, self._root, self._base = registry, root, base.number
        self._gallery = Gallery(registry, root)

    def fit(self, language: str, version: int) -> None:
        """Store with a version how the chances of hits are computed for its language, or why they cannot be."""
        change, near = self._registry.read_last_change(), self.load_english_curves(language)
        pictures = sum(len(part) for part in self.read_vectors())
        result: dict[str, Any] = {"measured_at": datetime.now(UTC).isoformat(), "pictures": pictures}
        curves, queries = None, self.choose_queries(language, version) if pictures >= LEAST_PICTURES else None
        captions = 0 if queries is None else len(queries.right)
        if captions < (LEAST_CAPTIONS if near is None else LEAST_CAPTIONS_BESIDE):
            # without pictures: what its captions would find follows from what English ones do
            queries = None if near is None or pictures < LEAST_PICTURES else self.make_textual_queries(version)
        if queries is None:
            result |= {"reason": "few_pictures" if pictures < LEAST_PICTURES else "few_captions", "captions": captions}
        else:
            answers = self.search(queries)
            curves = asdict(fit(answers, near))
            result |= {**measure_error(answers, near), "near": None if near is None else ENGLISH}
            result["texts"] = queries.texts
        among = {"tower": self._image_tower, "change": change, "pictures": pictures}
        self._registry.versions.set_calibration(version, {**among, "curves": curves, "result": result})

    def load_english_curves(self, language: str) -> Curves | None:
        """Load the curves of English, which every base reads, if they are known; returns None for English itself."""
        if language == ENGLISH:
            return None
        fitted = self._registry.versions.read_calibrations([self._base]).get(self._base)
        return None if fitted is None or fitted["curves"] is None else Curves(**fitted["curves"])

    def choose_queries(self, language: str, version: int) -> CaptionQueries | None:
        """Choose captions of a language, in an order by hash; returns None when nothing was held out."""
        if self._registry.versions.get(version).dataset_expansions:
            held_out = self._read_held_out(version)
            pairs = [] if held_out is None else zip(held_out.pairs, held_out.vectors, strict=True)
            vectors: Mapping[tuple[str, str], NDArray[np.float32]] = dict(pairs)
        else:
            vectors = self._read_gallery(language, version)
        own = self._gallery.find_picture_vectors(sorted({picture for picture, _ in vectors}), self._image_tower)
        usable = [pair for pair in vectors if pair[0] in own]
        usable = sorted(usable, key=lambda pair: sha256("\0".join(pair).encode()).digest())[:MAX_CAPTIONS]
        if not usable:
            return None
        same = self._gallery.find_pictures_by_caption(language, {text for _, text in usable})
        return CaptionQueries(
            usable,
            np.stack([vectors[pair] for pair in usable]),
            np.stack([own[picture] for picture, _ in usable]),
            [same[text] | {picture} for picture, text in usable],
        )

    def make_textual_queries(self, version: int) -> CaptionQueries | None:
        """Make queries of a language of which no held-out caption has a picture: English ones, read as its captions.

        Returns None where too few of either are known.
        """
        held_out, english = self._read_held_out(version), self.choose_queries(ENGLISH, self._base)
        if held_out is None or english is None or len(held_out.texts) < LEAST_CAPTIONS:
            return None
        vectors = read_alike(english.vectors, held_out.texts, held_out.meanings)
        return replace(english, vectors=vectors, texts=len(held_out.texts))

    def search(self, queries: CaptionQueries) -> MatchSample:
        return search_gallery(queries.vectors, queries.picture_vectors, queries.right, self.read_vectors)

    def read_vectors(self) -> Iterator[Mapping[str, NDArray[np.float32]]]:
        """Yield the vectors of all pictures, some at a time, in the order of the hash of their content."""
        return self._gallery.sample_vectors(1.0, self._image_tower)

    def _read_held_out(self, version: int) -> HeldOut | None:
        """Read what a version's proof makes of captions that it did not learn from; nothing of a damaged version."""
        with suppress(CorruptFolder):
            folder = VersionFolder.fetch(self._registry.versions.get(version), self._root)
            files.verify(folder.path, folder.manifest_sha256)
            return HeldOut.read(folder.path / HELD_OUT)
        return None

    def _read_gallery(self, language: str, version: int) -> Mapping[tuple[str, str], NDArray[np.float32]]:
        """Read how a base reads captions of the gallery, of at most `MAX_CAPTIONS` pictures."""
        pictures = self._gallery.list_captioned(language, ())
        some = sorted(pictures[:: -(-len(pictures) // MAX_CAPTIONS) or 1])
        described = self._gallery.find_captions(some, language)
        found = self._gallery.find_caption_vectors(
            [caption.id for caption in described], EncoderId(version, self._text_tower)
        )
        return {(each.picture, each.text): found[each.id] for each in described if each.id in found}
