"""Puts what changed of a vector set into an engine, and tidies what no kept state sees. Registers nothing.

Run ids are drawn by chance. A marker under the data root is written before a run and removed when a state names it: so
the rows of a run whose process was killed are found and removed later.
"""

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace

from index.engine import ROWS_IN_A_RUN, RUN_BITS, Engine, View, run_of, run_with
from index.engine.part import EnginePart
from index.sealing import State
from index.segment import SEGMENTS, Columns, Written, merged
from index.tail import MemoryTail
from index.vectors import Entry, Identity, Tail, VectorSet
from model import storage
from model.data_root import DataRoot

MOST_RUNS = 256  # of a set: every search names them
_FOLDED = 0.75  # share of the runs, the smallest ones, that are written again as one
_WORTH = 0.5  # of the rows that these runs might have: with more, they are not written again
_BATCH = 1_000  # pictures that the engine is asked about at a time


class EngineSealing:
    """As `index.sealing.Sealing`: into one engine, with markers under `root`."""

    def __init__(self, engine: Engine, root: DataRoot, most_rows: int, most_runs: int = MOST_RUNS) -> None:
        self._engine, self._root = engine, root
        self._most_rows, self._most_runs = most_rows, most_runs
        self.made: set[str] = set()

    def sealed(self, vector_set: VectorSet) -> VectorSet:
        """The set with its tail in the engine. Pictures whose rows are still the same there are not written again."""
        part, tail = self._part(vector_set), vector_set.tail
        hidden, unchanged = self._compared(part, tail)
        keys, entries, vectors = tail.block()
        rows = [row for row, entry in enumerate(entries) if entry.picture not in unchanged]
        columns = Columns.sorted(keys[rows], [entries[row] for row in rows], vectors[rows])
        runs = (*part.runs, *self._added(vector_set.identity, columns))
        following = EnginePart(self._engine, vector_set.identity, runs, (*part.hidden, *hidden))
        return replace(vector_set, parts=(following,), tail=MemoryTail.empty(vector_set.identity.dimension))

    def tidied(self, vector_set: VectorSet, kept: Sequence[State]) -> VectorSet:
        """The sealed set without the rows that none of the `kept` states sees, and with fewer runs if these are many.

        Such rows are removed: nobody sees them, also if this set is never registered.
        """
        part = self._part(vector_set)
        seen = [(set(map(run_of, state.segments)), set(state.hidden)) for state in kept]
        gone = [id for id in part.hidden if not any(run_with(id) in runs and id not in hid for runs, hid in seen)]
        if gone:
            self._engine.remove(part.identity, (), gone)
            removed, lost = set(gone), Counter(map(run_with, gone))
            runs = tuple(replace(written, rows=written.rows - lost[run_of(written)]) for written in part.runs)
            hidden = tuple(id for id in part.hidden if id not in removed)
            part = EnginePart(self._engine, part.identity, runs, hidden)
        if len(part.runs) > self._most_runs:
            part = self._folded(part)
        return replace(vector_set, parts=(part,))

    def _part(self, vector_set: VectorSet) -> EnginePart:
        for part in vector_set.parts:
            assert isinstance(part, EnginePart)
            return part
        return EnginePart(self._engine, vector_set.identity)

    def _compared(self, part: EnginePart, tail: Tail) -> tuple[list[int], set[str]]:
        """The rows to hide of the pictures that changed, and those of these pictures that are the same as before."""
        hidden, unchanged, changed = list[int](), set[str](), part.changed_pictures
        for start in range(0, len(changed) if part.runs else 0, _BATCH):
            batch = changed[start : start + _BATCH]
            rows = self._engine.of(part.sealed, batch, vectors=False)
            before: dict[str, list[tuple[int, int, Entry]]] = {}
            for id, key, entry in zip(rows.ids.tolist(), rows.keys.tolist(), rows.entries, strict=True):
                before.setdefault(entry.picture, []).append((id, key, entry))
            for picture, found in before.items():
                now = {(row.key, row.entry) for row in tail.of(picture)}
                if now == {(key, entry) for _, key, entry in found}:
                    unchanged.add(picture)
                else:
                    hidden += [id for id, _, _ in found]
        return hidden, unchanged

    def _folded(self, part: EnginePart) -> EnginePart:
        """The smallest runs written again as one, without the rows that are hidden."""
        by_size = sorted(part.runs, key=lambda written: written.rows)
        small = by_size[: int(_FOLDED * len(by_size))]
        if sum(written.rows for written in small) > _WORTH * len(small) * self._most_rows:
            return part  # they are large already
        numbers = {run_of(written) for written in small}
        new, waiting = list[Written](), list[Columns]()
        for rows in self._engine.rows(View(part.identity, tuple(numbers), part.hidden, 0)):
            waiting.append(Columns.sorted(rows.keys, rows.entries, rows.vectors))
            if sum(len(columns.keys) for columns in waiting) >= self._most_rows:
                new += self._added(part.identity, merged(waiting))
                waiting = []
        new += self._added(part.identity, merged(waiting)) if waiting else []
        runs = (*(written for written in part.runs if written not in small), *new)
        hidden = tuple(id for id in part.hidden if run_with(id) not in numbers)
        return EnginePart(self._engine, part.identity, runs, hidden)

    def _added(self, identity: Identity, columns: Columns) -> list[Written]:
        written = []
        for start in range(0, len(columns.keys), ROWS_IN_A_RUN):
            rows = slice(start, start + ROWS_IN_A_RUN)
            some = Columns(columns.keys[rows], columns.entries[rows], columns.vectors[rows])
            run = secrets.randbits(RUN_BITS)
            id = f"{self._engine.name}-{run}"
            storage.write_json(self._root.path(f"{SEGMENTS}/{id}"), asdict(identity))
            self.made.add(id)
            self._engine.add(identity, run, some)
            written.append(Written(id, "", len(some.keys), int(some.keys[0]), int(some.keys[-1])))
        return written
