"""Vectors in the registry's own PostgreSQL, with the extension pgvector: a table of halves for each vector set.

Small sets are scanned, larger ones have an HNSW index. Reads go through the registry's pool of connections, writes
through it too, but do not take the writer's turn: nobody sees a run before it is registered.
"""

import json
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import numpy as np
import sqlalchemy as sql
from numpy.typing import NDArray
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.types import UserDefinedType

from index import ivf
from index.engine import EngineView, FoundRows, make_records, name_table
from index.ivf import RECALL
from index.vectors import Candidates, Entry, Identity, Matrix, Vector, VectorKeys, VectorRows
from store.errors import IndexLost, IndexUnavailable, RegistryUnavailable, StorageFull
from store.files import pass_fault_point
from store.registry import Registry
from store.settings import SettingsError

RecallNote = dict[str, Any]  # rows when recall was measured, and the curves by depth
SCAN_LIMIT = 1_000  # rows up to which a scan takes no more time than a search in the HNSW index (8 ms)
_HNSW = {"m": 16, "ef_construction": 128}
_DEEP, _DEEPEST = 400, 1_000  # candidates that HNSW looks at; pgvector's own limit
_TRIED = (40, 60, 100, 160, 250, 400, 630, 1_000)  # candidates for which recall is measured
_ASKED = ivf.QUERIES  # to measure it: a query misses all or nothing of what is far away in the graph, so not few
_GROWN = 2  # times the rows with which it is measured again
_MOST_DIMENSIONS = 4_000  # that pgvector indexes as halves
_INSERT = 500  # rows in one statement
_PAGE = 2_000  # rows that are read at a time
_NO_TABLE, _DISK_FULL = "42P01", "53100"  # SQLSTATE
_STOPPING = ("08", "57P")  # SQLSTATE of a connection that broke, and of a server that stops or starts
_OLDEST = (0, 8)  # the first with iterative scans, without which filters lose hits
_log = logging.getLogger(__name__)


class Extension(NamedTuple):
    """The extension pgvector of a database: its schema and its release."""

    schema: str
    release: str


def find_extension(registry: Registry) -> Extension | None:
    """Return the extension, if this database has it; change nothing. Raises `RegistryUnavailable`."""
    columns = "SELECT nspname, extversion FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace"
    with registry.read() as session:
        row = session.execute(sql.text(f"{columns} WHERE extname = 'vector'")).first()
    return None if row is None else Extension(*row)


def create_extension(registry: Registry) -> Extension:
    """Return the extension, made if it is not there; raises `SettingsError` when that is not possible or allowed."""
    if found := find_extension(registry):
        if tuple(int(part) for part in found.release.split(".")[:2]) < _OLDEST:
            raise SettingsError(f"PICTOGLOT_INDEX: pgvector {found.release} is too old; 0.8 or newer is needed.")
        return found
    try:
        with registry.begin() as session:
            session.execute(sql.text("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public"))
    except DBAPIError as error:
        raise SettingsError(
            "PICTOGLOT_INDEX: pgvector is not installed in this PostgreSQL, or not allowed to this user: an "
            "administrator can run CREATE EXTENSION vector."
        ) from error
    found = find_extension(registry)
    assert found is not None
    return found


def _read_note(connection: sql.Connection, index: str) -> RecallNote | None:
    """Read what is noted with an index; None when nothing is, or there is no such index."""
    query = sql.text("SELECT obj_description(to_regclass(:index), 'pg_class')")
    note = connection.scalar(query, {"index": index})
    return None if note is None else json.loads(note)


class HalfVector(UserDefinedType[str]):
    """Type `halfvec(n)`; without `dimension` any. `schema` is that of the extension, which need not be on the path."""

    cache_ok = True

    def __init__(self, schema: str, dimension: int | None = None, name: str = "halfvec") -> None:
        self.schema, self.dimension, self.name = schema, dimension, name

    def get_col_spec(self, **_: Any) -> str:
        size = "" if self.dimension is None else f"({self.dimension})"
        return f'"{self.schema}".{self.name}{size}'


def _bind_array(values: Collection[int]) -> sql.ColumnElement[Any]:
    return sql.literal(list(values), sql.ARRAY(sql.BigInteger))


def _match_view(table: sql.Table, view: EngineView) -> list[sql.ColumnElement[bool]]:
    visible: list[sql.ColumnElement[bool]] = [table.c.run == sql.any_(_bind_array(view.runs))]
    return [*visible, table.c.id != sql.all_(_bind_array(view.hidden))] if view.hidden else visible


