"""New generations: a language's captions for a new version, and the folding of an overlay. Swaps and serves nothing.

Killed anywhere, nothing is wrong and little is lost: vectors are kept shard by shard in the registry, a generation
appears whole or not at all, and running again writes the same files.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from index import generation
from index.catalogue import Catalogue
from index.encoding import Encoder
from index.gallery import Gallery
from index.generation import Written
from index.stored import batches
from index.sync import CaptionSource, Source, expansions_of
from index.vectors import Block, VectorSet
from model.registry import Registry
from model.storage import fault_point

SHARD = 512  # pictures whose captions are encoded, and then durable, at a time
Progress = Callable[[int, int], None]  # pictures done, pictures in all


def build_captions(
    encoder: Encoder,
    view: Any,
    gallery: Gallery,
    registry: Registry,
    language: str,
    version: int,
    root: Path,
    on_progress: Progress | None = None,
    shard: int = SHARD,
) -> Written:
    """Encode what is missing of a language's captions as `version` reads them, and write and register one generation.

    `version` must be in the registry, and its expansion's captions in the gallery. `on_progress` is called after each
    shard; what it raises ends the build, which the next call resumes.
    """
    source = CaptionSource(encoder, gallery, view, language, version, expansions_of(registry, language, version))
    change = gallery.change()  # before the captions are read: what comes between is read twice, not missed
    pictures = gallery.captioned(language, source.expansions)
    blocks: dict[str, Block] = {}
    for part in batches(pictures, shard):
        blocks |= source.blocks(part, gallery.captions(part))
        fault_point("build.shard")
        if on_progress is not None:
            on_progress(len(blocks), len(pictures))
    found = VectorSet.empty("", encoder.dimension).changed(blocks, change)
    return write(found, source, registry, root)


def write(found: VectorSet, source: Source, registry: Registry, root: Path) -> Written:
    """Fold a set into one new generation and register it; the overlay of that is empty as of the set's change."""
    written = generation.write(root, source.identity, *found.live())
    fault_point("build.written")
    Catalogue(registry, root).register(source.identity, written, found.change)
    fault_point("build.registered")
    return written
