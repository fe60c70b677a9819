"""Pictures that are nearly the same: groups of them, page by page, each page after a bounded amount of work."""

import time
from typing import Annotated

from fastapi import APIRouter, Query, Response

from index.duplicates import DuplicatesPage, Group, find_groups
from index.records import Place
from index.selection import Criteria
from index.snapshot import Snapshot
from service import values
from service.auth import GuardedRoute, Principal, needs
from service.context import AppContext, Caller, Context, make_path
from service.problems import Gone
from service.schemas import gallery as schemas
from service.search import count_milliseconds, name_generation, parse_query_filter

router = APIRouter(prefix="/v1/duplicates", tags=["gallery"], route_class=GuardedRoute)
_SECONDS = 2.0  # after which a page ends, whatever it has
_LEAST = 0.95
_Score = Annotated[
    values.TextNumber, Query(ge=0, le=1, description="Lowest score of two pictures that are nearly the same.")
]


@router.get("", response_model=schemas.Duplicates)
@needs("search", parted=True)
async def list_duplicates(
    context: AppContext,
    caller: Caller,
    min_score: _Score = _LEAST,
    limit: values.QueryLimit = 20,
    cursor: values.QueryCursor = None,
    filter: values.QueryFilter = None,
    collection: values.QueryCollection = None,
) -> Response:
    """Groups of pictures that are nearly the same, among those that the filter leaves.

    A page looks at pictures for two seconds at most, so it may have fewer groups than `limit`, or none, and yet a
    `next_cursor`. Two pictures whose score is `min_score` or more are in one group at least, unless one has more than
    100 such others: then only the nearest of these are seen, and the group says `more`.
    """
    started, snapshot = time.perf_counter(), context.live.current
    wanted = Criteria(parse_query_filter(filter), caller.collections, collection)
    query = ["duplicates", min_score, filter, collection, caller.id if caller.collections is not None else None]
    state, place = snapshot.pictures.identity.name, None
    if cursor is not None:
        at = context.cursors.read(query, cursor)
        if at["state"] != state:
            raise Gone("the vectors have changed: begin again without a cursor")
        place = (at["after"][0], at["after"][1])
    found = await _find_page(snapshot, context, wanted, min_score, limit, place)
    groups = await _list_groups(found.groups, context, caller)
    following = None
    if found.place is not None:
        following = context.cursors.write(query, {"state": state, "after": [*found.place]})
    answer = schemas.Duplicates(
        items=groups,
        examined=found.examined,
        release=snapshot.release.number,
        generation=name_generation(snapshot.pictures, caller),
        next_cursor=following,
        timing_ms=count_milliseconds(started),
    )
    return await context.answer(lambda: answer)


async def _find_page(
    snapshot: Snapshot, context: Context, wanted: Criteria, least: float, limit: int, after: Place | None
) -> DuplicatesPage:
    """Some pictures after others until there are `limit` groups or the time is over; no place at the end of all.

    One page is made at a time.
    """
    if not wanted.is_unrestricted:  # with its own time to wait: a page finds it kept
        await context.lanes.filter.run(context.selection.select_keys, wanted)
    gallery, selection, pictures = context.gallery, context.selection, snapshot.pictures
    fingerprint = context.encoder.image_fingerprint

    def page() -> DuplicatesPage:
        groups, examined, place, until = list[Group](), 0, after, time.monotonic() + _SECONDS
        while True:
            part = find_groups(gallery, selection, fingerprint, pictures, least, wanted, place, limit - len(groups))
            groups += part.groups
            examined, place = examined + part.examined, part.place
            if place is None or len(groups) >= limit or time.monotonic() > until:
                return DuplicatesPage(tuple(groups), examined, place)

    return await context.lanes.duplicates.run(page)


async def _list_groups(groups: tuple[Group, ...], context: Context, caller: Principal) -> list[schemas.DuplicateGroup]:
    """Describe groups as they are sent. Of a bound key, a picture that was moved away since is in none."""
    pictures = {picture for group in groups for picture in (group.head, *(near.picture for near in group.others))}
    if caller.collections is not None and pictures:
        pictures = {*await context.lanes.read.run(context.selection.find_records, sorted(pictures), caller.collections)}
    shown = list[schemas.DuplicateGroup]()
    for group in groups:
        scored = [(group.head, 1.0), *((near.picture, near.score) for near in group.others)]
        kept = [(picture, score) for picture, score in scored if picture in pictures]
        if len(kept) > 1 and kept[0][0] == group.head:
            near = [
                schemas.NearPicture(id=picture, score=score, url=f"{make_path(picture)}/content")
                for picture, score in kept
            ]
            shown.append(schemas.DuplicateGroup(pictures=near, more=group.more))
    return shown
