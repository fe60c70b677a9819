"""A registry, a gallery and learned languages in a temporary folder, as the worker and the service would make them."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from index.build import build_captions
from index.gallery import Gallery, Put
from index.generation import WrittenGeneration
from index.live import LiveIndex
from index.pictures import Picture, encode_stored, encode_thumbnail
from model import storage
from model.data_root import DataRoot
from model.errors import CorruptFolder, VersionCorrupt
from model.registry import Lease, Release, Version, open_registry
from tests.doubles import WeightlessEncoder, WeightlessTexts, WeightlessView, picture_vector, text_vector


class VerifyingEncoder(WeightlessEncoder):
    """A weightless encoder that verifies version folders as the real one does, and counts what it encodes."""

    def __init__(self) -> None:
        self.texts_encoded = 0
        self.pictures_encoded = 0
        self.opened: list[int] = []

    def open(self, folders: Sequence[Any], onto: WeightlessView | None = None) -> WeightlessView:
        for folder in folders:
            try:
                storage.verify(folder.path, folder.manifest_sha256)
            except CorruptFolder as error:
                raise VersionCorrupt(error.detail) from error
            self.opened.append(folder.number)
        return super().open(folders, onto)

    def texts(self, items: Sequence[tuple[WeightlessView, str]], *, alone: bool = False) -> WeightlessTexts:
        self.texts_encoded += len(items)
        return super().texts(items, alone=alone)

    def pictures(self, images: Sequence[Image.Image], batch: int = 64) -> Any:
        self.pictures_encoded += len(images)
        return super().pictures(images, batch)


def drawn(seed: int) -> Picture:
    """A small picture, different for every seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    rgb = Image.fromarray(pixels).resize((32, 32), Image.Resampling.NEAREST)
    return Picture(rgb, encode_stored(rgb), encode_thumbnail(rgb))


def content(seed: int) -> str:
    """The content hash of `drawn(seed)`."""
    return hashlib.sha256(str(seed).encode()).hexdigest()


class World:
    """Everything that a live index needs, and each task of the worker as one call."""

    def __init__(self, home: Path, url: str | None = None, store: str = "") -> None:
        self.home = home
        self.root = DataRoot(home, store)
        self.encoder = VerifyingEncoder()
        self.registry = open_registry(url or f"sqlite:///{home / 'registry.db'}")
        self.registry.initialise(self.encoder.text_fingerprint, {})
        self.gallery = Gallery(self.registry, self.root)
        self._indexes: list[LiveIndex] = []

    def live_index(self, **options: Any) -> LiveIndex:
        """A new live index, as in another process, not yet started."""
        live = LiveIndex(self.encoder, self.registry, self.gallery, self.root, **options)
        self._indexes.append(live)
        return live

    def started(self, **options: Any) -> LiveIndex:
        """A new live index that serves a snapshot."""
        live = self.live_index(**options)
        assert live.start()
        return live

    def close(self) -> None:
        for live in self._indexes:
            live.close()
        self.registry.close()

    def put(self, id: str, seed: int, captions: Mapping[str, Sequence[str]] | None = None) -> Put:
        """Add a picture without telling any live index, as another process would."""
        picture = drawn(seed)
        vector = self.encoder.pictures([picture.rgb])[0]
        fingerprint = self.encoder.image_fingerprint
        return self.gallery.put(id, content(seed), 32, 32, captions, vector, fingerprint, picture=picture)

    def trained_version(self, language: str, captions: Mapping[str, str] | None = None) -> tuple[Lease, Version]:
        """A running expansion whose version is on disk and whose captions (by picture) are in the gallery."""
        expansion, _ = self.registry.expansions.submit(
            kind="learn",
            language=language,
            settings={},
            dataset_path=None,
            dataset_sha256=None,
            dataset_bytes=0,
            actor="test",
        )
        lease = self.registry.expansions.lease(expansion.id, "worker")
        assert lease is not None
        folder = f"versions/{expansion.id}"
        with self.root.stage(folder) as staged:
            (staged / "rows.safetensors").write_bytes(expansion.id.encode() * 20)
            manifest_sha256 = storage.write_manifest(staged, {"language": language})
        version = self.registry.versions.add(
            expansion=expansion.id,
            parent=self.registry.releases.serving().shared,
            language=language,
            folder=folder,
            manifest_sha256=manifest_sha256,
            rows=1,
            bytes=1,
            report={},
            fence=lease.fence,
        )
        self.gallery.add_captions(expansion.id, language, list((captions or {}).items()))
        return lease, version

    def encode(self, language: str, version: int, **options: Any) -> WrittenGeneration:
        """Build the generation of a version's captions."""
        view = WeightlessView(version, language)
        return build_captions(self.encoder, view, self.gallery, self.registry, language, version, self.root, **options)

    def teach(self, language: str, captions: Mapping[str, str] | None = None, *, shared: bool = True) -> Release:
        """A complete expansion, promoted."""
        lease, version = self.trained_version(language, captions)
        self.encode(language, version.number)
        release = self.registry.releases.promote(
            expansion=lease.expansion, version=version.number, move_shared=shared, fence=lease.fence
        )
        self.registry.expansions.succeed(lease, version.number, release.number, {})
        return release

    def version_folder(self, number: int) -> Path:
        folder = self.registry.versions.get(number).folder
        assert folder is not None
        return self.root.path(folder)

    def generation_folder(self, identity: str) -> Path:
        return self.home / "generations" / identity


def flip(file: Path) -> None:
    """Damage one byte in the middle of a file."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def nearest_pictures(live: LiveIndex, seed: int, limit: int = 10) -> list[str]:
    """The ids of the pictures nearest to `drawn(seed)`."""
    return [hit.picture for hit in live.current.search_pictures(picture_vector(drawn(seed).rgb), limit)]


def nearest_captions(live: LiveIndex, tag: str, version: int, text: str, limit: int = 1) -> list[tuple[str, str]]:
    """The captions nearest to a text as a version encodes it, with their pictures."""
    hits = live.current.search_captions(text_vector(version, text), [tag], limit)
    return [(hit.caption, hit.picture) for hit in hits]
