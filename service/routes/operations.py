"""What is outside `/v1`, without rate limits: what is served and wrong, metrics, the API's document, the pages.

The document has forms, errors and keys as well, which are read without FastAPI's help. The pages are files of the
package, held in memory, under a strict policy. A community may bring the page's texts in its language: `texts/TAG.json`
in the data root, an object of English texts.
"""

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from client.api import LOOPBACK
from index.backup import find_note
from model.languages import find_names
from service.auth import ANY_KEY, AppContext, GuardedRoute, get_guard, require_scope
from service.context import Context
from service.forms import FORMS, Form, list_types
from service.metrics import CONTENT_TYPE, Health, check_health
from service.problems import list_routes, make_problem_response
from service.requests import JSON, MERGE_PATCH, MULTIPART
from service.schemas import Problem
from service.schemas import admin as schemas
from store.errors import IndexUnavailable, NotFound, RegistryUnavailable

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
_NUMBER = re.compile(r"[0-9]{1,10}")
_TEXT_FILES = re.compile(r"texts-([A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8}){0,4})\.json")
_MOST_TEXTS = 1 << 20  # bytes of a language's file
_MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
}
# Only this server's own files and answers; `blob:` shows a picture that was dropped, or one fetched with a key.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_PAGE_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # asked again each time, answered 304: a new release shows at once
}
_log = logging.getLogger(__name__)


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
        faults=[*dict.fromkeys(fault.code for fault in health.faults)],
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
def send_openapi(request: Request) -> Response:
    """Send the OpenAPI document."""
    return _answer(request, _render_document(request.app)[0], {})


@router.get("/docs", include_in_schema=False)
def send_docs(request: Request) -> Response:
    """Send the OpenAPI document as a page, without scripts or other hosts."""
    return _answer(request, _render_document(request.app)[1], _HEADERS)


def _describe_serving(context: Context, health: Health, whole: bool) -> schemas.ServingStatus:
    """Describe what is served; unless it is to be the `whole`, without languages and changes of any collection."""
    snapshot = health.snapshot
    sets = snapshot.sets.items() if snapshot and whole else ()
    return schemas.ServingStatus(
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


@lru_cache(maxsize=1)  # rendering takes 20 ms, and anybody may ask
def _render_document(app: FastAPI) -> tuple["_File", "_File"]:
    document = app.openapi()
    plain = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return _read_file("openapi.json", plain.encode()), _read_file("docs.html", _render_page(document).encode())


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


@dataclass(frozen=True)
class _File:
    content: bytes
    media_type: str
    etag: str


def mount_pages(app: FastAPI, texts: Path | None) -> None:
    """Add `/`, `/versions/{number}/report` and `/static/{name}`; they need no key, for they hold no data.

    `texts` is the folder with the page's texts in languages that the package does not have, if there is one.
    """
    static = files("service") / "pages/static"
    pages = {entry.name: _read_file(entry.name, entry.read_bytes()) for entry in static.iterdir()}

    async def send_index(request: Request) -> Response:
        return _answer(request, pages["index.html"])

    async def send_report(request: Request) -> Response:
        known = _NUMBER.fullmatch(request.path_params["number"])  # the page asks for it, and says what came
        return _answer(request, pages["report.html"]) if known else _refuse(request)

    def send_static(request: Request) -> Response:  # in a thread: it may read a file
        name = request.path_params["name"]
        found = pages.get(name)
        if found is None and texts is not None:
            found = _list_texts(texts) if name == "texts.json" else _read_texts(texts, name)
        return _refuse(request) if found is None else _answer(request, found)

    app.add_route("/", send_index, include_in_schema=False)
    app.add_route("/versions/{number}/report", send_report, include_in_schema=False)
    app.add_route("/static/{name}", send_static, include_in_schema=False)


def _list_texts(folder: Path) -> _File:
    """List the languages that a community brought, as `{tag: its own name}`."""
    tags = sorted(file.stem for file in folder.glob("*.json") if _read_texts(folder, f"texts-{file.name}"))
    return _read_file("texts.json", json.dumps({tag: find_names(tag).native_name for tag in tags}).encode())


def _read_texts(folder: Path, name: str) -> _File | None:
    """Read what a community brought; None if there is nothing, or no object of texts."""
    if not (known := _TEXT_FILES.fullmatch(name)) or not (file := folder / f"{known[1]}.json").is_file():
        return None
    try:
        content = file.read_bytes()
        texts = json.loads(content) if len(content) <= _MOST_TEXTS else None
    except (OSError, ValueError):
        texts = None
    if isinstance(texts, dict) and all(isinstance(text, str) for text in texts.values()):
        return _read_file(name, content)
    _log.warning("these texts of the page are no JSON object of texts", extra={"file": str(file)})
    return None


def _read_file(name: str, content: bytes) -> _File:
    return _File(content, _MEDIA_TYPES[name.rpartition(".")[2]], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _refuse(request: Request) -> Response:
    return make_problem_response(request.state.request_id, NotFound("no such path"))


def _answer(request: Request, file: _File, headers: Mapping[str, str] = _PAGE_HEADERS) -> Response:
    headers = {**headers, "ETag": file.etag}
    if file.etag in [one.strip() for one in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
