"""The routes of operators, without rate limits: what is served, what is wrong, metrics, API documentation."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, get_args

from fastapi import APIRouter, Request, Response
from prometheus_client.core import GaugeMetricFamily
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse

from client.api import LOOPBACK
from client.client import format_count
from index import damage
from index.backup import find_note
from index.snapshot import Snapshot
from service.auth import ANY_KEY, AppContext, GuardedRoute, require_scope
from service.context import Context
from service.metrics import CONTENT_TYPE, make_gauge, make_gauge_family
from service.openapi import LATER, make_reference
from service.schemas import admin as schemas
from store import files
from store.bases import Encoding
from store.errors import IndexUnavailable, RegistryUnavailable, StorageFull
from store.expansions import ExpansionState

router = APIRouter(tags=["operations"])
status_router = APIRouter(prefix="/v1/admin", tags=["admin"], route_class=GuardedRoute)
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "summary{cursor:pointer;padding:.3rem 0}code,pre{font:14px ui-monospace,monospace}"
    "pre{background:#8881;padding:1rem;overflow:auto}b{display:inline-block;min-width:4rem}"
)
_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}


@router.get("/livez", name="alive")
async def report_alive() -> schemas.Live:
    """Whether the process answers."""
    return schemas.Live()


@router.get(
    "/readyz",
    name="ready",
    responses={503: {"content": {"application/problem+json": {"schema": make_reference(schemas.NotReady)}}, **LATER}},
)
async def report_ready(request: Request, context: AppContext) -> schemas.Ready:
    """Whether a verified snapshot serves and searches are accepted; `degraded` lists what is wrong.

    Needs no key; with one that is not bound to collections it tells more.
    """
    health, whole = await run_in_threadpool(check_health, context), await context.people.can_see_all(request)
    serving = _describe_serving(context, health, whole).model_dump()
    if not health.ready:
        raise IndexUnavailable("searches are not accepted now", **serving)
    return schemas.Ready(**serving)


@status_router.get("/status")
@require_scope("admin")
def get_status(context: AppContext) -> schemas.ServiceStatus:
    """Return what administrators look at: what is served, what is wrong, space, queues, the newest backup."""
    settings, health = context.settings, check_health(context)
    disk, note = shutil.disk_usage(settings.home), find_note(settings.home)
    counts = {} if RegistryUnavailable.code in health.codes else context.registry.expansions.count_by_state()
    return schemas.ServiceStatus(
        **_describe_serving(context, health, whole=True).model_dump(),
        space=schemas.Space(free=disk.free, total=disk.total, reserve=settings.free_bytes),
        queues=schemas.Queues(
            texts=context.text_queue.depth,
            pictures=context.picture_queue.depth,
            unsealed=context.live.unsealed_count if health.snapshot else 0,
            **{state: counts.get(state, 0) for state in ("queued", "running")},
        ),
        backup=None if note is None else schemas.BackupNote.model_validate(note),
    )


@router.get("/metrics", name="metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def send_metrics(request: Request, context: AppContext) -> Response:
    """Metrics for Prometheus: they name languages and routes.

    They need a key, but for `PICTOGLOT_ENVIRONMENT=local` on a loopback address.
    """
    if context.settings.environment != "local" or context.settings.host not in LOOPBACK:
        ANY_KEY.admit(await context.people.identify(request))
    return Response(await run_in_threadpool(context.metrics.render), media_type=CONTENT_TYPE)


@router.get("/openapi.json", include_in_schema=False)
async def send_openapi(request: Request) -> JSONResponse:
    """Send the OpenAPI document."""
    return JSONResponse(request.app.openapi())


@router.get("/docs", include_in_schema=False)
async def send_docs(request: Request) -> HTMLResponse:
    """Send the OpenAPI document as a page, without scripts or other hosts."""
    return HTMLResponse(_render_page(request.app.openapi()), headers=_HEADERS)


def _describe_serving(context: Context, health: "Health", whole: bool) -> schemas.Serving:
    """Describe what is served; unless it is to be the `whole`, without languages and changes of any collection."""
    snapshot = health.snapshot
    sets = snapshot.sets.items() if snapshot and whole else ()
    return schemas.Serving(
        release=snapshot and snapshot.release.number,
        base=context.base,
        encoding=str(context.encoder.encoding),
        generations={of.language or of.kind: each.generation for of, each in sets},
        degraded=[*dict.fromkeys((whole and fault.sentence) or fault.code for fault in health.faults)],
    )


def _render_page(document: dict[str, Any]) -> str:
    info = document["info"]
    operations = [
        _render_operation(method, path, operation)
        for path, by_method in document["paths"].items()
        for method, operation in by_method.items()
    ]
    components = [
        f"<details id='{escape(name)}'><summary>{escape(name)}</summary>{_render_json(schema)}</details>"
        for name, schema in sorted(document["components"]["schemas"].items())
    ]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}: HTTP</title>"
        f"<meta name=viewport content='width=device-width'><style>{_STYLE}</style><h1>{escape(info['title'])}</h1>"
        f"<p>{escape(info['description'])} For programs: <a href=/openapi.json>openapi.json</a></p>"
        f"{''.join(operations)}<h2>Schemas</h2>{''.join(components)}"
    )


def _render_operation(method: str, path: str, operation: dict[str, Any]) -> str:
    scope = operation.get("x-scope", "no key")
    details = {name: operation[name] for name in ("parameters", "requestBody", "responses") if name in operation}
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code> <i>{scope}</i></summary>"
        f"<p>{escape(operation.get('description', ''))}</p>{_render_json(details)}</details>"
    )


def _render_json(value: object) -> str:
    return f"<pre>{escape(json.dumps(value, indent=1, ensure_ascii=False))}</pre>"


_ENCODER_STOPPED, _DRAINING = "encoder_stopped", "draining"
_WRITES_REFUSED, _BROKER_DOWN = "writes_refused", "broker_unavailable"
_REFUSED_SECONDS = 5.0  # for which every write was refused: longer than one waits for others that write
# of what `/readyz` says in sentences
_ENCODING, _UNSEALED, _SNAPSHOT, _DAMAGED = "encoding", "unsealed", "snapshot", "damaged"
_CODES = (
    *(_ENCODER_STOPPED, _DRAINING, RegistryUnavailable.code, _WRITES_REFUSED, StorageFull.code, IndexUnavailable.code),
    _BROKER_DOWN,
    *(_ENCODING, _UNSEALED, _SNAPSHOT, _DAMAGED),
)


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: the `code` that metrics count it by, and the sentence of `/readyz` if it has one."""

    code: str
    sentence: str = ""


