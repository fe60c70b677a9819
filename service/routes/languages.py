"""The routes that teach a language and follow its expansion."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import fastapi
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from index.selection import Criteria
from index.snapshot import Snapshot
from model.dataset import MIN_ROWS
from model.dataset.child import CheckResult, Submission
from model.dataset.doubts import ENOUGH, OwnGuess
from model.languages import ENGLISH, canonicalize
from service import schemas as values
from service.auth import AppContext, Caller, GuardedRoute, require_scope
from service.context import Context
from service.forms import BodyKind, FileOnDisk, keep_dataset
from service.people import Principal
from service.problems import InvalidApiKey, refuse
from service.requests import MULTIPART
from service.schemas import describe_file
from service.schemas import languages as schemas
from service.wanted_words import write_answers, write_captions
from service.watch import catch_up
from store.data_root import EXPANSIONS
from store.errors import (
    DatasetDoubted,
    ExpansionNotFound,
    InsufficientScope,
    PictoglotError,
    RegistryUnavailable,
    StorageFull,
    StoreUnavailable,
)
from store.expansions import Expansion, ExpansionKind, IdempotencyKey, make_expansion_id

router = APIRouter(prefix="/v1/languages", tags=["languages"], route_class=GuardedRoute)
expansions_router = APIRouter(prefix="/v1/expansions", tags=["expansions"], route_class=GuardedRoute)
_SHOWN = 3  # ids of the gallery, to one whose dataset names pictures that are not there
LOCATION = {"headers": {"Location": {"description": "The path of the expansion.", "schema": {"type": "string"}}}}


@router.post(
    "",
    status_code=202,
    response_model=schemas.SubmittedExpansion,
    responses={200: {"model": schemas.DryRun}, 202: LOCATION},
)
@require_scope("write", BodyKind.DATASET)
async def teach_language(
    form: Annotated[schemas.LanguageForm, fastapi.Body(media_type=MULTIPART)],
    request: Request,
    response: Response,
    context: AppContext,
    caller: Caller,
    idempotency_key: values.IdempotencyHeader = None,
) -> schemas.SubmittedExpansion | JSONResponse:
    """Teach a language from a dataset, or only assess it: 202 with the expansion.

    One that was taught before is taught from its earlier datasets again, together with this one, unless that is to
    `replace` them.

    With `dry_run`, only 200 and the dataset's report. A dataset that looks wrong is refused with `dataset_doubted`
    unless it is `confirmed`. What is wrong with pairs has codes of its own, `pivot_not_served` and `pivot_text_empty`;
    an assessment without a held-out row is refused with `nothing_held_out`.
    """
    (upload,) = request.state.files
    tag, made = canonicalize(form.language), _find_source(form)
    kind: ExpansionKind = "assess" if form.assess == "true" else "learn"
    if tag == ENGLISH and kind == "learn":
        refuse("body.language", "base_language", "English is built in and cannot be taught")
    settings, terms = _read_settings(form, tag), None if form.terms is None else form.terms.pack()
    sent = None if made else upload.sha256  # answers may come between a request and its repetition
    body = [tag, settings, sent, *([kind] if kind == "assess" else []), *([] if terms is None else [terms])]
    key = IdempotencyKey.build(caller.id, idempotency_key, body)
    expansion = None
    if form.dry_run == "false":  # first: a dataset that was accepted before is not validated again
        expansion = await run_in_threadpool(context.registry.expansions.find_submitted, key)
    if expansion is None:
        if made:
            write = write_answers if made == "words" else write_captions
            await context.lanes.dataset.run(write, context.registry, tag, upload)
        if terms is not None:  # before a long check
            right = partial(context.registry.terms.require_right, may_change=caller.scope == "admin")
            await run_in_threadpool(right, tag, terms)
        before = await run_in_threadpool(_count_earlier_datasets, context, tag, kind, settings, upload.sha256)
        check = partial(_check_dataset, upload, tag, kind, settings, before is not None, context)
        found, waiting = await context.lanes.dataset.run(check)
        if form.dry_run == "true":
            replaces = form.replace == "true"
            earlier = {"joined": None if replaces else before, "replaced": before if replaces else None}
            return _answer_check(tag, found, **earlier)
        confirmed, keep = kind == "assess" or "confirmed" in settings, context.registry.waiting.keep
        _refuse_doubts(found, confirmed)
        while found.short is not None:
            if await run_in_threadpool(keep, tag, found.short, caller.id, waiting):
                return _answer_check(tag, found, dry_run=False)
            found, waiting = await context.lanes.dataset.run(check)  # with the rows that others sent meanwhile
            _refuse_doubts(found, confirmed)
        settings |= {"doubts": found.doubts} if found.doubts else {}
        if found.joined is not None:
            upload = await run_in_threadpool(_take_joined, upload, Path(found.joined))
            settings = {name: value for name, value in settings.items() if name not in ("pivot", "swap")}
        expansion = await run_in_threadpool(
            submit_dataset, context, upload, kind, tag, settings, key, caller, terms, waiting
        )
    response.headers["Location"] = f"/v1/expansions/{expansion.id}"
    return schemas.SubmittedExpansion(expansion=schemas.ExpansionItem.model_validate(expansion))


def _read_settings(form: schemas.LanguageForm, tag: str) -> dict[str, Any]:
    """Return how to learn; `pivot` is in it where the dataset is a dictionary."""
    options: dict[str, Any] = {
        name: True
        for name in ("force", "replace", "without_missing", "words", "captions", "confirmed", "swap")
        if getattr(form, name) == "true"
    }
    if form.terms is not None and form.assess == "true":
        refuse("body.terms", "extra_forbidden", "terms go with what is taught")
    if form.kind == "dictionary":
        if _find_source(form):
            refuse("body.kind", "extra_forbidden", "answers and captions are no dictionary")
        options["pivot"] = canonicalize(form.pivot or ENGLISH)
    if form.pivot is not None and options.get("pivot") in (None, tag):
        detail = "a pivot of all rows goes with a dictionary; captions name theirs in each row"
        if form.kind == "dictionary":
            detail = f"the glosses of a dictionary are in another language than its words, which are in {tag}"
        refuse("body.pivot", "pivot_invalid", detail)
    return form.settings.model_dump(exclude_unset=True) | options


def _find_source(form: schemas.LanguageForm) -> str | None:
    """Tell of what the dataset is made here, `words` or `captions`; None of one that was sent."""
    return next((name for name in ("words", "captions") if getattr(form, name) == "true"), None)


def _answer_check(tag: str, found: CheckResult, **more: Any) -> JSONResponse:
    rows = found.report["usable"]
    waiting = None if found.short is None else schemas.WaitingCounts(rows=rows, needed=MIN_ROWS)
    shown = {"report": found.report, "doubts": found.doubts, "sample": found.sample}
    answer = {"joined": None, "replaced": None, **shown, **more}
    return JSONResponse(schemas.DryRun(language=tag, waiting=waiting, **answer).model_dump())


def _refuse_doubts(found: CheckResult, confirmed: bool) -> None:
    if found.doubts and not confirmed:
        said = ". ".join(doubt["detail"] for doubt in found.doubts)
        raise DatasetDoubted(f"{said}. If it is right all the same, confirm it", doubts=found.doubts)


def _take_joined(upload: FileOnDisk, path: Path) -> FileOnDisk:
    """Return the rows that a check has joined, in place of the file that was sent."""
    joined = upload.begin_another(path.with_name("whole"))
    with path.open("rb") as lines:
        while part := lines.read(1 << 20):
            joined.write(part)
    joined.close()
    return joined


def _count_earlier_datasets(
    context: Context, tag: str, kind: ExpansionKind, settings: Mapping[str, Any], sha256: str
) -> schemas.EarlierDatasets | None:
    """Count what the serving version was taught from and is taught again, or replaced; None if nothing is kept."""
    if kind == "assess":
        return None
    replaces = settings.get("replace", False)
    number = context.registry.releases.get_serving().languages.get(tag)
    learned = () if number is None else context.registry.versions.get(number).dataset_expansions
    made = next(filter(settings.get, ("words", "captions")), None)
    expansions = context.registry.expansions.list_with_datasets(
        learned, None if replaces else sha256, without_made_of=None if replaces else made
    )
    rows = sum((each.report or {}).get("dataset", {}).get("usable", 0) for each in expansions)
    return schemas.EarlierDatasets(datasets=len(expansions), rows=rows) if expansions else None


def _check_dataset(
    upload: FileOnDisk, tag: str, kind: ExpansionKind, settings: Mapping[str, Any], joins: bool, context: Context
) -> tuple[CheckResult, Collection[str]]:
    """Check a dataset, or what is left without the pictures that are missing in the gallery.

    Rows that wait join it, unless it replaces all that there is; their digests are returned, too.
    """
    served, base = list(context.registry.releases.get_serving().languages), context.encoder.languages
    without, pivot = settings.get("without_missing", False), settings.get("pivot")
    joins = joins and not settings.get("replace")
    is_made = bool(settings.get("words") or settings.get("captions"))  # here, of what people gave
    may_wait = kind == "learn" and not (settings.get("replace") or is_made)
    rows, waiting = context.registry.waiting.get(tag) if may_wait else {}, upload.path.with_name("waiting")
    if rows:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows.values())
        waiting.write_text("".join(lines), encoding="utf-8")
    found = context.datasets.check(
        Submission(
            upload.path,
            tag,
            served,
            base,
            without,
            to_train=kind == "learn",
            is_of_answers=is_made,
            least=1 if joins else MIN_ROWS,
            may_wait=may_wait,
            waiting=waiting if rows else None,
            swap=settings.get("swap", False),
            pivot=pivot,
            things=context.encoder.things,
        ),
        context.gallery.find_known,
        lambda: [picture.id for picture in context.selection.list_pictures(Criteria(), _SHOWN, order="-created_at")],
        partial(_guess_languages, context.live.current),
    )
    return found, rows.keys()


def _guess_languages(snapshot: Snapshot, texts: Sequence[str], tag: str) -> list[OwnGuess]:
    """Say of each text which served language it looks like, and how much of it is known of the language `tag`."""
    detector, served = snapshot.detector, snapshot.views.keys()

    def measure(text: str) -> float | None:
        counted = tag in served and tag != ENGLISH and detector.totals.get(tag, 0) >= ENOUGH
        return detector.measure_known(text, tag) if counted else None

    guesses = [detector.guess(text, served) for text in texts]
    return [OwnGuess(each.language, each.known, measure(text)) for each, text in zip(guesses, texts, strict=True)]


def submit_dataset(
    context: Context,
    upload: FileOnDisk,
    kind: ExpansionKind,
    tag: str,
    settings: dict[str, object],
    key: IdempotencyKey | None,
    caller: Principal,
    terms: Mapping[str, Any] | None,
    waiting: Collection[str],
) -> Expansion:
    """Store the dataset, then queue the expansion. The file goes only if it is certain that nothing was queued."""
    id = make_expansion_id()
    folder = f"{EXPANSIONS}/{id}"
    keep_dataset(upload, context.root, folder)
    expansions = context.registry.expansions
    try:
        expansion, queued = expansions.submit(
            kind=kind,
            language=tag,
            settings=settings,
            dataset_path=f"{folder}/dataset",
            dataset_sha256=upload.sha256,
            dataset_bytes=upload.size,
            actor=caller.id,
            key=key,
            id=id,
            terms=terms,
            waiting=waiting,
            may_change_terms=caller.scope == "admin",
        )
    except PictoglotError:
        with suppress(RegistryUnavailable, StorageFull, StoreUnavailable):  # then the sweeper finds out
            if (confirmed := expansions.confirm(id)) is not None:  # only the answer to COMMIT was lost
                return confirmed
            context.root.remove(folder)
        raise
    if not queued:
        context.root.remove(folder)
    return expansion


_EVENTS = "Events named `expansion`; their data is an `ExpansionItem` as JSON."
_POLL_SECONDS, _PING_SECONDS = 0.5, 15.0  # between two reads of the registry, and between two keep-alive comments
_ENDED = frozenset({"succeeded", "failed", "cancelled"})


async def _take_stream(context: AppContext) -> AsyncIterator[None]:
    with context.streams.admit():
        yield


@expansions_router.get("")
@require_scope("search")
def list_expansions(
    context: AppContext, limit: values.QueryLimit = 20, cursor: values.QueryCursor = None
) -> schemas.ExpansionPage:
    """Expansions, newest first."""
    fetch, paginate = context.registry.expansions.list, context.cursors.paginate
    page, following = paginate("expansions", limit, cursor, fetch, lambda expansion: expansion.id)
    items = [*map(schemas.ExpansionItem.model_validate, page)]
    return schemas.ExpansionPage(items=items, next_cursor=following)


@expansions_router.get("/{id}")
@require_scope("search")
async def get_expansion(id: str, context: AppContext) -> schemas.ExpansionItem:
    """The current state of one expansion."""
    return schemas.ExpansionItem.model_validate(await _read_expansion(id, context))


@expansions_router.get(
    "/{id}/events",
    name="expansion_events",
    response_class=StreamingResponse,
    responses=describe_file("text/event-stream", description=_EVENTS),
    dependencies=[fastapi.Depends(_take_stream)],
)
@require_scope("search")
async def send_events(id: str, request: Request, context: AppContext) -> StreamingResponse:
    """Send the expansion after each change, as server-sent events named `expansion`, until it or the key ends."""
    first = await _read_expansion(id, context)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(_follow_events(first, request, context), media_type="text/event-stream", headers=headers)


@expansions_router.post("/{id}/cancel", status_code=202)
@require_scope("write")
def cancel_expansion(id: str, context: AppContext) -> schemas.ExpansionItem:
    """Stop an expansion: at once when it is queued, within seconds when it runs."""
    _require_id(id)
    return schemas.ExpansionItem.model_validate(context.registry.expansions.cancel(id))


async def _follow_events(expansion: Expansion, request: Request, context: Context) -> AsyncIterator[bytes]:
    """Send one event now and one at each change, until the end of the expansion, the caller's key or this process."""
    sent, quiet = "", 0.0
    while not context.stopping.is_set():
        data = schemas.ExpansionItem.model_validate(expansion).model_dump_json()
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
            await context.people.find(request)
            expansion = await _read_expansion(expansion.id, context)
        except RegistryUnavailable:
            continue  # tried again; the client keeps its stream
        except (InvalidApiKey, InsufficientScope):
            return


async def _read_expansion(id: str, context: Context) -> Expansion:
    """Read the expansion; if it names a release, serve that here before the client reads about it."""
    _require_id(id)
    expansion = await run_in_threadpool(context.registry.expansions.get, id)
    if expansion.release is not None:
        await catch_up(context, expansion.release)
    return expansion


def _require_id(id: str) -> None:
    """Raise `ExpansionNotFound` for a text that is no id: some databases refuse it with an error of their own."""
    if not values.is_id(id):
        raise ExpansionNotFound("there is no expansion with this id")
