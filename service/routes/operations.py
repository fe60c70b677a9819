"""The routes of operators, without rate limits: what is served and wrong, metrics, the API's document.

That has forms, errors and keys as well, which are read without FastAPI's help.
"""

import json
import shutil
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse

from client.api import LOOPBACK
from index.backup import find_note
from service.auth import ANY_KEY, AppContext, GuardedRoute, get_guard, require_scope
from service.context import Context
from service.forms import FORMS, Form, list_types
from service.metrics import CONTENT_TYPE, Health, check_health
from service.problems import list_routes
from service.requests import JSON, MERGE_PATCH, MULTIPART
from service.schemas import Problem
from service.schemas import admin as schemas
from store.errors import IndexUnavailable, RegistryUnavailable

router = APIRouter(tags=["operations"])
status_router = APIRouter(prefix="/v1/admin", tags=["admin"], route_class=GuardedRoute)
_VERSION = "1"
_EXTRA: tuple[type[BaseModel], ...] = (Problem, schemas.NotReady)  # schemas that FastAPI does not see
_FORMS = {  # of routes that take JSON too
    "PictureSearch": "SimilarPictures",
    "CaptionSearch": "CaptionsOfUpload",
    "EmbeddingsRequest": "PictureEmbedding",
}
_DESCRIPTION = (
    "A picture search that learns languages. Send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`. "
    "Every error is `application/problem+json`; its `code` is stable. `RateLimit-Limit`, `RateLimit-Remaining` and "
    "`RateLimit-Reset` tell how many requests a key may send at once, how many are left, and in how many seconds all."
)
_PROBLEM = {"schema": {"$ref": "#/components/schemas/Problem"}}
_REFUSED = {"description": "Error", "content": {"application/problem+json": _PROBLEM}}
_KEYS: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}]
_LATER = {"headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}}
_RETRIED = {"429": "Too many requests", "503": "Too busy, or not ready"}
_NOT_READY = {"$ref": f"#/components/schemas/{schemas.NotReady.__name__}"}
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
    responses={503: {"content": {"application/problem+json": {"schema": _NOT_READY}}, **_LATER}},
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


def _describe_serving(context: Context, health: Health, whole: bool) -> schemas.Serving:
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


def install_document(app: FastAPI) -> None:
    """Make the application serve this document instead of FastAPI's."""

    def get_document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build_document(app)
        return app.openapi_schema

    app.openapi = get_document  # type: ignore[method-assign]


def _build_document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title="pictoglot", version=_VERSION, description=_DESCRIPTION, routes=app.routes)
    components = document.setdefault("components", {}).setdefault("schemas", {})
    for model in _EXTRA:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        components |= {**schema.pop("$defs", {}), model.__name__: schema}
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
    routes = [(method.lower(), route) for route in list_routes(app) for method in route.methods or ()]
    guards = {(method, route.path): get_guard(route.endpoint) for method, route in routes}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = _REFUSED
            if path == "/metrics":
                operation["security"] = [{}, *_KEYS]  # in `local` without a key
            content = operation.get("requestBody", {}).get("content", {})
            if content and (form := FORMS.get(guards[method, path].body)):
                _describe_form(content, form, components)
            if MERGE_PATCH in content:
                content[JSON] = content[MERGE_PATCH]
            if path.startswith("/v1"):
                operation["security"] = _KEYS
                operation["x-scope"] = guards[method, path].scope
                for status, description in _RETRIED.items():
                    operation["responses"][status] = {**_REFUSED, **_LATER, "description": description}
    return document


def _describe_form(content: dict[str, Any], form: Form, components: dict[str, Any]) -> None:
    """Add the form with the fields of a route's model: beside them its file, in place of what only JSON has."""
    (model,) = (taken["schema"]["$ref"].rpartition("/")[2] for taken in content.values())
    name, schema = _FORMS.get(model, model), components[model]
    file: dict[str, Any] = {"type": "string", "format": "binary"}
    if form.most_files > 1:
        file = {"type": "array", "items": file, "minItems": 1, "maxItems": form.most_files}
    fields = {key: value for key, value in schema["properties"].items() if key not in ("input", form.file)}
    for key, field in fields.items():
        if "object" in list_types(field):  # JSON in a text
            described = f"JSON. {field.get('description', '')}".strip()
            fields[key] = {"type": "string", "title": key.capitalize(), "description": described}
    required = [*([] if form.instead else [form.file]), *(key for key in schema.get("required", ()) if key in fields)]
    components[name] = {**schema, "title": name, "properties": {form.file: file, **fields}, "required": required}
    content[MULTIPART] = {"schema": {"$ref": f"#/components/schemas/{name}"}}


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
