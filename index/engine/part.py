"""The part of a vector set that is in an engine, seen at one state. Keeps no row in memory.

Pictures that changed since are hidden by name. The engine is asked which rows these are when a search needs it, once:
so a change of the gallery costs no request, and works while the engine does not answer.
"""

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock

import numpy as np

from index.engine import FEW, Engine, Rows, View, run_of, run_with
from index.errors import IndexLost, IndexUnavailable
from index.segment import Written
from index.vectors import Candidates, Entry, Identity, Keys, Row, Vector

_BATCH = 1_000  # pictures in one request


@dataclass
class _Names:
    """Names of hidden pictures in the order in which they came, and their rows as far as they are known.

    Views share it, as those of a tail share its log: each sees the names that there were when it was made.
    """

    names: list[str] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    ids: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)  # where the rows of each name end
    lock: Lock = field(default_factory=Lock)
    asking: Lock = field(default_factory=Lock)  # of its own: a change of the gallery does not wait for the engine

    def add(self, name: str) -> None:
        self.places[name] = len(self.names)
        self.names.append(name)


class EnginePart:
    """The rows of `runs`, except those that the state hides, and those of pictures hidden since."""

    def __init__(
        self, engine: Engine, identity: Identity, runs: tuple[Written, ...] = (), hidden: tuple[int, ...] = ()
    ) -> None:
        self.engine, self.identity, self.runs, self.hidden = engine, identity, runs, hidden
        self._names, self._length = _Names(), 0

    @property
    def exact(self) -> bool:
        """As `Part.exact`: a small set is scanned."""
        return self.sealed.count <= self.engine.scan_limit

    @property
    def sealed(self) -> View:
        """What the state sees: also the pictures that are hidden by name."""
        count = sum(written.rows for written in self.runs) - len(self.hidden)
        return View(self.identity, tuple(map(run_of, self.runs)), self.hidden, count)

    @property
    def changed_pictures(self) -> list[str]:
        """The pictures that are hidden by name."""
        return self._names.names[: self._length]

    @property
    def count(self) -> int:
        """As `Part.count`; too high by what changed while the engine does not answer."""
        with suppress(IndexUnavailable):
            return self._view.count
        return self.sealed.count

    def candidates(self, query: Vector, limit: int, hits: int, allowed: Keys | None = None) -> Candidates:
        """As `Part.candidates`; an exact scan when few rows are allowed. Raises `IndexUnavailable`."""
        view = self._view
        if allowed is not None and len(allowed) <= max(FEW, limit):
            rows = self.engine.keyed(view, allowed)
            products = rows.vectors @ query
            order = np.argsort(-products, kind="stable")[:limit]
            return _proposed(rows.take(order), products[order], exact=True)
        nearest = self.engine.nearest(view, query, limit, hits, allowed)
        return _proposed(nearest.rows, nearest.scores, nearest.exact)

    def of(self, picture: str) -> list[Row]:
        """As `Part.of`; raises `IndexUnavailable`."""
        if self._hides(picture):
            return []
        rows = self.engine.of(self.sealed, [picture])
        found = zip(rows.keys.tolist(), rows.entries, rows.vectors, strict=True)
        return sorted((Row(*row) for row in found), key=lambda row: row.key)

    def entries_of(self, pictures: Collection[str]) -> list[tuple[int, Entry]]:
        """As `Part.entries_of`; raises `IndexUnavailable`."""
        seen = [picture for picture in pictures if not self._hides(picture)]
        if not seen:
            return []
        rows = self.engine.of(self.sealed, seen, vectors=False)
        return list(zip(rows.keys.tolist(), rows.entries, strict=True))

    def without(self, pictures: Collection[str]) -> "EnginePart":
        """As `Part.without`, but it does not find out whether it has any of them."""
        new = [picture for picture in pictures if not self._hides(picture)]
        if not new:
            return self
        following = EnginePart(self.engine, self.identity, self.runs, self.hidden)
        with self._names.lock:
            newest = len(self._names.names) == self._length
            names = self._names if newest else self._copy()
            for picture in new:
                names.add(picture)
            following._names, following._length = names, len(names.names)
        return following

    def texts(self) -> Iterator[str]:
        """As `Part.texts`; raises `IndexUnavailable`."""
        return self.engine.texts(self._view)

    @cached_property
    def _view(self) -> View:
        """What this part sees, with the rows of hidden pictures looked up."""
        names, sealed = self._names, self.sealed
        with names.asking:
            while len(names.ends) < self._length and sealed.runs:
                batch = names.names[len(names.ends) : min(len(names.ends) + _BATCH, self._length)]
                rows = self.engine.of(sealed, batch, vectors=False)
                ids: dict[str, list[int]] = {picture: [] for picture in batch}
                for id, entry in zip(rows.ids.tolist(), rows.entries, strict=True):
                    ids[entry.picture].append(id)
                for picture in batch:
                    names.ids += ids[picture]
                    names.ends.append(len(names.ids))
            known = names.ends[self._length - 1] if self._length and sealed.runs else 0
            hidden = (*self.hidden, *names.ids[:known])
        return View(sealed.identity, sealed.runs, hidden, sealed.count - known)

    def _hides(self, picture: str) -> bool:
        return self._names.places.get(picture, self._length) < self._length

    def _copy(self) -> _Names:
        copy = _Names()
        for name in self.changed_pictures:
            copy.add(name)
        return copy


class Presence:
    """Whether an engine has the rows that the registry says it has: not after a backup of one of the two was restored.

    A table may also have been emptied or dropped. What a state names is counted when it is first seen, and again when a
    search has found that something is not there; after a change only new runs are.
    """

    def __init__(self, engine: Engine | None) -> None:
        self._engine = engine
        self._complete: dict[Identity, set[int]] = {}

    def lost(self, part: EnginePart) -> bool:
        """As `missing`; False while the engine does not answer, so that the next call asks it again."""
        with suppress(IndexUnavailable):
            return self.missing(part)
        return False

    def missing(self, part: EnginePart) -> bool:
        """Whether there are fewer or more rows than the state of this part sees. Raises `IndexUnavailable`."""
        engine, identity = self._engine, part.identity
        assert engine is not None
        if identity in engine.lost:
            self.recount(identity)
        known = self._complete.get(identity, set())
        new = {run: written.rows for written in part.runs if (run := run_of(written)) not in known}
        hidden = tuple(id for id in part.hidden if run_with(id) in new)
        view = View(identity, tuple(new), hidden, sum(new.values()) - len(hidden))
        try:
            if new and engine.count(view) != view.count:
                return True
        except IndexLost:
            return True
        self._complete[identity] = {run_of(written) for written in part.runs}
        if new:
            engine.lost.discard(identity)
        return False

    def recount(self, identity: Identity) -> None:
        """Count everything of a set at the next call."""
        self._complete.pop(identity, None)


def _proposed(rows: Rows, scores: Vector, exact: bool) -> Candidates:
    return Candidates(scores.astype(np.float32), rows.vectors, lambda number: rows.entries[number], exact)
