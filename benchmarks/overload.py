"""`python -m benchmarks.overload`: searches at five times the rate that the service can answer.

Starts the real service with some pictures of the demo and no query cache. First, the machine's capacity: a closed loop
with as many clients as searches may wait. Then searches come at a fixed rate, whatever becomes of those before them, on
kept-alive connections of another process, which shares the cores. Prints and writes JSON; asserts nothing.
"""

import asyncio
import json
import os
import secrets
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import numpy as np
import typer
from rich.console import Console

from benchmarks.flood import fill
from benchmarks.load import run_closed_loop
from benchmarks.process import run_service
from benchmarks.serving import commit, list_queries, name_processor
from model.processes import allow_descriptors

_console = Console()
_PLACES = 128  # `queue_limit` of the service
_CONNECTIONS = 2_000  # of the open loop, at most
_TICK = 0.005  # seconds: what is due is sent together
_LAST = 30.0  # seconds for the last answers


def main(
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Length of each block")] = 60.0,
    times: Annotated[float, typer.Option(min=1, max=20, help="The rate, in capacities")] = 5.0,
    out: Annotated[Path, typer.Option(help="Where the JSON goes")] = Path("runs/overload.json"),
) -> None:
    """Measure, print, write."""
    key, bodies = secrets.token_urlsafe(32), list_queries()
    with run_service(key, CACHE_SIZE="0", RATE_PER_MINUTE="10000000") as url:
        fill(url, key)
        run_closed_loop(url, bodies, clients=1, seconds=2)  # warm
        capacity = run_closed_loop(url, bodies, clients=_PLACES, seconds=seconds)
        command = [sys.executable, "-m", "benchmarks.overload", url, str(times * capacity.rate), str(seconds)]
        answers = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    accepted, refused = answers.pop("200", {}), answers.pop("503", {})
    report = {
        "machine": {"cores": os.cpu_count(), "processor": name_processor(), "commit": commit()},
        "capacity": capacity.summarize(),
        "asked_per_second": round(times * capacity.rate, 1),
        "accepted": accepted,
        "refused": refused,
        "others": answers,
        "p95 of accepted over capacity": round(accepted["p95_ms"] / capacity.compute_percentile(95), 2)
        if accepted
        else None,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _console.print_json(data=report)


class OpenLoop:
    """Sends searches at a rate on as many connections as that takes, and keeps the seconds of each answer by status."""

    def __init__(self, url: str, bodies: Sequence[bytes]) -> None:
        where = urlsplit(url)
        self._host, self._port = where.hostname or "127.0.0.1", where.port or 80
        self._requests = [_request(body) for body in bodies]
        self._idle: list[_Client] = []
        self.open = 0
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)

    async def run(self, rate: float, seconds: float) -> None:
        """Send at this rate (searches a second) for so long, then wait for the answers."""
        loop = asyncio.get_running_loop()
        began, sent, asked = loop.time(), 0, set[asyncio.Task[None]]()
        while (spent := loop.time() - began) < seconds:
            while sent < spent * rate:
                if self._idle:
                    self._idle.pop().ask(self._requests[sent % len(self._requests)])
                elif self.open < _CONNECTIONS:
                    self.open += 1
                    task = loop.create_task(self._ask_first(self._requests[sent % len(self._requests)]))
                    asked.add(task)
                    task.add_done_callback(asked.discard)
                else:
                    self.seconds["not sent"].append(0.0)
                sent += 1
            await asyncio.sleep(_TICK)
        until = loop.time() + _LAST
        while len(self._idle) < self.open and loop.time() < until:
            await asyncio.sleep(_TICK)
        self.seconds["no answer"] += [_LAST] * (self.open - len(self._idle))

    async def _ask_first(self, request: bytes) -> None:
        try:
            _, client = await asyncio.get_running_loop().create_connection(
                lambda: _Client(self), self._host, self._port
            )
        except OSError:
            self.open -= 1
            self.seconds["not connected"].append(0.0)
        else:
            client.ask(request)

    def note_answer(self, client: "_Client", status: str, seconds: float) -> None:
        """Note that a connection is idle again."""
        self.seconds[status].append(seconds)
        self._idle.append(client)

    def note_loss(self, client: "_Client") -> None:
        """Note that a connection was closed."""
        self.open -= 1
        if client in self._idle:
            self._idle.remove(client)
        else:
            self.seconds["closed"].append(0.0)


class _Client(asyncio.Protocol):
    """One kept-alive connection, with one search under way at most."""

    def __init__(self, loop: OpenLoop) -> None:
        self._loop, self._data, self._sent = loop, b"", 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def ask(self, request: bytes) -> None:
        self._data, self._sent = b"", asyncio.get_running_loop().time()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        _, _, rest = head.lower().partition(b"content-length: ")
        if end and len(body) == int(rest.split(b"\r\n")[0]):
            self._loop.note_answer(self, head[9:12].decode(), asyncio.get_running_loop().time() - self._sent)

    def connection_lost(self, exc: Exception | None) -> None:
        self._loop.note_loss(self)


def _request(body: bytes) -> bytes:
    return (
        b"POST /v1/search/pictures HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )


def summarize(seconds: Sequence[float]) -> dict[str, float]:
    """Return how many answers, and how long they took."""
    shares = {f"p{share}_ms": round(float(np.percentile(seconds, share)) * 1_000, 1) for share in (50, 95, 99, 100)}
    return {"answers": len(seconds), **shares}


async def ask(url: str, rate: float, seconds: float) -> None:
    """Run an open loop, and print what came of it."""
    loop = OpenLoop(url, list_queries())
    await loop.run(rate, seconds)
    sys.stdout.write(json.dumps({status: summarize(taken) for status, taken in loop.seconds.items() if taken}))


if __name__ == "__main__":
    if len(sys.argv) == 4 and "://" in sys.argv[1]:
        allow_descriptors()
        asyncio.run(ask(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))
    else:
        typer.run(main)
