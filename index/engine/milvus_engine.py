"""Milvus, for galleries that are too large for the cores of one machine. Proposes candidates; computes no final scores.

Optional (`pip install pictoglot[milvus]`). A collection is named after the hash of its matrix, so that the processes of
a deployment share it and a restart finds it again. The operator drops collections that no generation needs any more.
The matrix is also kept in this process, because scores are computed here: Milvus saves search time, not memory.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from index.engine import Candidates, Engine, Index, Matrix, Vector
from index.engine.faiss_engine import FlatIndex
from index.errors import IndexUnavailable

_PREFIX = "pictoglot_"
_INSERT_ROWS = 1_000  # in one request
_MAX_LIMIT = 16_384  # the most hits that Milvus returns


class MilvusEngine(Engine):
    """Builds collections at a Milvus address, or in a file of milvus-lite; raises `IndexUnavailable` when it cannot.

    It connects when it first builds, so that the process can start while Milvus is unavailable and serve later.
    """

    def __init__(self, uri: str) -> None:
        try:
            from pymilvus.exceptions import MilvusException
        except ImportError as error:
            raise IndexUnavailable("INDEX=milvus needs the package: pip install pictoglot[milvus]") from error
        self._uri = uri
        self._failure: type[Exception] = MilvusException

    @cached_property
    def _client(self) -> Any:
        from pymilvus import MilvusClient

        return MilvusClient(self._uri)

    def build(self, vectors: Matrix) -> Index:
        """As `Engine.build`; reuses a complete collection with the same content."""
        if not len(vectors):
            return FlatIndex(vectors)
        name = _PREFIX + hashlib.sha256(np.ascontiguousarray(vectors).tobytes()).hexdigest()[:32]
        try:
            if not self._complete(name, len(vectors)):
                self._fill(name, vectors)
            self._client.load_collection(name)
        except self._failure as error:
            raise IndexUnavailable("Milvus cannot store the vectors") from error
        return MilvusIndex(self._client, name, len(vectors), self._failure)

    def _complete(self, name: str, count: int) -> bool:
        if not self._client.has_collection(name):
            return False
        return int(self._client.get_collection_stats(name)["row_count"]) == count

    def _fill(self, name: str, vectors: Matrix) -> None:
        from pymilvus import DataType

        if self._client.has_collection(name):
            self._client.drop_collection(name)  # incomplete: its process was killed while filling it
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("row", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
        parameters = self._client.prepare_index_params()
        parameters.add_index("vector", index_type="AUTOINDEX", metric_type="IP")
        self._client.create_collection(name, schema=schema, index_params=parameters, consistency_level="Strong")
        for start in range(0, len(vectors), _INSERT_ROWS):
            batch = vectors[start : start + _INSERT_ROWS]
            rows = [{"row": row, "vector": vector.tolist()} for row, vector in enumerate(batch, start)]
            self._client.insert(name, rows)
        self._client.flush(name)


@dataclass(frozen=True)
class MilvusIndex(Index):
    """One collection. Treated as approximate, because Milvus chooses the type of index."""

    client: Any
    name: str
    count: int
    failure: type[Exception]
    exact: bool = False

    def search(self, query: Vector, k: int, excluded: frozenset[int]) -> Candidates:
        """As `Index.search`; raises `IndexUnavailable` when Milvus does not answer."""
        condition = f"row not in {sorted(excluded)}" if excluded else ""
        limit = min(k, self.count, _MAX_LIMIT)
        try:
            (hits,) = self.client.search(
                self.name, [query.tolist()], limit=limit, filter=condition, output_fields=["row"], anns_field="vector"
            )
        except self.failure as error:
            raise IndexUnavailable("Milvus does not answer") from error
        rows = np.array([hit["row"] for hit in hits], dtype=np.int64)
        return Candidates(rows, np.array([hit["distance"] for hit in hits], dtype=np.float32))
