"""Many pictures in one request: each is put as if it came alone, and has an answer of its own."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import fastapi
from fastapi import APIRouter, Request, Response

from index.gallery import PutResult
from index.records import RecordInput
from service import problems
from service.auth import GuardedRoute, Principal, needs
from service.bodies import MULTIPART, unless_client_leaves, validate
from service.context import AppContext, Caller, Context
from service.forms import Body
from service.problems import TooLarge
from service.routes.gallery import make_items, name_posted, read_record, store
from service.schemas import gallery as schemas
from service.schemas.common import Captions
from service.search import QueryFields, find_unwanted_fields
from store.errors import FieldError, InvalidInput, PictoglotError

router = APIRouter(prefix="/v1/pictures", tags=["gallery"], route_class=GuardedRoute)
_AT_ONCE = 16  # pictures of one batch under way: a transaction of `WriteQueue`, two batches for the encoder


@dataclass
class _Entry:
    """A picture of a batch, with what became of it: an error when its record or its bytes cannot be taken."""

    data: bytes
    content: str = ""
    id: str | None = None
    captions: Captions | None = None
    given: RecordInput | None = None
    outcome: PutResult | BaseException | None = None


@router.post("/batch", response_model=schemas.PictureOutcomes)
@needs("write", Body.PICTURES, parted=True)
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
    await unless_client_leaves(request, _put(entries, context))
    answer = partial(_make_answer, entries, context, caller, request.state.request_id)
    return await context.answer(answer, without={"items": {"__all__": {"picture": {*without}}}})


def _read_entries(pictures: Sequence[bytes | None], said: Any, context: Context, caller: Principal) -> list[_Entry]:
    """Each picture with its record; raises `InvalidInput` where there is not one for each."""
    said = [{} for _ in pictures] if said is None else said
    if not isinstance(said, list) or len(said) != len(pictures):
        detail = "`records` must be a list of as many records as there are files `picture`"
        raise InvalidInput(detail, errors=(FieldError("body.records", "records_mismatch"),))
    return [
        _read_entry(place, data, record, context, caller)
        for place, (data, record) in enumerate(zip(pictures, said, strict=True))
    ]


def _read_entry(place: int, data: bytes | None, said: Any, context: Context, caller: Principal) -> _Entry:
    entry = _Entry(data or b"")
    try:
        record = validate(schemas.PictureRecord, said, f"body.records.{place}")
        entry.id = record.id
        if data is None:
            raise TooLarge(f"a picture here may have at most {context.settings.picture_bytes:,} bytes")
        entry.captions, entry.given = read_record(record, caller)
        entry.content = hashlib.sha256(data).hexdigest()
        if record.id is None:
            entry.id, entry.given = name_posted(entry.content, entry.given)
    except PictoglotError as error:
        entry.outcome = error
    return entry


async def _put(entries: Sequence[_Entry], context: Context) -> None:
    """Put all, some at a time, those of one id in order."""
    of_one: dict[str, list[_Entry]] = {}
    for entry in entries:
        if entry.outcome is None:
            of_one.setdefault(entry.id or "", []).append(entry)
    places = asyncio.Semaphore(min(_AT_ONCE, context.settings.queue_limit))

    async def in_order(alike: Sequence[_Entry]) -> None:
        for entry in alike:
            async with places:
                (entry.outcome,) = await asyncio.gather(_put_one(entry, context), return_exceptions=True)
            entry.data = b""

    async with asyncio.TaskGroup() as group:
        for alike in of_one.values():
            group.create_task(in_order(alike))


async def _put_one(entry: _Entry, context: Context) -> PutResult:
    assert entry.id is not None and entry.given is not None
    return await store(entry.id, entry.content, entry.data, entry.captions, entry.given, context)


def _make_answer(
    entries: Sequence[_Entry], context: Context, caller: Principal, request_id: str
) -> schemas.PictureOutcomes:
    done = [entry.outcome for entry in entries if isinstance(entry.outcome, PutResult)]
    shown = iter(make_items([put.picture for put in done], context, caller.collections))
    items = []
    for entry in entries:
        if isinstance(entry.outcome, PutResult):
            status = 201 if entry.outcome.created else 200
            item = schemas.PictureOutcome(
                id=entry.id, outcome=entry.outcome.outcome, status=status, picture=next(shown), problem=None
            )
        else:
            problem = problems.document(request_id, problems.of_one(entry.outcome))
            item = schemas.PictureOutcome(
                id=entry.id, outcome="refused", status=problem["status"], picture=None, problem=problem
            )
        items.append(item)
    return schemas.PictureOutcomes(items=items)
