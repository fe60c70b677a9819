"""The routes of many pictures: list and count them, put or change them in one request, find duplicates."""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import fastapi
from fastapi import APIRouter, Query, Request, Response

from index.bulk import BulkChange
from index.duplicates import DuplicateGroup, DuplicatesPage, find_groups
from index.facts import normalize, validate_tags
from index.gallery import PutResult
from index.records import GalleryPicture, Place, RecordInput
from index.selection import MONTHS, Criteria
from index.snapshot import Snapshot
from service import problems
from service import schemas as values
from service.auth import AppContext, Caller, GuardedRoute, require_scope
from service.context import (
    Context,
    QueryFields,
    count_milliseconds,
    exclude_fields,
    find_unwanted_fields,
    make_picture_path,
    name_generation,
    parse_query_filter,
)
from service.forms import BodyKind, make_too_large
from service.people import Principal
from service.requests import MULTIPART, run_unless_client_leaves, validate
from service.routes.pictures import add_picture, derive_id, make_items, name_picture, read_picture_fields
from service.schemas import Captions
from service.schemas import gallery as schemas
from store.errors import PictoglotError

router = APIRouter(prefix="/v1/pictures", tags=["gallery"], route_class=GuardedRoute)
overview_router = APIRouter(prefix="/v1", tags=["gallery"], route_class=GuardedRoute)
_MOST = 1_200  # values of each: a hundred years of months
_COUNTED = {"months": MONTHS, "folders": "folder", "cameras": "camera", "collections": "collection"}
_AT_ONCE = 16  # pictures of one batch under way: a transaction of `WriteQueue`, two batches for the encoder


duplicates_router = APIRouter(prefix="/v1/duplicates", tags=["gallery"], route_class=GuardedRoute)
_PAGE_SECONDS = 2.0  # after which a page of duplicates ends, whatever it has
_LEAST = 0.95
_Score = Annotated[
    values.TextNumber, Query(ge=0, le=1, description="Lowest score of two pictures that are nearly the same.")
]


async def _make_criteria(context: Context, caller: Principal, filter: str | None, collection: str | None) -> Criteria:
    """Make the criteria of a listing; its collection may be spelled in upper or lower case."""
    parsed = parse_query_filter(filter)
    if collection is not None:
        find_spelling = context.selection.find_spelling
        collection = await context.lanes.read.run(find_spelling, collection, caller.collections)
    return Criteria(parsed, caller.collections, collection)


@router.get("", response_model=schemas.PicturePage)
@require_scope("search", allows_bound_keys=True)
async def list_pictures(
    context: AppContext,
    caller: Caller,
    limit: values.QueryLimit = 20,
    cursor: values.QueryCursor = None,
    filter: values.QueryFilter = None,
    collection: values.QueryCollection = None,
    sort: values.QuerySort = "created_at",
    facets: values.QueryFacets = None,
    fields: QueryFields = None,
) -> Response:
    """Pictures in the order in which they were added or taken, or newest first; only those that the filter leaves.

    503 `registry_unavailable` after six seconds, as a search with a filter.
    """
    without = exclude_fields(find_unwanted_fields(fields, schemas.PictureItem), facets=facets is None)
    criteria = await _make_criteria(context, caller, filter, collection)
    parameters = [filter, collection, sort, caller.id if caller.collections is not None else None]
    cursor_query: object = "pictures" if parameters == [None, None, "created_at", None] else ["pictures", *parameters]

    def fetch(count: int, place: tuple[float, str] | None) -> Sequence[GalleryPicture]:
        return context.selection.list_pictures(criteria, count, place, sort)

    def make_page() -> schemas.PicturePage:
        found, following = context.cursors.paginate(
            cursor_query, limit, cursor, fetch, lambda picture: picture.find_place(sort)
        )
        items = make_items(found, context, caller.collections)
        counts = None if facets is None else context.selection.count_facets(criteria, facets)
        return schemas.PicturePage(items=items, next_cursor=following, facets=counts)

    plain = criteria.filter is None and facets is None
    answer = await (context.lanes.read if plain else context.lanes.filter).run(make_page)
    return await context.answer(lambda: answer, without=without)


@overview_router.get("/collections")
@require_scope("search", allows_bound_keys=True)
async def list_collections(context: AppContext, caller: Caller) -> schemas.Collections:
    """The collections that the key may see, by name, with the number of their pictures.

    503 `registry_unavailable` after six seconds, as a search with a filter.
    """
    found = await context.lanes.read.run(context.selection.list_collections, caller.collections)
    return schemas.Collections(items=[schemas.CollectionItem(name=name, count=count) for name, count in found])


