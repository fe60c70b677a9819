"""The change feed: how far what is sealed is behind it, and how old deletions leave it. Seals nothing.

Imports no NumPy: an idle worker asks this every few seconds.

The row of a deleted picture is needed until every set in use has taken the deletion in. Then it goes. The number of the
last one that went stays, without a picture: whoever has not seen the feed up to there may have missed a deletion, and
opens what is sealed instead. The rows of existing pictures stay: sets are made from them, and there is one a picture.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from index.tables import GalleryChangeRow, VectorSetRow
from model.registry import Registry
from model.storage import fault_point

PRUNED = ""  # in the place of a picture: the last deletion that is not in the feed any more
DELETED = "picture_deleted"
_BATCH = 500  # rows in one transaction: other writers wait for it


def unsealed(registry: Registry) -> int:
    """How many changes of the gallery the set in use that is furthest behind does not have in its segments."""
    newest = [states[0] for states in _in_use(registry)]
    if not newest:
        return 0
    with registry.read() as session:
        return session.scalar(select(func.count()).where(GalleryChangeRow.change > min(newest))) or 0


def last_change(registry: Registry) -> int:
    """The number of the last change; 0 when there is none."""
    with registry.read() as session:
        return session.scalar(select(func.max(GalleryChangeRow.change))) or 0


def prune(registry: Registry) -> int:
    """Remove the deletions that every kept state of every set in use has taken in; returns how many.

    Nothing goes while an expansion is in progress: it may be filling a set from what the gallery was before. Whatever
    is opened below what was pruned is made from the tables (`index.sets`), so this decides only how much work that is.
    """
    if registry.expansions.ids("queued", "running"):
        return 0
    upto = min((change for states in _in_use(registry) for change in states if change), default=0)
    change, kind = GalleryChangeRow.change, GalleryChangeRow.kind
    with registry.read() as session:
        old = (kind == DELETED, change > pruned_upto(session), change <= upto)
        gone = session.scalars(select(change).where(*old).order_by(change)).all()
    for start in range(0, len(gone), _BATCH):
        with registry.begin() as session:
            _remove(session, gone[start : start + _BATCH])
        fault_point("feed.pruned")
    return len(gone)


def pruned_upto(session: Session) -> int:
    """The last deletion that is not in the feed any more; 0 when all are."""
    return session.scalar(select(GalleryChangeRow.change).where(GalleryChangeRow.picture_id == PRUNED)) or 0


def _remove(session: Session, changes: Collection[int]) -> None:
    """Remove deletions, oldest first. The mark never goes back, also when two workers do this at once."""
    last = max(*changes, pruned_upto(session))
    old = GalleryChangeRow.change.in_(changes) | (GalleryChangeRow.picture_id == PRUNED)
    session.execute(delete(GalleryChangeRow).where(old))
    session.execute(insert(GalleryChangeRow).values(change=last, kind="pruned", picture_id=PRUNED))


def _in_use(registry: Registry) -> list[list[int]]:
    """What each set in use has sealed: the last change in each of its kept states, the newest state first.

    In use are the sets that the serving release names, or the one before. While vectors are made anew there are two of
    each: the one that was sealed last counts, since nobody computes what the other one lacks.
    """
    named = registry.releases.in_use()
    row = VectorSetRow
    columns = (row.kind, row.language, row.version, row.fingerprint, row.dimension, row.upto_change)
    found: dict[Any, tuple[Any, list[int]]] = {}
    with registry.read() as session:
        for state in session.execute(select(*columns).order_by(row.number.desc())):
            if state.kind == "pictures" or (state.language, state.version) in named:
                encoded_by = (state.fingerprint, state.dimension)
                newest, states = found.setdefault(state[:3], (encoded_by, []))
                if newest == encoded_by:
                    states.append(state.upto_change)
    return [states for _, states in found.values()]
