"""What a picture's file says of it: EXIF, IPTC and XMP as metadata, tags and captions. Decodes no pixel.

Reads with Pillow, in bounds: a block that is too long, damaged or without sense is left out, and never an error.
"""

import re
import struct
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from io import BytesIO
from typing import Any
from xml.etree.ElementTree import ParseError

from . import SourceRecord, Value, clean_captions, clean_tags, clean_value

_LONGEST_BLOCK = 1 << 20  # bytes of EXIF or XMP; a JPEG's EXIF has at most 64 KiB, previews and ratings in XMP less
# What Pillow and the XML parser raise for damaged blocks: no single type covers them (as `model.pictures` found)
_DAMAGED = (
    OSError, SyntaxError, ValueError, TypeError, ArithmeticError, LookupError, EOFError, AttributeError, AssertionError,
    RuntimeError, MemoryError, struct.error, ParseError,
)  # fmt: skip
_DATE, _DESCRIPTION, _EXIF_IFD, _GPS_IFD = 0x0132, 0x010E, 0x8769, 0x8825
_EXIF = {"creator": 0x013B, "copyright": 0x8298, "camera": 0x0110}
_XP_TITLE, _XP_KEYWORDS = 0x9C9B, 0x9C9E  # of Windows, in UTF-16
_TAKEN, _TAKEN_OFFSET = 0x9003, 0x9011
_READ_SEGMENTS, _START_OF_SCAN = (0xE1, 0xED), 0xDA  # of a JPEG: EXIF and XMP, IPTC
_OTHER_SEGMENTS = frozenset({*range(0xE0, 0xF0), 0xFE}) - {*_READ_SEGMENTS}
_IPTC = (
    ("title", 5), ("city", 90), ("region", 95), ("country", 101), ("place", 92), ("creator", 80), ("copyright", 116),
    ("description", 120), ("title", 105),
)  # fmt: skip
_IPTC_KEYWORDS = (2, 25)
_XMP = {"City": "city", "State": "region", "Country": "country", "Location": "place", "Headline": "title"}
# First bytes of a file, where they stand, and what reads its header
_READERS = (
    (b"\xff\xd8\xff", 0, "PIL.JpegImagePlugin", "JpegImageFile"),
    (b"\x89PNG\r\n\x1a\n", 0, "PIL.PngImagePlugin", "PngImageFile"),
    *((magic, 0, "PIL.TiffImagePlugin", "TiffImageFile") for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (b"ftypavi", 4, "PIL.AvifImagePlugin", "AvifImageFile"),
    (b"ftyp", 4, "pillow_heif", "HeifImageFile"),
)
_WRITTEN_BY_CAMERAS = re.compile(
    r"((OLYMPUS|(KONICA )?MINOLTA|SONY|SAMSUNG|KODAK) )?(DIGITAL CAMERA|DSC|DCIM\S*)?", re.I
)


@dataclass
class _Findings:
    """What was read so far; of two values for one key the first is kept."""

    metadata: dict[str, Value] = field(default_factory=dict)
    keywords: list[str] = field(default_factory=list)
    captions: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, value: str) -> None:
        if value:
            self.metadata.setdefault(name, value)


def read_metadata(content: bytes, language: str | None = None) -> SourceRecord:
    """Return what the file of a picture says. With a `language`, its title and description are captions too.

    Descriptions that XMP gives in other languages are captions in those.
    """
    found, image = _Findings(), None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged blocks
        with suppress(*_DAMAGED):
            image = _open_header(content)
        for read in () if image is None else (_read_xmp, _read_iptc, _read_exif):  # editors write XMP last: it is first
            with suppress(*_DAMAGED):
                read(image, found)
    captions: dict[str, list[str]] = {}
    if language is not None:
        texts = [text for name in ("title", "description") if isinstance(text := found.metadata.get(name), str)]
        captions = clean_captions({**found.captions, language: [*found.captions.get(language, []), *texts]})
    return SourceRecord(None, clean_tags(found.keywords), found.metadata, captions)


