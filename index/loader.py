"""Opens what a release names, verified: views of versions and sets of vectors, each once. Publishes nothing."""

from collections.abc import Iterable
from threading import Lock
from typing import Any

from index import generation
from index.catalogue import Catalogue
from index.encoding import Encoder
from index.engine import Engine
from index.errors import IndexFileCorrupt, IndexInconsistent, IndexVersionMismatch
from index.gallery import Gallery
from index.generation import Identity, name_of
from index.sync import CaptionSource, PictureSource, Source, expansions_of
from index.vectors import VectorSet
from model import storage
from model.data_root import DataRoot
from model.errors import StoreUnavailable
from model.registry import Registry, Release, Version


class ReleaseLoader:
    """Views and sources opened so far stay open: a version's rows are in the encoder's table once and for good."""

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
        """The view of a version, verified with all its ancestors; raises `VersionCorrupt`, `VersionNotFound`."""
        with self._views_lock:
            if number not in self._views:
                for version in reversed(self._registry.versions.lineage(number)):  # the base first
                    if version.number not in self._views:
                        self._views[version.number] = self._opened(version)
            return self._views[number]

    def captions(self, tag: str, version: int) -> Identity:
        """The identity of a language's captions as a version encodes them; its source is open afterwards."""
        identity = Identity("captions", self._encoder.text_fingerprint, self._encoder.dimension, tag, version)
        if identity not in self.sources:
            expansions = expansions_of(self._registry, tag, version)
            view = self.view(version)
            self.sources[identity] = CaptionSource(self._encoder, self._gallery, view, tag, version, expansions)
        return identity

    def stored(self, identity: Identity, *, strict: bool) -> tuple[VectorSet, list[str]]:
        """The newest verified generation, as it was written; without one, an empty set for the tables to fill.

        A damaged one is an error when `strict`; otherwise an older one, or none, takes its place, and sentences say so.
        """
        problems = []
        for registered in self.catalogue.of(identity):
            try:
                folder = self._root.open(name_of(registered.id), registered.manifest_sha256, IndexFileCorrupt)
                found = generation.read(folder, registered.manifest_sha256, identity, self.engine)
            except (IndexFileCorrupt, IndexInconsistent, IndexVersionMismatch, StoreUnavailable) as error:
                if strict:
                    raise
                problems.append(f"Generation {registered.id} is unusable ({error.code}); it is made again.")
            else:
                return VectorSet.over(registered.id, registered.upto_change, found), problems
        return VectorSet.empty(f"{identity.kind}-none", identity.dimension), problems

    def verify(self, release: Release, generations: Iterable[str]) -> list[str]:
        """Hash again every file that a release stands on; sentences about those that differ."""
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
                folder = self._root.path(name_of(registered.id))
                if registered.id in generations and not storage.intact(folder, registered.manifest_sha256):
                    problems.append(f"Generation {registered.id} differs from what was registered.")
        return problems

    def _opened(self, version: Version) -> Any:
        from model.encoder import VersionFolder  # late: torch takes seconds, and other encoders need none

        folder = VersionFolder.of(version, self._root)
        return self._encoder.open([folder], onto=self._views[version.parent or 0])
