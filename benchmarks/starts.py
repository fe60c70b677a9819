"""`python -m benchmarks.starts`: seconds until the service is ready, with compiled towers and with torch alone.

Each way has a data root of its own. The first start, which traces and keeps the towers, is measured apart; the others
take turns. Prints a table; asserts nothing.
"""

import secrets
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.process import run_service
from store.bases import OPENVINO, TORCH

_console = Console()


def main(
    base: Annotated[str, typer.Option(help="As PICTOGLOT_BASE.")] = "bundled",
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Starts of each way, after the first.")] = 5,
) -> None:
    """Measure and print."""
    key, seconds = secrets.token_urlsafe(32), {OPENVINO: list[float](), TORCH: list[float]()}
    with tempfile.TemporaryDirectory(prefix="pictoglot-starts-") as homes:
        for turn in range(rounds + 1):
            for backend in (*seconds,) if turn % 2 else (*reversed(seconds),):
                began = time.perf_counter()
                with run_service(key, BASE=base, BACKEND=backend, HOME=str(Path(homes) / backend)):
                    seconds[backend].append(time.perf_counter() - began)
    shown = Table("seconds to ready", "first start", "later: median", "least", "most")
    for backend, found in seconds.items():
        later = sorted(found[1:])
        shown.add_row(backend, *(f"{each:.2f}" for each in (found[0], statistics.median(later), later[0], later[-1])))
    _console.print(shown)
    ratio = statistics.median(seconds[OPENVINO][1:]) / statistics.median(seconds[TORCH][1:])
    _console.print(f"Later starts with compiled towers take {ratio:.2f} times as long as with torch.")


if __name__ == "__main__":
    typer.run(main)
