"""`python -m benchmarks.flood`: searches while thousands of connections are held open that never end their head.

Starts the real service with some pictures of the demo and no query cache. A third of the connections is silent, a third
has sent half a head, a third sends one byte a second; each is opened again as soon as the service closes it. Prints and
writes JSON; asserts nothing.
"""

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.console import Console

from benchmarks.load import Timings, run_closed_loop
from benchmarks.process import run_service
from benchmarks.serving import commit, list_queries, name_processor
from client.api import Client
from demo.gallery import draw_pictures
from model.processes import allow_descriptors

_console = Console()
_BEGUN = (b"", b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"GET /livez HTTP/1.1\r\nX-Slow: ")
_SPREAD = 5.0  # seconds over which the first connections are opened
_PICTURES = 100
_TIMEOUT = 60.0  # seconds for one answer to an upload
_AGAIN = 0.1  # seconds before a refused connection is tried again


def main(
    connections: Annotated[int, typer.Option(min=1, max=20_000, help="Held open at a time")] = 5_000,
    seconds: Annotated[float, typer.Option(min=1, max=3_600, help="For so long")] = 600.0,
    idle: Annotated[float, typer.Option(min=1, max=300, help="Length of the blocks before and after")] = 30.0,
    out: Annotated[Path, typer.Option(help="Where the JSON goes")] = Path("runs/flood.json"),
) -> None:
    """Measure, print, write."""
    key, bodies = secrets.token_urlsafe(32), list_queries()
    with tempfile.TemporaryDirectory(prefix="pictoglot-flood-") as folder:
        log = Path(folder) / "log"
        with run_service(key, log, CACHE_SIZE="0", LOG_LEVEL="info") as url:
            fill(url, key)
            run_closed_loop(url, bodies, clients=1, seconds=2)  # warm
            before = run_closed_loop(url, bodies, clients=1, seconds=idle)
            lines = log.read_bytes().count(b"\n")
            with flood_with_connections(url, connections) as counts:
                during = run_closed_loop(url, bodies, clients=1, seconds=seconds)
                own = [line for line in log.read_bytes().splitlines()[lines:] if b'"request"' not in line]
            after = run_closed_loop(url, bodies, clients=1, seconds=idle)
    report = as_json(before, during, after, counts, sum(map(len, own)))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _console.print_json(data=report)


def fill(url: str, key: str) -> None:
    """Put some pictures of the demo."""
    with Client(url, key, timeout=_TIMEOUT) as client:
        for each in itertools.islice(draw_pictures(), _PICTURES):
            client.put_picture(each.id, {"picture": (each.id, each.content, "image/png"), "captions": each.captions})


def as_json(before: Timings, during: Timings, after: Timings, flood: dict[str, int], logged: int) -> dict[str, Any]:
    """Return everything needed to read the figures later."""
    calm = Timings(before.seconds + after.seconds, before.failed + after.failed, before.duration + after.duration)
    return {
        "machine": {"cores": os.cpu_count(), "processor": name_processor(), "commit": commit()},
        "flood": flood,
        "log_bytes_but_for_requests": logged,
        "blocks": {"before": before.summarize(), "during": during.summarize(), "after": after.summarize()},
        "ratios": {
            f"p{share} during over idle": round(during.compute_percentile(share) / calm.compute_percentile(share), 2)
            for share in (50, 95, 99)
        },
    }


@contextlib.contextmanager
def flood_with_connections(url: str, connections: int) -> Iterator[dict[str, int]]:
    """Start a process that holds so many connections open; the yielded counts say what became of them."""
    command, counts = [sys.executable, "-m", "benchmarks.flood", url, str(connections)], dict[str, int]()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    if process.stdout.readline() != b"started\n":
        raise RuntimeError("the flood did not start")
    try:
        yield counts
    finally:
        process.stdin.close()
        counts |= json.loads(process.stdout.read())
        process.wait()


async def flood(url: str, connections: int, until_closed: IO[bytes]) -> None:
    """Hold the connections open until `until_closed` ends; then print how many were opened, closed and refused."""
    where, counts = urlsplit(url), {"opened": 0, "closed": 0, "refused": 0, "most_at_once": 0}
    now = 0

    async def hold(number: int) -> None:
        nonlocal now
        await asyncio.sleep(_SPREAD * number / connections)
        begun = _BEGUN[number % len(_BEGUN)]
        while True:
            try:
                reader, writer = await asyncio.open_connection(where.hostname, where.port)
            except OSError:
                counts["refused"] += 1
                await asyncio.sleep(_AGAIN)
                continue
            counts["opened"] += 1
            now += 1
            counts["most_at_once"] = max(now, counts["most_at_once"])
            with contextlib.suppress(OSError):
                await _wait_until_closed(reader, writer, begun, slow=begun == _BEGUN[-1])
            now -= 1
            counts["closed"] += 1
            writer.close()

    held = [asyncio.create_task(hold(number)) for number in range(connections)]
    await asyncio.sleep(_SPREAD)
    sys.stdout.write("started\n")
    sys.stdout.flush()
    await asyncio.to_thread(until_closed.read)
    for each in held:
        each.cancel()
    sys.stdout.write(json.dumps(counts | {"held": connections}))


async def _wait_until_closed(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, begun: bytes, slow: bool
) -> None:
    writer.write(begun)
    while True:
        try:
            async with asyncio.timeout(1.0 if slow else None):
                if not await reader.read(65_536):
                    return
        except TimeoutError:
            writer.write(b"x")


if __name__ == "__main__":
    if len(sys.argv) == 3 and "://" in sys.argv[1]:
        allow_descriptors()
        asyncio.run(flood(sys.argv[1], int(sys.argv[2]), sys.stdin.buffer))
    else:
        typer.run(main)
