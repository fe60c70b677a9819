"""The engines that find the nearest vectors: what each can do, and which one the setting `INDEX` names.

Ids and final scores are the task of the caller.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]  # (n, dimension), rows of unit length
Vector = NDArray[np.float32]  # (dimension,)
Rows = NDArray[np.int64]
Scores = NDArray[np.float32]
_MILVUS = "milvus+"


@dataclass(frozen=True)
class Candidates:
    """Row numbers (c,) and the engine's own scores (c,), best first; c may be smaller than the requested `k`."""

    rows: Rows
    scores: Scores


class Index(Protocol):
    """An immutable index over the rows of one matrix. Searches are thread-safe."""

    @property
    def exact(self) -> bool:
        """Whether scores are inner products up to float32 rounding, so that no better row is missing."""
        ...

    def search(self, query: Vector, k: int, excluded: frozenset[int]) -> Candidates:
        """At most `k` rows with the highest inner product with `query`, each once and none in `excluded`."""
        ...


class Engine(Protocol):
    """Builds indexes, deterministically: equal matrices give equal answers."""

    def build(self, vectors: Matrix) -> Index:
        """An index over `vectors`, which the caller must not change afterwards."""
        ...


def open_engine(spec: str, threads: int = 1) -> Engine:
    """The engine for `faiss` or `milvus+URI`; `threads` are used to build an index.

    Raises `ValueError` for anything else, and `IndexUnavailable` when the package of Milvus is not installed.
    """
    # Both are imported late: they import this module, and Milvus is optional
    if spec == "faiss":
        from index.engine.faiss_engine import FaissEngine

        return FaissEngine(threads=threads)
    if spec.startswith(_MILVUS):
        from index.engine.milvus_engine import MilvusEngine

        return MilvusEngine(spec.removeprefix(_MILVUS))
    raise ValueError("INDEX must be `faiss` or `milvus+URI`")
