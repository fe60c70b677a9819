"""What finds the nearest vectors: one small protocol and its implementations. Scores and ids are the caller's."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]  # (n, dimension), rows of unit length
Vector = NDArray[np.float32]  # (dimension,)
Rows = NDArray[np.int64]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Candidates:
    """Row numbers (c,) and the engine's own scores (c,), best first; c may be smaller than what was asked for."""

    rows: Rows
    scores: Scores


class Index(Protocol):
    """An immutable index over the rows of one matrix. Safe to search from several threads at once."""

    @property
    def exact(self) -> bool:
        """Whether scores are inner products to float32 rounding, so that no better row is left out."""
        ...

    def search(self, query: Vector, k: int, excluded: frozenset[int]) -> Candidates:
        """At most `k` rows of highest inner product with `query`, none of them in `excluded`, no row twice."""
        ...


class Engine(Protocol):
    """Makes indexes. Building is deterministic: the same matrix answers the same."""

    def build(self, vectors: Matrix) -> Index:
        """An index over `vectors`, which must not change afterwards."""
        ...
