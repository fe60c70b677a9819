"""`python -m benchmarks.serving`: searches idle, while pictures are uploaded, and while a language is being learned.

Beside them, of idle searches, what each part of them takes in the service, and texts that the tower alone encodes, one
at a time or as many in a batch as there are clients; and what the last release did, whose figures are in
benchmarks/released.json: what became worse is named. Starts the real service with the demo gallery and no query
cache. Prints a table and writes JSON; asserts nothing. The client runs on the same cores as the service, so the figures
are what one machine does in all.
"""

import itertools
import json
import os
import platform
import random
import secrets
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import httpx
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.load import Timings, run_closed_loop, search_body
from benchmarks.parts import build_table as parts_table
from benchmarks.parts import compute_parts, read_part_seconds
from benchmarks.process import run_service
from benchmarks.uploads import upload_without_end
from demo import dataset as datasets
from demo.fill import fill
from demo.gallery import list_outlines
from model.encoder import Encoder
from service.app import open_encoder
from service.settings import Settings

Blocks = dict[str, Timings]

_console = Console()
_LEARNED = "de"
_IDLE = {"idle, 1 client": 1, "idle, 8 clients": 8, "idle, 16 clients": 16}
_UPLOADS = 60  # under way at a time
_STARTS_WITHIN = 600.0  # seconds from the submission to the first training step
_TRAINING = {"epochs": 200}  # longer than the block; cancelled afterwards
_RELEASED = Path(__file__).with_name("released.json")
_COMPARED = ("p50_ms", "p95_ms", "per_second")
_NOISE = 1.25  # times: two runs of one version differ by so much


def main(
    seconds: Annotated[float, typer.Option(min=1, max=300, help="Length of one block")] = 20.0,
    rounds: Annotated[int, typer.Option(min=1, max=20, help="Blocks of each kind, in turn")] = 3,
    out: Annotated[Path, typer.Option(help="Where the JSON goes")] = Path("runs/serving.json"),
    before: Annotated[Path, typer.Option(help="Figures to compare with: the JSON of another run")] = _RELEASED,
    base: Annotated[str, typer.Option(help="As PICTOGLOT_BASE")] = "bundled",
) -> None:
    """Measure, print, write."""
    key = secrets.token_urlsafe(32)
    with tempfile.TemporaryDirectory() as home, run_service(key, CACHE_SIZE="0", BASE=base) as url:
        encoder = open_encoder(Settings(home=Path(home), base=base))
        _console.print("Filling the gallery with the emoji pictures.")
        fill(url, key)
        bodies = list_queries()
        run_closed_loop(url, bodies, clients=1, seconds=2)  # warm
        load = os.getloadavg()[0]
        idle, parts, tower = measure_in_turns(url, bodies, encoder, seconds, rounds)
        blocks: Blocks = {
            **idle,
            "learning, 1 client": measure_while_learning(url, bodies, seconds * rounds),
            "60 uploads, 1 client": measure_while_uploading(
                url, key, bodies, seconds * rounds
            ),  # last: they stay in the gallery
        }
        report = {"base": base.partition("@")[0]}
        report |= as_json(blocks, parts, tower, load, gallery=len(list_outlines()), distinct=len(bodies))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    show(report)
    compare(report, json.loads(before.read_text(encoding="utf-8")))
    _console.print(f"Written to {out}.")


def list_queries() -> list[bytes]:
    """Return searches in English for what each picture of the gallery shows, in a fixed random order."""
    return [search_body(text, "en") for text in list_texts()]


def list_texts() -> list[str]:
    """Return what each picture of the gallery shows, in a fixed random order."""
    texts = sorted({outline.caption for outline in list_outlines()})
    random.Random(0).shuffle(texts)
    return texts


def measure_in_turns(
    url: str, bodies: list[bytes], encoder: Encoder, seconds: float, rounds: int
) -> tuple[Blocks, dict[str, dict[str, float]], dict[str, float]]:
    """Return blocks with one, eight and sixteen clients in turns, milliseconds of each part of their searches, and
    texts a second of the tower alone.
    """
    blocks: dict[str, list[Timings]] = {name: [] for name in _IDLE}
    parts: dict[str, list[dict[str, float]]] = {name: [] for name in _IDLE}
    rates: dict[str, list[float]] = {name: [] for name in _IDLE}
    for _ in range(rounds):
        for name, clients in _IDLE.items():
            before = read_part_seconds(url)
            blocks[name].append(run_closed_loop(url, bodies, clients=clients, seconds=seconds))
            parts[name].append({part: value - before.get(part, 0.0) for part, value in read_part_seconds(url).items()})
            rates[name].append(count_texts(encoder, clients, seconds))
    tower = {name: round(median(found), 1) for name, found in rates.items()}
    idle = {name: merge_timings(found) for name, found in blocks.items()}
    return idle, {name: compute_parts(parts[name], idle[name]) for name in idle}, tower


def count_texts(encoder: Encoder, batch: int, seconds: float) -> float:
    """Return texts a second that a tower encodes as searches do, so many together."""
    texts, count, began = itertools.cycle(list_texts()), 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        encoder.encode_texts([(encoder.base_view, text) for text in itertools.islice(texts, batch)], alone=True)
        count += batch
    return count / passed


def merge_timings(blocks: list[Timings]) -> Timings:
    """Return blocks of one kind as one."""
    return Timings(
        [value for block in blocks for value in block.seconds],
        sum(block.failed for block in blocks),
        sum(block.duration for block in blocks),
    )


