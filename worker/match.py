"""Fits the chance of a hit for the languages that serve, in a child of the worker. Encodes nothing.

All vectors are in the registry: the pictures', and the captions' as the version reads them. Of a taught language the
held-out captions are asked, of English, which the base reads, those of the gallery.
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
from model.backend import recorded
from model.languages import ENGLISH
from model.match import Answers, Curves, fit, measured, search_gallery
from store.data_root import DataRoot
from store.errors import Unavailable
from store.registry import Registry
from worker.validation import MAX_CAPTIONS, find_kept

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


class MatchFitter:
    """Fits languages of the release that serves."""

    def __init__(self, registry: Registry, root: DataRoot) -> None:
        """Raises `Unavailable` in a registry of which nobody has opened the base."""
        encoding, base = recorded(registry), registry.bases.find_serving()
        if encoding is None or base is None:
            raise Unavailable("no process has opened the base yet")
        self._image_tower = encoding.compute_fingerprint(base.image_fingerprint)
        self._text_tower = encoding.compute_fingerprint(base.text_fingerprint)
        self._registry, self._root, self._base = registry, root, base.number
        self._gallery = Gallery(registry, root)

    def fit(self, language: str, version: int) -> None:
        """Keep with a version how the chances of hits are told of its language, or why they cannot be."""
        change, near = find_last_change(self._registry), self.english(language)
        pictures = sum(len(part) for part in self.pictures())
        texts = self.texts(language, version) if pictures >= LEAST_PICTURES else None
        captions = 0 if texts is None else len(texts.right)
        result: dict[str, Any] = {"measured_at": datetime.now(UTC).isoformat(), "pictures": pictures}
        curves = None
        if texts is None or captions < (LEAST_CAPTIONS if near is None else LEAST_BESIDE):
            result |= {"reason": "few_pictures" if pictures < LEAST_PICTURES else "few_captions", "captions": captions}
        else:
            answers = self.answers(texts)
            curves = asdict(fit(answers, near))
            result |= {**measured(answers, near), "near": None if near is None else ENGLISH}
        among = {"tower": self._image_tower, "change": change, "pictures": pictures}
        self._registry.versions.set_match(version, {**among, "curves": curves, "result": result})

    def english(self, language: str) -> Curves | None:
        """The curves of English, which every base reads, if they are known; None for English itself."""
        match = None if language == ENGLISH else self._registry.versions.read_matches([self._base]).get(self._base)
        return None if match is None or match["curves"] is None else Curves(**match["curves"])

    def texts(self, language: str, version: int) -> Texts | None:
        """What to ask in a language, in an order by hash; None when nothing was held out."""
        pairs = self._pairs(language, version)
        described = [
            ((caption.picture, caption.text), caption.id)
            for caption in self._gallery.find_captions(sorted({picture for picture, _ in pairs}), language)
            if (caption.picture, caption.text) in pairs
        ]
        vectors = self._gallery.find_caption_vectors([id for _, id in described], EncoderId(version, self._text_tower))
        found = {pair: id for pair, id in described if id in vectors}  # of two that are the same, one has it
        own = self._gallery.find_picture_vectors(sorted({picture for picture, _ in found}), self._image_tower)
        usable = [pair for pair in found if pair[0] in own]
        usable = sorted(usable, key=lambda pair: sha256("\0".join(pair).encode()).digest())[:MAX_CAPTIONS]
        if not usable:
            return None
        same = self._gallery.find_pictures_by_caption(language, {text for _, text in usable})
        return Texts(
            usable,
            np.stack([vectors[found[pair]] for pair in usable]),
            np.stack([own[picture] for picture, _ in usable]),
            [same[text] | {picture} for picture, text in usable],
        )

    def answers(self, texts: Texts) -> Answers:
        """What the texts find among all pictures."""
        return search_gallery(texts.vectors, texts.own, texts.right, self.pictures)

    def pictures(self) -> Iterator[Mapping[str, NDArray[np.float32]]]:
        """The vectors of all pictures, in the order of the hash of their content, some at a time."""
        return self._gallery.sample_vectors(1.0, self._image_tower)

    def _pairs(self, language: str, version: int) -> set[tuple[str, str]]:
        """Pictures and captions that the version did not learn from: held out, or English ones of the gallery."""
        learned = self._registry.versions.get(version).dataset_expansions
        if not learned:
            pictures = self._gallery.list_captioned(language, ())
            some = pictures[:: -(-len(pictures) // MAX_CAPTIONS) or 1]
            captions = self._gallery.group_captions(some, [language])
            return {(picture, text) for picture, by_tag in captions.items() for text in by_tag.get(language, ())}
        held_out = find_kept(self._root, learned, "pictures")
        if held_out is None:
            return set()
        return set(zip(held_out.targets, held_out.captions, strict=True))
