"""Compares two ways to learn a language's merges: from bytes, as usual, and from the pieces the parent leaves.

`python -m benchmarks.tokenizer_growth [TAG ...]` prints, for the demo's captions in each language, tokens a caption and
how many of the appended tokens no caption ever reaches.
"""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.emoji36.tokenizers import BytesLast
from demo.dataset import rows
from demo.emojis import LANGUAGES
from model.text import clean
from model.tokenizer import CLIP_TOKENS, Tokenizer

SIZE = 10_000


def measure(tokenizer: Tokenizer, corpus: list[str]) -> tuple[float, int, float]:
    """Tokens a caption; tokens appended; the share of these that no caption reaches."""
    encoded = tokenizer.encode(corpus)
    reached = {number for ids in encoded for number in ids if number >= CLIP_TOKENS}
    appended = tokenizer.size - CLIP_TOKENS
    return sum(map(len, encoded)) / len(corpus), appended, 1 - len(reached) / max(1, appended)


def main(tags: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(LANGUAGES)}")] = None) -> None:
    """Print one row a language; without a name, seven of them."""
    chosen = tags or ["de", "fr", "tr", "ru", "fa", "ar", "ko"]
    if strange := [tag for tag in chosen if tag not in LANGUAGES]:
        raise typer.BadParameter(f"there are no captions in {', '.join(strange)}", param_hint="TAG")
    table = Table(
        "language", "from bytes: tokens", "appended", "unreached", "from pieces: tokens", "appended", "unreached"
    )
    for tag in chosen:
        corpus = [clean(row["caption"]) for row in rows(tag) if row["split"] == "train"]
        cells = [tag]
        for tokenizer in (
            Tokenizer().extend(BytesLast().learned(corpus, SIZE)),
            Tokenizer().grown(corpus, SIZE),
        ):
            tokens, appended, unreached = measure(tokenizer, corpus)
            cells += [f"{tokens:.2f}", f"{appended:,}", f"{unreached:.0%}"]
        table.add_row(*cells)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
