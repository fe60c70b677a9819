"""`python -m benchmarks.immich`: what Immich's adapter costs, and whether it ever answers outside 2xx.

Starts the real service and `pictoglot immich` beside a stub of Immich's own service. First, single texts are asked of
`/v1/embeddings` and over the adapter in turn. Then several clients ask mixed tasks for some minutes, while a language
is taught and rolled back, the API is killed and starts again, the stub is stopped, killed and started again, and
`/ping` is asked each second. A failure is told apart by what was away meanwhile: with the stub, Immich's own tasks may
fail, and texts only where the API was away as well. The query cache is off. Prints and writes JSON; asserts nothing.
"""

import json
import multiprocessing
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import psutil
import typer
from rich.console import Console

from benchmarks.process import run_service
from benchmarks.serving import commit, name_processor

_console = Console()
_MODEL, _LANGUAGE = "ViT-B-32__openai", "x-mirror"
_COLOURS = ("red", "blue", "green", "yellow", "black", "white", "brown", "old", "small", "big")
_THINGS = (
    *("apple", "dog", "cat", "car", "house", "tree", "flower", "boat", "bird", "fish", "horse", "book", "chair"),
    *("cake", "bus", "train", "shoe", "hat", "ball", "clock", "key", "lamp", "moon", "star", "sun", "bear", "bee"),
)
_PHRASES = [f"{colour} {thing}" for colour in _COLOURS for thing in _THINGS]
_UPSTREAM = "upstream"
_PRESENT, _ABSENT = 10.0, 5.0  # seconds
_FACES = {"facial-recognition": {"detection": {"modelName": "buffalo_l"}}}


