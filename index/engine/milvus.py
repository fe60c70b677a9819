"""Vectors in Milvus (`pip install pictoglot[milvus]`), for galleries beyond one PostgreSQL: a collection for each set.

Milvus chooses its index and rounds as it likes, so its candidates never count as exact; they come with their vectors.
"""

import json
import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any, Literal

import numpy as np

from index.engine import EngineView, FoundRows, make_records, name_table
from index.vectors import Candidates, Entry, Identity, Matrix, Vector, VectorKeys, VectorRows
from store.errors import IndexLost, IndexUnavailable
from store.files import pass_fault_point

_SECONDS = 5.0  # that one request may take
_INSERT = 1_000  # rows in one request
_PAGE = 1_000  # rows that are read at a time
_MAX_LIMIT = 16_384  # the most hits that Milvus returns
_LONGEST = 65_535  # bytes of a text in Milvus
_CANNOT_CONNECT, _WAITED = 2, "Retry"  # code and word of errors that the client makes itself
_LOGGED = 500  # characters of a reason
_AWAY = "Milvus does not answer, so that vectors cannot be searched."
_COUNT = "count(*)"
_log = logging.getLogger(__name__)


class Outage:
    """Outage of a server: until it answers again, one request in `seconds` asks it, and others fail at once."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._until: float | None = None  # None while it answers
        self._lock = Lock()

    @property
    def is_active(self) -> bool:
        """Whether nobody may ask now."""
        until = self._until
        return until is not None and self._clock() < until

    def can_ask(self) -> bool:
        """Whether this caller may ask; during an outage the others may not, as long as it waits for the answer."""
        with self._lock:
            if self.is_active:
                return False
            if self._until is not None:
                self._until = self._clock() + self._seconds
            return True

    def begin(self) -> None:
        """Note that a request was not answered."""
        with self._lock:
            self._until = self._clock() + self._seconds

    def end(self) -> None:
        """Note that a request was answered."""
        self._until = None


class Milvus:
    """The `Engine` at an address, or in a file of milvus-lite, which one process at a time can open.

    It connects when it is first needed, so that a process can start while Milvus is away and serve later.
    """

    name = "milvus"
    scan_limit = 0

    def __init__(self, uri: str) -> None:
        self.lost = set[Identity]()
        self._uri = uri
        self._outage = Outage(_SECONDS)
        self._connected: Any = None
        self._loaded: set[str] = set()
        self._lock = Lock()

    def add(self, identity: Identity, run: int, rows: VectorRows) -> None:
        with self._call(identity) as client:
            name = self._ensure_collection(client, identity)
            for start in range(0, len(rows), _INSERT):
                values = make_records(run, rows, start, _INSERT)
                for row in values:
                    row["vector"] = row["vector"].astype(np.float32).tolist()
                client.insert(name, values, timeout=_SECONDS)
                pass_fault_point("engine.added")

    def build_index(self, identity: Identity, queries: Matrix | None = None) -> None:
        with self._call(identity) as client:
            client.flush(self._ensure_collection(client, identity), timeout=12 * _SECONDS)

    def find_nearest(
        self, view: EngineView, query: Vector, limit: int, hits: int, allowed: VectorKeys | None
    ) -> Candidates:
        with self._call(view.identity) as client:
            (found,) = client.search(
                self._load_collection(client, view.identity),
                [query.tolist()],
                limit=min(limit, _MAX_LIMIT),
                filter=_filter(view) if allowed is None else f"{_filter(view)} and key in {allowed.tolist()}",
                output_fields=_list_columns(True),
                anns_field="vector",
                timeout=_SECONDS,
            )
        scores = np.array([hit["distance"] for hit in found], dtype=np.float32)
        return _parse([hit["entity"] for hit in found], view.identity.dimension).make_candidates(scores, exact=False)

    def get_depth(self, view: EngineView, hits: int) -> int | None:
        return None

    def find_rows(
        self, view: EngineView, column: Literal["key", "picture"], values: Sequence[Any], *, vectors: bool = True
    ) -> FoundRows:
        found: list[Any] = []
        for start in range(0, len(values), _PAGE):
            few = json.dumps(list(values[start : start + _PAGE]), ensure_ascii=False)
            with self._call(view.identity) as client:
                found += client.query(
                    self._load_collection(client, view.identity),
                    filter=f"{_filter(view)} and {column} in {few}",
                    output_fields=_list_columns(vectors),
                    timeout=_SECONDS,
                )
        return _parse(found, view.identity.dimension)

    def read_pages(self, view: EngineView) -> Iterator[FoundRows]:
        with self._call(view.identity) as client:
            pages = client.query_iterator(
                self._load_collection(client, view.identity),
                batch_size=_PAGE,
                filter=_filter(view),
                output_fields=_list_columns(True),
                timeout=_SECONDS,
            )
            while page := pages.next():
                yield _parse(page, view.identity.dimension)
            pages.close()

    def count(self, view: EngineView) -> int:
        with self._call(view.identity) as client:
            name = self._load_collection(client, view.identity)
            found = client.query(name, filter=_filter(view), output_fields=[_COUNT], timeout=12 * _SECONDS)
        return int(found[0][_COUNT])

    def remove(self, identity: Identity, runs: Collection[int], ids: Collection[int] = ()) -> None:
        with self._call(identity) as client:
            if not client.has_collection(_name_collection(identity), timeout=_SECONDS):
                return
            name, rows = self._load_collection(client, identity), list(ids)
            if runs:
                client.delete(name, filter=f"run in {list(runs)}", timeout=_SECONDS)
            for start in range(0, len(rows), _INSERT):
                client.delete(name, ids=rows[start : start + _INSERT], timeout=_SECONDS)

    def drop(self, identity: Identity) -> None:
        with self._call() as client:
            if client.has_collection(_name_collection(identity), timeout=_SECONDS):
                client.drop_collection(_name_collection(identity), timeout=_SECONDS)
        self._loaded.discard(_name_collection(identity))

    def describe(self) -> str:
        with self._call() as client:
            return f"milvus {client.get_server_version(timeout=_SECONDS)}"

    def close(self) -> None:
        with self._lock:
            if self._connected is not None:
                self._connected.close()
                self._connected = None
                self._loaded.clear()

    def _ensure_collection(self, client: Any, identity: Identity) -> str:
        from pymilvus import DataType

        name = _name_collection(identity)
        if name not in self._loaded and not client.has_collection(name, timeout=_SECONDS):
            schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
            for number in ("id", "run", "key"):
                schema.add_field(number, DataType.INT64, is_primary=number == "id")
            for text in ("picture", "text"):
                schema.add_field(text, DataType.VARCHAR, max_length=_LONGEST)
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=identity.dimension)
            parameters = client.prepare_index_params()
            parameters.add_index("vector", index_type="AUTOINDEX", metric_type="IP")
            client.create_collection(
                name, schema=schema, index_params=parameters, consistency_level="Strong", timeout=_SECONDS
            )
        return self._load_collection(client, identity)

    def _load_collection(self, client: Any, identity: Identity) -> str:
        name = _name_collection(identity)
        if name not in self._loaded:
            client.load_collection(name, timeout=12 * _SECONDS)
            self._loaded.add(name)
        return name

    @contextmanager
    def _call(self, identity: Identity | None = None) -> Iterator[Any]:
        from grpc import RpcError
        from pymilvus.exceptions import MilvusException

        try:
            yield self._connect()
            self._outage.end()
        except (MilvusException, RpcError, OSError) as error:
            raise self._translate_error(error, identity) from error

    def _connect(self) -> Any:
        from pymilvus import MilvusClient

        if self._outage.is_active:
            raise IndexUnavailable(_AWAY)
        with self._lock:
            if not self._outage.can_ask():
                raise IndexUnavailable(_AWAY)
            if self._connected is None:
                try:
                    self._connected = MilvusClient(self._uri, timeout=_SECONDS)
                except BaseException:  # before the next thread gets the lock
                    self._outage.begin()
                    raise
            return self._connected

    def _translate_error(self, error: Exception, identity: Identity | None) -> IndexUnavailable:
        """Return our error: that nothing answered, a collection is not there any more, or Milvus has a reason."""
        from pymilvus.exceptions import ErrorCode, MilvusException

        code = error.code if isinstance(error, MilvusException) else None
        waited = code == ErrorCode.UNEXPECTED_ERROR and _WAITED in str(error)
        if not isinstance(code, int) or code == _CANNOT_CONNECT or waited:
            self._outage.begin()
            return IndexUnavailable(_AWAY)
        self._outage.end()
        self._loaded.clear()  # one may have been released, or dropped: each is looked for again
        if code == ErrorCode.COLLECTION_NOT_FOUND and identity is not None:
            self.lost.add(identity)
            return IndexLost("The collection of these vectors is not in Milvus any more; it is made again.")
        _log.warning("Milvus refused a request: %s", str(error)[:_LOGGED])
        return IndexUnavailable(f"Milvus refused a request ({code}); the log has the reason.")


def _name_collection(identity: Identity) -> str:
    return f"pictoglot_{name_table(identity)}"


def _filter(view: EngineView) -> str:
    runs = f"run in {list(view.runs)}"
    return f"{runs} and id not in {list(view.hidden)}" if view.hidden else runs


def _list_columns(vectors: bool) -> list[str]:
    return ["id", "key", "picture", "text", *(["vector"] if vectors else [])]


def _parse(found: Sequence[Any], dimension: int) -> FoundRows:
    ids = np.array([row["id"] for row in found], dtype=np.int64)
    keys = np.array([row["key"] for row in found], dtype=np.int64)
    vectors = np.array([row["vector"] for row in found if "vector" in row], dtype=np.float32).reshape(-1, dimension)
    return FoundRows(keys, [Entry(row["picture"], row["text"]) for row in found], vectors, ids)