def _write_vector(vector: NDArray[Any]) -> str:
    return "[" + ",".join(map(repr, vector.tolist())) + "]"


def _read_rows(found: Sequence[Any], dimension: int) -> FoundRows:
    ids = np.array([row.id for row in found], dtype=np.int64)
    keys = np.array([row.key for row in found], dtype=np.int64)
    # halfvec_send: two bytes each of dimension and nothing, then the halves; all big-endian
    data = b"".join(row.vector[4:] for row in found) if found and hasattr(found[0], "vector") else b""
    vectors = np.frombuffer(data, dtype=">f2").astype(np.float32).reshape(-1, dimension)
    return FoundRows(keys, [Entry(row.picture, row.text) for row in found], vectors, ids)


def _describe_table(identity: Identity, schema: str) -> sql.Table:
    return sql.Table(
        f"vectors_{name_table(identity)}",
        sql.MetaData(),
        sql.Column("id", sql.BigInteger, primary_key=True, autoincrement=False),
        sql.Column("run", sql.BigInteger, nullable=False, index=True),
        sql.Column("key", sql.BigInteger, nullable=False, index=True),
        sql.Column("picture", sql.String, nullable=False, index=True),
        sql.Column("text", sql.String, nullable=False),
        sql.Column("vector", HalfVector(schema, identity.dimension), nullable=False),
    )


def _name_index(table: sql.Table) -> str:
    return f"{table.name}_hnsw"


