"""P rows: what is refused and what is read, within bounds of memory and size; each over HTTP in tests/service."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image, ImageDraw

from model import base
from model.pictures import LONGEST, SHORTEST, SQUASH, Decoder, Frame, decode, detect_media_type
from store.errors import (
    PictoglotError,
    PictureAnimated,
    PictureBadDimensions,
    PictureCorrupt,
    PictureTooManyPixels,
    UnsupportedPictureFormat,
)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    decoder = Decoder()
    yield decoder
    decoder.close()


def drawing(width: int = 96, height: int = 64) -> Image.Image:
    """A picture without any symmetry."""
    image = Image.new("RGB", (width, height), (250, 240, 200))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width // 3, height // 4), fill=(200, 30, 30))
    draw.ellipse((width // 2, height // 2, width - 5, height - 3), fill=(20, 60, 200))
    return image


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


def png(width: int, height: int, *, extra: bytes = b"", rows: int = 0) -> bytes:
    """A PNG whose header claims a size, with extra chunks and as little data as possible."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    pixels = zlib.compress(b"\0" * (1 + (width + 7) // 8) * rows, 9)
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def ztxt_bomb() -> bytes:
    data = b"Comment\0\0" + zlib.compress(b"\0" * 200_000_000, 9)
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    return png(32, 32, extra=chunk, rows=32)


def zipped() -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.jpg", saved(drawing(), "JPEG"))
    return stream.getvalue()


def frames(kind: str) -> bytes:
    return saved(drawing(), kind, save_all=True, append_images=[drawing(96, 64).rotate(turn) for turn in range(1, 9)])


REFUSED = {
    "empty": (b"", PictureCorrupt),
    "one byte": (b"\xff", UnsupportedPictureFormat),
    "text": (b"a picture of a cat", UnsupportedPictureFormat),
    "html": (b"<!DOCTYPE html><html></html>", UnsupportedPictureFormat),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", UnsupportedPictureFormat),
    "pdf": (saved(drawing(), "PDF"), UnsupportedPictureFormat),
    "eps": (saved(drawing(), "EPS"), UnsupportedPictureFormat),
    "gif": (saved(drawing(), "GIF"), UnsupportedPictureFormat),
    "bmp": (saved(drawing(), "BMP"), UnsupportedPictureFormat),
    "fits": (b"SIMPLE  =                    T".ljust(2880), UnsupportedPictureFormat),
    "zip": (zipped(), UnsupportedPictureFormat),
    "wave in riff": (b"RIFF\0\0\0\0WAVE", UnsupportedPictureFormat),
    "jpeg of three bytes": (b"\xff\xd8\xff", PictureCorrupt),
    "png of eight bytes": (b"\x89PNG\r\n\x1a\n", PictureCorrupt),
    "webp of twelve bytes": (b"RIFF\0\0\0\0WEBP", PictureCorrupt),
    "13,300 square": (png(13_300, 13_300, rows=13_300), PictureTooManyPixels),
    "30,000 square": (png(30_000, 30_000, rows=30_000), PictureTooManyPixels),
    "2**31 square": (png(2**31, 2**31), PictureTooManyPixels),
    "64 million and one row": (png(8_000, 8_001), PictureTooManyPixels),
    "1 x 10,000,000": (png(1, 10_000_000), PictureBadDimensions),
    "15 x 15": (saved(drawing(15, 15), "PNG"), PictureBadDimensions),
    "14,655 wide": (png(14_655, 800), PictureBadDimensions),
    "21 times as wide": (saved(drawing(16 * 20 + 1, 16), "PNG"), PictureBadDimensions),
    "zTXt bomb": (ztxt_bomb(), PictureCorrupt),
    "animated png": (frames("PNG"), PictureAnimated),
    "animated webp": (frames("WEBP"), PictureAnimated),
}


@pytest.mark.row("P3", "P4", "P6")
@pytest.mark.parametrize("name", ["13,300 square", "30,000 square", "2**31 square", "zTXt bomb"])
def test_a_bomb_is_refused_without_decompressing_it(name: str, decoder: Decoder) -> None:
    decoder.decode(saved(drawing(), "PNG"))
    before = peak_memory(decoder.pids[0])
    with pytest.raises(PictoglotError):
        decoder.decode(REFUSED[name][0])
    assert peak_memory(decoder.pids[0]) - before < 50 << 20


