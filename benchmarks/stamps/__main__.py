"""`python -m benchmarks.stamps data | english`: fetches the pictures; how well a base finds them by description."""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from benchmarks.stamps import english as row
from benchmarks.stamps.data import Half, fetch, stamps
from demo.photos import packages
from model import storage

WORK = Path(".cache/stamps")
PACKAGES = Path(".cache/photos")
app = typer.Typer(no_args_is_help=True, add_completion=False)
_CONSOLE = Console()


@app.command()
def data(work: Path = WORK) -> None:
    """Fetch the stamps, and the words that say which things a base was told."""
    fetch(work)
    packages.fetch(PACKAGES)


@app.command()
def english(
    half: Annotated[Half, typer.Option(help="`dev` to choose by; `test` is for a report alone")] = "dev",
    base: Annotated[str, typer.Option(help="As PICTOGLOT_BASE")] = "photos",
    root: Annotated[Path | None, typer.Option(help="The stamps of an installed Tux Paint")] = None,
    out: Annotated[Path | None, typer.Option(help="A file for the figures; those of the other half stay")] = None,
    work: Path = WORK,
) -> None:
    """Find photographs by their English descriptions."""
    torch.set_num_threads(1)
    shown = [stamp for stamp in stamps(root or fetch(work)) if stamp.is_photograph]
    encoder = row.open_encoder(base, work)
    found = row.figures(encoder, shown, half, work, packages.fetch(PACKAGES))
    _CONSOLE.print_json(data=found)
    if out is not None:
        before = json.loads(out.read_text()) if out.is_file() else {}
        belongs = {"base": base, "text_fingerprint": encoder.base_fingerprint, "towers": str(encoder.encoding)}
        kept = before.get("english", {}) if {key: before.get(key) for key in belongs} == belongs else {}
        spent = row.milliseconds(encoder)
        content = {**belongs, "milliseconds a picture": spent, "english": kept | {half: found}}
        storage.write_bytes(out, (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    app()
