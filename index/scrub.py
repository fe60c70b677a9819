"""The scrub: reads all that is stored, finds what has changed by itself, and mends what it can. Once a day, slowly.

A disk may change a bit and leave size and times of the file as they are. Segments and versions are hashed when they are
opened, pictures when they are shown, vectors when they are read; but what is only kept, or open already, nobody looks
at. Each data root has a scrub and a report of its own: other machines have other copies.
"""

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

from index import damage, segment
from index.damage import Damage, Report
from index.indexer import Indexer
from index.registry_scrub import RegistryScrub
from index.sets import VectorSets
from index.states import Written, is_run
from index.vectors import Identity
from model import storage
from model.errors import PictoglotError, RegistryUnavailable
from model.registry.duties import SEALING

GENTLE = 0.1  # share of the time in which a scrub beside searches reads; the rest it waits
_TURN = 0.02  # seconds of reading between two waits
_ENDED = ("failed", "cancelled")  # their files may be removed by hand
_DUTY_SECONDS = 60.0  # for which the duty to seal is taken; it is renewed
_PATIENCE, _LOOK = 600.0, 1.0  # seconds to wait for whoever seals, and between looks
_log = logging.getLogger(__name__)


class Pace:
    """Waits after each piece that was read, so that reading takes this share of the time; counts bytes."""

    def __init__(
        self,
        share: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._waits, self._clock, self._wait = 1 / share - 1, clock, wait
        self._since = clock()
        self.bytes = 0

    def __call__(self, read: int) -> None:
        self.bytes += read
        busy = self._clock() - self._since
        if self._waits and busy >= _TURN:
            self._wait(busy * self._waits)
            self._since = self._clock()


class Scrub:
    """One reading of everything in one data root and its registry."""

    def __init__(self, sets: VectorSets, pace: Pace | None = None, *, mend: bool = True) -> None:
        self._sets, self._registry, self._root, self._files = sets, sets.registry, sets.root, sets.gallery.files
        self._pace, self._mend = pace or Pace(), mend
        self._read = 0

    def run(self, on_damage: Callable[[Damage], object] = lambda _: None) -> Report:
        """Read everything, tell each damage as soon as it is known, and keep the report."""
        began, found = time.time(), list[Damage]()
        # the registry last: its vectors are mended from segments
        parts = (self.segments(), self.versions(), self.datasets(), self.pictures(), self.rows())
        for each in chain.from_iterable(parts):
            end = f"made again {each.mended}" if each.mended else "NOT made again"
            _log.error("damaged: %s, %s", each.name, end, extra={"kind": each.kind, "mended": each.mended})
            found.append(each)
            on_damage(each)
        report = Report(began, time.time(), self._read, self._pace.bytes, tuple(found))
        damage.keep(self._root, report)
        told = {"files": report.files, "damaged": len(found), "not_mended": len(report.left)}
        _log.info("everything stored was read", extra=told)
        return report

    def segments(self) -> Iterator[Damage]:
        """Those of all vector sets that are on this machine."""
        for identity in self._sets.numbers():
            damaged = [written for written in self._written(identity) if not self._is_whole(written)]
            if damaged:
                how = self._made_again(identity, damaged) if self._mend else ""
                for written in damaged:
                    yield Damage("segment", f"segment {written.id} of {identity.name}", how)

    def versions(self) -> Iterator[Damage]:
        """Those whose files are to be here."""
        for version in self._registry.versions.list():
            if version.folder is None or self._is_elsewhere(version.folder):
                continue
            self._read += 1
            if not storage.intact(self._root.path(version.folder), version.manifest_sha256, self._pace):
                renewed = self._mend and self._root.renew(version.folder, version.manifest_sha256)
                name = f"version {version.number} of {version.language}"
                yield Damage("version", name, "from the store" if renewed else "")

    def _written(self, identity: Identity) -> Iterator[Written]:
        """The segments that the kept states of a set name, if they are to be on this machine."""
        named = {each.id: each for state in self._sets.states(identity) for each in state.segments}
        for id, written in sorted(named.items()):
            if not is_run(id) and not self._is_elsewhere(f"{segment.SEGMENTS}/{id}"):
                yield written

    def _is_elsewhere(self, name: str) -> bool:
        """Whether a folder or file is only in the store, until this machine needs it."""
        return self._root.shared and not self._root.path(name).exists()

    def _is_whole(self, written: Written) -> bool:
        self._read += 1
        return segment.intact(self._root, written, self._pace)

    def _made_again(self, identity: Identity, damaged: list[Written]) -> str:
        """Make segments again, and say from what; empty when that could not be done now.

        Those that only an earlier state names are removed: nobody opens them, but for whoever lags behind.
        """
        owner, until = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}", time.monotonic() + _PATIENCE
        while True:
            with self._registry.duties.held(SEALING, owner, _DUTY_SECONDS) as ours:
                if ours:
                    return self._sealed_again(identity, damaged)
            if time.monotonic() >= until:
                return ""
            time.sleep(_LOOK)

    def _sealed_again(self, identity: Identity, damaged: list[Written]) -> str:
        for written in damaged:
            segment.renew(self._root, written)
        try:
            mended = Indexer(self._sets).mend(identity)
        except RegistryUnavailable:
            raise
        except (PictoglotError, OSError) as error:
            _log.warning("%s cannot be made again now (%s)", identity.name, type(error).__name__)
            return ""
        return "from the registry" if mended else ""

    def datasets(self) -> Iterator[Damage]:
        """The files from which languages were taught, or are to be."""
        for expansion in self._registry.expansions.list():
            name = expansion.dataset_path
            if name is None or expansion.state in _ENDED or self._is_elsewhere(name):
                continue
            self._read += 1
            if not self._has_hash(name, expansion.dataset_sha256):
                renewed = self._mend and self._root.renew(name) and self._has_hash(name, expansion.dataset_sha256)
                told = f"dataset of expansion {expansion.id} of {expansion.language}"
                yield Damage("dataset", told, "from the store" if renewed else "")

    def _has_hash(self, name: str, sha256: str | None) -> bool:
        with suppress(FileNotFoundError):
            return storage.sha256_file(self._root.path(name), self._pace) == sha256
        return False

    def pictures(self) -> Iterator[Damage]:
        """The files of every picture of the gallery; without a store, also those that are missing."""
        for content, original in self._sets.gallery.stored_contents():
            names = [*self._files.here(content)]
            self._read += len(names)
            lost = [] if self._root.shared else [*self._files.lacking(content, original)]
            for name in [*(each for each in names if not self._files.is_whole(each, self._pace)), *lost]:
                yield Damage("picture", Path(name).name, self._files.mend(name) if self._mend else "")

    def rows(self) -> Iterator[Damage]:
        """Those of the registry that have a checksum; a database that cannot be read to its end is damaged, too."""
        try:
            for kind, name, mended in RegistryScrub(self._sets, self._pace, mend=self._mend).run():
                yield Damage(kind, name, mended)
        except RegistryUnavailable as error:
            yield Damage("registry", f"the registry cannot be read to its end: {error.told}")
