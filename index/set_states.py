"""States of vector sets: what of each is sealed, and where, as rows of the registry; pruning of the change feed.

A state of a set says which segments on disk, or runs of rows in an engine, have it up to some change of the gallery. A
row is never changed: a later state is another one. The row of a deleted picture stays in the feed until every set in
use has taken the deletion in. The number of the last one that went stays, without a picture: whoever has not seen the
feed up to there may have missed a deletion, and opens what is sealed instead. The rows of existing pictures stay: there
is one a picture.

Imports no NumPy: an idle worker asks this every second.
"""

import zlib
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, inspect, select
from sqlalchemy.orm import Session

from store.files import pass_fault_point
from store.registry import Registry
from store.releases import Release
from store.settings import SettingsError
from store.tables import GalleryChangeRow, VectorSetRow

if TYPE_CHECKING:
    from index.engine import Engine

FAISS = "faiss"  # segments on disk, which need no engine
ENGINES = ("pgvector", "milvus")  # each begins the ids of an engine's runs
PRUNED = ""  # in the place of a picture: the last deletion that is not in the feed any more
DELETED = "picture_deleted"
_NO_DEAD = zlib.compress(b"")
_BATCH = 500  # rows in one transaction: other writers wait for it
IDENTITY = tuple(getattr(VectorSetRow, name) for name in ("kind", "fingerprint", "dimension", "language", "version"))


@dataclass(frozen=True)
class PartRecord:
    """Record of a sealed piece of a set: a segment, whose `id` is a hash of its content, or a run of rows in an engine.

    Its keys are from `first` to `last`; others may have keys between these too.
    """

    id: str
    manifest_sha256: str
    rows: int
    first: int
    last: int

    @property
    def run(self) -> int:
        return int(self.id.partition("-")[2])


@dataclass(frozen=True)
class SealedState:
    """What is sealed of a set up to a change; `dead` packs rows that died since; `number` is 0 if not registered."""

    number: int = field(compare=False)
    upto_change: int
    segments: tuple[PartRecord, ...] = ()
    dead: bytes = _NO_DEAD


NOTHING_SEALED = SealedState(0, 0)


def select_newest() -> Any:
    """Return the condition for the newest state of each set."""
    return VectorSetRow.number.in_(select(func.max(VectorSetRow.number)).group_by(*IDENTITY))


# --- where the vectors are: in one place, or processes with different settings would make all sets anew for ever ------


def is_run(id: str) -> bool:
    """Whether an id is that of a run in an engine, not of a segment on disk."""
    return id.partition("-")[0] in ENGINES


def find_location(segments: Iterable[Mapping[str, Any]]) -> str | None:
    """Return where the segments or runs of a state are; None when it has none."""
    return next((str(each["id"]).partition("-")[0] if is_run(each["id"]) else FAISS for each in segments), None)


def find_last_location(registry: Registry) -> str | None:
    """Return where the set is that was sealed last; None when none is, or before the first start."""
    with registry.read() as session:
        if not inspect(session.connection()).has_table(VectorSetRow.__tablename__):
            return None
        rows = session.scalars(
            select(VectorSetRow.segments).where(select_newest()).order_by(VectorSetRow.number.desc())
        )
        return next(filter(None, map(find_location, rows)), None)


def refuse_other_engine(index: str, registry: Registry) -> None:
    """Raise `SettingsError` when the vectors are elsewhere than `PICTOGLOT_INDEX` says."""
    wanted, found = index.partition("+")[0], find_last_location(registry)
    if found not in (None, wanted):
        raise SettingsError(
            f"PICTOGLOT_INDEX: the vectors are in {found}, not in {wanted}; to move them, stop every process, "
            "and run `pictoglot reindex` with the new setting."
        )


def open_engine(index: str, registry: Registry, recall: float | None = None, move: bool = False) -> "Engine | None":
    """Open the engine of `PICTOGLOT_INDEX`, which looks for this recall if it can; None for segments on disk.

    Raises `SettingsError` when PostgreSQL has no pgvector, or, without `move`, the vectors of this registry are
    elsewhere, and `RegistryUnavailable`.
    """
    if not move:
        refuse_other_engine(index, registry)
    if index == FAISS:
        return None
    if index == "pgvector":
        from index.engine.pgvector import PgVector  # late: brings psycopg

        return PgVector(registry) if recall is None else PgVector(registry, recall=recall)
    from index.engine.milvus import Milvus

    return Milvus(index.partition("+")[2])


