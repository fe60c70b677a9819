"""The live index: opens and publishes the served snapshot as releases, segments and the gallery change.

One reference points to the served snapshot; a reader takes it once. It is replaced only under one lock and with every
change of the gallery applied, so a picture deleted during a swap is in neither the old snapshot nor the new one.
"""

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from threading import RLock

from index.bulk import BulkChange, Outcome, change_pictures, find_deleted_captions
from index.captions import Captions, EncoderId
from index.gallery import NewPicture, PutResult
from index.janitor import find_missing, sweep
from index.loader import RETRY_SECONDS, SEAL_FIRST, ReleaseLoader, restrict_to
from index.ranking import KnownRecall, SampledRecall
from index.records import Collections, Patch, Precondition
from index.sets import VectorSets, map_pages
from index.snapshot import Snapshot
from index.vectors import Identity, Vector, VectorSet
from model.encoder import Encoder
from store.errors import IndexUnavailable, OutOfMemory, PictoglotError, PictureNotFound, RegistryUnavailable
from store.files import pass_fault_point
from store.releases import Release
from store.settings import CommonSettings

_LATE_FACTOR = 4  # times as many changes as are sealed together wait when no worker seals them
_log = logging.getLogger(__name__)


class LiveIndex:
    """Holder of the served snapshot, which it replaces. Thread-safe; `current` never waits for another thread."""

    def __init__(
        self,
        encoder: Encoder,
        sets: VectorSets,
        seal_at: int = CommonSettings.seal_at,
        seal_first: int = SEAL_FIRST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._encoder, self.sets, self._gallery, self._registry = encoder, sets, sets.gallery, sets.registry
        self._clock, self._seal_at = clock, seal_at
        self._loader = ReleaseLoader(encoder, sets, seal_first, clock)
        self._recall = KnownRecall(sets.gallery)
        self._current: Snapshot | None = None
        self._previous: Mapping[Identity, VectorSet] = {}  # of the release before: a rollback opens none again
        self._opening = RLock()  # opens one release at a time; may be held for long, but blocks no gallery change
        self._publishing = RLock()
        self._failed_at: dict[int, float] = {}  # by release: when it could not be opened
        self._background = ThreadPoolExecutor(1, thread_name_prefix="background")
        self._repair_after, self._in_repair, self._is_closing = -math.inf, set[Identity](), False

    @property
    def served(self) -> Snapshot | None:
        """Snapshot that is served now; None when there is none yet."""
        return self._current

    @property
    def current(self) -> Snapshot:
        """Snapshot that is served now; raises `IndexUnavailable` when there is none yet."""
        if (snapshot := self._current) is None:
            raise IndexUnavailable("no verified snapshot is being served yet")
        return snapshot

    def start(self) -> bool:
        """Serve the release that the alias `serving` names, or else the newest earlier one that can be verified.

        Releases of another base are left to a process that has it open. Returns False when there is none: nothing is
        served then, and `refresh` tries again. Raises `RegistryUnavailable`.
        """
        serving = self._registry.releases.get_serving()
        problems: list[str] = []
        for release in [serving, *self._registry.releases.list(before=serving.number)]:
            if self._has_failed_recently(release):
                continue
            if release.base != self._loader.base:
                problems.append(_describe_other_base(release))
                continue
            try:
                snapshot = self.open(release)
            except RegistryUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - whatever the error, an older release may open
                problems.append(self._record_failure(release, error))
                continue
            if problems:
                problems.append(f"Release {release.number} serves instead.")
            self.publish(replace(restrict_to(snapshot, serving.languages), problems=tuple(problems)))
            self._run_in_background("sweep", lambda: sweep(self.sets))
            return True
        return False

    def open(self, release: Release) -> Snapshot:
        """Open a snapshot of a release, verified and with every caption encoded; reuse open views and sets.

        Raises `VersionCorrupt` and `OutOfMemory`. The rows of damaged segments come from the registry's tables; large
        segments are made again.
        """
        with self._opening:
            current = self._current
            opened = self.sets.keep_usable(self._previous) | dict(current.sets if current else {})
            try:
                return self._loader.attach_detector_and_chances(self._loader.make_snapshot(release, opened), current)
            except MemoryError as error:
                raise OutOfMemory("there is not enough memory for another snapshot") from error

    def publish(self, snapshot: Snapshot) -> None:
        """Serve a snapshot from now on, with every change of the gallery up to now."""
        pass_fault_point("swap.opened")
        with self._publishing:
            previous = self._current
            snapshot = self._apply_changes_to(snapshot)
            if previous is not None and previous.release.number != snapshot.release.number:
                self._previous = {of: each for of, each in previous.sets.items() if of not in snapshot.sets}
                self._loader.close_others(previous.versions | snapshot.versions, {*previous.sets, *snapshot.sets})
            self._current = snapshot
        pass_fault_point("swap.published")
        _log.info("release %d is now served; gallery at change %d", snapshot.release.number, snapshot.change)
        self._repair_when_damaged()
        self._run_in_background("mapping pages", partial(map_pages, snapshot.sets.values()))

    def refresh(self) -> bool:
        """Follow the alias, the gallery and the indexer; return whether the snapshot changed.

        If a release cannot be opened, the current one is still served, with the problem in `degraded`, until a later
        try succeeds. Raises `RegistryUnavailable`.
        """
        with self._opening:
            previous = self._current
            if previous is None:
                return self.start()
            serving = self._registry.releases.get_serving()
            made_by = self._registry.encodings.find_current()  # read after the release: never that of before it
            if serving.base != self._loader.base:
                self._keep_serving(_describe_other_base(serving), serving.languages)
            elif made_by not in (None, self._encoder.encoding):
                problem = f"Release {serving.number} is for vectors made by {made_by}, which is not open here."
                self._keep_serving(problem, serving.languages)
            elif serving.number != previous.release.number and not self._has_failed_recently(serving):
                self._switch_to_release(serving)
            else:
                self._apply_gallery_changes()
            if self.current.release.number == previous.release.number:  # else at the next call
                self._adopt_sealed()
                self._refresh_detector()
            return self._current is not previous

    def verify(self) -> list[str]:
        """Hash every file of the served snapshot again, and count rows in an engine; return a sentence for each fault.

        Also for each file that the registry names and that is missing, and for what `degraded` tells: that a newer
        release cannot be opened. What differs is looked at twice: it may have been merged or pruned meanwhile.
        """
        found = self._find_problems()
        again = set(self._find_problems()) if found else ()
        return [problem for problem in found if problem in again]

    def _find_problems(self) -> list[str]:
        current = self.current
        problems = [*current.degraded, *self._loader.verify(current.release, set(current.sets))]
        return [*dict.fromkeys(problems), *find_missing(self._gallery)]

    def measure_recall(self, *, anew: bool = True) -> SampledRecall | None:
        """Measure, in seconds, which share of the nearest pictures is found; None without pictures or the engine."""
        with suppress(IndexUnavailable):
            return self._recall.measure(self.current.picture_set, anew=anew)
        return None

    def put_pictures(self, pictures: Sequence[NewPicture]) -> list[PutResult]:
        """Add pictures or replace those with their ids; when this returns they are durable and searches find them.

        Their captions are cleaned texts by canonical tag; those that have no vector yet are encoded here. All or
        nothing: raises `IndexUnavailable`, `StorageFull`, `RegistryUnavailable`.
        """
        captions = {new.id: new.captions for new in pictures if new.captions}
        vectors = self._encode_missing_captions(captions)
        known = [replace(new, caption_vectors=vectors.get(new.id, {})) for new in pictures]
        put = self._gallery.put(known, self._encoder.image_fingerprint)
        pass_fault_point("picture.committed")
        self._apply_gallery_changes()
        return put

    def patch_picture(self, patch: Patch) -> PutResult:
        """Change captions and record of a picture; when this returns, searches find its new captions.

        Only these are encoded, and only if the patch can be made. Raises as `Gallery.patch`, and as `put_pictures`.
        """
        with self._apply_after_write():
            if patch.captions:
                self._gallery.check(patch.id, patch)
            captions = {patch.id: patch.captions} if patch.captions else {}
            vectors = self._encode_missing_captions(captions)
            return self._gallery.patch(patch, vectors.get(patch.id, {}))

    def delete_picture(self, id: str, within: Collections = None, precondition: Precondition | None = None) -> None:
        """Delete a picture; when this returns, no search finds it. Raises as `Gallery.delete`."""
        with self._apply_after_write():
            self._gallery.delete(id, within, precondition)

    def change_pictures(self, change: BulkChange) -> dict[str, Outcome]:
        """Change many pictures; when this returns, searches find them so. Raises as `index.bulk.change_pictures`."""
        captions = find_deleted_captions(self._gallery, change)
        vectors = self._encode_missing_captions(captions) if captions else {}
        with self._apply_after_write():
            return change_pictures(self._gallery, change, vectors)

    @property
    def unsealed_count(self) -> int:
        """Number of changes of the gallery that wait to be sealed, of the set that has most."""
        return max(vector_set.waiting for vector_set in self.current.sets.values())

    @property
    def overdue_count(self) -> int:
        """`unsealed_count` where it is so large that no worker seems to seal; else 0."""
        unsealed = self.unsealed_count
        return unsealed if unsealed > _LATE_FACTOR * self._seal_at else 0

    def close(self) -> None:
        """Wait for background work; a repair that has not begun is left to the next start."""
        self._is_closing = True
        self._background.shutdown()
        if self.sets.engine is not None:
            self.sets.engine.close()

    def _adopt_sealed(self, repaired: Collection[Identity] = ()) -> None:
        """Serve what was sealed since; open sets again that are `repaired`, or of which rows are lost."""
        with self._opening:
            for identity, sealed in self._loader.reopen_changed_sets(self.current.sets, repaired):
                with self._publishing:
                    if identity in self.current.sets:  # otherwise another release was published meanwhile
                        sets = {**self.current.sets, identity: sealed}
                        self._current = self._apply_changes_to(replace(self.current, sets=sets))
                self._run_in_background("mapping pages", partial(map_pages, [sealed]))
                with suppress(PictoglotError, OSError):  # tried again when the next one is adopted
                    self.sets.remove_replaced_segments()

    def _repair_when_damaged(self) -> None:
        damaged = [of for of, each in self.current.sets.items() if each.problems and of not in self._in_repair]
        if damaged and self._clock() >= self._repair_after:
            self._repair_after = self._clock() + RETRY_SECONDS
            for identity in damaged:
                self._in_repair.add(identity)
                self._run_in_background("making damaged segments again", partial(self._repair, identity))

    def _repair(self, identity: Identity) -> None:
        """Seal a set from the tables here, not in the worker: whether a file is damaged is a fact of a machine.

        While another process seals, this is left to a later try: it may be making the same set again.
        """
        try:
            with self._loader.hold_sealing_duty() as ours:
                if not ours or self._is_closing:
                    return
                self._loader.make_indexer().seal(identity)
            # Without the duty: who opens a release may wait for it. Also when nothing was registered: files are others
            self._adopt_sealed((identity,))
        finally:
            self._in_repair.discard(identity)

    def _run_in_background(self, task: str, work: Callable[[], object]) -> None:
        def run_logged() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - nobody reads the future: an error must be logged here
                _log.warning("%s failed (%s); searches are not affected", task, type(error).__name__)

        with suppress(RuntimeError):  # closed meanwhile: a thread that follows the registry may end later
            self._background.submit(run_logged)

    def _switch_to_release(self, release: Release) -> None:
        try:
            self.publish(self.open(release))
        except RegistryUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the error, try again later, not at once
            self._keep_serving(self._record_failure(release, error), release.languages)

    def _keep_serving(self, problem: str, languages: Collection[str]) -> None:
        """Follow the gallery alone, and say why; of the languages go on with those in `languages`.

        One that was withdrawn or rolled back is gone everywhere, also where the release without it cannot be opened.
        """
        with self._publishing:
            self._current = restrict_to(self.current, languages)
            if problem not in self.current.problems:
                consequence = f"Release {self.current.release.number} is still served."
                self._current = replace(self.current, problems=(problem, consequence))
            self._apply_gallery_changes()

    def _encode_missing_captions(
        self, captions: Mapping[str, Captions]
    ) -> dict[str, dict[tuple[str, str, EncoderId], Vector]]:
        """Encode captions, given by picture, in the languages that are read, without those that it already has.

        Returns vectors by picture, then by language, text and what read them.
        """
        existing, views = self._gallery.group_captions(list(captions)), self.current.views
        missing = [
            (picture, tag, text, view)
            for picture, by_tag in captions.items()
            for tag, texts in by_tag.items()
            if (view := views.get(tag)) is not None
            for text in dict.fromkeys(texts)
            if text not in existing[picture].get(tag, ())
        ]
        encoded: dict[str, dict[tuple[str, str, EncoderId], Vector]] = {picture: {} for picture in captions}
        if missing:
            vectors = self._encoder.encode_texts([(view, text) for _, _, text, view in missing]).vectors
            for (picture, tag, text, view), vector in zip(missing, vectors, strict=True):
                encoded[picture][tag, text, EncoderId(view.version, self._encoder.text_fingerprint)] = vector
        return encoded

    @contextmanager
    def _apply_after_write(self) -> Iterator[None]:
        """Apply the changes that a write made. Of a picture that is gone, too: no search here finds it any more."""
        try:
            yield
        except PictureNotFound:
            self._apply_gallery_changes()
            raise
        self._apply_gallery_changes()

    def _apply_gallery_changes(self) -> None:
        with self._publishing:
            if self._current is not None:
                self._current = self._apply_changes_to(self._current)
                self._repair_when_damaged()

    def _apply_changes_to(self, snapshot: Snapshot) -> Snapshot:
        latest = self._loader.apply_changes_or_reopen(snapshot.sets)
        return snapshot if latest is snapshot.sets else replace(snapshot, sets=latest)

    def _refresh_detector(self) -> None:
        """Take in what the detector and the chances of hits are by now."""
        current = self.current
        updated = self._loader.attach_detector_and_chances(current, current)
        if updated is not current:
            detector, sources, fitted = updated.detector, updated.ngram_sources, updated.calibrations
            with self._publishing:
                if self.current.release.number == current.release.number:  # otherwise another one was published
                    self._current = replace(self.current, detector=detector, ngram_sources=sources, calibrations=fitted)

    def _record_failure(self, release: Release, error: Exception) -> str:
        """Note when a release could not be opened, log it, and return a sentence for `degraded`."""
        self._failed_at[release.number] = self._clock()
        code, detail = PictoglotError.code, type(error).__name__
        trace: Exception | None = error  # a bug, or an error of a library
        if isinstance(error, PictoglotError):
            code, detail, trace = error.code, error.detail, None
        _log.error("release %d cannot be opened (%s): %s", release.number, code, detail, exc_info=trace)
        return f"Release {release.number} cannot be opened ({code})."

    def _has_failed_recently(self, release: Release) -> bool:
        return self._clock() - self._failed_at.get(release.number, -math.inf) < RETRY_SECONDS


def _describe_other_base(release: Release) -> str:
    return f"Release {release.number} is for another base, which is not open here."
