"""Fits the curves by which the emoji base tells the chance of a hit, for galleries without captions of their own.

`python -m demo.curves` writes `model/bundled/pictoglot-emoji.match.json`. Its queries are captions of the demo's
pictures: what the base was made of, on other backgrounds. The photo base has a command of its own
(`python -m benchmarks.stamps chances`).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import typer
from rich.console import Console

from demo.base_learner import BUNDLE
from demo.gallery import Outline, draw, list_outlines
from model.base import BUNDLED, open_base
from model.encoder import Encoder, Vectors
from model.match import fit, measure_error, search_gallery
from model.text import clean

_BATCH = 64  # pictures that are drawn and encoded together
_TEXTS = 1_000


def main(out: Path = BUNDLE / f"{BUNDLED['bundled']}.match.json") -> None:
    """Draw the demo's pictures, search for a thousand of their captions, and write the curves."""
    encoder, outlines = Encoder(open_base("bundled", "cpu")), list_outlines()
    vectors = _encode_pictures(encoder, outlines)
    order = np.random.default_rng(0).permutation(len(outlines))

    def list_pictures() -> Iterator[Mapping[str, Vectors]]:
        yield {outlines[place].id: vectors[place] for place in order}

    same: dict[str, set[str]] = {}
    for outline in outlines:
        same.setdefault(outline.caption, set()).add(outline.id)
    asked = sorted(order[:_TEXTS])
    texts = encoder.encode_texts([(encoder.base_view, clean(outlines[place].caption)) for place in asked]).vectors
    right = [same[outlines[place].caption] for place in asked]
    answers = search_gallery(texts, vectors[asked], right, list_pictures)
    Console().print_json(data=measure_error(answers))
    out.write_text(json.dumps({"curves": asdict(fit(answers))}, indent=1) + "\n", encoding="utf-8")


def _encode_pictures(encoder: Encoder, outlines: Sequence[Outline]) -> Vectors:
    """Return unit vectors (n, dimension) of the pictures."""
    parts = [
        encoder.encode_pictures([draw(outline) for outline in outlines[start : start + _BATCH]])
        for start in range(0, len(outlines), _BATCH)
    ]
    return np.concatenate(parts)


if __name__ == "__main__":
    typer.run(main)
