"""Answers Immich's machine-learning requests: texts in every language that was taught, the rest by its stock service.

Immich sends a form to `/predict`: `entries`, which names tasks and models in JSON, and a text or a picture. A task of
ours is answered from `/v1/embeddings`; all others go on to the upstream, which is the service that Immich has itself.
Any status outside 2xx makes Immich ask the next of its addresses for half a minute, so whoever answers has to answer
every task, and `/ping` says beforehand whether that is so.
"""

import asyncio
import base64
import json
import logging
import re
import time
from collections.abc import Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
from PIL import Image
from starlette.applications import Starlette
from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from client.api import is_proxied
from model.picture_formats import detect_format, open_image
from store.errors import PictoglotError

MAX_BODY = 64 << 20  # bytes of a request
CLIP, TEXTUAL, VISUAL = "clip", "textual", "visual"
_OWN = "pictoglot/"  # how the name of a model begins that is ours, whatever follows
_READY_SECONDS, _KNOWN_SECONDS, _LOG_SECONDS = 1.0, 5.0, 60.0  # how long an answer holds; between two lines of one kind
_PING_TIMEOUT, _TIMEOUT = 1.5, 60.0
_UPSTREAM_TIMEOUT = 600.0  # it loads models, and may fetch them first
_LONGEST = 1_000  # letters, as the service reads them; the stock service reads the beginning, too
_UNKNOWN = "shared"  # in the place of the language that a text did not tell
_NO_LANGUAGE = {"dev", "null", "undefined", ""}
_log = logging.getLogger(__name__)
Entries = dict[str, dict[str, dict[str, Any]]]  # task, type, and what it is asked with


@dataclass(frozen=True)
class AdapterSettings:
    """Where the two services are, and which requests are ours.

    `language` is `hint`: by the text, and where that is one word or does not tell, the language of Immich's interface
    if that was taught; `auto`: by the text; or a tag. `dimension` is that of Immich's vectors, to which shorter ones
    are filled up with zeros.
    """

    address: str
    key: str
    upstream: str | None = None
    model: str | None = None
    pictures: Literal["upstream", "here"] = "upstream"
    language: str = "hint"
    dimension: int | None = None

    def is_ours(self, task: str, kind: str, question: Mapping[str, Any]) -> bool:
        name = question.get("modelName")
        if task != CLIP or not isinstance(name, str) or not (name == self.model or name.startswith(_OWN)):
            return False
        return kind == TEXTUAL or (kind == VISUAL and self.pictures == "here")


