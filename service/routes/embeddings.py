"""Embeddings in OpenAI's format, for clients that know no other. Searches nothing."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from index.snapshot import Snapshot
from index.vectors import Vector
from model.text import clean
from service import bodies
from service.auth import Body, GuardedRoute, needs
from service.bodies import unless_client_leaves
from service.context import AppContext, Context
from service.errors import TooLarge
from service.forms import picture_of
from service.openapi import taking
from service.routes.models import name_of
from service.schemas import search as schemas
from store.errors import FieldError, InvalidInput

router = APIRouter(prefix="/v1/embeddings", tags=["search"], route_class=GuardedRoute)
_PICTURE = "data:image/"  # how a picture among the inputs begins; a text as long as one would be refused anyway
_BASE64 = ";base64"
_MOST_PICTURES = 16  # in one request: they are decoded one after another


@dataclass(frozen=True)
class _Embedded:
    """The vector of one input, and how many tokens it has; a picture has none."""

    vector: Vector
    tokens: int = 0


@router.post(
    "",
    response_model=schemas.Embeddings,
    openapi_extra=taking(json=schemas.EmbeddingsRequest, form=schemas.PictureEmbedding, file="picture"),
)
@needs("search", Body.PICTURES_IN_JSON, parted=True)
async def embed(request: Request, context: AppContext) -> Response:
    """Unit vectors of texts and pictures; with `language` `auto`, each text is encoded by its own language's version.

    A picture among the inputs is a data URL in base64; with a form, one file is sent instead.
    """
    snapshot = context.live.current
    body: schemas.EmbeddingsRequest | schemas.PictureEmbedding
    is_form = bodies.media_type(request) == bodies.MULTIPART
    small = 0 < request.state.body.declared <= context.settings.json_bytes
    with ExitStack() as place:
        if is_form or not small:  # before the body is read
            place.enter_context(context.pictures.searches.place())
        if is_form:
            data, form = await picture_of(request, context)
            body, inputs = form.parse(schemas.PictureEmbedding), [data]
        else:
            _refuse_many_values(await request.body(), context.settings.json_bytes)
            body = await bodies.read_json(request, schemas.EmbeddingsRequest)
            read = _reader(body, snapshot, context.settings.picture_bytes)
            inputs = await to_thread.run_sync(read, limiter=context.searching)
            if small and any(isinstance(given, bytes) for given in inputs):
                place.enter_context(context.pictures.searches.place())
        embedded = await unless_client_leaves(request, _embedded(inputs, context))
    return await context.answer(lambda: _answer(embedded, body.encoding_format, name_of(context)))


def _refuse_many_values(data: bytes, most: int) -> None:
    """Refuse a body with room for pictures that has more values than one without: they would take seconds to parse."""
    if len(data) > most and sum(data.count(mark) for mark in (b"[", b"{", b",")) > most:
        raise TooLarge(f"besides pictures, a body may have at most {most} bytes")


def _reader(body: schemas.EmbeddingsRequest, snapshot: Snapshot, most: int) -> Any:
    def read() -> list[bytes | tuple[Any, str]]:
        if sum(given.startswith(_PICTURE) for given in body.input) > _MOST_PICTURES:
            where = (FieldError("body.input", "too_long"),)
            raise InvalidInput(f"one request may hold at most {_MOST_PICTURES} pictures", errors=where)
        return [
            _bytes(given, place, most)
            if given.startswith(_PICTURE)
            else (snapshot.route(body.language, text := clean(given)).view, text)
            for place, given in enumerate(body.input)
        ]

    return read


def _bytes(url: str, place: int, most: int) -> bytes:
    """The file in a data URL; what it says of the format is ignored."""
    head, _, content = url.partition(",")
    try:
        if not head.endswith(_BASE64):
            raise ValueError
        data = base64.b64decode(content, validate=True)
    except (ValueError, binascii.Error) as error:
        where = (FieldError(f"body.input.{place}", "data_url"),)
        raise InvalidInput("a picture is sent as `data:image/png;base64,` and its bytes", errors=where) from error
    if len(data) > most:
        raise TooLarge(f"a file here may have at most {most} bytes")
    return data


async def _embedded(inputs: Sequence[bytes | tuple[Any, str]], context: Context) -> list[_Embedded]:
    """One for each input, in order; all texts of one view together, pictures one after another."""
    texts = await _texts([given for given in inputs if not isinstance(given, bytes)], context)
    return [
        _Embedded(await context.pictures.encode(given))
        if isinstance(given, bytes)
        else texts[given[0].version, given[1]]
        for given in inputs
    ]


async def _texts(items: Sequence[tuple[Any, str]], context: Context) -> Mapping[tuple[int, str], _Embedded]:
    by_view: dict[int, list[tuple[Any, str]]] = {}
    for view, text in items:
        by_view.setdefault(view.version, []).append((view, text))
    embedded: dict[tuple[int, str], _Embedded] = {}
    for version, group in by_view.items():
        texts = [text for _, text in group]
        queries = await context.texts.encode(group[0][0], texts)
        for text, query in zip(texts, queries, strict=True):
            embedded[version, text] = _Embedded(query.vector, query.tokens)
    return embedded


def _answer(embedded: Sequence[_Embedded], encoding_format: str, model: str) -> schemas.Embeddings:
    tokens = sum(each.tokens for each in embedded)
    return schemas.Embeddings(
        data=[
            schemas.Embedding(index=index, embedding=_numbers(each.vector, encoding_format))
            for index, each in enumerate(embedded)
        ],
        model=model,
        usage=schemas.Usage(prompt_tokens=tokens, total_tokens=tokens),
    )


def _numbers(vector: Vector, encoding_format: str) -> list[float] | str:
    if encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(value) for value in vector]
