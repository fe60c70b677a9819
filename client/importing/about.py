"""What a picture's file says of it: EXIF, IPTC and XMP as metadata, tags and captions. Decodes no pixel.

Reads with Pillow, in bounds: a block that is too long, damaged or without sense is left out, and never an error.
"""

import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from io import BytesIO
from typing import Any
from xml.etree.ElementTree import ParseError

from .items import Said, Value, captions_of, plain, tags_of

_LONGEST_BLOCK = 1 << 20  # bytes of EXIF or XMP; a JPEG's EXIF has at most 64 KiB, previews and ratings in XMP less
# What Pillow and the XML parser raise for damaged blocks: no single type covers them (as `model.pictures` found)
_DAMAGED = (
    OSError, SyntaxError, ValueError, TypeError, ArithmeticError, LookupError, EOFError, AttributeError, AssertionError,
    RuntimeError, MemoryError, struct.error, ParseError,
)  # fmt: skip
_DESCRIPTION, _ARTIST, _COPYRIGHT, _DATE, _MODEL = 0x010E, 0x013B, 0x8298, 0x0132, 0x0110
_XP_TITLE, _XP_KEYWORDS = 0x9C9B, 0x9C9E  # of Windows, in UTF-16
_TAKEN, _TAKEN_OFFSET = 0x9003, 0x9011
_READ_SEGMENTS, _START_OF_SCAN = (0xE1, 0xED), 0xDA  # of a JPEG: EXIF and XMP, IPTC
_OTHER_SEGMENTS = frozenset({*range(0xE0, 0xF0), 0xFE}) - {*_READ_SEGMENTS}
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_IPTC = {
    "title": (2, 5), "city": (2, 90), "region": (2, 95), "country": (2, 101), "place": (2, 92), "creator": (2, 80),
    "copyright": (2, 116), "description": (2, 120),
}  # fmt: skip
_IPTC_KEYWORDS, _IPTC_TITLE = (2, 25), (2, 105)
_IPTC_UTF8 = b"\x1b%G"  # in the character set record (1, 90)
_XMP = {"City": "city", "State": "region", "Country": "country", "Location": "place", "Headline": "title"}
_WRITTEN_BY_CAMERAS = re.compile(r"((OLYMPUS|MINOLTA|SONY|SAMSUNG|KODAK) )?(DIGITAL CAMERA|DSC|DCIM\S*)?", re.I)


