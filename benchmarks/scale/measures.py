"""What is measured in one process: searches, puts, pages, a rollback, memory. Each function gives numbers only."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Any, TypeVar

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.scale.material import IMAGE, TEXT, Made, Vectors, hash_content, name
from index.gallery import Gallery, NewPicture
from index.live import LiveIndex
from index.selection import Criteria, Selection
from index.snapshot import Snapshot
from index.sources import PictureSource, apply_changes
from index.vectors import MemoryTail, VectorKeys
from model.pictures import Picture

T = TypeVar("T")
_QUERIES = 200
_BLOCK = 200_000  # vectors that an exact scan has in memory
_SCANNED = 20  # queries that time it
_PAUSE = 0.005  # seconds between two searches, so that they do not take all the time of a core


@contextmanager
def open_data_root(name: str, folder: Path | None, keep: Path | None = None) -> Iterator[Path]:
    """Yield `keep`, which stays; or a new folder below `folder`, or in the system's own, and remove it afterwards."""
    for parent in (folder, keep):
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix=f"pictoglot-{name}-", dir=folder) as home:
        yield Path(home)


def measure_call(act: Callable[..., object], *given: Any) -> float:
    """Return the milliseconds of one call."""
    return time_call(act, *given)[0]


def time_call(act: Callable[..., T], *given: Any, **named: Any) -> tuple[float, T]:
    """Return the milliseconds of one call, and what it returned."""
    started = time.perf_counter()
    result = act(*given, **named)
    return 1_000 * (time.perf_counter() - started), result


