"""Pages of pictures in the order in which they were added: which ids come next. Reads no records.

Few that a filter leaves are sorted by the database. Of many, the next are soon met in the order of an index, and told
by their keys: to evaluate the filter anew for each page would take as long as for all pages together.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Double, Select, select, tuple_, type_coerce
from sqlalchemy.orm import Session

from index.vectors import Keys, are_among
from store.tables import PictureRow

Place = tuple[float, str]  # when a picture was added, and its id
CREATED = type_coerce(PictureRow.created_at, Double)  # as a Python datetime it would be cut to microseconds
FEW = 1_000  # keys of which the database finds and sorts the pictures at once
_BLOCK, WALKED = 256, 16_000  # pictures that are looked at first, and before the database has to find the others


def following(
    session: Session,
    limit: int,
    after: Place | None,
    newest_first: bool,
    conditions: Sequence[ColumnElement[bool]] = (),
) -> list[str]:
    """At most `limit` ids of pictures that meet all conditions, after a place."""
    query = _in_order(select(PictureRow.id), after, newest_first).where(*conditions).limit(limit)
    return [*session.scalars(query)]


def following_among(
    session: Session,
    limit: int,
    after: Place | None,
    newest_first: bool,
    conditions: Sequence[ColumnElement[bool]],
    keys: Keys,
    places: Sequence[ColumnElement[bool]],
) -> list[str]:
    """As `following`, when the `keys` of all pictures that meet the conditions are known; among these are `places`.

    `places` are those conditions that an index answers.
    """
    ids, walked, block = list[str](), 0, max(limit, _BLOCK)
    while len(keys) > FEW and walked < WALKED:
        query = _in_order(select(CREATED, PictureRow.id, PictureRow.key), after, newest_first).where(*places)
        with session.connection().execute(query.limit(block)) as result:
            rows = result.cursor.fetchall()  # the driver's own tuples, in a third of the time
        kept = are_among(np.fromiter((key for _, _, key in rows), dtype=np.int64, count=len(rows)), keys)
        ids += [id for (_, id, _), is_left in zip(rows, kept, strict=True) if is_left]
        if len(rows) < block or len(ids) >= limit:
            return ids[:limit]
        after, walked, block = (rows[-1][0], rows[-1][1]), walked + block, 2 * block
    return [*ids, *following(session, limit - len(ids), after, newest_first, conditions)]


def _in_order(query: Select[Any], after: Place | None, newest_first: bool) -> Select[Any]:
    order = (PictureRow.created_at, PictureRow.id)
    query = query.order_by(*(column.desc() if newest_first else column for column in order))
    if after is None:
        return query
    place, there = tuple_(CREATED, PictureRow.id), tuple_(*after)
    return query.where(place < there if newest_first else place > there)
