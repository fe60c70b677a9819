"""The loader: opens and verifies the views and vector sets that a release names, each once. Does not publish them."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from index import scrub_report
from index.indexer import MOST, Indexer
from index.picture_tables import PictureTables
from index.segment import Segment
from index.sets import VectorSets
from index.snapshot import Snapshot
from index.sources import FeedPruned, PictureSource, Source, add_lost_rows, apply_changes, make_source
from index.vectors import Identity, VectorSet
from model.encoder import Encoder, View, Views
from model.lexicon import Detector, count_ngrams
from model.match import Calibration, Curves, take_first
from model.processes import name_owner
from store import files
from store.errors import (
    BaseMoved,
    PictoglotError,
    RegistryUnavailable,
    StorageFull,
    StoreUnavailable,
    VersionPruned,
)
from store.leases import SEALING
from store.releases import Release

SEAL_FIRST = MOST // 4  # changes that are sealed before a set is opened
_DUTY_SECONDS = 60.0  # for which the duty to seal is taken; it is renewed
PATIENCE = 600.0  # seconds to wait at most until another process has sealed a set that is far behind
RETRY_SECONDS = 60.0  # after a release or a set could not be opened, or damaged segments could not be made again
_LOOK_SECONDS = 1.0  # seconds between two looks whether another process has sealed a set
_GROWTH = 1.25  # captions are counted again when their number grew or shrank by more than this factor
_SAMPLED_CAPTIONS = 2_000  # captions of a language whose n-grams are counted, about
LEAST_PICTURES = 50  # with which the curves of a base tell chances: among fewer they are far too low
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibrations:
    """The calibrations by version, the `rows` of the registry that they come from, and the `change` of the sample."""

    by_version: Mapping[int, Calibration] = field(default_factory=dict)
    rows: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    change: int = 0

    def refresh(
        self,
        gallery: PictureTables,
        fingerprint: str,
        release: Release,
        change: int,
        base: Curves | None = None,
        pictures: int = 0,
    ) -> "Calibrations":
        """Return what is fitted now to this fingerprint, itself if unchanged; raise `RegistryUnavailable`.

        All share one sample of pictures. It is read again after each change, so that no deleted picture stays in it,
        and processes that serve the same change name the same chances. Of English, where nothing is fitted, chances
        follow from the curves of the `base`, if it has some, among enough `pictures`.
        """
        rows = gallery.registry.versions.read_calibrations(release.languages.values())
        fitted = {number: row for number, row in rows.items() if row["curves"] and row["tower"] == fingerprint}
        by_base = base is not None and release.base not in fitted and pictures >= LEAST_PICTURES
        if rows == self.rows and (change == self.change or not (fitted or by_base or self.by_version)):
            return self
        if not (fitted or by_base):
            return Calibrations({}, rows, change)
        sample = take_first(gallery.sample_vectors(1.0, fingerprint))
        calibrations = {
            number: Calibration(Curves(**row["curves"]), sample, row["pictures"], row["change"])
            for number, row in fitted.items()
        }
        if base is not None and by_base:
            calibrations[release.base] = Calibration(base, sample, pictures, change)
        return Calibrations(calibrations if len(sample) else {}, rows, change)


class _SourceMap(dict[Identity, Source]):
    """Sources of the rows of each set; opened when first needed, which raises as `Views.open`."""

    def __init__(self, open: Callable[[Identity], Source]) -> None:
        super().__init__()
        self._open = open

    def __missing__(self, identity: Identity) -> Source:
        source = self[identity] = self._open(identity)
        return source


class ReleaseLoader:
    """Opener of views and sources, until they are closed: each is opened once for a release and the next one."""

    def __init__(
        self,
        encoder: Encoder,
        sets: VectorSets,
        seal_first: int = SEAL_FIRST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._encoder, self.sets, self._gallery, self._registry = encoder, sets, sets.gallery, sets.registry
        self._seal_first, self._clock = seal_first, clock
        self._failed_at: dict[tuple[Identity, int], float] = {}  # by set and newest state: when it could not be opened
        self.base: int = encoder.base_view.version
        self._views = Views(encoder, sets.registry, sets.root)
        self._calibrations = Calibrations()
        self.picture_source = PictureSource.create(encoder, sets.gallery)
        self.sources = _SourceMap(self._open_source)
        self.sources[self.picture_source.identity] = self.picture_source

    def open_views(self, release: Release) -> dict[str, View]:
        """Open the view of each language of a release; raises as `Views.open`, and `VersionPruned` or `BaseMoved`."""
        if release.base != self.base:
            raise BaseMoved(f"Release {release.number} is for another base than the one that is open here.")
        if self._registry.versions.find_pruned() & {*release.languages.values()}:
            raise VersionPruned(f"Release {release.number} names versions that were pruned.")
        opened = {number: self._views.open(number) for number in sorted(release.languages.values())}  # ancestors first
        return {tag: opened[number] for tag, number in release.languages.items()}

    def identify_captions(self, tag: str, version: int) -> Identity:
        """Return the identity of a language's captions as a version encodes them."""
        return Identity("captions", self._encoder.text_fingerprint, self._encoder.dimension, tag, version)

    def close_others(self, versions: Iterable[int], identities: Iterable[Identity]) -> None:
        """Close every view except those of `versions`, and every source but these."""
        self._views.close_others(versions)
        for identity in {*self.sources} - {self.picture_source.identity, *identities}:
            self.sources.pop(identity, None)

    def open_sealed_set(self, identity: Identity, opened: VectorSet | None = None) -> VectorSet:
        """Open what is sealed of a set, and read the rows of damaged segments from the tables.

        A new set is registered, so that the indexer finds it. Segments that `opened`, an earlier state of the set, has
        are not opened again. A set that is far behind, because no worker ran, is sealed first: its changes may not fit
        into memory. While another process seals, `opened` is returned as it is; without it, this waits.

        Nor may the rows of large segments that cannot be read: they are made again before the set is opened. Raises why
        not, also where `opened` can serve meanwhile.
        """
        problem = self.sets.describe_lost_rows(identity)
        problems = () if problem is None else (f"{problem} They are sealed again from the registry.",)
        if problem is not None:
            _log.warning(problem)
        with suppress(RegistryUnavailable, StorageFull):  # the next process that opens it tries again
            self.sets.ensure_registered(identity)
        if not self._ensure_sealed(identity, wait=opened is None) and opened is not None:
            return replace(opened, problems=problems) if problems else opened
        state = self.sets.read_state(identity)
        parts = () if opened is None else opened.parts
        known = {part.record.id: part for part in parts if isinstance(part, Segment)}
        sealed, lost = self.sets.open_sealed(identity, state, known)
        if lost and self.sets.read_state(identity).number != state.number:  # merged meanwhile
            return self.open_sealed_set(identity, opened)
        if sum(record.rows for record in lost) > MOST:
            self._make_again(identity, next(iter(lost.values())), may_wait=opened is None)
            return self.open_sealed_set(identity, opened)
        sealed = add_lost_rows(self.sources[identity], sealed, lost)
        return replace(sealed, problems=problems) if problems and not state.segments else sealed

    def reopen_changed_sets(
        self, served: Mapping[Identity, VectorSet], repaired: Collection[Identity] = ()
    ) -> Iterator[tuple[Identity, VectorSet]]:
        """Open the `served` sets again of which more is sealed, rows are lost, or that are `repaired`.

        What cannot be opened is left alone for a while: each try reads and hashes whole files.
        """
        newest, since = self.sets.list_newest(), self._clock() - RETRY_SECONDS
        self._failed_at = {key: at for key, at in self._failed_at.items() if at > since}
        for identity, before in served.items():
            number = newest.get(identity, 0)
            is_due = number > before.state or self.sets.has_lost_rows(before.parts)
            if identity in repaired or (is_due and (identity, number) not in self._failed_at):
                try:
                    sealed = self.open_sealed_set(identity, before)
                except RegistryUnavailable:
                    raise
                except PictoglotError as error:  # reported, until this can be opened
                    self._failed_at[identity, number] = self._clock()
                    sealed = before if before.problems else replace(before, problems=(error.detail,))
                if sealed is not before:
                    yield identity, sealed

    def make_snapshot(self, release: Release, opened: Mapping[Identity, VectorSet]) -> Snapshot:
        """Make a snapshot of a release, up to date, from those `opened` sets that it reads. Raises as `open_views`."""
        views, shared = self.open_views(release), self._views.open(release.shared)
        captions = (self.identify_captions(tag, number) for tag, number in release.languages.items())
        named = (self.picture_source.identity, *captions)
        sets = {of: opened[of] if of in opened else self.open_sealed_set(of) for of in named}
        latest = self.apply_changes_or_reopen(sets)
        return Snapshot(release, views, shared.shared, latest, built_in=self._encoder.languages)

    def attach_detector_and_chances(self, snapshot: Snapshot, previous: Snapshot | None) -> Snapshot:
        """Return the snapshot with the current detector and calibrations; itself if it has these."""
        fingerprint = self.picture_source.identity.fingerprint
        curves, count = self._encoder.curves, snapshot.picture_set.count
        self._calibrations = self._calibrations.refresh(
            self._gallery, fingerprint, snapshot.release, snapshot.change, curves, count
        )
        calibrations = self._calibrations.by_version
        updated = add_detector(snapshot, previous, lambda identity, most: self.sources[identity].sample_texts(most))
        if updated.detector is snapshot.detector and calibrations is snapshot.calibrations:
            return snapshot
        return replace(updated, calibrations=calibrations)

    def apply_changes_or_reopen(self, sets: Mapping[Identity, VectorSet]) -> Mapping[Identity, VectorSet]:
        """Apply all changes; where this process may have missed deletions, open what is sealed instead."""
        while True:
            try:
                return apply_changes(sets, self.sources, self._gallery)
            except FeedPruned as pruned:
                _log.info("this process may have missed deletions: it opens its vector sets again")
                sets = {
                    of: self.open_sealed_set(of) if pruned.is_missed_by(each) else each for of, each in sets.items()
                }

    def make_indexer(self) -> Indexer:
        """Make an indexer that encodes what has no vector yet."""
        return Indexer(self.sets, self.sources.__getitem__)

    def hold_sealing_duty(self) -> AbstractContextManager[bool]:
        """Hold the duty to seal, which a worker has while it does; False when another process has it."""
        return self._registry.duties.hold(SEALING, name_owner(unique=True), _DUTY_SECONDS)

    def verify(self, release: Release, used: set[Identity]) -> list[str]:
        """Hash every file of a release again, and count the rows in an engine; return a sentence for each difference.

        Also for what the last scrub could not mend.
        """
        numbers = {release.shared, *release.languages.values()}
        lineage = self._registry.versions.trace_lineage
        lineages = {version.number: version for number in numbers for version in lineage(number)}
        problems = [
            f"Version {number} differs from what was registered."
            for number, version in sorted(lineages.items())
            if version.folder is not None
            and not files.is_intact(self.sets.root.locate(version.folder), version.manifest_sha256)
        ]
        of_files = [problem for identity in used for problem in self.sets.verify(identity)]
        return [*problems, *of_files, *scrub_report.describe_unmended(self.sets.root)]

    def _open_source(self, identity: Identity) -> Source:
        assert identity.version is not None
        return make_source(identity, self._gallery, self._encoder, self._views.open(identity.version))

    def _make_again(self, identity: Identity, error: PictoglotError, *, may_wait: bool) -> None:
        """Make segments again that cannot be read because of `error`; raise it where this is not to be done now."""
        if not may_wait or isinstance(error, StoreUnavailable | StorageFull):
            raise error
        with self.hold_sealing_duty() as ours:
            if not ours:
                raise error
            self.make_indexer().mend(identity)

    def _ensure_sealed(self, identity: Identity, *, wait: bool) -> bool:
        """Seal a set that is far behind; False when another process has the duty, after some time with `wait`."""
        until = time.monotonic() + (PATIENCE if wait else 0.0)
        while self.sets.count_unsealed_changes().get(identity, 0) > self._seal_first:
            with self.hold_sealing_duty() as ours:
                if ours:
                    try:
                        self.make_indexer().seal(identity)
                    except Exception as error:  # noqa: BLE001 - the tail is always possible, and without it nothing serves
                        reason = getattr(error, "code", type(error).__name__)
                        _log.warning("%s cannot be sealed (%s): its changes stay in memory", identity.name, reason)
                    return True
            if time.monotonic() >= until:
                return False
            time.sleep(min(_LOOK_SECONDS, PATIENCE))
        return True


