"""What an import reads, whatever it reads it from: items, and what is left out. Reads and sends nothing."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePosixPath
from typing import NamedTuple, Protocol

from ..output import counted

MOST_BYTES = 256 << 20  # of one picture: a service takes no more, whatever its settings
Value = str | int | float | bool | list[str]
# What a picture's file is named; what it is, the service decides by its first bytes
SUFFIXES = {
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".jpe": "image/jpeg", ".jfif": "image/jpeg", ".png": "image/png",
    ".webp": "image/webp", ".avif": "image/avif", ".tif": "image/tiff", ".tiff": "image/tiff", ".heic": "image/heic",
    ".heif": "image/heif",
}  # fmt: skip
# Other formats of pictures: drawings, older and newer ones, those of programs, and raw files of cameras
_OTHER_FORMATS = frozenset({
    ".jxl", ".svg", ".svgz", ".gif", ".bmp", ".ico", ".jp2", ".j2k", ".jpx", ".jxr", ".psd", ".psb", ".xcf", ".eps",
    ".tga", ".dds", ".exr", ".hdr", ".pcx", ".ppm", ".pgm", ".pbm", ".pnm", ".dng", ".cr2", ".cr3", ".crw", ".nef",
    ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef", ".srw", ".x3f", ".3fr", ".iiq", ".erf", ".kdc",
    ".mrw", ".raw",
})  # fmt: skip
_COLLECTION = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")  # as the service takes it
_LONGEST_VALUE = 2_000  # characters
# What the service takes, so that nothing is sent that it would refuse a picture for
MOST_TAGS, _LONGEST_TAG, _MOST_METADATA, _LONGEST_CAPTION, _LONGEST_ID = 64, 200, 16 << 10, 1_000, 1_024
_IN_NO_VALUE = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_NO_CHARACTERS = "\ud800-\udfff\ufdd0-\ufdef" + "".join(
    chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF)
)
_IN_NO_CAPTION = re.compile(f"[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f{_NO_CHARACTERS}]")
_IN_NO_ID = re.compile(f"[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufffd{_NO_CHARACTERS}]")
_TAG = re.compile("(?=.{2,35}$)[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
_INVISIBLE = re.compile("[\ufeff\u202a-\u202e\u2066-\u2069]")  # byte order marks, bidi controls


class Why(Enum):
    """Why something of a source is not imported. Only `UNUSABLE` and `UNSETTLED` are faults."""

    HIDDEN = "hidden files"
    FORMAT = "pictures of formats that are not read"
    OTHER = "files that are no pictures"
    EMPTY = "empty folders"
    UNUSABLE = "unusable"
    UNSETTLED = "still being written"

    def of(self, count: int) -> str:
        """So many of them, in words."""
        return counted(count, _ONE.get(self, self.value), self.value)


_ONE = {
    Why.HIDDEN: "hidden file",
    Why.FORMAT: "picture of a format that is not read",
    Why.OTHER: "file that is no picture",
}


class Left(NamedTuple):
    """A part of a source that is not imported, with a sentence that says why.

    What is below the place `hides` may still be there, although it is not seen; "" is the whole source, None nothing.
    """

    place: str
    reason: str
    why: Why = Why.UNUSABLE
    hides: str | None = None

    @property
    def is_fault(self) -> bool:
        """Whether it should have been a picture."""
        return self.why in (Why.UNUSABLE, Why.UNSETTLED)


def not_read(place: str) -> Left:
    """A file of none of the `SUFFIXES`: another format of pictures, or no picture at all."""
    suffix = PurePosixPath(place).suffix.lower()
    if suffix in _OTHER_FORMATS:
        return Left(place, f"It is a picture of a format that is not read ({suffix}).", Why.FORMAT)
    return Left(place, "It is no picture.", Why.OTHER)


class Unreadable(Exception):
    """An item cannot be read; the argument is a sentence."""

    def __init__(self, reason: str, why: Why = Why.UNUSABLE) -> None:
        super().__init__(reason)
        self.reason, self.why = reason, why


class SourceFault(Exception):
    """A source cannot be read any further; the argument is a sentence."""


class Stamp(NamedTuple):
    """What tells, without reading it, that a file is as it was: bytes, and when it was changed in nanoseconds."""

    size: int
    changed: int


@dataclass(frozen=True)
class Said:
    """What is said of a picture; what is None or empty is not said, and stays as it is in the gallery."""

    collection: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Value] = field(default_factory=dict)
    captions: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def over(self, other: "Said") -> "Said":
        """Both together: this one's words come first, tags of both."""
        return Said(
            self.collection or other.collection,
            tuple(dict.fromkeys((*self.tags, *other.tags)))[:MOST_TAGS],
            {**other.metadata, **self.metadata},
            {**other.captions, **self.captions},
        )

    def document(self) -> dict[str, object]:
        """As JSON, without what is not said: the body of a patch, a record of a batch."""
        parts = {
            "collection": self.collection,
            "tags": list(self.tags),
            "metadata": dict(self.metadata),
            "captions": {tag: list(texts) for tag, texts in self.captions.items()},
        }
        return {name: part for name, part in parts.items() if part}


