"""What files say of themselves: blocks as programs write them, and blocks that are long, damaged or without sense."""

import io
import random
import struct
import time
import zlib
from typing import Any

import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from client.importing.exif import read_metadata
from tests.service.harness import motif, picture

XMP = """<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
 xmlns:exif="http://ns.adobe.com/exif/1.0/" photoshop:City="Chur" exif:DateTimeOriginal="1950-06-01T10:00:00+01:00">
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">The old bridge</rdf:li>
<rdf:li xml:lang="de">Die alte Brücke</rdf:li></rdf:Alt></dc:title>
<dc:subject><rdf:Bag><rdf:li>bridge</rdf:li><rdf:li>river</rdf:li></rdf:Bag></dc:subject>
</rdf:Description></rdf:RDF></x:xmpmeta>"""
BOMB = '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><x:xmpmeta xmlns:x="adobe:ns:meta/">&c;</x:xmpmeta>'


def make_exif(**more: Any) -> Image.Exif:
    block = Image.Exif()
    block[0x010E] = more.get("description", "A bridge over the river")
    block[0x0110], block[0x013B] = "Camera X", "Ana"
    block[0x9C9E] = "wood;stone\0".encode("utf-16-le")
    inner = block.get_ifd(0x8769)
    inner[0x9003], inner[0x9011] = more.get("taken", "1999:12:31 23:59:58"), "+02:00"
    gps = block.get_ifd(0x8825)
    gps.update({1: "N", 2: (46.0, 51.0, 0.0), 3: more.get("east", "E"), 4: more.get("degrees", (9.0, 31.0, 48.0))})
    return block


def make_tiff() -> ImageFileDirectory_v2:
    """Return it as the first directory of a TIFF: Pillow leaves the inner ones out when it is given as `exif`."""
    block, directory = make_exif(), ImageFileDirectory_v2()
    for tag, value in block.items():
        directory[tag] = value
    for tag in (0x8769, 0x8825):
        directory[tag] = block.get_ifd(tag)
    return directory


def make_iptc(**records: bytes | list[bytes]) -> bytes:
    """Return the resource 0x0404 of a JPEG's APP13, with these records of the second group by number (`r25`)."""
    data = b"".join(
        struct.pack(">BBBH", 0x1C, 2, int(name[1:]), len(each)) + each
        for name, value in records.items()
        for each in (value if isinstance(value, list) else [value])
    )
    block = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"\xff\xed" + struct.pack(">H", len(block) + 2) + block


def make_jpeg_with_iptc(**records: bytes | list[bytes]) -> bytes:
    jpeg = picture(1, format="JPEG")
    return jpeg[:2] + make_iptc(**records) + jpeg[2:]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_what_a_camera_writes_becomes_metadata_and_tags_in_every_format(format: str) -> None:
    save: dict[str, Any] = {"tiffinfo": make_tiff()} if format == "TIFF" else {"exif": make_exif()}
    said = read_metadata(picture(1, format=format, **save))
    assert said.metadata == {
        "taken_at": "1999-12-31T23:59:58+02:00", "latitude": 46.85, "longitude": 9.53, "camera": "Camera X",
        "creator": "Ana", "description": "A bridge over the river",
    }  # fmt: skip
    assert (said.tags, said.captions) == (("wood", "stone"), {})


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_xmp_is_believed_before_exif_and_its_languages_are_captions(format: str) -> None:
    save: dict[str, Any] = {"xmp": XMP.encode()}
    if format == "PNG":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP)
        save = {"pnginfo": info}
    save |= {"tiffinfo": {700: XMP.encode()}} if format == "TIFF" else {"exif": make_exif()}
    said = read_metadata(picture(1, format=format, **save), "en")
    assert said.metadata["title"] == "The old bridge" and said.metadata["city"] == "Chur"
    assert said.metadata["taken_at"] == "1950-06-01T10:00:00+01:00"
    assert said.tags[:2] == ("bridge", "river")
    assert said.captions["de"] == ["Die alte Brücke"] and said.captions["en"][0] == "The old bridge"


def test_iptc_gives_city_country_keywords_and_title_in_either_encoding() -> None:
    for text, coded in (("Zürich", "Zürich".encode()), ("Zürich", "Zürich".encode("latin-1"))):
        said = read_metadata(
            make_jpeg_with_iptc(r5=b"A town", r25=[b"lake", b"boat"], r90=coded, r101=b"Switzerland", r120=b"By a lake")
        )
        assert (said.metadata["city"], said.metadata["country"]) == (text, "Switzerland")
        assert (said.metadata["title"], said.metadata["description"]) == ("A town", "By a lake")
        assert said.tags == ("lake", "boat")


