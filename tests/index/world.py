"""A registry, a gallery and taught languages in a temporary folder, as the worker and the service would make them."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from index.build import build_captions
from index.gallery import Gallery, Put
from index.generation import Written
from index.live import LiveIndex
from index.pictures import Picture, encode_stored, encode_thumbnail
from model import storage
from model.data_root import DataRoot
from model.errors import CorruptFolder, VersionCorrupt
from model.registry import Lease, Release, Version, open_registry
from tests.doubles import WeightlessEncoder, WeightlessTexts, WeightlessView, picture_vector, text_vector


class VerifyingEncoder(WeightlessEncoder):
    """The weightless encoder, which verifies version folders as the real one does, and counts what it encodes."""

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

    def texts(self, items: Sequence[tuple[WeightlessView, str]], batch: int = 256) -> WeightlessTexts:
        self.texts_encoded += len(items)
        return super().texts(items, batch)

    def pictures(self, images: Sequence[Image.Image], batch: int = 64) -> Any:
        self.pictures_encoded += len(images)
        return super().pictures(images, batch)


def drawn(seed: int) -> Picture:
    """A small picture that no other seed draws."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    rgb = Image.fromarray(pixels).resize((32, 32), Image.Resampling.NEAREST)
    return Picture(rgb, encode_stored(rgb), encode_thumbnail(rgb))


def content(seed: int) -> str:
    """The content hash that goes with `drawn(seed)`."""
    return hashlib.sha256(str(seed).encode()).hexdigest()


class World:
    """Everything a holder needs, and the acts of the worker in one call each."""

    def __init__(self, home: Path, url: str | None = None, store: str = "") -> None:
        self.home = home
        self.root = DataRoot(home, store)
        self.encoder = VerifyingEncoder()
        self.registry = open_registry(url or f"sqlite:///{home / 'registry.db'}")
        self.registry.initialise(self.encoder.text_fingerprint, {})
        self.gallery = Gallery(self.registry, self.root)
        self._holders: list[LiveIndex] = []

    def holder(self, **options: Any) -> LiveIndex:
        """Another process's live index, not yet started."""
        holder = LiveIndex(self.encoder, self.registry, self.gallery, self.root, **options)
        self._holders.append(holder)
        return holder

    def started(self, **options: Any) -> LiveIndex:
        """A live index that serves."""
        holder = self.holder(**options)
        assert holder.start()
        return holder

    def close(self) -> None:
        for holder in self._holders:
            holder.close()
        self.registry.close()

    def put(self, id: str, seed: int, captions: Mapping[str, Sequence[str]] | None = None) -> Put:
        """Add a picture behind every holder's back, as another process would."""
        picture = drawn(seed)
        vector = self.encoder.pictures([picture.rgb])[0]
        fingerprint = self.encoder.image_fingerprint
        return self.gallery.put(id, content(seed), 32, 32, captions, vector, fingerprint, picture=picture)

    def lesson(self, language: str, captions: Mapping[str, str] | None = None) -> tuple[Lease, Version]:
        """An expansion up to its version on disk, with its captions (by picture) in the gallery."""
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

    def encode(self, language: str, version: int, **options: Any) -> Written:
        """The captions of a version as one generation."""
        view = WeightlessView(version, language)
        return build_captions(self.encoder, view, self.gallery, self.registry, language, version, self.root, **options)

    def teach(self, language: str, captions: Mapping[str, str] | None = None, *, shared: bool = True) -> Release:
        """A whole expansion."""
        lease, version = self.lesson(language, captions)
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


def found(holder: LiveIndex, seed: int, limit: int = 10) -> list[str]:
    """The pictures nearest to a drawing."""
    return [hit.picture for hit in holder.current.search_pictures(picture_vector(drawn(seed).rgb), limit)]


def captions(holder: LiveIndex, tag: str, version: int, text: str, limit: int = 1) -> list[tuple[str, str]]:
    """The captions nearest to a text as a version reads it, with their pictures."""
    hits = holder.current.search_captions(text_vector(version, text), [tag], limit)
    return [(hit.caption, hit.picture) for hit in hits]
