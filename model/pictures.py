"""Untrusted bytes to verified RGB, or a refusal; with `picture_formats` the only code that decodes them.

A `Decoder` has that done in guarded children: a native crash refuses one picture and does not stop the service. Run as
a program, this is one child, so nothing heavier than Pillow is imported.
"""

import json
import math
import struct
import sys
import zlib
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO

from PIL import Image

from model.picture_formats import (
    AVIF,
    JPEG,
    MEDIA_TYPES,
    PNG,
    REDUCIBLE,
    TIFF,
    WEBP,
    can_reduce,
    detect_format,
    open_image,
    read_reduced,
    read_webp_size,
)
from model.processes import GuardedChild, GuardedPool, serve
from store.errors import (
    PictoglotError,
    PictureAnimated,
    PictureBadDimensions,
    PictureCorrupt,
    PictureTooManyPixels,
    UnsupportedPictureFormat,
)

MAX_PIXELS = 64_000_000  # unless a setting says otherwise: ordinary cameras have up to 61 million
MOST_PIXELS = 400_000_000  # of any setting
# What fits into the memory of a child of the `Decoder` as a whole (decision 25)
WHOLE_PIXELS, _PROGRESSIVE_PIXELS, _SEE_THROUGH_PIXELS = 50_000_000, 120_000_000, 40_000_000
MIN_SIDE = 16
_LONG_SIDE, _LONG_SIDE_OF = 8_192, 20_000_000  # the longest side with so many pixels; with more, the same shape
MAX_RATIO = 20  # of the long side to the short side
STORED_SIDE, THUMBNAIL_SIDE = 1_024, 256
_LEAST_DECODED = 800  # a JPEG is decoded at 1/2, 1/4 or 1/8 of its size if its long side keeps so many pixels
_STORED_QUALITY, _THUMBNAIL_QUALITY = 90, 85  # of a JPEG; decision 25 has sizes, times and errors
_SECONDS, _PIXELS_A_SECOND = 5.0, 8_000_000  # for a picture: at least, and for so many pixels of the limit
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
SHORTEST, LONGEST, SQUASH = "shortest", "longest", "squash"  # as open_clip calls them
_BY_NAME = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)

Image.MAX_IMAGE_PIXELS = MOST_PIXELS  # beyond it Pillow refuses by itself; below it we do, by the header


