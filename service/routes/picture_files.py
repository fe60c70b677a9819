"""The routes of a picture's files: the stored form, its thumbnail, and the bytes as they were sent, if kept."""

import os
from collections.abc import Iterator, Mapping
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from model.pictures import detect_media_type
from model.pictures.formats import MEDIA_TYPES
from service import values
from service.auth import GuardedRoute, require_scope
from service.context import AppContext, Caller, Context, PathId
from service.openapi import describe_file
from service.people import Principal
from service.routes.gallery import find_picture
from store.errors import OriginalNotKept, PictureNotFound

router = APIRouter(prefix="/v1/pictures", tags=["gallery"], route_class=GuardedRoute)
_CACHED, _REVALIDATED = "private, max-age=31536000, immutable", "private, no-cache"
_HEAD, _PIECE = 512, 1 << 20  # bytes: what tells the format, and what is sent at a time
_ContentHash = Annotated[
    str | None, Query(max_length=64, description="The content's hash, as in `url`: may be cached forever.")
]
_JPEG = describe_file("image/jpeg")
_ORIGINAL = describe_file(*MEDIA_TYPES.values())


@router.get("/{id}/content", name="picture_content", response_class=Response, responses=_JPEG)
@require_scope("search", allows_bound_keys=True)
async def send_content(
    id: PathId, request: Request, context: AppContext, caller: Caller, v: _ContentHash = None
) -> Response:
    """The stored picture: a JPEG of at most 1,024 pixels a side."""
    return await _send_file(id, request, context, caller, hash_in_url=v, thumbnail=False)


@router.get("/{id}/thumbnail", name="picture_thumbnail", response_class=Response, responses=_JPEG)
@require_scope("search", allows_bound_keys=True)
async def send_thumbnail(
    id: PathId, request: Request, context: AppContext, caller: Caller, v: _ContentHash = None
) -> Response:
    """A small copy: as the stored picture, at most 256 pixels a side."""
    return await _send_file(id, request, context, caller, hash_in_url=v, thumbnail=True)


@router.get("/{id}/original", name="picture_original", response_class=Response, responses=_ORIGINAL)
@require_scope("search", allows_bound_keys=True)
async def send_original(
    id: PathId, request: Request, context: AppContext, caller: Caller, v: _ContentHash = None
) -> Response:
    """The bytes as they were sent, as a file to save.

    404 `original_not_kept` unless `PICTOGLOT_KEEP_ORIGINALS` was set when they were: a copy that was kept of the same
    bytes in another picture is not given, because it would tell of that.
    """
    picture = await find_picture(id, context, caller.collections)
    content = picture.content_sha256
    headers = _make_headers(content, f'"{content}.original"', v) | {"Content-Disposition": "attachment"}
    not_kept = OriginalNotKept("this picture was put without its original being kept")
    if not picture.original:
        raise not_kept
    try:
        stream = await run_in_threadpool(context.gallery.files.open_original, content)
    except FileNotFoundError:
        raise not_kept from None
    if _is_known(request, headers):
        stream.close()
        return Response(status_code=304, headers=headers)
    kind, length = await run_in_threadpool(_measure_file, stream)
    return StreamingResponse(_read_pieces(stream), media_type=kind, headers=headers | {"Content-Length": str(length)})


async def _send_file(
    id: str, request: Request, context: Context, caller: Principal, *, hash_in_url: str | None, thumbnail: bool
) -> Response:
    """Send a stored file; clients may cache it forever under the URL that contains its hash."""
    content = (await find_picture(id, context, caller.collections)).content_sha256
    headers = _make_headers(content, f'"{content}{".thumb" if thumbnail else ""}"', hash_in_url)
    if _is_known(request, headers):
        return Response(status_code=304, headers=headers)
    try:
        data = await run_in_threadpool(lambda: context.gallery.files.read(content, thumbnail=thumbnail))
    except FileNotFoundError:  # replaced or deleted since it was looked up
        raise PictureNotFound("there is no picture with this id") from None
    return Response(data, media_type="image/jpeg", headers=headers)


def _make_headers(content: str, tag: str, hash_in_url: str | None) -> dict[str, str]:
    """Make the headers of a file whose bytes never change; `hash_in_url` is the hash in the URL, if any."""
    return {
        "ETag": tag,
        "Cache-Control": _CACHED if hash_in_url == content[: values.HASH_LENGTH] else _REVALIDATED,
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }


def _is_known(request: Request, headers: Mapping[str, str]) -> bool:
    return headers["ETag"] in [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]


def _measure_file(stream: BinaryIO) -> tuple[str, int]:
    """Return the media type of an open file, by its first bytes, and how many bytes it has."""
    kind = detect_media_type(stream.read(_HEAD))
    length = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    return kind, length


def _read_pieces(stream: BinaryIO) -> Iterator[bytes]:
    with stream:
        while piece := stream.read(_PIECE):
            yield piece