@dataclass(frozen=True)
class Health:
    """The served snapshot, if there is any, and every fault."""

    snapshot: Snapshot | None
    faults: Sequence[Fault]

    @property
    def codes(self) -> set[str]:
        """The code of each fault."""
        return {fault.code for fault in self.faults}

    @property
    def ready(self) -> bool:
        """Whether searches are accepted."""
        return self.snapshot is not None and self.codes.isdisjoint({_ENCODER_STOPPED, _DRAINING})


def check_health(context: Context) -> Health:
    """Check this process; waits for the registry, as long as that takes to say that it does not answer."""
    try:
        snapshot = context.live.current
    except IndexUnavailable:
        snapshot = None
    return Health(snapshot, [*_find_faults(context, snapshot)])


def collect_metrics(context: Context) -> Iterator[GaugeMetricFamily]:
    """Yield what is read anew at each scrape; nothing of expansions while the registry does not answer."""
    health = check_health(context)
    yield make_gauge("queue_texts", "Texts waiting to be encoded.", context.text_queue.depth)
    yield make_gauge("queue_pictures", "Pictures waiting to be encoded.", context.picture_queue.depth)
    yield make_gauge("cache_hits", "Query vectors taken from the cache.", context.text_queue.hits)
    yield make_gauge("cache_misses", "Query vectors that were not in the cache.", context.text_queue.misses)
    yield make_gauge("free_bytes", "Free space under the data root.", files.measure_free(context.settings.home))
    unsealed = context.live.unsealed_count if health.snapshot else 0
    yield make_gauge("unsealed_changes", "Changes of the gallery that no worker has sealed yet.", unsealed)
    degraded = {code: int(code in health.codes) for code in _CODES}
    yield make_gauge_family("degraded", "1 while `/readyz` says so.", "code", degraded)
    yield from _measure_scrub(context)
    expansions = [] if RegistryUnavailable.code in health.codes else _measure_expansions(context)
    yield make_gauge("registry_up", "1 while the registry answers, otherwise 0.", bool(expansions))
    yield from expansions


