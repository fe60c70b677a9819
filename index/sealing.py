"""Sealers of what changed in a vector set: into segments, merged by size, or into an engine. They register nothing."""

import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from math import floor, log

import numpy as np

from index import ivf, segment
from index.engine import ROWS_IN_A_RUN, RUN_BITS, Engine, EnginePart, EngineView, get_run, pack_ids, unpack_ids
from index.gallery import Gallery
from index.segment import SEGMENTS, Segment
from index.segment_files import StoredRows, pack_dead
from index.set_states import PartRecord, SealedState
from index.vectors import Entry, Identity, Matrix, MemoryTail, Part, VectorRows, VectorSet
from store import files
from store.data_root import DataRoot
from store.errors import IndexFileCorrupt

_TIER_SIZE = 4  # segments of about one size that are merged, and how much larger the next size is
_REST_SHARE = 0.25  # of the largest segment: when the others have as many rows together, all become one
_DEAD_SHARE = 0.25  # share of dead rows with which a segment is written again
_ATTEMPTS = 3  # to write a segment, while other processes remove its files
MOST_RUNS = 256  # of a set: every search names them
_MERGED_SHARE = 0.75  # share of the runs, the smallest ones, that are written again as one
_FULL_SHARE = 0.5  # of the rows that these runs might have: with more, they are not written again
_BATCH = 1_000  # pictures that the engine is asked about at a time


def sample_queries(gallery: Gallery, identity: Identity) -> Matrix | None:
    """Return captions as people search with, for the set of pictures; None without enough of them."""
    vectors = gallery.list_newest_vectors(ivf.QUERIES, identity.fingerprint) if identity.kind == "pictures" else []
    fitting = [vector for vector in vectors if len(vector) == identity.dimension]
    return np.stack(fitting) if len(fitting) == ivf.QUERIES else None


def extract_state(vector_set: VectorSet) -> SealedState:
    """Return what of a set is sealed, and which of these rows have been replaced or deleted."""
    for part in vector_set.parts:
        if isinstance(part, EnginePart):
            return SealedState(vector_set.state, vector_set.change, part.runs, pack_ids(part.hidden))
    parts = [part for part in vector_set.parts if isinstance(part, Segment)]
    dead = {part.record.id: ~part.alive for part in parts if part.alive is not None and not part.alive.all()}
    records = tuple(part.record for part in parts)
    return SealedState(vector_set.state, vector_set.change, records, pack_dead(dead))


