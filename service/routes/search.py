"""Search: pictures for a text, a picture or both, many such at once, captions for a picture. Encodes in queues."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request, Response

from index.selection import Criteria
from index.snapshot import Snapshot
from service.auth import GuardedRoute, Principal, needs
from service.bodies import JSON, unless_client_leaves, validate
from service.context import AppContext, Caller, Context
from service.forms import Body
from service.problems import of_one, problem
from service.schemas import search as schemas
from service.search import (
    QueryFields,
    Search,
    choose_caption_languages,
    count_milliseconds,
    find_unwanted_fields,
    find_vector,
    name_generation,
    parse_body_filter,
)
from store.errors import FieldError, InvalidInput, Unavailable

router = APIRouter(prefix="/v1/search", tags=["search"], route_class=GuardedRoute)
_SECONDS = 10.0  # after which no search of a batch begins, and those under way are given up
_AT_ONCE = 4  # searches of one batch: half of the threads that searches have
_BYTES = 32 << 20  # of answers in one batch, after which the others are refused


@router.post("/pictures", response_model=schemas.PictureHits)
@needs("search", Body.PICTURE, parted=True)
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
    # the search alone holds the picture's bytes, and lets go of them when they are encoded
    search = Search(
        body,
        context.live.current,
        context,
        caller,
        picture=state.files.pop() if state.files else None,
        parts=state.parts,
    )
    await unless_client_leaves(request, search.encode())
    return await search.respond(unwanted)


@router.post("/captions", response_model=schemas.CaptionHits)
@needs("search", Body.PICTURE, parted=True)
async def search_captions(
    body: schemas.CaptionSearch, request: Request, context: AppContext, caller: Caller
) -> Response:
    """Captions for an uploaded picture or one in the gallery, `limit` in each language; only what the filter leaves.

    A base that reads more than English finds captions in languages that were not taught too, with the warning
    `language_not_taught`.
    """
    started, parts, snapshot = time.perf_counter(), request.state.parts, context.live.current
    tags, wanted = (
        choose_caption_languages(body.languages, snapshot),
        Criteria(parse_body_filter(body.filter), caller.collections),
    )
    parts.end("read")
    if request.state.files:
        vector = await unless_client_leaves(request, context.pictures.encode(request.state.files.pop()))
        parts.end("picture")
    elif body.picture:
        vector = await find_vector(body.picture, snapshot, context, caller)
    else:
        raise InvalidInput("name a picture, or send one", errors=(FieldError("body.picture", "missing"),))
    reader, allow = snapshot.release.find_version, context.selection.find_allowed_keys
    filtered = not wanted.is_unrestricted
    allowed = {
        tag: await context.lanes.filter.run(allow, wanted, tag, reader(tag)) if filtered else None for tag in tags
    }

    def answer() -> schemas.CaptionHits:
        captions = snapshot.search_captions(vector, tags, body.limit, allowed)
        parts.end("scan")
        found = {caption.language for caption in captions}
        if caller.collections is None:
            named = [tag for tag in tags if tag in snapshot.captions]
        else:  # it is not told which other languages the captions of other collections are in
            named = [tag for tag in tags if tag in snapshot.views or tag in found]
        return schemas.CaptionHits(
            items=[schemas.CaptionHit.model_validate(caption) for caption in captions],
            release=snapshot.release.number,
            generations={tag: name_generation(snapshot.captions[tag], caller) for tag in named},
            warnings=list(snapshot.warn_of_untaught(found.union(tags if body.languages is not None else ()))),
            timing_ms=count_milliseconds(started),
        )

    return await context.answer(answer, parts)


@router.post("/batch", response_model=schemas.SearchAnswers)
@needs("search", Body.SEARCHES, parted=True)
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
    batch = _Batch(context, caller, context.live.current, unwanted, request.state.request_id)
    items = await unless_client_leaves(request, batch.answer(body.searches))
    request.state.parts.end("searches")
    tail = f'],"release":{batch.snapshot.release.number},"timing_ms":{count_milliseconds(started)}}}'.encode()
    whole = await context.lanes.search.run(lambda: b'{"items":[' + b",".join(items) + tail)
    return Response(whole, media_type=JSON)


@dataclass
class _Batch:
    """The searches of one request under way: each is answered or refused on its own, in bounded time."""

    context: Context
    caller: Principal
    snapshot: Snapshot
    unwanted: frozenset[str]  # fields of each hit
    request_id: str
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    size: int = 0  # bytes of the answers so far

    async def answer(self, searches: list[Any]) -> list[bytes]:
        """The item of each search, in their order; raises none of their errors."""
        deadline = asyncio.get_running_loop().time() + _SECONDS
        return await asyncio.gather(*(self._item(number, given, deadline) for number, given in enumerate(searches)))

    async def _item(self, number: int, given: Any, deadline: float) -> bytes:
        answering = self._search(given, f"body.searches.{number}", deadline)
        (outcome,) = await asyncio.gather(answering, return_exceptions=True)
        if isinstance(outcome, Response):
            return b'{"status":200,"answer":%s,"problem":null}' % bytes(outcome.body)
        refusal = problem(self.request_id, of_one(outcome))
        return b'{"status":%d,"problem":%s,"answer":null}' % (refusal.status_code, bytes(refusal.body))

    async def _search(self, given: Any, place: str, deadline: float) -> Response:
        try:
            async with asyncio.timeout_at(deadline):
                async with self.places:
                    body = validate(schemas.PictureSearch, given, place)
                    search = Search(body, self.snapshot, self.context, self.caller, place=place)
                # before a place is taken: those that wait for the registry hold up no other search of the batch
                reads = self.context.lanes.batch_reads if search.reads_registry else contextlib.nullcontext()
                async with reads, self.places:
                    self._count()
                    search.started = time.perf_counter()
                    await search.encode()
                    response = await search.respond(self.unwanted)
        except TimeoutError:
            raise Unavailable("the searches of this batch took too long: send fewer") from None
        self._count(len(response.body))
        return response

    def _count(self, size: int = 0) -> None:
        """Add the bytes of an answer; raises `Unavailable` when there are too many, from then on always."""
        self.size += size
        if self.size > _BYTES:
            raise Unavailable("the answers of this batch are too large: send fewer searches, or ask for fewer fields")
