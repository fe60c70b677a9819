"""New generations: a language's captions for a new version, and the folding of an overlay. Swaps and serves nothing.

Killed anywhere, nothing is wrong and little is lost: vectors are kept shard by shard in the registry, a generation
appears whole or not at all, and running again writes the same files.
"""

from collections.abc import Callable
from typing import Any

from index import generation
from index.catalogue import Catalogue
from index.encoding import Encoder
from index.engine import Engine
from index.engine.faiss_engine import SCAN
from index.gallery import Gallery
from index.generation import Written, name_of
from index.rows import batches
from index.sync import CaptionSource, Source, expansions_of
from index.vectors import Block, Segment, VectorSet
from model.data_root import DataRoot
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
    root: DataRoot,
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
        blocks |= source.blocks(part, gallery.captions(part, language))
        fault_point("build.shard")
        if on_progress is not None:
            on_progress(len(blocks), len(pictures))
    found = VectorSet.empty("", encoder.dimension).changed(blocks, change)
    written, _ = write(found, source, registry, root, SCAN)
    return written


def write(
    found: VectorSet, source: Source, registry: Registry, root: DataRoot, engine: Engine
) -> tuple[Written, Segment]:
    """Fold a set into one new generation, open it, and only then register it; the opened one comes back with it.

    The overlay of the new generation is empty as of the set's last change.
    """
    written = generation.write(root, source.identity, *found.live())
    fault_point("build.written")
    opened = generation.read(root.path(name_of(written.id)), written.manifest_sha256, source.identity, engine)
    Catalogue(registry, root).register(source.identity, written, found.change)
    fault_point("build.registered")
    return written, opened