def _measure_expansions(context: Context) -> list[GaugeMetricFamily]:
    """Measure the expansions; empty when the registry does not answer any more."""
    expansions = context.registry.expansions
    try:
        counts = dict.fromkeys(get_args(ExpansionState), 0) | expansions.count_by_state()
        abandoned, wait = len(expansions.list_runnable("running")), expansions.measure_longest_wait()
        still = expansions.measure_longest_silence()
    except RegistryUnavailable:
        return []
    return [
        make_gauge_family("expansions", "Expansions by state.", "state", counts),
        make_gauge("expansions_abandoned", "Running expansions whose worker is silent.", abandoned),
        make_gauge("longest_wait_seconds", "Longest wait of an expansion for a worker.", wait),
        make_gauge("longest_still_seconds", "Longest time since an attempt reported its progress.", still),
    ]


def _measure_scrub(context: Context) -> Iterator[GaugeMetricFamily]:
    """Yield what the last scrub of this data root found; all is 0 before the first one."""
    report = damage.load_report(context.live.sets.root) or damage.ScrubReport(0, 0, 0, 0)
    yield make_gauge(
        "scrub_finished_seconds", "When everything stored was last read, since 1970; 0: never.", report.finished
    )
    yield make_gauge("scrub_files", "Files that the last scrub read.", report.files)
    yield make_gauge("scrub_bytes", "Bytes that the last scrub read.", report.bytes)
    yield make_gauge("scrub_damaged", "What the last scrub found damaged.", report.unmended_count + report.mended_count)
    yield make_gauge("scrub_mended", "What of that it mended.", report.mended_count)
    yield make_gauge_family(
        "damaged",
        "What is damaged and could not be mended.",
        "kind",
        {k: report.unmended.get(k, 0) for k in damage.KINDS},
    )


def _find_faults(context: Context, snapshot: Snapshot | None) -> Iterator[Fault]:
    if not all(queue.alive for queue in (context.text_queue, context.picture_queue, context.write_queue)):
        yield Fault(_ENCODER_STOPPED)
    if context.stopping.is_set():
        yield Fault(_DRAINING)
    try:
        recorded = context.registry.encodings.find_current()
    except RegistryUnavailable as error:
        yield Fault(error.code)
    else:
        if recorded is not None and recorded.reason:
            made_by = Encoding(recorded.backend, recorded.precision)
            yield Fault(_ENCODING, f"{recorded.reason}; {made_by} computes the vectors instead.")
        if context.registry.refused_seconds > _REFUSED_SECONDS:
            yield Fault(_WRITES_REFUSED)
    if context.is_broker_down:
        yield Fault(_BROKER_DOWN)
    if not _is_writable(context):
        yield Fault(StorageFull.code)
    if (report := damage.load_report(context.live.sets.root)) and report.unmended_count:
        counts = ", ".join(format_count(number, kind) for kind, number in sorted(report.unmended.items()))
        yield Fault(_DAMAGED, f"Damaged or unreadable, and not mended: {counts}. `pictoglot verify` names it.")
    if snapshot is None:
        yield Fault(IndexUnavailable.code)
        return
    if late := context.live.overdue_count:
        yield Fault(_UNSEALED, f"{late} changes of the gallery are not sealed yet: is a worker running?")
    for sentence in snapshot.degraded:
        yield Fault(_SNAPSHOT, sentence)


def _is_writable(context: Context) -> bool:
    """Tell whether files can be written to the data root."""
    try:
        files.require_free(context.settings.home, context.settings.free_bytes)
    except StorageFull:
        return False
    return os.access(context.settings.home, os.W_OK)
