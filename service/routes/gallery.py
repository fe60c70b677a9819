"""The routes of the gallery: add, list, count, change, delete pictures. Decodes and encodes in the context's queues."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import fastapi
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

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
from index.selection import MONTHS, Criteria
from model.languages import canonicalize
from model.text import clean
from service import schemas as values
from service.auth import AppContext, Caller, GuardedRoute, require_scope
from service.context import (
    Context,
    NewPathId,
    PathId,
    QueryFields,
    exclude_fields,
    find_unwanted_fields,
    make_picture_path,
    parse_query_filter,
)
from service.forms import BodyKind
from service.people import Principal
from service.requests import MERGE_PATCH, MULTIPART, locate_error, run_unless_client_leaves
from service.schemas import Captions
from service.schemas import gallery as schemas
from store import files

router = APIRouter(prefix="/v1/pictures", tags=["gallery"], route_class=GuardedRoute)
overview_router = APIRouter(prefix="/v1", tags=["gallery"], route_class=GuardedRoute)
PictureForm = Annotated[schemas.PictureForm, fastapi.Body(media_type=MULTIPART)]
_MOST = 1_200  # values of each: a hundred years of months
_COUNTED = {"months": MONTHS, "folders": "folder", "cameras": "camera", "collections": "collection"}
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
    criteria = Criteria(parse_query_filter(filter), caller.collections, collection)
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
    criteria = Criteria(parse_query_filter(filter), caller.collections, collection)
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
