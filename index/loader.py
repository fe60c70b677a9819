"""Opens and verifies the views and vector sets that a release names, each once. Does not publish them."""

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from threading import Lock
from typing import Any

from index import segment
from index.engine import Engine, EnginePart
from index.errors import EngineMismatch, IndexUnavailable
from index.gallery import Gallery
from index.indexer import MOST, SHARD, Indexer, Progress
from index.ivf import RECALL
from index.rows import Captions, ReadBy
from index.sealing import Presence
from index.segment import Segment
from index.sets import VectorSets
from index.snapshot import Snapshot, Withdrawn
from index.sources import Encoder, FeedPruned, PictureSource, Source, caught_up, source_of
from index.states import NOTHING, State, is_run
from index.vectors import Identity, Vector, VectorSet
from model import storage
from model.data_root import DataRoot
from model.errors import BaseMoved, PictoglotError, RegistryUnavailable, StorageFull, VersionPruned
from model.registry import Registry, Release, Version
from model.registry.duties import SEALING

SEAL_FIRST = MOST // 4  # changes that are sealed before a set is opened
_AT_ONCE = 64  # captions that are encoded while a write waits
_DUTY_SECONDS = 60.0  # for which the duty to seal is taken; it is renewed
PATIENCE = 600.0  # seconds to wait at most until another process has sealed a set that is far behind
_LOOK = 1.0  # seconds between two looks whether another process has sealed a set
_log = logging.getLogger(__name__)


class _Sources(dict[Identity, Source]):
    """Where the rows of each set come from; opened when it is first needed, which raises as `ReleaseLoader.view`."""

    def __init__(self, open: Callable[[Identity], Source]) -> None:
        super().__init__()
        self._open = open

    def __missing__(self, identity: Identity) -> Source:
        source = self[identity] = self._open(identity)
        return source


