"""`python -m benchmarks.backups`: searches while nothing else runs, and beside one backup after another.

Starts the real service with the demo gallery and no query cache. A first backup reads every file; a later one reads
what is new. Prints a table; asserts nothing.
"""

import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit
from uuid import uuid4

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.load import Timings, run_closed_loop
from benchmarks.process import run_service
from benchmarks.serving import list_queries, merge_timings
from demo.fill import fill

_console = Console()


def main(
    seconds: Annotated[float, typer.Option(min=1, max=300, help="Length of one block")] = 20.0,
    rounds: Annotated[int, typer.Option(min=1, max=20, help="Blocks of each kind, in turn")] = 3,
) -> None:
    """Measure and print."""
    key, blocks = secrets.token_urlsafe(32), dict[str, list[Timings]]()
    took: dict[str, list[float]] = {"first backups": [], "later backups": []}
    with tempfile.TemporaryDirectory(prefix="pictoglot-backups-") as place:
        home = Path(place) / "home"
        with run_service(key, CACHE_SIZE="0", HOME=str(home)) as url:
            fill(url, key)
            bodies = list_queries()
            run_closed_loop(url, bodies, clients=1, seconds=2)  # warm
            own = {"HOME": str(home), "PORT": str(urlsplit(url).port), "ADMIN_KEY": key}
            for _ in range(rounds):
                blocks.setdefault("idle", []).append(run_closed_loop(url, bodies, clients=1, seconds=seconds))
                for kind, times in took.items():
                    with back_up_without_end(Path(place), own, times, anew=kind.startswith("first")):
                        found = run_closed_loop(url, bodies, clients=1, seconds=seconds)
                    blocks.setdefault(f"beside {kind}", []).append(found)
    shown = Table("block", "searches", "failed", "p50 ms", "p95 ms", "p95 over idle")
    idle = merge_timings(blocks["idle"]).compute_percentile(95)
    for name, timings in ((name, merge_timings(found)) for name, found in blocks.items()):
        facts, p95 = timings.summarize(), timings.compute_percentile(95)
        row = (facts["searches"], facts["failed"], facts["p50_ms"], facts["p95_ms"], f"{p95 / idle:.2f}")
        shown.add_row(name, *map(str, row))
    _console.print(shown)
    for kind, times in took.items():
        _console.print(
            f"{len(times)} {kind}: {statistics.median(times):.1f} s in the median, {max(times):.1f} s at most."
        )


@contextmanager
def back_up_without_end(place: Path, own: dict[str, str], times: list[float], *, anew: bool) -> Iterator[None]:
    """Take one backup after another while the block runs, each into a new folder if `anew`; note how long they take."""
    stop = threading.Event()

    def run() -> None:
        environment = {**os.environ, **{f"PICTOGLOT_{name}": value for name, value in own.items()}}
        while not stop.is_set():
            folder = place / (f"anew-{uuid4().hex}" if anew else "backups")
            command = [str(Path(sys.executable).parent / "pictoglot"), "backup", str(folder)]
            began = time.perf_counter()
            subprocess.run(command, env=environment, cwd=place, stdout=subprocess.DEVNULL, check=True)
            times.append(time.perf_counter() - began)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


if __name__ == "__main__":
    typer.run(main)
