"""The routes of one picture: add, read, change, delete it; its files. Decodes and encodes in the context's queues."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, BinaryIO

import fastapi
from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from index.facts import validate_metadata, validate_tags
from index.gallery import NewPicture, PutResult
from index.records import (
    DEFAULT_COLLECTION,
    Collections,
    GalleryPicture,
    Patch,
    Precondition,
    RecordInput,
    list_with_current_captions,
)
from model.languages import canonicalize
from model.picture_formats import MEDIA_TYPES
from model.pictures import detect_media_type
from model.text import clean
from service import schemas as values
from service.auth import AppContext, Caller, GuardedRoute, require_scope
from service.context import (
    Context,
    NewPathId,
    PathId,
    QueryFields,
    find_unwanted_fields,
    make_picture_path,
)
from service.forms import BodyKind
from service.people import Principal
from service.requests import MERGE_PATCH, MULTIPART, locate_error, run_unless_client_leaves
from service.schemas import Captions, describe_file
from service.schemas import gallery as schemas
from store import files
from store.errors import OriginalNotKept, PictureNotFound

router = APIRouter(prefix="/v1/pictures", tags=["gallery"], route_class=GuardedRoute)
PictureForm = Annotated[schemas.PictureForm, fastapi.Body(media_type=MULTIPART)]
_CACHED, _REVALIDATED = "private, max-age=31536000, immutable", "private, no-cache"
_HEAD, _PIECE = 512, 1 << 20  # bytes: what tells the format, and what is sent at a time
_ContentHash = Annotated[
    str | None, Query(max_length=64, description="The content's hash, as in `url`: may be cached forever.")
]
_JPEG = describe_file("image/jpeg")
_ORIGINAL = describe_file(*MEDIA_TYPES.values())
_TAGGED: dict[int | str, dict[str, Any]] = {
    200: {"headers": {"ETag": {"description": "Of the record.", "schema": {"type": "string"}}}}
}


@router.put("/{id}", responses={201: {"model": schemas.PutItem}}, response_model_exclude_defaults=True)
@require_scope("write", BodyKind.UPLOAD, allows_bound_keys=True)
async def put_picture(
    id: NewPathId,
    form: PictureForm,
    request: Request,
    response: Response,
    context: AppContext,
    caller: Caller,
    if_match: values.IfMatch = None,
) -> schemas.PutItem:
    """Add or replace a picture; 201 when the id is new. The picture can be searched when the answer arrives.

    With `If-Match`, 412 `record_changed` unless there is a record with this `ETag`; `*` is any. A key that is bound to
    collections gets 404 where a picture outside of them has this id.
    """
    return await _put_form(id, form, request, response, context, caller, if_match)


@router.post("", responses={201: {"model": schemas.PutItem}}, response_model_exclude_defaults=True)
@require_scope("write", BodyKind.UPLOAD, allows_bound_keys=True)
async def post_picture(
    form: PictureForm, request: Request, response: Response, context: AppContext, caller: Caller
) -> schemas.PutItem:
    """Add a picture under the sha256 of its bytes; the same bytes give the same id.

    With a collection other than `default`, or a key that is bound to collections, under the sha256 of that hash and the
    collection: the same bytes in another collection are another picture. One that is there already stays in the
    collection that it is in now.
    """
    return await _put_form(None, form, request, response, context, caller, None)


@router.get("/{id}", response_model=schemas.PictureItem, responses=_TAGGED)
@require_scope("search", allows_bound_keys=True)
async def get_picture(id: PathId, context: AppContext, caller: Caller, fields: QueryFields = None) -> Response:
    """One picture and its captions in the languages that are served; `waiting` are those in others."""
    without = dict.fromkeys(find_unwanted_fields(fields, schemas.PictureItem), True)

    def read() -> schemas.PictureItem:
        return make_items([context.gallery.get(id, caller.collections)], context, caller.collections)[0]

    item = await context.lanes.read.run(read)
    answer = await context.answer(lambda: item, without=without)
    answer.headers["ETag"] = f'"{item.etag}"'
    return answer


@router.patch("/{id}", responses=_TAGGED)
@require_scope("write", allows_bound_keys=True)
async def patch_picture(
    id: PathId,
    body: Annotated[schemas.RecordPatch, fastapi.Body(media_type=MERGE_PATCH)],
    response: Response,
    context: AppContext,
    caller: Caller,
    if_match: values.IfMatch = None,
) -> schemas.PictureItem:
    """Change captions, tags, metadata or collection: a JSON merge patch (RFC 7396). The picture stays as it is.

    With `If-Match`, 412 `record_changed` unless the record still has this `ETag`. When the answer arrives, new captions
    are found. Those in a language that is not served are kept, and are found when it is taught.
    """
    put = await context.write_queue.run(context.live.patch_picture, make_patch(id, body, if_match, caller))
    await context.refresh_successor()
    return await _make_item(put, context, caller, response)


@router.delete("/{id}", status_code=204, response_class=Response)
@require_scope("write", allows_bound_keys=True)
async def delete_picture(id: PathId, context: AppContext, caller: Caller, if_match: values.IfMatch = None) -> None:
    """Delete a picture; when the answer arrives, no search returns it any more. `If-Match` as with `PATCH`."""
    await context.write_queue.run(context.live.delete_picture, id, caller.collections, parse_if_match(if_match))
    await context.refresh_successor()


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
    picture = await run_in_threadpool(context.gallery.get, id, caller.collections)
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


async def _put_form(
    id: str | None,
    form: schemas.PictureForm,
    request: Request,
    response: Response,
    context: Context,
    caller: Principal,
    if_match: str | None,
) -> schemas.PutItem:
    (data,) = request.state.files
    captions, record = read_picture_fields(form, caller, if_match)
    content = hashlib.sha256(data).hexdigest()
    if id is None:
        id, record = derive_id(content, record)
    put = await run_unless_client_leaves(request, add_picture(id, content, data, captions, record, context))
    response.status_code = 201 if put.created else 200
    item = await _make_item(put, context, caller, response)
    return schemas.PutItem(**item.model_dump(), already_there_as=put.same_as)


def derive_id(content: str, record: RecordInput) -> tuple[str, RecordInput]:
    """Return the id of a picture that is posted, and what is said of it so that no picture is moved by that.

    In each collection the same bytes have another id. A picture that was posted into this collection and moved out of
    it since, perhaps just now, stays where it is.
    """
    into = record.collection or record.default_collection
    name = content if record.collections is None and into == DEFAULT_COLLECTION else f"{content} in {into}"
    id = content if name == content else hashlib.sha256(name.encode()).hexdigest()
    return id, replace(record, collection=None, default_collection=into)


async def add_picture(
    id: str, content: str, data: bytes, captions: Captions | None, record: RecordInput, context: Context
) -> PutResult:
    """Decode, encode and write a picture with the sha256 `content`; when this returns, searches find it."""
    if record.collections is not None or record.precondition is not None:
        await run_in_threadpool(context.gallery.check, id, record)
    picture = await context.picture_queue.uploads.decode(data, context.settings.upload_seconds)
    if context.settings.keep_originals:
        picture = replace(picture, original=data)
    files.require_free(context.settings.home, context.settings.free_bytes)
    fingerprint = context.encoder.image_fingerprint
    vector = await run_in_threadpool(context.gallery.find_vector, content, fingerprint, record.collections)
    if vector is None:
        (vector,) = await context.picture_queue.encode_uploads.process_items([picture.rgb])
    width, height = picture.size
    new = NewPicture(id, content, width, height, captions, vector, picture, record=record)
    put = await context.write_queue.put(new)
    await context.refresh_successor()
    return put


def read_picture_fields(
    form: schemas.PictureForm, caller: Principal, if_match: str | None = None
) -> tuple[Captions | None, RecordInput]:
    """Return the captions of a picture by language, cleaned and without duplicates, and what else is said of it.

    A language need not be served. `if_match` has the etags of `If-Match`. Raises `InvalidInput`, `LanguageTagInvalid`,
    `MetadataInvalid`, and `InsufficientScope`.
    """
    caller.require_access(form.collection)
    record = RecordInput(
        collection=form.collection,
        tags=None if form.tags is None else validate_tags(form.tags),
        metadata=None if form.metadata is None else validate_metadata(form.metadata),
        default_collection=caller.default_collection,
        collections=caller.collections,
        precondition=parse_if_match(if_match),
    )
    return None if form.captions is None else _clean_captions(form.captions), record


def _clean_captions(by_tag: Mapping[str, Iterable[str]]) -> Captions:
    captions: Captions = {}
    for tag, texts in by_tag.items():
        with locate_error("captions", tag):
            cleaned = captions.setdefault(canonicalize(tag), [])
        for number, text in enumerate(texts):
            with locate_error("captions", tag, number):
                caption = clean(text)
            if caption not in cleaned:
                cleaned.append(caption)
    return captions


def make_patch(id: str, body: schemas.RecordPatch, if_match: str | None, caller: Principal) -> Patch:
    """Make the merge patch with its texts cleaned; raises what `read_picture_fields` raises."""
    document: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    if body.captions is not None:
        texts_by_tag = {tag: texts for tag, texts in body.captions.items() if texts is not None}
        gone = {canonicalize(tag): None for tag, texts in body.captions.items() if texts is None}
        document["captions"] = {**gone, **_clean_captions(texts_by_tag)}
    if "collection" in document:
        document["collection"] = body.collection or caller.default_collection
        caller.require_access(document["collection"])
    return Patch(id, document, parse_if_match(if_match), caller.collections)


def parse_if_match(if_match: str | None) -> Precondition | None:
    """Parse `If-Match` (RFC 9110, 13.1.1); None without it. A weak etag never matches.

    A tag may also come without its quotes, as `etag` has it in the JSON of an answer.
    """
    if if_match is None:
        return None
    if if_match.strip() == "*":
        return Precondition()
    tags = [tag.strip() for tag in if_match.split(",")]
    return Precondition(frozenset(tag[1:-1] if len(tag) >= 2 and tag[0] == tag[-1] == '"' else tag for tag in tags))


async def _make_item(put: PutResult, context: Context, caller: Principal, response: Response) -> schemas.PictureItem:
    own = {put.picture.id: put.captions}
    (item,) = await context.lanes.search.run(make_items, [put.picture], context, caller.collections, own)
    response.headers["ETag"] = f'"{item.etag}"'
    return item


def name_picture(picture: GalleryPicture) -> str:
    """Name a picture for people: its title, or the name of its file, or the last part of its id."""
    titles = (picture.record.metadata.get(key) for key in ("title", "file_name"))
    return next((name for name in titles if isinstance(name, str) and name), picture.id.rpartition("/")[2])


def make_items(
    pictures: Sequence[GalleryPicture], context: Context, within: Collections, own: Mapping[str, Captions] | None = None
) -> list[schemas.PictureItem]:
    """Describe pictures; `own` are the captions added with them, where these have just been written."""
    ids, snapshot = [picture.id for picture in pictures], context.live.current
    visible = ids
    if within is not None:  # read after the snapshot was taken: a picture may have been moved since it was looked up
        visible = list_with_current_captions(context.selection.find_records(ids, within), snapshot.change)
    captions = snapshot.list_captions(visible)
    own = context.gallery.find_own_captions(ids, within) if own is None else own
    return [
        schemas.PictureItem(
            id=picture.id,
            collection=picture.record.collection,
            captions=captions.get(picture.id, {}),  # as in searches: without rolled-back languages
            waiting={tag: texts for tag, texts in own[picture.id].items() if tag not in snapshot.captions},
            own=own[picture.id],
            tags=list(picture.record.tags),
            metadata=dict(picture.record.metadata),
            name=name_picture(picture),
            url=f"{make_picture_path(picture.id)}/content?v={picture.content_sha256[: values.HASH_LENGTH]}",
            width=picture.width,
            height=picture.height,
            original=picture.original,
            created_at=picture.created_at,
            shown_at=picture.shown_at,
            etag=picture.record.etag,
        )
        for picture in pictures
    ]


async def _send_file(
    id: str, request: Request, context: Context, caller: Principal, *, hash_in_url: str | None, thumbnail: bool
) -> Response:
    """Send a stored file; clients may cache it forever under the URL that contains its hash."""
    content = (await run_in_threadpool(context.gallery.get, id, caller.collections)).content_sha256
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