@dataclass(frozen=True)
class Frame:
    """The size in pixels that a tower takes, and how a picture gets it, in the words of open_clip's configuration.

    `shortest` cuts what is longer than that, `longest` fills up with the grey level `fill`, `squash` bends. A picture
    in its frame stays as it is when it is framed again, so open_clip's own transform of it gives the pixels that it
    gives of the whole picture, bit by bit.
    """

    height: int
    width: int
    resize: str = SHORTEST
    interpolation: str = "bicubic"
    fill: int = 0

    def __call__(self, rgb: Image.Image) -> Image.Image:
        size, by = self._compute_size(*rgb.size), _BY_NAME[self.interpolation]
        if self.resize == SHORTEST and self.height != self.width:
            by = Image.Resampling.BICUBIC  # open_clip passes no other one on
        resized = rgb.resize(size, by)
        return resized if self.resize == SQUASH else self._center(resized)

    def dump_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def parse_json(text: str) -> "Frame | None":
        """Return a frame from `dump_json`; None of an empty text."""
        return Frame(**json.loads(text)) if text else None

    def _compute_size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height after resizing, rounded as torchvision and open_clip round them."""
        if self.resize == SQUASH:
            return self.width, self.height
        if self.resize == SHORTEST and self.width == self.height:
            longer = int(self.width * max(width, height) / min(width, height))
            return (self.width, longer) if width <= height else (longer, self.width)
        ratios = height / self.height, width / self.width
        ratio = max(ratios) if self.resize == LONGEST else min(ratios)
        return round(width / ratio), round(height / ratio)

    def _center(self, rgb: Image.Image) -> Image.Image:
        width, height = max(rgb.width, self.width), max(rgb.height, self.height)
        if (width, height) != rgb.size:
            filled = Image.new("RGB", (width, height), (self.fill,) * 3)
            filled.paste(rgb, ((width - rgb.width) // 2, (height - rgb.height) // 2))
            rgb = filled
        left, top = round((width - self.width) / 2), round((height - self.height) / 2)
        return rgb.crop((left, top, left + self.width, top + self.height))


@dataclass(frozen=True)
class Picture:
    """A verified picture: its pixels, width and height of the photograph, and two encoded forms (JPEG).

    `rgb` is upright, on white and at most 1,024 pixels a side; in the frame of a tower where one was given, else whole.
    `size` is that of what was sent, upright. `original` are the bytes as they were sent, where these are kept.
    """

    rgb: Image.Image
    size: tuple[int, int]
    stored: bytes
    thumbnail: bytes
    original: bytes | None = None

    @classmethod
    def encode(cls, rgb: Image.Image, frame: Frame | None = None, size: tuple[int, int] | None = None) -> "Picture":
        """Return the picture of what `read_rgb` returned, in `frame` if there is one; `size` where it was reduced."""
        return cls(
            frame(rgb) if frame else rgb, size or rgb.size, _encode_jpeg(rgb, _STORED_QUALITY), encode_thumbnail(rgb)
        )


def decode(data: bytes, most: int = MAX_PIXELS, frame: Frame | None = None) -> Picture:
    """Decode in this process, once for all that is made of it; a `Decoder` does this in a child process.

    Raises `UnsupportedPictureFormat`, `PictureCorrupt`, `PictureTooManyPixels` (more than `most`, or than can be
    read of such a file), `PictureBadDimensions` or `PictureAnimated`.
    """
    rgb, size = _read_rgb_and_size(data, most)
    return Picture.encode(rgb, frame, size)


def read_rgb(data: bytes) -> Image.Image:
    """Return the picture as upright RGB on white, at most 1,024 pixels a side, not encoded; raises as `decode`.

    Of a file with several pages or pictures it is the first, or the one that the file says is the main one.
    """
    return _read_rgb_and_size(data, MAX_PIXELS)[0]


def _read_rgb_and_size(data: bytes, most: int) -> tuple[Image.Image, tuple[int, int]]:
    kind = detect_format(data)
    try:
        if math.prod(read_webp_size(data, kind)) > (limit := min(most, WHOLE_PIXELS)):
            raise _make_refusal(limit, most)
        with open_image(data, kind) as image:
            _require_allowed(image, kind, most)
            size = image.size  # before a draft, which makes it smaller
            is_reduced = kind in REDUCIBLE and math.prod(size) > WHOLE_PIXELS
            rgb = read_reduced(data, kind, STORED_SIDE) if is_reduced else _read_upright_rgb(image, kind)
            is_turned = (size[0] - size[1]) * (rgb.width - rgb.height) < 0
            return rgb, (size[1], size[0]) if is_turned else size
    except _BOMB as error:
        raise _make_refusal(most, most) from error
    except _DAMAGED as error:
        raise PictureCorrupt("the picture cannot be decoded") from error


def encode_thumbnail(rgb: Image.Image) -> bytes:
    """Return a JPEG of at most 256 pixels a side, without metadata."""
    small = rgb.copy()
    # all whole steps by the mean of squares, a quarter of the time that filters take from twice the size
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), reducing_gap=1.0)
    return _encode_jpeg(small, _THUMBNAIL_QUALITY)


def detect_media_type(data: bytes) -> str:
    """Return the media type of a picture by its first bytes; raises as `decode`."""
    return MEDIA_TYPES[detect_format(data)]


def _require_allowed(image: Image.Image, kind: str, most: int) -> None:
    """Check the header, before any pixel is decoded."""
    short, long = sorted(image.size)
    if short * long > (limit := min(most, _find_most_pixels(image, kind))):
        needs = kind in REDUCIBLE and limit < most and not can_reduce()
        raise _make_refusal(limit, most, "; larger ones need pictoglot's extra `large` on the server" if needs else "")
    longest = round(_LONG_SIDE * max(1.0, math.sqrt(most / _LONG_SIDE_OF)))
    if short < MIN_SIDE or long > longest or long > MAX_RATIO * short:
        raise PictureBadDimensions(
            f"each side must have {MIN_SIDE} to {longest:,} pixels, the longer at most {MAX_RATIO} times the shorter"
        )
    if image.mode == "F" or (kind == TIFF and image.mode in ("I", "I;32", "I;32B")):
        raise UnsupportedPictureFormat("pixels of 32 bits are not read; send 8 or 16 bits for each colour")
    if image.mode == "LAB":  # what is large is not read by Pillow, and every size is to have the same colours
        raise UnsupportedPictureFormat("CIELAB colours are not read; send RGB or grey")
    # Several images in a JPEG (MPO, gain maps) or a HEIC are a phone's photograph, several pages of a TIFF a document
    if kind in (PNG, WEBP, AVIF) and getattr(image, "n_frames", 1) > 1:
        raise PictureAnimated("animated pictures are not accepted; send a single frame")


def _find_most_pixels(image: Image.Image, kind: str) -> int:
    """Return how many pixels of such a file can be read within the memory of a child of the `Decoder`."""
    if kind == JPEG:  # decoded in reduced size; a progressive one needs the coefficients of all pixels at once
        return _PROGRESSIVE_PIXELS if image.info.get("progressive") else MOST_PIXELS
    if kind in REDUCIBLE and can_reduce() and not image.info.get("interlace"):
        return MOST_PIXELS
    return _SEE_THROUGH_PIXELS if kind == WEBP and image.has_transparency_data else WHOLE_PIXELS


def _make_refusal(limit: int, most: int, more: str = "") -> PictureTooManyPixels:
    """Refuse more pixels than `limit`, which is `most`, the setting, unless no more can be read of such a file."""
    why = "PICTOGLOT_PICTURE_PIXELS" if limit == most else "whatever PICTOGLOT_PICTURE_PIXELS allows"
    return PictureTooManyPixels(f"a picture like this may have at most {limit / 1e6:g} megapixels ({why}){more}")


def _read_upright_rgb(image: Image.Image, kind: str) -> Image.Image:
    turn = None if kind == TIFF else _TURNS.get(_read_orientation(image))  # Pillow turns a TIFF itself when it loads it
    if kind == JPEG:
        scale = max(scale for scale in (1, 2, 4, 8) if scale == 1 or max(image.size) >= scale * _LEAST_DECODED)
        image.draft("RGB", (image.width // scale, image.height // scale))
    rgb = _put_on_white(image)
    rgb.info.clear()  # an encoder would write some of it
    rgb.thumbnail((STORED_SIDE, STORED_SIDE), Image.Resampling.HAMMING)
    return rgb.transpose(turn) if turn is not None else rgb


def _read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 (upright) when the metadata is damaged, because the picture is still readable."""
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except _DAMAGED:
        return 1


