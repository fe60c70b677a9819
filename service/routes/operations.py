"""For operators: liveness, readiness, metrics, API documentation. No rate limits; only `/metrics` may need a key."""

import json
from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse

from client.settings import LOOPBACK
from service.auth import ANY_KEY
from service.context import AppContext, Context
from service.health import health_of
from service.metrics import CONTENT_TYPE
from service.openapi import LATER, ref
from service.schemas import operations as schemas
from store.errors import IndexUnavailable

router = APIRouter(tags=["operations"])
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "summary{cursor:pointer;padding:.3rem 0}code,pre{font:14px ui-monospace,monospace}"
    "pre{background:#8881;padding:1rem;overflow:auto}b{display:inline-block;min-width:4rem}"
)
_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}


@router.get("/livez")
async def alive() -> schemas.Live:
    """Whether the process answers."""
    return schemas.Live()


@router.get(
    "/readyz",
    responses={503: {"content": {"application/problem+json": {"schema": ref(schemas.NotReady)}}, **LATER}},
)
async def ready(request: Request, context: AppContext) -> schemas.Ready:
    """Whether a verified snapshot serves and searches are accepted; `degraded` lists what is wrong.

    Needs no key; with one that is not bound to collections it tells more.
    """
    serving, accepting = await _serving(context, await context.keyring.sees_all(request.headers))
    if not accepting:
        raise IndexUnavailable("searches are not accepted now", **serving.model_dump())
    return schemas.Ready(**serving.model_dump())


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request, context: AppContext) -> Response:
    """Metrics for Prometheus: they name languages and routes.

    They need a key, but for `PICTOGLOT_ENVIRONMENT=local` on a loopback address.
    """
    if context.settings.environment != "local" or context.settings.host not in LOOPBACK:
        await context.keyring.identify(request.headers, ANY_KEY)
    return Response(await run_in_threadpool(context.metrics.text), media_type=CONTENT_TYPE)


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> JSONResponse:
    """The OpenAPI document."""
    return JSONResponse(request.app.openapi())


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """The OpenAPI document as a page, without scripts or other hosts."""
    return HTMLResponse(_page(request.app.openapi()), headers=_HEADERS)


async def _serving(context: Context, whole: bool) -> tuple[schemas.Serving, bool]:
    """What is served, and whether searches are accepted.

    Unless it is to be the `whole`, it names neither languages nor changes: they may be of any collection.
    """
    health = await run_in_threadpool(health_of, context)
    snapshot = health.snapshot
    serving = schemas.Serving(
        release=snapshot and snapshot.release.number,
        base=context.base,
        encoding=str(context.encoder.encoding),
        generations=snapshot.generations if snapshot and whole else {},
        degraded=[*dict.fromkeys(fault.said if whole else fault.code for fault in health.faults)],
    )
    return serving, health.ready


def _page(document: dict[str, Any]) -> str:
    info = document["info"]
    operations = [
        _operation(method, path, operation)
        for path, by_method in document["paths"].items()
        for method, operation in by_method.items()
    ]
    components = [
        f"<details id='{escape(name)}'><summary>{escape(name)}</summary>{_json(schema)}</details>"
        for name, schema in sorted(document["components"]["schemas"].items())
    ]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}: HTTP</title>"
        f"<meta name=viewport content='width=device-width'><style>{_STYLE}</style><h1>{escape(info['title'])}</h1>"
        f"<p>{escape(info['description'])} For programs: <a href=/openapi.json>openapi.json</a></p>"
        f"{''.join(operations)}<h2>Schemas</h2>{''.join(components)}"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    scope = operation.get("x-scope", "no key")
    details = {name: operation[name] for name in ("parameters", "requestBody", "responses") if name in operation}
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code> <i>{scope}</i></summary>"
        f"<p>{escape(operation.get('description', ''))}</p>{_json(details)}</details>"
    )


def _json(value: object) -> str:
    return f"<pre>{escape(json.dumps(value, indent=1, ensure_ascii=False))}</pre>"