def main(
    texts: Annotated[int, typer.Option(min=10, help="Single texts, each asked both ways")] = 1_000,
    minutes: Annotated[float, typer.Option(min=0.1, help="Of mixed requests")] = 5.0,
    clients: Annotated[int, typer.Option(min=1, max=64)] = 4,
    base: Annotated[str, typer.Option(help="As PICTOGLOT_BASE")] = "bundled",
    out: Annotated[Path, typer.Option(help="Where the JSON goes")] = Path("runs/immich.json"),
) -> None:
    """Measure, print, write."""
    key = secrets.token_urlsafe(32)
    with ExitStack() as running:
        url = running.enter_context(run_service(key, CACHE_SIZE="0", RATE_PER_MINUTE="10000000", BASE=base))
        stub = Stub()
        running.callback(stub.kill)
        adapter = running.enter_context(run_adapter(url, key, stub.url))
        times = compare_times(url, key, adapter, texts)
        mixed = ask_mixed(url, key, adapter, stub, minutes, clients)
    ratios = {f"p{share}": round(times[1][share] / times[0][share], 3) for share in (50, 95)}
    report = {
        "machine": {"processor": name_processor(), "commit": commit()},
        "alone_ms": times[0],
        "adapter_ms": times[1],
        "adapter over alone": ratios,
        **mixed,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _console.print_json(data=report)


def compare_times(url: str, key: str, adapter: str, texts: int) -> tuple[dict[int, float], dict[int, float]]:
    """Return the 50th and 95th percentile (ms) of a text asked of the service, and over the adapter."""
    headers = {"Authorization": f"Bearer {key}"}
    taken: tuple[list[float], list[float]] = ([], [])
    with httpx.Client(base_url=url, headers=headers) as alone, httpx.Client(base_url=adapter) as over:
        for number in range(texts):
            text = f"{_PHRASES[number % len(_PHRASES)]} {number}"
            own = alone.build_request("POST", "/v1/embeddings", json={"input": text, "language": "auto"})
            form = over.build_request("POST", "/predict", files=make_form("textual", text))
            for client, request, times in ((alone, own, taken[0]), (over, form, taken[1])):
                request.read()  # what asks builds its request itself
                began = time.perf_counter()
                client.send(request).raise_for_status()
                times.append(1_000 * (time.perf_counter() - began))
    first, second = ({share: round(float(np.percentile(each, share)), 2) for share in (50, 95)} for each in taken)
    return first, second


class Absences:
    """When the API and the upstream were away."""

    def __init__(self) -> None:
        self._spans: list[tuple[str, float, float]] = []

    @contextmanager
    def note(self, name: str) -> Iterator[None]:
        """Note that it is away during the block."""
        span = (name, time.monotonic(), float("inf"))
        self._spans.append(span)
        yield
        self._spans[self._spans.index(span)] = (*span[:2], time.monotonic())

    def find(self, begun: float) -> list[str]:
        """Return who was away at some moment since then."""
        return sorted({name for name, _, ended in [*self._spans] if ended > begun})


def ask_mixed(url: str, key: str, adapter: str, stub: "Stub", minutes: float, clients: int) -> dict[str, Any]:
    """Ask mixed tasks for some minutes beside all that disturbs; returns what was answered, by status."""
    until, away, pings, texts = time.monotonic() + 60 * minutes, Absences(), list[float](), list[float]()
    statuses, stops = Counter[str](), Counter[str]()
    threads = [
        threading.Thread(target=_ask_until, args=(adapter, until, number, away, statuses, texts))
        for number in range(clients)
    ]
    threads.append(threading.Thread(target=_ping_until, args=(adapter, until, pings)))
    threads.append(threading.Thread(target=_stop_until, args=(stub, until, away, stops)))
    for thread in threads:
        thread.start()
    done = _disturb_until(url, key, until, away)
    for thread in threads:
        thread.join()
    return {
        "statuses": dict(sorted(statuses.items())),
        "longest ping_ms": round(1_000 * max(pings), 1),
        "texts without the upstream": len(texts),
        "longest of them_ms": round(1_000 * max(texts, default=0.0), 1),
        "meanwhile": {**done, **stops},
    }


def _ask_until(
    adapter: str, until: float, seed: int, away: Absences, statuses: Counter[str], texts: list[float]
) -> None:
    random = np.random.default_rng(seed)
    with httpx.Client(base_url=adapter, timeout=60.0) as client:
        while (begun := time.monotonic()) < until:
            text = " ".join(random.choice(_PHRASES).split()[:: random.choice((1, -1))])
            kind = str(random.choice(("textual", "textual", "visual", "faces")))
            try:
                status = str(client.post("/predict", files=make_form(kind, text)).status_code)
            except httpx.TransportError as error:
                status = type(error).__name__
            missing = away.find(begun)
            if kind == "textual" and missing == [_UPSTREAM]:
                texts.append(time.monotonic() - begun)
            statuses[" ".join([kind, status, *(() if status == "200" else ("without", *missing))])] += 1


def _stop_until(stub: "Stub", until: float, away: Absences, done: Counter[str]) -> None:
    """Stop the upstream for a while, let it go on, kill it, and start it again; and again."""
    while time.monotonic() + 2 * (_PRESENT + _ABSENT) < until:
        time.sleep(_PRESENT)
        with away.note(_UPSTREAM):
            stub.send(signal.SIGSTOP)
            time.sleep(_ABSENT)
            stub.send(signal.SIGCONT)
        done["upstream stopped"] += 1
        time.sleep(_PRESENT)
        with away.note(_UPSTREAM):
            stub.kill()
            time.sleep(_ABSENT)
            stub.start()
        done["upstream killed"] += 1


def _ping_until(adapter: str, until: float, pings: list[float]) -> None:
    with httpx.Client(base_url=adapter, timeout=10.0) as client:
        while time.monotonic() < until:
            began = time.perf_counter()
            with suppress(httpx.TransportError):
                client.get("/ping")
            pings.append(time.perf_counter() - began)
            time.sleep(1.0)


def _disturb_until(url: str, key: str, until: float, away: Absences) -> Counter[str]:
    """Teach a language, roll it back, kill the API; and again."""
    done = Counter[str]()
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60.0) as client:
        while time.monotonic() < until:
            try:
                done[_teach(client, until)] += 1
                path = f"/v1/admin/languages/{_LANGUAGE}/rollback"
                client.post(path, json={}).raise_for_status()
                done["rolled back"] += 1
            except httpx.HTTPStatusError as error:
                done[error.response.text] += 1
            except httpx.TransportError as error:  # a busy machine answers late
                done[type(error).__name__] += 1
            with away.note("API"):
                _find_api(url).kill()
                done["killed"] += 1
                _wait_for(lambda: client.get("/readyz").status_code == 200, until)
    return done


