"""`python -m benchmarks.emoji36 data | run | report`: the data, the runs, the table with its plots."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from rich.console import Console

from benchmarks.emoji36 import lexicon, papers, report
from benchmarks.emoji36.data import Data, emoji36
from benchmarks.emoji36.files import Refused, chosen
from benchmarks.emoji36.methods import MAIN, ROWS
from benchmarks.emoji36.run import commit
from benchmarks.emoji36.scenes import Sizes
from benchmarks.emoji36.table import Bench, fill
from model import storage
from model.base import open_base
from model.encoder import Encoder
from model.training import LearnSettings

WORK = Path(".cache/emoji36")
OUT = Path("docs/reports/emoji36.json")
Kind = Literal["emoji", "coco", "xm3600", "folder"]
app = typer.Typer(no_args_is_help=True, add_completion=False)
_CONSOLE = Console()


@app.command()
def data(work: Path = WORK) -> None:
    """Fetch names, keywords and the unseen style's drawings from npm."""
    lexicon.fetch(work / "npm")


@app.command()
def run(
    methods: Annotated[str, typer.Option(help=f"Rows of the table, with commas: {', '.join(ROWS)}")] = ",".join(MAIN),
    languages: Annotated[str, typer.Option(help="How many, in the paper's order; or tags, with commas")] = "36",
    seed: int = 0,
    base: Annotated[str, typer.Option(help="As PICTOGLOT_BASE")] = "bundled",
    epochs: Annotated[int, typer.Option(help="Times that a language's captions are seen")] = 2,
    threads: Annotated[int, typer.Option(help="Of torch; two runs with one each are faster than one with two")] = 2,
    data: Annotated[Kind, typer.Option(help="What is taught and asked; docs/benchmark.md has the layouts")] = "emoji",
    root: Annotated[Path | None, typer.Option(help="Where that data lies; none for emoji")] = None,
    train_root: Annotated[Path | None, typer.Option(help="COCO, to teach what XM3600 asks")] = None,
    out: Annotated[Path | None, typer.Option(help=f"The results so far, merged with what it holds; {OUT}")] = None,
    work: Path = WORK,
) -> None:
    """Teach and score; what an earlier run finished is not done again."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    opened = open_base(base)
    settings = LearnSettings(epochs=epochs, seed=seed)
    try:
        bench_data = _open(data, Encoder(opened), root, train_root, work, languages)
        belongs = [opened.text_fingerprint, bench_data.fingerprint, list(bench_data.languages), epochs, seed]
        key = sha256(json.dumps(belongs).encode()).hexdigest()
        bench = Bench(opened, bench_data, settings, work / "runs" / key[:12], _CONSOLE.print)
        for method in methods.split(","):
            ledger = fill(bench, method)
            head = {"languages": list(bench_data.languages), "sizes": bench_data.sizes, "epochs": epochs}
            _merge(out or (OUT if data == "emoji" else work / f"{data}.json"), head, method, seed, ledger.content)
    except Refused as refusal:
        raise SystemExit(str(refusal)) from refusal


@app.command("report")
def report_(out: Annotated[Path, typer.Option(help="The results; text and plots go beside them")] = OUT) -> None:
    """Write the tables and the plots."""
    _CONSOLE.print(report.write(out))


def _open(data: Kind, encoder: Encoder, root: Path | None, train_root: Path | None, work: Path, languages: str) -> Data:
    if data == "emoji":
        return emoji36(encoder, Sizes(), work, chosen(languages, lexicon.LANGUAGES))
    if root is None:
        raise Refused(f"--root: say where the data of --data {data} lies")
    return papers.open_data(
        data, encoder, root, work / "pictures", _CONSOLE.print, train_root=train_root, languages=languages
    )


def _merge(out: Path, head: dict[str, Any], method: str, seed: int, ledger: dict[str, Any]) -> None:
    """Put one row's results into the file, beside those of other rows and seeds."""
    results: dict[str, Any] = {"methods": {}}
    if out.is_file():
        results = json.loads(out.read_text(encoding="utf-8"))
        unlike = [name for name in head if results.get(name) != head[name]]
        if unlike:
            raise Refused(f"--out: {out} holds results of other {', '.join(unlike)}; name another file")
    results |= {**head, "commit": commit()}
    seeds = results["methods"].setdefault(method, {"seeds": {}})["seeds"]
    seeds[str(seed)] = report.seed_results(ledger)
    if len({json.dumps(_seedless(found.get("made"))) for found in seeds.values()}) > 1:
        raise Refused(f"--out: {out} holds {method} of another seed, made otherwise; name another file")
    results["seeds"] = sorted({int(key) for found in results["methods"].values() for key in found["seeds"]})
    report.conclude(results)
    out.parent.mkdir(parents=True, exist_ok=True)
    storage.write_bytes(out, json.dumps(results).encode() + b"\n")  # a matrix has thousands of lines otherwise


def _seedless(made: Any) -> Any:
    """What a row was made by, but for the seed."""
    if isinstance(made, dict):
        return {key: _seedless(value) for key, value in made.items() if key != "seed"}
    return [_seedless(value) for value in made] if isinstance(made, list) else made


if __name__ == "__main__":
    app()