def measure_while_uploading(url: str, key: str, bodies: list[bytes], seconds: float) -> Timings:
    """Return a block with a single client beside uploads that never end, so many at a time."""
    with upload_without_end(url, key, _UPLOADS):
        time.sleep(2)  # until all of them are under way
        return run_closed_loop(url, bodies, clients=1, seconds=seconds)


def measure_while_learning(url: str, bodies: list[bytes], seconds: float) -> Timings:
    """Return a block with a single client beside the training of a language, which is cancelled at the end."""
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        expansion = submit(client)
        wait_until_training(client, expansion)
        found = run_closed_loop(url, bodies, clients=1, seconds=seconds)
        state = client.get(f"/v1/expansions/{expansion}").raise_for_status().json()
        if (state["state"], state["phase"]) != ("running", "train"):
            raise RuntimeError(f"the training ended within the block: {state['state']}, {state['phase']}")
        client.post(f"/v1/expansions/{expansion}/cancel").raise_for_status()
    return found


def submit(client: httpx.Client) -> str:
    """Post the demo's German dataset; returns the expansion's id."""
    files = {"dataset": ("de.jsonl", datasets.format_lines(_LEARNED).encode(), "application/jsonl")}
    data = {"language": _LEARNED, "settings": json.dumps(_TRAINING)}
    answer = client.post("/v1/languages", files=files, data=data).raise_for_status().json()
    expansion: str = answer["expansion"]["id"]
    return expansion


def wait_until_training(client: httpx.Client, expansion: str) -> None:
    """Wait for the first training step."""
    until = time.monotonic() + _STARTS_WITHIN
    while time.monotonic() < until:
        state = client.get(f"/v1/expansions/{expansion}").raise_for_status().json()
        if state["state"] not in ("queued", "running"):
            raise RuntimeError(f"the expansion ended before it trained: {state['state']}, {state['error']}")
        if state["phase"] == "train" and state["step"]:
            return
        time.sleep(0.2)
    raise RuntimeError("the worker did not begin to train")


def as_json(
    blocks: Blocks,
    parts: dict[str, dict[str, float]],
    tower: dict[str, float],
    load: float,
    *,
    gallery: int,
    distinct: int,
) -> dict[str, Any]:
    """Return everything needed to read the figures later."""
    one, eight, _, learning, uploads = blocks.values()
    return {
        "machine": {"cores": os.cpu_count(), "processor": name_processor(), "load_before": round(load, 2)},
        "software": {"python": platform.python_version(), "torch": torch.__version__, "commit": commit()},
        "gallery": gallery,
        "distinct_queries": distinct,
        "cache": 0,
        "blocks": {name: timings.summarize() for name, timings in blocks.items()},
        "parts_ms": parts,
        "tower_per_second": tower,
        "ratios": {
            **{f"throughput over the tower alone, {name}": round(blocks[name].rate / tower[name], 2) for name in tower},
            "throughput of 8 clients over 1": round(eight.rate / one.rate, 2),
            "p95 beside 60 uploads over idle": round(uploads.compute_percentile(95) / one.compute_percentile(95), 2),
            "p50 while learning over idle": round(learning.compute_percentile(50) / one.compute_percentile(50), 2),
            "p95 while learning over idle": round(learning.compute_percentile(95) / one.compute_percentile(95), 2),
        },
    }


def name_processor() -> str:
    """Return the processor's name as the system tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def commit() -> str:
    """Return the commit that is measured; empty outside a checkout."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def show(report: dict[str, Any]) -> None:
    """Print the figures as a person reads them."""
    table = Table("block", "searches", "failed", "per second", "p50 ms", "p95 ms", "p99 ms")
    for name, block in report["blocks"].items():
        table.add_row(
            name, *(str(block[key]) for key in ("searches", "failed", "per_second", "p50_ms", "p95_ms", "p99_ms"))
        )
    _console.print(table)
    _console.print(parts_table(report["parts_ms"]))
    for name, ratio in report["ratios"].items():
        _console.print(f"{name}: {ratio}")


def compare(report: dict[str, Any], before: dict[str, Any]) -> None:
    """Print what each figure is over that of before, and which became worse.

    Those of another processor, or base, say nothing of this one: there, only the ratios of both are compared.
    """
    title = f"{before['software']['commit']} before, {report['software']['commit'] or 'this tree'} now"
    table, worse = Table("figure", "before", "now", "now / before", title=title), list[str]()
    pairs = [(name, before["ratios"].get(name), now, "throughput" in name) for name, now in report["ratios"].items()]
    old_machine, machine = ((each.get("base", "bundled"), each["machine"]["processor"]) for each in (before, report))
    if old_machine == machine:
        for name, block in report["blocks"].items():
            old = before["blocks"].get(name, {})
            pairs += [(f"{name}: {key}", old.get(key), block[key], key == "per_second") for key in _COMPARED]
    else:
        _console.print(f"Before was measured on {' and '.join(old_machine)}: absolute figures are not compared.")
    for name, old, now, more_is_better in pairs:
        if old and now:
            table.add_row(name, str(old), str(now), f"{now / old:.2f}")
            if (old / now if more_is_better else now / old) > _NOISE:
                worse.append(name)
    _console.print(table)
    _console.print(f"Worse by more than {_NOISE:.2f} times: {', '.join(worse) or 'nothing'}.")


if __name__ == "__main__":
    typer.run(main)