def _teach(client: httpx.Client, until: float) -> str:
    """Teach a language, and return how it ended."""
    lines = [{"caption": phrase[::-1], "english": phrase} for phrase in _PHRASES]
    dataset = "".join(json.dumps(line) + "\n" for line in lines).encode()
    form = {"language": _LANGUAGE, "confirmed": "true", "replace": "true"}
    answer = client.post("/v1/languages", data=form, files={"dataset": ("pairs.jsonl", dataset)}).raise_for_status()
    path = answer.headers["Location"]
    _wait_for(lambda: client.get(path).json()["state"] not in ("queued", "running"), until)
    expansion = client.get(path).json()
    return f"taught: {expansion['state']} {(expansion.get('error') or {}).get('code', '')}".strip()


def _find_api(url: str) -> psutil.Process:
    port = int(url.rpartition(":")[2])
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(each.laddr.port == port and each.status == "LISTEN" for each in process.net_connections("tcp")):
                return process
    raise RuntimeError("no process listens on the port of the service")


def _wait_for(reached: Callable[[], bool], until: float) -> None:
    while time.monotonic() < until:
        with suppress(httpx.TransportError):
            if reached():
                return
        time.sleep(0.2)


def make_form(kind: str, text: str) -> dict[str, Any]:
    """Make the form of one task, as Immich sends it."""
    if kind == "textual":
        entries: dict[str, Any] = {"clip": {kind: {"modelName": _MODEL, "options": {"language": _LANGUAGE}}}}
        return {"entries": (None, json.dumps(entries)), "text": (None, text)}
    entries = {"clip": {kind: {"modelName": _MODEL}}} if kind == "visual" else _FACES
    return {"entries": (None, json.dumps(entries)), "image": ("blob", b"a picture", "application/octet-stream")}


class _Handler(BaseHTTPRequestHandler):
    """Immich's own service, as far as it is needed here: answers each task with something."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer a task."""
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"clip": "[1.0]", "facial-recognition": []}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _serve_stub(port: int) -> None:
    ThreadingHTTPServer(("127.0.0.1", port), _Handler).serve_forever()


class Stub:
    """The stub in a process of its own, always on the same port."""

    def __init__(self) -> None:
        self._port = _find_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Start it; returns when it answers."""
        self._process = multiprocessing.get_context("spawn").Process(target=_serve_stub, args=(self._port,))
        self._process.start()
        form = make_form("textual", "a text")
        _wait_for(lambda: httpx.post(self.url, files=form).status_code == 200, time.monotonic() + 60.0)

    def send(self, sent: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self._process.pid or 0, sent)

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.join()


def _find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def run_adapter(url: str, key: str, stub: str) -> Iterator[str]:
    """Run `pictoglot immich`; yield its address."""
    port = _find_port()
    program = str(Path(sys.executable).parent / "pictoglot")
    command = [program, "immich", "--listen", f"127.0.0.1:{port}", "--upstream", stub, "--model", _MODEL]
    environment = {"PICTOGLOT_URL": url, "PICTOGLOT_KEY": key, "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(lambda: httpx.get(f"{address}/ping").status_code == 200, time.monotonic() + 60.0)
            yield address
        finally:
            process.terminate()


if __name__ == "__main__":
    typer.run(main)
