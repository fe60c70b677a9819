"""Who serves which snapshot: opening, publishing, following releases and the gallery, compacting. Answers no search.

One reference names what is served; a reader takes it once. Whatever changes it does so under one lock, after taking in
every change of the gallery, so that a picture deleted during a swap is in neither the old snapshot nor the new one.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Lock, RLock

from index import build
from index.detecting import detect
from index.encoding import Encoder
from index.engine import Engine, Vector
from index.engine.faiss_engine import FaissEngine
from index.errors import IndexUnavailable, OutOfMemory
from index.gallery import Gallery, Put
from index.generation import Identity
from index.loader import ReleaseLoader
from index.pictures import Picture
from index.rows import Captions
from index.snapshot import Snapshot
from index.sweep import sweep
from index.sync import caught_up
from index.vectors import VectorSet
from model.data_root import DataRoot
from model.errors import PictoglotError, RegistryUnavailable
from model.registry import Registry, Release
from model.storage import fault_point

COMPACT_AT = 1_024  # changed entries of a set beyond which its overlay is folded into a new generation
_RETRY_SECONDS = 60.0  # before a release that could not be opened, or a compaction that failed, is tried again
_log = logging.getLogger(__name__)

Sets = dict[Identity, VectorSet]


class LiveIndex:
    """Holds the snapshot that serves, and replaces it. Safe from several threads; `current` never waits for any."""

    def __init__(
        self,
        encoder: Encoder,
        registry: Registry,
        gallery: Gallery,
        root: DataRoot,
        engine: Engine | None = None,
        compact_at: int = COMPACT_AT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._encoder = encoder
        self._registry = registry
        self._gallery = gallery
        self._root = root
        self._compact_at, self._clock = compact_at, clock
        self._loader = ReleaseLoader(encoder, registry, gallery, root, engine or FaissEngine())
        self._current: Snapshot | None = None
        self._before: Sets = {}  # of the release served before, so that going back opens nothing
        self._opening = RLock()  # one release is opened at a time; takes long, blocks no change of the gallery
        self._publishing = RLock()
        self._refused: dict[int, float] = {}  # when a release could not be opened
        self._damaged: frozenset[Identity] = (
            frozenset()
        )  # sets whose generation could not be read and is to be written anew
        self._compactor = ThreadPoolExecutor(1, thread_name_prefix="compactor")
        self._compacting = Lock()
        self._compact_after = -math.inf

    @property
    def current(self) -> Snapshot:
        """What serves now; raises `IndexUnavailable` before anything does."""
        snapshot = self._current
        if snapshot is None:
            raise IndexUnavailable("no verified snapshot serves yet")
        return snapshot

    # --- releases -----------------------------------------------------------------------------------------------------

    def start(self) -> bool:
        """Serve the release that the alias names, or else its newest ancestor that can be verified.

        False when none can: then nothing is served, and `refresh` goes on trying. Raises `RegistryUnavailable`.
        """
        serving = self._registry.releases.serving()
        problems: list[str] = []
        for release in [serving, *self._registry.releases.list(before=serving.number)]:
            if self._lately_refused(release):
                continue
            try:
                snapshot = self.open(release, strict=False)
            except RegistryUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - an older release may open, whatever is wrong with this one
                problems.append(self._refuse(release, error))
                continue
            if problems:
                problems.append(f"Release {release.number} serves instead.")
            self.publish(replace(snapshot, degraded=(*problems, *snapshot.degraded)))
            self._in_background("sweeping", lambda: sweep(self._root, self._registry, self._gallery))
            return True
        return False

    def open(self, release: Release, *, strict: bool = True) -> Snapshot:
        """A snapshot of a release, verified and with every caption encoded; what is open already is used again.

        Raises `VersionCorrupt`, `OutOfMemory` and, when `strict`, `IndexFileCorrupt`, `IndexInconsistent` or
        `IndexVersionMismatch`; otherwise sets of damaged generations are made again from the registry's vectors.
        """
        with self._opening:
            try:
                return self._open(release, strict)
            except MemoryError as error:
                raise OutOfMemory("there is no room for another snapshot") from error

    def publish(self, snapshot: Snapshot) -> None:
        """Serve a snapshot from now on, with every change of the gallery until now."""
        fault_point("swap.opened")
        with self._publishing:
            before = self._current
            snapshot = self._caught_up(snapshot)
            if before is not None and before.release.number != snapshot.release.number:
                self._before = self._sets(before)
            self._current = snapshot
        fault_point("swap.published")
        _log.info("release %d serves, gallery at change %d", snapshot.release.number, snapshot.change)
        self._compact_when_due()

    def refresh(self) -> bool:
        """Follow the alias and the gallery; says whether something new serves. Raises `RegistryUnavailable`.

        A release that cannot be opened is not served: the old one goes on, `degraded`, and it is tried again later.
        """
        with self._opening:
            before = self._current
            if before is None:
                return self.start()
            serving = self._registry.releases.serving()
            if serving.number != before.release.number and not self._lately_refused(serving):
                self._move_to(serving)
            else:
                self._follow()
            self._detect_again()
            return self._current is not before

    def verify(self) -> list[str]:
        """Hash again every file that the served snapshot stands on; one sentence for each that differs."""
        generations = self.current.generations
        return self._loader.verify(self.current.release, {generations.pictures, *generations.captions.values()})

    # --- pictures -----------------------------------------------------------------------------------------------------

    def put_picture(self, id: str, content_sha256: str, picture: Picture, captions: Captions | None = None) -> Put:
        """Add a picture or replace what `id` holds; it is durable, and found by searches, when this returns.

        `captions` (cleaned texts by canonical tag) replace those put before; None keeps them. Encodes only what was
        never encoded. Raises `IndexUnavailable`, `StorageFull`, `RegistryUnavailable`.
        """
        fingerprint = self._encoder.image_fingerprint
        vector = self._gallery.picture_vector(content_sha256, fingerprint)
        if vector is None:
            vector = self._encoder.pictures([picture.rgb])[0]
        texts = self._encode_captions(id, captions or {})
        with self._publishing:
            put = self._gallery.put(
                id, content_sha256, picture.width, picture.height, captions, vector, fingerprint, texts, picture=picture
            )
            fault_point("picture.committed")
            self._follow()
        return put

    def delete_picture(self, id: str) -> None:
        """Remove a picture; no search finds it when this returns. Raises `PictureNotFound`."""
        with self._publishing:
            self._gallery.delete(id)
            self._follow()

    # --- compaction ---------------------------------------------------------------------------------------------------

    def compact(self, at: int | None = None) -> int:
        """Fold every overlay of more than `at` entries into a new generation, and write anew every set whose generation
        was damaged; returns how many. Blocks nobody else."""
        at = self._compact_at if at is None else at
        with self._compacting:
            sets = self._sets(self.current)
            due = [id for id, found in sets.items() if found.overlay_size > at or id in self._damaged]
            for identity in due:
                self._fold(identity)
                self._damaged -= {identity}
            return len(due)

    def close(self) -> None:
        """Wait for a compaction at work, and start no other."""
        self._compactor.shutdown()

    def _compact_when_due(self) -> None:
        sets = self._sets(self.current)
        due = max(found.overlay_size for found in sets.values()) > self._compact_at or self._damaged & sets.keys()
        if due and self._clock() >= self._compact_after:
            self._compact_after = math.inf  # while one is queued or at work
            self._in_background("compaction", self._compact_now)

    def _compact_now(self) -> None:
        after = self._clock() + _RETRY_SECONDS
        try:
            self.compact()
            after = -math.inf
        finally:
            self._compact_after = after

    def _in_background(self, what: str, job: Callable[[], object]) -> None:
        def quietly() -> None:
            try:
                job()
            except Exception as error:  # noqa: BLE001 - nobody reads the future: what is not said here is never said
                _log.warning("%s failed (%s); what serves is not affected", what, type(error).__name__)

        self._compactor.submit(quietly)

    def _fold(self, identity: Identity) -> None:
        found = self._sets(self.current).get(identity)
        if found is None:
            return
        source, engine = self._loader.sources[identity], self._loader.engine
        written, opened = build.write(found, source, self._registry, self._root, engine)
        folded = VectorSet.over(written.id, found.change, opened)
        with self._publishing:
            sets = self._sets(self.current)
            if identity in sets:
                self._current = self._caught_up(self._with(self.current, {**sets, identity: folded}))
        self._loader.catalogue.retire(identity)

    # --- below the surface --------------------------------------------------------------------------------------------

    def _open(self, release: Release, strict: bool) -> Snapshot:
        views = {tag: self._loader.view(number) for tag, number in release.languages.items()}
        shared_view = self._loader.view(release.shared)
        identities = {tag: self._loader.captions(tag, number) for tag, number in release.languages.items()}
        current = self._current
        have = {**self._before, **(self._sets(current) if current else {})}
        sets: Sets = {}
        degraded: list[str] = []
        for identity in (self._loader.pictures.identity, *identities.values()):
            found, problems = (have[identity], []) if identity in have else self._loader.stored(identity, strict=strict)
            sets[identity] = found
            degraded += problems
            if problems:
                self._damaged |= {identity}
        sets = caught_up(sets, self._loader.sources, self._gallery)
        captions = {tag: sets[identity] for tag, identity in identities.items()}
        pictures = sets[self._loader.pictures.identity]
        detector, detected = detect(current, release, views, captions)
        return Snapshot(
            release, views, shared_view, pictures, captions, detector, tuple(degraded), detected, identities
        )

    def _move_to(self, release: Release) -> None:
        try:
            self.publish(self.open(release))
        except RegistryUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - tried again later, and not twice a second, whatever it is
            problem = self._refuse(release, error)
            with self._publishing:
                stays = f"Release {self.current.release.number} goes on serving."
                self._current = replace(self.current, degraded=(problem, stays))

    def _follow(self) -> None:
        """Take in what changed in the gallery."""
        with self._publishing:
            if self._current is not None:
                self._current = self._caught_up(self._current)
                self._compact_when_due()

    def _caught_up(self, snapshot: Snapshot) -> Snapshot:
        sets = self._sets(snapshot)
        now = caught_up(sets, self._loader.sources, self._gallery)
        same = all(now[identity] is found for identity, found in sets.items())
        return snapshot if same else self._with(snapshot, now)

    def _sets(self, snapshot: Snapshot) -> Sets:
        captions = {identity: snapshot.captions[tag] for tag, identity in snapshot.identities.items()}
        return {self._loader.pictures.identity: snapshot.pictures, **captions}

    def _with(self, snapshot: Snapshot, sets: Mapping[Identity, VectorSet]) -> Snapshot:
        captions = {tag: sets[identity] for tag, identity in snapshot.identities.items()}
        return replace(snapshot, pictures=sets[self._loader.pictures.identity], captions=captions)

    def _encode_captions(self, id: str, captions: Captions) -> dict[tuple[str, str, int], Vector]:
        """Vectors of a picture's captions in the languages served, except those that it has already."""
        current = self.current
        there = self._gallery.captions_for([id], captions)[id]
        new = [
            (tag, text)
            for tag, texts in captions.items()
            if tag in current.views
            for text in dict.fromkeys(texts)
            if text not in there.get(tag, ())
        ]
        if not new:
            return {}
        vectors = self._encoder.texts([(current.views[tag], text) for tag, text in new]).vectors
        languages = current.release.languages
        return {(tag, text, languages[tag]): vector for (tag, text), vector in zip(new, vectors, strict=True)}

    def _detect_again(self) -> None:
        """Count a language's n-grams anew when it has many more captions by now, or fewer."""
        current = self.current
        detector, detected = detect(current, current.release, current.views, current.captions)
        if detector is not current.detector:
            with self._publishing:
                if self.current.release.number == current.release.number:
                    self._current = replace(self.current, detector=detector, detected=detected)

    def _refuse(self, release: Release, error: Exception) -> str:
        """Not to be tried again for a while; says so in the log, and returns a sentence for `degraded`."""
        self._refused[release.number] = self._clock()
        if isinstance(error, MemoryError):
            error = OutOfMemory("there is no room for another snapshot")
        if isinstance(error, PictoglotError):
            code, detail = error.code, error.detail
        else:
            code, detail = PictoglotError.code, type(error).__name__
        known = isinstance(error, PictoglotError)
        _log.error(
            "release %d cannot be opened (%s): %s", release.number, code, detail, exc_info=None if known else error
        )
        return f"Release {release.number} cannot be opened ({code})."

    def _lately_refused(self, release: Release) -> bool:
        return self._clock() - self._refused.get(release.number, -math.inf) < _RETRY_SECONDS
