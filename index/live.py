"""Opens, publishes and compacts the served snapshot as releases and the gallery change. Answers no search itself.

One reference points to the served snapshot; a reader takes it once. It is replaced only under one lock and with every
change of the gallery applied, so a picture deleted during a swap is in neither the old snapshot nor the new one.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from threading import Lock, RLock

from index import build
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
from index.sync import caught_up, encode_captions
from index.vectors import VectorSet
from model.data_root import DataRoot
from model.errors import PictoglotError, RegistryUnavailable, StoreUnavailable
from model.registry import Registry, Release
from model.storage import fault_point

COMPACT_AT = 1_024  # a set with more changed entries is written as a new generation
_RETRY_SECONDS = 60.0  # after a release could not be opened, or a compaction failed
_log = logging.getLogger(__name__)


class LiveIndex:
    """Holds the served snapshot and replaces it. Thread-safe; `current` never waits for another thread."""

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
        # of the release served before, so that a rollback need not open them again
        self._previous: Mapping[Identity, VectorSet] = {}
        self._opening = RLock()  # opens one release at a time; may be held for long, but blocks no gallery change
        self._publishing = RLock()
        self._failed_at: dict[int, float] = {}  # by release: when it could not be opened
        self._background = ThreadPoolExecutor(1, thread_name_prefix="background")
        self._compacting = Lock()
        self._compact_after = -math.inf

    @property
    def current(self) -> Snapshot:
        """The snapshot that is served now; raises `IndexUnavailable` when there is none yet."""
        snapshot = self._current
        if snapshot is None:
            raise IndexUnavailable("no verified snapshot is being served yet")
        return snapshot

    # --- releases -----------------------------------------------------------------------------------------------------

    def start(self) -> bool:
        """Serve the release that the alias `serving` names, or else the newest earlier one that can be verified.

        Returns False when there is none: nothing is served then, and `refresh` tries again. Raises
        `RegistryUnavailable`.
        """
        serving = self._registry.releases.serving()
        problems: list[str] = []
        for release in [serving, *self._registry.releases.list(before=serving.number)]:
            if self._failed_recently(release):
                continue
            try:
                snapshot = self.open(release, strict=False)
            except RegistryUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - whatever the error, an older release may open
                problems.append(self._record_failure(release, error))
                continue
            if problems:
                problems.append(f"Release {release.number} serves instead.")
            self.publish(replace(snapshot, degraded=(*problems, *snapshot.degraded)))
            self._in_background("sweep", lambda: sweep(self._root, self._registry, self._gallery))
            return True
        return False

    def open(self, release: Release, *, strict: bool = True) -> Snapshot:
        """A snapshot of a release, verified and with every caption encoded; reuses open views and sets.

        Raises `VersionCorrupt`, `OutOfMemory` and, when `strict`, `IndexFileCorrupt`, `IndexInconsistent` or
        `IndexVersionMismatch`; otherwise sets of damaged generations are built again from the registry's vectors.
        """
        with self._opening:
            try:
                return self._open(release, strict)
            except MemoryError as error:
                raise OutOfMemory("there is not enough memory for another snapshot") from error

    def publish(self, snapshot: Snapshot) -> None:
        """Serve a snapshot from now on, with every change of the gallery up to now."""
        fault_point("swap.opened")
        with self._publishing:
            previous = self._current
            snapshot = self._caught_up(snapshot)
            if previous is not None and previous.release.number != snapshot.release.number:
                self._previous = previous.sets
            self._current = snapshot
        fault_point("swap.published")
        _log.info("release %d is now served; gallery at change %d", snapshot.release.number, snapshot.change)
        self._compact_when_due()

    def refresh(self) -> bool:
        """Follow the alias and the gallery; returns whether the snapshot changed. Raises `RegistryUnavailable`.

        If a release cannot be opened, the current one is still served, with the problem in `degraded`, until a later
        try succeeds.
        """
        with self._opening:
            previous = self._current
            if previous is None:
                return self.start()
            serving = self._registry.releases.serving()
            if serving.number != previous.release.number and not self._failed_recently(serving):
                self._move_to(serving)
            else:
                self._follow()
            self._update_detector()
            return self._current is not previous

    def verify(self) -> list[str]:
        """Hash every file of the served snapshot again; returns one sentence for each difference."""
        generations = self.current.generations
        return self._loader.verify(self.current.release, {generations.pictures, *generations.captions.values()})

    # --- pictures -----------------------------------------------------------------------------------------------------

    def put_picture(
        self,
        id: str,
        content_sha256: str,
        picture: Picture,
        captions: Captions | None = None,
        vector: Vector | None = None,
    ) -> Put:
        """Add a picture or replace the one with this `id`; when this returns it is durable and searches find it.

        `captions` (cleaned texts by canonical tag) replace those added before; None keeps them. `vector` is that of
        the picture if the caller has it. Encodes only what has no vector yet. Raises `IndexUnavailable`, `StorageFull`,
        `RegistryUnavailable`.
        """
        fingerprint = self._encoder.image_fingerprint
        if vector is None:
            vector = self._gallery.picture_vector(content_sha256, fingerprint)
        if vector is None:
            vector = self._encoder.pictures([picture.rgb])[0]
        caption_vectors = encode_captions(self._encoder, self._gallery, self.current, id, captions or {})
        width, height = picture.rgb.size
        put = self._gallery.put(
            id, content_sha256, width, height, captions, vector, fingerprint, caption_vectors, picture=picture
        )
        fault_point("picture.committed")
        self._follow()
        return put

    def delete_picture(self, id: str) -> None:
        """Delete a picture; when this returns, no search finds it. Raises `PictureNotFound`."""
        self._gallery.delete(id)
        self._follow()

    # --- compaction ---------------------------------------------------------------------------------------------------

    def compact(self, at: int | None = None) -> int:
        """Write a new generation of each set with more than `at` changed entries or a damaged generation.

        Returns how many were written. Blocks neither searches nor changes of the gallery.
        """
        at = self._compact_at if at is None else at
        with self._compacting:
            due = [identity for identity, vector_set in self.current.sets.items() if _is_due(vector_set, at)]
            for identity in due:
                self._compact_set(identity)
            return len(due)

    def close(self) -> None:
        """Wait for background work in progress and start no more."""
        self._background.shutdown()

    def _compact_when_due(self) -> None:
        due = any(_is_due(vector_set, self._compact_at) for vector_set in self.current.sets.values())
        if due and self._clock() >= self._compact_after:
            self._compact_after = math.inf  # while a compaction is queued or running
            self._in_background("compaction", self._compact_and_schedule)

    def _compact_and_schedule(self) -> None:
        after = self._clock() + _RETRY_SECONDS
        try:
            self.compact()
            after = -math.inf
        finally:
            self._compact_after = after

    def _in_background(self, task: str, work: Callable[[], object]) -> None:
        def logged() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - nobody reads the future: an error must be logged here
                _log.warning("%s failed (%s); searches are not affected", task, type(error).__name__)

        self._background.submit(logged)

    def _compact_set(self, identity: Identity) -> None:
        vector_set = self.current.sets.get(identity)
        if vector_set is None:
            return
        source, engine = self._loader.sources[identity], self._loader.engine
        written, opened = build.write(vector_set, source, self._registry, self._root, engine)
        compacted = VectorSet.from_generation(written.id, vector_set.change, opened)
        with self._publishing:
            sets = self.current.sets
            if identity in sets:
                self._current = self._caught_up(replace(self.current, sets={**sets, identity: compacted}))
        with suppress(StoreUnavailable, RegistryUnavailable):  # the sweeper removes what is left
            self._loader.catalogue.retire(identity)

    # --- internals ----------------------------------------------------------------------------------------------------

    def _open(self, release: Release, strict: bool) -> Snapshot:
        views = {tag: self._loader.view(number) for tag, number in release.languages.items()}
        shared_view = self._loader.view(release.shared)
        captions = [self._loader.captions(tag, number) for tag, number in release.languages.items()]
        current = self._current
        opened = {**self._previous, **(current.sets if current else {})}
        sets: dict[Identity, VectorSet] = {}
        degraded: list[str] = []
        for identity in (self._loader.pictures.identity, *captions):
            if identity in opened:
                sets[identity] = opened[identity]
            else:
                sets[identity], problems = self._loader.stored(identity, strict=strict)
                degraded += problems
        latest = caught_up(sets, self._loader.sources, self._gallery)
        return Snapshot(release, views, shared_view, latest, degraded=tuple(degraded)).with_detector(current)

    def _move_to(self, release: Release) -> None:
        try:
            self.publish(self.open(release))
        except RegistryUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the error, try again later, not at once
            problem = self._record_failure(release, error)
            with self._publishing:
                consequence = f"Release {self.current.release.number} is still served."
                self._current = replace(self.current, degraded=(problem, consequence))

    def _follow(self) -> None:
        """Apply the latest changes of the gallery to the served snapshot."""
        with self._publishing:
            if self._current is not None:
                self._current = self._caught_up(self._current)
                self._compact_when_due()

    def _caught_up(self, snapshot: Snapshot) -> Snapshot:
        latest = caught_up(snapshot.sets, self._loader.sources, self._gallery)
        return snapshot if latest is snapshot.sets else replace(snapshot, sets=latest)

    def _update_detector(self) -> None:
        """Count a language's n-grams again if it now has many more or many fewer captions."""
        current = self.current
        updated = current.with_detector(current)
        if updated.detector is not current.detector:
            with self._publishing:
                if self.current.release.number == current.release.number:
                    self._current = replace(self.current, detector=updated.detector, counted=updated.counted)

    def _record_failure(self, release: Release, error: Exception) -> str:
        """Note when a release could not be opened, log it, and return a sentence for `degraded`."""
        self._failed_at[release.number] = self._clock()
        code, detail = PictoglotError.code, type(error).__name__
        trace: Exception | None = error  # a bug, or an error of a library
        if isinstance(error, PictoglotError):
            code, detail, trace = error.code, error.detail, None
        _log.error("release %d cannot be opened (%s): %s", release.number, code, detail, exc_info=trace)
        return f"Release {release.number} cannot be opened ({code})."

    def _failed_recently(self, release: Release) -> bool:
        return self._clock() - self._failed_at.get(release.number, -math.inf) < _RETRY_SECONDS


def _is_due(vector_set: VectorSet, at: int) -> bool:
    return vector_set.damaged or vector_set.tail_size > at
