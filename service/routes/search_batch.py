"""Many searches in one request: each is answered or refused on its own, all by one snapshot, in bounded time."""

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request, Response

from index.snapshot import Snapshot
from model.errors import PictoglotError, Unavailable
from service import bodies, questions, values
from service.access_log import Parts
from service.auth import Body, GuardedRoute, Principal, needs
from service.bodies import unless_client_leaves
from service.context import AppContext, Caller, Context
from service.openapi import taking
from service.problems import problem
from service.routes.search import answer_to
from service.schemas import questions as schemas
from service.schemas.search import PictureSearch

router = APIRouter(prefix="/v1/search", tags=["search"], route_class=GuardedRoute)
_SECONDS = 10.0  # after which no search of a batch begins, and those under way are given up
_AT_ONCE = 4  # searches of one batch: half of the threads that searches have


@router.post("/batch", response_model=schemas.SearchAnswers, openapi_extra=taking(json=schemas.Searches))
@needs("search", Body.SEARCHES, parted=True)
async def search_batch(
    request: Request, context: AppContext, caller: Caller, fields: values.QueryFields = None
) -> Response:
    """Up to 100 searches for pictures. They count as so many requests.

    `items` are in their order, each with `status` and either `answer` or `problem`. After ten seconds those that are
    not answered yet are refused: `overloaded`.
    """
    started = time.perf_counter()
    body = await bodies.read_json(request, schemas.Searches)
    context.rate.owe(caller.id, len(body.searches) - 1)  # one was counted when the request came
    snapshot, places = context.live.current, asyncio.Semaphore(_AT_ONCE)
    deadline = asyncio.get_running_loop().time() + _SECONDS

    async def answered(number: int, given: Any) -> bytes:
        place = f"body.searches.{number}"
        try:
            async with asyncio.timeout_at(deadline), places:
                return _item(await _answer(given, place, snapshot, context, caller, fields), b"answer", b"problem")
        except TimeoutError:
            error: PictoglotError = Unavailable("the searches of this batch took too long: send fewer")
        except PictoglotError as refused:
            error = refused
        return _item(problem(request.state.request_id, error), b"problem", b"answer")

    work = asyncio.gather(*(answered(number, given) for number, given in enumerate(body.searches)))
    items = await unless_client_leaves(request, _all(work))
    request.state.parts.end("searches")
    tail = f'],"release":{snapshot.release.number},"timing_ms":{round((time.perf_counter() - started) * 1_000, 3)}}}'
    return Response(b'{"items":[' + b",".join(items) + tail.encode(), media_type=bodies.JSON)


async def _all(work: "asyncio.Future[list[bytes]]") -> list[bytes]:
    return await work


async def _answer(
    given: Any, place: str, snapshot: Snapshot, context: Context, caller: Principal, fields: str | None
) -> Response:
    started = time.perf_counter()
    question = questions.asked(bodies.validated(PictureSearch, given, place), snapshot, place)
    meant = await questions.meant(question, snapshot, context, caller)
    return await answer_to(question, meant, snapshot, context, caller, fields, started, Parts())


def _item(response: Response, holds: bytes, lacks: bytes) -> bytes:
    return b'{"status":%d,"%s":%s,"%s":null}' % (response.status_code, holds, bytes(response.body), lacks)
