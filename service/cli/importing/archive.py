"""A webdataset: a tar of pictures, each with texts and facts of the same name beside it. Unpacks nothing to disk."""

import json
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from service.cli.importing.items import (
    MOST_BYTES,
    SUFFIXES,
    Item,
    Left,
    Said,
    SourceFault,
    Value,
    Why,
    id_of,
    is_json,
    key_of,
    not_a_collection,
    not_read,
    plain,
    tags_of,
)

ENDS = (".tar", ".tar.gz", ".tgz")
_MOST_TEXT = 1 << 20  # bytes of a .json or .txt
_MOST_TEXTS = 64  # files of one name; together they have no more bytes than one may have
_MOST_HEADER, _MOST_GLOBAL = 64 << 10, 1_024  # bytes of one extended header; and entries of those for all members
_MOST_LISTED = 2_048  # characters of a list of texts that becomes metadata
_CAPTION_KEYS = ("caption", "text")  # in a .json
_OF_RECORDS = {*_CAPTION_KEYS, "captions", "tags", "keywords", "collection", "metadata"}


@dataclass
class _Sample:
    """The files of one name: a picture, and what is said of it."""

    name: str
    picture: tuple[str, bytes] | None = None  # its suffix and its bytes
    left: list[Left] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)  # of the texts, in bytes


class _Member(tarfile.TarInfo):
    """A member whose long names and other extended headers are bounded: they are read into memory as a whole."""

    _EXTENDED = (
        tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
    )  # fmt: skip

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:  # the entry point that subclasses may override
        if self.type in self._EXTENDED and (self.size > _MOST_HEADER or len(tar.pax_headers) > _MOST_GLOBAL):
            raise tarfile.ReadError("a header is too long")
        return super()._proc_member(tar)  # type: ignore[misc,no-any-return]


