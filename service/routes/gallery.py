"""The gallery: adding, listing, reading and deleting pictures. Decodes and encodes in the context's queues."""

import hashlib
import re
from collections.abc import Sequence
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from index.errors import PictureNotFound
from index.gallery import GalleryPicture, NewPicture, Put
from index.pictures import media_type
from index.snapshot import Snapshot
from model import storage
from model.errors import FieldError, InvalidInput
from model.text import clean
from service import bodies, values
from service.auth import Body, GuardedRoute, needs
from service.bodies import unless_client_leaves
from service.context import AppContext, Context
from service.forms import picture_of
from service.openapi import answering, taking
from service.schemas import gallery as schemas
from service.schemas.common import Captions

router = APIRouter(prefix="/v1/pictures", tags=["gallery"], route_class=GuardedRoute)
_ID = re.compile(values.PICTURE_ID)
_CACHED, _REVALIDATED = "private, max-age=31536000, immutable", "private, no-cache"
_HASH_LENGTH = 16  # characters of the content's hash that a URL contains
_TYPES = [answering(kind)[200]["content"] for kind in ("image/jpeg", "image/webp")]
_FILE: dict[int | str, dict[str, Any]] = {200: {"description": "The file.", "content": _TYPES[0] | _TYPES[1]}}
_ContentHash = Annotated[
    str | None, Query(max_length=64, description="The content's hash, as in `url`: may be cached forever.")
]


@router.put(
    "/{id}",
    responses={201: {"model": schemas.PictureItem}},
    openapi_extra=taking(form=schemas.PictureForm, file="picture"),
)
@needs("write", Body.PICTURE)
async def put_picture(id: str, request: Request, response: Response, context: AppContext) -> schemas.PictureItem:
    """Add or replace a picture; 201 when the id is new. The picture can be searched when the answer arrives."""
    if not _ID.fullmatch(id):
        place = FieldError("path.id", "pattern")
        raise InvalidInput("an id has 1 to 128 characters of `A-Z a-z 0-9 . _ -`, no dot first", errors=(place,))
    return await _put(id, request, response, context)


@router.post(
    "", responses={201: {"model": schemas.PictureItem}}, openapi_extra=taking(form=schemas.PictureForm, file="picture")
)
@needs("write", Body.PICTURE)
async def post_picture(request: Request, response: Response, context: AppContext) -> schemas.PictureItem:
    """Add a picture under the sha256 of its bytes; the same bytes give the same id."""
    return await _put(None, request, response, context)


@router.get("", response_model=schemas.PicturePage)
@needs("search")
async def list_pictures(
    context: AppContext, limit: values.QueryLimit = 20, cursor: values.QueryCursor = None
) -> Response:
    """Pictures in the order in which they were added."""
    fetch = context.gallery.page
    page, following = await context.cursors.page("pictures", limit, cursor, fetch, lambda picture: picture.place)

    def answer() -> schemas.PicturePage:
        return schemas.PicturePage(items=_items(page, context), next_cursor=following)

    return await context.answer(answer)


@router.get("/{id}")
@needs("search")
async def get_picture(id: str, context: AppContext) -> schemas.PictureItem:
    """One picture and its captions in the languages that are served."""
    return await _item(await _existing(id, context), context)


@router.delete("/{id}", status_code=204, response_class=Response)
@needs("write")
async def delete_picture(id: str, context: AppContext) -> None:
    """Delete a picture; when the answer arrives, no search returns it any more."""
    picture = await _existing(id, context)
    await context.writes.delete(picture.id)
    await context.settle()


@router.get("/{id}/content", response_class=Response, responses=_FILE)
@needs("search")
async def picture_content(id: str, request: Request, context: AppContext, v: _ContentHash = None) -> Response:
    """The stored picture: a JPEG of at most 1,024 pixels a side; WebP if version 0.1 stored it."""
    picture = await _existing(id, context)
    return await _file(request, picture, context, named=v, thumbnail=False)


@router.get("/{id}/thumbnail", response_class=Response, responses=_FILE)
@needs("search")
async def picture_thumbnail(id: str, request: Request, context: AppContext, v: _ContentHash = None) -> Response:
    """A small copy: as the stored picture, at most 256 pixels a side."""
    picture = await _existing(id, context)
    return await _file(request, picture, context, named=v, thumbnail=True)


async def _put(id: str | None, request: Request, response: Response, context: Context) -> schemas.PictureItem:
    with context.pictures.uploads.place():
        data, form = await picture_of(request, context)
        snapshot = context.live.current
        captions = _captions(form.parse(schemas.PictureForm).captions, snapshot)
        content = hashlib.sha256(data).hexdigest()
        put = await unless_client_leaves(request, _stored(id or content, content, data, captions, context))
    response.status_code = 201 if put.created else 200
    return await _item(put.picture, context)


async def _stored(id: str, content: str, data: bytes, captions: Captions | None, context: Context) -> Put:
    picture = await context.pictures.uploads(data, context.settings.body_seconds)
    storage.require_free(context.settings.home, context.settings.free_bytes)
    vector = await run_in_threadpool(context.gallery.picture_vector, content, context.encoder.image_fingerprint)
    if vector is None:
        (vector,) = await context.pictures.encode_uploads([picture.rgb])
    width, height = picture.rgb.size
    put = await context.writes.put(NewPicture(id, content, width, height, captions, vector, picture))
    await context.settle()
    return put


def _captions(given: str | None, snapshot: Snapshot) -> Captions | None:
    """The captions of a form by language: cleaned, without duplicates."""
    if given is None:
        return None
    by_tag = bodies.validated(schemas.CaptionsOfPicture, {"captions": bodies.parse_field(given, "captions")}).captions
    captions: Captions = {}
    for tag, texts in by_tag.items():
        kept = captions.setdefault(snapshot.served(tag), [])
        kept.extend(text for text in dict.fromkeys(clean(text) for text in texts) if text not in kept)
    return captions


async def _existing(id: str, context: Context) -> GalleryPicture:
    if not _ID.fullmatch(id):
        raise PictureNotFound("there is no picture with this id")
    return await run_in_threadpool(context.gallery.get, id)


async def _item(picture: GalleryPicture, context: Context) -> schemas.PictureItem:
    (item,) = await to_thread.run_sync(_items, [picture], context, limiter=context.searching)
    return item


def _items(pictures: Sequence[GalleryPicture], context: Context) -> list[schemas.PictureItem]:
    captions = context.live.current.captions_of_each([picture.id for picture in pictures])
    return [
        schemas.PictureItem(
            id=picture.id,
            captions=captions[picture.id],  # as in searches: without rolled-back languages
            url=f"{router.prefix}/{picture.id}/content?v={picture.content_sha256[:_HASH_LENGTH]}",
            width=picture.width,
            height=picture.height,
            created_at=picture.created_at,
        )
        for picture in pictures
    ]


async def _file(
    request: Request, picture: GalleryPicture, context: Context, *, named: str | None, thumbnail: bool
) -> Response:
    """A stored file; clients may cache it forever under the URL that contains its hash."""
    content = picture.content_sha256
    tag = f'"{content}{".thumb" if thumbnail else ""}"'
    headers = {
        "ETag": tag,
        "Cache-Control": _CACHED if named == content[:_HASH_LENGTH] else _REVALIDATED,
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if tag in [known.strip() for known in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    try:
        data = await run_in_threadpool(lambda: context.gallery.files.read(content, thumbnail=thumbnail))
    except FileNotFoundError:  # replaced or deleted since it was looked up
        raise PictureNotFound("there is no picture with this id") from None
    return Response(data, media_type=media_type(data), headers=headers)
