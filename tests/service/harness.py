"""A real server in a thread, with the weightless encoder, and the assertions for every error answer."""

import atexit
import contextlib
import hashlib
import io
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image, ImageDraw

from service.__main__ import Server, bind, make_uvicorn_config
from service.app import build, create_app
from service.context import Context
from service.settings import Settings
from store.registry import Registry
from store.versions import Version
from tests.doubles import WeightlessEncoder
from tests.patience import PATIENCE
from tests.registries import make_registry
from tests.store import steps

ADMIN_KEY = "admin-key-of-the-tests-0123456789"
MAX_REFUSAL = 1_024  # bytes of a problem document


class Service:
    """A running service: `http` sends no key, `admin` sends the admin key."""

    def __init__(self, app: FastAPI, port: int) -> None:
        self.app, self.port = app, port
        self.url = f"http://127.0.0.1:{port}"
        self.http = self.open_client({})
        self.admin = self.open_client({"Authorization": f"Bearer {ADMIN_KEY}"})

    @property
    def context(self) -> Context:
        context: Context = self.app.state.context
        return context

    @property
    def home(self) -> Path:
        return self.context.settings.home

    def open_client(self, headers: Mapping[str, Any]) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=PATIENCE, headers=headers)

    def put(
        self, id: str, data: bytes | None = None, record: Mapping[str, Any] | None = None, **captions: list[str]
    ) -> httpx.Response:
        """Put a picture, by default one that its id decides, with captions by language and fields of its record."""
        fields = {"captions": captions, **(record or {})}
        return self.admin.put(
            f"/v1/pictures/{quote(id, safe='')}",
            files={"picture": ("x", data or picture(sum(id.encode())))},
            data={name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()},
        )

    def list_all(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """Return the items of all pages."""
        items, cursor = list[dict[str, Any]](), dict[str, str]()
        while True:
            answer = self.admin.get(path, params={**query, **cursor})
            assert answer.status_code == 200, answer.text
            items += answer.json()["items"]
            if (following := answer.json()["next_cursor"]) is None:
                return items
            cursor = {"cursor": following}

    def search(self, text: object, **more: object) -> httpx.Response:
        return self.admin.post("/v1/search/pictures", json={"text": text, **more})

    def search_by_picture(self, data: bytes | None = None, /, **fields: Any) -> httpx.Response:
        """Search with an uploaded picture, and further fields of the form."""
        return self.admin.post("/v1/search/pictures", files={"picture": ("x", data or picture())}, data=fields)

    def key(self, scope: str, **more: object) -> str:
        answer = self.admin.post("/v1/admin/keys", json={"scope": scope, "label": "test", **more})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])

    def learn(self, tag: str) -> Version:
        """Do a worker's part: make a version of the language, promoted and followed by this service."""
        version = learn(self.context.registry, tag)
        self.context.live.refresh()
        return version


def learn(registry: Registry, tag: str, *, move_shared: bool = True, report: dict[str, Any] | None = None) -> Version:
    """Queue, lease, add a version, promote and finish an expansion of `tag`."""
    return steps.learn(registry, tag, shared=move_shared, report={"pairs": 1} if report is None else report)


_KEPT = dict[object, Any]()  # pools of processes


def keep_processes(context: Context) -> None:
    """Let a service have the processes of the one before that read datasets and pictures: each takes a while to start.

    They end with the tests.
    """

    def share(pool: Any, *key: object) -> Any:
        if key not in _KEPT:
            _KEPT[key] = pool
            atexit.register(pool.close)
            pool.close = lambda: None
        return _KEPT[key]

    settings, frame = context.settings, context.encoder.frame
    context.datasets = share(context.datasets, "datasets")
    for name, queue in ("uploads", context.picture_queue.uploads), ("searches", context.picture_queue.searches):
        key = (name, settings.decoders, settings.picture_pixels, frame and frame.dump_json())
        queue.decoder = share(queue.decoder, *key)


def settings_with(**constants: float) -> type[Settings]:
    """Make the service's settings with other constants."""
    return type("Chosen", (Settings,), constants)


@contextmanager
def running(home: Path, encoder: Any = None, reopen: Any = None, **settings: Any) -> Iterator[Service]:
    """Run a service on a free port until the block ends; `reopen` opens the base that serves after a move.

    It refuses nothing because of a machine that is slow.
    """
    constants = {name: settings.pop(name) for name in [*settings] if name in Settings.__class_vars__}
    own = {"home": home, "port": 0, "admin_key": ADMIN_KEY, "free_bytes": 0, "request_seconds": PATIENCE}
    chosen = settings_with(**{"watch_seconds": 0.1, **constants})(**{**own, **settings})
    if not chosen.database_url:
        make_registry(home / "registry.db")
    context = build(chosen, encoder or WeightlessEncoder(), reopen)
    context.lanes.optional_words.seconds = PATIENCE
    keep_processes(context)
    app = create_app(context)
    bound = bind(chosen)
    server = Server(make_uvicorn_config(app, chosen), app, drain_seconds=0)
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        service = Service(app, bound.getsockname()[1])
        with service.http, service.admin:
            yield service
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


