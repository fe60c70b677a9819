"""Search: pictures for a text or picture, captions for a picture. Encodes in the context's queues."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from index.errors import PictureNotFound
from index.filters import Filter, parsed
from index.records import Record, settled
from index.selection import Wanted
from index.snapshot import AUTO, SHARED, PictureHit, Route, Snapshot
from index.vectors import Keys, Vector, VectorSet
from model.text import clean
from service import bodies, records, values
from service.auth import Body, GuardedRoute, Principal, needs
from service.bodies import unless_client_leaves
from service.context import AppContext, Caller, Context
from service.forms import picture_of
from service.openapi import taking
from service.schemas import search as schemas

router = APIRouter(prefix="/v1/search", tags=["search"], route_class=GuardedRoute)
_ENGLISH = "en"
_OF_RECORDS = frozenset({"collection", "tags", "metadata", "etag"})  # fields of a hit that are read from the registry
_UNAVAILABLE = "records_unavailable"


@dataclass(frozen=True)
class _Search:
    """A search for pictures, by text or by picture."""

    vector: Vector
    route: Route | None
    truncated: bool
    query_id: Sequence[object]  # text or picture, language, min_score: a cursor is valid for these only
    request: schemas.PictureSearch | schemas.SimilarPictures
    captions: list[str]  # the languages whose captions come with each picture
    filter: Filter | None


@router.post(
    "/pictures",
    response_model=schemas.PictureHits,
    openapi_extra=taking(json=schemas.PictureSearch, form=schemas.SimilarPictures, file="picture"),
)
@needs("search", Body.PICTURE, parted=True)
async def search_pictures(
    request: Request, context: AppContext, caller: Caller, fields: values.QueryFields = None
) -> Response:
    """Pictures for a text, or, with a form, pictures like an uploaded one; only those that the filter leaves.

    The filter is read from what is stored now, the vectors from the release that serves.
    """
    started, parts = time.perf_counter(), request.state.parts
    snapshot = context.live.current
    by_picture = bodies.media_type(request) == bodies.MULTIPART
    search = await (_by_picture if by_picture else _by_text)(request, context, snapshot)
    wanted = Wanted(search.filter, caller.collections)
    without = records.LeftOut.of(fields, schemas.PictureHit, search.request.facets)
    allowed = await context.filtering.allowed(wanted)
    if allowed is not None:
        parts.end("filter")
    facets = await context.filtering.facets(wanted, search.request.facets)

    def answer() -> schemas.PictureHits:  # one visit to a thread for all of it: each costs as much as the scan
        hits, next_cursor = context.cursors.cut(
            search.query_id if wanted.everything else [*search.query_id, search.request.filter, caller.id],
            search.request.limit,
            search.request.cursor,
            _fetch(snapshot, search, allowed),
            lambda hit: [hit.picture, hit.score, hit.rank],
            state=[snapshot.release.number, snapshot.pictures.identity.name],
        )
        parts.end("scan")
        kept: Mapping[str, Record] | None = {}
        if caller.collections is not None or _OF_RECORDS - without.fields:
            kept = context.hit_records.read([hit.picture for hit in hits], caller)
        if caller.collections is not None and kept is not None:
            hits = [hit for hit in hits if hit.picture in kept]  # one may have been moved away since it was allowed
        found = _answer(snapshot, search, hits, kept, caller)
        parts.end("captions")
        found.facets = facets
        found.next_cursor, found.timing_ms = next_cursor, _since(started)
        return found

    response = await context.answer(answer, parts, without.exclude)
    if search.route is not None:
        used = search.route.used
        known = used in snapshot.views or used == SHARED  # clients may name any tag, a metric must not have any label
        context.metrics.searches.labels(used if known else "not_taught", search.route.source).inc()
    return response


@router.post(
    "/captions",
    response_model=schemas.CaptionHits,
    openapi_extra=taking(json=schemas.CaptionSearch, form=schemas.CaptionsOfUpload, file="picture"),
)
@needs("search", Body.PICTURE, parted=True)
async def search_captions(request: Request, context: AppContext, caller: Caller) -> Response:
    """Captions for an uploaded picture or one in the gallery, `limit` in each language."""
    started, parts = time.perf_counter(), request.state.parts
    snapshot = context.live.current
    body: schemas.CaptionSearch | schemas.CaptionsOfUpload
    if bodies.media_type(request) == bodies.MULTIPART:
        with context.pictures.searches.place():
            data, form = await picture_of(request, context)
            body = form.parse(schemas.CaptionsOfUpload, lists=("languages",))
            tags = _tags(body.languages, snapshot)
            parts.end("read")
            vector = await unless_client_leaves(request, context.pictures.encode(data))
            parts.end("picture")
    else:
        body = await bodies.read_json(request, schemas.CaptionSearch)
        tags = _tags(body.languages, snapshot)
        vector = await to_thread.run_sync(
            _vector_of, body.picture, snapshot, context, caller, limiter=context.searching
        )
        parts.end("read")
    wanted, versions = Wanted(within=caller.collections), snapshot.release.languages
    allowed = {tag: await context.filtering.allowed(wanted, tag, versions[tag]) for tag in tags}

    def answer() -> schemas.CaptionHits:
        captions = snapshot.search_captions(vector, tags, body.limit, allowed)
        parts.end("scan")
        return schemas.CaptionHits(
            items=[schemas.CaptionHit.model_validate(caption) for caption in captions],
            release=snapshot.release.number,
            generations={tag: _generation(snapshot.captions[tag], caller) for tag in tags},
            timing_ms=_since(started),
        )

    return await context.answer(answer, parts)


def _vector_of(picture: str, snapshot: Snapshot, context: Context, caller: Principal) -> Vector:
    """The vector of a picture; for a bound key that of its content now: an older one may be from elsewhere."""
    if caller.collections is None:
        return snapshot.picture_vector(picture)
    content = context.gallery.get(picture, caller.collections).content_sha256
    vector = context.gallery.picture_vector(content, context.encoder.image_fingerprint)
    if vector is None:
        raise PictureNotFound("there is no picture with this id")
    return vector


async def _by_text(request: Request, context: Context, snapshot: Snapshot) -> _Search:
    body = await bodies.read_json(request, schemas.PictureSearch)
    text, filter = clean(body.text), None if body.filter is None else parsed(body.filter)
    route = snapshot.route(body.language, text)
    captions = _captions(body.captions, route.used, snapshot)
    request.state.parts.end("read")
    (query,) = await unless_client_leaves(request, context.texts.encode(route.view, [text]))
    request.state.parts.end("wait", query.seconds)
    query_id = ["behind, text", text, body.language, body.min_score]
    return _Search(query.vector, route, query.truncated, query_id, body, captions, filter)


async def _by_picture(request: Request, context: Context, snapshot: Snapshot) -> _Search:
    with context.pictures.searches.place():
        data, form = await picture_of(request, context)
        body = form.parse(schemas.SimilarPictures, lists=("captions", "facets"))
        filter = records.filter_in_form(body.filter)
        # the vector of a picture does not depend on a language: it only selects the captions
        language = body.language if body.language in (AUTO, SHARED) else snapshot.readable(body.language)
        captions = _captions(body.captions, language, snapshot)
        request.state.parts.end("read")
        vector = await unless_client_leaves(request, context.pictures.encode(data))
    request.state.parts.end("picture")
    query_id = ["behind, picture", hashlib.sha256(data).hexdigest(), body.min_score]
    return _Search(vector, None, False, query_id, body, captions, filter)


def _fetch(
    snapshot: Snapshot, search: _Search, allowed: Keys | None
) -> Callable[[int, tuple[str, float, int] | None], Sequence[PictureHit]]:
    def fetch(count: int, place: tuple[str, float, int] | None) -> Sequence[PictureHit]:
        after = None if place is None else PictureHit(*place)
        return snapshot.search_pictures(search.vector, count, after, search.request.min_score, allowed)

    return fetch


def _answer(
    snapshot: Snapshot,
    search: _Search,
    hits: Sequence[PictureHit],
    kept: Mapping[str, Record] | None,
    caller: Principal,
) -> schemas.PictureHits:
    """The answer so far; `kept` are the records of the hits, None when these cannot be read."""
    route = search.route
    shown = [hit.picture for hit in hits]
    if caller.collections is not None:
        shown = settled(kept or {}, snapshot.change)
    captions = snapshot.captions_of_each(shown, search.captions)
    items = [_hit(hit, captions.get(hit.picture, {}), (kept or {}).get(hit.picture)) for hit in hits]
    warnings = list(route.warnings) if route else []
    return schemas.PictureHits(
        items=items,
        language=schemas.LanguageUsed.model_validate(route) if route else None,
        version=route.view.version if route else None,
        release=snapshot.release.number,
        generation=_generation(snapshot.pictures, caller),
        truncated=search.truncated,
        warnings=warnings if kept is not None else [*warnings, _UNAVAILABLE],
        next_cursor=None,
        timing_ms=0.0,
    )


def _hit(hit: PictureHit, captions: dict[str, list[str]], record: Record | None) -> schemas.PictureHit:
    return schemas.PictureHit(
        picture=hit.picture,
        score=hit.score,
        rank=hit.rank,
        url=f"{values.picture_path(hit.picture)}/content",
        captions=captions,
        id=hit.picture,
        collection=record and record.collection,
        tags=record and list(record.tags),
        metadata=record and dict(record.metadata),
        etag=record and record.etag,
    )


def _generation(vector_set: VectorSet, caller: Principal) -> str:
    """For a bound key without the last change: it would tell what happens in other collections."""
    return vector_set.generation if caller.collections is None else vector_set.identity.name


def _captions(requested: list[str] | str | None, used: str, snapshot: Snapshot) -> list[str]:
    """The languages of the captions to send: the requested ones, by default the language used, and English."""
    if requested is None:
        return [tag for tag in dict.fromkeys((used, _ENGLISH)) if tag in snapshot.captions]
    if requested == "none":
        return []
    return _tags(None if isinstance(requested, str) else requested, snapshot)


def _tags(requested: list[str] | None, snapshot: Snapshot) -> list[str]:
    """The requested languages in canonical form, without duplicates; by default all available ones."""
    return sorted(snapshot.views) if requested is None else list(dict.fromkeys(map(snapshot.served, requested)))


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1_000, 3)
