"""Large PNG and TIFF files in reduced size, a few rows at a time, so that no picture is in memory as a whole.

With libvips, which is optional (the extra `large`). Only for the guarded processes of `model.pictures.decoder`.
"""

import os
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from PIL import Image

from model.pictures.formats import PNG, TIFF

KINDS = frozenset({PNG, TIFF})


def is_installed() -> bool:
    """Return whether libvips is there."""
    return find_spec("pyvips") is not None


def read_reduced(data: bytes, kind: str, side: int) -> Image.Image:
    """Read the first page as upright RGB on white, at most `side` pixels a side; raises `ValueError` if damaged."""
    vips = _load_vips()
    try:
        # by name: libvips reads dozens of formats, and tells them apart in its own way
        load = vips.Image.pngload_buffer if kind == PNG else vips.Image.tiffload_buffer
        image = load(data, access="sequential", fail_on="truncated")
        image = _convert_cmyk(image) if image.interpretation == "cmyk" else image
        image = image.thumbnail_image(side, height=side, size="down")
        if image.hasalpha():
            image = image.flatten(background=[255, 255, 255])
        image = image.colourspace("srgb").cast("uchar")
        pixels = image.write_to_memory()
    except vips.Error as error:
        raise ValueError("libvips cannot read it") from error
    if vips.Error("").detail:  # what it has noted since the last error: of a TIFF without some of its data nothing more
        raise ValueError("libvips cannot read all of it")
    return Image.frombytes("RGB", (image.width, image.height), pixels)


def _convert_cmyk(image: Any) -> Any:
    """Convert colours as Pillow does, so that large pictures look like small ones: libvips would apply a profile."""
    image = image >> 8 if image.format == "ushort" else image
    inverted = 255 - image.extract_band(0, n=4)  # others are not printed
    rgb = (inverted.extract_band(0, n=3) * inverted.extract_band(3) / 255).rint().cast("uchar")
    return rgb.copy(interpretation="srgb")


@cache
def _load_vips() -> ModuleType:
    os.environ["VIPS_CONCURRENCY"] = "1"  # read when the library is loaded; each thread would count as memory
    import pyvips

    pyvips.cache_set_max(0)
    module: ModuleType = pyvips
    return module
