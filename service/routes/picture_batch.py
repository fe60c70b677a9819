"""Many pictures in one request: put, each as if it came alone with an answer of its own, or changed, all or nothing."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import fastapi
from fastapi import APIRouter, Request, Response

from index.bulk import BulkChange
from index.facts import normalize, validate_tags
from index.gallery import PutResult
from index.records import RecordInput
from service import problems
from service.auth import GuardedRoute, require_scope
from service.context import AppContext, Caller, Context
from service.forms import BodyKind, make_too_large
from service.listings import QueryFields, find_unwanted_fields
from service.people import Principal
from service.requests import MULTIPART, run_unless_client_leaves, validate
from service.routes.gallery import add_picture, derive_id, make_items, read_picture_fields
from service.schemas import gallery as schemas
from service.schemas.common import Captions
from store.errors import PictoglotError

router = APIRouter(prefix="/v1/pictures", tags=["gallery"], route_class=GuardedRoute)
_AT_ONCE = 16  # pictures of one batch under way: a transaction of `WriteQueue`, two batches for the encoder


@dataclass
class _BatchPicture:
    """A picture of a batch, with what became of it: an error when its record or its bytes cannot be taken."""

    data: bytes
    content: str = ""
    id: str | None = None
    captions: Captions | None = None
    record: RecordInput | None = None
    outcome: PutResult | BaseException | None = None


@router.post("/batch", response_model=schemas.PictureOutcomes)
@require_scope("write", BodyKind.PICTURES, allows_bound_keys=True)
async def post_batch(
    form: Annotated[schemas.BatchForm, fastapi.Body(media_type=MULTIPART)],
    request: Request,
    context: AppContext,
    caller: Caller,
    fields: QueryFields = None,
) -> Response:
    """Add or replace up to 256 pictures: all that can be taken, whatever is wrong with the others.

    One after another where several have the same id. All that are not refused can be searched when the answer arrives.
    To send the same again changes nothing. `fields` chooses what each `picture` of the answer has.
    """
    without = find_unwanted_fields(fields, schemas.PictureItem)
    read = partial(_read_entries, request.state.files, form.records, context, caller)
    entries = await context.lanes.batch.run(read)
    del read, request.state.files  # each entry alone holds its bytes, and lets go of them when it is put
    await run_unless_client_leaves(request, _put(entries, context))
    request.state.refused = sum(not isinstance(entry.outcome, PutResult) for entry in entries)  # for the log
    answer = partial(_make_answer, entries, context, caller, request.state.request_id)
    return await context.answer(answer, without={"items": {"__all__": {"picture": {*without}}}})


@router.post("/changes")
@require_scope("write", BodyKind.CHANGES, allows_bound_keys=True)
async def post_changes(body: schemas.PictureChanges, context: AppContext, caller: Caller) -> schemas.ChangeOutcomes:
    """Change up to 1,000 pictures in one transaction: tag them, move them to a collection, delete them, or bring back.

    `deleted: true` deletes them; `deleted: false` brings back, for a day, what was deleted, with captions and record.
    `kept` are those that were so already, `missing` those that there are not: to send the same again changes nothing.
    """
    caller.require_access(body.collection)
    tags, gone = validate_tags(body.add_tags), [normalize(tag).strip() for tag in body.remove_tags]
    change = BulkChange(body.ids, tags, gone, body.collection, body.deleted, caller.collections)
    outcomes = await context.write_queue.run(context.live.change_pictures, change)
    await context.refresh_successor()
    items = [schemas.ChangeOutcome(id=id, outcome=outcome) for id, outcome in outcomes.items()]
    return schemas.ChangeOutcomes(items=items, changed=sum(item.outcome == "changed" for item in items))


def _read_entries(
    pictures: Sequence[bytes | None], records: Any, context: Context, caller: Principal
) -> list[_BatchPicture]:
    """Read each picture with its record; raises `InvalidInput` where there is not one for each."""
    records = [{} for _ in pictures] if records is None else records
    if not isinstance(records, list) or len(records) != len(pictures):
        detail = "`records` must be a list of as many records as there are files `picture`"
        problems.refuse("body.records", "records_mismatch", detail)
    return [
        _read_entry(place, data, record, context, caller)
        for place, (data, record) in enumerate(zip(pictures, records, strict=True))
    ]


def _read_entry(place: int, data: bytes | None, document: Any, context: Context, caller: Principal) -> _BatchPicture:
    entry = _BatchPicture(data or b"")
    try:
        fields = validate(schemas.PictureRecord, document, f"body.records.{place}")
        entry.id = fields.id
        if data is None:
            raise make_too_large(context.settings.picture_bytes)
        entry.captions, entry.record = read_picture_fields(fields, caller)
        entry.content = hashlib.sha256(data).hexdigest()
        if fields.id is None:
            entry.id, entry.record = derive_id(entry.content, entry.record)
    except PictoglotError as error:
        entry.outcome = error
    return entry


async def _put(entries: Sequence[_BatchPicture], context: Context) -> None:
    """Put all, some at a time, those of one id in order."""
    by_id: dict[str, list[_BatchPicture]] = {}
    for entry in entries:
        if entry.outcome is None:
            by_id.setdefault(entry.id or "", []).append(entry)
    places = asyncio.Semaphore(min(_AT_ONCE, context.settings.queue_limit))

    async def put_in_order(same_id: Sequence[_BatchPicture]) -> None:
        for entry in same_id:
            async with places:
                (entry.outcome,) = await asyncio.gather(_put_one(entry, context), return_exceptions=True)
            entry.data = b""

    async with asyncio.TaskGroup() as group:
        for same_id in by_id.values():
            group.create_task(put_in_order(same_id))


async def _put_one(entry: _BatchPicture, context: Context) -> PutResult:
    assert entry.id is not None and entry.record is not None
    return await add_picture(entry.id, entry.content, entry.data, entry.captions, entry.record, context)


def _make_answer(
    entries: Sequence[_BatchPicture], context: Context, caller: Principal, request_id: str
) -> schemas.PictureOutcomes:
    done = [entry.outcome for entry in entries if isinstance(entry.outcome, PutResult)]
    items_of_put = iter(make_items([put.picture for put in done], context, caller.collections))
    items = []
    for entry in entries:
        if isinstance(entry.outcome, PutResult):
            status = 201 if entry.outcome.created else 200
            item = schemas.PictureOutcome(
                id=entry.id, outcome=entry.outcome.outcome, status=status, picture=next(items_of_put), problem=None,
                already_there_as=entry.outcome.same_as,
            )  # fmt: skip
        else:
            problem = problems.make_problem_body(request_id, problems.convert_to_refusal(entry.outcome))
            item = schemas.PictureOutcome(
                id=entry.id, outcome="refused", status=problem["status"], picture=None, problem=problem,
                already_there_as=None,
            )  # fmt: skip
        items.append(item)
    return schemas.PictureOutcomes(items=items)