def test_languages_that_are_none_and_texts_without_a_word_are_no_captions() -> None:
    xmp = XMP.replace(
        'xml:lang="de">', 'xml:lang="x-repair">x</rdf:li><rdf:li xml:lang="fr">--</rdf:li><rdf:li xml:lang="deu">'
    )
    said = read_metadata(picture(1, format="JPEG", xmp=xmp.encode()), "en")
    assert said.captions == {"de": ["Die alte Brücke"], "en": ["The old bridge"]}


def test_captions_are_only_made_when_their_language_is_given() -> None:
    content = picture(1, format="JPEG", exif=make_exif())
    assert read_metadata(content).captions == {}
    assert read_metadata(content, "fr").captions == {"fr": ["A bridge over the river"]}


@pytest.mark.parametrize(
    ("block", "missing"),
    [
        (make_exif(taken="0000:00:00 00:00:00"), "taken_at"),
        (make_exif(taken="    :  :     :  :  "), "taken_at"),
        (make_exif(taken="2024:13:45 99:00:00"), "taken_at"),
        (make_exif(degrees=(999.0, 0.0, 0.0)), "longitude"),
        (make_exif(degrees=(9.0, 31.0)), "latitude"),
        (make_exif(description="OLYMPUS DIGITAL CAMERA"), "description"),
        (make_exif(description="KONICA MINOLTA DIGITAL CAMERA"), "description"),
    ],
)
def test_what_makes_no_sense_is_left_out_and_the_rest_is_read(block: Image.Exif, missing: str) -> None:
    said = read_metadata(picture(1, format="JPEG", exif=block))
    assert missing not in said.metadata and said.metadata["camera"] == "Camera X"


def test_blocks_that_are_too_long_are_left_out_in_no_time() -> None:
    """A WebP with 64 MB of EXIF, a JPEG with as much in pieces, a PNG with as much that is packed, and an XML bomb."""
    webp = picture(1, format="WEBP", exif=make_exif())
    place = webp.index(b"EXIF")
    long = webp[:place] + b"EXIF" + struct.pack("<I", 64 << 20) + b"\0" * (64 << 20)
    png, packed = picture(1), b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b" " * (64 << 20))
    chunk = struct.pack(">I", len(packed)) + b"iTXt" + packed + struct.pack(">I", zlib.crc32(b"iTXt" + packed))
    jpeg, piece = picture(1, format="JPEG", exif=make_exif()), b"\xff\xe1\xff\xffExif\0\0" + bytes(65_527)
    began = time.thread_time()
    assert read_metadata(long).metadata == {}
    assert read_metadata(jpeg[:2] + piece * 1_024 + jpeg[2:]).metadata == {}
    assert read_metadata(png[:33] + chunk + png[33:]).metadata == {}
    assert (
        read_metadata(picture(1, format="JPEG", xmp=BOMB.encode(), exif=make_exif()), "en").metadata["creator"] == "Ana"
    )
    assert time.thread_time() - began < 3


def test_no_damage_raises_anything() -> None:
    """Bytes changed at random in files with every block, and files that end early."""
    xmp: dict[str, Any] = {"xmp": XMP.encode()}
    whole = [
        picture(1, format=format, exif=make_exif(), **(xmp if format in ("JPEG", "WEBP") else {}))
        for format in ("JPEG", "PNG", "WEBP", "TIFF")
    ] + [make_jpeg_with_iptc(r25=[b"lake"], r90=b"Chur")]
    chance = random.Random(0)
    for content in whole * 60:
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 20)):
            damaged[chance.randrange(min(len(damaged), 1_500))] = chance.randrange(256)
        read_metadata(bytes(damaged[: chance.randrange(len(damaged)) or None]), "en")


def test_a_picture_without_anything_says_nothing() -> None:
    buffer = io.BytesIO()
    motif(3).save(buffer, "PNG")
    for content in (buffer.getvalue(), b"", b"no picture", b"RIFF\0\0\0\0WEBPEXIF"):
        said = read_metadata(content, "en")
        assert (said.metadata, said.tags, said.captions) == ({}, (), {})
