"""The protocol of engines that keep what is sealed outside of this process: PostgreSQL with pgvector, or Milvus.

Rows are added in runs. A run is invisible until a state of its set is registered that names it, so that a run of a
killed or overtaken indexer is in no answer, whenever it was written. Rows are never changed: a state also names the
rows that it does not see any more. So every view of a kept state answers the same for as long as it is kept.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from index.place import ENGINES
from index.segment import Columns, Written
from index.vectors import Entry, Identity, Keys, Matrix, Vector

FEW = 10_000  # allowed rows that are compared one by one instead of through the engine's index
_ROW_BITS = 20  # of the number of a row; the others are the run's
ROWS_IN_A_RUN = 1 << _ROW_BITS
RUN_BITS = 63 - _ROW_BITS

Ids = NDArray[np.int64]  # (n,)


@dataclass(frozen=True)
class Rows:
    """Rows of an engine; `vectors` is empty where nobody asked for them."""

    ids: Ids
    keys: Keys
    entries: list[Entry]
    vectors: Matrix  # (n, dimension)

    def take(self, kept: NDArray[np.int64]) -> "Rows":
        """Some of the rows, in this order."""
        return Rows(self.ids[kept], self.keys[kept], [self.entries[row] for row in kept], self.vectors[kept])


@dataclass(frozen=True)
class View:
    """What is seen of a set: the rows of these runs, except hidden ones; `count` of them."""

    identity: Identity
    runs: tuple[int, ...]
    hidden: tuple[int, ...]
    count: int


@dataclass(frozen=True)
class Nearest:
    """Rows near a query with the engine's own scores, best first. When `exact`, no better row is missing."""

    scores: NDArray[np.float32]
    rows: Rows
    exact: bool


class Engine(Protocol):
    """Where the rows of all sets are. Thread-safe; every method raises `IndexUnavailable` when it does not answer.

    `IndexLost` is raised where a table or collection is not there any more, and its set is put into `lost`.
    """

    lost: set[Identity]

    @property
    def name(self) -> str:
        """One of `place.ENGINES`."""
        ...

    @property
    def scan_limit(self) -> int:
        """Rows up to which all of a view are compared, so that its candidates are exact."""
        ...

    def add(self, identity: Identity, run: int, columns: Columns) -> None:
        """Add a run of at most `ROWS_IN_A_RUN` rows, durable when this returns; nobody sees it yet."""
        ...

    def settle(self, identity: Identity, queries: Matrix | None = None) -> None:
        """Make what was added quick to search; called once before a state that names it is registered.

        `queries` (q, dimension) are as people search; without them, recall is measured with made-up ones.
        """
        ...

    def nearest(self, view: View, query: Vector, limit: int, hits: int, allowed: Keys | None) -> Nearest:
        """At most `limit` rows with the highest inner products; `hits` of them are wanted."""
        ...

    def keyed(self, view: View, keys: Keys) -> Rows:
        """The rows with these keys."""
        ...

    def of(self, view: View, pictures: Sequence[str], *, vectors: bool = True) -> Rows:
        """The rows of these pictures."""
        ...

    def count(self, view: View) -> int:
        """How many rows there are of what is seen."""
        ...

    def texts(self, view: View) -> Iterator[str]:
        """The text of every row."""
        ...

    def rows(self, view: View) -> Iterator[Rows]:
        """All rows, some at a time."""
        ...

    def remove(self, identity: Identity, runs: Collection[int], ids: Collection[int] = ()) -> None:
        """Remove whole runs, and these rows of others; nothing happens if they are gone already."""
        ...

    def drop(self, identity: Identity) -> None:
        """Remove everything of a set."""
        ...

    def about(self) -> str:
        """Its name and release, for people."""
        ...

    def close(self) -> None:
        """Close the connections that are the engine's own."""
        ...


def is_run(id: str) -> bool:
    """Whether what a state names is a run in an engine, not a segment on disk."""
    return id.partition("-")[0] in ENGINES


def run_of(written: Written) -> int:
    """The number of a run."""
    return int(written.id.partition("-")[2])


def ids_of(run: int, rows: int) -> range:
    """The ids of the rows of a run."""
    return range(run << _ROW_BITS, (run << _ROW_BITS) + rows)


def run_with(id: int) -> int:
    """The run of a row."""
    return id >> _ROW_BITS