class Refusal(Exception):
    """A request that is answered with a status outside 2xx."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass
class Adapter:
    """Both connections, and what the service said last of its state and its languages."""

    settings: AdapterSettings
    service: httpx.AsyncClient
    upstream: httpx.AsyncClient | None
    _ready: tuple[float, bool] = (-_KNOWN_SECONDS, False)
    _taught: tuple[float, frozenset[str]] = (-_KNOWN_SECONDS, frozenset())
    _said: dict[str, float] = field(default_factory=dict)
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def is_ready(self) -> bool:
        """Return whether the service can answer; it is asked once a second at most."""
        async with self._asking:
            if time.monotonic() - self._ready[0] >= _READY_SECONDS:
                ready = False
                with suppress(httpx.HTTPError):
                    ready = (await self.service.get("/readyz", timeout=_PING_TIMEOUT)).status_code == 200
                self._ready = (time.monotonic(), ready)
        return self._ready[1]

    async def answer(self, request: Request) -> Response:
        """Answer one request of Immich; raises `Refusal`, and `httpx.HTTPError` where neither service answers."""
        body = await _read_body(request)
        async with request.form(max_part_size=MAX_BODY) as form:
            return await self._answer_form(form, body, request.headers.get("content-type", ""))

    async def _answer_form(self, form: FormData, body: bytes, content_type: str) -> Response:
        entries = _read_entries(form)
        if "text" not in form and "image" not in form:
            raise Refusal(400, "Either image or text must be provided")
        self._note_other_model(entries)
        asked = entries.get(CLIP, {})
        ours = {kind: question for kind, question in asked.items() if self.settings.is_ours(CLIP, kind, question)}
        if not ours:
            return await self._forward(body, content_type)
        clip = {kind: question for kind, question in asked.items() if kind not in ours}
        rest = {task: kinds for task, kinds in {**entries, CLIP: clip}.items() if kinds}
        try:
            answer = await self._answer_ours(ours, form)
        except (Refusal, httpx.HTTPError) as error:
            if not self._can_stand_in:
                raise
            self._say("away", "answered by the upstream instead: %s", str(error) or type(error).__name__)
            return await self._forward(body, content_type)
        if rest:
            others = await self._forward_some(rest, form)
            if others.status_code // 100 != 2:
                return others
            answer = json.loads(bytes(others.body)) | answer
        return JSONResponse(answer)

    async def _answer_ours(self, ours: Mapping[str, Mapping[str, Any]], form: FormData) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        if (question := ours.get(TEXTUAL)) is not None:
            text = _read_text(form)
            answer[CLIP] = await self._embed(text, *await self._list_languages(text, question))
        if VISUAL in ours:
            data = await _read_image(form)
            width, height = _measure(data)
            url = f"data:image/any;base64,{base64.b64encode(data).decode()}"
            answer |= {CLIP: await self._embed(url, "auto"), "imageHeight": height, "imageWidth": width}
        return answer

    async def _embed(self, content: str, language: str, fallback: str = "auto") -> str:
        """Return the vector of a text or a picture as JSON of exactly `dimension` numbers.

        `fallback` is the language of a text that does not tell, or whose language was rolled back a moment ago.
        """
        answer = await self._ask(content, language)
        if answer.status_code == 404 and language != "auto":
            self._taught = (-_KNOWN_SECONDS, frozenset())
            answer = await self._ask(content, "auto")
        elif fallback != "auto" and answer.is_success and answer.json()["languages"] == [_UNKNOWN]:
            again = await self._ask(content, fallback)
            answer = again if again.is_success else answer
        if answer.status_code != 200:
            raise Refusal(
                503 if answer.status_code in (408, 429) else max(answer.status_code, 400), _read_detail(answer)
            )
        vector = answer.json()["data"][0]["embedding"]
        dimension = self.settings.dimension or len(vector)
        if len(vector) > dimension:
            raise Refusal(500, f"the base has {len(vector)} dimensions, more than Immich's {dimension}")
        return json.dumps(vector + [0.0] * (dimension - len(vector)), separators=(",", ":"))

    async def _ask(self, content: str, language: str) -> httpx.Response:
        return await self.service.post("/v1/embeddings", json={"input": content, "language": language})

    async def _list_languages(self, text: str, question: Mapping[str, Any]) -> list[str]:
        """Return in which language a text is read, and in which if that does not tell.

        Measured: a longer text tells by itself, and English ones lose much in another language; single words little.
        """
        if self.settings.language != "hint":
            return [self.settings.language]
        options = question.get("options")
        hint = options.get("language") if isinstance(options, dict) else None
        taught = look_up(hint, await self._list_taught()) if isinstance(hint, str) else "auto"
        return ["auto", taught] if " " in text.strip() else [taught]

    async def _list_taught(self) -> frozenset[str]:
        if time.monotonic() - self._taught[0] >= _KNOWN_SECONDS:
            with suppress(httpx.HTTPError):
                answer = await self.service.get("/v1/models")
                if answer.status_code == 200:
                    self._taught = (time.monotonic(), frozenset(answer.json()["data"][0]["taught"]))
        return self._taught[1]

    @property
    def _can_stand_in(self) -> bool:
        """Whether the upstream's vectors are of the same kind: it reads English, with the very same model."""
        return self.upstream is not None and self.settings.pictures == "upstream"

    async def _forward(self, body: bytes, content_type: str) -> Response:
        """Send a request on as it came, and return the answer as it comes."""
        if self.upstream is None:
            raise Refusal(501, "no upstream answers this task: start `pictoglot immich` with --upstream")
        answer = await self.upstream.post("/predict", content=body, headers={"Content-Type": content_type})
        return _repeat(answer)

    async def _forward_some(self, entries: Entries, form: FormData) -> Response:
        """Ask the upstream for some of the tasks of a request."""
        if self.upstream is None:
            raise Refusal(501, "no upstream answers these tasks: start `pictoglot immich` with --upstream")
        parts: dict[str, Any] = {"entries": (None, json.dumps(entries))}
        if isinstance(text := form.get("text"), str):
            parts["text"] = (None, text)
        if form.get("image") is not None:
            parts["image"] = ("blob", await _read_image(form), "application/octet-stream")
        return _repeat(await self.upstream.post("/predict", files=parts))

    def _note_other_model(self, entries: Entries) -> None:
        name = entries.get(CLIP, {}).get(TEXTUAL, {}).get("modelName")
        if name is not None and not self.settings.is_ours(CLIP, TEXTUAL, {"modelName": name}):
            self._say("model", "Immich asks for the model %s, which is not ours: its texts go on to the upstream", name)

    def _say(self, kind: str, sentence: str, *values: object) -> None:
        """Log a line of each kind once a minute."""
        if time.monotonic() - self._said.get(kind, -_LOG_SECONDS) >= _LOG_SECONDS:
            self._said[kind] = time.monotonic()
            _log.warning(sentence, *values)


