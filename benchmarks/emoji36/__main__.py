"""`python -m benchmarks.emoji36 data | run | report`: the data, the runs, the table with its plots."""

import json
from collections.abc import Sequence
from dataclasses import fields
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from rich.console import Console

from benchmarks.emoji36 import lexicon, papers, report, results
from benchmarks.emoji36.data import Data, load_emoji36
from benchmarks.emoji36.errors import Refused
from benchmarks.emoji36.files import choose_languages
from benchmarks.emoji36.methods import MAIN, ROWS, describe_row
from benchmarks.emoji36.run import claim
from benchmarks.emoji36.scenes import Sizes
from benchmarks.emoji36.settings import read_settings
from benchmarks.emoji36.table import Bench, fill
from model.base import open_base
from model.encoder import Encoder
from model.training import LearnSettings
from store.errors import PictoglotError

WORK = Path(".cache/emoji36")
OUT = Path("docs/reports/emoji36.json")
Kind = Literal["emoji", "coco", "xm3600", "folder"]
app = typer.Typer(no_args_is_help=True, add_completion=False)
_CONSOLE = Console()


@app.command("data")
def fetch_data(work: Path = WORK) -> None:
    """Fetch names, keywords and the unseen style's drawings from npm."""
    try:
        lexicon.fetch(work / "npm")
    except Refused as refusal:
        raise SystemExit(str(refusal)) from refusal


@app.command()
def run(
    methods: Annotated[str, typer.Option(help=f"Rows of the table, with commas: {', '.join(ROWS)}")] = ",".join(MAIN),
    languages: Annotated[
        str | None, typer.Option(help="How many, in the paper's order; or tags, with commas; otherwise all")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    base: Annotated[str, typer.Option(help="As PICTOGLOT_BASE")] = "bundled",
    epochs: Annotated[
        int, typer.Option(min=0, help="How often a language's captions are seen; 0: by their number")
    ] = 2,
    threads: Annotated[
        int, typer.Option(min=1, help="Of torch; two runs with one each are faster than one with two")
    ] = 2,
    data: Annotated[Kind, typer.Option(help="Training and test data; docs/measured.md has the layouts")] = "emoji",
    root: Annotated[Path | None, typer.Option(help="The folder of that data; none for emoji")] = None,
    train_root: Annotated[Path | None, typer.Option(help="COCO, as training data for the test XM3600")] = None,
    pairs: Annotated[
        int, typer.Option(min=0, help="Of emoji, how many of the 9,600 pairs are used for training; 0: all")
    ] = 0,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE: a setting of training, for every row that trains")
    ] = None,
    out: Annotated[Path | None, typer.Option(help=f"The results so far, merged with what it holds; {OUT}")] = None,
    work: Path = WORK,
) -> None:
    """Train and score; what an earlier run finished is not done again."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    target = out or (OUT if data == "emoji" else work / f"{data}.json")
    try:
        learning, overrides = _read_settings(settings or [], epochs, seed)
        rows = {name: describe_row(name, learning, overrides) for name in results.choose_rows(methods, ROWS)}
        opened = open_base(base)
        bench_data = _open(data, Encoder(opened), root, train_root, work, languages, pairs)
        belongs = [
            opened.text_fingerprint,
            bench_data.fingerprint,
            list(bench_data.languages),
            epochs,
            seed,
            *([overrides] if overrides else []),
        ]
        key = sha256(json.dumps(belongs).encode()).hexdigest()
        bench = Bench(opened, bench_data, learning, work / "runs" / key[:12], _CONSOLE.print, overrides)
        said = bench_data.digests()
        head = {"languages": list(bench_data.languages), "sizes": bench_data.sizes, "epochs": epochs, "set": overrides}
        head["text_fingerprint"] = opened.text_fingerprint
        head["captions"] = sha256(json.dumps(said).encode()).hexdigest()
        results.load_results(target, head, rows, seed, _CONSOLE.print)
        claim(bench.folder / "captions.json", said)  # folders without this file continue with today's captions
        for method in rows:
            results.merge(target, head, method, seed, fill(bench, method).content)
    except Refused as refusal:
        raise SystemExit(str(refusal)) from refusal
    except PictoglotError as error:
        raise SystemExit(error.detail) from error


@app.command("report")
def report_(
    out: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The results; text and plots go beside")] = OUT,
) -> None:
    """Write the tables and the plots."""
    _CONSOLE.print(report.write(out))


def _open(
    data: Kind,
    encoder: Encoder,
    root: Path | None,
    train_root: Path | None,
    work: Path,
    languages: str | None,
    pairs: int,
) -> Data:
    if data == "emoji":
        return load_emoji36(encoder, Sizes(pairs=pairs), work, choose_languages(languages, lexicon.LANGUAGES))
    if pairs:
        raise Refused("--pairs: with --data emoji only")
    if root is None:
        raise Refused(f"--root: needed for --data {data}: the folder of its data")
    return papers.open_data(
        data, encoder, root, work / "pictures", _CONSOLE.print, train_root=train_root, languages=languages
    )


def _read_settings(settings: Sequence[str], epochs: int, seed: int) -> tuple[LearnSettings, dict[str, Any]]:
    """Return the settings of a run, and those that `--set` names."""
    words = dict(each.partition("=")[::2] for each in settings)
    free = [field.name for field in fields(LearnSettings) if field.name not in ("epochs", "seed")]
    if strange := next((name for name in words if name not in free), None):
        raise Refused(f"--set: {strange!r} is not one of {', '.join(free)}")
    learning = read_settings(settings)
    overrides = {name: getattr(learning, name) for name in sorted(words)}
    return LearnSettings(epochs=epochs, learning_rate=4e-3, start="drawn", seed=seed), overrides


if __name__ == "__main__":
    app()
