"""Opens and verifies the views and vector sets that a release names, each once. Does not publish them."""

from collections.abc import Iterable
from dataclasses import replace
from threading import Lock
from typing import Any

from index import generation
from index.catalogue import Catalogue
from index.encoding import Encoder
from index.engine import Engine
from index.errors import IndexFileCorrupt, IndexInconsistent, IndexVersionMismatch
from index.gallery import Gallery
from index.generation import Identity, folder_name
from index.sync import CaptionSource, PictureSource, Source, expansions_of
from index.vectors import VectorSet
from model import storage
from model.data_root import DataRoot
from model.errors import StoreUnavailable
from model.registry import Registry, Release, Version


class ReleaseLoader:
    """Keeps opened views and sources open: a version's rows are added to the encoder's table once and never removed."""

    def __init__(self, encoder: Encoder, registry: Registry, gallery: Gallery, root: DataRoot, engine: Engine) -> None:
        self._encoder = encoder
        self._registry = registry
        self._gallery = gallery
        self._root = root
        self.engine = engine
        self._views: dict[int, Any] = {0: encoder.base_view}
        self._views_lock = Lock()
        self.catalogue = Catalogue(registry, root)
        self.pictures = PictureSource(encoder, gallery)
        self.sources: dict[Identity, Source] = {self.pictures.identity: self.pictures}

    def view(self, number: int) -> Any:
        """The view of a version, verified with all its ancestors; raises `VersionCorrupt` or `VersionNotFound`."""
        with self._views_lock:
            if number not in self._views:
                for version in reversed(self._registry.versions.lineage(number)):  # version 0 first
                    if version.number not in self._views:
                        self._views[version.number] = self._open_version(version)
            return self._views[number]

    def captions(self, tag: str, version: int) -> Identity:
        """The identity of a language's captions as a version encodes them; also opens its source."""
        identity = Identity("captions", self._encoder.text_fingerprint, self._encoder.dimension, tag, version)
        if identity not in self.sources:
            expansions = expansions_of(self._registry, tag, version)
            view = self.view(version)
            self.sources[identity] = CaptionSource(self._encoder, self._gallery, view, tag, version, expansions)
        return identity

    def stored(self, identity: Identity, *, strict: bool) -> tuple[VectorSet, list[str]]:
        """The newest verified generation as a vector set, or an empty set, to be filled from the tables.

        A damaged generation is an error when `strict`. Otherwise an older one or an empty set is used instead, and one
        sentence describes each damaged generation.
        """
        problems = []
        for registered in self.catalogue.of(identity):
            try:
                folder = self._root.open(folder_name(registered.id), registered.manifest_sha256, IndexFileCorrupt)
                opened = generation.read(folder, registered.manifest_sha256, identity, self.engine)
            except (IndexFileCorrupt, IndexInconsistent, IndexVersionMismatch, StoreUnavailable) as error:
                if strict:
                    raise
                problems.append(f"Generation {registered.id} is unusable ({error.code}) and is built again.")
            else:
                vector_set = VectorSet.from_generation(registered.id, registered.upto_change, opened)
                break
        else:
            vector_set = VectorSet.empty(f"{identity.kind}-none", identity.dimension)
        return replace(vector_set, damaged=bool(problems)), problems

    def verify(self, release: Release, generations: Iterable[str]) -> list[str]:
        """Hash every file of a release again; returns one sentence for each version or generation that differs."""
        numbers = {release.shared, *release.languages.values()}
        lineage = self._registry.versions.lineage
        lineages = {version.number: version for number in numbers for version in lineage(number)}
        problems = [
            f"Version {number} differs from what was registered."
            for number, version in sorted(lineages.items())
            if version.folder is not None
            and not storage.intact(self._root.path(version.folder), version.manifest_sha256)
        ]
        for identity in list(self.sources):
            for registered in self.catalogue.of(identity):
                folder = self._root.path(folder_name(registered.id))
                if registered.id in generations and not storage.intact(folder, registered.manifest_sha256):
                    problems.append(f"Generation {registered.id} differs from what was registered.")
        return problems

    def _open_version(self, version: Version) -> Any:
        from model.encoder import VersionFolder  # imported late: torch takes seconds, and test encoders do not need it

        folder = VersionFolder.of(version, self._root)
        return self._encoder.open([folder], onto=self._views[version.parent or 0])