def share_service(
    fill: Callable[[Service], object] | None = None, scope: Literal["module", "function"] = "module", **settings: Any
) -> Any:
    """Return a fixture: a service with these settings, which is filled once."""

    @pytest.fixture(scope=scope)
    def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
        with running(tmp_path_factory.mktemp("home"), **settings) as service:
            if fill:
                fill(service)
            yield service

    return service


@contextmanager
def hide_registry(service: Service) -> Iterator[None]:
    """Let a folder be in the place of the registry during the block."""
    file, registry = service.home / "registry.db", service.context.registry
    file.rename(away := service.home / "registry.away")
    file.mkdir()
    registry.close()
    try:
        yield
    finally:
        file.rmdir()
        away.rename(file)
        registry.close()


def wait_until(reached: Any, seconds: float = PATIENCE) -> Any:
    until = time.monotonic() + seconds
    while not (found := reached()):
        assert time.monotonic() < until, f"not reached within {seconds} seconds"
        time.sleep(0.01)
    return found


@contextmanager
def hold_up(owner: object, name: str) -> Iterator[threading.Semaphore]:
    """Hold up all calls of a function of `owner` during the block; yield a semaphore that each call releases."""
    act, reached, go_on = getattr(owner, name), threading.Semaphore(0), threading.Event()

    def wait(*given: Any, **more: Any) -> Any:
        reached.release()
        assert go_on.wait(PATIENCE)
        return act(*given, **more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(owner, name, wait)
        try:
            yield reached
        finally:
            go_on.set()


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Assert the one format of every error: reliability.md section 3."""
    assert response.status_code == status, response.text[:500]
    assert response.headers["content-type"] == "application/problem+json"
    assert len(response.content) <= MAX_REFUSAL or code == "dataset_invalid", len(response.content)
    body: dict[str, Any] = response.json()
    assert body["code"] == code, body
    assert body["status"] == status
    assert {"type", "title", "status", "detail", "code", "request_id", "errors"} <= set(body)
    assert body["request_id"] == response.headers["x-request-id"]
    assert all(set(place) == {"location", "code"} for place in body["errors"])
    assert ("retry-after" in response.headers) == (status in (429, 503))
    assert response.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
    return body


def fingerprint(service: Service, serving: bool = True) -> str:
    """Hash all that a refused request must not change: every file, every row, what is served."""
    files = [path for path in service.home.rglob("*") if _counts(path)]
    facts: list[object] = [sorted((str(path.relative_to(service.home)), path.read_bytes()) for path in files)]
    with contextlib.closing(sqlite3.connect(service.home / "registry.db")) as registry:
        facts += registry.iterdump()
    if serving:
        facts.append(service.context.live.current.release.number)
    return hashlib.sha256(repr(facts).encode()).hexdigest()


@contextmanager
def assert_state_unchanged(service: Service, serving: bool = True) -> Iterator[None]:
    before = fingerprint(service, serving)
    yield
    assert fingerprint(service, serving) == before


def picture(seed: int = 0, side: int = 48, format: str = "PNG", **save: Any) -> bytes:
    """Encode a picture of four coloured quarters, other ones for each seed."""
    buffer = io.BytesIO()
    motif(seed, side).save(buffer, format, **save)
    return buffer.getvalue()


def motif(seed: int = 0, side: int = 48) -> Image.Image:
    """Draw an RGB picture without symmetry."""
    image = Image.new("RGB", (side, side), _colour(seed, 0))
    draw = ImageDraw.Draw(image)
    half = side // 2
    for place, corner in enumerate(((half, 0), (0, half), (half, half)), start=1):
        draw.rectangle((*corner, corner[0] + half - 1, corner[1] + half - 1), fill=_colour(seed, place))
    return image


def _colour(seed: int, place: int) -> tuple[int, int, int]:
    red, green, blue = hashlib.sha256(f"{seed}/{place}".encode()).digest()[:3]
    return red, green, blue


def _counts(path: Path) -> bool:
    """Whether it counts: empty folders and SQLite's own files do not."""
    return path.is_file() and not path.name.startswith("registry.db")
