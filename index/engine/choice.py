"""Opens the engine that `PICTOGLOT_INDEX` names, and moves vector sets to another one."""

from contextlib import closing

from index.engine import Engine
from index.states import FAISS, begin_anew, refuse_other
from store.registry import Registry


def open_engine(index: str, registry: Registry, recall: float | None = None, move: bool = False) -> Engine | None:
    """The engine of `PICTOGLOT_INDEX`, which looks for this recall if it can; None for segments on disk.

    Raises `SettingsError` when PostgreSQL has no pgvector, or, without `move`, the vectors of this registry are
    elsewhere, and `RegistryUnavailable`.
    """
    if not move:
        refuse_other(index, registry)
    if index == FAISS:
        return None
    if index == "pgvector":
        from index.engine.pgvector import PgVector  # late: brings psycopg

        return PgVector(registry) if recall is None else PgVector(registry, recall=recall)
    from index.engine.milvus import Milvus

    return Milvus(index.partition("+")[2])


def move_to(index: str, registry: Registry) -> int:
    """Record that every vector set is to be made anew in the engine of this setting; returns how many are.

    Raises as `open_engine`, and `IndexUnavailable` when the engine does not answer: then nothing is recorded.
    """
    engine = open_engine(index, registry, move=True)
    if engine is not None:
        with closing(engine):
            engine.about()
    return begin_anew(index.partition("+")[0], registry)
