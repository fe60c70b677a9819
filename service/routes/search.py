"""Search: pictures for a text or a picture, captions for a picture. Encodes in the context's lanes."""

import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from index.engine import Vector
from index.snapshot import PictureHit, Snapshot
from model.errors import FieldError, Gone, InvalidInput
from model.text import clean
from service import bodies
from service.auth import Body, GuardedRoute, Scope, needs
from service.context import Context, Here
from service.documents import taking
from service.language import AUTO, SHARED, Choice, choose, served
from service.presence import unless_left
from service.schemas import search as schemas
from service.uploads import picture_of

router = APIRouter(prefix="/v1/search", tags=["search"], route_class=GuardedRoute)


@dataclass(frozen=True)
class _Asked:
    """What the search for pictures is for, however it was asked."""

    vector: Vector
    choice: Choice | None
    version: int | None
    truncated: bool
    question: str  # names text or picture, language and min_score: what a cursor belongs to
    limit: int
    min_score: float | None
    cursor: str | None


@router.post(
    "/pictures", openapi_extra=taking(json=schemas.PictureSearch, form=schemas.SimilarPictures, file="picture")
)
@needs(Scope.SEARCH, Body.PICTURE)
async def search_pictures(request: Request, context: Here) -> schemas.PictureHits:
    """Pictures for a text, or, with a form, pictures like an uploaded one."""
    started = time.perf_counter()
    snapshot = context.holder.current
    if bodies.media_type(request) == bodies.MULTIPART:
        asked = await _by_picture(request, context, snapshot)
    else:
        request.state.body.allow(*context.body_limits[Body.JSON])
        asked = await _by_text(request, context, snapshot)
    after = _after(context, snapshot, asked)
    wanted = asked.limit + 1  # one more tells whether there is a next page
    hits = await run_in_threadpool(snapshot.search_pictures, asked.vector, wanted, after, asked.min_score)
    items = [
        schemas.PictureHit(
            picture=hit.picture,
            score=hit.score,
            rank=hit.rank,
            url=f"/v1/pictures/{hit.picture}/content",
            captions=snapshot.captions_of(hit.picture),
        )
        for hit in hits[: asked.limit]
    ]
    choice = asked.choice
    if choice is not None:
        context.metrics.search(choice.used, choice.source)
    return schemas.PictureHits(
        items=items,
        language=schemas.LanguageUsed.model_validate(choice) if choice else None,
        version=asked.version,
        release=snapshot.release.number,
        generation=snapshot.pictures.generation,
        truncated=asked.truncated,
        warnings=list(choice.warnings) if choice else [],
        next_cursor=_next(context, snapshot, asked, hits[asked.limit - 1]) if len(hits) > asked.limit else None,
        timing_ms=_since(started),
    )


@router.post(
    "/captions", openapi_extra=taking(json=schemas.CaptionSearch, form=schemas.CaptionsOfUpload, file="picture")
)
@needs(Scope.SEARCH, Body.PICTURE)
async def search_captions(request: Request, context: Here) -> schemas.CaptionHits:
    """Captions for an uploaded picture or one of the gallery, `limit` in each language."""
    started = time.perf_counter()
    snapshot = context.holder.current
    asked: schemas.CaptionSearch | schemas.CaptionsOfUpload
    if bodies.media_type(request) == bodies.MULTIPART:
        data, form = await picture_of(request, context)
        asked = form.one(schemas.CaptionsOfUpload, lists=("languages",))
        tags = _tags(_listed(asked.languages), snapshot)
        picture = await unless_left(request, _encoded(context, data))
    else:
        request.state.body.allow(*context.body_limits[Body.JSON])
        asked = await bodies.read_json(request, schemas.CaptionSearch)
        tags = _tags(asked.languages, snapshot)
        picture = snapshot.picture_vector(asked.picture)
    found = await run_in_threadpool(snapshot.search_captions, picture, tags, asked.limit)
    return schemas.CaptionHits(
        items=[schemas.CaptionHit.model_validate(hit) for hit in found],
        release=snapshot.release.number,
        generations={tag: snapshot.captions[tag].generation for tag in tags},
        timing_ms=_since(started),
    )


async def _by_text(request: Request, context: Context, snapshot: Snapshot) -> _Asked:
    body = await bodies.read_json(request, schemas.PictureSearch)
    text = clean(body.text)
    choice = choose(body.language, text, snapshot.release.languages, snapshot.detector)
    view = snapshot.shared_view if choice.used == SHARED else snapshot.views[choice.used]
    (query,) = await unless_left(request, context.encode(view, [text]))
    question = _question(["behind, text", text, body.language, body.min_score])
    return _Asked(
        query.vector, choice, view.version, query.truncated, question, body.limit, body.min_score, body.cursor
    )


async def _by_picture(request: Request, context: Context, snapshot: Snapshot) -> _Asked:
    data, form = await picture_of(request, context)
    body = form.one(schemas.SimilarPictures)
    if body.language not in (AUTO, SHARED):
        served(body.language, snapshot.release.languages)  # a picture is read alike for all, but who names one means it
    vector = await unless_left(request, _encoded(context, data))
    question = _question(["behind, picture", hashlib.sha256(data).hexdigest(), body.min_score])
    return _Asked(vector, None, None, False, question, body.limit, body.min_score, body.cursor)


async def _encoded(context: Context, data: bytes) -> Vector:
    picture = await run_in_threadpool(context.decoder.decode, data)
    (vector,) = await context.pictures([picture.rgb])
    return vector


def _question(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _after(context: Context, snapshot: Snapshot, asked: _Asked) -> PictureHit | None:
    """What the page before ended with; a cursor of another release or generation has expired: scores may differ."""
    if asked.cursor is None:
        return None
    place = context.cursors.read(asked.question, asked.cursor)
    if (place["release"], place["generation"]) != (snapshot.release.number, snapshot.pictures.generation):
        raise Gone("another release or generation serves now: search again")
    return PictureHit(*place["after"])


def _next(context: Context, snapshot: Snapshot, asked: _Asked, last: PictureHit) -> str:
    generation, after = snapshot.pictures.generation, [last.picture, last.score, last.rank]
    place = {"release": snapshot.release.number, "generation": generation, "after": after}
    return context.cursors.write(asked.question, place)


def _tags(asked: list[str] | None, snapshot: Snapshot) -> list[str]:
    """The languages asked for, each once, in canonical form; by default every learned one."""
    known = sorted(snapshot.release.languages)
    return known if asked is None else list(dict.fromkeys(served(tag, known) for tag in asked))


def _listed(values: list[str] | None) -> list[str] | None:
    """Tags of a form: repeated, separated by commas, or one JSON list."""
    if values is None:
        return None
    if len(values) == 1 and values[0].startswith("["):
        found = bodies.parse_json(values[0].encode())
        if not isinstance(found, list) or not all(isinstance(tag, str) for tag in found) or not found:
            raise InvalidInput("`languages` is a list of tags", errors=(FieldError("body.languages", "list_type"),))
        return found
    return [tag.strip() for value in values for tag in value.split(",")]


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1_000, 3)
