"""Vectors in the registry's own PostgreSQL, with the extension pgvector: a table of halves for each vector set.

Small sets are scanned, larger ones have an HNSW index. Reads go through the registry's pool of connections, writes
through it too, but do not take the writer's turn: nobody sees a run before it is registered.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import sqlalchemy as sql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from index import ivf
from index.engine import Found, View, records
from index.engine.extension import (
    Halves,
    Noted,
    array,
    described,
    index_of,
    installed,
    literal,
    made,
    note,
    noted,
    read,
    seen,
    translated,
)
from index.ivf import RECALL
from index.vectors import Candidates, Identity, Keys, Matrix, Rows, Vector
from store.errors import IndexLost, StorageFull
from store.files import fault_point
from store.registry import Registry

SCAN_LIMIT = 1_000  # rows up to which a scan takes no more time than a search in the HNSW index (8 ms)
_HNSW = {"m": 16, "ef_construction": 128}
_DEEP, _DEEPEST = 400, 1_000  # candidates that HNSW looks at; pgvector's own limit
_TRIED = (40, 60, 100, 160, 250, 400, 630, 1_000)  # candidates for which recall is measured
_ASKED = ivf.QUERIES  # to measure it: a query misses all or nothing of what is far away in the graph, so not few
_GROWN = 2  # times the rows with which it is measured again
_MOST_DIMENSIONS = 4_000  # that pgvector indexes as halves
_DISK_FULL = "53100"  # SQLSTATE
_INSERT = 500  # rows in one statement
_PAGE = 2_000  # rows that are read at a time


class PgVector:
    """The `Engine` on one registry. Raises `SettingsError` when the database has no pgvector."""

    name = "pgvector"

    def __init__(self, registry: Registry, scan_limit: int = SCAN_LIMIT, recall: float = RECALL) -> None:
        self.scan_limit, self._recall = scan_limit, recall
        self.lost = set[Identity]()
        self._registry = registry
        self._schema = made(registry).schema
        self._made: set[str] = set()
        self._tables: dict[Identity, sql.Table] = {}  # kept, so that SQLAlchemy knows a statement again
        self._noted: dict[Identity, tuple[tuple[int, ...], Noted | None]] = {}  # as of a view with these runs

    def add(self, identity: Identity, run: int, rows: Rows) -> None:
        table = self._made_table(identity)
        with self._writing(identity) as connection:
            for start in range(0, len(rows), _INSERT):
                values = [{**row, "vector": literal(row["vector"])} for row in records(run, rows, start, _INSERT)]
                connection.execute(sql.insert(table), values)
                fault_point("engine.added")

    def settle(self, identity: Identity, queries: Matrix | None = None) -> None:
        """As `Engine.settle`: makes the HNSW index when there are enough rows; searches go on meanwhile.

        A large first fill is many times faster without it. How recall rises with the candidates that HNSW looks at is
        noted with the index, and measured again when the rows are twice as many.
        """
        table = self._made_table(identity)
        name, column = index_of(table), table.c.vector
        if identity.dimension > _MOST_DIMENSIONS:  # then every search is a scan
            return
        with self._writing(identity) as connection:
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
            before = noted(connection, name)
        if before is None or rows >= _GROWN * before["rows"]:
            curves = self._measured(View(identity, runs, (), rows), queries)
            with self._writing(identity) as connection:
                note(connection, name, {"rows": rows, "recall": curves})

    def nearest(self, view: View, query: Vector, limit: int, hits: int, allowed: Keys | None) -> Candidates:
        if view.count > self.scan_limit and view.identity.dimension <= _MOST_DIMENSIONS:
            candidates = self._candidates(view, hits, allowed)
            found = self._by_index(view, query, min(limit, _few(hits)), allowed, candidates)
            if len(found.scores) >= min(hits, view.count):
                return found
        return self._scan(view, query, limit, allowed)  # of few rows, or when the index leads to none of those allowed

    def depth(self, view: View, hits: int) -> int | None:
        """As `Engine.depth`: how many candidates HNSW looks at."""
        return self._candidates(view, hits, None) if view.identity.dimension <= _MOST_DIMENSIONS else None

    def having(
        self, view: View, column: Literal["key", "picture"], values: Sequence[Any], *, vectors: bool = True
    ) -> Found:
        table = self._table(view.identity)
        among = array(values) if column == "key" else sql.literal(list(values), sql.ARRAY(sql.String))
        return self._rows(view, self._select(table, view, vectors=vectors).where(table.c[column] == sql.any_(among)))

    def pages(self, view: View) -> Iterator[Found]:
        table, last = self._table(view.identity), -1
        while True:
            page = self._select(table, view).where(table.c.id > last).order_by(table.c.id)
            rows = self._rows(view, page.limit(_PAGE))
            if not len(rows.ids):
                return
            last = int(rows.ids[-1])
            yield rows

    def count(self, view: View) -> int:
        table = self._table(view.identity)
        with self._reading(view.identity) as session:
            return session.scalar(sql.select(sql.func.count()).select_from(table).where(*seen(table, view))) or 0

    def remove(self, identity: Identity, runs: Collection[int], ids: Collection[int] = ()) -> None:
        table = self._table(identity)
        with self._writing(identity) as connection:
            if sql.inspect(connection).has_table(table.name):
                gone = (table.c.run == sql.any_(array(runs))) | (table.c.id == sql.any_(array(ids)))
                connection.execute(sql.delete(table).where(gone))

    def drop(self, identity: Identity) -> None:
        with self._writing(identity) as connection:
            self._table(identity).drop(connection, checkfirst=True)
        self._made.discard(self._table(identity).name)

    def about(self) -> str:
        found = installed(self._registry)
        return f"pgvector {found.release}" if found else "pgvector"

    def close(self) -> None:
        """As `Engine.close`: the connections are the registry's."""

    def _candidates(self, view: View, hits: int, allowed: Keys | None) -> int:
        """How many candidates HNSW has to look at for this recall; many when rows are filtered, or nobody measured."""
        if view.identity not in self._noted or self._noted[view.identity][0] != view.runs:
            with self._reading(view.identity) as session:
                found = noted(session.connection(), index_of(self._table(view.identity)))
            self._noted[view.identity] = view.runs, found
        found = self._noted[view.identity][1]
        if found is None or allowed is not None:
            return max(_DEEP, 4 * hits)
        curves = {int(depth): curve for depth, curve in found["recall"].items()}
        return ivf.probes_for(curves, hits, self._recall)

    def _measured(self, view: View, queries: Matrix | None) -> dict[str, ivf.Curve]:
        """How recall rises with the candidates, for each of `ivf.DEPTHS`, against exact scans."""
        if queries is None:
            queries = ivf.made_up_queries(next(self.pages(view)).vectors.astype(np.float16))
        asked, deepest = queries[:_ASKED], min(ivf.DEPTHS[-1], view.count)

        def near(candidates: int, hits: int) -> list[Vector]:
            found = [self._by_index(view, query, _few(hits), None, candidates).vectors for query in asked]
            return [vectors @ query for vectors, query in zip(found, asked, strict=True)]

        exact = np.stack([self._scan(view, query, deepest, None).scores for query in asked])
        return ivf.curves(_TRIED, near, exact)

    def _by_index(self, view: View, query: Vector, limit: int, allowed: Keys | None, candidates: int) -> Candidates:
        table = self._table(view.identity)
        halves = sql.literal(literal(query)).cast(Halves(self._schema, view.identity.dimension))
        distance = table.c.vector.op(f'OPERATOR("{self._schema}".<#>)')(halves)
        found = self._select(table, view, distance, allowed=allowed).order_by(distance).limit(limit)
        looked_at = min(_DEEPEST, max(candidates, limit))
        settings = {"hnsw.ef_search": str(looked_at), "hnsw.iterative_scan": "strict_order"}
        if allowed is None:  # without a filter the planner thinks too well of a scan
            settings |= {"enable_seqscan": "off", "enable_bitmapscan": "off"}
        return self._nearest(view, found, settings, exact=False)

    def _scan(self, view: View, query: Vector, limit: int, allowed: Keys | None) -> Candidates:
        """Exact up to float32 rounding: compared as floats, which no index is for."""
        table, floats = self._table(view.identity), Halves(self._schema, view.identity.dimension, "vector")
        wanted = sql.literal(literal(query)).cast(floats)
        distance = table.c.vector.cast(floats).op(f'OPERATOR("{self._schema}".<#>)')(wanted)
        found = self._select(table, view, distance, allowed=allowed).order_by(distance).limit(limit)
        return self._nearest(view, found, {}, exact=True)

    def _nearest(self, view: View, query: sql.Select[Any], settings: dict[str, str], *, exact: bool) -> Candidates:
        with self._reading(view.identity) as session:
            if settings:
                session.execute(
                    sql.select(*(sql.func.set_config(name, value, True) for name, value in settings.items()))
                )
            found = session.execute(query).all()
        scores = np.array([-row.distance for row in found], dtype=np.float32)
        return read(found, view.identity.dimension).proposed(scores, exact)

    def _select(
        self,
        table: sql.Table,
        view: View,
        distance: sql.ColumnElement[Any] | None = None,
        *,
        allowed: Keys | None = None,
        vectors: bool = True,
    ) -> sql.Select[Any]:
        columns: list[Any] = [table.c.id, table.c.key, table.c.picture, table.c.text]
        if vectors:
            columns.append(getattr(sql.func, self._schema).halfvec_send(table.c.vector).label("vector"))
        if distance is not None:
            columns.append(distance.label("distance"))
        query = sql.select(*columns).where(*seen(table, view))
        return query if allowed is None else query.where(table.c.key == sql.any_(array(allowed.tolist())))

    def _rows(self, view: View, query: sql.Select[Any]) -> Found:
        with self._reading(view.identity) as session:
            return read(session.execute(query).all(), view.identity.dimension)

    def _table(self, identity: Identity) -> sql.Table:
        if identity not in self._tables:
            self._tables[identity] = described(identity, self._schema)
        return self._tables[identity]

    def _made_table(self, identity: Identity) -> sql.Table:
        table = self._table(identity)
        if table.name not in self._made:
            with translated(), self._registry.begin() as session:  # one writer: two processes may both need it
                table.create(session.connection(), checkfirst=True)
            self._made.add(table.name)
        return table

    @contextmanager
    def _reading(self, identity: Identity) -> Iterator[Session]:
        with self._noticing(identity), translated(), self._registry.read() as session:
            yield session

    @contextmanager
    def _writing(self, identity: Identity) -> Iterator[sql.Connection]:
        with self._noticing(identity), translated():
            try:
                with self._registry.engine.connect() as connection:
                    connection.execution_options(isolation_level="READ COMMITTED", postgresql_readonly=False)
                    with connection.begin():
                        yield connection
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) == _DISK_FULL:
                    raise StorageFull("The registry's disk is full.") from error
                raise

    @contextmanager
    def _noticing(self, identity: Identity) -> Iterator[None]:
        """Note that a table is not there any more, so that it is made again."""
        try:
            yield
        except IndexLost:
            self.lost.add(identity)
            self._made.discard(self._table(identity).name)
            raise


def _few(hits: int) -> int:
    """Rows to fetch for so many hits: halves are compared, not coarse codes, so the nearest are among the first."""
    return hits + hits // 4 + 16
