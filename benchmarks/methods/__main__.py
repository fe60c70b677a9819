"""`python -m benchmarks.methods run | gains | few | report`: rows of the suite, what settings gain, recall by pairs."""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from rich.console import Console

from benchmarks import page
from benchmarks.emoji36 import lexicon, results
from benchmarks.emoji36.data import Data, load_emoji36
from benchmarks.emoji36.errors import Refused
from benchmarks.emoji36.files import choose_languages
from benchmarks.emoji36.run import commit
from benchmarks.emoji36.scenes import Sizes
from benchmarks.emoji36.settings import read_settings
from benchmarks.methods import addressed, few, gains, report
from benchmarks.methods.bench import Bench, fill
from benchmarks.methods.rows import ROWS, choose_settings
from model.base import open_base
from model.encoder import Encoder
from model.evaluation import KS
from store.errors import PictoglotError

WORK, OUT = Path(".cache/emoji36"), Path("docs/reports/methods.json")
FEW, GAINS = Path("docs/reports/few.json"), Path("docs/reports/gains.json")
app = typer.Typer(no_args_is_help=True, add_completion=False)
_CONSOLE = Console()


@app.command()
def run(
    methods: Annotated[str, typer.Option(help=f"Rows of the table, with commas: {', '.join(ROWS)}")] = ",".join(ROWS),
    languages: Annotated[str | None, typer.Option(help="As of benchmarks.emoji36; otherwise all 36")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    pairs: Annotated[int, typer.Option(min=0, help="Of the 9,600 pairs of a language; 0: all")] = 1_000,
    queries: Annotated[int, typer.Option(min=0, help="Captions that a language's test asks; 0: all 600")] = 150,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    reverse: Annotated[bool, typer.Option(help="The languages in the reverse of the paper's order")] = False,
    again: Annotated[bool, typer.Option(help="Also what is done already, or begun, from the start")] = False,
    out: Annotated[Path, typer.Option(help="The results so far, and what a finished row adds")] = OUT,
    work: Path = WORK,
) -> None:
    """Train and score; a finished row is not done again unless its method changed, and a stopped one goes on."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        names = results.choose_rows(methods, ROWS)
        base = open_base("bundled")
        tags = choose_languages(languages, lexicon.LANGUAGES)
        data = load_emoji36(Encoder(base), Sizes(pairs=pairs), work, tags[::-1] if reverse else tags)
        head = {"languages": list(data.languages), "sizes": {**data.sizes, "queries": queries}}
        head |= {"captions": sha256(json.dumps(data.digests()).encode()).hexdigest()}
        head |= {"text_fingerprint": base.text_fingerprint}
        key = sha256(json.dumps([head, seed]).encode()).hexdigest()[:12]
        learning = choose_settings(data.sizes["train"], seed)
        bench = Bench(base, data, learning, queries, work / "methods" / key, _CONSOLE.print, commit())
        results.load_results(out, head, {name: bench.described(name) for name in names}, seed, _CONSOLE.print)
        for name in names:
            results.merge(out, head, name, seed, fill(bench, name, again).content)
    except Refused as refusal:
        raise SystemExit(str(refusal)) from refusal
    except PictoglotError as error:
        raise SystemExit(error.detail) from error


@app.command("gains")
def gains_(
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE: of an expansion; all but `seed`")
    ] = None,
    adapter: Annotated[str | None, typer.Option(help=f"Beside the rows: {', '.join(addressed.KINDS)}")] = None,
    pace: Annotated[float, typer.Option(min=0, help="The adapter's learning rate over that of the rows")] = 1.0,
    against: Annotated[list[str] | None, typer.Option(help="The same of what it is compared with")] = None,
    data: Literal["demo", "scenes"] = "demo",
    languages: Annotated[str, typer.Option(help="With commas")] = "ar,tr,ja",
    pairs: Annotated[int, typer.Option(min=0, help="Of each language; 0: all")] = 0,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    out: Annotated[Path, typer.Option(help="What was measured so far, rank by rank")] = WORK / "gains.json",
    concluded: Annotated[Path, typer.Option(help="What is kept of each comparison; a table of `report`")] = GAINS,
    work: Path = WORK,
) -> None:
    """Measure what settings, or an adapter, gain over others on datasets or scenes; a stopped run goes on."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        results.read(concluded), _load_trials(out)  # hours before they are written
        sides = [_name_settings(settings or []), _name_settings(against or [])]
        if adapter is not None and adapter not in addressed.KINDS:
            raise Refused(f"--adapter: there is no {adapter!r} among {', '.join(addressed.KINDS)}")
        encoder = Encoder(open_base("bundled"))
        scenes = data == "scenes"
        shown: Data = (
            load_emoji36(encoder, Sizes(pairs=pairs), work) if scenes else gains.DemoData(encoder, work / "pictures")
        )
        tags = choose_languages(languages, shown.languages)
    except Refused as refusal:
        raise SystemExit(str(refusal)) from refusal
    parts = [addressed.Adapter(adapter, pace) if adapter else None, None]
    after, before = (
        [gains.Trial(data, tag, pairs, seed, side, part) for seed in range(seeds) for tag in tags]
        for side, part in zip(sides, parts, strict=True)
    )
    try:
        gains.fill(
            encoder, shown, [*after, *before], _load_trials(out), work / "methods", lambda trial: _add(out, trial)
        )
    except Refused as refusal:
        raise SystemExit(str(refusal)) from refusal
    said: dict[str, Any] = {"data": data, "languages": tags, "pairs": pairs, "seeds": seeds}
    said |= {"set": _as_said(settings) | ({adapter: f"at {pace:g}"} if adapter else {})}
    said |= {"against": _as_said(against)}
    _keep(concluded, said, gains.conclude(_load_trials(out), before, after))


def _keep(path: Path, said: dict[str, Any], found: dict[str, Any]) -> None:
    """Put a comparison into the file, in the place of an earlier one of the same, and tell it."""
    with results.lock(path):
        others = [
            each for each in results.read(path).get("comparisons", []) if {name: each[name] for name in said} != said
        ]
        results.write(path, {"comparisons": [*others, said | found | {"commit": commit()}]})
    for k in KS:
        figures = "R@{}: {before:.1f} before, {after:.1f} after: {gain:+.1f} ± {error:.1f}"
        _CONSOLE.print(figures.format(k, **found[f"R@{k}"]))


@app.command("few")
def few_(
    seeds: Annotated[int, typer.Option(min=1)] = 1,
    out: Annotated[Path, typer.Option(help="What was measured so far; the plot goes beside")] = FEW,
    work: Path = WORK,
) -> None:
    """Measure recall against pairs by the default settings, and what adapters add; a stopped run goes on.

    Writes the tables into the page beside the results, and the plot.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    encoder = Encoder(open_base("bundled"))
    wanted, data = (
        few.list_trials(_name_settings([]), seeds=seeds),
        load_emoji36(encoder, Sizes(pairs=max(few.SIZES)), work),
    )
    try:
        gains.fill(encoder, data, wanted, _load_trials(out), work / "methods", lambda trial: _add(out, trial))
    except Refused as refusal:
        raise SystemExit(str(refusal)) from refusal
    trials = _load_trials(out)
    few.draw(trials, wanted, out.with_suffix(".png"))
    written = page.place(out.with_suffix(".md"), "Few pairs", few.build_tables(trials, wanted))
    _CONSOLE.print(written, highlight=False, markup=False, soft_wrap=True)


def _load_trials(out: Path) -> list[dict[str, Any]]:
    """Return the trials measured so far."""
    found: list[dict[str, Any]] = results.read(out).get("trials", [])
    return found


def _add(out: Path, trial: dict[str, Any]) -> None:
    """Keep one more; another process may add to the same file."""
    with results.lock(out):
        results.write(out, {"trials": [*_load_trials(out), trial | {"commit": commit()}]})
    _CONSOLE.print({key: value for key, value in trial.items() if key not in ("settings", "ranks", "owner")})


def _as_said(said: Sequence[str] | None) -> dict[str, str]:
    return dict(each.partition("=")[::2] for each in said or [])


def _name_settings(said: Sequence[str]) -> tuple[tuple[str, Any], ...]:
    """Return all settings of a training but the seed, so that results stay apart when a default changes."""
    return tuple(sorted((name, value) for name, value in vars(read_settings(said)).items() if name != "seed"))


@app.command("report")
def report_(out: Annotated[Path, typer.Option(exists=True, dir_okay=False)] = OUT) -> None:
    """Write the tables and the plots beside the results."""
    _CONSOLE.print(report.write(out))


if __name__ == "__main__":
    app()
