"""`python -m benchmarks.bases run | report`: a base that reads six of 36 languages is assessed, then taught the others.

These are taught onto the English base too, to compare. `python -m demo.train_base --foreign` makes that base, and
`python -m benchmarks.emoji36 data` fetches the languages' words. A run goes on where an earlier one stopped.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from benchmarks.bases import report
from benchmarks.bases.bench import ARMS, GROWN, Bench
from benchmarks.emoji36.data import load_emoji36
from benchmarks.emoji36.errors import Refused
from benchmarks.emoji36.lexicon import LANGUAGES
from benchmarks.emoji36.run import commit
from benchmarks.emoji36.scenes import Sizes
from demo.foreign_base import FOREIGN, SIX
from model.base import open_base
from model.encoder import Encoder
from model.languages import ENGLISH
from model.training import LearnSettings
from store import files
from store.errors import PictoglotError
from worker.gate import describe_reading
from worker.settings import WorkerSettings

BASE = f"{FOREIGN}@.cache/foreign/{FOREIGN}.safetensors"
OUT = Path("docs/reports/bases.json")
ENGLISH_BASE = "bundled"  # the same languages are taught onto it, to compare
SEED = 0
COMPARED = ("de", "hi", "th")  # languages taught in each way: Latin, Devanagari, and Thai, which writes no spaces
# The others in an order in which few of them are of many scripts
ORDER = (
    *("el", "he", "bn", "te", "uk", "fa", "sw", "quz", "fil", "mi", "tr", "vi", "pl", "fi", "fr", "id", "es"),
    *("it", "nl", "sv", "no", "da", "pt", "ro", "hr", "cs", "hu"),
)
app = typer.Typer(no_args_is_help=True, add_completion=False)
_CONSOLE = Console()


@app.command()
def run(
    base: Annotated[str, typer.Option(help="As PICTOGLOT_BASE")] = BASE,
    most: Annotated[int, typer.Option(help="How many of the languages that it does not read are taught")] = 30,
    threads: Annotated[int, typer.Option(min=1, help="Of torch")] = 1,
    work: Annotated[Path, typer.Option(help="What was taught and measured so far")] = Path(".cache/bases"),
    words: Annotated[Path, typer.Option(help="What `python -m benchmarks.emoji36 data` fetched")] = Path(
        ".cache/emoji36"
    ),
    out: Annotated[Path, typer.Option(help="The figures, written anew after each language")] = OUT,
) -> None:
    """Assess all languages, teach the six that are read and the others, and measure."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    bench, english = (_open_bench(each, words, work) for each in (base, ENGLISH_BASE))
    head = {"commit": commit(), "base": FOREIGN, "reads": list(SIX), "sizes": bench.data.sizes, "seed": SEED}
    head["text_fingerprint"] = bench.encoder.text_fingerprint
    head["english_base_untaught"] = english.assess(ENGLISH)["t2i"]
    results: dict[str, Any] = {**head, "languages": {}, "growth": {}}
    for language in LANGUAGES:
        results["languages"][language] = {"assessed": _drop_ranks(bench.assess(language)), **_judge(language, bench)}
        _CONSOLE.print(results["languages"][language]["sentence"])
    for language in (*SIX, *COMPARED, *ORDER)[: len(SIX) + most]:
        found, gain = results["languages"][language], bench.measure_gain(language)
        found["taught"] = _drop_ranks(bench.teach(language))
        found["gain"] = {"mean": gain.mean, "error": gain.error}
        if language not in SIX:
            found["english_base"] = _drop_ranks(english.teach(language))
        _tell(language, GROWN, found["taught"])
        _write(out, results)
    for language in COMPARED:
        results["growth"][language] = {}
        for arm in ARMS:
            results["growth"][language][arm] = _drop_ranks(bench.teach(language, arm))
            _tell(language, arm, results["growth"][language][arm])
            _write(out, results)


@app.command("report")
def report_(out: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The figures")] = OUT) -> None:
    """Write the tables into the text beside."""
    _CONSOLE.print(report.write(out))


def _open_bench(base: str, words: Path, work: Path) -> Bench:
    """Return the bench of a base, with a folder of its own for what is taught onto it."""
    try:
        opened = open_base(base, "cpu")
        encoder = Encoder(opened)
        data = load_emoji36(encoder, Sizes(), words)
    except (PictoglotError, Refused) as error:
        raise SystemExit(str(error)) from error
    key = sha256(f"{opened.text_fingerprint} {data.fingerprint}".encode()).hexdigest()[:12]
    settings = LearnSettings(epochs=2, learning_rate=4e-3, start="drawn", seed=SEED)
    return Bench(encoder, data, settings, work / key)


def _write(out: Path, results: dict[str, Any]) -> None:
    """Write one line a language: indented, it would be thousands."""
    parts = {name: results[name] for name in ("languages", "growth")}
    head = json.dumps({name: value for name, value in results.items() if name not in parts})[1:-1]
    tables = [
        f'"{name}": {{\n' + ",\n".join(f"{json.dumps(tag)}: {json.dumps(found)}" for tag, found in part.items()) + "\n}"
        for name, part in parts.items()
    ]
    files.write_bytes(out, ("{" + ",\n".join([head, *tables]) + "}\n").encode())


def _judge(language: str, bench: Bench) -> dict[str, Any]:
    figures = {**bench.assess(language), "candidates": bench.candidates, "taught": None}
    return describe_reading(language, figures, WorkerSettings.model_fields["min_recall"].default)


def _drop_ranks(figures: dict[str, Any]) -> dict[str, Any]:
    """Return figures without the rank of every caption."""
    return {name: value for name, value in figures.items() if name != "ranks"}


def _tell(language: str, arm: str, figures: dict[str, Any]) -> None:
    r1, r10 = (100 * figures["t2i"][k] for k in ("R@1", "R@10"))
    _CONSOLE.print(f"{language}, {arm}: R@1 {r1:.1f}, R@10 {r10:.1f} ({figures['seconds']:.0f} s)")


if __name__ == "__main__":
    app()
