"""What pgvector adds to a database: whether it is there, tables, errors, how vectors travel. Searches nothing."""

import json
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sql
from numpy.typing import NDArray
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.types import UserDefinedType

from index.engine import Found, View, named
from index.vectors import Entry, Identity
from store.errors import IndexLost, IndexUnavailable, RegistryUnavailable
from store.registry import Registry
from store.settings import SettingsError

Noted = dict[str, Any]  # rows when recall was measured, and the curves by depth
_NO_TABLE = "42P01"  # SQLSTATE
_STOPPING = ("08", "57P")  # SQLSTATE of a connection that broke, and of a server that stops or starts
_log = logging.getLogger(__name__)
OLDEST = (0, 8)  # the first with iterative scans, without which filters lose hits


class Extension(NamedTuple):
    """pgvector as a database has it: its schema and its release."""

    schema: str
    release: str


def installed(registry: Registry) -> Extension | None:
    """The extension, if this database has it; changes nothing. Raises `RegistryUnavailable`."""
    columns = "SELECT nspname, extversion FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace"
    with registry.read() as session:
        row = session.execute(sql.text(f"{columns} WHERE extname = 'vector'")).first()
    return None if row is None else Extension(*row)


def made(registry: Registry) -> Extension:
    """The extension, which is made if it is not there; raises `SettingsError` when that is not possible or allowed."""
    if found := installed(registry):
        if tuple(int(part) for part in found.release.split(".")[:2]) < OLDEST:
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
    found = installed(registry)
    assert found is not None
    return found


def noted(connection: sql.Connection, index: str) -> Noted | None:
    """What is noted with an index; None when nothing is, or there is no such index."""
    query = sql.text("SELECT obj_description(to_regclass(:index), 'pg_class')")
    told = connection.scalar(query, {"index": index})
    return None if told is None else json.loads(told)


def note(connection: sql.Connection, index: str, about: Noted) -> None:
    """Note this with an index, as its comment."""
    quoted = sql.literal(json.dumps(about)).compile(connection, compile_kwargs={"literal_binds": True})
    connection.exec_driver_sql(f'COMMENT ON INDEX "{index}" IS {quoted}')


class Halves(UserDefinedType[str]):
    """`halfvec(n)`; without `dimension` any. `schema` is that of the extension, which need not be on the path."""

    cache_ok = True

    def __init__(self, schema: str, dimension: int | None = None, name: str = "halfvec") -> None:
        self.schema, self.dimension, self.name = schema, dimension, name

    def get_col_spec(self, **_: Any) -> str:
        """As SQLAlchemy wants it."""
        size = "" if self.dimension is None else f"({self.dimension})"
        return f'"{self.schema}".{self.name}{size}'


def array(values: Collection[int]) -> sql.ColumnElement[Any]:
    """Numbers as one parameter of a statement."""
    return sql.literal(list(values), sql.ARRAY(sql.BigInteger))


def seen(table: sql.Table, view: View) -> list[sql.ColumnElement[bool]]:
    """The conditions for the rows of a view."""
    visible: list[sql.ColumnElement[bool]] = [table.c.run == sql.any_(array(view.runs))]
    return [*visible, table.c.id != sql.all_(array(view.hidden))] if view.hidden else visible


def literal(vector: NDArray[Any]) -> str:
    """A vector as pgvector reads it."""
    return "[" + ",".join(map(repr, vector.tolist())) + "]"


def read(found: Sequence[Any], dimension: int) -> Found:
    """The rows of an answer."""
    ids = np.array([row.id for row in found], dtype=np.int64)
    keys = np.array([row.key for row in found], dtype=np.int64)
    # halfvec_send: two bytes each of dimension and nothing, then the halves; all big-endian
    data = b"".join(row.vector[4:] for row in found) if found and hasattr(found[0], "vector") else b""
    vectors = np.frombuffer(data, dtype=">f2").astype(np.float32).reshape(-1, dimension)
    return Found(keys, [Entry(row.picture, row.text) for row in found], vectors, ids)


def described(identity: Identity, schema: str) -> sql.Table:
    """The table of a vector set."""
    return sql.Table(
        f"vectors_{named(identity)}",
        sql.MetaData(),
        sql.Column("id", sql.BigInteger, primary_key=True, autoincrement=False),
        sql.Column("run", sql.BigInteger, nullable=False, index=True),
        sql.Column("key", sql.BigInteger, nullable=False, index=True),
        sql.Column("picture", sql.String, nullable=False, index=True),
        sql.Column("text", sql.String, nullable=False),
        sql.Column("vector", Halves(schema, identity.dimension), nullable=False),
    )


def index_of(table: sql.Table) -> str:
    """The name of its HNSW index."""
    return f"{table.name}_hnsw"


@contextmanager
def translated() -> Iterator[None]:
    """Raise `IndexUnavailable` and `IndexLost` for what PostgreSQL says."""
    try:
        yield
    except RegistryUnavailable as error:
        cause = error.__cause__
        if isinstance(cause, DBAPIError) and getattr(cause.orig, "sqlstate", None) == _NO_TABLE:
            raise IndexLost("The table of these vectors is not there any more; it is made again.") from error
        raise _unavailable(cause) from error
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == _NO_TABLE:
            raise IndexLost("The table of these vectors is not there any more; it is made again.") from error
        if isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated:
            raise _unavailable(error) from error
        raise


def _unavailable(cause: BaseException | None) -> IndexUnavailable:
    """What to say: a server that answers has a reason, which goes into the log."""
    orig = cause.orig if isinstance(cause, DBAPIError) else None
    state = getattr(orig, "sqlstate", None)
    if not state or state.startswith(_STOPPING):
        return IndexUnavailable("PostgreSQL does not answer, so that vectors cannot be searched.")
    _log.warning("PostgreSQL refused a request: %s", getattr(getattr(orig, "diag", None), "message_primary", state))
    return IndexUnavailable(f"PostgreSQL refused a request ({state}); the log has the reason.")
