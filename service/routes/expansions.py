"""Expansions: their state, their events as they happen, and cancelling them. Trains nothing."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from starlette.concurrency import run_in_threadpool

from service import values
from service.auth import GuardedRoute, needs
from service.context import AppContext, Context
from service.openapi import answering
from service.schemas import languages as schemas
from service.watch import catch_up
from store.errors import ExpansionNotFound, RegistryUnavailable
from store.expansions import Expansion

router = APIRouter(prefix="/v1/expansions", tags=["expansions"], route_class=GuardedRoute)
_POLL_SECONDS, _PING_SECONDS = 0.5, 15.0  # between two reads of the registry, and between two keep-alive comments
_ENDED = frozenset({"succeeded", "failed", "cancelled"})


@router.get("")
@needs("search")
async def list_expansions(
    context: AppContext, limit: values.QueryLimit = 20, cursor: values.QueryCursor = None
) -> schemas.ExpansionPage:
    """Expansions, newest first."""
    fetch, cut = context.registry.expansions.list, context.cursors.cut
    page, following = await run_in_threadpool(cut, "expansions", limit, cursor, fetch, lambda expansion: expansion.id)
    return schemas.ExpansionPage(items=[_item(expansion) for expansion in page], next_cursor=following)


@router.get("/{id}")
@needs("search")
async def get_expansion(id: str, context: AppContext) -> schemas.ExpansionItem:
    """The current state of one expansion."""
    return _item(await _read(id, context))


@router.get(
    "/{id}/events",
    response_class=StreamingResponse,
    responses=answering("text/event-stream", "Events named `expansion`; their data is an `ExpansionItem` as JSON."),
)
@needs("search")
async def expansion_events(id: str, context: AppContext) -> StreamingResponse:
    """The same object after each change, as server-sent events named `expansion`; ends when the expansion does."""
    first = await _read(id, context)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(first, context), media_type="text/event-stream", headers=headers)


@router.post("/{id}/cancel", status_code=202)
@needs("write")
async def cancel_expansion(id: str, context: AppContext) -> schemas.ExpansionItem:
    """Stop an expansion: at once when it is queued, within seconds when it runs."""
    _require_id(id)
    return _item(await run_in_threadpool(context.registry.expansions.cancel, id))


async def _events(expansion: Expansion, context: Context) -> AsyncIterator[bytes]:
    """One event now and one at each change, until the end of the expansion or of this process."""
    sent, quiet = "", 0.0
    while not context.draining:
        data = _item(expansion).model_dump_json()
        if data != sent:
            sent, quiet = data, 0.0
            yield format_sse_event(data_str=data, event="expansion")
        elif quiet >= _PING_SECONDS:
            quiet = 0.0
            yield format_sse_event(comment="still here")
        if expansion.state in _ENDED:
            return
        await asyncio.sleep(_POLL_SECONDS)
        quiet += _POLL_SECONDS
        try:
            expansion = await _read(expansion.id, context)
        except RegistryUnavailable:
            continue  # tried again; the client keeps its stream


async def _read(id: str, context: Context) -> Expansion:
    """The expansion; if it names a release, this process serves that release before the client reads about it."""
    _require_id(id)
    expansion = await run_in_threadpool(context.registry.expansions.get, id)
    if expansion.release is not None:
        await catch_up(context, expansion.release)
    return expansion


def _require_id(id: str) -> None:
    """Some databases raise an error for a text that others only do not find."""
    if not values.is_id(id):
        raise ExpansionNotFound("there is no expansion with this id")


def _item(expansion: Expansion) -> schemas.ExpansionItem:
    return schemas.ExpansionItem.model_validate(expansion)