@overview_router.get("/facets")
@require_scope("search", allows_bound_keys=True)
async def count_gallery(
    context: AppContext,
    caller: Caller,
    filter: values.QueryFilter = None,
    collection: values.QueryCollection = None,
) -> schemas.GalleryFacets:
    """Count pictures by month, newest first, and by folder, camera and collection, most first.

    Those that the filter leaves and the key may see; at most 1,200 of each. A month is that of `shown_at`, in UTC.
    503 `registry_unavailable` after six seconds, as a search with a filter.
    """
    criteria = await _make_criteria(context, caller, filter, collection)
    counts = await context.lanes.filter.run(context.selection.count_facets, criteria, [*_COUNTED.values()], _MOST)
    by_name = {name: counts[key] for name, key in _COUNTED.items()}
    return schemas.GalleryFacets.model_validate(
        {"pictures": sum(each.count for each in by_name["collections"]), **by_name}, from_attributes=True
    )


@overview_router.get("/limits")
@require_scope("search", allows_bound_keys=True)
async def get_limits(context: AppContext) -> schemas.Limits:
    """Return what a picture may have: bytes and pixels. Some formats are read up to fewer pixels: docs/gallery.md."""
    settings = context.settings
    return schemas.Limits(picture_bytes=settings.picture_bytes, picture_pixels=settings.picture_pixels)


@dataclass
class _BatchPicture:
    """A picture of a batch, with what became of it: an error when its record or its bytes cannot be taken."""

    data: bytes
    content: str = ""
    id: str | None = None
    captions: Captions | None = None
    record: RecordInput | None = None
    outcome: PutResult | BaseException | None = None


@router.post("/batch", response_model=schemas.PictureOutcomes)
@require_scope("write", BodyKind.PICTURES, allows_bound_keys=True)
async def post_batch(
    form: Annotated[schemas.BatchForm, fastapi.Body(media_type=MULTIPART)],
    request: Request,
    context: AppContext,
    caller: Caller,
    fields: QueryFields = None,
) -> Response:
    """Add or replace up to 256 pictures: all that can be taken, whatever is wrong with the others.

    One after another where several have the same id. All that are not refused can be searched when the answer arrives.
    To send the same again changes nothing. `fields` chooses what each `picture` of the answer has.
    """
    without = find_unwanted_fields(fields, schemas.PictureItem)
    read = partial(_read_entries, request.state.files, form.records, context, caller)
    entries = await context.lanes.batch.run(read)
    del read, request.state.files  # each entry alone holds its bytes, and lets go of them when it is put
    await run_unless_client_leaves(request, _put(entries, context))
    request.state.refused = sum(not isinstance(entry.outcome, PutResult) for entry in entries)  # for the log
    answer = partial(_make_answer, entries, context, caller, request.state.request_id)
    return await context.answer(answer, without={"items": {"__all__": {"picture": {*without}}}})


@router.post("/changes")
@require_scope("write", BodyKind.CHANGES, allows_bound_keys=True)
async def post_changes(body: schemas.PictureChanges, context: AppContext, caller: Caller) -> schemas.ChangeOutcomes:
    """Change up to 1,000 pictures in one transaction: tag them, move them to a collection, delete them, or bring back.

    `deleted: true` deletes them; `deleted: false` brings back, for a day, what was deleted, with captions and record.
    `kept` are those that were so already, `missing` those that there are not: to send the same again changes nothing.
    """
    caller.require_access(body.collection)
    tags, gone = validate_tags(body.add_tags), [normalize(tag).strip() for tag in body.remove_tags]
    change = BulkChange(body.ids, tags, gone, body.collection, body.deleted, caller.collections)
    outcomes = await context.write_queue.run(context.live.change_pictures, change)
    await context.refresh_successor()
    items = [schemas.ChangeOutcome(id=id, outcome=outcome) for id, outcome in outcomes.items()]
    return schemas.ChangeOutcomes(items=items, changed=sum(item.outcome == "changed" for item in items))


def _read_entries(
    pictures: Sequence[bytes | None], records: Any, context: Context, caller: Principal
) -> list[_BatchPicture]:
    """Read each picture with its record; raises `InvalidInput` where there is not one for each."""
    records = [{} for _ in pictures] if records is None else records
    if not isinstance(records, list) or len(records) != len(pictures):
        detail = "`records` must be a list of as many records as there are files `picture`"
        problems.refuse("body.records", "records_mismatch", detail)
    return [
        _read_entry(place, data, record, context, caller)
        for place, (data, record) in enumerate(zip(pictures, records, strict=True))
    ]