def measure_searches(snapshot: Snapshot, made: Made, *depths: int) -> dict[str, dict[str, float]]:
    """Time searches for the `depths` nearest, and for ten of a hundredth of the pictures; recall by exact scans.

    `cpu_p50_ms` is the processor time of a search, which other work on the machine disturbs less. The time of an exact
    scan is that of some vectors in memory, times as many as there are.
    """
    asked = {kind: made.queries(_QUERIES, cosine) for kind, cosine in (("recall_img", IMAGE), ("recall_txt", TEXT))}
    best, exact_ms = _scan(made, np.concatenate([*asked.values()]), max(depths))
    found = dict[str, dict[str, float]]()
    for k in depths:
        took, used, nearest = list[float](), list[float](), iter(best)
        found[f"k{k}"] = right = dict[str, float]()
        for kind, queries in asked.items():
            hits = [_time_search(snapshot, query, k, took, used) for query in queries]
            right[kind] = sum(len({*map(name, next(nearest)[:k].tolist())} & each) for each in hits) / (_QUERIES * k)
        right |= {"p50_ms": median(took), "cpu_p50_ms": median(used), "exact_p50_ms": exact_ms}
    few = np.sort(np.random.default_rng(6).choice(made.count, made.count // 100, replace=False)).astype(np.int64) + 1
    took, used, queries = list[float](), list[float](), asked["recall_txt"]
    best, _ = _scan(made, queries, 10, few - 1)
    answers = (_time_search(snapshot, query, 10, took, used, few) for query in queries)
    count = sum(len({*map(name, row.tolist())} & answer) for row, answer in zip(best, answers, strict=True))
    recall = count / (_QUERIES * 10)
    found["k10_of_a_hundredth"] = {"recall_txt": recall, "p50_ms": median(took), "cpu_p50_ms": median(used)}
    return found


def _time_search(
    snapshot: Snapshot, query: Vectors, k: int, took: list[float], used: list[float], allowed: VectorKeys | None = None
) -> set[str]:
    begun = time.thread_time()
    spent, hits = time_call(snapshot.search_pictures, query, k, allowed=allowed)
    took.append(spent)
    used.append(1_000 * (time.thread_time() - begun))
    return {hit.picture for hit in hits}


def _scan(
    made: Made, queries: Vectors, k: int, among: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], float]:
    """Find the `k` nearest pictures of each query, best first, of all or `among` these; time it for one query."""
    rows, scores = np.zeros((len(queries), 0), dtype=np.int64), np.zeros((len(queries), 0), dtype=np.float32)
    took = list[float]()
    for start in range(0, made.count, _BLOCK):
        block = made.vectors(start, min(start + _BLOCK, made.count)).astype(np.float16).astype(np.float32)
        if not start:
            times = (measure_call(_find_nearest, block, query, k) for query in queries[:_SCANNED])
            took += [spent * made.count / len(block) for spent in times]
        products = queries @ block.T
        if among is not None:
            products[:, ~np.isin(np.arange(start, start + len(block)), among)] = -np.inf
        values = np.concatenate([scores, products], axis=1)
        near = np.argpartition(-values, min(k, values.shape[1] - 1), axis=1)[:, :k]
        numbers = near - scores.shape[1] + start
        known = near < scores.shape[1]
        numbers[known] = rows[np.nonzero(known)[0], near[known]]
        rows, scores = numbers, np.take_along_axis(values, near, axis=1)
    return np.take_along_axis(rows, np.argsort(-scores, axis=1), axis=1), median(took)


def _find_nearest(matrix: Vectors, query: Vectors, k: int) -> NDArray[np.int64]:
    return np.argpartition(-(matrix @ query), k)[:k]


def measure_puts(live: LiveIndex, made: Made, start: int, count: int, picture: Picture) -> list[float]:
    """Return milliseconds of each put of a new picture."""
    return [put(live, at, vector, picture) for at, vector in enumerate(made.vectors(0, count), start)]


def put(live: LiveIndex, number: int, vector: Vectors, picture: Picture) -> float:
    """Return milliseconds of one put."""
    new = NewPicture(name(number), hash_content(number), *picture.rgb.size, None, vector, picture)
    return measure_call(live.put_pictures, [new])


def follow(live: LiveIndex, gallery: Gallery, changes: int) -> None:
    """Take in the last changes once more, beside what is served."""
    (identity, served), *_ = ((of, each) for of, each in live.current.sets.items() if of.kind == "pictures")
    behind = replace(served, change=served.change - changes, tail=MemoryTail.make_empty(identity.dimension))
    source = PictureSource(gallery, identity)
    apply_changes({identity: behind}, {identity: source}, gallery)


def measure_pages(gallery: Gallery, count: int) -> dict[str, float]:
    """Return milliseconds of the first page of the gallery and of the last one."""
    last, list_pictures = (
        gallery.get(name(count - 101)).find_place("created_at"),
        Selection(gallery.registry).list_pictures,
    )
    return {
        "page_ms_first": median(measure_call(list_pictures, Criteria(), 100) for _ in range(20)),
        "page_ms_last": median(measure_call(list_pictures, Criteria(), 100, last) for _ in range(20)),
    }


@contextmanager
def watch_stalls(live: LiveIndex, queries: Vectors) -> Iterator[dict[str, float]]:
    """Search again and again while the block runs; afterwards the yielded dict has the longest one in ms."""
    measured = {"longest_stall_ms": 0.0, "searches": 0.0}

    def ask() -> None:
        query = queries[int(measured["searches"]) % len(queries)]
        took = measure_call(live.current.search_pictures, query, 10)
        measured["longest_stall_ms"] = max(measured["longest_stall_ms"], took)
        measured["searches"] += 1

    with _repeat_beside(ask, _PAUSE):
        yield measured


@contextmanager
def watch_memory() -> Iterator[dict[str, float]]:
    """Watch the memory that only this process has, no mapped files; the yielded dict has the most of it, in MB."""
    measured = {"peak_mb": 0.0}

    def look() -> None:
        lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
        measured["peak_mb"] = max(measured["peak_mb"], int(lines["RssAnon"].split()[0]) * 1024 / 1e6)

    with _repeat_beside(look, 0.2):
        yield measured


@contextmanager
def _repeat_beside(act: Callable[[], None], pause: float) -> Iterator[None]:
    """Do something again and again in a thread while the block runs, with so many seconds between."""
    ended = Event()

    def repeat() -> None:
        act()
        while not ended.wait(pause):
            act()

    thread = Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def measure_private_mb() -> float:
    """Return memory that only this process has, in MB."""
    return float(psutil.Process().memory_full_info().uss) / 1e6


def measure_mapped_mb(folder: Path, name: str) -> float:
    """Return resident memory of the files of this name below a folder that this process has mapped, in MB.

    The system keeps it once for all processes.
    """
    maps = psutil.Process().memory_maps(grouped=True)
    return (
        float(sum(each.rss for each in maps if each.path.startswith(str(folder)) and Path(each.path).name == name))
        / 1e6
    )


class Sealed:
    """Counts the bytes of the segments that were written since it was made, also of those removed meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.written = 0
        self._folder, self._seen = folder, set[str]()
        self.look()
        self.written = 0

    def look(self) -> None:
        """Look at the files; to be called often enough to see every segment."""
        for segment in self._folder.glob("[a-z]*"):
            if segment.name not in self._seen:
                self._seen.add(segment.name)
                self.written += measure_folder(segment)


def measure_folder(folder: Path) -> int:
    """Return bytes of the files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def count_cores() -> int:
    """Return cores that this process may use."""
    return len(os.sched_getaffinity(0))
