"""Engines that keep what is sealed outside of this process (pgvector or Milvus), and a set's part there.

Rows are added in runs. A run is invisible until a state of its set is registered that names it, so that a run of a
killed or overtaken indexer is in no answer, whenever it was written. Rows are never changed: a state also names the
rows that it does not see any more. So every view of a kept state answers the same for as long as it is kept.
"""

import hashlib
import json
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from index.vectors import Candidates, Entry, Identity, Matrix, Vector, VectorKeys, VectorRows
from store.errors import IndexLost, IndexUnavailable

if TYPE_CHECKING:
    from index.set_states import PartRecord

FEW = 10_000  # allowed rows that are compared one by one instead of through the engine's index
_ROW_BITS = 20  # of the number of a row; the others are the run's
ROWS_IN_A_RUN = 1 << _ROW_BITS
RUN_BITS = 63 - _ROW_BITS
_BATCH = 1_000  # pictures in one request


@dataclass(frozen=True)
class FoundRows(VectorRows):
    """Rows that an engine has found, with its own `ids` (n,); `vectors` is empty where nobody asked for them."""

    ids: NDArray[np.int64]

    def make_candidates(self, scores: NDArray[np.float32], exact: bool) -> Candidates:
        return Candidates(scores, self.vectors, self.entries.__getitem__, exact)


@dataclass(frozen=True)
class EngineView:
    """What is seen of a set: the rows of these runs, at least one, except hidden ones; `count` of them."""

    identity: Identity
    runs: tuple[int, ...]
    hidden: tuple[int, ...]
    count: int


class Engine(Protocol):
    """Engine that has the rows of all sets. Thread-safe; each method raises `IndexUnavailable` when it does not answer.

    `IndexLost` is raised where a table or collection is not there any more, and its set is put into `lost`. `name` is
    one of `set_states.ENGINES`; up to `scan_limit` rows, all of a view are compared, so that its candidates are exact.
    """

    name: str
    scan_limit: int
    lost: set[Identity]

    def add(self, identity: Identity, run: int, rows: VectorRows) -> None:
        """Add a run of at most `ROWS_IN_A_RUN` rows, durable when this returns; nobody sees it yet."""

    def build_index(self, identity: Identity, queries: Matrix | None = None) -> None:
        """Make what was added quick to search; called once before a state that names it is registered.

        `queries` (q, dimension) are as people search; without them, recall is measured with generated ones.
        """

    def find_nearest(
        self, view: EngineView, query: Vector, limit: int, hits: int, allowed: VectorKeys | None
    ) -> Candidates:
        """Propose at most `limit` rows with the highest inner products by the engine; `hits` of them are wanted."""

    def get_depth(self, view: EngineView, hits: int) -> int | None:
        """Return how many candidates `find_nearest` looks at for so many hits; None if the engine decides, or scans."""

    def find_rows(
        self, view: EngineView, column: Literal["key", "picture"], values: Sequence[Any], *, vectors: bool = True
    ) -> FoundRows:
        """Return the rows with these keys, or of these pictures."""

    def read_pages(self, view: EngineView) -> Iterator[FoundRows]:
        """Yield all rows, some at a time."""

    def count(self, view: EngineView) -> int:
        """Count the rows of what is seen."""

    def remove(self, identity: Identity, runs: Collection[int], ids: Collection[int] = ()) -> None:
        """Remove whole runs, and these rows of others; nothing happens if they are gone already."""

    def drop(self, identity: Identity) -> None:
        """Remove everything of a set."""

    def describe(self) -> str:
        """Return its name and release, for people."""

    def close(self) -> None:
        """Close the connections that are the engine's own."""


def make_records(run: int, rows: VectorRows, start: int, count: int) -> list[dict[str, Any]]:
    """Make records of some rows of a run as an engine takes them, with their vectors as an array."""
    some = slice(start, start + count)
    each = zip(rows.keys[some].tolist(), rows.entries[some], rows.vectors[some].astype(np.float16), strict=True)
    return [
        {"id": (run << _ROW_BITS) + row, "run": run, "key": key, **entry._asdict(), "vector": vector}
        for row, (key, entry, vector) in enumerate(each, start)
    ]


def get_run(id: int) -> int:
    return id >> _ROW_BITS


def pack_ids(ids: Sequence[int]) -> bytes:
    """Pack ids of rows as the registry keeps them: those that a state does not see any more."""
    return zlib.compress(np.array(ids, dtype=np.int64).tobytes())


def unpack_ids(data: bytes) -> tuple[int, ...]:
    """Unpack ids of rows that a state does not see any more."""
    return tuple(np.frombuffer(zlib.decompress(data), dtype=np.int64).tolist())


def name_table(identity: Identity) -> str:
    """Return the name of the table or collection that holds a set."""
    return hashlib.sha256(json.dumps(asdict(identity), sort_keys=True).encode()).hexdigest()[:16]


@dataclass
class _HiddenPictures:
    """Names of hidden pictures in the order in which they came, and their rows as far as they are known.

    Views share it, as those of a tail share its log: each sees the names that there were when it was made.
    """

    places: dict[str, int] = field(default_factory=dict)
    ids: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)  # where the rows of each name end
    lock: Any = field(default_factory=RLock)
    asking: Lock = field(default_factory=Lock)  # of its own: a change of the gallery does not wait for the engine


