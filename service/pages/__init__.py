"""The pages: files of the package, held in memory, under a strict policy. Reads no data of the service.

A community may bring the page's texts in its language: `texts/TAG.json` in the data root, an object of English texts.
"""

import hashlib
import json
import logging
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from model.languages import find_names
from service.problems import make_problem_response
from store.errors import NotFound

_log = logging.getLogger(__name__)

_NUMBER = re.compile(r"[0-9]{1,10}")
_TEXTS = re.compile(r"texts-([A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8}){0,4})\.json")
_MOST_TEXTS = 1 << 20  # bytes of a language's file
_TYPES = {
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


def mount(app: FastAPI, texts: Path | None) -> None:
    """Add `/`, `/versions/{number}/report` and `/static/{name}`; they need no key, for they hold no data.

    `texts` is the folder with the page's texts in languages that the package does not have, if there is one.
    """
    pages = {entry.name: _read_file(entry.name, entry.read_bytes()) for entry in (files(__name__) / "static").iterdir()}

    async def send_page(request: Request) -> Response:
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

    app.add_route("/", send_page, include_in_schema=False)
    app.add_route("/versions/{number}/report", send_report, include_in_schema=False)
    app.add_route("/static/{name}", send_static, include_in_schema=False)


def _list_texts(folder: Path) -> _File:
    """List the languages that a community brought, as `{tag: its own name}`."""
    tags = sorted(file.stem for file in folder.glob("*.json") if _read_texts(folder, f"texts-{file.name}"))
    return _read_file("texts.json", json.dumps({tag: find_names(tag).native_name for tag in tags}).encode())


def _read_texts(folder: Path, name: str) -> _File | None:
    """Read what a community brought; None if there is nothing, or no object of texts."""
    if not (known := _TEXTS.fullmatch(name)) or not (file := folder / f"{known[1]}.json").is_file():
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
    return _File(content, _TYPES[name.rpartition(".")[2]], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _refuse(request: Request) -> Response:
    return make_problem_response(request.state.request_id, NotFound("no such path"))


def _answer(request: Request, file: _File) -> Response:
    headers = {**_HEADERS, "ETag": file.etag}
    if file.etag in [one.strip() for one in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
