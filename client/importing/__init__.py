"""What an import reads, whatever it reads it from: items with records, and the rules of a service for their texts."""

import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import PurePosixPath
from typing import Any, NamedTuple, Protocol, Self
from urllib.parse import parse_qs, urlsplit

MOST_BYTES = 256 << 20  # of one picture: a service takes no more, whatever its settings
Value = str | int | float | bool | list[str]
# What a picture's file is named; what it is, the service decides by its first bytes
SUFFIXES = {
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".jpe": "image/jpeg", ".jfif": "image/jpeg", ".png": "image/png",
    ".webp": "image/webp", ".avif": "image/avif", ".tif": "image/tiff", ".tiff": "image/tiff", ".heic": "image/heic",
    ".heif": "image/heif",
}  # fmt: skip
# What the service takes, so that nothing is sent that it would refuse a picture for
_MOST_TAGS, _LONGEST_TAG, _MOST_METADATA, _LONGEST_CAPTION, _LONGEST_ID = 64, 200, 16 << 10, 1_000, 1_024
_LONGEST_VALUE = 2_000  # characters of a value that a file has; more is cut
_NOT_IN_VALUES = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_NO_CHARACTERS = "\ud800-\udfff\ufdd0-\ufdef" + "".join(
    chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF)
)
_NOT_IN_CAPTIONS = re.compile(f"[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f{_NO_CHARACTERS}]")
_NOT_IN_IDS = re.compile(f"[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufffd{_NO_CHARACTERS}]")
_TAG = re.compile("(?=.{2,35}$)[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
# byte order marks, bidi controls and marks, soft hyphens, word joiners
_INVISIBLE = re.compile("[\ufeff\u202a-\u202e\u2066-\u2069\u061c\u200e\u200f\u00ad\u2060]")


class SourceError(Exception):
    """A source of an import cannot be read any further."""


class UnreadableError(SourceError):
    """A picture, or the file that lists pictures, cannot be read."""


class UnusableError(Exception):
    """With `--strict`, the first unusable picture ends an import."""


class StateError(Exception):
    """The file that remembers what was imported cannot be used."""


class SkipReason(Enum):
    """Why something in a source is not imported; only what is `UNUSABLE` should have been a picture."""

    HIDDEN = auto()
    OTHER = auto()
    EMPTY = auto()
    UNUSABLE = auto()


class SkippedPart(NamedTuple):
    """A part of a source that is not imported, with a sentence that says why.

    What is below the place `hides` may still be there, although it is not seen; "" is the whole source, None nothing.
    """

    place: str
    sentence: str
    reason: SkipReason = SkipReason.UNUSABLE
    hides: str | None = None


class Stamp(NamedTuple):
    """What tells, without reading it, that a file is as it was: bytes, and when it was changed in nanoseconds."""

    size: int
    changed: int

    @classmethod
    def read(cls, status: os.stat_result) -> Self:
        """Return the stamp of a file with this status."""
        return cls(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class SourceRecord:
    """What is said of a picture; what is None or empty stays as it is in the gallery."""

    collection: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Value] = field(default_factory=dict)
    captions: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def extend(self, other: "SourceRecord") -> "SourceRecord":
        """Return both together; this one's values go before the other's."""
        return SourceRecord(
            self.collection or other.collection,
            tuple(dict.fromkeys((*self.tags, *other.tags)))[:_MOST_TAGS],
            {**other.metadata, **self.metadata},
            {**other.captions, **self.captions},
        )

    def as_json(self) -> dict[str, Any]:
        """Return the body of a patch, or a record of a batch."""
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
    raises `UnreadableError`. `stamp` is None where only its bytes tell whether it has changed. `shown` is its name for
    people, where that is not its place. `whole`: `record` says everything; nothing is read from the file's metadata,
    nor said of the `file` that it is in.
    """

    place: str
    id: str
    read: Callable[[], bytes]
    stamp: Stamp | None = None
    twin: str = ""
    record: SourceRecord = field(default_factory=SourceRecord)
    shown: str = ""
    whole: bool = False
    file: Mapping[str, Value] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.shown or self.place


class Source(Protocol):
    """Something that pictures are imported from.

    `name` is the same whenever it is imported again; of a source that `is_partial`, more may be there than it shows.
    """

    name: str
    is_partial: bool

    def list_parts(self) -> Iterator[Item | SkippedPart]:
        """Yield everything in it, in an order that does not change. Raises `SourceError`."""
        ...

    def count(self) -> int:
        """Return about how many items there are."""
        ...


@dataclass(frozen=True)
class ListedPicture:
    """A picture in the gallery: its `FIELDS`, as the service lists them."""

    FIELDS = "id,url,collection,tags,metadata,own,original,etag"
    item: Mapping[str, Any]

    def has_content(self, sha256: str) -> bool:
        """Whether its bytes have this hash."""
        (shown,) = parse_qs(urlsplit(self.item["url"]).query)["v"]
        return sha256.startswith(shown)

    def compare(self, record: SourceRecord, file: SourceRecord, *, add: bool) -> dict[str, Any]:
        """Return the merge patch that makes it say `record`, and what the `file` says where it says nothing.

        With `add`, its tags and captions stay beside those of `record`. Empty when nothing is missing.
        """
        has, own = self.item["metadata"], self.item["own"]
        metadata = {key: value for key, value in record.metadata.items() if has.get(key) != _normalize(value)}
        missing = {key: value for key, value in file.metadata.items() if key not in has and key not in metadata}
        captions = dict[str, list[str]]()
        for tag, texts in record.captions.items():
            said, known = {clean_caption(text) or text for text in texts}, {*own.get(tag, ())}
            if not (said <= known if add else said == known):
                captions[tag] = [*dict.fromkeys([*(own.get(tag, ()) if add else ()), *texts])]
        patch: dict[str, Any] = {
            "metadata": {**trim_metadata(missing, {**has, **metadata}), **metadata},
            "captions": {tag: [*texts] for tag, texts in file.captions.items() if tag not in own} | captions,
        }
        if record.collection not in (None, self.item["collection"]):
            patch["collection"] = record.collection
        if (tags := self._merge_tags(record, file, add)) != self.item["tags"]:
            patch["tags"] = tags
        return {name: part for name, part in patch.items() if part}

    def _merge_tags(self, record: SourceRecord, file: SourceRecord, add: bool) -> list[str]:
        has: list[str] = self.item["tags"]
        own, written = (_normalize([*tags]) for tags in (record.tags, file.tags))
        if not own:
            return has or list(written)
        kept = has if add else [tag for tag in written if tag in has]
        return list(dict.fromkeys([*kept, *own] if add else [*own, *kept]))[:_MOST_TAGS]

    def merge(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return the record for another content of this picture: the document's values go before what it has."""
        over = dict(document)
        for name, own in (("metadata", self.item["metadata"]), ("captions", self.item["own"])):
            if name in over:
                over[name] = {**own, **over[name]}
        if "tags" in over:
            over["tags"] = list(dict.fromkeys([*self.item["tags"], *_normalize(over["tags"])]))[:_MOST_TAGS]
        return over


def normalize_id(place: str) -> str:
    """Return the id of a picture that is named like this in its source: Unicode's composed form."""
    return unicodedata.normalize("NFC", place)


def check_id(text: str) -> str:
    """Return an id as the service has it; raises `UnreadableError` where no picture can have it."""
    id = normalize_id(text)
    parts = {"", ".", ".."} & {*id.split("/")}
    if parts or id.startswith(".") or _NOT_IN_IDS.search(id) or len(id.encode()) > _LONGEST_ID:
        raise UnreadableError(
            f"Its name cannot be an id: an id has 1 to {_LONGEST_ID:,} bytes in UTF-8, no control characters, no dot "
            "first, and no part between slashes that is empty or `..`."
        )
    return id


def derive_ids(place: str) -> tuple[str, str]:
    """Return the id of a picture in a file: its path without the suffix; and with it, where another one has that id."""
    return normalize_id(str(PurePosixPath(place).with_suffix(""))), normalize_id(place)


def describe_file(path: PurePosixPath, top: str = "") -> dict[str, Value]:
    """Return as metadata how a file is called, and in which folder it is: `top`, where the path names none."""
    folder = top if path.parent == PurePosixPath() else str(path.parent)
    facts = {"file_name": clean_value(path.name), "folder": clean_value(folder)}
    return {key: value for key, value in facts.items() if value}


def clean_tags(texts: Sequence[str]) -> tuple[str, ...]:
    """Return texts as tags: each once, without controls and blanks around them, none too long."""
    cleaned = dict.fromkeys(clean_value(text) for text in texts)
    return tuple(text for text in cleaned if 0 < len(text) <= _LONGEST_TAG)[:_MOST_TAGS]


def clean_captions(given: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return captions as the service keeps them, without those that it refuses, and without tags of no language."""
    captions: dict[str, list[str]] = {}
    for tag, texts in given.items():
        if (normalized := normalize_tag(tag)) is not None:
            captions.setdefault(normalized, []).extend(filter(None, map(clean_caption, texts)))
    return {tag: list(dict.fromkeys(texts)) for tag, texts in captions.items() if texts}


def clean_caption(text: str) -> str:
    """Return a caption as the service keeps it; empty for one that it refuses."""
    cleaned = " ".join(unicodedata.normalize("NFC", _INVISIBLE.sub("", text)).split())
    has_word = any(unicodedata.category(character)[0] in "LNSM" for character in cleaned)
    return cleaned if has_word and len(cleaned) <= _LONGEST_CAPTION and not _NOT_IN_CAPTIONS.search(text) else ""


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


def trim_metadata(metadata: Mapping[str, Value], beside: Mapping[str, Value] | None = None) -> dict[str, Value]:
    """Return metadata without its longest values, as far as it would be too long together with what is `beside`."""
    lengths = {key: _measure(key, value) for key, value in metadata.items()}
    others = sum(_measure(key, value) for key, value in (beside or {}).items() if key not in lengths)
    room = _MOST_METADATA - 2 - others - sum(lengths.values())
    kept = dict(metadata)
    for key in sorted(lengths, key=lambda key: -lengths[key]):
        if room >= 0:
            break
        room += lengths[key]
        del kept[key]
    return kept


def _measure(key: str, value: Value) -> int:
    """Return the bytes of an entry of compact JSON, with its comma."""
    text = json.dumps({key: value}, ensure_ascii=False, separators=(",", ":"))
    return len(unicodedata.normalize("NFC", text).encode()) - 1


def _normalize(value: Any) -> Any:
    """Return a value of a record as the service keeps it."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    return list(dict.fromkeys(map(_normalize, value))) if isinstance(value, list) else value


def is_json(value: object) -> bool:
    """Whether JSON in UTF-8 can say it: no half of a character is in it, and no number that is none."""
    with suppress(ValueError, RecursionError):
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        return True
    return False


def clean_value(text: str) -> str:
    """Return a text without what no record may have, cut where it is too long."""
    return _NOT_IN_VALUES.sub("", text).strip()[:_LONGEST_VALUE].strip()


def derive_key(name: str) -> str:
    """Return a name as a key of metadata: `Inv. No.` is `inv_no`; empty when nothing of it is left."""
    ascii_ = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9_]+", "_", ascii_).strip("_")[:64]
