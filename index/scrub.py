"""The scrub: reads all that is stored, finds what has changed by itself, and mends what it can. Once a day, slowly.

A disk may change a bit and leave size and times of the file as they are. Segments and versions are hashed when they are
opened, pictures when they are shown, vectors when they are read; but what is only kept, or open already, nobody looks
at. Each data root has a scrub and a report of its own: other machines have other copies.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path

from sqlalchemy import case, func, select

from index import damage, segment
from index.damage import Damage, Report
from index.examiner import Busy, Examiner, Pace
from index.indexer import Indexer
from index.registry_scrub import RegistryScrub
from index.segment import SEGMENTS
from index.sets import VectorSets
from index.sources import VectorsMissing
from index.states import NOTHING, Written, in_use, is_run
from index.vectors import Identity
from model.processes import name_owner
from store import files
from store.expansions import Expansion
from store.leases import SEALING
from store.tables import PictureRow
from store.versions import Version

_ENDED = ("failed", "cancelled")  # their files may be removed by hand
_DUTY_SECONDS = 60.0  # for which the duty to seal is taken; it is renewed
_STORE, _REGISTRY = "from the store", "from the registry"
_FORGOTTEN = "by forgetting what nobody searches"
_log = logging.getLogger(__name__)


class Scrub:
    """One reading of everything in one data root and its registry."""

    def __init__(self, sets: VectorSets, pace: Pace | None = None, *, mend: bool = True) -> None:
        self._sets, self._registry, self._root, self._files = sets, sets.registry, sets.root, sets.gallery.files
        self._pace = pace or Pace()
        self._examiner = Examiner(self._pace, mend=mend)
        self._read = 0
        self._fetched = set[Written]()  # segments, from the store

    def run(self, on_damage: Callable[[Damage], object] = lambda _: None) -> Report:
        """Read everything, tell each damage as soon as it is known, and keep the report.

        Raises `RegistryUnavailable` when the registry stays away: nothing is reported then, as not all was read.
        """
        report, guarded = Report(time.time(), 0.0, 0, 0), self._examiner.guarded
        parts = (
            guarded("registry", "the registry", self.faults()),
            guarded("segment", "the list of vector sets", self.segments()),
            guarded("version", "the list of versions", self.versions()),
            guarded("dataset", "the list of expansions", self.datasets()),
            guarded("picture", "the list of pictures", self.pictures()),
            self.rows(),  # last: they are mended from segments
        )
        for each in chain.from_iterable(parts):
            end = f"mended {each.mended}" if each.mended else "NOT mended"
            _log.error("damaged: %s, %s", each.name, end, extra={"kind": each.kind, "mended": each.mended})
            report.add(each)
            on_damage(each)
        report.finished, report.files, report.bytes = time.time(), self._read, self._pace.bytes
        try:
            damage.keep(self._root, report)
        except OSError as error:
            _log.error("the report of the scrub cannot be kept (%s)", error.strerror)
        told = {"files": report.files, "damaged": report.left + report.mended, "not_mended": report.left}
        _log.info("everything stored was read", extra=told)
        return report

    def faults(self) -> Iterator[Damage]:
        """Those in the structure of the registry's own file."""
        for fault in self._examiner.patiently(self._registry.faults):
            yield Damage("registry", f"the registry: {fault}")

    def segments(self) -> Iterator[Damage]:
        """Those of all vector sets that are on this machine."""
        for identity in self._examiner.patiently(self._sets.numbers):
            what = f"what is sealed of {identity.name}"
            yield from self._examiner.guarded("segment", what, self._of_set(identity))

    def versions(self) -> Iterator[Damage]:
        """Those whose files are to be here."""
        for version in self._examiner.patiently(self._registry.versions.list):
            if version.folder is not None and not self._is_elsewhere(version.folder):
                yield from self._version(version, version.folder)

    def datasets(self) -> Iterator[Damage]:
        """The files from which languages were taught, or are to be."""
        for expansion in self._examiner.patiently(self._registry.expansions.list):
            name = expansion.dataset_path
            if name is not None and expansion.state not in _ENDED and not self._is_elsewhere(name):
                yield from self._dataset(expansion, name)

    def pictures(self) -> Iterator[Damage]:
        """The files of every picture of the gallery; without a store, also those that are missing."""
        row = PictureRow
        kept = func.max(case((row.original, 1), else_=0))
        query = select(row.content_sha256, kept).group_by(row.content_sha256)
        for page in self._examiner.pages(self._registry, query, 1):
            for content, original in page:
                yield from self._examiner.guarded("picture", content, self._picture(content, bool(original)))

    def rows(self) -> Iterator[Damage]:
        """Those of the registry that have a checksum."""
        return RegistryScrub(self._sets, self._examiner).run()

    def _of_set(self, identity: Identity) -> Iterator[Damage]:
        """All are looked at before one is mended: that mends others with it."""
        damaged = list[tuple[Written, str]]()
        for each in self._examiner.patiently(partial(self._written, identity)):
            self._read += 1
            is_whole, is_named = (
                partial(segment.intact, self._root, each, self._pace),
                partial(self._names, identity, each),
            )
            name = f"segment {each.id} of {identity.name}"
            damaged += ((each, found.name) for found in self._examiner.examined("segment", name, is_whole, is_named))
        for each, name in damaged:
            mend = partial(self._made_again, identity, each, [other for other, _ in damaged])
            yield from self._examiner.told("segment", name, partial(self._names, identity, each), mend)

    def _names(self, identity: Identity, written: Written) -> bool:
        """False of what was merged, pruned or purged meanwhile."""
        return written in self._written(identity)

    def _written(self, identity: Identity) -> list[Written]:
        """The segments that the kept states of a set name, if they are to be on this machine."""
        if identity.version in self._registry.versions.pruned():
            return []  # they are about to be removed
        # of two of one name the newer one is there: it was written again
        named = {each.id: each for state in reversed(self._sets.states(identity)) for each in state.segments}
        return [
            each for id, each in sorted(named.items()) if not is_run(id) and not self._is_elsewhere(f"{SEGMENTS}/{id}")
        ]

    def _is_elsewhere(self, name: str) -> bool:
        """Whether a folder or file is only in the store, until this machine needs it."""
        return self._root.shared and not self._root.path(name).exists()

    def _made_again(self, identity: Identity, written: Written, damaged: Sequence[Written]) -> str:
        """Make a segment again, with the other `damaged` ones, and say from what; empty when it cannot be made now.

        Raises `Busy` while another process seals.
        """
        with self._registry.duties.held(SEALING, name_owner(once=True), _DUTY_SECONDS) as ours:
            if not ours:
                raise Busy
            self._fetched.update(each for each in damaged if segment.fetch(self._root, each))
            fetched, base = written in self._fetched, self._sets.state(identity)
            try:
                Indexer(self._sets).mend(identity)
            except VectorsMissing:
                if fetched or identity in {Identity(*key) for key in in_use(self._registry)}:
                    self._sets.register(identity, base, base)  # whoever searches takes up what was fetched
                    return _STORE if fetched else ""
                # nobody computes what it lacks
                return _FORGOTTEN if self._sets.settle(identity, base, NOTHING) else ""
        return _STORE if fetched else _REGISTRY if written in base.segments else _FORGOTTEN

    def _version(self, version: Version, folder: str) -> Iterator[Damage]:
        def is_there() -> bool:
            removed = {each.number for each in self._registry.retention.removable()}
            return self._registry.versions.get(version.number).folder == folder and version.number not in removed

        self._read += 1
        return self._examiner.examined(
            "version",
            f"version {version.number} of {version.language}",
            lambda: files.is_intact(self._root.path(folder), version.manifest_sha256, self._pace),
            is_there,
            lambda: _STORE if self._root.renew(folder, version.manifest_sha256) else "",
        )

    def _dataset(self, expansion: Expansion, name: str) -> Iterator[Damage]:
        def is_there() -> bool:
            now = self._registry.expansions.get(expansion.id)
            return now.dataset_path == name and now.state not in _ENDED

        def has_hash() -> bool:
            with suppress(FileNotFoundError):
                return files.sha256_file(self._root.path(name), self._pace) == expansion.dataset_sha256
            return False

        self._read += 1
        told = f"dataset of expansion {expansion.id} of {expansion.language}"
        mend = lambda: _STORE if self._root.renew(name) and has_hash() else ""  # noqa: E731
        return self._examiner.examined("dataset", told, has_hash, is_there, mend)

    def _picture(self, content: str, original: bool) -> Iterator[Damage]:
        """What was put again or deleted meanwhile is not damaged."""
        for name in self._files.here(content):
            self._read += 1
            yield from self._examiner.examined(
                "picture",
                Path(name).name,
                partial(self._files.is_whole, name, self._pace),
                partial(self._shows, content, name),
                partial(self._files.mend, name),
            )
        for name in () if self._root.shared else self._files.lacking(content, original):
            is_lacking = partial(self._shows, content, name)
            yield from self._examiner.told("picture", Path(name).name, is_lacking, partial(self._files.mend, name))

    def _shows(self, content: str, name: str) -> bool:
        """Whether a picture has this content, and this file of it is still missing or damaged."""
        with self._registry.read() as session:
            shown = session.scalar(select(PictureRow.id).where(PictureRow.content_sha256 == content).limit(1))
        there = self._root.path(name).exists()
        return shown is not None and not (there and self._files.is_whole(name))
