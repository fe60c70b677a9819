"""What is sealed of each vector set, as rows of the registry: which segments, and which of their rows are dead.

With an engine these are runs of rows there, which are named as segments are, and the ids of the rows that are hidden.

A row is never changed. A new one is registered by compare-and-set on the one that it was made from, so that of two
indexers that work on one set only one counts, whatever became of their leases.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path

from sqlalchemy import ColumnElement, Select, delete, func, insert, select
from sqlalchemy.orm import Session

from index import segment
from index.engine import Engine, is_run
from index.engine.part import EnginePart
from index.errors import EngineMismatch, IndexFileCorrupt, IndexInconsistent, IndexVersionMismatch
from index.feed import pruned_upto
from index.ivf import RECALL
from index.place import FAISS, place_of
from index.sealing import NOTHING, State, unpacked, unpacked_ids
from index.segment import SEGMENTS, Segment, Written
from index.sync import Source, refilled
from index.tables import GalleryChangeRow, VectorSetRow
from index.tail import MemoryTail
from index.vectors import Identity, Part, VectorSet
from model import storage
from model.data_root import DataRoot
from model.errors import StorageFull, StoreUnavailable
from model.registry import Registry
from model.registry.clock import now
from model.registry.tables import VersionRow
from model.storage import fault_point

GRACE = 600.0  # seconds for which other machines may search in a state after it was replaced
_DROPPED = ".dropped"  # the end of the marker of a run that cannot be registered any more
KEPT = 2  # states of a set: another process may be about to open the one before the newest


class VectorSets:
    """The vector sets of one registry, and their segments under `root`, or their rows in an engine."""

    def __init__(self, registry: Registry, root: DataRoot, engine: Engine | None = None) -> None:
        self._registry = registry
        self._root = root
        self._engine = engine
        self._opened = set[str]()  # segments that were copied from the store, or may have been

    def state(self, identity: Identity) -> State:
        """The newest state of a set; with nothing in it when the feed is pruned above.

        Raises `EngineMismatch` when it is elsewhere than here.
        """
        with self._registry.read() as session:
            row = session.scalars(_of(identity).order_by(VectorSetRow.number.desc()).limit(1)).first()
            if row is None:
                return NOTHING
            self._refuse_other(row)
            return _state(row) if self._readable(row, pruned_upto(session)) else State(row.number, 0)

    def begin(self, identity: Identity) -> None:
        """Register that nothing is sealed, so that the indexer finds the set, unless something usable is."""
        with self._registry.read() as session:
            row = session.scalars(_of(identity).order_by(VectorSetRow.number.desc()).limit(1)).first()
            if row is not None:
                self._refuse_other(row)
                if self._readable(row, pruned_upto(session)):
                    return
            base = NOTHING if row is None else State(row.number, 0)
        self.register(identity, base, NOTHING)

    def keeps(self, vector_set: VectorSet) -> bool:
        """Whether the rows of a set that was opened before are all still there.

        Segments of a state that is not kept are still mapped, but that is of no use where another machine deleted them.
        """
        if not vector_set.state:
            return True
        with self._registry.read() as session:
            return session.get(VectorSetRow, vector_set.state) is not None

    def states(self, identity: Identity) -> list[State]:
        """All states that are kept, newest first."""
        with self._registry.read() as session:
            rows = session.scalars(_of(identity).order_by(VectorSetRow.number.desc()))
            return [_state(row) for row in rows if self._readable(row)]

    def open(
        self, source: Source, state: State, recall: float = RECALL, known: Mapping[str, Segment] | None = None
    ) -> VectorSet:
        """What is sealed of a set as a vector set. Segments of `known` are open already.

        The rows of a segment that cannot be read come from the tables instead, and the set has a sentence about it.
        """
        opened, lost = self.readable(source.identity, state, recall, known)
        for written in lost:
            opened = refilled(opened, source, written.first, written.last)
        return opened

    def readable(
        self, identity: Identity, state: State, recall: float = RECALL, known: Mapping[str, Segment] | None = None
    ) -> tuple[VectorSet, list[Written]]:
        """As `open`, without the rows of segments that cannot be read; and these segments."""
        dead, known, tail = state.dead or {}, known or {}, MemoryTail.empty(identity.dimension)
        if self._engine is not None:
            there = (self.part(identity, state),)
            return VectorSet(identity, state.number, state.upto_change, there, tail, remote=True), []
        parts, lost, problems = list[Part](), list[Written](), list[str]()
        for written in state.segments:
            try:
                part = known.get(written.id) or segment.read(self._root, written, identity, recall)
            except (IndexFileCorrupt, IndexInconsistent, IndexVersionMismatch, StoreUnavailable, StorageFull) as error:
                lost.append(written)
                problems.append(f"Segment {written.id} is unusable ({error.code}) and is made again.")
            else:
                parts.append(part.marked(dead.get(written.id)))
        if self._root.shared:
            self._opened |= {part.written.id for part in parts if isinstance(part, Segment)}
        opened = VectorSet(identity, state.number, state.upto_change, tuple(parts), tail, problems=tuple(problems))
        return opened, lost

    def part(self, identity: Identity, state: State) -> EnginePart:
        """What a state sees of a set in the engine, which is not asked for anything."""
        assert self._engine is not None
        return EnginePart(self._engine, identity, state.segments, state.hidden)

    def numbers(self) -> dict[Identity, int]:
        """The number of the newest state of every set."""
        columns = [getattr(VectorSetRow, field.name) for field in fields(Identity)]
        query = select(*columns, func.max(VectorSetRow.number)).group_by(*columns)
        with self._registry.read() as session:
            return {Identity(*row[:-1]): row[-1] for row in session.execute(query)}

    def behind(self) -> dict[Identity, int]:
        """How many changes of the gallery each set does not have yet in what is sealed of it."""
        newest = self.numbers()
        with self._registry.read() as session:
            # of the newest states only: an older one may be from before any change, and all would be counted
            states = select(VectorSetRow.number, VectorSetRow.upto_change).where(
                VectorSetRow.number.in_(newest.values())
            )
            upto = {row.number: row.upto_change for row in session.execute(states)}
            counts = {
                change: session.scalar(select(func.count()).where(GalleryChangeRow.change > change)) or 0
                for change in set(upto.values())
            }
        return {identity: counts[upto[number]] for identity, number in newest.items() if number in upto}

    def register(self, identity: Identity, base: State, new: State) -> State | None:
        """Make `new` (its number does not count) the newest state of a set; returns it as registered.

        Returns None, and registers nothing, when `base` is not the newest any more, another process has removed
        files of a segment, which had no row until now, or the version was pruned.
        """
        with self._registry.begin() as session:  # files are only removed by the one writer: see `remove_unreferenced`
            if session.scalar(select(VersionRow.pruned_at).where(VersionRow.number == identity.version)):
                return None
            newest = session.scalar(select(func.max(VectorSetRow.number)).where(*_same(identity))) or 0
            if last := session.get(VectorSetRow, newest):
                self._refuse_other(last)
            if newest != base.number or not all(path.exists() for path in self._needed(base, new)):
                return None
            values = {**asdict(identity), "upto_change": new.upto_change, "dead": new.packed}
            segments = [asdict(written) for written in new.segments]
            row = insert(VectorSetRow).values(**values, segments=segments).returning(VectorSetRow.number)
            number = session.scalars(row).one()
        # The store took the files before, but until the row was there another machine may have removed them again
        for written in new.segments:
            if is_run(written.id):
                self._root.path(f"{SEGMENTS}/{written.id}").unlink(missing_ok=True)  # its marker
            elif written not in base.segments:
                with suppress(StoreUnavailable, FileNotFoundError):
                    self._root.commit(f"{SEGMENTS}/{written.id}")
        return replace(new, number=number)

    def retire(self, identity: Identity, seconds: float | None = None) -> None:
        """Forget all but the newest states of a set, and remove the segments that no state names any more.

        A state that was the newest less than `seconds` ago stays where other machines may still search in it: with an
        engine, and in a shared folder, where a file that is deleted is gone for whoever has mapped it (NFS).
        """
        if seconds is None:
            folder = self._registry.engine.dialect.name == "postgresql" and not self._root.shared
            seconds = GRACE if folder or self._engine is not None else 0.0
        columns = (VectorSetRow.number, (VectorSetRow.created_at < now() - seconds).label("old"))
        query = select(*columns).where(*_same(identity)).order_by(VectorSetRow.number.desc())
        with self._registry.begin() as session:
            rows = session.execute(query).all()
            old = [rows[at].number for at in range(KEPT, len(rows)) if rows[at - 1].old or seconds <= 0]
            named = _segments(session, VectorSetRow.number.in_(old))
            unnamed = named - _segments(session, *_same(identity), VectorSetRow.number.not_in(old))
            if self._engine is None:
                session.execute(delete(VectorSetRow).where(VectorSetRow.number.in_(old)))
        if self._engine is not None and old:  # the rows first: nothing else would tell which these are
            prefix = f"{self._engine.name}-"
            if runs := [int(id.removeprefix(prefix)) for id in unnamed if id.startswith(prefix)]:
                self._engine.remove(identity, runs)
            with self._registry.begin() as session:
                session.execute(delete(VectorSetRow).where(VectorSetRow.number.in_(old)))
        self.remove_unreferenced(id for id in named if not is_run(id))

    def remove_unreferenced(self, ids: Iterable[str]) -> int:
        """Remove the files of those segments, and the rows of those runs, that no state names; returns how many.

        The store comes first, outside of any transaction. A segment that is registered meanwhile is put there again.
        """
        ids = set(ids)
        runs = {id for id in ids if is_run(id)}
        removed = sum(map(self._remove_run, sorted(runs)))
        with self._registry.read() as session:
            unnamed = ids - runs - _segments(session)
        for id in sorted(unnamed):
            self._root.forget(f"{SEGMENTS}/{id}")
            with self._registry.begin() as session:  # the only writer: nothing is registered meanwhile
                named = id in _segments(session)
                doomed = None if named else segment.set_aside(self._root, id)
            if doomed is not None:
                storage.remove(doomed)
            if named and self._root.path(f"{SEGMENTS}/{id}").exists():
                self._root.commit(f"{SEGMENTS}/{id}")
            removed += not named
        return removed

    def drop(self, identity: Identity) -> None:
        """Remove everything of a set whose version was pruned; what a killed call has left, the next one removes."""
        if self._engine is not None:
            self._engine.drop(identity)
        with self._registry.read() as session:
            ids = _segments(session, *_same(identity))
        for id in (id for id in ids if not is_run(id)):
            self._root.forget(f"{SEGMENTS}/{id}")
            segment.remove(self._root, id)
        fault_point("prune.set")
        with self._registry.begin() as session:  # last: from here on nothing tells of the set
            session.execute(delete(VectorSetRow).where(*_same(identity)))

    def remove_left(self) -> None:
        """Remove the segments from this machine that were opened here, and that no state names any more.

        Where machines share a store, `retire` removes those of its own machine only.
        """
        if not self._opened:
            return
        with self._registry.read() as session:
            left = self._opened - _segments(session)
        self.remove_unreferenced(id for id in left if self._root.path(f"{SEGMENTS}/{id}").exists())
        self._opened -= left

    def _needed(self, base: State, new: State) -> Iterator[Path]:
        """The files that show that what is to be registered has not been removed as left over."""
        known = {written.id for written in base.segments}
        for written in new.segments:
            if not is_run(written.id) or written.id not in known:  # of a registered run there is no marker any more
                yield self._root.path(f"{SEGMENTS}/{written.id}")

    def _remove_run(self, id: str) -> bool:
        """Remove the rows of a run that no state names; its marker, without which it is not registered, first."""
        marker, number = self._root.path(f"{SEGMENTS}/{id}"), id.partition("-")[2].removesuffix(_DROPPED)
        if self._engine is None or not id.startswith(f"{self._engine.name}-") or not marker.exists():
            return False
        identity = Identity(**json.loads(marker.read_bytes()))
        if not id.endswith(_DROPPED):
            with self._registry.begin() as session:
                if id in _segments(session, *_same(identity)):
                    marker.unlink(missing_ok=True)
                    return False
                marker = marker.rename(marker.with_name(f"{id}{_DROPPED}"))
        self._engine.remove(identity, [int(number)])
        marker.unlink(missing_ok=True)
        return True

    def _refuse_other(self, row: VectorSetRow) -> None:
        """Otherwise processes with different settings would make all sets anew for ever, each in its own place."""
        found, ours = place_of(row.segments), FAISS if self._engine is None else self._engine.name
        if found not in (None, ours):
            raise EngineMismatch(f"Vectors are sealed in {found} now, not in {ours}: PICTOGLOT_INDEX must be the same.")

    def _readable(self, row: VectorSetRow, pruned: int = 0) -> bool:
        """Whether this engine sealed it; without any rows it does not matter which. Not below what was pruned."""
        if 0 < row.upto_change < pruned:
            return False
        prefix = "" if self._engine is None else f"{self._engine.name}-"
        ids = [written["id"] for written in row.segments]
        return all(id.startswith(prefix) for id in ids) if prefix else not any(map(is_run, ids))


def _same(identity: Identity) -> tuple[ColumnElement[bool], ...]:
    return tuple(getattr(VectorSetRow, name) == value for name, value in asdict(identity).items())


def _of(identity: Identity) -> Select[VectorSetRow]:
    return select(VectorSetRow).where(*_same(identity))


def _segments(session: Session, *where: ColumnElement[bool]) -> set[str]:
    """The segments that states name."""
    rows = session.scalars(select(VectorSetRow.segments).where(*where))
    return {written["id"] for segments in rows for written in segments}


def _state(row: VectorSetRow) -> State:
    segments = tuple(Written(**written) for written in row.segments)
    if segments and is_run(segments[0].id):
        return State(row.number, row.upto_change, segments, hidden=unpacked_ids(row.dead))
    return State(row.number, row.upto_change, segments, unpacked(row.dead, segments))