def about(content: bytes, language: str | None = None) -> Said:
    """What the file of a picture says. With a `language`, its title and description are captions too.

    Descriptions that XMP gives in other languages are captions in those.
    """
    facts: dict[str, Value] = {}
    keywords: list[str] = []
    captions: dict[str, list[str]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged blocks
        image = None
        with suppress(*_DAMAGED):
            image = _opened(content)
        for read in () if image is None else (_xmp, _iptc, _exif):  # the first is believed: editors write XMP last
            with suppress(*_DAMAGED):
                read(image, facts, keywords, captions)
    described = {key: value for key, value in facts.items() if value not in ("", None)}
    texts = [text for name in ("title", "description") if isinstance(text := described.get(name), str)]
    said: dict[str, list[str]] = {}
    if language is not None:
        said = captions_of({**captions, language: [*captions.get(language, []), *texts]})
    return Said(None, tags_of(keywords), described, said)


def _opened(content: bytes) -> Any:
    """The header as Pillow reads it, without its check of the number of pixels: none is decoded."""
    if content.startswith(b"\xff\xd8\xff"):
        from PIL.JpegImagePlugin import JpegImageFile

        return JpegImageFile(BytesIO(_header_of_jpeg(content)))
    stream = BytesIO(content)
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        from PIL.PngImagePlugin import PngImageFile

        return PngImageFile(stream)
    if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        from PIL.TiffImagePlugin import TiffImageFile

        return TiffImageFile(stream)
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return _chunks_of_webp(content)
    return _with_plugin(content, stream)


def _header_of_jpeg(content: bytes) -> bytes:
    """What stands before the pixels, of the application's segments only those that are read here, as far as in bounds.

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


def _with_plugin(content: bytes, stream: BytesIO) -> Any:
    """AVIF and HEIC, where what reads them is installed."""
    brand = content[4:12]
    if brand in (b"ftypavif", b"ftypavis"):
        from PIL.AvifImagePlugin import AvifImageFile

        return AvifImageFile(stream)
    if brand.startswith(b"ftyp"):
        with suppress(ImportError):
            from pillow_heif import HeifImageFile

            return HeifImageFile(stream)  # type: ignore[no-untyped-call]
    return None


def _chunks_of_webp(content: bytes) -> Any:
    """WebP without its pixels, which Pillow would start to decode: only the two chunks that are read here."""
    from PIL import Image

    image, place = Image.Image(), 12
    while place + 8 <= len(content):
        kind, size = content[place : place + 4], int.from_bytes(content[place + 4 : place + 8], "little")
        if kind in (b"EXIF", b"XMP "):
            image.info[kind.decode().strip().lower()] = content[place + 8 : place + 8 + min(size, _LONGEST_BLOCK + 1)]
        place += 8 + size + size % 2
    return image


def _exif(image: Any, facts: dict[str, Value], keywords: list[str], _: dict[str, list[str]]) -> None:
    from PIL import Image

    if len(image.info.get("exif") or b"") > _LONGEST_BLOCK:
        return
    read = image.getexif() if hasattr(image, "tag_v2") else Image.Image.getexif(image)  # a PNG's own decodes it
    with suppress(*_DAMAGED):
        inner = read.get_ifd(_EXIF_IFD)
        taken = _moment(inner.get(_TAKEN) or read.get(_DATE), inner.get(_TAKEN_OFFSET))
        _say(facts, "taken_at", taken)
    with suppress(*_DAMAGED):
        _place(read.get_ifd(_GPS_IFD), facts)
    if not _WRITTEN_BY_CAMERAS.fullmatch(description := _text(read.get(_DESCRIPTION))):
        _say(facts, "description", description)
    _say(facts, "title", _utf16(read.get(_XP_TITLE)))
    _say(facts, "creator", _text(read.get(_ARTIST)))
    _say(facts, "copyright", _text(read.get(_COPYRIGHT)))
    _say(facts, "camera", _text(read.get(_MODEL)))
    keywords += _utf16(read.get(_XP_KEYWORDS)).split(";")


def _moment(given: object, offset: object = None) -> str:
    """A date and time of EXIF as RFC 3339; empty when it is none, as the zeros of cameras without a clock."""
    text = _text(given).replace("/", ":")
    for form in ("%Y:%m:%d %H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y:%m:%d"):
        with suppress(ValueError):
            read = datetime.strptime(text[:19], form)  # noqa: DTZ007 - its zone, if it is known, is added as text
            if read.year < 1000:
                return ""
            zone = _text(offset)
            if form == "%Y:%m:%d":
                return read.date().isoformat()
            return read.isoformat() + (zone if re.fullmatch(r"[+-](0\d|1[0-4]):[0-5]\d", zone) else "")
    return ""


def _place(gps: Mapping[int, Any], facts: dict[str, Value]) -> None:
    """Degrees, north and east positive; left out unless both are there and on Earth."""
    latitude, longitude = (_degrees(gps.get(place + 1), gps.get(place)) for place in (1, 3))
    if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
        return
    if (latitude, longitude) != (0.0, 0.0):  # what receivers write that know no place
        facts.setdefault("latitude", latitude)
        facts.setdefault("longitude", longitude)


def _degrees(parts: Any, side: Any) -> float | None:
    if parts is None or len(parts) != 3:
        return None
    degrees, minutes, seconds = (float(part) for part in parts)
    whole = degrees + minutes / 60 + seconds / 3600
    if not 0 <= whole <= 180:  # also not a number
        return None
    return round(-whole if _text(side) in ("S", "W") else whole, 6)


def _iptc(image: Any, facts: dict[str, Value], keywords: list[str], _: dict[str, list[str]]) -> None:
    from PIL.IptcImagePlugin import getiptcinfo

    read = getiptcinfo(image) or {}
    utf8 = read.get((1, 90)) == _IPTC_UTF8
    for name, record in _IPTC.items():
        _say(facts, name, _text(_first(read.get(record)), utf8))
    _say(facts, "title", _text(_first(read.get(_IPTC_TITLE)), utf8))
    found: Any = read.get(_IPTC_KEYWORDS) or []
    keywords += [_text(each, utf8) for each in (found if isinstance(found, list) else [found])]


def _xmp(image: Any, facts: dict[str, Value], keywords: list[str], captions: dict[str, list[str]]) -> None:
    block = image.info.get("xmp") or b""
    if not block or len(block) > _LONGEST_BLOCK:
        return
    for part in _descriptions(image.getxmp()):
        for tag, text in (*_languages(part.get("title")), *_languages(part.get("description"))):
            if tag != "x-default" and text:
                captions.setdefault(tag, []).append(text)
        for name in ("title", "description"):
            _say(facts, name, _default(part.get(name)))
        _say(facts, "creator", ", ".join(text for _, text in _languages(part.get("creator"))))
        _say(facts, "copyright", _default(part.get("rights")))
        for theirs, ours in _XMP.items():
            _say(facts, ours, _default(part.get(theirs)))
        for name in ("DateTimeOriginal", "DateCreated"):
            _say(facts, "taken_at", _rfc3339(part.get(name)))
        keywords += [text for _, text in _languages(part.get("subject"))]


def _descriptions(document: Any) -> Iterator[dict[str, Any]]:
    """The parts of an XMP packet as Pillow gives it."""
    rdf = next((each for each in document.values() if isinstance(each, dict)), {}).get("RDF")
    found = rdf.get("Description") if isinstance(rdf, dict) else None
    yield from (each for each in (found if isinstance(found, list) else [found]) if isinstance(each, dict))


def _languages(value: Any) -> list[tuple[str, str]]:
    """Texts with the tags of their languages: of an alternative, a bag or a sequence of XMP, or of one text."""
    if isinstance(value, dict):
        for kind in ("Alt", "Bag", "Seq"):
            if isinstance(value.get(kind), dict):
                return _languages(value[kind].get("li"))
        return [(str(value.get("lang", "x-default")), plain(str(value.get("text") or "")))]
    if isinstance(value, list):
        return [pair for each in value for pair in _languages(each)]
    return [("x-default", plain(value))] if isinstance(value, str) else []


def _default(value: Any) -> str:
    texts = _languages(value)
    return next((text for tag, text in texts if tag == "x-default"), texts[0][1] if texts else "")


def _rfc3339(value: Any) -> str:
    text = value if isinstance(value, str) else ""
    with suppress(ValueError):
        if datetime.fromisoformat(text).year >= 1000:
            return text
    return ""


def _say(facts: dict[str, Value], name: str, value: str) -> None:
    if value:
        facts.setdefault(name, value)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _text(value: Any, utf8: bool = True) -> str:
    """A text of EXIF or IPTC: bytes are UTF-8, or Latin-1 where they are not."""
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8" if utf8 else "ascii")
        except UnicodeDecodeError:
            try:
                value = value.decode("utf-8")
            except UnicodeDecodeError:
                value = value.decode("latin-1")
    return plain(value.strip("\0 ")) if isinstance(value, str) else ""


def _utf16(value: Any) -> str:
    return plain(bytes(value).decode("utf-16-le", "ignore")) if isinstance(value, bytes | tuple) else ""