class EnginePart:
    """A `Part` in an engine: the rows of `runs`, except those that the state hides, and those of pictures hidden since.

    Keeps none in memory; whatever reads rows raises `IndexUnavailable`.

    Pictures that changed since are hidden by name. The engine is asked which rows these are when a search needs it,
    once: so a change of the gallery costs no request, and works while the engine does not answer.
    """

    def __init__(
        self, engine: Engine, identity: Identity, runs: "tuple[PartRecord, ...]" = (), hidden: tuple[int, ...] = ()
    ) -> None:
        self.engine, self.identity, self.runs, self.hidden = engine, identity, runs, hidden
        self._names, self._length = _HiddenPictures(), 0

    @property
    def exact(self) -> bool:
        return self.sealed_view.count <= self.engine.scan_limit

    @property
    def sealed_view(self) -> EngineView:
        """What the state sees: also the pictures that are hidden by name."""
        count = sum(record.rows for record in self.runs) - len(self.hidden)
        return EngineView(self.identity, tuple(record.run for record in self.runs), self.hidden, count)

    @property
    def changed_pictures(self) -> list[str]:
        """Pictures that are hidden by name."""
        with self._names.lock:
            return list(islice(self._names.places, self._length))

    @property
    def count(self) -> int:
        """Number of rows; too high by what changed while the engine does not answer."""
        with suppress(IndexUnavailable):
            return self._view.count
        return self.sealed_view.count

    def get_depth(self, hits: int) -> int | None:
        return None if self.exact else self.engine.get_depth(self._view, hits)

    def find_candidates(self, query: Vector, limit: int, hits: int, allowed: VectorKeys | None = None) -> Candidates:
        """Return candidates; by an exact scan when few rows are allowed. Raises `IndexUnavailable`."""
        view = self._view
        if allowed is not None and len(allowed) <= max(FEW, limit):
            rows = self.engine.find_rows(view, "key", allowed.tolist())
            products = rows.vectors @ query
            order = np.argsort(-products, kind="stable")[:limit]
            scores = products[order].astype(np.float32)
            return Candidates(scores, rows.vectors[order], lambda number: rows.entries[order[number]], exact=True)
        return self.engine.find_nearest(view, query, limit, hits, allowed)

    def read_rows(self, picture: str) -> VectorRows:
        if self._is_hidden(picture):
            return VectorRows.make_empty(self.identity.dimension)
        return self.engine.find_rows(self.sealed_view, "picture", [picture]).sort_by_key()

    def list_entries(self, pictures: Collection[str]) -> list[tuple[int, Entry]]:
        seen = [picture for picture in pictures if not self._is_hidden(picture)]
        if not seen:
            return []
        rows = self.engine.find_rows(self.sealed_view, "picture", seen, vectors=False)
        return list(zip(rows.keys.tolist(), rows.entries, strict=True))

    def exclude_pictures(self, pictures: Collection[str]) -> "EnginePart":
        """Leave these rows out, without finding out whether it has any of them."""
        new = [picture for picture in pictures if not self._is_hidden(picture)]
        if not new:
            return self
        following = EnginePart(self.engine, self.identity, self.runs, self.hidden)
        with self._names.lock:
            newest = len(self._names.places) == self._length
            names = (
                self._names if newest else _HiddenPictures({name: at for at, name in enumerate(self.changed_pictures)})
            )
            for picture in new:
                names.places[picture] = len(names.places)
            following._names, following._length = names, len(names.places)
        return following

    def is_incomplete(self, known: Collection[int] = ()) -> bool:
        """Whether the engine has other rows than the state sees, as after a restored backup, in runs not `known`."""
        new = {run: record.rows for record in self.runs if (run := record.run) not in known}
        hidden = tuple(id for id in self.hidden if get_run(id) in new)
        view = EngineView(self.identity, tuple(new), hidden, sum(new.values()) - len(hidden))
        try:
            return bool(new) and self.engine.count(view) != view.count
        except IndexLost:
            return True

    @cached_property
    def _view(self) -> EngineView:
        """What this part sees, with the rows of hidden pictures looked up."""
        names, sealed = self._names, self.sealed_view
        if not self._length:
            return sealed
        with names.asking:
            changed = self.changed_pictures
            while len(names.ends) < self._length:
                batch = changed[len(names.ends) : len(names.ends) + _BATCH]
                rows = self.engine.find_rows(sealed, "picture", batch, vectors=False)
                ids: dict[str, list[int]] = {picture: [] for picture in batch}
                for id, entry in zip(rows.ids.tolist(), rows.entries, strict=True):
                    ids[entry.picture].append(id)
                for picture in batch:
                    names.ids += ids[picture]
                    names.ends.append(len(names.ids))
            known = names.ends[self._length - 1]
            return EngineView(sealed.identity, sealed.runs, (*self.hidden, *names.ids[:known]), sealed.count - known)

    def _is_hidden(self, picture: str) -> bool:
        return self._names.places.get(picture, self._length) < self._length
