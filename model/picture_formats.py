"""The picture formats that are read: recognised by the first bytes alone, opened, and reduced where they are large.

Imports nothing heavier than Pillow, because the child processes of `model.pictures` import it when they start.
"""

import os
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from types import ModuleType
from typing import Any

from PIL import AvifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from store.errors import PictureCorrupt, UnsupportedPictureFormat

JPEG, PNG, WEBP, AVIF, TIFF, HEIC = "JPEG", "PNG", "WEBP", "AVIF", "TIFF", "HEIF"  # as Pillow calls them
REDUCIBLE = frozenset({PNG, TIFF})  # by libvips, so that no large picture is in memory as a whole
MEDIA_TYPES = {
    JPEG: "image/jpeg",
    PNG: "image/png",
    WEBP: "image/webp",
    AVIF: "image/avif",
    TIFF: "image/tiff",
    HEIC: "image/heic",
}
_PLUGINS = (AvifImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin)  # no others are loaded
_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two: files of more than 4 GiB
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
_MOST_BRANDS = 64  # real files name four or five

# The decoder gives each picture one processor, and its memory limit counts what threads reserve for themselves
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def detect_format(data: bytes) -> str:
    """Return Pillow's name of the format; raises `PictureCorrupt` or `UnsupportedPictureFormat`."""
    if not data:
        raise PictureCorrupt("the picture is empty")
    if data.startswith(b"\xff\xd8\xff"):
        return JPEG
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WEBP
    if data.startswith(_TIFF_HEADS):
        return TIFF
    if data[4:8] == b"ftyp":
        brands = _read_brands(data)
        if brands & _AVIF_BRANDS:
            return AVIF
        if brands & _HEIC_BRANDS:
            return HEIC
    raise UnsupportedPictureFormat("a picture must be a JPEG, PNG, WebP, AVIF, TIFF or HEIC file")


def open_image(data: bytes, kind: str) -> Image.Image:
    """Open a file of this format by its header alone; raises what Pillow raises, which is nearly anything."""
    if kind == HEIC:
        _register_heic()
    return Image.open(BytesIO(data), formats=(kind,))


def read_webp_size(data: bytes, kind: str) -> tuple[int, int]:
    """Return width and height of a WebP, for which Pillow reserves memory when it opens it; zeros for other formats."""
    if kind != WEBP:
        return 0, 0
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        both = int.from_bytes(data[21:25], "little")
        return 1 + (both & 0x3FFF), 1 + (both >> 14 & 0x3FFF)
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF


def _read_brands(data: bytes) -> set[bytes]:
    """Return the brands of an ISO base media file: its own one, and those that it says it is compatible with."""
    end = min(int.from_bytes(data[:4], "big"), len(data), 16 + 4 * _MOST_BRANDS)
    return {data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))}


def _register_heic() -> None:
    """Load HEIC support when the first such file comes: loading it takes a while."""
    if HEIC in Image.OPEN:
        return
    from pillow_heif import register_heif_opener

    # What is not looked at is not parsed; in `draft` a thumbnail would be taken for the picture
    register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)


def can_reduce() -> bool:
    """Return whether libvips is installed, which reads large PNG and TIFF files a few rows at a time."""
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
