"""The routes of searches: pictures for a text, a picture or both, many at once, captions; what is nearly the same."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from index.duplicates import DuplicatesPage, Group, find_groups
from index.filters import parse_filter
from index.records import Place
from index.selection import Criteria
from index.snapshot import Snapshot
from service import schemas as values
from service.auth import AppContext, Caller, GuardedRoute, require_scope
from service.context import (
    Context,
    QueryFields,
    count_milliseconds,
    find_unwanted_fields,
    make_picture_path,
    name_generation,
    parse_query_filter,
)
from service.forms import BodyKind
from service.people import Principal
from service.problems import convert_to_refusal, make_problem_response, refuse
from service.requests import JSON, run_unless_client_leaves, validate
from service.routes.gallery import name_picture
from service.schemas import gallery as gallery_schemas
from service.schemas import search as schemas
from service.search import Search, choose_caption_languages
from store.errors import Unavailable

router = APIRouter(prefix="/v1/search", tags=["search"], route_class=GuardedRoute)
_SECONDS = 10.0  # after which no search of a batch begins, and those under way are given up
_AT_ONCE = 4  # searches of one batch: half of the threads that searches have
_BYTES = 32 << 20  # of answers in one batch, after which the others are refused
duplicates_router = APIRouter(prefix="/v1/duplicates", tags=["gallery"], route_class=GuardedRoute)
_PAGE_SECONDS = 2.0  # after which a page of duplicates ends, whatever it has
_LEAST = 0.95
_Score = Annotated[
    values.TextNumber, Query(ge=0, le=1, description="Lowest score of two pictures that are nearly the same.")
]


@router.post("/pictures", response_model=schemas.PictureHits)
@require_scope("search", BodyKind.PICTURE, allows_bound_keys=True)
async def search_pictures(
    body: schemas.PictureSearch,
    request: Request,
    context: AppContext,
    caller: Caller,
    fields: QueryFields = None,
) -> Response:
    """Pictures for a text, like a picture of the gallery or, with a form, an uploaded one; only what the filter leaves.

    Filter and words are read from what is stored now, the vectors from the release that serves.
    """
    unwanted, state = find_unwanted_fields(fields, schemas.PictureHit), request.state
    # the search alone holds the picture that `GuardedRoute` has read, and lets go of it when it is encoded
    search = Search(
        body,
        context.live.current,
        context,
        caller,
        upload=state.files.pop() if state.files else None,
        timing=state.timing,
    )
    return await run_unless_client_leaves(request, search.answer(unwanted))


@router.post("/captions", response_model=schemas.CaptionHits)
@require_scope("search", BodyKind.PICTURE, allows_bound_keys=True)
async def search_captions(
    body: schemas.CaptionSearch, request: Request, context: AppContext, caller: Caller
) -> Response:
    """Captions for an uploaded picture or one in the gallery, `limit` in each language; only what the filter leaves.

    A base that reads more than English finds captions in languages that were not taught too, with the warning
    `language_not_taught`.
    """
    started, timing, snapshot = time.perf_counter(), request.state.timing, context.live.current
    tags = choose_caption_languages(body.languages, snapshot)
    wanted = None if body.filter is None else parse_filter(body.filter, "body.filter")
    criteria = Criteria(wanted, caller.collections)
    timing.record("read")
    if request.state.files:
        vector = await run_unless_client_leaves(request, context.picture_queue.encode(request.state.files.pop()))
        timing.record("picture")
    elif body.picture:
        vector = await context.find_vector(body.picture, snapshot, caller)
    else:
        refuse("body.picture", "missing", "name a picture, or send one")
    reader, allow = snapshot.release.find_version, context.selection.find_allowed_keys
    filtered = not criteria.is_unrestricted
    allowed = {
        tag: await context.lanes.filter.run(allow, criteria, tag, reader(tag)) if filtered else None for tag in tags
    }

    def answer() -> schemas.CaptionHits:
        captions = snapshot.search_captions(vector, tags, body.limit, allowed)
        timing.record("scan")
        found = {caption.language for caption in captions}
        if caller.collections is None:
            tags_to_name = [tag for tag in tags if tag in snapshot.captions]
        else:  # it does not learn in which other languages the captions of other collections are
            tags_to_name = [tag for tag in tags if tag in snapshot.views or tag in found]
        return schemas.CaptionHits(
            items=[schemas.CaptionHit.model_validate(caption) for caption in captions],
            release=snapshot.release.number,
            generations={tag: name_generation(snapshot.captions[tag], caller) for tag in tags_to_name},
            warnings=list(snapshot.warn_of_untaught(found.union(tags if body.languages is not None else ()))),
            terms={tag: terms for tag in sorted(found) if (terms := context.terms.current.get(tag)) is not None},
            timing_ms=count_milliseconds(started),
        )

    return await context.answer(answer, timing)


@router.post("/batch", response_model=schemas.SearchAnswers)
@require_scope("search", BodyKind.SEARCHES, allows_bound_keys=True)
async def search_batch(
    body: schemas.Searches,
    request: Request,
    context: AppContext,
    caller: Caller,
    fields: QueryFields = None,
) -> Response:
    """Up to 100 searches for pictures. They count as so many requests.

    `items` are in their order, each with `status` and either `answer` or `problem`. After ten seconds, or 32 MiB of
    answers, those that are not answered yet are refused: `overloaded`.
    """
    started = time.perf_counter()
    unwanted = find_unwanted_fields(fields, schemas.PictureHit)
    context.rate.owe(caller.id, len(body.searches) - 1)  # one was counted when the request came
    batch = _SearchBatch(context, caller, context.live.current, unwanted, request.state.request_id)
    items = await run_unless_client_leaves(request, batch.answer(body.searches))
    request.state.timing.record("searches")
    tail = f'],"release":{batch.snapshot.release.number},"timing_ms":{count_milliseconds(started)}}}'.encode()
    whole = await context.lanes.search.run(lambda: b'{"items":[' + b",".join(items) + tail)
    return Response(whole, media_type=JSON)


@dataclass
class _SearchBatch:
    """The searches of one request under way: each is answered or refused on its own, in bounded time."""

    context: Context
    caller: Principal
    snapshot: Snapshot
    unwanted: frozenset[str]  # fields of each hit
    request_id: str
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    size: int = 0  # bytes of the answers so far

    async def answer(self, searches: list[Any]) -> list[bytes]:
        """Return the item of each search, in their order; raises none of their errors."""
        deadline = asyncio.get_running_loop().time() + _SECONDS
        return await asyncio.gather(
            *(self._answer_one(number, document, deadline) for number, document in enumerate(searches))
        )

    async def _answer_one(self, number: int, document: Any, deadline: float) -> bytes:
        answering = self._search(document, f"body.searches.{number}", deadline)
        (outcome,) = await asyncio.gather(answering, return_exceptions=True)
        if isinstance(outcome, Response):
            return b'{"status":200,"answer":%s,"problem":null}' % bytes(outcome.body)
        refusal = make_problem_response(self.request_id, convert_to_refusal(outcome))
        return b'{"status":%d,"problem":%s,"answer":null}' % (refusal.status_code, bytes(refusal.body))

    async def _search(self, document: Any, place: str, deadline: float) -> Response:
        try:
            async with asyncio.timeout_at(deadline):
                async with self.places:
                    body = validate(schemas.PictureSearch, document, place)
                    search = Search(body, self.snapshot, self.context, self.caller, place=place)
                # before a place is taken: those that wait for the registry hold up no other search of the batch
                reads = self.context.lanes.batch_reads if search.reads_registry else contextlib.nullcontext()
                async with reads, self.places:
                    self._count()
                    search.started = time.perf_counter()
                    response = await search.answer(self.unwanted)
        except TimeoutError:
            raise Unavailable("the searches of this batch took too long: send fewer") from None
        self._count(len(response.body))
        return response

    def _count(self, size: int = 0) -> None:
        """Add the bytes of an answer; raises `Unavailable` when there are too many, from then on always."""
        self.size += size
        if self.size > _BYTES:
            raise Unavailable("the answers of this batch are too large: send fewer searches, or ask for fewer fields")


@duplicates_router.get("", response_model=gallery_schemas.Duplicates)
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
    answer = gallery_schemas.Duplicates(
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
        groups, examined, place, until = list[Group](), 0, after, time.monotonic() + _PAGE_SECONDS
        while True:
            new = find_groups(gallery, selection, fingerprint, picture_set, least, criteria, place, limit - len(groups))
            groups += new.groups
            examined, place = examined + new.examined, new.place
            if place is None or len(groups) >= limit or time.monotonic() > until:
                return DuplicatesPage(tuple(groups), examined, place)

    return await context.lanes.duplicates.run(fill_page)


async def _list_groups(
    groups: tuple[Group, ...], context: Context, caller: Principal
) -> list[gallery_schemas.DuplicateGroup]:
    """Describe groups as they are sent. A picture that was deleted since is in none, or moved out of a key's sight."""
    ids = {picture for group in groups for picture in (group.head, *(near for near, _ in group.others))}
    pictures = await context.lanes.read.run(context.selection.find_pictures, sorted(ids), caller.collections)
    described = list[gallery_schemas.DuplicateGroup]()
    for group in groups:
        scored = [(group.head, 1.0), *group.others]
        visible = [(picture, score) for picture, score in scored if picture in pictures]
        if len(visible) > 1 and visible[0][0] == group.head:
            near = [
                gallery_schemas.NearPicture(
                    id=id, name=name_picture(pictures[id]), score=score, url=f"{make_picture_path(id)}/content",
                    width=pictures[id].width, height=pictures[id].height,
                )
                for id, score in visible
            ]  # fmt: skip
            described.append(gallery_schemas.DuplicateGroup(pictures=near, more=group.more))
    return described