class ReleaseLoader:
    """Keeps views and sources open until they are closed, so that each is opened once for a release and the next one.

    A version's rows stay in the encoder's table when its view is closed; to open it again adds them once more.
    """

    def __init__(
        self,
        encoder: Encoder,
        registry: Registry,
        gallery: Gallery,
        root: DataRoot,
        recall: float = RECALL,
        seal_first: int = SEAL_FIRST,
        engine: Engine | None = None,
    ) -> None:
        self._encoder, self._registry, self._gallery, self._root = encoder, registry, gallery, root
        self._recall, self._seal_first = recall, seal_first
        self.base: int = encoder.base_view.version
        self._views: dict[int, Any] = {self.base: encoder.base_view}
        self._parents: dict[int, int] = {}  # of the open views
        self._withdrawn: dict[int, Withdrawn] = {}  # each read once: see the class
        self._views_lock = Lock()
        self._engine, self._presence = engine, Presence()
        self.sets = VectorSets(registry, root, engine)
        self.pictures = PictureSource.of(encoder, gallery)
        self.sources = _Sources(self._open_source)
        self.sources[self.pictures.identity] = self.pictures

    def views(self, release: Release) -> dict[str, Any]:
        """The view of each language of a release; raises as `view`, and `VersionPruned` or `BaseMoved`."""
        if release.base != self.base:
            raise BaseMoved(f"Release {release.number} is for another base than the one that is open here.")
        if self._registry.versions.pruned() & {*release.languages.values()}:
            raise VersionPruned(f"Release {release.number} names versions that were pruned.")
        return {tag: self.view(number) for tag, number in release.languages.items()}

    def view(self, number: int) -> Any:
        """The view of a version, verified with all its ancestors; raises `VersionCorrupt` or `VersionNotFound`."""
        with self._views_lock:
            if number not in self._views:
                for version in reversed(self._registry.versions.lineage(number)):  # the base first
                    if version.number not in self._views:
                        self._views[version.number] = self._open_version(version)
                        self._parents[version.number] = version.parent or self.base
            return self._views[number]

    def withdrawn(self, release: Release) -> dict[str, Withdrawn]:
        """What is known of the languages that were withdrawn before a release; one that cannot be read is left out."""
        found = {}
        for tag, number in self._registry.releases.withdrawn(release).items():
            if number not in self._withdrawn:
                try:
                    self._withdrawn[number] = Withdrawn(number, self.view(number).ngrams)
                except PictoglotError as error:
                    _log.warning("version %d, which was withdrawn, cannot be read (%s)", number, error.code)
                    continue
            found[tag] = self._withdrawn[number]
        return found

    def captions(self, tag: str, version: int) -> Identity:
        """The identity of a language's captions as a version encodes them."""
        return Identity("captions", self._encoder.text_fingerprint, self._encoder.dimension, tag, version)

    def close_others(self, versions: Iterable[int], identities: Iterable[Identity]) -> None:
        """Close every view except those of `versions` and of what they build upon, and every source but these."""
        with self._views_lock:
            kept = {self.base}
            for number in versions:
                while number not in kept:
                    kept.add(number)
                    number = self._parents.get(number, self.base)
            self._views = {number: view for number, view in self._views.items() if number in kept}
            self._parents = {number: parent for number, parent in self._parents.items() if number in kept}
        for identity in {*self.sources} - {self.pictures.identity, *identities}:
            self.sources.pop(identity, None)

    def stored(self, identity: Identity, opened: VectorSet | None = None) -> VectorSet:
        """As `VectorSets.open`, of the newest state; a set that is new is registered, so that the indexer finds it.

        Segments that `opened`, an earlier state of the same set, has are not opened again. A set that is far behind,
        because no worker ran, is sealed first: its changes may not fit into memory. While another process seals,
        `opened` is returned as it is; without it, this waits.
        """
        with suppress(RegistryUnavailable, StorageFull):  # the next process that opens it tries again
            self.sets.begin(identity)
        lost = self._forgotten(identity)
        problems = () if lost is None else (f"{self._lost_from(identity)} They are sealed again from the registry.",)
        if not self._sealed_first(identity, wait=opened is None) and opened is not None:
            return replace(opened, problems=problems) if problems else opened
        state = self.sets.state(identity)
        if lost is not None and state.number == lost.number:  # that nothing is sealed could not be registered
            state = State(state.number, 0)
        parts = () if opened is None else opened.parts
        known = {part.written.id: part for part in parts if isinstance(part, Segment)}
        sealed = self.sets.open(self.sources[identity], state, self._recall, known)
        if sealed.problems and self.sets.state(identity).number != state.number:  # its segments were merged meanwhile
            return self.stored(identity, opened)
        return replace(sealed, problems=problems) if problems and not state.segments else sealed

    def renewed(
        self, served: Mapping[Identity, VectorSet], repaired: Collection[Identity] = ()
    ) -> Iterator[tuple[Identity, VectorSet]]:
        """Those of the `served` sets that are opened again: of which more is sealed, or an engine has lost rows.

        Also those that are `repaired`, and not those that another process is sealing just now.
        """
        newest = self.sets.numbers()
        for identity, before in served.items():
            if newest.get(identity, 0) > before.state or identity in repaired or self.lost(before):
                try:
                    sealed = self.stored(identity, before)
                except EngineMismatch as error:  # told, until one of the two processes ends
                    sealed = before if before.problems else replace(before, problems=(error.detail,))
                if sealed is not before:
                    yield identity, sealed

    def snapshot(self, release: Release, opened: Mapping[Identity, VectorSet]) -> Snapshot:
        """A snapshot of a release, up to date, with those of the `opened` sets that it reads. Raises as `views`.

        Of captions in languages that are not taught, only what is open already.
        """
        views, shared = self.views(release), self.view(release.shared)
        captions = (self.captions(tag, number) for tag, number in release.languages.items())
        sets = {of: opened[of] if of in opened else self.stored(of) for of in (self.pictures.identity, *captions)}
        sets |= {of: opened[of] for of in self.untaught(release) if of in opened and self.opens_soon(of)}
        built_in, withdrawn = self._encoder.languages, self.withdrawn(release)
        return Snapshot(release, views, shared, self.caught_up(sets), built_in=built_in, withdrawn=withdrawn)

    def untaught(self, release: Release) -> list[Identity]:
        """The sets of captions in languages that a release does not name, where its base reads many languages."""
        if len(self._encoder.languages) == 1:
            return []
        tags = self._gallery.languages()
        return [self.captions(tag, release.base) for tag in tags if tag not in release.languages]

    def opens_soon(self, identity: Identity) -> bool:
        """Whether `opened_untaught` takes an instant: few captions have no vector yet, and few rows have to be read."""
        assert identity.language is not None and identity.version is not None
        by, count = ReadBy(identity.version, identity.fingerprint), self._gallery.added_with_pictures
        if count(identity.language, _AT_ONCE + 1, unread=by) > _AT_ONCE:
            return False
        return self.sets.is_near(identity, self._seal_first) or count(identity.language, SHARD + 1) <= SHARD

    def opened_untaught(self, identity: Identity) -> VectorSet:
        """A set of captions in a language that is not taught; one that is new, or far behind, is filled first."""
        if not self.sets.is_near(identity, self._seal_first):
            self._unless_it_fails(identity, lambda: self.fill(identity))
        return self.stored(identity)

    def fill(self, identity: Identity, on_progress: Progress | None = None) -> None:
        """Make a set from the tables, as the worker makes that of a taught language; what has no vector is encoded."""
        self.indexer().fill(self.sources[identity], SHARD, on_progress)

    def still_there(self, sets: Mapping[Identity, VectorSet]) -> dict[Identity, VectorSet]:
        """Those of the sets that were opened before whose rows are all still there."""
        return {identity: before for identity, before in sets.items() if self.sets.keeps(before)}

    def encoded(
        self, captions: Mapping[str, Captions], snapshot: Snapshot
    ) -> dict[str, dict[tuple[str, str, ReadBy], Vector]]:
        """Vectors of captions, given by picture, in the languages that are read, without those that it already has.

        By picture, then by language, text and what read them.
        """
        existing = self._gallery.captions_for(list(captions))
        missing = [
            (picture, tag, text, view)
            for picture, by_tag in captions.items()
            for tag, texts in by_tag.items()
            if (view := snapshot.reader(tag)) is not None
            for text in dict.fromkeys(texts)
            if text not in existing[picture].get(tag, ())
        ]
        encoded: dict[str, dict[tuple[str, str, ReadBy], Vector]] = {picture: {} for picture in captions}
        if missing:
            vectors = self._encoder.texts([(view, text) for _, _, text, view in missing]).vectors
            for (picture, tag, text, view), vector in zip(missing, vectors, strict=True):
                encoded[picture][tag, text, ReadBy(view.version, self._encoder.text_fingerprint)] = vector
        return encoded

    def caught_up(self, sets: Mapping[Identity, VectorSet]) -> Mapping[Identity, VectorSet]:
        """As `sources.caught_up`; where this process may have missed deletions, what is sealed is opened instead."""
        while True:
            try:
                return caught_up(sets, self.sources, self._gallery)
            except FeedPruned as behind:
                _log.info("this process may have missed deletions: it opens its vector sets again")
                sets = {of: self.stored(of) if behind.missed_by(each) else each for of, each in sets.items()}

    def indexer(self) -> Indexer:
        """One that encodes what has no vector yet."""
        return Indexer(self._registry, self._gallery, self._root, self.sources.__getitem__, engine=self._engine)

    def lost(self, vector_set: VectorSet) -> bool:
        """Whether rows of an open set are not in the engine (any more); False as long as it does not answer."""
        return any(self._presence.lost(part) for part in vector_set.parts if isinstance(part, EnginePart))

    def sealing(self) -> AbstractContextManager[bool]:
        """The duty to seal, which a worker has while it does; False when another process has it."""
        owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        return self._registry.duties.held(SEALING, owner, _DUTY_SECONDS)

    def verify(self, release: Release, used: set[Identity]) -> list[str]:
        """Hash every file of a release again, and count the rows in an engine; returns a sentence for what differs."""
        numbers = {release.shared, *release.languages.values()}
        lineage = self._registry.versions.lineage
        lineages = {version.number: version for number in numbers for version in lineage(number)}
        problems = [
            f"Version {number} differs from what was registered."
            for number, version in sorted(lineages.items())
            if version.folder is not None
            and not storage.intact(self._root.path(version.folder), version.manifest_sha256)
        ]
        for identity in used:
            try:
                state = self.sets.state(identity)
            except EngineMismatch as error:
                problems.append(error.detail)
                continue
            for written in state.segments:
                if not is_run(written.id) and not segment.intact(self._root, written):
                    problems.append(f"Segment {written.id} differs from what was registered.")
            if self._engine is not None:
                problems += self._missing(identity, state)
        return problems

    def _open_source(self, identity: Identity) -> Source:
        assert identity.version is not None
        return source_of(identity, self._registry, self._gallery, self._encoder, self.view(identity.version))

    def _open_version(self, version: Version) -> Any:
        from model.encoder import VersionFolder  # imported late: torch takes seconds, and test encoders do not need it

        folder = VersionFolder.of(version, self._root)
        return self._encoder.open([folder], onto=self._views[version.parent or self.base])

    def _sealed_first(self, identity: Identity, *, wait: bool) -> bool:
        """Seal a set that is far behind; False when another process has the duty, after some time with `wait`."""
        until = time.monotonic() + (PATIENCE if wait else 0.0)
        while self.sets.behind().get(identity, 0) > self._seal_first:
            with self.sealing() as ours:
                if ours:
                    self._unless_it_fails(identity, lambda: self.indexer().seal(identity))
                    return True
            if time.monotonic() >= until:
                return False
            time.sleep(min(_LOOK, PATIENCE))
        return True

    def _unless_it_fails(self, identity: Identity, seal: Callable[[], object]) -> None:
        try:
            seal()
        except Exception as error:  # noqa: BLE001 - the tail is always possible, and without it nothing serves
            told = getattr(error, "code", type(error).__name__)
            _log.warning("%s cannot be sealed (%s): its changes stay in memory", identity.name, told)

    def _forgotten(self, identity: Identity) -> State | None:
        """The newest state if the engine has not what it names, after registering that nothing is sealed."""
        state = self.sets.state(identity)
        if self._engine is None or not self._presence.lost(self.sets.part(identity, state)):
            return None
        _log.warning("%s They are sealed again.", self._lost_from(identity))
        with suppress(RegistryUnavailable, StorageFull):
            self.sets.register(identity, state, NOTHING)
        return state

    def _lost_from(self, identity: Identity) -> str:
        assert self._engine is not None
        return f"Vectors of {identity.name} that were sealed are not in {self._engine.name}."

    def _missing(self, identity: Identity, state: State) -> Iterator[str]:
        """A sentence if the engine has not what a state names; then the next refresh has it sealed again."""
        try:
            if self._presence.missing(self.sets.part(identity, state), again=True):
                yield self._lost_from(identity)
        except IndexUnavailable as error:
            yield f"{identity.name} cannot be verified: {error.detail}"