def _read_entry(place: int, data: bytes | None, document: Any, context: Context, caller: Principal) -> _BatchPicture:
    entry = _BatchPicture(data or b"")
    try:
        fields = validate(schemas.PictureRecord, document, f"body.records.{place}")
        entry.id = fields.id
        if data is None:
            raise make_too_large(context.settings.picture_bytes)
        entry.captions, entry.record = read_picture_fields(fields, caller)
        entry.content = hashlib.sha256(data).hexdigest()
        if fields.id is None:
            entry.id, entry.record = derive_id(entry.content, entry.record)
    except PictoglotError as error:
        entry.outcome = error
    return entry


async def _put(entries: Sequence[_BatchPicture], context: Context) -> None:
    """Put all, some at a time, those of one id in order."""
    by_id: dict[str, list[_BatchPicture]] = {}
    for entry in entries:
        if entry.outcome is None:
            by_id.setdefault(entry.id or "", []).append(entry)
    places = asyncio.Semaphore(min(_AT_ONCE, context.settings.queue_limit))

    async def put_in_order(same_id: Sequence[_BatchPicture]) -> None:
        for entry in same_id:
            async with places:
                assert entry.id is not None and entry.record is not None
                picture = entry.id, entry.content, entry.data, entry.captions, entry.record
                (entry.outcome,) = await asyncio.gather(add_picture(*picture, context), return_exceptions=True)
            entry.data = b""

    async with asyncio.TaskGroup() as group:
        for same_id in by_id.values():
            group.create_task(put_in_order(same_id))


def _make_answer(
    entries: Sequence[_BatchPicture], context: Context, caller: Principal, request_id: str
) -> schemas.PictureOutcomes:
    done = [entry.outcome for entry in entries if isinstance(entry.outcome, PutResult)]
    items_of_put = iter(make_items([put.picture for put in done], context, caller.collections))
    items = []
    for entry in entries:
        if isinstance(entry.outcome, PutResult):
            status = 201 if entry.outcome.created else 200
            item = schemas.PictureOutcome(
                id=entry.id, outcome=entry.outcome.outcome, status=status, picture=next(items_of_put), problem=None,
                already_there_as=entry.outcome.same_as,
            )  # fmt: skip
        else:
            problem = problems.make_problem_body(request_id, problems.convert_to_refusal(entry.outcome))
            item = schemas.PictureOutcome(
                id=entry.id, outcome="refused", status=problem["status"], picture=None, problem=problem,
                already_there_as=None,
            )  # fmt: skip
        items.append(item)
    return schemas.PictureOutcomes(items=items)


@duplicates_router.get("", response_model=schemas.Duplicates)
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
    criteria = await _make_criteria(context, caller, filter, collection)
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
        groups, examined, place, until = list[DuplicateGroup](), 0, after, time.monotonic() + _PAGE_SECONDS
        while True:
            new = find_groups(gallery, selection, fingerprint, picture_set, least, criteria, place, limit - len(groups))
            groups += new.groups
            examined, place = examined + new.examined, new.place
            if place is None or len(groups) >= limit or time.monotonic() > until:
                return DuplicatesPage(tuple(groups), examined, place)

    return await context.lanes.duplicates.run(fill_page)


async def _list_groups(
    groups: tuple[DuplicateGroup, ...], context: Context, caller: Principal
) -> list[schemas.DuplicateGroup]:
    """Describe groups as they are sent. A picture that was deleted since is in none, or moved out of a key's sight."""
    ids = {picture for group in groups for picture in (group.head, *(near for near, _ in group.others))}
    pictures = await context.lanes.read.run(context.selection.find_pictures, sorted(ids), caller.collections)
    described = list[schemas.DuplicateGroup]()
    for group in groups:
        scored = [(group.head, 1.0), *group.others]
        visible = [(picture, score) for picture, score in scored if picture in pictures]
        if len(visible) > 1 and visible[0][0] == group.head:
            near = [
                schemas.NearPicture(
                    id=id, name=name_picture(pictures[id]), score=score, url=f"{make_picture_path(id)}/content",
                    width=pictures[id].width, height=pictures[id].height,
                )
                for id, score in visible
            ]  # fmt: skip
            described.append(schemas.DuplicateGroup(pictures=near, more=group.more))
    return described