def find_fault(content: bytes, most_bytes: int, most_pixels: int) -> str:
    """Return why a service with these limits would refuse a picture, as far as its header tells; empty for no reason.

    Of a WebP only the bytes count. What is damaged behind its header is not seen.
    """
    if len(content) > most_bytes:
        most = f"{most_bytes / 1e6:.3g} MB (PICTOGLOT_PICTURE_BYTES)"
        return f"It has {len(content) / 1e6:.3g} MB; a picture may have at most {most}."
    image = None
    with warnings.catch_warnings(), suppress(*_DAMAGED):
        warnings.simplefilter("ignore")
        if (image := _open_header(content)) is None:
            return "Its first bytes are those of no picture that is read: JPEG, PNG, WebP, AVIF, TIFF or HEIC."
    if image is None:
        return "It is damaged: its header cannot be read."
    if (pixels := image.width * image.height) > most_pixels:
        most = f"{most_pixels / 1e6:.3g} (PICTOGLOT_PICTURE_PIXELS)"
        return f"It has {pixels / 1e6:.3g} megapixels; a picture may have at most {most}."
    return ""


def _open_header(content: bytes) -> Any:
    """Return the header as Pillow reads it, without its check of the number of pixels: none is decoded."""
    if content.startswith(b"\xff\xd8\xff"):
        content = _cut_jpeg(content)
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return _read_webp_chunks(content)
    for magic, start, module, name in _READERS:
        if content.startswith(magic, start):
            return getattr(import_module(module), name)(BytesIO(content))
    return None


def _cut_jpeg(content: bytes) -> bytes:
    """Return what stands before the pixels; of the application's segments only those that are read, in bounds.

    Pillow joins all that have EXIF, in a time that grows with the square of their number: 64 MB of them take minutes.
    """
    kept, place, blocks = [content[:2]], 2, 0
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker, length = content[place + 1], int.from_bytes(content[place + 2 : place + 4], "big")
        blocks += length if marker in _READ_SEGMENTS else 0
        if marker not in _OTHER_SEGMENTS and (marker not in _READ_SEGMENTS or blocks <= _LONGEST_BLOCK):
            kept.append(content[place : place + 2 + length])
        if marker == _START_OF_SCAN:
            break
        place += 2 + length
    return b"".join(kept)


def _read_webp_chunks(content: bytes) -> Any:
    """Return a WebP without its pixels, which Pillow would start to decode: only the two chunks that are read here."""
    from PIL import Image

    image, place = Image.Image(), 12
    while place + 8 <= len(content):
        kind, size = content[place : place + 4], int.from_bytes(content[place + 4 : place + 8], "little")
        if kind in (b"EXIF", b"XMP "):
            image.info[kind.decode().strip().lower()] = content[place + 8 : place + 8 + min(size, _LONGEST_BLOCK + 1)]
        place += 8 + size + size % 2
    return image


def _read_exif(image: Any, found: _Findings) -> None:
    from PIL import Image

    if len(image.info.get("exif") or b"") > _LONGEST_BLOCK:
        return
    read = image.getexif() if hasattr(image, "tag_v2") else Image.Image.getexif(image)  # a PNG's own decodes it
    with suppress(*_DAMAGED):
        inner = read.get_ifd(_EXIF_IFD)
        found.add("taken_at", _format_time(inner.get(_TAKEN) or read.get(_DATE), inner.get(_TAKEN_OFFSET)))
    with suppress(*_DAMAGED):
        _read_position(read.get_ifd(_GPS_IFD), found)
    if not _WRITTEN_BY_CAMERAS.fullmatch(description := _read_text(read.get(_DESCRIPTION))):
        found.add("description", description)
    found.add("title", _read_utf16(read.get(_XP_TITLE)))
    for name, tag in _EXIF.items():
        found.add(name, _read_text(read.get(tag)))
    found.keywords += _read_utf16(read.get(_XP_KEYWORDS)).split(";")


