"""Pictures with files, and moves to another base, for tests of several folders."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from index.gallery import NewPicture
from index.indexer import fill_captions
from index.sets import VectorSets
from model.backend import open_encoder
from model.encoder import Encoder
from model.pictures import Picture, read_rgb
from store.expansions import Expansion
from store.registry import Registry
from store.settings import CommonSettings
from tests.worker.harness import Site, attempt_at
from worker.child import run

OTHER = "pictoglot-tiny-other"  # name of the base that is moved to


def show(site: Site, count: int, first: int = 0, **captions: Sequence[str]) -> None:
    """Put pictures `p0`, `p1`, … that have files, with vectors of the base that serves and these captions each."""
    encoder, random = serving(site), np.random.default_rng(first)
    new = []
    for number in range(first, first + count):
        rgb = Image.fromarray(random.integers(0, 255, (32, 32, 3), dtype=np.uint8))
        picture = Picture.encode(rgb)
        (vector,) = encoder.encode_pictures([read_rgb(picture.stored)])
        texts = {tag: [f"{text} {number}" for text in given] for tag, given in captions.items()}
        new.append(NewPicture(f"p{number}", f"{10**9 + number:064x}", 32, 32, texts, vector, picture))
    site.gallery.put(new, encoder.image_fingerprint)
    if "en" in captions:
        fill_captions(encoder, encoder.base_view, VectorSets(site.gallery), "en", encoder.base_view.version)


def serving(site: Site) -> Encoder:
    """What a process that starts now serves with."""
    return open_encoder(CommonSettings(home=site.home, base=site.base), site.registry)


def submit_move(registry: Registry, base: str, **more: Any) -> str:
    expansion, _ = registry.expansions.submit(
        kind="base", language="mul", settings={"base": base, **more}, actor="test"
    )
    return expansion.id


def move(site: Site, base: str, *, budget: float = 1.0, **more: Any) -> Expansion:
    """A move from its submission to its end, in this process."""
    expansion = submit_move(site.registry, base, **more)
    run(attempt_at(site, expansion, forgetting_budget=budget))
    return site.registry.expansions.get(expansion)
