"""Vector sets of a registry with what they stand on: segments on disk, or rows in an engine.

A new state of a set is registered by compare-and-set on the one that it was made from, so that of two indexers that
work on one set only one counts, whatever became of their leases. What no state names any more is removed.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import chain

from sqlalchemy import ColumnElement, delete, func, insert, select
from sqlalchemy.orm import Session

from index import segment
from index.engine import Engine, EnginePart, unpack_ids
from index.gallery import Gallery
from index.ivf import RECALL
from index.segment import SEGMENTS, Segment
from index.segment_files import unpack_dead
from index.set_states import (
    FAISS,
    IDENTITY,
    NOTHING_SEALED,
    PartRecord,
    SealedState,
    find_location,
    find_pruned_change,
    is_run,
    open_engine,
    select_newest,
)
from index.vectors import Identity, MemoryTail, Part, VectorSet
from store import files
from store.clock import now
from store.data_root import DataRoot
from store.errors import (
    EngineMismatch,
    IndexFileCorrupt,
    IndexInconsistent,
    IndexUnavailable,
    IndexVersionMismatch,
    PictoglotError,
    StorageFull,
    StoreUnavailable,
)
from store.files import pass_fault_point
from store.registry import Registry
from store.tables import GalleryChangeRow, VectorSetRow, VersionRow

GRACE = 600.0  # seconds for which other machines may search in a state after it was replaced
_DROPPED = ".dropped"  # the end of the marker of a run that cannot be registered any more
KEPT = 2  # states of a set: another process may be about to open the one before the newest
_log = logging.getLogger(__name__)


class VectorSets:
    """Vector sets of one gallery, with its `registry`, and their segments under its `root`, or rows in an `engine`."""

    def __init__(self, gallery: Gallery, engine: Engine | None = None, recall: float = RECALL) -> None:
        self.gallery, self.registry, self.root, self.engine = gallery, gallery.registry, gallery.root, engine
        self._recall = recall  # with which segments are searched
        self._location = FAISS if engine is None else engine.name
        self._opened = set[str]()  # segments that were copied from the store, or may have been
        self._complete_runs: dict[Identity, set[int]] = {}  # runs that were counted: the engine has all of their rows

    def read_state(self, identity: Identity) -> SealedState:
        """Return the newest state; empty if rows are lost, or the feed is pruned above. Raises `EngineMismatch`."""
        state = self._read_newest_state(identity)
        return SealedState(state.number, 0) if self.has_lost_rows(self.make_engine_parts(identity, state)) else state

    def ensure_registered(self, identity: Identity) -> None:
        """Register a set with nothing sealed, so that the indexer finds it, unless something usable is."""
        with self.registry.read() as session:
            row = _select_newest(session, identity)
            last = None if row is None else (row.number, row.upto_change)
        state = NOTHING_SEALED if last is None else self.read_state(identity)
        if last is None or (state.number == last[0] and state.upto_change != last[1]):
            self.register(identity, state, NOTHING_SEALED)

    def has_lost_rows(self, parts: Iterable[Part]) -> bool:
        """Whether rows of these parts are not in the engine (any more); False as long as it does not answer."""
        with suppress(IndexUnavailable):
            return any(self._is_incomplete(part) for part in parts if isinstance(part, EnginePart))
        return False

    def describe_lost_rows(self, identity: Identity) -> str | None:
        """Return a sentence when the engine has lost rows of the newest state."""
        if self.engine is None:
            return None
        parts = self.make_engine_parts(identity, self._read_newest_state(identity))
        return _describe_lost_rows(identity, self._location) if self.has_lost_rows(parts) else None

    def verify(self, identity: Identity) -> Iterator[str]:
        """Hash every file of the newest state again, or count every row; yield a sentence for each difference.

        If rows are lost, whoever opens the set next has it sealed again.
        """
        try:
            state = self._read_newest_state(identity)
            for record in state.segments:
                if not is_run(record.id) and not segment.is_intact(self.root, record):
                    yield f"Segment {record.id} differs from what was registered."
            self._complete_runs.pop(identity, None)
            if any(self._is_incomplete(part) for part in self.make_engine_parts(identity, state)):
                yield _describe_lost_rows(identity, self._location)
        except EngineMismatch as error:
            yield error.detail
        except IndexUnavailable as error:
            yield f"{identity.name} cannot be verified: {error.detail}"

    def _read_newest_state(self, identity: Identity) -> SealedState:
        with self.registry.read() as session:
            return self._make_usable_state(session, _select_newest(session, identity))

    def _is_incomplete(self, part: EnginePart) -> bool:
        """Whether the engine lacks rows; counts only new runs, or all after a search missed a row."""
        if part.identity in part.engine.lost:
            self._complete_runs.pop(part.identity, None)
        if part.is_incomplete(self._complete_runs.get(part.identity, ())):
            return True
        self._complete_runs[part.identity] = {record.run for record in part.runs}
        part.engine.lost.discard(part.identity)
        return False

    def keep_usable(self, opened: Mapping[Identity, VectorSet]) -> dict[Identity, VectorSet]:
        """Return those of the sets that were opened before whose rows are all still there.

        Segments of a state that is not kept are still mapped, but that is of no use where another machine deleted them.
        """
        states = {each.state for each in opened.values()}
        there = {0, *self.registry.read_values(select(VectorSetRow.number).where(VectorSetRow.number.in_(states)))}
        return {identity: each for identity, each in opened.items() if each.state in there}

    def list_states(self, identity: Identity) -> list[SealedState]:
        """List all states that are kept, newest first."""
        query = select(VectorSetRow).where(*_match_identity(identity)).order_by(VectorSetRow.number.desc())
        rows = self.registry.read_values(query)
        return [_make_state(row) for row in rows if find_location(row.segments) in (None, self._location)]

    def open_sealed(
        self, identity: Identity, state: SealedState, known: Mapping[str, Segment] | None = None
    ) -> tuple[VectorSet, dict[PartRecord, PictoglotError]]:
        """Open what is sealed of a set; return it, and why segments cannot be read. It has a sentence about each.

        Segments of `known` are open already, and used unless they were written again.
        """
        tail = MemoryTail.make_empty(identity.dimension)
        opened = VectorSet(identity, state.number, state.upto_change, (), tail, remote=self.engine is not None)
        if self.engine is not None:
            return replace(opened, parts=self.make_engine_parts(identity, state)), {}
        dead, parts, problems = unpack_dead(state), list[Part](), list[str]()
        lost: dict[PartRecord, PictoglotError] = {}
        for record in state.segments:
            try:
                part = (known or {}).get(record.id)
                if part is None or not part.is_on_disk(self.root):
                    part = segment.read(self.root, record, identity, self._recall)
            except (IndexFileCorrupt, IndexInconsistent, IndexVersionMismatch, StoreUnavailable, StorageFull) as error:
                _log.error("segment %s is unusable (%s) and is made again", record.id, error.code)
                lost[record] = error
                problems.append(f"Segment {record.id} is unusable ({error.code}) and is made again.")
            else:
                parts.append(part.mark_dead(dead.get(record.id)))
                if self.root.has_store:
                    self._opened.add(record.id)
        return replace(opened, parts=tuple(parts), problems=tuple(problems)), lost

    def make_engine_parts(self, identity: Identity, state: SealedState) -> tuple[EnginePart, ...]:
        """Return what a state sees of a set in the engine, without asking it; none when nothing is there."""
        if self.engine is None or not state.segments:
            return ()
        return (EnginePart(self.engine, identity, state.segments, unpack_ids(state.dead)),)

    def list_newest(self) -> dict[Identity, int]:
        """Return the number of the newest state of every set."""
        with self.registry.read() as session:
            rows = session.execute(select(*IDENTITY, VectorSetRow.number).where(select_newest()))
            return {Identity(*row[:-1]): row.number for row in rows}

    def count_unsealed_changes(self) -> dict[Identity, int]:
        """Count the changes of the gallery that each set does not have yet in what is sealed of it."""
        with self.registry.read() as session:
            rows = session.execute(select(*IDENTITY, VectorSetRow.upto_change).where(select_newest())).all()
            counts = {
                change: session.scalar(select(func.count()).where(GalleryChangeRow.change > change)) or 0
                for change in {row.upto_change for row in rows}
            }
        return {Identity(*row[:-1]): counts[row.upto_change] for row in rows}

    def register(self, identity: Identity, base: SealedState, new: SealedState) -> SealedState | None:
        """Make `new` (its number does not count) the newest state of a set; return it as registered.

        Returns None, and registers nothing, when `base` is not the newest any more, another process has removed
        files of a segment, which had no row until now, or the version was pruned.
        """
        known = {record.id for record in base.segments}
        folders = {record.id: self.root.locate(f"{SEGMENTS}/{record.id}") for record in new.segments}
        needed = [folders[id] for id in folders if not is_run(id) or id not in known]  # a registered run has no marker
        with self.registry.begin() as session:  # files are only removed by the one writer: see `remove_unreferenced`
            if session.scalar(select(VersionRow.pruned_at).where(VersionRow.number == identity.version)):
                return None
            last = _select_newest(session, identity)
            self._make_usable_state(session, last)
            if (last.number if last else 0) != base.number or not all(path.exists() for path in needed):
                return None
            values = {**asdict(identity), "upto_change": new.upto_change, "dead": new.dead}
            segments = [asdict(record) for record in new.segments]
            row = insert(VectorSetRow).values(**values, segments=segments).returning(VectorSetRow.number)
            number = session.scalars(row).one()
        # The store took the files before, but until the row was there another machine may have removed them again
        for id, path in folders.items():
            if is_run(id):
                path.unlink(missing_ok=True)  # its marker
            elif id not in known:
                with suppress(StoreUnavailable, FileNotFoundError):
                    self.root.commit(f"{SEGMENTS}/{id}")
        return replace(new, number=number)

    def retire_states(self, identity: Identity, seconds: float | None = None) -> None:
        """Discard all but the newest states of a set, and remove the segments that no state names any more.

        A state that was the newest less than `seconds` ago stays where other machines may still search in it: with an
        engine, and in a shared folder, where a file that is deleted is gone for whoever has mapped it (NFS).
        """
        if seconds is None:
            folder = self.registry.engine.dialect.name == "postgresql" and not self.root.has_store
            seconds = GRACE if folder or self.engine is not None else 0.0
        columns = (VectorSetRow.number, (VectorSetRow.created_at < now() - seconds).label("old"))
        query = select(*columns).where(*_match_identity(identity)).order_by(VectorSetRow.number.desc())
        with self.registry.read() as session:
            rows = session.execute(query).all()
            believed = seconds > 0 and self.registry.is_steady(session)
            old = [rows[at].number for at in range(KEPT, len(rows)) if seconds <= 0 or (believed and rows[at - 1].old)]
            named = _list_named(session, VectorSetRow.number.in_(old))
            unnamed = named - _list_named(session, *_match_identity(identity), VectorSetRow.number.not_in(old))
        runs = [_parse_run(id) for id in unnamed if id.startswith(f"{self._location}-")]
        if self.engine is not None and runs:  # the rows first: nothing else would tell which these are
            self.engine.remove(identity, runs)
        if old:
            with self.registry.begin() as session:
                session.execute(delete(VectorSetRow).where(VectorSetRow.number.in_(old)))
        self.remove_unreferenced(id for id in named if not is_run(id))

    def replace_kept_states(self, identity: Identity, base: SealedState, new: SealedState) -> bool:
        """Register `new` so that the other kept states name nothing else; False when another process was first.

        Otherwise the one before would keep the files, or the rows, that `new` is to be rid of.
        """
        last: SealedState | None = base
        while last and any(state != new for state in self.list_states(identity)[:KEPT]):
            last = self.register(identity, last, new)
            pass_fault_point("purge.registered")
        self.retire_states(identity)
        return last is not None

    def tidy(self, identity: Identity) -> None:
        """Discard what is sealed of a set if nobody can use it any more, and the states that were kept for others."""
        state = self.read_state(identity)
        if state.upto_change:
            self.retire_states(identity)
        else:
            self.replace_kept_states(identity, state, NOTHING_SEALED)

    def remove_unreferenced(self, ids: Iterable[str]) -> int:
        """Remove the files of those segments, and the rows of those runs, that no state names; return how many.

        The store comes first, outside of any transaction. A segment that is registered meanwhile is put there again.
        """
        ids = set(ids)
        runs = {id for id in ids if is_run(id)}
        removed = sum(map(self._remove_run, sorted(runs)))
        with self.registry.read() as session:
            unnamed = ids - runs - _list_named(session)
        for id in sorted(unnamed):
            self.root.remove_from_store(f"{SEGMENTS}/{id}")
            with self.registry.begin() as session:  # the only writer: nothing is registered meanwhile
                named = id in _list_named(session)
                doomed = None if named else segment.set_aside(self.root, id)
            if doomed is not None:
                files.remove(doomed)
            if named and self.root.locate(f"{SEGMENTS}/{id}").exists():
                self.root.commit(f"{SEGMENTS}/{id}")
            removed += not named
        return removed

    def drop(self, identity: Identity) -> None:
        """Remove everything of a set whose version was pruned; what a killed call has left, the next one removes."""
        if self.engine is not None:
            self.engine.drop(identity)
        with self.registry.read() as session:
            ids = _list_named(session, *_match_identity(identity))
        for id in (id for id in ids if not is_run(id)):
            self.root.remove_from_store(f"{SEGMENTS}/{id}")
            segment.remove(self.root, id)
        pass_fault_point("prune.set")
        with self.registry.begin() as session:  # last: from here on nothing tells of the set
            session.execute(delete(VectorSetRow).where(*_match_identity(identity)))

    def remove_replaced_segments(self) -> None:
        """Remove the segments from this machine that were opened here, and that no state names any more.

        Where machines share a store, `retire_states` removes those of its own machine only.
        """
        if not self._opened:
            return
        with self.registry.read() as session:
            replaced = self._opened - _list_named(session)
        self.remove_unreferenced(id for id in replaced if self.root.locate(f"{SEGMENTS}/{id}").exists())
        self._opened -= replaced

    def _remove_run(self, id: str) -> bool:
        """Remove the rows of a run that no state names; its marker, without which it is not registered, first."""
        marker = self.root.locate(f"{SEGMENTS}/{id}")
        if self.engine is None or not id.startswith(f"{self._location}-") or not marker.exists():
            return False
        identity = Identity(**json.loads(marker.read_bytes()))
        if not id.endswith(_DROPPED):
            with self.registry.begin() as session:
                if id in _list_named(session, *_match_identity(identity)):
                    marker.unlink(missing_ok=True)
                    return False
                marker = marker.rename(marker.with_name(f"{id}{_DROPPED}"))
        self.engine.remove(identity, [_parse_run(id)])
        marker.unlink(missing_ok=True)
        return True

    def _make_usable_state(self, session: Session, row: VectorSetRow | None) -> SealedState:
        """Make the state of a row, empty below what was pruned. Raises `EngineMismatch` for another place's."""
        if row is None:
            return NOTHING_SEALED
        if (found := find_location(row.segments)) not in (None, self._location):
            there = f"Vectors are sealed in {found} now, not in {self._location}"
            raise EngineMismatch(f"{there}: PICTOGLOT_INDEX must be the same.")
        return SealedState(row.number, 0) if 0 < row.upto_change < find_pruned_change(session) else _make_state(row)


