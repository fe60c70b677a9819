"""AVIF, TIFF and HEIC, large pictures in reduced size, and bad files of these kinds: read, or refused, in bounds."""

import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pillow_heif import register_heif_opener

from model.picture_formats import TIFF, read_reduced
from model.pictures import Decoder, decode, detect_media_type
from store.errors import (
    PictoglotError,
    PictureAnimated,
    PictureBadDimensions,
    PictureCorrupt,
    PictureTooManyPixels,
    UnsupportedPictureFormat,
)
from tests.model.pictures.test_pictures import GREY16, TRANSPOSED, drawing, peak_memory, saved

register_heif_opener(thumbnails=False)
WIDE = 400_000_000  # the highest limit on pixels
MEMORY = 1 << 30  # of a child


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    decoder = Decoder(memory=MEMORY, pixels=WIDE)
    yield decoder
    decoder.close()


def pixels(image: Image.Image) -> NDArray[np.float64]:
    return np.asarray(image, dtype=np.float64)


def heic(image: Image.Image, **options: object) -> bytes:
    return saved(image, "HEIF", quality=90, **options)


def pages(count: int) -> bytes:
    """A TIFF whose first page is the drawing; the others are tiny."""
    others = [Image.new("1", (16, 16))] * (count - 1)
    return saved(drawing(), "TIFF", save_all=True, append_images=others)


def with_directory(data: bytes, following: int) -> bytes:
    """A little-endian TIFF with one directory, which says that the next one is at `following`."""
    (first,) = struct.unpack("<I", data[4:8])
    (entries,) = struct.unpack("<H", data[first : first + 2])
    end = first + 2 + 12 * entries
    return data[:end] + struct.pack("<I", following) + data[end + 4 :]


def cyclic() -> bytes:
    data = saved(drawing(), "TIFF")
    return with_directory(data, struct.unpack("<I", data[4:8])[0])


def alpha() -> Image.Image:
    return Image.new("RGBA", (32, 32), (255, 0, 0, 0))


def rgb16() -> bytes:
    """An uncompressed TIFF of 16 bits for each colour, all of them 0x80FF."""
    tags = [
        (256, 3, 1, 64), (257, 3, 1, 48), (258, 3, 3, 8 + 2 + 12 * 9 + 4), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, 8 + 2 + 12 * 9 + 4 + 6), (277, 3, 1, 3), (278, 3, 1, 48), (279, 4, 1, 64 * 48 * 6),
    ]  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<HHH", 16, 16, 16) + b"\xff\x80" * (64 * 48 * 3)


READ: dict[str, Callable[[], bytes]] = {
    "avif": lambda: saved(drawing(), "AVIF", quality=90),
    "avif with mif1 first": lambda: saved(drawing(), "AVIF", quality=90).replace(b"ftypavif", b"ftypmif1", 1),
    "heic": lambda: heic(drawing()),
    "heic of two pictures": lambda: heic(drawing(), save_all=True, append_images=[Image.new("RGB", (32, 32))]),
    "tiff": lambda: saved(drawing(), "TIFF"),
    "tiff of 64 bits": lambda: saved(drawing(), "TIFF", big_tiff=True),
    "deflated": lambda: saved(drawing(), "TIFF", compression="tiff_adobe_deflate"),
    "lzw": lambda: saved(drawing(), "TIFF", compression="tiff_lzw"),
    "jpeg in tiff": lambda: saved(drawing(), "TIFF", compression="jpeg", quality=95),
    "cmyk": lambda: saved(drawing().convert("CMYK"), "TIFF", compression="tiff_lzw"),
    "a thousand pages": lambda: pages(1_000),
    "a directory that is its own next": cyclic,
    "a next directory outside": lambda: with_directory(saved(drawing(), "TIFF"), 1 << 30),
}


@pytest.mark.parametrize("name", READ)
def test_what_scanners_and_phones_send_is_read(name: str, decoder: Decoder) -> None:
    """The first page of a TIFF, the main picture of a HEIC."""
    shown = decoder.decode(READ[name]()).rgb
    assert shown.size == (96, 64) and np.abs(pixels(shown) - pixels(drawing())).mean() < 6


def test_scans_of_one_and_of_sixteen_bits(decoder: Decoder) -> None:
    bilevel = drawing().convert("1")
    for options in ({"compression": "group4"}, {"compression": "group3"}, {}):
        shown = decoder.decode(saved(bilevel, "TIFF", **options)).rgb
        assert np.array_equal(pixels(shown)[..., 0] > 127, np.asarray(bilevel))
    for data in (saved(GREY16, "TIFF"), saved(GREY16, "TIFF", compression="tiff_lzw"), saved(GREY16, "PNG")):
        levels = pixels(decoder.decode(data).rgb)[..., 0]
        assert np.abs(levels - np.asarray(GREY16) / 257).max() <= 0.5
    assert decoder.decode(rgb16()).rgb.getpixel((5, 5)) == (128, 128, 128)


