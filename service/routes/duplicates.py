"""Pictures that are nearly the same: groups of them, page by page, each page after a bounded amount of work."""

import time
from typing import Annotated

from fastapi import APIRouter, Query, Response

from index.duplicates import DuplicatesPage, Group, find_groups
from index.records import GalleryPicture, Place
from index.selection import Criteria
from index.snapshot import Snapshot
from service import values
from service.auth import GuardedRoute, require_scope
from service.context import AppContext, Caller, Context, make_picture_path
from service.listings import count_milliseconds, name_generation, parse_query_filter
from service.people import Principal
from service.routes.gallery import name_picture
from service.schemas import gallery as schemas

router = APIRouter(prefix="/v1/duplicates", tags=["gallery"], route_class=GuardedRoute)
_SECONDS = 2.0  # after which a page ends, whatever it has
_LEAST = 0.95
_Score = Annotated[
    values.TextNumber, Query(ge=0, le=1, description="Lowest score of two pictures that are nearly the same.")
]


@router.get("", response_model=schemas.Duplicates)
@require_scope("search", allows_bound_keys=True)
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
    criteria = Criteria(parse_query_filter(filter), caller.collections, collection)
    query = ["duplicates", min_score, filter, collection, caller.id if caller.collections is not None else None]
    state, cursors = snapshot.picture_set.identity.name, context.cursors
    place = cursors.read_place(query, cursor, state)
    page = await _find_page(snapshot, context, criteria, min_score, limit, place and (place[0], place[1]))
    groups = await _list_groups(page.groups, context, caller)
    answer = schemas.Duplicates(
        items=groups,
        examined=page.examined,
        release=snapshot.release.number,
        generation=name_generation(snapshot.picture_set, caller),
        next_cursor=None if page.place is None else cursors.write_place(query, page.place, state),
        timing_ms=count_milliseconds(started),
    )
    return await context.answer(lambda: answer)


async def _find_page(
    snapshot: Snapshot, context: Context, criteria: Criteria, least: float, limit: int, after: Place | None
) -> DuplicatesPage:
    """Find groups after a place, until there are `limit` or the time is over; no next place at the end of all.

    One page is made at a time.
    """
    if not criteria.is_unrestricted:  # with its own time to wait: a page finds it kept
        await context.lanes.filter.run(context.selection.select_vector_keys, criteria)
    gallery, selection, picture_set = context.gallery, context.selection, snapshot.picture_set
    fingerprint = context.encoder.image_fingerprint

    def fill_page() -> DuplicatesPage:
        groups, examined, place, until = list[Group](), 0, after, time.monotonic() + _SECONDS
        while True:
            new = find_groups(gallery, selection, fingerprint, picture_set, least, criteria, place, limit - len(groups))
            groups += new.groups
            examined, place = examined + new.examined, new.place
            if place is None or len(groups) >= limit or time.monotonic() > until:
                return DuplicatesPage(tuple(groups), examined, place)

    return await context.lanes.duplicates.run(fill_page)


async def _list_groups(groups: tuple[Group, ...], context: Context, caller: Principal) -> list[schemas.DuplicateGroup]:
    """Describe groups as they are sent. A picture that was deleted since is in none, or moved out of a key's sight."""
    ids = {picture for group in groups for picture in (group.head, *(near for near, _ in group.others))}
    pictures = await context.lanes.read.run(context.selection.find_pictures, sorted(ids), caller.collections)
    described = list[schemas.DuplicateGroup]()
    for group in groups:
        scored = [(group.head, 1.0), *group.others]
        visible = [(picture, score) for picture, score in scored if picture in pictures]
        if len(visible) > 1 and visible[0][0] == group.head:
            near = [_describe_picture(pictures[picture], score) for picture, score in visible]
            described.append(schemas.DuplicateGroup(pictures=near, more=group.more))
    return described


def _describe_picture(picture: GalleryPicture, score: float) -> schemas.NearPicture:
    size = {"width": picture.width, "height": picture.height}
    url = f"{make_picture_path(picture.id)}/content"
    return schemas.NearPicture(id=picture.id, name=name_picture(picture), score=score, url=url, **size)