@dataclass(frozen=True)
class Item:
    """One picture of a source.

    `place` names it there and is stable; `twin` is its id where another picture has `id`. `read` gives its bytes, or
    raises `Unreadable`. `stamp` is None where only its bytes tell whether it has changed. `shown` is how people are
    told of it, where that is not its place. `whole`: `said` is all there is to say of it; nothing is
    read from the file.
    """

    place: str
    id: str
    read: Callable[[], bytes]
    stamp: Stamp | None = None
    twin: str = ""
    said: Said = field(default_factory=Said)
    shown: str = ""
    whole: bool = False


class Source(Protocol):
    """Something that pictures are imported from. `name` is the same whenever it is imported again."""

    name: str

    def parts(self) -> Iterator[Item | Left]:
        """Everything in it, in an order that does not change. Raises `SourceFault`."""
        ...

    def count(self) -> int:
        """About how many items there are."""
        ...


def id_of(place: str) -> str:
    """The id of a picture that is named like this in its source: the name in Unicode's composed form."""
    return unicodedata.normalize("NFC", place)


def check_id(text: str) -> str:
    """Return an id as the service has it; raises `Unreadable` where no picture can have it."""
    id = id_of(text)
    parts = {"", ".", ".."} & {*id.split("/")}
    if parts or id.startswith(".") or _IN_NO_ID.search(id) or len(id.encode()) > _LONGEST_ID:
        raise Unreadable(
            f"It has no possible id: one has 1 to {_LONGEST_ID:,} bytes in UTF-8, no control characters, no dot first, "
            "and no part between slashes that is empty or `..`."
        )
    return id


def ids_of(place: str) -> tuple[str, str]:
    """The id of a picture in a file: its path without the suffix; and with it, where another one has that id."""
    return id_of(str(PurePosixPath(place).with_suffix(""))), id_of(place)


def not_a_collection(name: str) -> str | None:
    """Why no collection can have this name; None when one can."""
    if _COLLECTION.fullmatch(name):
        return None
    return "A collection's name has 1 to 128 letters A–Z or a–z, digits, and . _ -, no dot first."


def tags_of(texts: Sequence[str]) -> tuple[str, ...]:
    """Texts as tags: without controls and blanks around them, each once, without those that are too long."""
    cleaned = dict.fromkeys(plain(text) for text in texts)
    return tuple(text for text in cleaned if 0 < len(text) <= _LONGEST_TAG)[:MOST_TAGS]


def captions_of(given: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Captions as the service keeps them, each once, without those that it refuses, and without tags of no language."""
    captions: dict[str, list[str]] = {}
    for tag, texts in given.items():
        if (normalized := normalize_tag(tag)) is not None:
            captions.setdefault(normalized, []).extend(filter(None, map(clean_caption, texts)))
    return {tag: list(dict.fromkeys(texts)) for tag, texts in captions.items() if texts}


def clean_caption(text: str) -> str:
    """Return a caption as the service keeps it; empty for one that it refuses."""
    cleaned = " ".join(unicodedata.normalize("NFC", _INVISIBLE.sub("", text)).split())
    has_word = any(unicodedata.category(character)[0] in "LNSM" for character in cleaned)
    return cleaned if has_word and len(cleaned) <= _LONGEST_CAPTION and not _IN_NO_CAPTION.search(text) else ""


def normalize_tag(tag: str) -> str | None:
    """Return the canonical form of a BCP 47 tag; None for what is no tag of one language."""
    import langcodes  # late: help needs no languages

    try:
        language = langcodes.Language.get(tag.strip(), normalize=True) if _TAG.fullmatch(tag.strip()) else None
    except ValueError:
        return None
    if language is None or language.language in (None, "mul", "zxx") or not language.is_valid():
        return None
    return language.to_tag()


def fitting(metadata: Mapping[str, Value], beside: Mapping[str, Value] | None = None) -> dict[str, Value]:
    """Metadata without its longest values, so many that the rest is not too long together with what is `beside`."""
    lengths = {key: _length(key, value) for key, value in metadata.items()}
    others = {key: value for key, value in (beside or {}).items() if key not in lengths}
    room = _MOST_METADATA - 2 - sum(_length(key, value) for key, value in others.items()) - sum(lengths.values())
    kept = dict(metadata)
    for key in sorted(lengths, key=lambda key: -lengths[key]):
        if room >= 0:
            break
        room += lengths[key]
        del kept[key]
    return kept


def _length(key: str, value: Value) -> int:
    """Bytes of an entry of compact JSON, with its comma."""
    text = json.dumps({key: value}, ensure_ascii=False, separators=(",", ":"))
    return len(unicodedata.normalize("NFC", text).encode()) - 1


def is_json(value: object) -> bool:
    """Whether JSON in UTF-8 can say it: no half of a character is in it, and no number that is none."""
    with suppress(ValueError, RecursionError):
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        return True
    return False


def plain(text: str) -> str:
    """A text without what no record may have; cut where it is longer than a value should be."""
    return _IN_NO_VALUE.sub("", text).strip()[:_LONGEST_VALUE].strip()


def key_of(name: str) -> str:
    """A name as a key of metadata: `Inv. No.` is `inv_no`; empty when nothing of it is left."""
    ascii_ = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9_]+", "_", ascii_).strip("_")[:64]
