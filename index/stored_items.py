"""Stored items that have a hash or a checksum: how to look at each, and of what it can be made again.

Neither database notices by itself that a bit of a row has flipped: vectors, captions and chances have checksums. A
row is changed only while it has the damaged value: others may have mended or deleted it meanwhile.
"""

import errno
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import LargeBinary, Select, case, cast, delete, func, literal, select, tuple_, update

from index import segment
from index.captions import BATCH_SIZE, compute_digest
from index.indexer import Indexer
from index.picture_tables import pack_vector, unpack_vector
from index.scrub_report import Kind
from index.segment import SEGMENTS
from index.set_states import NOTHING_SEALED, PartRecord, find_sets_in_use, is_run
from index.sets import VectorSets
from index.sources import VectorsMissing
from index.vectors import Identity, VectorSet
from model.processes import name_owner
from store import files
from store.errors import LeaseLost, PictoglotError, RegistryUnavailable
from store.leases import SEALING
from store.tables import CaptionRow, CaptionVectorRow, PictureRow, PictureVectorRow

GENTLE = 0.1  # share of the time in which a scrub beside searches reads; the rest it waits
_TURN, _LONGEST_TURN = 0.02, 1.0  # seconds of reading between two waits, and of which a wait depends
_KEEP_SECONDS = 15.0  # seconds between two signs of life
_PATIENCE, _LOOK = 600.0, 1.0  # seconds to wait for the registry, or whoever seals, and between two looks
# what a disk or file system says of itself
_DAMAGE_ERRNOS = (errno.EIO, errno.EBADMSG, getattr(errno, "EUCLEAN", errno.EIO))
_ENDED_STATES = ("failed", "cancelled")  # their files may be removed by hand
_DUTY_SECONDS = 60.0  # for which the duty to seal is taken; it is renewed
_STORE, _REGISTRY = "from the store", "from the registry"
_FORGOTTEN = "by forgetting what nobody searches"
_COMPUTED = "by forgetting it, so that it is computed again"
T = TypeVar("T")
_log = logging.getLogger(__name__)


class Busy(Exception):
    """Another process is at it just now."""


