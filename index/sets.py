"""The vector sets of one registry with what they stand on: segments on disk, or rows in an engine.

A new state of a set is registered by compare-and-set on the one that it was made from, so that of two indexers that
work on one set only one counts, whatever became of their leases. What no state names any more is removed.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace

from sqlalchemy import ColumnElement, delete, func, insert, select
from sqlalchemy.orm import Session

from index import segment, segment_files
from index.engine import Engine, EnginePart, packed, unpacked
from index.errors import EngineMismatch, IndexFileCorrupt, IndexInconsistent, IndexVersionMismatch
from index.ivf import RECALL
from index.segment import SEGMENTS, Segment
from index.sources import Source, refilled
from index.states import FAISS, IDENTITY, NOTHING, State, Written, is_run, newest, place_of, pruned_upto
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


def state_of(vector_set: VectorSet) -> State:
    """What of a set is sealed, and which of these rows have been replaced or deleted."""
    for part in vector_set.parts:
        if isinstance(part, EnginePart):
            return State(vector_set.state, vector_set.change, part.runs, packed(part.hidden))
    parts = [part for part in vector_set.parts if isinstance(part, Segment)]
    dead = {part.written.id: ~part.alive for part in parts if part.alive is not None and not part.alive.all()}
    written = tuple(part.written for part in parts)
    return State(vector_set.state, vector_set.change, written, segment_files.packed(dead))


class VectorSets:
    """The vector sets of one registry, and their segments under `root`, or their rows in an engine."""

    def __init__(self, registry: Registry, root: DataRoot, engine: Engine | None = None) -> None:
        self._registry, self._root, self._engine = registry, root, engine
        self._place = FAISS if engine is None else engine.name
        self._opened = set[str]()  # segments that were copied from the store, or may have been

    def state(self, identity: Identity) -> State:
        """The newest state of a set; with nothing in it when the feed is pruned above.

        Raises `EngineMismatch` when it is elsewhere than here.
        """
        with self._registry.read() as session:
            return self._usable(session, _newest(session, identity))

    def begin(self, identity: Identity) -> None:
        """Register that nothing is sealed, so that the indexer finds the set, unless something usable is."""
        with self._registry.read() as session:
            row = _newest(session, identity)
            state = self._usable(session, row)
            if row is not None and state.upto_change == row.upto_change:
                return
        self.register(identity, state, NOTHING)

    def keeps(self, vector_set: VectorSet) -> bool:
        """Whether the rows of a set that was opened before are all still there.

        Segments of a state that is not kept are still mapped, but that is of no use where another machine deleted them.
        """
        with self._registry.read() as session:
            return not vector_set.state or session.get(VectorSetRow, vector_set.state) is not None

    def states(self, identity: Identity) -> list[State]:
        """All states that are kept, newest first."""
        query = select(VectorSetRow).where(*_same(identity)).order_by(VectorSetRow.number.desc())
        with self._registry.read() as session:
            return [_state(row) for row in session.scalars(query) if place_of(row.segments) in (None, self._place)]

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
        tail = MemoryTail.empty(identity.dimension)
        opened = VectorSet(identity, state.number, state.upto_change, (), tail, remote=self._engine is not None)
        if self._engine is not None:
            return replace(opened, parts=(self.part(identity, state),)), []
        dead, parts, lost, problems = segment_files.unpacked(state), list[Part](), list[Written](), list[str]()
        for written in state.segments:
            try:
                part = (known or {}).get(written.id) or segment.read(self._root, written, identity, recall)
            except (IndexFileCorrupt, IndexInconsistent, IndexVersionMismatch, StoreUnavailable, StorageFull) as error:
                lost.append(written)
                problems.append(f"Segment {written.id} is unusable ({error.code}) and is made again.")
            else:
                parts.append(part.marked(dead.get(written.id)))
                if self._root.shared:
                    self._opened.add(written.id)
        return replace(opened, parts=tuple(parts), problems=tuple(problems)), lost

    def part(self, identity: Identity, state: State) -> EnginePart:
        """What a state sees of a set in the engine, which is not asked for anything."""
        assert self._engine is not None
        return EnginePart(self._engine, identity, state.segments, unpacked(state.dead))

    def numbers(self) -> dict[Identity, int]:
        """The number of the newest state of every set."""
        with self._registry.read() as session:
            rows = session.execute(select(*IDENTITY, VectorSetRow.number).where(newest()))
            return {Identity(*row[:-1]): row.number for row in rows}

    def behind(self) -> dict[Identity, int]:
        """How many changes of the gallery each set does not have yet in what is sealed of it."""
        with self._registry.read() as session:
            rows = session.execute(select(*IDENTITY, VectorSetRow.upto_change).where(newest())).all()
            counts = {
                change: session.scalar(select(func.count()).where(GalleryChangeRow.change > change)) or 0
                for change in {row.upto_change for row in rows}
            }
        return {Identity(*row[:-1]): counts[row.upto_change] for row in rows}

    def is_near(self, identity: Identity, most: int) -> bool:
        """Whether a set was registered, and at most so many changes are not in what is sealed of it.

        Raises as `state`.
        """
        state, change = self.state(identity), GalleryChangeRow.change
        later = select(change).where(change > state.upto_change).limit(most + 1)
        with self._registry.read() as session:
            return (
                state.number > 0 and (session.scalar(select(func.count()).select_from(later.subquery())) or 0) <= most
            )

    def register(self, identity: Identity, base: State, new: State) -> State | None:
        """Make `new` (its number does not count) the newest state of a set; returns it as registered.

        Returns None, and registers nothing, when `base` is not the newest any more, another process has removed
        files of a segment, which had no row until now, or the version was pruned.
        """
        known = {written.id for written in base.segments}
        files = {written.id: self._root.path(f"{SEGMENTS}/{written.id}") for written in new.segments}
        needed = [files[id] for id in files if not is_run(id) or id not in known]  # a registered run has no marker
        with self._registry.begin() as session:  # files are only removed by the one writer: see `remove_unreferenced`
            if session.scalar(select(VersionRow.pruned_at).where(VersionRow.number == identity.version)):
                return None
            last = _newest(session, identity)
            self._usable(session, last)
            if (last.number if last else 0) != base.number or not all(path.exists() for path in needed):
                return None
            values = {**asdict(identity), "upto_change": new.upto_change, "dead": new.dead}
            segments = [asdict(written) for written in new.segments]
            row = insert(VectorSetRow).values(**values, segments=segments).returning(VectorSetRow.number)
            number = session.scalars(row).one()
        # The store took the files before, but until the row was there another machine may have removed them again
        for id, path in files.items():
            if is_run(id):
                path.unlink(missing_ok=True)  # its marker
            elif id not in known:
                with suppress(StoreUnavailable, FileNotFoundError):
                    self._root.commit(f"{SEGMENTS}/{id}")
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
        with self._registry.read() as session:
            rows = session.execute(query).all()
            old = [rows[at].number for at in range(KEPT, len(rows)) if rows[at - 1].old or seconds <= 0]
            named = _named(session, VectorSetRow.number.in_(old))
            unnamed = named - _named(session, *_same(identity), VectorSetRow.number.not_in(old))
        runs = [_run(id) for id in unnamed if id.startswith(f"{self._place}-")]
        if self._engine is not None and runs:  # the rows first: nothing else would tell which these are
            self._engine.remove(identity, runs)
        if old:
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
            unnamed = ids - runs - _named(session)
        for id in sorted(unnamed):
            self._root.forget(f"{SEGMENTS}/{id}")
            with self._registry.begin() as session:  # the only writer: nothing is registered meanwhile
                named = id in _named(session)
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
            ids = _named(session, *_same(identity))
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
            left = self._opened - _named(session)
        self.remove_unreferenced(id for id in left if self._root.path(f"{SEGMENTS}/{id}").exists())
        self._opened -= left

    def _remove_run(self, id: str) -> bool:
        """Remove the rows of a run that no state names; its marker, without which it is not registered, first."""
        marker = self._root.path(f"{SEGMENTS}/{id}")
        if self._engine is None or not id.startswith(f"{self._place}-") or not marker.exists():
            return False
        identity = Identity(**json.loads(marker.read_bytes()))
        if not id.endswith(_DROPPED):
            with self._registry.begin() as session:
                if id in _named(session, *_same(identity)):
                    marker.unlink(missing_ok=True)
                    return False
                marker = marker.rename(marker.with_name(f"{id}{_DROPPED}"))
        self._engine.remove(identity, [_run(id)])
        marker.unlink(missing_ok=True)
        return True

    def _usable(self, session: Session, row: VectorSetRow | None) -> State:
        """The state of a row, with nothing in it below what was pruned. Raises `EngineMismatch` for another place's."""
        if row is None:
            return NOTHING
        if (found := place_of(row.segments)) not in (None, self._place):
            there = f"Vectors are sealed in {found} now, not in {self._place}"
            raise EngineMismatch(f"{there}: PICTOGLOT_INDEX must be the same.")
        return State(row.number, 0) if 0 < row.upto_change < pruned_upto(session) else _state(row)


def _run(id: str) -> int:
    return int(id.partition("-")[2].removesuffix(_DROPPED))


def _same(identity: Identity) -> tuple[ColumnElement[bool], ...]:
    return tuple(getattr(VectorSetRow, name) == value for name, value in asdict(identity).items())


def _newest(session: Session, identity: Identity) -> VectorSetRow | None:
    query = select(VectorSetRow).where(*_same(identity)).order_by(VectorSetRow.number.desc())
    return session.scalars(query.limit(1)).first()


def _named(session: Session, *where: ColumnElement[bool]) -> set[str]:
    """The segments and runs that states name."""
    rows = session.scalars(select(VectorSetRow.segments).where(*where))
    return {written["id"] for segments in rows for written in segments}


def _state(row: VectorSetRow) -> State:
    return State(row.number, row.upto_change, tuple(Written(**written) for written in row.segments), row.dead)
