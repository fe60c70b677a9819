"""Measures the bundled base: `python -m demo.evaluate_base [--noto DIR]` prints the figures of its model card."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Annotated, TypeVar

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
import typer
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from demo.base_learner import BUNDLE, NAME
from demo.drawings import cut_out
from demo.emojis import Emoji, load_catalogue
from demo.gallery import Outline, draw, list_outlines
from demo.scenes import is_held_out, list_scene_emojis, sort_names
from model.evaluation import Recalls, measure_recalls

_CHUNK = 256  # pictures or texts encoded at a time
Vectors = NDArray[np.float32]
T = TypeVar("T")


class Encoder:
    """The base as open_clip loads it, with the preprocessing that open_clip derives from its configuration."""

    def __init__(self, weights: Path) -> None:
        open_clip.add_model_config(BUNDLE / f"{NAME}.json")
        self.model, _, self._preprocess = open_clip.create_model_and_transforms(NAME, pretrained=str(weights))
        self.model.eval()
        self._tokenizer = open_clip.get_tokenizer(NAME)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors (n, dimension)."""
        parts = [self.model.encode_text(self._tokenizer(list(part))) for part in _split(texts)]
        return _normalize(torch.cat(parts))

    @torch.inference_mode()
    def pictures(self, pictures: Sequence[Image.Image]) -> Vectors:
        """Return unit vectors (n, dimension)."""
        parts = [self.model.encode_image(torch.stack([self._preprocess(p) for p in part])) for part in _split(pictures)]
        return _normalize(torch.cat(parts))


def list_unseen_scenes(count: int, emojis: Sequence[Emoji], seed: str = "evaluation") -> list[Outline]:
    """List scenes of two objects in the seen styles that neither the training data nor the gallery has."""
    random, scenes = Random(seed), list[Outline]()
    known = {sort_names(outline.objects) for outline in list_outlines()}
    while len(scenes) < count:
        pair = tuple(random.sample(emojis, 2))
        if is_held_out(pair) and sort_names(pair) not in known:
            known.add(sort_names(pair))
            number = len(scenes)
            scenes.append(Outline(f"{seed}-{number}", pair, ("twemoji", "openmoji")[number % 2]))
    return scenes


def list_singles() -> list[Outline]:
    """Return the pictures of the gallery that show a single drawing."""
    return [outline for outline in list_outlines() if len(outline.objects) == 1]


def measure_by_caption(encoder: Encoder, shown: Sequence[Outline], pictures: Sequence[Image.Image]) -> Recalls:
    """Return retrieval of each picture by its own caption, among all of `pictures`."""
    texts = encoder.texts([outline.caption for outline in shown])
    return measure_recalls(texts, encoder.pictures(pictures), np.arange(len(shown)))


def measure_by_keyword(encoder: Encoder, shown: Sequence[Outline], pictures: Sequence[Image.Image]) -> Recalls:
    """Return retrieval by each keyword that belongs to only one emoji, among all of `pictures`."""
    uses = Counter(keyword for outline in shown for keyword in outline.objects[0].keywords)
    names = {outline.caption.lower() for outline in shown}
    pairs = [
        (keyword, row)
        for row, outline in enumerate(shown)
        for keyword in outline.objects[0].keywords
        if uses[keyword] == 1 and keyword not in names
    ]
    texts = encoder.texts([keyword for keyword, _ in pairs])
    return measure_recalls(texts, encoder.pictures(pictures), np.array([row for _, row in pairs]))


def main(
    weights: Annotated[Path, typer.Option(help="The weights to measure")] = BUNDLE / f"{NAME}.safetensors",
    noto: Annotated[Path | None, typer.Option(help="A folder of Noto PNGs, the unseen style: 1f34e.png …")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Figures as JSON")] = False,
) -> None:
    """Print R@1/5/10 in both directions: unseen scenes, singles by name and by keyword, and an unseen style."""
    encoder = Encoder(weights)
    scenes, ones = list_unseen_scenes(1000, list_scene_emojis()), list_singles()
    drawn = [draw(outline) for outline in ones]
    figures = {
        "two-object scenes, seen styles": measure_by_caption(encoder, scenes, [draw(outline) for outline in scenes]),
        "singles by name, seen styles": measure_by_caption(encoder, ones, drawn),
        "singles by keyword, seen styles": measure_by_keyword(encoder, ones, drawn),
    }
    if noto is not None:
        figures |= _measure_unseen_style(encoder, noto)
    if as_json:
        typer.echo(json.dumps(figures, indent=1))
    else:
        Console().print(_build_table(figures))


def _measure_unseen_style(encoder: Encoder, folder: Path) -> dict[str, Recalls]:
    """Measure the drawings of Noto, for the emoji that Noto has."""
    drawable = {each.characters for each in load_catalogue() if _find_noto_file(folder, each.characters) is not None}
    ones = [outline for outline in list_singles() if outline.objects[0].characters in drawable]
    scenes = list_unseen_scenes(
        1000, [each for each in list_scene_emojis() if each.characters in drawable], "unseen style"
    )
    cut = open_noto(folder)
    return {
        f"{title}, unseen style": measure_by_caption(encoder, shown, [draw(outline, cut) for outline in shown])
        for title, shown in (("two-object scenes", scenes), ("singles by name", ones))
    }


def open_noto(folder: Path) -> Callable[[str, str, int], Image.Image]:
    """Return a `Cut` that takes Noto's drawings for every set, from a folder of PNGs named by code points."""

    def cut(characters: str, _: str, side: int) -> Image.Image:
        path = _find_noto_file(folder, characters)
        if path is None:
            raise KeyError(characters)
        with Image.open(path) as picture:
            return cut_out(picture.convert("RGBA"), side)

    return cut


def _find_noto_file(folder: Path, characters: str) -> Path | None:
    full = "-".join(f"{ord(character):04x}" for character in characters)
    candidates = (folder / f"{code}.png" for code in (full, full.replace("-fe0f", "")))
    return next((path for path in candidates if path.is_file()), None)


def _build_table(figures: dict[str, Recalls]) -> Table:
    table = Table("queries", "pairs", "t2i R@1", "R@5", "R@10", "i2t R@1", "R@5", "R@10")
    for title, figure in figures.items():
        shares = (*figure["t2i"].values(), *figure["i2t"].values())
        table.add_row(title, str(figure["pairs"]), *(f"{100 * share:.1f}" for share in shares))
    return table


def _split(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]


def _normalize(features: torch.Tensor) -> Vectors:
    vectors: Vectors = F.normalize(features.float(), dim=-1).numpy()
    return vectors


if __name__ == "__main__":
    typer.run(main)
