"""Where the vectors of a registry are: in an engine, or in segments on disk; opens the engine. Imports no NumPy.

The states of the vector sets tell it. A process whose setting names another place is refused: otherwise two of them
would make all sets anew for ever, each in its own.
"""

import zlib
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, inspect, select
from sqlalchemy.orm import Session

from index.tables import VectorSetRow
from model.registry import Registry
from model.settings import SettingsError

if TYPE_CHECKING:
    from index.engine import Engine

FAISS = "faiss"  # segments on disk, which need no engine
ENGINES = ("pgvector", "milvus")  # each begins the ids of an engine's runs
_NO_DEAD = zlib.compress(b"")  # as `index.sealing` keeps that no row is dead
_IDENTITY = ("kind", "fingerprint", "dimension", "language", "version")


def place_of(segments: Iterable[Mapping[str, Any]]) -> str | None:
    """Where the segments or runs of a state are; None when it has none."""
    for written in segments:
        name = str(written["id"]).partition("-")[0]
        return name if name in ENGINES else FAISS
    return None


def sealed_in(registry: Registry) -> str | None:
    """Where the set is that was sealed last; None when none is, or before the first start.

    Raises `RegistryUnavailable`.
    """
    with registry.read() as session:
        if not inspect(session.connection()).has_table(VectorSetRow.__tablename__):
            return None
        places = (place_of(row.segments) for row in _newest(session))
        return next((place for place in places if place is not None), None)


def refuse_other(index: str, registry: Registry) -> None:
    """Raises `SettingsError` when the vectors are elsewhere than `PICTOGLOT_INDEX` says, and `RegistryUnavailable`."""
    wanted, found = index.partition("+")[0], sealed_in(registry)
    if found not in (None, wanted):
        raise SettingsError(
            f"PICTOGLOT_INDEX: the vectors are in {found}, not in {wanted}; to move them, stop every process, "
            "and run `pictoglot reindex` with the new setting."
        )


def begin_anew(index: str, registry: Registry) -> int:
    """Record that nothing is sealed of the sets that are elsewhere than `PICTOGLOT_INDEX` says; returns how many.

    The tables have all vectors: no picture is encoded again.
    """
    wanted, moved = index.partition("+")[0], 0
    with registry.begin() as session:
        for row in _newest(session):
            if place_of(row.segments) not in (None, wanted):
                identity = {name: getattr(row, name) for name in _IDENTITY}
                values = {**identity, "upto_change": 0, "segments": [], "dead": _NO_DEAD}
                session.execute(insert(VectorSetRow).values(**values))
                moved += 1
    return moved


def open_engine(index: str, registry: Registry, recall: float | None = None) -> "Engine | None":
    """The engine of `PICTOGLOT_INDEX`, which looks for this recall if it can; None for segments on disk.

    Raises `SettingsError` when PostgreSQL has no pgvector, or the vectors of this registry are elsewhere, and
    `RegistryUnavailable`.
    """
    refuse_other(index, registry)
    return _opened(index, registry, recall)


def move_to(index: str, registry: Registry) -> int:
    """Record that every vector set is to be made anew in the engine of this setting; returns how many are.

    Raises as `open_engine`, and `IndexUnavailable` when the engine does not answer: then nothing is recorded.
    """
    engine = _opened(index, registry)
    if engine is not None:
        with closing(engine):
            engine.about()
    return begin_anew(index, registry)


def _opened(index: str, registry: Registry, recall: float | None = None) -> "Engine | None":
    if index == FAISS:
        return None
    if index == "pgvector":
        from index.engine.pgvector import PgVector  # imported late: an idle worker needs no NumPy

        return PgVector(registry) if recall is None else PgVector(registry, recall=recall)
    from index.engine.milvus import Milvus

    return Milvus(index.partition("+")[2])


def _newest(session: Session) -> list[VectorSetRow]:
    """The newest state of every set, the last one first."""
    columns = [getattr(VectorSetRow, name) for name in _IDENTITY]
    newest = select(func.max(VectorSetRow.number)).group_by(*columns)
    rows = select(VectorSetRow).where(VectorSetRow.number.in_(newest)).order_by(VectorSetRow.number.desc())
    return list(session.scalars(rows))