def request_reindex(index: str, registry: Registry) -> int:
    """Record that nothing is sealed of the sets that are elsewhere than in this engine; return how many.

    The tables have all vectors: no picture is encoded again. Raises as `open_engine`, and `IndexUnavailable` when the
    engine does not answer: then nothing is recorded.
    """
    if (engine := open_engine(index, registry, move=True)) is not None:
        with closing(engine):
            engine.describe()
    with registry.begin() as session:
        rows = session.scalars(select(VectorSetRow).where(select_newest())).all()
        moved = [row for row in rows if find_location(row.segments) not in (None, index.partition("+")[0])]
        for row in moved:
            identity = {column.key: getattr(row, column.key) for column in IDENTITY}
            session.execute(insert(VectorSetRow).values(**identity, upto_change=0, segments=[], dead=_NO_DEAD))
    return len(moved)


# --- the change feed --------------------------------------------------------------------------------------------------


def count_unsealed(registry: Registry) -> int:
    """Count the changes of the gallery that are not sealed yet, of the set in use that is furthest behind."""
    sealed = [states[0] for states in find_sets_in_use(registry).values()]
    if not sealed:
        return 0
    return registry.read_value(select(func.count()).where(GalleryChangeRow.change > min(sealed))) or 0


def prune_feed(registry: Registry) -> int:
    """Remove the deletions that every kept state of every set in use has taken in; return how many.

    Nothing goes while an expansion is in progress: it may be filling a set from what the gallery was before. Whatever
    is opened below what was pruned is made from the tables (`index.sets`), so this decides only how much work that is.
    """
    if registry.expansions.list_ids("queued", "running"):
        return 0
    upto = min((change for states in find_sets_in_use(registry).values() for change in states if change), default=0)
    change, kind = GalleryChangeRow.change, GalleryChangeRow.kind
    with registry.read() as session:
        old = (kind == DELETED, change > find_pruned_change(session), change <= upto)
        deletions = session.scalars(select(change).where(*old).order_by(change)).all()
    for start in range(0, len(deletions), _BATCH):
        with registry.begin() as session:
            _remove_deletions(session, deletions[start : start + _BATCH])
        pass_fault_point("feed.pruned")
    return len(deletions)


def has_dead_rows(registry: Registry) -> bool:
    """Whether a kept state names rows that were replaced or deleted since, or may have been."""
    row = VectorSetRow
    last = select(func.max(GalleryChangeRow.change)).scalar_subquery()
    return any(registry.read_values(select(row.segments).where((row.dead != _NO_DEAD) | (row.upto_change < last))))


def find_pruned_change(session: Session) -> int:
    """Return the last deletion that is not in the feed any more; 0 when all are."""
    return session.scalar(select(GalleryChangeRow.change).where(GalleryChangeRow.picture_id == PRUNED)) or 0


def is_named(releases: Iterable[Release], kind: str, language: str | None, version: int | None) -> bool:
    """Whether one of these releases names a set: pictures, or captions in a language as this version reads them."""
    return kind == "pictures" or any(release.languages.get(language or "") == version for release in releases)


def _remove_deletions(session: Session, changes: Collection[int]) -> None:
    """Remove deletions, oldest first. The mark never goes back, also when two workers do this at once."""
    last = max(*changes, find_pruned_change(session))
    old = GalleryChangeRow.change.in_(changes) | (GalleryChangeRow.picture_id == PRUNED)
    session.execute(delete(GalleryChangeRow).where(old))
    session.execute(insert(GalleryChangeRow).values(change=last, kind="pruned", picture_id=PRUNED))


def find_sets_in_use(registry: Registry) -> dict[tuple[Any, ...], list[int]]:
    """Find the sets in use, by the fields of their identity: the last change in each kept state, newest state first.

    In use are the sets that the serving release names: nobody computes what others lack. While vectors are made anew
    there are two of each, and the one that was sealed last counts.
    """
    releases, row = registry.releases.list(limit=1), VectorSetRow
    found: dict[Any, tuple[Any, list[int]]] = {}
    with registry.read() as session:
        for *key, upto in session.execute(select(*IDENTITY, row.upto_change).order_by(row.number.desc())):
            kind, _, _, language, version = identity = tuple(key)
            if is_named(releases, kind, language, version):
                latest, states = found.setdefault((kind, language, version), (identity, []))
                if latest == identity:
                    states.append(upto)
    return dict(found.values())