class SegmentSealer:
    """Sealer into segments under the data root. The smallest size is what is sealed together: `seal_at` rows.

    `new_ids` are the segments written on the way to a state; not all of them are in it.
    """

    def __init__(self, gallery: Gallery, seal_at: int, most: int) -> None:
        self._gallery, self._root = gallery, gallery.root
        self._seal_at, self._most = seal_at, most
        self.new_ids: set[str] = set()

    def seal_tail(self, vector_set: VectorSet) -> VectorSet:
        """Seal the tail; if more follow at once, without an index, as the segment is merged then."""
        rows = vector_set.tail.read_all_rows()
        if not len(rows):
            return vector_set
        follows = len(rows) >= self._most or bool(_list_bare(vector_set.parts))
        part = self._write_segment(vector_set.identity, rows, scan=follows)
        tail = MemoryTail.make_empty(vector_set.identity.dimension)
        return replace(vector_set, parts=(*vector_set.parts, part), tail=tail)

    def merge_parts(self, vector_set: VectorSet, kept_states: Sequence[SealedState]) -> VectorSet:
        """Merge segments, so that the set has fewer; those of `kept_states` stay on the disk."""
        parts: list[Part] = [part for part in vector_set.parts if part.count]
        while group := self._choose_merge(parts):
            rows = StoredRows.join(self._read_verified(group))
            parts = [part for part in parts if part not in group]
            parts.append(self._write_segment(vector_set.identity, rows))
        return replace(vector_set, parts=tuple(parts))

    def drop_dead_rows(self, vector_set: VectorSet, kept_states: Sequence[SealedState]) -> VectorSet:
        """Write every segment that has dead rows again without them."""
        parts = list[Part]()
        for part in vector_set.parts:
            if isinstance(part, Segment) and part.count < len(part.keys):
                parts += [self._write_segment(vector_set.identity, *self._read_verified([part]))] if part.count else []
            else:
                parts.append(part)
        return replace(vector_set, parts=tuple(parts))

    def _read_verified(self, segments: Sequence[Segment]) -> list[StoredRows]:
        """Read the living rows of each, after every byte is hashed: what is damaged must not get a new hash.

        Raises `IndexFileCorrupt`; whoever opens them again finds out which. What was written here has just been hashed,
        and stays mapped where a sweeper removed it, who takes what no state has named for an hour for left over.
        """
        older = [each for each in segments if each.record.id not in self.new_ids]
        if damaged := [each for each in older if not segment.is_intact(self._root, each.record)]:
            raise IndexFileCorrupt(f"{len(damaged)} segments were damaged after they were verified")
        if not all(each.is_on_disk(self._root) for each in older):
            raise IndexFileCorrupt("another process has written a segment again")
        return [each.read_all_rows() for each in segments]

    def _write_segment(self, identity: Identity, rows: VectorRows | StoredRows, *, scan: bool = False) -> Segment:
        """Write a segment and open it; write it again when another process removes it before it is registered."""
        queries = sample_queries(self._gallery, identity)
        for _ in range(_ATTEMPTS):
            with suppress(FileNotFoundError, IndexFileCorrupt):
                record = segment.write(self._root, identity, rows, queries, scan)
                self.new_ids.add(record.id)
                return segment.read(self._root, record, identity)
        raise IndexFileCorrupt("the files of a new segment cannot be read, or are removed all the time")

    def _choose_merge(self, parts: Iterable[Part]) -> list[Segment]:
        """Choose segments to be written as one; none when there is nothing to merge.

        Those that have no index because they are to be merged, or one with many dead rows, or enough of one size; and
        with them all that are smaller. To find the ten nearest, the index of a part searches about as many lists as
        that of the whole: many of a small one, which has only one or two pictures of a kind.
        """
        segments = sorted((part for part in parts if isinstance(part, Segment)), key=lambda part: part.count)
        if bare := _list_bare(segments):
            return [part for part in segments if part.count <= sum(each.count for each in bare)]
        tiers = [max(-1, floor(log(part.count / self._seal_at, _TIER_SIZE))) for part in segments]
        for part in segments:
            if len(part.keys) - part.count > max(_DEAD_SHARE * len(part.keys), 1):
                return [part]
        if full := [tier for tier in tiers if tiers.count(tier) >= _TIER_SIZE]:
            return segments[: len(tiers) - tiers[::-1].index(full[0])]
        rest = sum(part.count for part in segments[:-1])
        indexed = bool(segments) and not segments[-1].exact
        return segments if indexed and rest >= max(1, _REST_SHARE * segments[-1].count) else []


def _list_bare(parts: Iterable[Part]) -> list[Segment]:
    """List the segments that wait to be merged, without an index."""
    return [part for part in parts if isinstance(part, Segment) and part.exact and len(part.keys) > ivf.SCAN_LIMIT]


