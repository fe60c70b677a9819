"""Decodes untrusted bytes to verified RGB, or refuses them: the only module that does so. Stores nothing.

Imports nothing heavier than Pillow, because the child processes of `index.decoder` import it when they start.
"""

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from index.errors import (
    PictureAnimated,
    PictureBadDimensions,
    PictureCorrupt,
    PictureTooManyPixels,
    UnsupportedPictureFormat,
)

MAX_PIXELS = 20_000_000
MIN_SIDE, MAX_SIDE = 16, 8_192
MAX_RATIO = 20  # of the long side to the short side
STORED_SIDE, THUMBNAIL_SIDE = 1_024, 256
_LEAST_DECODED = 800  # a JPEG is decoded at 1/2, 1/4 or 1/8 of its size if its long side keeps so many pixels
_STORED_QUALITY, _THUMBNAIL_QUALITY = 90, 85  # of a JPEG; decision 26 has sizes, times and errors
_EXIF_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# The exceptions that Pillow raised on damaged files in our tests, and related ones: no single type covers them
_DAMAGED = (
    OSError, SyntaxError, ValueError, TypeError, ArithmeticError, LookupError, EOFError, AttributeError, AssertionError,
    RuntimeError, MemoryError, struct.error, zlib.error,
)  # fmt: skip
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)

Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow checks it before any plugin allocates memory
_PLUGINS = (JpegImagePlugin, PngImagePlugin, WebPImagePlugin)  # imported here so that Pillow does not load all others


@dataclass(frozen=True)
class Picture:
    """A verified picture: upright RGB on white, at most 1,024 pixels a side, with its two encoded forms (JPEG)."""

    rgb: Image.Image
    stored: bytes
    thumbnail: bytes


def decode(data: bytes) -> Picture:
    """Decode in this process. Uploads go through `index.decoder.Decoder`, which does this in a child process.

    Raises `UnsupportedPictureFormat`, `PictureCorrupt`, `PictureTooManyPixels`, `PictureBadDimensions` or
    `PictureAnimated`.
    """
    rgb = read_rgb(data)
    return Picture(rgb, encode_stored(rgb), encode_thumbnail(rgb))


def read_rgb(data: bytes) -> Image.Image:
    """The picture as upright RGB on white, at most 1,024 pixels a side, not encoded; raises as `decode`."""
    kind = _format(data)
    try:
        with Image.open(BytesIO(data), formats=(kind,)) as image:
            _require_allowed(image, kind)
            return _upright_rgb(image)
    except _BOMB as error:
        raise PictureTooManyPixels(f"a picture may have at most {MAX_PIXELS:,} pixels") from error
    except _DAMAGED as error:
        raise PictureCorrupt("the picture cannot be decoded") from error


def encode_stored(rgb: Image.Image) -> bytes:
    """JPEG without metadata: the stored form of an upload."""
    return _jpeg(rgb, _STORED_QUALITY)


def encode_thumbnail(rgb: Image.Image) -> bytes:
    """JPEG of at most 256 pixels a side, without metadata."""
    small = rgb.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return _jpeg(small, _THUMBNAIL_QUALITY)


def media_type(data: bytes) -> str:
    """The media type of a picture by its first bytes; raises as `decode`."""
    return Image.MIME[_format(data)]


def _format(data: bytes) -> str:
    """Pillow's name of the format, from the first bytes alone."""
    if not data:
        raise PictureCorrupt("the picture is empty")
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    raise UnsupportedPictureFormat("a picture must be a JPEG, PNG or WebP file")


def _require_allowed(image: Image.Image, kind: str) -> None:
    """Check the header, before any pixel is decoded."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise PictureTooManyPixels(f"a picture may have at most {MAX_PIXELS:,} pixels")
    short, long = sorted((width, height))
    if short < MIN_SIDE or long > MAX_SIDE or long > MAX_RATIO * short:
        raise PictureBadDimensions(
            f"each side must have {MIN_SIDE} to {MAX_SIDE:,} pixels, the longer at most {MAX_RATIO} times the shorter"
        )
    # A JPEG with several images inside (MPO, gain maps) is a photograph from a phone, not an animation
    if kind != "JPEG" and getattr(image, "n_frames", 1) > 1:
        raise PictureAnimated("animated pictures are not accepted; send a single frame")


def _upright_rgb(image: Image.Image) -> Image.Image:
    turn = _TURNS.get(_orientation(image))
    scale = max(scale for scale in (1, 2, 4, 8) if scale == 1 or max(image.size) >= scale * _LEAST_DECODED)
    image.draft("RGB", (image.width // scale, image.height // scale))  # only JPEGs can be decoded at 1/scale
    rgb = _on_white(image)
    rgb.info.clear()  # an encoder would write some of it
    rgb.thumbnail((STORED_SIDE, STORED_SIDE), Image.Resampling.HAMMING)
    return rgb.transpose(turn) if turn is not None else rgb


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 (upright) when the metadata is damaged, because the picture is still readable."""
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except _DAMAGED:
        return 1


def _on_white(image: Image.Image) -> Image.Image:
    """8-bit RGB with transparency on white; colour profiles are dropped, not applied."""
    if image.mode.startswith("I"):  # 16-bit grey: Pillow would clip the values instead of scaling them
        return image.convert("I").point(lambda level: level * (1 / 257) + 0.5).convert("L").convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white


def _jpeg(rgb: Image.Image, quality: int) -> bytes:
    stream = BytesIO()
    rgb.save(stream, format="JPEG", quality=quality)
    return stream.getvalue()
