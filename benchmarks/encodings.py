"""`python -m benchmarks.encodings`: what an encoding costs in recall, for each of Emoji-36's languages.

Every language is taught once, as the product teaches it (row `addressed`), and read by torch in float32 and by another
encoding, texts and pictures both. Writes JSON and prints a table; what an earlier run taught is not taught again.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.emoji36.data import EmojiData, load_emoji36
from benchmarks.emoji36.lexicon import LANGUAGES
from benchmarks.emoji36.methods import ROWS
from benchmarks.emoji36.run import Taught, encode_plainly, score, teach
from benchmarks.emoji36.scenes import Sizes
from model.backend import open_towers
from model.base import Base, open_base
from model.encoder import Encoder
from model.training import LearnSettings
from store.bases import FIRST_ENCODING, Encoding
from store.settings import CommonSettings

_WORK = Path(".cache/emoji36")
_GALLERIES = ("seen", "unseen", "singles")
_console = Console()


def main(
    backend: str = "openvino",
    precision: str = "bfloat16",
    languages: Annotated[int, typer.Option(min=1, max=36, help="How many, in the paper's order")] = 36,
    epochs: Annotated[int, typer.Option(min=1)] = 2,
    out: Annotated[Path, typer.Option(help="Where the JSON goes")] = Path("docs/reports/encodings.json"),
) -> None:
    """Teach, read twice, compare."""
    torch.set_num_threads(1)
    base, tags = open_base("bundled", "cpu"), LANGUAGES[:languages]
    plain, other = Encoder(base), open_encoder(base, Encoding(backend, precision))
    data = {encoder: load_emoji36(encoder, Sizes(), _WORK, tags) for encoder in (plain, other)}
    found: dict[str, Any] = {}
    folder = _WORK / "encodings" / f"{base.text_fingerprint[:12]}-{epochs}"
    for number, taught in enumerate(
        teach(
            plain,
            data[plain],
            str(ROWS["addressed"].training),
            LearnSettings(epochs=epochs, learning_rate=4e-3, start="drawn"),
            folder,
        ),
        1,
    ):
        found[taught.language] = {
            str(encoder.encoding): measure_recall(encoder, data[encoder], taught, number) for encoder in (plain, other)
        }
        _console.print(f"{taught.language} ({number} of {len(tags)}) {found[taught.language]}")
    report = {"epochs": epochs, "encoding": str(other.encoding), "languages": found, "worst": find_worst(found)}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    show(report)


def open_encoder(base: Base, encoding: Encoding) -> Encoder:
    """Return the base in an encoding; compiled towers are kept beside the benchmark's data."""
    return Encoder(base, open_towers(base, encoding, CommonSettings(home=_WORK)))


def measure_recall(encoder: Encoder, data: EmojiData, taught: Taught, number: int) -> dict[str, float]:
    """Return t2i R@1 in percent by gallery, through the version of the language."""
    view = encoder.extend(encoder.base_view, number, taught.language, taught.learned)
    scores, _ = score(encode_plainly(encoder), data, [view], taught.language)
    return {name: round(100 * scores[name]["t2i"]["R@1"], 2) for name in _GALLERIES if name in scores}


def find_worst(found: dict[str, Any]) -> dict[str, float]:
    """Return by gallery the points of the language that loses most, and the mean of all."""
    losses: dict[str, list[float]] = {}
    for by_encoding in found.values():
        before, after = by_encoding.values()
        for name in before:
            losses.setdefault(name, []).append(before[name] - after[name])
    return {
        f"{name}, {what}": round(float(value), 2)
        for name, points in losses.items()
        for what, value in (("most lost", np.max(points)), ("mean lost", np.mean(points)))
    }


def show(report: dict[str, Any]) -> None:
    """Print one line for each language: R@1 in float32 by torch, and the difference."""
    table = Table("language", *(f"{name}{what}" for name in _GALLERIES for what in ("", " ±")))
    for language, by_encoding in report["languages"].items():
        before, after = by_encoding[str(FIRST_ENCODING)], by_encoding[report["encoding"]]
        cells = [f"{value:.1f}" for name in before for value in (before[name], after[name] - before[name])]
        table.add_row(language, *cells)
    _console.print(table)
    _console.print(report["worst"])


if __name__ == "__main__":
    typer.run(main)