def _format_time(given: object, offset: object) -> str:
    """Return a date and time of EXIF as RFC 3339; empty for none, as the zeros of cameras without a clock."""
    text, zone = _read_text(given).replace("/", ":"), _read_text(offset)
    for form in ("%Y:%m:%d %H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y:%m:%d"):
        with suppress(ValueError):
            read = datetime.strptime(text[:19], form)  # noqa: DTZ007 - its zone, if it is known, is added as text
            if read.year < 1000:
                return ""
            if form == "%Y:%m:%d":
                return read.date().isoformat()
            return read.isoformat() + (zone if re.fullmatch(r"[+-](0\d|1[0-4]):[0-5]\d", zone) else "")
    return ""


def _read_position(gps: Mapping[int, Any], found: _Findings) -> None:
    """Add degrees, north and east positive; left out unless both are there and on Earth."""
    latitude, longitude = (_read_degrees(gps.get(place + 1), gps.get(place)) for place in (1, 3))
    if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
        return
    if (latitude, longitude) != (0.0, 0.0):  # what receivers write that know no place
        found.metadata |= {"latitude": latitude, "longitude": longitude}


def _read_degrees(parts: Any, side: Any) -> float | None:
    if parts is None or len(parts) != 3:
        return None
    degrees, minutes, seconds = (float(part) for part in parts)
    whole = degrees + minutes / 60 + seconds / 3600
    if not 0 <= whole <= 180:  # also not a number
        return None
    return round(-whole if _read_text(side) in ("S", "W") else whole, 6)


def _read_iptc(image: Any, found: _Findings) -> None:
    from PIL.IptcImagePlugin import getiptcinfo

    records: dict[tuple[int, int], Any] = getiptcinfo(image) or {}
    for name, number in _IPTC:
        value = records.get((2, number))
        found.add(name, _read_text(value[0] if isinstance(value, list) and value else value))
    keywords = records.get(_IPTC_KEYWORDS) or []
    found.keywords += map(_read_text, keywords if isinstance(keywords, list) else [keywords])


def _read_xmp(image: Any, found: _Findings) -> None:
    block = image.info.get("xmp") or b""
    if not block or len(block) > _LONGEST_BLOCK:
        return
    rdf = next((each for each in image.getxmp().values() if isinstance(each, dict)), {}).get("RDF")
    parts = rdf.get("Description") if isinstance(rdf, dict) else None
    for part in parts if isinstance(parts, list) else [parts]:
        if not isinstance(part, dict):
            continue
        for name in ("title", "description"):
            for tag, text in _list_texts(part.get(name)):
                if tag != "x-default" and text:
                    found.captions.setdefault(tag, []).append(text)
            found.add(name, _choose_text(part.get(name)))
        found.add("creator", ", ".join(text for _, text in _list_texts(part.get("creator"))))
        found.add("copyright", _choose_text(part.get("rights")))
        for theirs, ours in _XMP.items():
            found.add(ours, _choose_text(part.get(theirs)))
        for name in ("DateTimeOriginal", "DateCreated"):
            with suppress(ValueError, TypeError):
                if datetime.fromisoformat(part.get(name, "")).year >= 1000:
                    found.add("taken_at", part[name])
        found.keywords += [text for _, text in _list_texts(part.get("subject"))]


def _list_texts(value: Any) -> list[tuple[str, str]]:
    """Return texts with the tags of their languages: of an alternative, a bag or a sequence of XMP, or of one text."""
    if isinstance(value, dict):
        for kind in ("Alt", "Bag", "Seq"):
            if isinstance(value.get(kind), dict):
                return _list_texts(value[kind].get("li"))
        return [(str(value.get("lang", "x-default")), clean_value(str(value.get("text") or "")))]
    if isinstance(value, list):
        return [pair for each in value for pair in _list_texts(each)]
    return [("x-default", clean_value(value))] if isinstance(value, str) else []


def _choose_text(value: Any) -> str:
    texts = _list_texts(value)
    return next((text for tag, text in texts if tag == "x-default"), texts[0][1] if texts else "")


def _read_text(value: Any) -> str:
    """Return a text of EXIF or IPTC: bytes are UTF-8, or Latin-1 where they are not."""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            value = value.decode("latin-1")
    return clean_value(value.strip("\0 ")) if isinstance(value, str) else ""


def _read_utf16(value: Any) -> str:
    return clean_value(bytes(value).decode("utf-16-le", "ignore")) if isinstance(value, bytes | tuple) else ""