def open_sets(registry: Registry, root: DataRoot, index: str, recall: float = RECALL) -> VectorSets:
    """Open the vector sets of a registry where `PICTOGLOT_INDEX` has them; raises as `open_engine`."""
    return VectorSets(Gallery(registry, root), open_engine(index, registry, recall), recall)


def _describe_lost_rows(identity: Identity, place: str) -> str:
    return f"Vectors of {identity.name} that were sealed are not in {place}."


def _parse_run(id: str) -> int:
    return int(id.partition("-")[2].removesuffix(_DROPPED))


def _match_identity(identity: Identity) -> tuple[ColumnElement[bool], ...]:
    return tuple(getattr(VectorSetRow, name) == value for name, value in asdict(identity).items())


def _select_newest(session: Session, identity: Identity) -> VectorSetRow | None:
    query = select(VectorSetRow).where(*_match_identity(identity)).order_by(VectorSetRow.number.desc())
    return session.scalars(query.limit(1)).first()


def _list_named(session: Session, *where: ColumnElement[bool]) -> set[str]:
    """List the segments and runs that states name."""
    rows = session.scalars(select(VectorSetRow.segments).where(*where))
    return {record["id"] for segments in rows for record in segments}


def _make_state(row: VectorSetRow) -> SealedState:
    return SealedState(row.number, row.upto_change, tuple(PartRecord(**record) for record in row.segments), row.dead)


def map_pages(opened: Iterable[VectorSet]) -> None:
    """Map the pages of their indexes, once: in a process that has just opened them, a search waits for each page."""
    for part in chain.from_iterable(vector_set.parts for vector_set in opened):
        if isinstance(part, Segment):
            part.lists.map_pages()
