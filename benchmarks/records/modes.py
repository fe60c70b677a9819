"""Searches by meaning, words and both, in the demo: some pictures have a title, the others are only looked at."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demo.gallery import Outline, draw, outlines
from index import fusion
from index.gallery import Gallery, NewPicture
from index.live import LiveIndex
from index.records import Given
from index.selection import Wanted
from index.snapshot import PictureHit
from index.word_search import MOST, WordSearch
from model.base import open_base
from model.data_root import DataRoot
from model.encoder import Encoder
from model.registry import open_registry
from model.text import clean

_BATCH = 256  # pictures that are drawn and encoded together
_DEPTHS = (1, 5)
Ranking = Callable[[str, np.ndarray], Sequence[PictureHit]]  # of a text, and of its vector


def measured(home: Path, shown: Sequence[Outline] = ()) -> list[dict[str, Any]]:
    """R@1 and R@5 of each mode: of titles, of scenes, and of all queries together.

    Single drawings have their name as `title` in metadata, and are asked for by it. Scenes have no text at all; they
    are asked for by what they show. All are in one gallery.
    """
    shown = shown or outlines()
    encoder, registry = Encoder(open_base("bundled")), open_registry(f"sqlite:///{home / 'modes.db'}")
    try:
        release = registry.initialise(encoder.base_fingerprint, {})
        gallery = Gallery(registry, DataRoot(home))
        for start in range(0, len(shown), _BATCH):
            _put(gallery, encoder, shown[start : start + _BATCH])
        live = LiveIndex(encoder, registry, gallery, DataRoot(home))
        live.start()
        snapshot, words = live.current, WordSearch(registry)

        def by_meaning(_: str, vector: np.ndarray) -> Sequence[PictureHit]:
            return snapshot.search_pictures(vector, MOST)

        def by_words(text: str, _: np.ndarray) -> Sequence[PictureHit]:
            return fusion.by_words(words.find(text, release, Wanted()))

        def by_both(text: str, vector: np.ndarray) -> Sequence[PictureHit]:
            return fusion.fused(by_meaning(text, vector), words.find(text, release, Wanted()), (1.0, 1.0))

        vectors = encoder.texts([(encoder.base_view, clean(outline.caption)) for outline in shown]).vectors
        modes: dict[str, Ranking] = {"meaning": by_meaning, "words": by_words, "both": by_both}
        rows = [{"mode": mode, **_recall(shown, vectors, ranking)} for mode, ranking in modes.items()]
        live.close()
        return rows
    finally:
        registry.close()


def _put(gallery: Gallery, encoder: Encoder, some: Sequence[Outline]) -> None:
    vectors = encoder.pictures([draw(outline) for outline in some])
    new = [
        NewPicture(outline.id, f"{outline.id:0>64}", 1, 1, vector=vector, given=Given(metadata=_metadata(outline)))
        for outline, vector in zip(some, vectors, strict=True)
    ]
    gallery.put(new, encoder.image_fingerprint)


def _metadata(outline: Outline) -> dict[str, str]:
    return {"title": outline.caption} if len(outline.objects) == 1 else {}


def _recall(shown: Sequence[Outline], vectors: np.ndarray, ranking: Ranking) -> dict[str, Any]:
    places = []
    for outline, vector in zip(shown, vectors, strict=True):
        found = [hit.picture for hit in ranking(clean(outline.caption), vector)]
        places.append(found.index(outline.id) if outline.id in found else MOST)
    ranks, single = np.array(places), np.array([len(outline.objects) == 1 for outline in shown])
    kinds = {"titles": single, "scenes": ~single, "all": np.ones(len(shown), dtype=bool)}
    figures = {f"{kind}_R@{k}": float(np.mean(ranks[of] < k)) for kind, of in kinds.items() for k in _DEPTHS}
    return {"queries": len(shown), **figures}