class Tar:
    """The pictures of a tar, as webdataset writes it: the files of a picture follow each other. Read once, in order.

    The name without suffix becomes the id. Texts are captions in `language`; without one, what a .txt says is the
    `description`.
    """

    def __init__(self, file: Path, said: Said, language: str | None) -> None:
        self._file, self._said, self._language = file.resolve(), said, language
        self.name = str(self._file)

    def count(self) -> None:
        """To count them, all of it would have to be read."""

    def parts(self) -> Iterator[Item | Left]:
        """As `Source.parts`."""
        sample: _Sample | None = None
        try:
            with tarfile.open(self._file, "r|*", tarinfo=_Member) as tar:
                for member in tar:
                    if (fault := _refused(member)) is not None:
                        yield fault
                        continue
                    if not member.isfile():
                        continue
                    name, suffix = _split(member.name)
                    if sample is None or sample.name != name:
                        yield from self._whole(sample)
                        sample = _Sample(name)
                    _add(sample, suffix, member, tar)
            yield from self._whole(sample)
        except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, RecursionError) as error:
            raise SourceFault(f"It is damaged, or no tar: {error}.") from error

    def _whole(self, sample: _Sample | None) -> Iterator[Item | Left]:
        if sample is None:
            return
        yield from sample.left
        if sample.picture is None:
            if not sample.left:
                yield Left(sample.name, "It has no picture.", Why.OTHER)
            return
        suffix, content = sample.picture
        place = sample.name + suffix
        said = self._record(sample).over(self._said)
        yield Item(place, id_of(sample.name), lambda: content, said=said, held=len(content))

    def _record(self, sample: _Sample) -> Said:
        facts, texts = dict(sample.facts), list(sample.texts)
        collection, nested = facts.get("collection"), facts.get("metadata")
        if isinstance(collection, str) and not_a_collection(collection) is None:
            facts.pop("collection")
        else:
            collection = None  # as metadata, if anything
        if isinstance(nested, dict):
            facts = {name: value for name, value in nested.items() if name not in _OF_RECORDS} | facts
        texts += [facts.pop(name) for name in _CAPTION_KEYS if isinstance(facts.get(name), str)]  # type: ignore[misc]
        captions: dict[str, list[str]] = {}
        given = facts.pop("captions", None)
        if isinstance(given, dict):
            captions = {
                tag: [text for text in (each if isinstance(each, list) else [each]) if isinstance(text, str)]
                for tag, each in given.items()
            }
        tags = facts.pop("tags", facts.pop("keywords", None))
        metadata: dict[str, Value] = {
            key_of(name): made for name, value in facts.items() if key_of(name) and (made := _value(value)) is not None
        }
        if self._language is not None and texts:
            captions[self._language] = list(dict.fromkeys([*captions.get(self._language, []), *texts]))
        elif texts:
            metadata.setdefault("description", plain(texts[0]))
        return Said(
            collection,
            tags_of([tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []),
            metadata,
            captions,
        )


def _value(given: object) -> Value | None:
    """As metadata; None for what cannot be, or is too much."""
    if isinstance(given, list):
        texts = [plain(each) for each in given if isinstance(each, str)]
        fits = len(texts) == len(given) and 0 < len("".join(texts)) <= _MOST_LISTED
        return texts if fits else None
    if isinstance(given, str):
        return plain(given) or None
    return given if isinstance(given, int | float | bool) else None


def _refused(member: tarfile.TarInfo) -> Left | None:
    """Why a member is not looked at: it leads out of the tar, or it is a link."""
    path = PurePosixPath(member.name)
    shown = member.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if shown != member.name:
        return Left(shown, "Its name is not UTF-8.")
    if path.is_absolute() or ".." in path.parts:
        return Left(shown, "Its path leads out of the archive.")
    if member.issym() or member.islnk():
        return Left(shown, "It is a link.")
    if path.name.startswith(".") and member.isfile():
        return Left(shown, "It is hidden.", Why.HIDDEN)
    return None


def _split(name: str) -> tuple[str, str]:
    """The name of a sample and the rest, from the first dot of the last part, as webdataset does it."""
    path = PurePosixPath(name)
    stem, dot, rest = path.name.partition(".")
    return (path.parent / stem).as_posix(), f"{dot}{rest}"


def _add(sample: _Sample, suffix: str, member: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
    is_picture = suffix.lower() in SUFFIXES
    if not is_picture and suffix.lower() not in (".json", ".txt"):
        sample.left.append(not_read(member.name))
    elif member.size > (MOST_BYTES if is_picture else _MOST_TEXT):
        most = MOST_BYTES if is_picture else _MOST_TEXT
        sample.left.append(Left(member.name, f"It has more than {most >> 20} MiB."))
    elif is_picture and sample.picture is not None:
        sample.left.append(Left(member.name, "There is another picture of this name."))
    elif not is_picture and (sum(sample.sizes) + member.size > _MOST_TEXT or len(sample.sizes) >= _MOST_TEXTS):
        sample.left.append(Left(member.name, "There is too much text of this name."))
    else:
        if not is_picture:
            sample.sizes.append(member.size)
        stream = tar.extractfile(member)
        content = b"" if stream is None else stream.read()
        if len(content) != member.size:
            raise EOFError("it ends within a file")
        if is_picture:
            sample.picture = (suffix, content)
        else:
            _text(sample, suffix.lower(), member.name, content)


def _text(sample: _Sample, suffix: str, name: str, content: bytes) -> None:
    try:
        text = content.decode("utf-8-sig")
        if suffix == ".txt":
            sample.texts += [line.strip() for line in text.splitlines() if line.strip()]
            return
        facts = json.loads(text)
    except (ValueError, RecursionError):
        facts = None
    if isinstance(facts, dict) and not is_json(facts):
        sample.left.append(Left(name, "It has half a character, or a number that is none."))
    elif isinstance(facts, dict):
        sample.facts |= facts
    else:
        sample.left.append(Left(name, "It is no JSON object." if suffix == ".json" else "It is not UTF-8."))
