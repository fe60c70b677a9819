"""The pages: files of the package, held in memory, under a strict policy. Reads no data of the service."""

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from service.problems import make_problem_response
from store.errors import NotFound

_NUMBER = re.compile(r"[0-9]{1,10}")
_TYPES = {
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
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # asked again each time, answered 304: a new release shows at once
}


@dataclass(frozen=True)
class _File:
    content: bytes
    media_type: str
    etag: str


def mount(app: FastAPI) -> None:
    """Add `/`, `/versions/{number}/report` and `/static/{name}`; they need no key, for they hold no data."""
    pages = {entry.name: _read_file(entry.name, entry.read_bytes()) for entry in (files(__name__) / "static").iterdir()}

    async def send_page(request: Request) -> Response:
        return _answer(request, pages["index.html"])

    async def send_report(request: Request) -> Response:
        known = _NUMBER.fullmatch(request.path_params["number"])  # the page asks for it, and says what came
        return _answer(request, pages["report.html"]) if known else _refuse(request)

    async def send_static(request: Request) -> Response:
        found = pages.get(request.path_params["name"])
        return _refuse(request) if found is None else _answer(request, found)

    app.add_route("/", send_page, include_in_schema=False)
    app.add_route("/versions/{number}/report", send_report, include_in_schema=False)
    app.add_route("/static/{name}", send_static, include_in_schema=False)


def _read_file(name: str, content: bytes) -> _File:
    return _File(content, _TYPES[name.rpartition(".")[2]], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _refuse(request: Request) -> Response:
    return make_problem_response(request.state.request_id, NotFound("no such path"))


def _answer(request: Request, file: _File) -> Response:
    headers = {**_HEADERS, "ETag": file.etag}
    if file.etag in [one.strip() for one in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