def look_up(hint: str, taught: frozenset[str]) -> str:
    """Return the taught language that Immich's hint names, by RFC 4647's lookup, or `auto`: English needs no hint."""
    tag = re.sub(r"-(null|undefined)$", "", hint.replace("_", "-"))
    by_name = {each.lower(): each for each in taught}
    parts = [] if tag.lower() in _NO_LANGUAGE else tag.lower().split("-")
    while parts and parts != ["en"]:
        if (found := by_name.get("-".join(parts))) is not None:
            return found
        parts.pop()
        if parts and len(parts[-1]) == 1:  # what a singleton introduces goes with it
            parts.pop()
    return "auto"


def create_app(settings: AdapterSettings) -> Starlette:
    """Return the application that Immich talks to."""
    headers = {"Authorization": f"Bearer {settings.key}"} if settings.key else {}

    @asynccontextmanager
    async def connect(app: Starlette) -> Any:
        service = httpx.AsyncClient(
            base_url=settings.address, headers=headers, timeout=_TIMEOUT, trust_env=is_proxied(settings.address)
        )
        async with service:
            if settings.upstream is None:
                app.state.adapter = Adapter(settings, service, None)
                yield
                return
            timeout = httpx.Timeout(_UPSTREAM_TIMEOUT, connect=5.0)
            by_proxy = is_proxied(settings.upstream)
            async with httpx.AsyncClient(base_url=settings.upstream, timeout=timeout, trust_env=by_proxy) as upstream:
                app.state.adapter = Adapter(settings, service, upstream)
                yield

    routes = [Route("/", say_who), Route("/ping", answer_ping), Route("/predict", answer_prediction, methods=["POST"])]
    return Starlette(routes=routes, lifespan=connect)


async def say_who(_: Request) -> Response:
    """Answer as the stock service does."""
    return JSONResponse({"message": "Immich ML"})


async def answer_ping(request: Request) -> Response:
    """Answer 200 while the service is ready, else 503: then Immich goes on to its next address."""
    return PlainTextResponse("pong") if await request.app.state.adapter.is_ready() else _refuse(503, "not ready")


async def answer_prediction(request: Request) -> Response:
    """Answer one request of Immich; 503 where a service that has to answer is away."""
    try:
        answer: Response = await request.app.state.adapter.answer(request)
    except Refusal as refusal:
        return _refuse(refusal.status, str(refusal))
    except httpx.HTTPError as error:
        return _refuse(503, f"no answer: {str(error) or type(error).__name__}")
    except ClientDisconnect:
        return Response(status_code=499)
    return answer


async def _read_body(request: Request) -> bytes:
    """Read the whole body, so that it can be sent on as it came; raises `Refusal` for one over `MAX_BODY`."""
    parts, size = list[bytes](), 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY:
            raise Refusal(413, f"a request may have at most {MAX_BODY >> 20} MiB")
        parts.append(part)
    body = request._body = b"".join(parts)  # from there Starlette's form parser reads it again
    return body


def _read_entries(form: FormData) -> Entries:
    text = form.get("entries")
    try:
        entries = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, dict) or not entries:
        raise Refusal(422, "Invalid request format.")
    for kinds in entries.values():
        if not isinstance(kinds, dict) or not all(isinstance(each, dict) for each in kinds.values()):
            raise Refusal(422, "Invalid request format.")
    return entries


def _read_text(form: FormData) -> str:
    if not isinstance(text := form.get("text"), str):
        raise Refusal(400, "the task needs a text")
    return text[:_LONGEST]


async def _read_image(form: FormData) -> bytes:
    if not isinstance(image := form.get("image"), UploadFile):
        raise Refusal(400, "the task needs a picture")
    await image.seek(0)
    return await image.read()


def _measure(data: bytes) -> tuple[int, int]:
    """Return width and height of a picture by its head, of the formats that the service decodes alone."""
    try:
        with open_image(data, detect_format(data)) as picture:
            return picture.size
    except (PictoglotError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise Refusal(400, "the picture cannot be read") from error


def _read_detail(answer: httpx.Response) -> str:
    with suppress(ValueError, AttributeError):
        return str(answer.json().get("detail"))
    return f"the service answered with status {answer.status_code}"


def _repeat(answer: httpx.Response) -> Response:
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))


def _refuse(status: int, sentence: str) -> Response:
    return JSONResponse({"detail": sentence}, status)