def add_detector(snapshot: Snapshot, old: Snapshot | None, texts: Callable[[Identity, int], Sequence[str]]) -> Snapshot:
    """Return a snapshot with a detector of its languages, which reuses counts of `old` that still hold.

    Each version has n-gram counts: of the captions it was trained on or, for a base, of English words. For
    English, and for versions without counts, captions of the gallery are counted too: `texts` reads about this
    number of a set's captions, none that a bound key could have written.
    """
    detector = Detector() if old is None else old.detector
    sources = old.ngram_sources if old is not None else {}
    counted = {tag: each for tag, each in sources.items() if tag in snapshot.views}
    for tag, version in snapshot.release.languages.items():
        counted_version, counted_captions = counted.get(tag, (-1, 0))
        ngrams, vector_set = snapshot.views[tag].ngrams, snapshot.captions[tag]
        counts_captions = version == snapshot.release.base or not ngrams
        captions = vector_set.count if counts_captions else 0
        fewer, more = sorted((counted_captions, captions))
        if counted_version != version or more > _GROWTH * fewer:
            counts = Counter(ngrams)
            if captions:
                counts.update(count_ngrams(texts(vector_set.identity, _SAMPLED_CAPTIONS)))
            detector = detector.replace_counts(tag, counts)
            counted[tag] = (version, captions)
    return replace(snapshot, detector=detector, ngram_sources=counted)


def restrict_to(snapshot: Snapshot, languages: Collection[str]) -> Snapshot:
    """Return a snapshot with no other languages than these; itself if it has no other."""
    if snapshot.views.keys() <= set(languages):
        return snapshot
    served = {tag: version for tag, version in snapshot.release.languages.items() if tag in languages}
    gone = snapshot.release.languages.keys() - served.keys()
    return replace(
        snapshot,
        release=replace(snapshot.release, languages=served),
        views={tag: view for tag, view in snapshot.views.items() if tag in served},
        sets={of: each for of, each in snapshot.sets.items() if of.language not in gone},
    )
