"""`python -m benchmarks.scale`: start, search, put, page and rollback with a million pictures; prints and writes JSON.

Made-up vectors, in clusters; queries as texts are (cosine 0.30 to a picture) and as pictures are (0.72). The tables are
filled as by a bulk import; sealing, merging and opening are the worker's and the service's own. Asserts nothing.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.scale import language, measures, several
from benchmarks.scale.material import TEXT, Made, NoEncoder, fill, name
from index.gallery import Gallery
from index.live import LiveIndex
from index.sets import VectorSets
from model import encoder  # noqa: F401 - opening a version imports it, which takes seconds
from model.pictures import Picture
from model.processes import give_way
from store.data_root import DataRoot
from store.registry import Registry, open_registry
from worker.settings import WorkerSettings
from worker.upkeep import IndexingChore

_SAMPLE = 200  # puts and deletes of which the median counts
_AGAIN = 10  # times that a process follows the same changes
_FOLLOWED = 8_000  # changes at most that such a process follows
_ROUNDS = 3  # processes of either kind
_TIMES = ("p50_ms", "cpu_p50_ms")  # of a search: by the clock, and of the processor
_console = Console()
app = typer.Typer(add_completion=False)


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    pictures: Annotated[int, typer.Option(min=10_000, help="Pictures in the gallery")] = 1_000_000,
    dimension: Annotated[int, typer.Option(min=16, max=4_096, help="Of the vectors")] = 512,
    changes: Annotated[int, typer.Option(min=2 * _SAMPLE, help="Pictures that are put while searches run")] = 20_000,
    out: Annotated[Path | None, typer.Option("--json", help="Where the JSON goes")] = None,
    folder: Annotated[Path | None, typer.Option(help="For the data roots; several GB")] = None,
    keep: Annotated[
        Path | None, typer.Option(help="A data root that stays: a stopped run goes on where it was")
    ] = None,
    growth: Annotated[bool, typer.Option(help="Measure a tenth of it too")] = True,
    engine: Annotated[Literal["faiss", "pgvector"], typer.Option(help="pgvector: two API processes on it")] = "faiss",
) -> None:
    """Measure, print, write."""
    if context.invoked_subcommand is not None:
        return
    if engine == "pgvector":
        report = several.measure_whole(Made(pictures, dimension), folder)
        if growth:
            report["at_a_tenth"] = several.measure_whole(Made(pictures // 10, dimension), folder)
    else:
        report = measure_whole(Made(pictures, dimension), changes, folder, keep)
    if growth and engine == "faiss":
        small = measure_whole(Made(pictures // 10, dimension), min(changes, 2_000), folder)
        report["growth"] = compute_ratios(report, small)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _console.print(build_table(report))


@app.command("api", hidden=True)
def run_api(home: Path, dimension: int, url: str) -> None:
    """Run one of two API processes on pgvector."""
    several.serve(home, dimension, url)


@app.command("following", hidden=True)
def follow(home: Path, dimension: int, changes: int, as_serving: bool = True) -> None:
    """Print the longest search in milliseconds while this process takes in the last `changes` again and again."""
    with _open_world(home, dimension) as (sets, model):
        live = LiveIndex(model, sets)
        assert live.start()
        if as_serving:
            give_way()
        with measures.watch_stalls(live, Made(10_000, dimension).queries(200, TEXT)) as stalled:
            for _ in range(_AGAIN):
                measures.follow(live, sets.gallery, changes)
        live.close()
    sys.stdout.write(json.dumps(stalled) + "\n")


@app.command("opened", hidden=True)
def open_once(home: Path, dimension: int, wait: float = 0.0) -> None:
    """Print what a starting API process does, as JSON; stay for `wait` seconds."""
    with _open_world(home, dimension) as (sets, model):
        before, started = measures.measure_private_mb(), time.perf_counter()
        live = LiveIndex(model, sets)
        assert live.start()
        give_way()
        ready = time.perf_counter() - started
        for query in Made(10_000, dimension).queries(200, TEXT):
            live.current.search_pictures(query, 10)
        figures = {
            "seconds": ready,
            "private_mb": measures.measure_private_mb() - before,
            "index_mb": measures.measure_mapped_mb(home, "index.faiss"),
            "vectors_mb": measures.measure_mapped_mb(home, "rows.safetensors"),
        }
        sys.stdout.write(json.dumps(figures) + "\n")
        sys.stdout.flush()
        time.sleep(wait)
        live.close()


def measure_whole(made: Made, changes: int, folder: Path | None, keep: Path | None = None) -> dict[str, Any]:
    """Return everything for one size, on a data root of its own; what `keep` has of it is not measured again."""
    with measures.open_data_root("scale", folder, keep) as home:
        note = home / "measured.json"
        report: dict[str, Any] = {"pictures": made.count, "dimension": made.dimension, "cores": measures.count_cores()}
        report |= json.loads(note.read_text()) if note.exists() else {}
        for part in (measure_sealing, measure_reading, measure_starts, measure_changes, measure_turns):
            if part.__name__ not in report.setdefault("parts", []):
                report |= part(home, made, changes)
                report["parts"].append(part.__name__)
                note.write_text(json.dumps(report))
        del report["parts"]
    return report


def measure_sealing(home: Path, made: Made, changes: int) -> dict[str, Any]:
    """Fill the tables and seal the gallery."""
    _console.print(f"{made.count:,} pictures: filling the tables.")
    with _open_world(home, made.dimension) as (sets, model):
        filled = measures.measure_call(fill, sets.registry, made, model, 1_000) / 1_000
        live = LiveIndex(model, sets)
        _console.print("Opening it the first time, which seals it.")
        with measures.watch_memory() as memory:
            sealed = measures.measure_call(live.start) / 1_000
        live.close()
    segments = measures.measure_folder(home / "segments") / 1e6
    return {
        "fill_seconds": filled,
        "seal_seconds": sealed,
        "seal_private_mb": memory["peak_mb"],
        "disk_mb": {"segments": segments, "registry": measures.measure_folder(home) / 1e6 - segments},
    }


def measure_reading(home: Path, made: Made, changes: int) -> dict[str, Any]:
    """Search, page through the gallery, promote a language and roll it back."""
    _console.print("Searching.")
    with _open_world(home, made.dimension) as (sets, model):
        live = LiveIndex(model, sets)
        live.start()
        report: dict[str, Any] = {"search": measures.measure_searches(live.current, made, 10, 100)}
        report |= measures.measure_pages(sets.gallery, made.count)
        report |= language.measure_moves(live, made)
        live.close()
    return report


def measure_turns(home: Path, made: Made, changes: int) -> dict[str, Any]:
    """Return the longest search beside a thread that follows the gallery: as the service runs, and as Python comes."""
    longest: dict[str, list[float]] = {"as_serving": [], "no_as_serving": []}
    for side in ("as_serving", "no_as_serving") * _ROUNDS:
        some = str(min(changes, _FOLLOWED))
        command = ["following", str(home), str(made.dimension), some, f"--{side.replace('_', '-')}"]
        said = json.loads(_process(*command).communicate()[0])
        longest[side].append(said["longest_stall_ms"])
    found = {"as_serving": median(longest["as_serving"]), "as_python_comes": median(longest["no_as_serving"])}
    return {"stall_ms": found}


def measure_starts(home: Path, made: Made, changes: int) -> dict[str, Any]:
    """Measure processes that open the data root: never verified here, verified before, and beside another."""
    shutil.rmtree(home / "verified", ignore_errors=True)
    _console.print("Starting processes.")
    alone = ("opened", str(home), str(made.dimension))
    first = json.loads(_process(*alone).communicate()[0])
    beside = _process(*alone, "--wait", "3600")
    figures = json.loads(beside.stdout.readline()) if beside.stdout else {}
    second = json.loads(_process(*alone).communicate()[0])
    beside.terminate()  # until then what both have mapped is nobody's own
    beside.communicate()
    return {
        "start_seconds": first["seconds"],
        "start_seconds_verified_before": figures["seconds"],
        "private_mb_second_process": second["private_mb"],
        "resident_mb_index": second["index_mb"],
        "resident_mb_vectors": second["vectors_mb"],
    }


def measure_changes(home: Path, made: Made, changes: int) -> dict[str, Any]:
    """Return puts and deletes, with an indexer as the worker runs it and searches beside them."""
    with _open_world(home, made.dimension) as (sets, model):
        live = LiveIndex(model, sets)
        live.start()
        give_way()
        try:
            return _measure_puts(live, sets.registry, made, changes, home)
        finally:
            live.close()


def _measure_puts(live: LiveIndex, registry: Registry, made: Made, count: int, home: Path) -> dict[str, Any]:
    rgb = Image.new("RGB", (32, 32), "white")
    picture, start = Picture.encode(rgb), made.count
    _console.print(f"Putting {count:,} pictures while searches run.")
    os.environ["PICTOGLOT_HOME"] = str(home)
    indexing, put, step = IndexingChore(WorkerSettings.load()), list[float](), 500
    alone = measures.measure_puts(live, made, start, _SAMPLE, picture)
    sealed = measures.Sealed(home / "segments")
    with measures.watch_stalls(live, made.queries(200, TEXT)) as stalled:
        for first in range(start + _SAMPLE, start + count, step):
            put += measures.measure_puts(live, made, first, min(step, start + count - first), picture)
            indexing.tick(registry)
            live.refresh()
            sealed.look()
        while indexing.is_running:
            time.sleep(0.5)
            indexing.tick(registry)
            live.refresh()
        sealed.look()
    deleted = [measures.measure_call(live.delete_picture, name(n)) for n in range(start, start + _SAMPLE)]
    return {
        "put_ms": median(alone),
        "put_beside_searches_ms": median(put),
        "delete_ms": median(deleted),
        "bytes_written_per_put": sealed.written / max(1, count - _SAMPLE),
        "longest_stall_ms": stalled["longest_stall_ms"],
        "searches_meanwhile": stalled["searches"],
        "segments": len(live.current.picture_set.parts),
    }


def compute_ratios(large: dict[str, Any], small: dict[str, Any]) -> dict[str, float]:
    """Return how much more ten times as many pictures cost."""
    names = ("start_seconds", "start_seconds_verified_before", "put_ms", "delete_ms", "page_ms_first", "page_ms_last")
    found = {each: large[each] / small[each] for each in names}
    searches = {f"search_{each}": large["search"]["k10"][each] / small["search"]["k10"][each] for each in _TIMES}
    return {**found, **searches}


def build_table(report: dict[str, Any]) -> Table:
    """Return the figures, one in each line."""
    drawn = Table("figure", "value", title=f"{report['pictures']:,} pictures x {report['dimension']}")
    for name_, value in report.items():
        for part, figure in value.items() if isinstance(value, dict) else {"": value}.items():
            text = f"{figure:,.4g}" if isinstance(figure, int | float) else json.dumps(figure)
            drawn.add_row(f"{name_} {part}", text)
    return drawn


def _process(*arguments: str) -> "subprocess.Popen[bytes]":
    """Return another process, with a hidden command of this program."""
    return subprocess.Popen([sys.executable, "-m", "benchmarks.scale", *arguments], stdout=subprocess.PIPE)


@contextmanager
def _open_world(home: Path, dimension: int) -> Iterator[tuple[VectorSets, NoEncoder]]:
    model, registry = NoEncoder(dimension), open_registry(f"sqlite:///{home / 'registry.db'}")
    try:
        registry.initialise(model.base_fingerprint)
        yield VectorSets(Gallery(registry, DataRoot(home))), model
    finally:
        registry.close()


if __name__ == "__main__":
    app()
