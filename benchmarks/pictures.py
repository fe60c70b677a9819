"""`python -m benchmarks.pictures`: what each step of a picture's way costs, and the ways that decision 26 chose from.

Made-up photographs of four sizes; milliseconds of processor time, the median of several repeats in turn. Steps with
simplejpeg and pyvips, which pictoglot does not need, are measured where these are installed. Asserts nothing.
"""

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from model.pictures import STORED_SIDE, decode
from model.pictures.decoder import Decoder

Step = Callable[[], Any]

SIZES = {"12 MP": (4_000, 3_000), "3 MP": (2_048, 1_536), "1.2 MP": (1_280, 960), "0.3 MP": (640, 480)}
_GRAIN = ((12, 1.0), (60, 0.5), (240, 0.2), (800, 0.07))  # squares across the width, and how strong each is
_FORMATS: dict[str, dict[str, Any]] = {  # as Pillow saves them
    "WebP 90, method 2 (until version 0.1)": {"format": "WEBP", "quality": 90, "method": 2},
    "WebP 90, method 0": {"format": "WEBP", "quality": 90, "method": 0},
    "WebP 80, method 0": {"format": "WEBP", "quality": 80, "method": 0},
    "JPEG 85": {"format": "JPEG", "quality": 85},
    "JPEG 90": {"format": "JPEG", "quality": 90},
    "JPEG 90, full colour": {"format": "JPEG", "quality": 90, "subsampling": 0},
    "JPEG 95": {"format": "JPEG", "quality": 95},
}


def main(
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Times that each step is measured")] = 7,
    out: Annotated[Path | None, typer.Option(help="Where the JSON goes")] = None,
) -> None:
    """Measure, print, write."""
    by_size = {name: steps(size, repeats) for name, size in SIZES.items()}
    stored = {name: formats(size, repeats) for name, size in SIZES.items()}
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({"steps": by_size, "formats": stored}, indent=2) + "\n", encoding="utf-8")
    console = Console()
    console.print(table("step, ms", by_size))
    console.print(table("stored form: ms / kB / PSNR", stored))


def photograph(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """A made-up picture with coarse and fine structure."""
    draw = np.random.default_rng(seed)
    pixels = np.zeros((size[1], size[0], 3), np.float32)
    for across, strength in _GRAIN:
        squares = draw.integers(0, 256, (across * 3 // 4, across, 3), dtype=np.uint8)
        pixels += strength * np.asarray(Image.fromarray(squares).resize(size, Image.Resampling.BICUBIC), np.float32)
    return Image.fromarray((pixels / sum(strength for _, strength in _GRAIN)).astype(np.uint8))


def encoded(image: Image.Image, **options: Any) -> bytes:
    """The picture as bytes."""
    stream = BytesIO()
    image.save(stream, **options)
    return stream.getvalue()


def steps(size: tuple[int, int], repeats: int) -> dict[str, float]:
    """Milliseconds of each step for a JPEG of this size, in this process unless the name says otherwise."""
    data = encoded(photograph(size), format="JPEG", quality=90)
    picture = decode(data)
    rgb, full = picture.rgb, _read(data)
    small = min(1.0, STORED_SIDE / max(size))
    target = (round(size[0] * small), round(size[1] * small))
    measured: dict[str, Step] = {
        "the way of an upload": lambda: decode(data),
        "Pillow: whole JPEG": lambda: _read(data),
        "Pillow: at 1/2, 1/4, 1/8, never below 1,024": lambda: _read(data, (STORED_SIDE, STORED_SIDE)),
        "Pillow: at 1/2, 1/4, 1/8, down to 800": lambda: _read(data, rgb.size),
        **_others(data, target),
        **{
            f"resize to {max(target):,}, {way.name.lower()}": partial(full.resize, target, way)
            for way in (Image.Resampling.LANCZOS, Image.Resampling.BICUBIC, Image.Resampling.HAMMING)
        },
        "thumbnail, lanczos": lambda: rgb.resize((256, 192), Image.Resampling.LANCZOS),
        "thumbnail, bicubic after halving": lambda: rgb.copy().thumbnail((256, 256)),
        "to 224 for the tower, bicubic": lambda: rgb.resize((299, 224), Image.Resampling.BICUBIC),
        "sha256": lambda: hashlib.sha256(data).digest(),
        "a plain loop: whole JPEG, then 224": lambda: _read(data).resize((299, 224), Image.Resampling.BICUBIC),
    }
    found = _medians(measured, repeats, time.process_time)
    decoder = Decoder()
    try:
        decoder.decode(data)  # starts the child
        guarded: dict[str, Step] = {"this process, while a child decodes": lambda: decoder.decode(data)}
        return found | _medians(guarded, repeats, time.process_time)
    finally:
        decoder.close()


def formats(size: tuple[int, int], repeats: int) -> dict[str, str]:
    """Of each stored form: milliseconds, kB, and the peak signal-to-noise ratio to the picture that is stored."""
    rgb = decode(encoded(photograph(size), format="JPEG", quality=90)).rgb
    measured: dict[str, Step] = {name: partial(encoded, rgb, **options) for name, options in _FORMATS.items()}
    times = _medians(measured, repeats, time.process_time)
    return {name: f"{times[name]:.1f} / {_kilobytes_and_noise(rgb, run())}" for name, run in measured.items()}


def table(title: str, columns: Mapping[str, Mapping[str, object]]) -> Table:
    """One row a step, one column a size."""
    shown = Table(title, *columns)
    for row in next(iter(columns.values())):
        shown.add_row(row, *(str(column.get(row, "")) for column in columns.values()))
    return shown


def _medians(measured: dict[str, Step], repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """Milliseconds: all steps in turn, again and again, so that a busy moment does not fall on one of them."""
    times: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(repeats + 1):
        for name, run in measured.items():
            began = clock()
            run()
            times[name].append(clock() - began)
    return {name: round(statistics.median(seconds[1:]) * 1_000, 1) for name, seconds in times.items()}


def _read(data: bytes, least: tuple[int, int] | None = None) -> Image.Image:
    with Image.open(BytesIO(data), formats=("JPEG",)) as image:
        if least is not None:
            image.draft("RGB", least)
        return image.convert("RGB")


def _others(data: bytes, target: tuple[int, int]) -> dict[str, Step]:
    """Two other libraries; simplejpeg can also decode at 3/8, 5/8, 6/8 and 7/8."""
    found: dict[str, Step] = {}
    if find_spec("simplejpeg"):
        read = import_module("simplejpeg").decode_jpeg
        width, height = target
        found["simplejpeg: the size above 1,024"] = lambda: read(data, min_width=width, min_height=height)
    if find_spec("pyvips"):
        shrink = import_module("pyvips").Image.thumbnail_buffer
        found["pyvips: reading and resizing"] = lambda: shrink(data, target[0], height=target[1]).write_to_memory()
    return found


def _kilobytes_and_noise(rgb: Image.Image, data: bytes) -> str:
    shown = np.asarray(Image.open(BytesIO(data)).convert("RGB"), dtype=float)
    error = float(np.mean((shown - np.asarray(rgb, dtype=float)) ** 2))
    return f"{len(data) / 1_000:.0f} / {10 * np.log10(255**2 / error):.1f}"


if __name__ == "__main__":
    typer.run(main)
