"""`python -m benchmarks.learning`: seconds from the command to the gate, with a text tower of ViT-B/32.

Runs the real service with random weights, which learn nothing and take as long, and teaches a language from 2,000 pairs
and another from a dictionary, in turn. Prints and writes JSON; asserts nothing.
"""

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import open_clip
import typer
from rich.console import Console
from safetensors.torch import save_file

from benchmarks.process import run_service
from benchmarks.serving import commit, name_processor
from demo.dataset import build_rows

_BASE, _PAIRS = "ViT-B-32", 2_000
_console = Console()


def main(
    dictionary: Annotated[Path | None, typer.Argument(help="As of `pictoglot learn --dictionary`")] = None,
    language: Annotated[str, typer.Option(help="Of the dictionary")] = "nl",
    threads: Annotated[int, typer.Option(min=1, help="PICTOGLOT_THREADS")] = os.cpu_count() or 1,
    rounds: Annotated[int, typer.Option(min=1, help="Of each")] = 3,
    out: Annotated[Path, typer.Option(help="Where the JSON goes")] = Path("runs/learning.json"),
) -> None:
    """Measure, print, write."""
    key, taken = secrets.token_urlsafe(32), dict[str, list[float]]()
    with tempfile.TemporaryDirectory(prefix="pictoglot-bench-") as folder:
        weights, pairs = Path(folder) / "base.safetensors", Path(folder) / "pairs.jsonl"
        tensors = open_clip.create_model(_BASE).state_dict()
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, weights)
        rows = [{each: row[each] for each in ("caption", "english")} for row in build_rows("de")[:_PAIRS]]
        pairs.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        materials = {f"{len(rows):,} pairs": ("de", [str(pairs)])}
        if dictionary is not None:
            materials["dictionary"] = (language, ["--dictionary", str(dictionary)])
        with run_service(key, BASE=f"{_BASE}@{weights}", THREADS=str(threads)) as url:
            for _ in range(rounds):
                for name, (tag, given) in materials.items():
                    taken.setdefault(name, []).append(teach(url, key, tag, [*given, "--replace"]))
    machine = {"processor": name_processor(), "commit": commit(), "threads": threads}
    report: dict[str, Any] = {"machine": machine, "seconds": taken}
    report["median"] = {name: median(each) for name, each in taken.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _console.print_json(data=report)


def teach(url: str, key: str, tag: str, given: list[str]) -> float:
    """Teach a language with the command line; return the seconds until its version passed the gate, or did not."""
    environment = os.environ | {"PICTOGLOT_URL": url, "PICTOGLOT_KEY": key}
    command = [str(Path(sys.executable).parent / "pictoglot"), "learn", tag, *given, "--watch", "--yes", "--json"]
    begun = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if '"exp_' not in done.stdout:
        raise RuntimeError(f"{tag} was not taught: {done.stdout[-1_000:]} {done.stderr[-1_000:]}")
    return time.monotonic() - begun


if __name__ == "__main__":
    typer.run(main)