class EngineSealer:
    """Sealer into an engine.

    Run ids are drawn by chance. A marker under `root` is written before a run and removed when a state names it: so
    the rows of a run whose process was killed are found and removed later.
    """

    def __init__(self, engine: Engine, root: DataRoot, most_rows: int, most_runs: int = MOST_RUNS) -> None:
        self._engine, self._root = engine, root
        self._most_rows, self._most_runs = most_rows, most_runs
        self.new_ids: set[str] = set()

    def seal_tail(self, vector_set: VectorSet) -> VectorSet:
        """Seal the tail. Pictures whose rows are still the same in the engine are not written again."""
        part, tail = self._get_part(vector_set), vector_set.tail
        hidden, unchanged = self._find_hidden_rows(part, tail)
        rows = tail.read_all_rows()
        new = [row for row, entry in enumerate(rows.entries) if entry.picture not in unchanged]
        added = self._add_runs(part.identity, rows.take(np.array(new, dtype=np.int64)))
        following = EnginePart(self._engine, part.identity, (*part.runs, *added), (*part.hidden, *hidden))
        return replace(vector_set, parts=(following,), tail=MemoryTail.make_empty(vector_set.identity.dimension))

    def merge_parts(self, vector_set: VectorSet, kept_states: Sequence[SealedState]) -> VectorSet:
        """Remove rows that none of the `kept_states` sees, and merge small runs if there are many.

        Such rows are removed: nobody sees them, also if this set is never registered.
        """
        part = self._get_part(vector_set)
        seen = [({each.run for each in state.segments}, set(unpack_ids(state.dead))) for state in kept_states]
        if unseen := {id for id in part.hidden if not any(get_run(id) in runs and id not in hid for runs, hid in seen)}:
            self._engine.remove(part.identity, (), sorted(unseen))
            lost = Counter(map(get_run, unseen))
            runs = tuple(replace(record, rows=record.rows - lost[record.run]) for record in part.runs)
            part = EnginePart(self._engine, part.identity, runs, tuple(id for id in part.hidden if id not in unseen))
        if len(part.runs) > self._most_runs:
            part = self._merge_small_runs(part)
        return replace(vector_set, parts=(part,))

    def drop_dead_rows(self, vector_set: VectorSet, kept_states: Sequence[SealedState]) -> VectorSet:
        """Remove single rows from the engine, as soon as no kept state sees them."""
        return self.merge_parts(vector_set, kept_states)

    def _get_part(self, vector_set: VectorSet) -> EnginePart:
        for part in vector_set.parts:
            assert isinstance(part, EnginePart)
            return part
        return EnginePart(self._engine, vector_set.identity)

    def _find_hidden_rows(self, part: EnginePart, tail: MemoryTail) -> tuple[list[int], set[str]]:
        """Find the rows to hide of the pictures that changed, and those of these pictures that are as before."""
        hidden, unchanged, changed = list[int](), set[str](), part.changed_pictures
        for start in range(0, len(changed) if part.runs else 0, _BATCH):
            rows = self._engine.find_rows(part.sealed_view, "picture", changed[start : start + _BATCH], vectors=False)
            before: dict[str, list[tuple[int, int, Entry]]] = {}
            for id, key, entry in zip(rows.ids.tolist(), rows.keys.tolist(), rows.entries, strict=True):
                before.setdefault(entry.picture, []).append((id, key, entry))
            for picture, found in before.items():
                if {*tail.list_entries([picture])} == {(key, entry) for _, key, entry in found}:
                    unchanged.add(picture)
                else:
                    hidden += [id for id, _, _ in found]
        return hidden, unchanged

    def _merge_small_runs(self, part: EnginePart) -> EnginePart:
        """Write the smallest runs again as one, without the rows that are hidden."""
        by_size = sorted(part.runs, key=lambda record: record.rows)
        small = by_size[: int(_MERGED_SHARE * len(by_size))]
        if sum(record.rows for record in small) > _FULL_SHARE * len(small) * self._most_rows:
            return part  # they are large already
        numbers = {record.run for record in small}
        runs, waiting = [record for record in part.runs if record not in small], list[VectorRows]()
        for rows in self._engine.read_pages(EngineView(part.identity, tuple(numbers), part.hidden, 0)):
            waiting.append(rows)
            if sum(map(len, waiting)) >= self._most_rows:
                runs += self._add_runs(part.identity, VectorRows.merge(waiting))
                waiting = []
        runs += self._add_runs(part.identity, VectorRows.merge(waiting)) if waiting else []
        hidden = tuple(id for id in part.hidden if get_run(id) not in numbers)
        return EnginePart(self._engine, part.identity, tuple(runs), hidden)

    def _add_runs(self, identity: Identity, rows: VectorRows) -> list[PartRecord]:
        records, rows = list[PartRecord](), rows.sort_by_key()
        for start in range(0, len(rows), ROWS_IN_A_RUN):
            some = rows.take(np.arange(start, min(start + ROWS_IN_A_RUN, len(rows))))
            run = secrets.randbits(RUN_BITS)
            id = f"{self._engine.name}-{run}"
            files.write_json(self._root.locate(f"{SEGMENTS}/{id}"), asdict(identity))
            self.new_ids.add(id)
            self._engine.add(identity, run, some)
            records.append(PartRecord(id, "", len(some), int(some.keys[0]), int(some.keys[-1])))
        return records


Sealer = SegmentSealer | EngineSealer