def _put_on_white(image: Image.Image) -> Image.Image:
    """Return 8-bit RGB with transparency on white; colour profiles are dropped, not applied."""
    if image.mode.startswith("I"):  # 16-bit grey: Pillow would clip the values instead of scaling them
        return image.convert("I").point(lambda level: level * (1 / 257) + 0.5).convert("L").convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white


def _encode_jpeg(rgb: Image.Image, quality: int) -> bytes:
    stream = BytesIO()
    rgb.save(stream, format="JPEG", quality=quality)
    return stream.getvalue()


class Decoder:
    """A pool of `processes` children, each limited to `memory` bytes of address space and `timeout` seconds a picture.

    Pictures may have at most `pixels`; without a `timeout` it follows from these. They come in `frame`, if there is
    one. A child ends with its parent and is replaced when it dies. It is started by the first picture.
    """

    def __init__(
        self,
        processes: int = 1,
        timeout: float | None = None,
        memory: int = 1 << 30,
        pixels: int = MAX_PIXELS,
        frame: Frame | None = None,
    ) -> None:
        self._timeout = max(_SECONDS, pixels / _PIXELS_A_SECOND) if timeout is None else timeout
        arguments = memory, pixels, frame.dump_json() if frame else ""
        refuse = partial(PictureCorrupt, "the picture cannot be decoded within the limits on time and memory")
        self._pool = GuardedPool(processes, "model.pictures", *arguments, refuse=refuse)
        self.close = self._pool.close

    def decode(self, data: bytes) -> Picture:
        """Decode in a child process; `PictureCorrupt` also for what is too slow or ends two children. Thread-safe."""
        return self.submit(data).result()

    def submit(self, data: bytes) -> "Future[Picture]":
        """Begin to decode in a child process, and return the future of the picture."""
        return self._pool.submit(partial(_decode_in, data, self._timeout))

    @property
    def pids(self) -> list[int]:
        return self._pool.pids


def _decode_in(data: bytes, seconds: float, child: GuardedChild) -> Picture:
    answer = child.request(data, seconds)
    head_length = int.from_bytes(answer[:8], "big")
    head = json.loads(answer[8 : 8 + head_length])
    if "code" in head:
        raise PictoglotError.kinds[head["code"]](head["detail"])
    body = memoryview(answer)[8 + head_length :]
    pixels, stored = 3 * head["width"] * head["height"], head["stored"]
    rgb = Image.frombytes("RGB", (head["width"], head["height"]), bytes(body[:pixels]))
    size = head["size"][0], head["size"][1]
    return Picture(rgb, size, bytes(body[pixels : pixels + stored]), bytes(body[pixels + stored :]))


def _answer(data: bytes, pixels: int, frame: Frame | None) -> bytes:
    try:
        picture = decode(data, pixels, frame)
    except PictoglotError as error:
        return _pack_head({"code": error.code, "detail": error.detail})
    width, height = picture.rgb.size
    head = {"width": width, "height": height, "size": picture.size, "stored": len(picture.stored)}
    return b"".join((_pack_head(head), picture.rgb.tobytes(), picture.stored, picture.thumbnail))


def _pack_head(head: Mapping[str, object]) -> bytes:
    data = json.dumps(dict(head)).encode()
    return len(data).to_bytes(8, "big") + data


if __name__ == "__main__":
    parent, memory, pixels = map(int, sys.argv[1:4])
    frame = Frame.parse_json(sys.argv[4])
    serve(parent, memory, lambda data, requests, answers: _answer(data, pixels, frame))
