"""Expansions: how they stand, their events as they happen, and cancelling them. Does none of the teaching."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from starlette.concurrency import run_in_threadpool

from model.errors import ExpansionNotFound, RegistryUnavailable
from model.registry import Expansion
from service import values
from service.auth import GuardedRoute, needs
from service.context import Context, Here
from service.openapi import answering
from service.schemas import languages as schemas
from service.watch import catch_up

router = APIRouter(prefix="/v1/expansions", tags=["expansions"], route_class=GuardedRoute)
_EVERY, _PING = 0.5, 15.0  # seconds between two looks, and between two signs of life
_ENDED = frozenset({"succeeded", "failed", "cancelled"})


@router.get("")
@needs("search")
async def list_expansions(
    context: Here,
    limit: values.QueryLimit = 20,
    cursor: values.QueryCursor = None,
) -> schemas.ExpansionPage:
    """Newest first."""
    fetch = context.registry.expansions.list
    page, following = await context.cursors.page("expansions", limit, cursor, fetch, lambda expansion: expansion.id)
    return schemas.ExpansionPage(items=[_item(expansion) for expansion in page], next_cursor=following)


@router.get("/{id}")
@needs("search")
async def get_expansion(id: str, context: Here) -> schemas.ExpansionItem:
    """One expansion as it stands."""
    return _item(await _look(id, context))


@router.get(
    "/{id}/events",
    response_class=StreamingResponse,
    responses=answering("text/event-stream", "Events named `expansion`; their data is an `ExpansionItem` as JSON."),
)
@needs("search")
async def expansion_events(id: str, context: Here) -> StreamingResponse:
    """The same object at each change, as server-sent events named `expansion`; ends with the expansion."""
    first = await _look(id, context)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(first, context), media_type="text/event-stream", headers=headers)


@router.post("/{id}/cancel", status_code=202)
@needs("write")
async def cancel_expansion(id: str, context: Here) -> schemas.ExpansionItem:
    """Stop an expansion: at once when it is queued, within seconds when it runs."""
    _require_id(id)
    return _item(await run_in_threadpool(context.registry.expansions.cancel, id))


async def _events(expansion: Expansion, context: Context) -> AsyncIterator[bytes]:
    """One event now and one at each change, until the end of the expansion or of this process."""
    told, quiet = "", 0.0
    while not context.draining:
        data = _item(expansion).model_dump_json()
        if data != told:
            told, quiet = data, 0.0
            yield format_sse_event(data_str=data, event="expansion")
        elif quiet >= _PING:
            quiet = 0.0
            yield format_sse_event(comment="still here")
        if expansion.state in _ENDED:
            return
        await asyncio.sleep(_EVERY)
        quiet += _EVERY
        try:
            expansion = await _look(expansion.id, context)
        except RegistryUnavailable:
            continue  # it comes back; the client keeps its stream


async def _look(id: str, context: Context) -> Expansion:
    """The expansion; when it tells of a release, that is served here before anybody hears of it."""
    _require_id(id)
    expansion = await run_in_threadpool(context.registry.expansions.get, id)
    if expansion.release is not None:
        await catch_up(context, expansion.release)
    return expansion


def _require_id(id: str) -> None:
    """Some databases fail on a text that others just do not find."""
    if not values.is_id(id):
        raise ExpansionNotFound("there is no expansion of this id")


def _item(expansion: Expansion) -> schemas.ExpansionItem:
    return schemas.ExpansionItem.model_validate(expansion)