class Pace:
    """Pace of reading: waits after each piece, so that reading takes this share of the time; counts bytes.

    `keep` is called a few times a minute, while it waits for others, too; it may raise `LeaseLost` to end the scrub.
    """

    def __init__(
        self,
        share: float = 1.0,
        keep: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._waits, self._keep, self._wait, self.clock = 1 / share - 1, keep, wait, clock
        self._since = self._kept = clock()
        self.bytes = 0

    def __call__(self, read: int) -> None:
        self.bytes += read
        busy = self.clock() - self._since
        if busy >= _TURN:  # capped: what took long may have been anything, and nobody waits nine times as long for it
            self.rest(min(busy, _LONGEST_TURN) * self._waits)

    def rest(self, seconds: float = 0.0) -> None:
        """Wait, and count from now on: the time before this was not spent with reading."""
        if seconds:
            self._wait(seconds)
        if self.clock() - self._kept >= _KEEP_SECONDS:
            self._kept = self.clock()
            try:
                self._keep()
            except LeaseLost:
                raise
            except PictoglotError as error:  # the registry is away or full: whoever needs it waits for it
                _log.info("a duty could not be renewed (%s)", error.code)
        self._since = self.clock()

    def retry_patiently(self, act: Callable[[], T]) -> T:
        """Return what `act` does; retry for some minutes while the registry is away, or another process busy."""
        until = self.clock() + _PATIENCE
        while True:
            try:
                return act()
            except (RegistryUnavailable, Busy) as error:
                if getattr(error, "damaged", False) or self.clock() >= until:
                    raise
                _log.info("the scrub waits (%s)", type(error).__name__)
            self.rest(_LOOK)


def raise_if_over(error: Exception) -> None:
    """Raise what ends a scrub: another process does it, or the registry has been away for long."""
    if isinstance(error, LeaseLost) or (isinstance(error, RegistryUnavailable) and not error.damaged):
        raise error


@dataclass(frozen=True)
class StoredItem:
    """Item with a hash. `mend` says from what it did so, or nothing; `is_there` is asked of what is damaged."""

    kind: Kind
    name: str
    is_whole: Callable[[], bool]
    is_there: Callable[[], bool]
    mend: Callable[[], str] = lambda: ""

    def describe_damage(self) -> str:
        """Name it when it is damaged, or cannot be read; empty when it is whole."""
        try:
            return "" if self.is_whole() else self.name
        except Exception as error:  # noqa: BLE001 - whatever is wrong with this one, others are to be read
            raise_if_over(error)
            is_damaged = getattr(error, "errno", None) in _DAMAGE_ERRNOS
            return self.name if is_damaged else f"{self.name} cannot be read ({type(error).__name__})"


ItemGroup = tuple[str, Iterable[StoredItem]]  # with what they are


def _is_never_whole() -> bool:
    return False


class StoredItems:
    """Items of one data root and its registry, in groups that are read one after another."""

    def __init__(self, sets: VectorSets, pace: Pace) -> None:
        self._sets, self._registry, self._root, self._files = sets, sets.registry, sets.root, sets.gallery.files
        self._pace = pace
        self.read = 0  # files
        self._fetched = set[PartRecord]()  # segments, from the store
        self._opened: dict[Identity, VectorSet] = {}  # to mend rows from
        self._from_sealed = "from a segment" if sets.engine is None else "from the engine"

    def find_faults(self) -> Iterator[ItemGroup]:
        """Find faults in the structure of the registry's own file."""
        for fault in self._pace.retry_patiently(self._registry.find_damage):
            yield "the registry", [StoredItem("registry", f"the registry: {fault}", _is_never_whole, lambda: True)]

    def find_segments(self) -> Iterator[ItemGroup]:
        """Find segments of all vector sets that are on this machine."""
        for identity in self._pace.retry_patiently(self._sets.list_newest):
            yield f"what is sealed of {identity.name}", self._list_damaged_segments(identity)

    def _list_damaged_segments(self, identity: Identity) -> Iterator[StoredItem]:
        """List the damaged ones: all are looked at before one is mended, which mends others with it."""
        things, damaged = [], set[PartRecord]()
        for each in self._pace.retry_patiently(partial(self._list_segments, identity)):
            self.read += 1
            thing = StoredItem(
                "segment",
                f"segment {each.id} of {identity.name}",
                partial(segment.is_intact, self._root, each, self._pace),
                partial(self._is_named, identity, each),
                partial(self._rebuild_segment, identity, each, damaged),
            )
            if name := thing.describe_damage():
                damaged.add(each)
                things.append(replace(thing, name=name, is_whole=_is_never_whole))
        yield from things

    def _is_named(self, identity: Identity, record: PartRecord) -> bool:
        """Whether a state still names it: it may have been merged, pruned or purged meanwhile."""
        return record in self._list_segments(identity)

    def _list_segments(self, identity: Identity) -> list[PartRecord]:
        """List the segments that the kept states of a set name, if they are to be on this machine."""
        if identity.version in self._registry.versions.find_pruned():
            return []  # they are about to be removed
        # of two of one name the newer one is there: it was written again
        named = {each.id: each for state in reversed(self._sets.list_states(identity)) for each in state.segments}
        return [
            each for id, each in sorted(named.items()) if not is_run(id) and not self._is_elsewhere(f"{SEGMENTS}/{id}")
        ]

    def _is_elsewhere(self, name: str) -> bool:
        """Whether a folder or file is only in the store, until this machine needs it."""
        return self._root.has_store and not self._root.locate(name).exists()

    def _rebuild_segment(self, identity: Identity, record: PartRecord, damaged: Collection[PartRecord]) -> str:
        """Make a segment again, with all that are damaged of its set. Raises `Busy` while another process seals."""
        with self._registry.duties.hold(SEALING, name_owner(unique=True), _DUTY_SECONDS) as ours:
            if not ours:
                raise Busy
            # these alone: to hash whole ones here would keep everyone from sealing, at full speed
            lost = {*self._list_segments(identity)}.intersection(damaged) - self._fetched
            self._fetched.update(each for each in lost if segment.fetch(self._root, each))
            fetched, base = record in self._fetched, self._sets.read_state(identity)
            try:
                Indexer(self._sets).mend(identity)
            except VectorsMissing:
                if fetched or identity in {Identity(*key) for key in find_sets_in_use(self._registry)}:
                    self._sets.register(identity, base, base)  # whoever searches takes up what was fetched
                    return _STORE if fetched else ""
                # nobody computes what it lacks
                return _FORGOTTEN if self._sets.replace_kept_states(identity, base, NOTHING_SEALED) else ""
        return _STORE if fetched else _REGISTRY if record in base.segments else _FORGOTTEN

    def find_versions(self) -> Iterator[ItemGroup]:
        """Find versions whose files are to be here."""

        def is_there(number: int, folder: str) -> bool:
            removed = {each.number for each in self._registry.retention.list_removable()}
            return self._registry.versions.get(number).folder == folder and number not in removed

        for version in self._pace.retry_patiently(self._registry.versions.list):
            if (folder := version.folder) is not None and not self._is_elsewhere(folder):
                self.read += 1
                name, manifest = f"version {version.number} of {version.language}", version.manifest_sha256
                is_whole = partial(files.is_intact, self._root.locate(folder), manifest, self._pace)
                mend = partial(self._renew_from_store, folder, lambda: True, manifest)
                yield name, [StoredItem("version", name, is_whole, partial(is_there, version.number, folder), mend)]

    def find_datasets(self) -> Iterator[ItemGroup]:
        """Find the files from which languages were taught, or are to be."""

        def is_there(id: str, path: str) -> bool:
            now = self._registry.expansions.get(id)
            return now.dataset_path == path and now.state not in _ENDED_STATES

        def has_hash(path: str, sha256: str | None) -> bool:
            with suppress(FileNotFoundError):
                return files.hash_file(self._root.locate(path), self._pace) == sha256
            return False

        for each in self._pace.retry_patiently(self._registry.expansions.list):
            path = each.dataset_path
            if path is not None and each.state not in _ENDED_STATES and not self._is_elsewhere(path):
                self.read += 1
                name = f"dataset of expansion {each.id} of {each.language}"
                is_whole = partial(has_hash, path, each.dataset_sha256)
                mend = partial(self._renew_from_store, path, is_whole)
                yield name, [StoredItem("dataset", name, is_whole, partial(is_there, each.id, path), mend)]

    def _renew_from_store(self, name: str, is_whole: Callable[[], bool], *manifest: str | None) -> str:
        return _STORE if self._root.renew(name, *manifest) and is_whole() else ""

    def find_pictures(self) -> Iterator[ItemGroup]:
        """Find the files of every picture of the gallery; without a store, also those that are missing."""
        row = PictureRow
        kept = func.max(case((row.original, 1), else_=0))
        for content, original in self._read_rows(select(row.content_sha256, kept).group_by(row.content_sha256), 1):
            yield content, self._list_files(content, bool(original))

    def _list_files(self, content: str, original: bool) -> Iterator[StoredItem]:
        def make_item(name: str, is_whole: Callable[[], bool]) -> StoredItem:
            mend = partial(self._files.mend, name)
            return StoredItem(
                "picture", Path(name).name, is_whole, partial(self._is_shown_damaged, content, name), mend
            )

        for name in self._files.list_local(content):
            self.read += 1
            yield make_item(name, partial(self._files.is_whole, name, self._pace))
        for name in () if self._root.has_store else self._files.list_missing(content, original):
            yield make_item(name, _is_never_whole)

    def _is_shown_damaged(self, content: str, name: str) -> bool:
        """Whether a picture has this content, and this file of it is still missing or damaged."""
        shown = self._has_row(PictureRow.content_sha256 == content)
        there = self._root.locate(name).exists()
        return shown and not (there and self._files.is_whole(name))

    def find_vectors(self) -> Iterator[ItemGroup]:
        """Find rows of vectors with a wrong checksum; the segments must have been mended before."""
        row, other = PictureVectorRow, CaptionVectorRow
        keys: list[Any] = [row.content_sha256, row.fingerprint]
        pictures = select(PictureRow.id, PictureRow.key)
        yield "vectors of pictures", self._list_damaged_vectors(row, keys, pictures, PictureRow.content_sha256)
        keys = [other.caption_id, other.version, other.fingerprint]
        pictures = select(CaptionRow.picture_id, CaptionRow.id)
        yield "vectors of captions", self._list_damaged_vectors(other, keys, pictures, CaptionRow.id)

    def _list_damaged_vectors(
        self, row: Any, keys: Sequence[Any], pictures: Select[str, int], owner: Any
    ) -> Iterator[StoredItem]:
        """List damaged vectors of a table.

        `pictures` selects ids and, in vector sets, keys; a row belongs to those whose `owner` column is its first key.
        """
        for *key, stored in self._read_rows(select(*keys, row.vector), len(keys)):
            if unpack_vector(stored) is None:
                conditions = [row.vector == stored, *(column == value for column, value in zip(keys, key, strict=True))]
                name, encoder = f"vector of content {key[0]}", {"fingerprint": key[-1], "version": None}
                if row is CaptionVectorRow:
                    name, encoder["version"] = f"vector of caption {key[0]} by version {key[1]}", key[1]
                mend = partial(self._replace_vector, row, conditions, pictures.where(owner == key[0]), encoder)
                yield StoredItem("vector", name, _is_never_whole, partial(self._has_row, *conditions), mend)

    def _replace_vector(
        self, row: Any, conditions: Sequence[Any], pictures: Select[str, int], encoder: Mapping[str, Any]
    ) -> str:
        """Put a sealed vector in place of a damaged one, or let it be computed again by who has the model."""
        places = self._registry.read_rows(pictures)
        sealed = (vector for picture, key in places for _, vector in self._find_sealed(encoder, picture, key))
        if (vector := next(sealed, None)) is not None:
            with self._registry.begin() as session:
                session.execute(update(row).where(*conditions).values(vector=pack_vector(vector)))
            return self._from_sealed
        # reported before it is deleted: if this ends in between, the damaged one is replaced all the same
        self._sets.gallery.touch([picture for picture, _ in places])
        with self._registry.begin() as session:
            session.execute(delete(row).where(*conditions))
        return _COMPUTED

    def find_captions(self) -> Iterator[StoredItem]:
        """Find captions whose digest is not that of their text."""
        row = CaptionRow
        # as bytes: a driver refuses a whole page for one text that is not UTF-8 any more; PostgreSQL's own conversions
        # refuse it, too, except what it sends texts with
        text: Any = (
            cast(row.text, LargeBinary) if self._registry.is_local else func.textsend(row.text, type_=LargeBinary)
        )
        query = select(row.id, row.picture_id, row.language, row.expansion, row.digest, text)
        for id, picture, language, expansion, digest, said in self._read_rows(query, 1):
            if compute_digest(expansion or "", said) != digest:
                conditions = [row.id == id, row.digest == digest, text == said]
                mend = partial(self._restore_text, conditions, picture, id, language, expansion or "", digest)
                name = f"caption {id} of picture {picture}"
                yield StoredItem("caption", name, _is_never_whole, partial(self._has_row, *conditions), mend)

    def _restore_text(
        self, conditions: Sequence[Any], picture: str, key: int, language: str, expansion: str, digest: str
    ) -> str:
        """Put the sealed text in place of a damaged one, if its digest proves that it was this one."""
        for text, _ in self._find_sealed({"kind": "captions", "language": language}, picture, key):
            if compute_digest(expansion, text) == digest:
                with self._registry.begin() as session:
                    session.execute(update(CaptionRow).where(*conditions).values(text=text))
                return self._from_sealed
        return ""

    def _find_sealed(self, fields: Mapping[str, Any], picture: str, key: int) -> Iterator[tuple[str, Any]]:
        """Find text and vector of a row, in each set of these fields in which it is sealed."""
        for identity in self._sets.list_newest():
            if all(getattr(identity, name) == value for name, value in fields.items()):
                if identity not in self._opened:
                    self._opened[identity] = self._sets.open_sealed(identity, self._sets.read_state(identity))[0]
                rows = self._opened[identity].read_rows(picture)
                for place in np.flatnonzero(rows.keys == key).tolist():
                    yield rows.entries[place].text, rows.vectors[place]

    def _has_row(self, *conditions: Any) -> bool:
        return self._registry.read_value(select(literal(1)).where(*conditions).limit(1)) is not None

    def _read_rows(self, query: Any, keys: int) -> Iterator[Any]:
        """Read all rows of a `select`, some at a time, in the order of their primary key: its first so many columns."""
        columns = [*query.selected_columns][:keys]
        page = first = query.order_by(*columns).limit(BATCH_SIZE)
        while rows := self._pace.retry_patiently(partial(self._registry.read_rows, page)):
            self._pace(sum(len(value) for row in rows for value in row if isinstance(value, bytes | str)))
            yield from rows
            page = first.where(tuple_(*columns) > tuple_(*map(literal, rows[-1][:keys])))