@pytest.mark.parametrize("kind", ["PNG", "AVIF", "TIFF", "HEIF", "palette"])
def test_transparency_is_shown_on_white(kind: str, decoder: Decoder) -> None:
    drawn = alpha().convert("P")
    data = saved(drawn, "PNG", transparency=drawn.getpixel((0, 0))) if kind == "palette" else saved(alpha(), kind)
    assert decoder.decode(data).rgb.getpixel((5, 5)) == (255, 255, 255)


@pytest.mark.row("P7")
@pytest.mark.parametrize("orientation", TRANSPOSED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "HEIF"])
def test_pictures_are_turned_upright(orientation: int, kind: str, decoder: Decoder) -> None:
    image = drawing()
    for turn in TRANSPOSED[orientation]:
        image = image.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.info["exif"] = exif.tobytes()  # of which a HEIC is written with a turn of its own
    upright = decoder.decode(saved(image, kind, **({} if kind == "HEIF" else {"exif": exif}))).rgb
    assert upright.size == (96, 64) and np.abs(pixels(upright) - pixels(drawing())).mean() < 8


def flat(size: tuple[int, int]) -> Image.Image:
    """A picture whose left third is dark: quickly made, also when it is large."""
    image = Image.new("L", size, 200)
    image.paste(20, (0, 0, size[0] // 3, size[1]))
    return image


LARGE: dict[str, Callable[[], bytes]] = {
    "png": lambda: saved(flat((9_000, 6_000)), "PNG", compress_level=1),
    "uncompressed": lambda: saved(flat((9_000, 6_000)), "TIFF"),
    "tiff": lambda: saved(flat((9_000, 6_000)), "TIFF", compression="tiff_adobe_deflate"),
    "g4": lambda: saved(flat((9_000, 6_000)).point(lambda level: level > 99, "1"), "TIFF", compression="group4"),
    "jpeg": lambda: saved(flat((9_000, 6_000)), "JPEG"),
}


@pytest.mark.parametrize("name", LARGE)
def test_a_large_picture_is_read_in_reduced_size(name: str) -> None:
    data, decoder = LARGE[name](), Decoder(memory=512 << 20, pixels=WIDE)
    try:
        shown = decoder.decode(data).rgb
        assert max(shown.size) in (1_024, 1_008, 1_125) and shown.mode == "RGB"
        assert pixels(shown)[300, 20, 0] < 40 and pixels(shown)[300, 900, 0] > 190
        assert peak_memory(decoder.pids[0]) < (100 << 20) + 2 * len(data)  # all the pixels are 216 MB
        for _ in range(2):  # a damaged one leaves nothing behind for the next
            with pytest.raises(PictureCorrupt):
                decoder.decode(data[: len(data) // 2])
            assert decoder.decode(data).rgb.tobytes() == shown.tobytes()
    finally:
        decoder.close()
    with pytest.raises(PictureTooManyPixels):
        decode(data, 20_000_000)


@pytest.mark.parametrize("mode", ["CMYK", "RGB", "L", "RGBA"])
def test_large_scans_have_the_colours_of_small_ones(mode: str) -> None:
    image = Image.effect_mandelbrot((96, 64), (-2, -1, 1, 1), 50).convert("RGB")
    image.paste(drawing(), (0, 0), image.convert("L"))
    if mode == "CMYK":
        noise = np.random.default_rng(0).integers(0, 256, (64, 96, 4), dtype=np.uint8)  # black beside the colours
        image = Image.frombytes("CMYK", (96, 64), noise.tobytes())
    data = saved(image.convert(mode), "TIFF", compression="tiff_lzw")
    assert np.abs(pixels(read_reduced(data, TIFF, 1_024)) - pixels(decode(data).rgb)).max() <= 1


def test_cielab_is_refused_in_every_size() -> None:
    for size in ((96, 64), (9_000, 6_000)):
        with pytest.raises(UnsupportedPictureFormat, match="CIELAB"):
            decode(saved(Image.new("LAB", size), "TIFF", compression="tiff_lzw"), WIDE)


def test_without_its_library_a_large_scan_is_refused_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = LARGE["g4"]()
    monkeypatch.setitem(sys.modules, "pyvips", None)
    with pytest.raises(PictureTooManyPixels, match="extra `large`"):
        decode(scan, WIDE)
    with pytest.raises(PictureTooManyPixels, match=r"at most 20 megapixels \(PICTOGLOT_PICTURE_PIXELS\)") as refused:
        decode(scan, 20_000_000)
    assert "extra" not in str(refused.value)  # it would not help: the setting refuses it


def claiming(data: bytes, width: int, height: int) -> bytes:
    """An AVIF or HEIC whose size in the header is another one."""
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]


def tiff_claiming(width: int, height: int) -> bytes:
    """One that has hardly any data."""
    return (
        rgb16()
        .replace(struct.pack("<HHII", 256, 3, 1, 64), struct.pack("<HHII", 256, 4, 1, width))
        .replace(struct.pack("<HHII", 257, 3, 1, 48), struct.pack("<HHII", 257, 4, 1, height))
    )


def webp_claiming(width: int, height: int) -> bytes:
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sizes + bytes(12)


def png_with_exif(size: int) -> bytes:
    data, exif = saved(drawing(), "PNG"), b"MM\0*" + bytes(size)
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    return data[:33] + chunk + data[33:]


REFUSED: dict[str, tuple[Callable[[], bytes], type[PictoglotError]]] = {
    "heic that claims too much": (lambda: claiming(heic(drawing()), 30_000, 30_000), PictureTooManyPixels),
    "avif that claims too much": (
        lambda: claiming(saved(drawing(), "AVIF"), 15_000, 15_000),
        PictureTooManyPixels,
    ),
    "tiff that claims too much": (lambda: tiff_claiming(100_000, 100_000), PictureTooManyPixels),
    "tiff that claims much": (lambda: tiff_claiming(8_000, 8_000), PictureCorrupt),
    "webp that claims too much": (lambda: webp_claiming(16_000, 16_000), PictureTooManyPixels),
    "tiff too wide": (lambda: tiff_claiming(60_000, 3_000), PictureBadDimensions),
    "an animated avif": (
        lambda: saved(drawing(), "AVIF", save_all=True, append_images=[drawing().rotate(9)]),
        PictureAnimated,
    ),
    "floating point": (lambda: saved(drawing().convert("F"), "TIFF"), UnsupportedPictureFormat),
    "integers of 32 bits": (lambda: saved(drawing().convert("I"), "TIFF"), UnsupportedPictureFormat),
    "a film": (lambda: b"\0\0\0\x18ftypisom\0\0\0\0isommp41" + bytes(99), UnsupportedPictureFormat),
    "a tiff of four bytes": (lambda: b"II*\0", PictureCorrupt),
    "a tiff without a directory": (lambda: b"MM\0*\xff\xff\xff\xff" + bytes(99), PictureCorrupt),
    "a heic of sixteen bytes": (lambda: b"\0\0\0\x10ftypheic\0\0\0\0", PictureCorrupt),
    "an avif of sixteen bytes": (lambda: b"\0\0\0\x10ftypavif\0\0\0\0", PictureCorrupt),
    "a jpeg that goes on as a tiff": (lambda: b"\xff\xd8\xff" + saved(drawing(), "TIFF"), PictureCorrupt),
    "a tiff that goes on as a jpeg": (lambda: b"II*\0" + saved(drawing(), "JPEG"), PictureCorrupt),
    "a heic that is an avif inside": (
        lambda: saved(drawing(), "AVIF").replace(b"avif", b"heic", 1).replace(b"avif", b"heic", 1),
        PictureCorrupt,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_with_its_code_and_within_bounds(name: str, decoder: Decoder) -> None:
    make, error = REFUSED[name]
    data = make()
    decoder.decode(READ["heic"]())  # so that the library is loaded
    before = peak_memory(decoder.pids[0])
    with pytest.raises(error) as caught:
        decoder.decode(data)
    assert type(caught.value) is error
    assert peak_memory(decoder.pids[0]) - before < 80 << 20


def test_a_heic_whose_bits_are_larger_than_its_header_is_bounded(decoder: Decoder) -> None:
    lying = claiming(heic(drawing(1_600, 1_200)), 64, 48)
    try:
        assert max(decoder.decode(lying).rgb.size) <= 1_024
    except PictureCorrupt:
        return


def test_metadata_of_64_megabytes_is_read_past(decoder: Decoder) -> None:
    assert decoder.decode(png_with_exif(64 << 20)).rgb.size == (96, 64)
    assert peak_memory(decoder.pids[0]) < 400 << 20


@pytest.mark.parametrize("name", ["avif", "heic", "tiff", "lzw", "jpeg in tiff"])
def test_a_file_cut_anywhere_or_changed_is_refused_or_read(name: str, decoder: Decoder) -> None:
    data, chance = READ[name](), np.random.default_rng(7)
    for percent in range(1, 100, 7):
        try:
            assert decoder.decode(data[: len(data) * percent // 100]).rgb.mode == "RGB"
        except (PictureCorrupt, UnsupportedPictureFormat):
            continue
    for _ in range(30):
        bad = bytearray(data)
        for place in chance.integers(len(bad), size=chance.integers(1, 9)):
            bad[place] = chance.integers(256)
        try:
            assert decoder.decode(bytes(bad)).rgb.mode == "RGB"
        except PictoglotError as error:
            assert error.code.startswith(("picture_", "unsupported_picture"))


def test_the_media_type_is_that_of_the_bytes() -> None:
    types = {kind: f"image/{kind.lower()}" for kind in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF")} | {"HEIF": "image/heic"}
    assert {kind: detect_media_type(saved(drawing(), kind)) for kind in types} == types


def test_a_thumbnail_inside_a_heic_is_not_taken_for_the_picture(decoder: Decoder) -> None:
    data = heic(drawing(1_600, 1_200), thumbnails=[256])
    assert max(Image.open(BytesIO(data)).size) == 1_600
    assert decoder.decode(data).rgb.size == (1_024, 768)
