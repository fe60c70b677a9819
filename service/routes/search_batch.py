"""Many searches in one request: each is answered or refused on its own, all by one snapshot, in bounded time."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from index.snapshot import Snapshot
from service import bodies, questions, records, values
from service.access_log import Parts
from service.auth import Body, GuardedRoute, Principal, needs
from service.bodies import unless_client_leaves
from service.context import AppContext, Caller, Context
from service.openapi import taking
from service.problems import of_one, problem
from service.questions import Question
from service.routes.search import answer_to
from service.schemas import questions as schemas
from service.schemas.search import PictureHit, PictureSearch
from store.errors import Unavailable

router = APIRouter(prefix="/v1/search", tags=["search"], route_class=GuardedRoute)
_SECONDS = 10.0  # after which no search of a batch begins, and those under way are given up
_AT_ONCE = 4  # searches of one batch: half of the threads that searches have
_BYTES = 32 << 20  # of answers in one batch, after which the others are refused


@router.post("/batch", response_model=schemas.SearchAnswers, openapi_extra=taking(json=schemas.Searches))
@needs("search", Body.SEARCHES, parted=True)
async def search_batch(
    request: Request, context: AppContext, caller: Caller, fields: values.QueryFields = None
) -> Response:
    """Up to 100 searches for pictures. They count as so many requests.

    `items` are in their order, each with `status` and either `answer` or `problem`. After ten seconds, or 32 MiB of
    answers, those that are not answered yet are refused: `overloaded`.
    """
    started = time.perf_counter()
    unwanted = records.LeftOut.of_one(fields, PictureHit)
    with context.search_batches.place():
        body = await bodies.read_json(request, schemas.Searches)
        context.rate.owe(caller.id, len(body.searches) - 1)  # one was counted when the request came
        batch = _Batch(context, caller, context.live.current, unwanted, request.state.request_id)
        items = await unless_client_leaves(request, batch.answered(body.searches))
        request.state.parts.end("searches")
        milliseconds = round((time.perf_counter() - started) * 1_000, 3)
        tail = f'],"release":{batch.snapshot.release.number},"timing_ms":{milliseconds}}}'.encode()

        def join() -> bytes:
            return b'{"items":[' + b",".join(items) + tail

        whole = await to_thread.run_sync(join, limiter=context.searching)
        return Response(whole, media_type=bodies.JSON)


@dataclass
class _Batch:
    """The searches of one request under way."""

    context: Context
    caller: Principal
    snapshot: Snapshot
    unwanted: frozenset[str]  # fields of each hit
    request_id: str
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    size: int = 0  # bytes of the answers so far

    async def answered(self, searches: list[Any]) -> list[bytes]:
        """The item of each search, in their order; raises none of their errors."""
        deadline = asyncio.get_running_loop().time() + _SECONDS
        return await asyncio.gather(*(self._item(number, given, deadline) for number, given in enumerate(searches)))

    async def _item(self, number: int, given: Any, deadline: float) -> bytes:
        answering = self._answer(given, f"body.searches.{number}", deadline)
        (outcome,) = await asyncio.gather(answering, return_exceptions=True)
        if isinstance(outcome, Response):
            return _item(outcome, b"answer", b"problem")
        return _item(problem(self.request_id, of_one(outcome)), b"problem", b"answer")

    async def _answer(self, given: Any, place: str, deadline: float) -> Response:
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._found(given, place)
        except TimeoutError:
            raise Unavailable("the searches of this batch took too long: send fewer") from None
        self._count(len(response.body))
        return response

    async def _found(self, given: Any, place: str) -> Response:
        async with self.places:
            question = questions.asked(bodies.validated(PictureSearch, given, place), self.snapshot, place)
        # before a place is taken: those that wait for the registry hold up no other search of the batch
        async with self.context.batch_reads if self._reads(question) else contextlib.nullcontext(), self.places:
            self._count()
            started = time.perf_counter()
            meant = await questions.meant(question, self.snapshot, self.context, self.caller)
            of_all = (self.snapshot, self.context, self.caller, self.unwanted)
            return await answer_to(question, meant, *of_all, started, Parts())

    def _reads(self, question: Question) -> bool:
        """Whether a search takes threads that filters, words and bound keys are read in."""
        filtered = question.filter is not None or question.body.facets is not None
        return filtered or question.mode != "meaning" or self.caller.collections is not None

    def _count(self, size: int = 0) -> None:
        """Add the bytes of an answer; raises `Unavailable` when there are too many, from then on always."""
        self.size += size
        if self.size > _BYTES:
            raise Unavailable("the answers of this batch are too large: send fewer searches, or ask for fewer fields")


def _item(response: Response, holds: bytes, lacks: bytes) -> bytes:
    return b'{"status":%d,"%s":%s,"%s":null}' % (response.status_code, holds, bytes(response.body), lacks)
