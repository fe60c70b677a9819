"""Builds new generations: of a language's captions for a new version, or of a set with its tail. Serves nothing.

It can be killed at any point and run again: vectors are stored shard by shard in the registry, a generation is written
completely or not at all, and a second run writes the same files.
"""

from collections.abc import Callable, Sequence
from typing import Any

from index import generation
from index.catalogue import Catalogue
from index.encoding import Encoder
from index.engine import Engine
from index.engine.faiss_engine import SCAN
from index.errors import IndexFileCorrupt, IndexInconsistent
from index.gallery import Gallery
from index.generation import WrittenGeneration, folder_name
from index.rows import Caption, batches
from index.sync import CaptionSource, PictureSource, Source, expansions_of
from index.vectors import Block, Segment, VectorSet
from model.data_root import DataRoot
from model.registry import Registry
from model.storage import fault_point

SHARD = 512  # pictures whose captions are encoded and stored at a time
PICTURES = 64  # pictures that are encoded and stored at a time
_ATTEMPTS = 3  # to write a generation
Progress = Callable[[int, int], None]  # pictures done, pictures in total


def build_pictures(
    encoder: Encoder, gallery: Gallery, registry: Registry, root: DataRoot, on_progress: Progress | None = None
) -> WrittenGeneration:
    """Encode all stored pictures that have no vector of this encoder yet, and write and register a generation.

    As `build_captions`; a picture whose file cannot be read is left out.
    """
    source = PictureSource(encoder, gallery)
    change, pictures = gallery.change(), gallery.ids()
    return _build(source, change, pictures, lambda batch: [], registry, root, on_progress, PICTURES)


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
) -> WrittenGeneration:
    """Encode a language's captions with `version`, except those already encoded, and write and register a generation.

    `version` must be in the registry, and its expansion's captions in the gallery. `on_progress` is called after each
    shard; an exception that it raises ends the build, and the next call resumes it.
    """
    source = CaptionSource(encoder, gallery, view, language, version, expansions_of(registry, language, version))
    change = gallery.change()
    pictures = gallery.captioned(language, source.expansions)
    return _build(
        source, change, pictures, lambda batch: gallery.captions(batch, language), registry, root, on_progress, shard
    )


def _build(
    source: Source,
    change: int,
    pictures: Sequence[str],
    captions: Callable[[Sequence[str]], Sequence[Caption]],
    registry: Registry,
    root: DataRoot,
    on_progress: Progress | None,
    shard: int,
) -> WrittenGeneration:
    """`change` is from before the pictures and captions were read: a change in between is read twice, not missed."""
    blocks: dict[str, Block] = {}
    for batch in batches(pictures, shard):
        blocks |= source.blocks(batch, captions(batch))
        fault_point("build.shard")
        if on_progress is not None:
            on_progress(len(blocks), len(pictures))
    vector_set = VectorSet.empty("", source.identity.dimension).changed(blocks, change)
    written, _ = write(vector_set, source, registry, root, SCAN)
    return written


def write(
    vector_set: VectorSet, source: Source, registry: Registry, root: DataRoot, engine: Engine
) -> tuple[WrittenGeneration, Segment]:
    """Write a set, tail included, as one new generation, open it, and only then register it; returns both.

    The generation has every change of the gallery up to the set's last one. It is written again when another process
    removed it, as left over or as replaced, before it was registered; `IndexFileCorrupt` is raised the third time.
    """
    for _ in range(_ATTEMPTS):
        try:
            written = generation.write(root, source.identity, *vector_set.merged())
        except FileNotFoundError:
            continue
        fault_point("build.written")
        folder = root.path(folder_name(written.id))
        try:
            opened = generation.read(folder, written.manifest_sha256, source.identity, engine)
        except (FileNotFoundError, IndexFileCorrupt, IndexInconsistent):
            if folder.exists():
                raise  # not removed, but damaged
            continue
        if Catalogue(registry, root).register(source.identity, written, vector_set.change):
            fault_point("build.registered")
            return written, opened
    raise IndexFileCorrupt("another process removes the files of each new generation")