def peak_memory(pid: int) -> int:
    """The largest resident size of a process so far, in bytes."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) << 10


@pytest.mark.parametrize("size", [(16, 16), (16, 320), (14_654, 733), (8_000, 6_250)])
def test_pictures_just_within_each_limit_are_accepted(size: tuple[int, int]) -> None:
    picture = decode(saved(Image.new("RGB", size, "red"), "PNG"))
    assert max(picture.rgb.size) <= 1_024


@pytest.mark.parametrize("size", [(6_000, 4_000), (9_504, 6_336)], ids=["24 megapixels", "61 megapixels"])
def test_a_photograph_of_an_ordinary_camera_is_read_by_default_in_little_memory(
    size: tuple[int, int], decoder: Decoder
) -> None:
    photograph = saved(Image.linear_gradient("L").resize(size).convert("RGB"), "JPEG")
    decoder.decode(saved(drawing(), "PNG"))
    before = peak_memory(decoder.pids[0])
    assert decoder.decode(photograph).rgb.width == 1_024
    assert peak_memory(decoder.pids[0]) - before < 50 << 20


def test_a_transparent_webp_has_a_lower_limit_because_it_takes_more_memory() -> None:
    data = saved(Image.new("RGBA", (8_000, 5_008), (255, 0, 0, 128)), "WEBP", lossless=True, quality=0, method=0)
    with pytest.raises(PictureTooManyPixels, match="40 megapixels"):
        decode(data)


@pytest.mark.row("P2")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_file_cut_anywhere_is_corrupt(kind: str, decoder: Decoder) -> None:
    data = saved(Image.effect_noise((160, 120), 80).convert("RGB"), kind)
    for percent in range(1, 100):
        with pytest.raises(PictureCorrupt):
            decoder.decode(data[: len(data) * percent // 100])


GREY16 = Image.fromarray(np.linspace(0, 65_535, 64 * 64).reshape(64, 64).astype(np.uint16))
MODES = {
    "cmyk": saved(drawing().convert("CMYK"), "JPEG"),
    "grey": saved(drawing().convert("L"), "JPEG"),
    "bilevel": saved(drawing().convert("1"), "PNG"),
    "palette": saved(drawing().convert("P"), "PNG"),
    "grey and alpha": saved(drawing().convert("LA"), "PNG"),
    "16 bits": saved(GREY16, "PNG"),
    "colour profile": saved(drawing(), "JPEG", icc_profile=b"\0" * 500),
    "webp with alpha": saved(drawing().convert("RGBA"), "WEBP"),
}


TRANSPOSED = {  # how a camera stores an upright scene, by the EXIF orientation it writes
    1: [], 2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180], 4: [Image.Transpose.FLIP_TOP_BOTTOM],
    5: [Image.Transpose.TRANSPOSE], 6: [Image.Transpose.ROTATE_90], 7: [Image.Transpose.TRANSVERSE],
    8: [Image.Transpose.ROTATE_270],
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")
def test_damaged_exif_does_not_refuse_a_good_picture() -> None:
    assert decode(saved(drawing(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")).rgb.width == 96


@pytest.mark.parametrize(
    ("long", "stored"),
    [(4_032, 1_008), (3_264, 816), (2_048, 1_024), (1_600, 800), (1_598, 1_024), (1_280, 1_024), (640, 640)],
)
def test_a_jpeg_is_decoded_no_larger_than_needed_and_no_smaller_than_800(long: int, stored: int) -> None:
    """At 1/2, 1/4 or 1/8 where that gives 800 to 1,024 pixels: this saves most of the decoding and all resizing."""
    upright = drawing(long, long // 2)
    for turned in (upright, upright.transpose(Image.Transpose.ROTATE_90)):
        rgb = decode(saved(turned, "JPEG", quality=95)).rgb
        assert max(rgb.size) == stored
        assert np.abs(np.asarray(rgb, dtype=float) - np.asarray(turned.resize(rgb.size), dtype=float)).mean() < 3


def test_the_stored_forms_are_close_to_the_picture() -> None:
    picture = decode(saved(drawing(1_024, 768), "PNG"))
    for kept, size in ((picture.stored, (1_024, 768)), (picture.thumbnail, (256, 192))):
        assert detect_media_type(kept) == "image/jpeg"
        shown = np.asarray(Image.open(BytesIO(kept)).convert("RGB"), dtype=float)
        assert np.abs(shown - np.asarray(picture.rgb.resize(size), dtype=float)).mean() < 3


def test_the_child_gives_what_this_process_gives(decoder: Decoder) -> None:
    data = saved(drawing(), "PNG")
    there, here = decoder.decode(data), decode(data)
    assert (there.rgb.tobytes(), there.stored, there.thumbnail) == (here.rgb.tobytes(), here.stored, here.thumbnail)


def test_a_phone_picture_with_a_second_image_inside_is_taken() -> None:
    assert decode(saved(drawing(), "MPO", save_all=True, append_images=[drawing()])).rgb.width == 96


# A picture in the frame of a tower: open_clip's own transform of it gives the same bits as of the whole picture


SIZES = [
    (1_024, 768), (768, 1_024), (333, 1_000), (57, 32), (32, 57), (32, 32), (48, 32), (20, 400), (9, 16), (401, 30),
]  # fmt: skip


WAYS = [*product((SHORTEST, LONGEST, SQUASH), ("bicubic", "bilinear"), (32, (32, 48)))]


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_open_clip_sees_the_same_in_the_frame_as_in_the_whole_picture(
    how: tuple[str, str, int | tuple[int, int]],
) -> None:
    mode, interpolation, size = how
    asked = PreprocessCfg(size=size, resize_mode=mode, interpolation=interpolation, fill_color=200)
    transform, frame = image_transform_v2(asked, is_train=False), base._make_frame(asked)
    draw = np.random.default_rng(0)
    for width, height in SIZES:
        picture = Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))
        framed = frame(picture)
        assert framed.size == ((48, 32) if size == (32, 48) else (32, 32))
        assert torch.equal(transform(framed), transform(picture)), (width, height)


def test_a_frame_is_read_from_what_it_writes() -> None:
    frame = Frame(260, 224, LONGEST, "bilinear", 255)
    assert Frame.parse_json(frame.dump_json()) == frame and Frame.parse_json("") is None
