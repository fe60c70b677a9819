"""Searches by meaning, words and both, in the demo: some pictures have a title, the others are only looked at."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demo.gallery import Outline, draw, list_outlines
from index.gallery import Gallery, NewPicture
from index.live import LiveIndex
from index.ranking import PictureHit, fuse_rankings, rank_by_words
from index.records import RecordInput
from index.sets import VectorSets
from index.word_search import LEAST_SHARE, MOST, WordSearch
from model.base import open_base
from model.encoder import Encoder
from model.text import clean
from store.data_root import DataRoot
from store.registry import Registry, open_registry

_BATCH = 256  # pictures that are drawn and encoded together
_ASKED = 1_000  # at most so many of them are asked for, evenly spread
_MODES = ("meaning", "words", "both")
_DEPTHS = (1, 5)


def measure_modes(home: Path, shown: Sequence[Outline] = ()) -> list[dict[str, Any]]:
    """Return R@1 and R@5 of each mode: of titles, of scenes, and of all queries together.

    Single drawings have their name as `title` in metadata, and are asked for by it. Scenes have no text at all; they
    are asked for by what they show. All are in one gallery.
    """
    shown = shown or list_outlines()
    encoder, registry = Encoder(open_base("bundled")), open_registry(f"sqlite:///{home / 'modes.db'}")
    try:
        registry.initialise(encoder.base_fingerprint)
        gallery = Gallery(registry, DataRoot(home))
        for start in range(0, len(shown), _BATCH):
            _put(gallery, encoder, shown[start : start + _BATCH])
        return rank_modes(home, encoder, registry, shown)
    finally:
        registry.close()


def rank_modes(home: Path, encoder: Encoder, registry: Registry, shown: Sequence[Outline]) -> list[dict[str, Any]]:
    """Return the rows of `measure_modes`, of a gallery that is filled."""
    live = LiveIndex(encoder, VectorSets(Gallery(registry, DataRoot(home))))
    live.start()
    snapshot, words, places = live.current, WordSearch(registry), list[list[int]]()
    shown = shown[:: -(-len(shown) // _ASKED)]
    texts = [clean(outline.caption) for outline in shown]
    vectors = encoder.encode_texts([(encoder.base_view, text) for text in texts]).vectors
    for outline, text, vector in zip(shown, texts, vectors, strict=True):
        near, worded = snapshot.search_pictures(vector, MOST), words.find(text, snapshot.release).hits
        enough = [hit for hit in worded if hit.complete or hit.score >= LEAST_SHARE]
        rankings = (near, rank_by_words(worded), fuse_rankings(near, enough, (1.0, 1.0)))
        places.append([_place(outline.id, ranking) for ranking in rankings])
    live.close()
    ranks, single = np.array(places), np.array([len(outline.objects) == 1 for outline in shown])
    kinds = {"titles": single, "scenes": ~single, "all": np.ones(len(shown), dtype=bool)}
    return [
        {
            "mode": mode,
            "queries": len(shown),
            **{f"{kind}_R@{k}": float(np.mean(ranks[of, row] < k)) for kind, of in kinds.items() for k in _DEPTHS},
        }
        for row, mode in enumerate(_MODES)
    ]


def _put(gallery: Gallery, encoder: Encoder, some: Sequence[Outline]) -> None:
    vectors = encoder.encode_pictures([draw(outline) for outline in some])
    new = [
        NewPicture(
            outline.id,
            f"{outline.id:0>64}",
            1,
            1,
            vector=vector,
            record=RecordInput(None, None, _build_metadata(outline)),
        )
        for outline, vector in zip(some, vectors, strict=True)
    ]
    gallery.put(new, encoder.image_fingerprint)


def _build_metadata(outline: Outline) -> dict[str, str]:
    return {"title": outline.caption} if len(outline.objects) == 1 else {}


def _place(id: str, ranking: Sequence[PictureHit]) -> int:
    """Return how many pictures come before this one."""
    return next((hit.rank - 1 for hit in ranking if hit.picture == id), 2 * MOST)
