"""The routes of searches, for pictures and captions, one or many; and of embeddings and models, as OpenAI has them."""

import asyncio
import base64
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request, Response

from index.filters import parse_filter
from index.selection import Criteria
from index.snapshot import Route, Snapshot
from index.vectors import Vector
from model.text import clean
from service.auth import AppContext, Caller, GuardedRoute, require_scope
from service.batching import EncodedQuery
from service.context import Context, QueryFields, count_milliseconds, find_unwanted_fields, name_generation
from service.forms import BodyKind, make_too_large
from service.people import Principal
from service.problems import convert_to_refusal, make_problem_response, refuse
from service.requests import JSON, run_unless_client_leaves, validate
from service.schemas import search as schemas
from service.search import Search, choose_caption_languages
from store.errors import Unavailable

router = APIRouter(prefix="/v1/search", tags=["search"], route_class=GuardedRoute)
embeddings_router = APIRouter(prefix="/v1/embeddings", tags=["search"], route_class=GuardedRoute)
models_router = APIRouter(prefix="/v1/models", tags=["search"], route_class=GuardedRoute)
_PICTURE = "data:image/"  # how a picture among the inputs begins; a text as long as one would be refused anyway
_BASE64 = ";base64"
_Input = bytes | tuple[Route, str]
_MOST_PICTURES = 16  # in one request: they are decoded one after another
_SECONDS = 10.0  # after which no search of a batch begins, and those under way are given up
_AT_ONCE = 4  # searches of one batch: half of the threads that searches have
_BYTES = 32 << 20  # of answers in one batch, after which the others are refused


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
        return schemas.CaptionHits(
            items=[schemas.CaptionHit.model_validate(caption) for caption in captions],
            release=snapshot.release.number,
            generations={tag: name_generation(snapshot.captions[tag], caller) for tag in tags if tag in snapshot.views},
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


@dataclass(frozen=True)
class _EmbeddedInput:
    """The vector of one input; of a text, how many tokens it has, and in which language it was read."""

    vector: Vector
    tokens: int = 0
    language: str | None = None


@embeddings_router.post("", response_model=schemas.Embeddings)
@require_scope("search", BodyKind.PICTURES_IN_JSON, allows_bound_keys=True)
async def embed(body: schemas.EmbeddingsRequest, request: Request, context: AppContext) -> Response:
    """Unit vectors of texts and pictures; with `language` `auto`, each text is encoded by its own language's version.

    A picture among the inputs is a data URL in base64; with a form, one file is sent instead.
    """
    snapshot = context.live.current
    inputs: list[_Input] = request.state.files
    if bool(body.input) == bool(inputs):
        refuse("body.input", "missing", "send either `input` or a picture")
    with contextlib.ExitStack() as place:
        if body.input:
            most = context.settings.picture_bytes
            inputs = await context.lanes.search.run(_read_inputs, body.input, body.language, snapshot, most)
            small = 0 < request.state.body.declared <= context.settings.json_bytes  # else it has a place already
            if small and any(isinstance(item, bytes) for item in inputs):
                place.enter_context(context.picture_queue.searches.admit())
        embedded = await run_unless_client_leaves(request, _encode_inputs(inputs, context))
    return await context.answer(lambda: _make_answer(embedded, body.encoding_format, _name_model(context)))


def _read_inputs(texts: Sequence[str], language: str, snapshot: Snapshot, most: int) -> list[_Input]:
    """Read each input: the bytes of a picture, `most` of them, or a cleaned text with the view that encodes it."""
    if sum(text.startswith(_PICTURE) for text in texts) > _MOST_PICTURES:
        refuse("body.input", "too_long", f"one request may hold at most {_MOST_PICTURES} pictures")
    return [
        _decode_picture(text, place, most)
        if text.startswith(_PICTURE)
        else (snapshot.route(language, cleaned := clean(text)), cleaned)
        for place, text in enumerate(texts)
    ]


def _decode_picture(url: str, place: int, most: int) -> bytes:
    """Return the file in a data URL; what it says of the format is ignored."""
    head, _, content = url.partition(",")
    try:
        if not head.endswith(_BASE64):
            raise ValueError
        data = base64.b64decode(content, validate=True)
    except ValueError:  # of base64, too
        refuse(f"body.input.{place}", "data_url", "a picture is sent as `data:image/png;base64,` and its bytes")
    if len(data) > most:
        raise make_too_large(most)
    return data


async def _encode_inputs(inputs: Sequence[_Input], context: Context) -> list[_EmbeddedInput]:
    """Encode each input, in order; all texts of one view together, pictures one after another."""
    texts = iter(await _encode_texts([item for item in inputs if not isinstance(item, bytes)], context))
    return [
        _EmbeddedInput(await context.picture_queue.encode(item)) if isinstance(item, bytes) else next(texts)
        for item in inputs
    ]


async def _encode_texts(items: Sequence[tuple[Route, str]], context: Context) -> list[_EmbeddedInput]:
    views = {route.view.key: route.view for route, _ in items}
    queries: dict[tuple[tuple[int, bool], str], EncodedQuery] = {}
    for key, view in views.items():
        texts = [text for route, text in items if route.view.key == key]
        encoded = await context.text_queue.encode(view, texts)
        queries |= {(key, text): query for text, query in zip(texts, encoded, strict=True)}
    found = [(queries[route.view.key, text], route.used) for route, text in items]
    return [_EmbeddedInput(query.vector, query.tokens, language) for query, language in found]


def _make_answer(embedded: Sequence[_EmbeddedInput], encoding_format: str, model: str) -> schemas.Embeddings:
    tokens = sum(each.tokens for each in embedded)
    return schemas.Embeddings(
        data=[
            schemas.Embedding(index=index, embedding=_format_vector(each.vector, encoding_format))
            for index, each in enumerate(embedded)
        ],
        languages=[each.language for each in embedded],
        model=model,
        usage=schemas.Usage(prompt_tokens=tokens, total_tokens=tokens),
    )


def _format_vector(vector: Vector, encoding_format: str) -> list[float] | str:
    if encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(value) for value in vector]


@models_router.get("")
@require_scope("search", allows_bound_keys=True)
def list_models(context: AppContext) -> schemas.Models:
    """The one model of this service, as OpenAI lists models, with the languages that it reads."""
    snapshot = context.live.current
    base = snapshot.release.base
    first = context.registry.versions.get(base)
    taught = sorted(tag for tag, version in snapshot.release.languages.items() if version != base)
    model = schemas.Model(
        id=_name_model(context),
        created=int(first.created_at.timestamp()),
        languages=list(context.encoder.languages),
        taught=taught,
        dimension=context.encoder.dimension,
    )
    return schemas.Models(data=[model])


def _name_model(context: Context) -> str:
    """Name the model in answers: as the base, without the path of a checkpoint."""
    return f"pictoglot/{context.base}"