class PgVector:
    """The `Engine` on one registry. Raises `SettingsError` when the database has no pgvector."""

    name = "pgvector"

    def __init__(self, registry: Registry, scan_limit: int = SCAN_LIMIT, recall: float = RECALL) -> None:
        self.scan_limit, self._recall = scan_limit, recall
        self.lost = set[Identity]()
        self._registry = registry
        self._schema = create_extension(registry).schema
        self._made: set[str] = set()
        self._tables: dict[Identity, sql.Table] = {}  # kept, so that SQLAlchemy knows a statement again
        self._noted: dict[Identity, tuple[tuple[int, ...], RecallNote | None]] = {}  # as of a view with these runs

    def add(self, identity: Identity, run: int, rows: VectorRows) -> None:
        table = self._ensure_table(identity)
        with self._write(identity) as connection:
            for start in range(0, len(rows), _INSERT):
                values = [
                    {**row, "vector": _write_vector(row["vector"])} for row in make_records(run, rows, start, _INSERT)
                ]
                connection.execute(sql.insert(table), values)
                pass_fault_point("engine.added")

    def build_index(self, identity: Identity, queries: Matrix | None = None) -> None:
        """Make the HNSW index when there are enough rows; searches go on meanwhile.

        A large first fill is many times faster without it. How recall rises with the candidates that HNSW looks at is
        noted with the index, and measured again when the rows are twice as many.
        """
        table = self._ensure_table(identity)
        name, column = _name_index(table), table.c.vector
        if identity.dimension > _MOST_DIMENSIONS:  # then every search is a scan
            return
        with self._write(identity) as connection:
            some = sql.select(table.c.id).limit(self.scan_limit + 1).subquery()
            if (connection.scalar(sql.select(sql.func.count()).select_from(some)) or 0) <= self.scan_limit:
                return
            if not any(index["name"] == name for index in sql.inspect(connection).get_indexes(table.name)):
                connection.execute(sql.text("SET LOCAL maintenance_work_mem = '512MB'"))
                kind = {"vector": f'"{self._schema}".halfvec_ip_ops'}
                index = sql.Index(name, column, postgresql_using="hnsw", postgresql_with=_HNSW, postgresql_ops=kind)
                index.create(connection)
            runs = tuple(connection.scalars(sql.select(table.c.run).distinct()))
            rows = connection.scalar(sql.select(sql.func.count()).select_from(table)) or 0
            before = _read_note(connection, name)
        if before is None or rows >= _GROWN * before["rows"]:
            curves = self._measure_recall(EngineView(identity, runs, (), rows), queries)
            with self._write(identity) as connection:
                about: RecallNote = {"rows": rows, "recall": curves}
                quoted = sql.literal(json.dumps(about)).compile(connection, compile_kwargs={"literal_binds": True})
                connection.exec_driver_sql(f'COMMENT ON INDEX "{name}" IS {quoted}')

    def find_nearest(
        self, view: EngineView, query: Vector, limit: int, hits: int, allowed: VectorKeys | None
    ) -> Candidates:
        if view.count > self.scan_limit and view.identity.dimension <= _MOST_DIMENSIONS:
            candidates = self._choose_depth(view, hits, allowed)
            found = self._search_index(view, query, min(limit, _limit(hits)), allowed, candidates)
            if len(found.scores) >= min(hits, view.count):
                return found
        return self._scan(view, query, limit, allowed)  # of few rows, or when the index leads to none of those allowed

    def get_depth(self, view: EngineView, hits: int) -> int | None:
        return self._choose_depth(view, hits, None) if view.identity.dimension <= _MOST_DIMENSIONS else None

    def find_rows(
        self, view: EngineView, column: Literal["key", "picture"], values: Sequence[Any], *, vectors: bool = True
    ) -> FoundRows:
        table = self._get_table(view.identity)
        among = _bind_array(values) if column == "key" else sql.literal(list(values), sql.ARRAY(sql.String))
        return self._fetch(view, self._select(table, view, vectors=vectors).where(table.c[column] == sql.any_(among)))

    def read_pages(self, view: EngineView) -> Iterator[FoundRows]:
        table, last = self._get_table(view.identity), -1
        while True:
            page = self._select(table, view).where(table.c.id > last).order_by(table.c.id)
            rows = self._fetch(view, page.limit(_PAGE))
            if not len(rows.ids):
                return
            last = int(rows.ids[-1])
            yield rows

    def count(self, view: EngineView) -> int:
        table = self._get_table(view.identity)
        with self._read(view.identity) as session:
            return session.scalar(sql.select(sql.func.count()).select_from(table).where(*_match_view(table, view))) or 0

    def remove(self, identity: Identity, runs: Collection[int], ids: Collection[int] = ()) -> None:
        table = self._get_table(identity)
        with self._write(identity) as connection:
            if sql.inspect(connection).has_table(table.name):
                gone = (table.c.run == sql.any_(_bind_array(runs))) | (table.c.id == sql.any_(_bind_array(ids)))
                connection.execute(sql.delete(table).where(gone))

    def drop(self, identity: Identity) -> None:
        with self._write(identity) as connection:
            self._get_table(identity).drop(connection, checkfirst=True)
        self._made.discard(self._get_table(identity).name)

    def describe(self) -> str:
        found = find_extension(self._registry)
        return f"pgvector {found.release}" if found else "pgvector"

    def close(self) -> None:
        """Close nothing: the connections are the registry's."""

    def _choose_depth(self, view: EngineView, hits: int, allowed: VectorKeys | None) -> int:
        """Choose how many candidates HNSW looks at for this recall; many with a filter, or if nobody measured."""
        if view.identity not in self._noted or self._noted[view.identity][0] != view.runs:
            with self._read(view.identity) as session:
                found = _read_note(session.connection(), _name_index(self._get_table(view.identity)))
            self._noted[view.identity] = view.runs, found
        found = self._noted[view.identity][1]
        if found is None or allowed is not None:
            return max(_DEEP, 4 * hits)
        curves = {int(depth): curve for depth, curve in found["recall"].items()}
        return ivf.choose_effort(curves, hits, self._recall)

    def _measure_recall(self, view: EngineView, queries: Matrix | None) -> dict[str, ivf.Curve]:
        """Measure how recall rises with the candidates, for each of `ivf.DEPTHS`, against exact scans."""
        if queries is None:
            queries = ivf.generate_queries(next(self.read_pages(view)).vectors.astype(np.float16))
        asked, deepest = queries[:_ASKED], min(ivf.DEPTHS[-1], view.count)

        def find_scores(candidates: int, hits: int) -> list[Vector]:
            found = [self._search_index(view, query, _limit(hits), None, candidates).vectors for query in asked]
            return [vectors @ query for vectors, query in zip(found, asked, strict=True)]

        exact = np.stack([self._scan(view, query, deepest, None).scores for query in asked])
        return ivf.measure_curves(_TRIED, find_scores, exact)

    def _search_index(
        self, view: EngineView, query: Vector, limit: int, allowed: VectorKeys | None, candidates: int
    ) -> Candidates:
        table = self._get_table(view.identity)
        halves = sql.literal(_write_vector(query)).cast(HalfVector(self._schema, view.identity.dimension))
        distance = table.c.vector.op(f'OPERATOR("{self._schema}".<#>)')(halves)
        found = self._select(table, view, distance, allowed=allowed).order_by(distance).limit(limit)
        looked_at = min(_DEEPEST, max(candidates, limit))
        settings = {"hnsw.ef_search": str(looked_at), "hnsw.iterative_scan": "strict_order"}
        if allowed is None:  # without a filter the planner thinks too well of a scan
            settings |= {"enable_seqscan": "off", "enable_bitmapscan": "off"}
        return self._run(view, found, settings, exact=False)

    def _scan(self, view: EngineView, query: Vector, limit: int, allowed: VectorKeys | None) -> Candidates:
        """Search exactly, up to float32 rounding: compared as floats, which no index is for."""
        table, floats = self._get_table(view.identity), HalfVector(self._schema, view.identity.dimension, "vector")
        wanted = sql.literal(_write_vector(query)).cast(floats)
        distance = table.c.vector.cast(floats).op(f'OPERATOR("{self._schema}".<#>)')(wanted)
        found = self._select(table, view, distance, allowed=allowed).order_by(distance).limit(limit)
        return self._run(view, found, {}, exact=True)

    def _run(self, view: EngineView, query: sql.Select[Any], settings: dict[str, str], *, exact: bool) -> Candidates:
        with self._read(view.identity) as session:
            if settings:
                session.execute(sql.select(*(sql.func.set_config(key, value, True) for key, value in settings.items())))
            found = session.execute(query).all()
        scores = np.array([-row.distance for row in found], dtype=np.float32)
        return _read_rows(found, view.identity.dimension).make_candidates(scores, exact)

    def _select(
        self,
        table: sql.Table,
        view: EngineView,
        distance: sql.ColumnElement[Any] | None = None,
        *,
        allowed: VectorKeys | None = None,
        vectors: bool = True,
    ) -> sql.Select[Any]:
        columns: list[Any] = [table.c.id, table.c.key, table.c.picture, table.c.text]
        if vectors:
            columns.append(getattr(sql.func, self._schema).halfvec_send(table.c.vector).label("vector"))
        if distance is not None:
            columns.append(distance.label("distance"))
        query = sql.select(*columns).where(*_match_view(table, view))
        return query if allowed is None else query.where(table.c.key == sql.any_(_bind_array(allowed.tolist())))

    def _fetch(self, view: EngineView, query: sql.Select[Any]) -> FoundRows:
        with self._read(view.identity) as session:
            return _read_rows(session.execute(query).all(), view.identity.dimension)

    def _get_table(self, identity: Identity) -> sql.Table:
        if identity not in self._tables:
            self._tables[identity] = _describe_table(identity, self._schema)
        return self._tables[identity]

    def _ensure_table(self, identity: Identity) -> sql.Table:
        table = self._get_table(identity)
        if table.name not in self._made:
            with self._translate(identity), self._registry.begin() as session:  # one writer: two may both need it
                table.create(session.connection(), checkfirst=True)
            self._made.add(table.name)
        return table

    @contextmanager
    def _read(self, identity: Identity) -> Iterator[Session]:
        with self._translate(identity), self._registry.read() as session:
            yield session

    @contextmanager
    def _write(self, identity: Identity) -> Iterator[sql.Connection]:
        with self._translate(identity), self._registry.engine.connect() as connection:
            connection.execution_options(isolation_level="READ COMMITTED", postgresql_readonly=False)
            with connection.begin():
                yield connection

    @contextmanager
    def _translate(self, identity: Identity) -> Iterator[None]:
        """Raise our errors for what PostgreSQL says; a table that is not there any more is made again."""
        try:
            yield
        except (DBAPIError, RegistryUnavailable) as error:
            cause = error if isinstance(error, DBAPIError) else error.__cause__
            orig = cause.orig if isinstance(cause, DBAPIError) else None
            state = getattr(orig, "sqlstate", None)
            if state == _NO_TABLE:
                self.lost.add(identity)
                self._made.discard(self._get_table(identity).name)
                raise IndexLost("The table of these vectors is not there any more; it is made again.") from error
            if isinstance(error, DBAPIError):
                if state == _DISK_FULL:
                    raise StorageFull("The registry's disk is full.") from error
                if not (isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated):
                    raise
            if not state or state.startswith(_STOPPING):
                raise IndexUnavailable("PostgreSQL does not answer, so that vectors cannot be searched.") from error
            reason = getattr(getattr(orig, "diag", None), "message_primary", state)
            _log.warning("PostgreSQL refused a request: %s", reason)
            raise IndexUnavailable(f"PostgreSQL refused a request ({state}); the log has the reason.") from error


def _limit(hits: int) -> int:
    """Return the rows to fetch for so many hits: halves are compared, so the nearest are among the first."""
    return hits + hits // 4 + 16
