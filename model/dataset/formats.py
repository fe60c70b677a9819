"""The published file formats of caption datasets, as one stream of raw records. Does not clean or judge them.

The format is recognised by the content, never by a file name. Memory is bounded by one line or entry; for COCO by the
names of its images, and by the annotations where these stand before the images.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any

import ijson
from langcodes import standardize_tag
from langcodes.tag_parser import LanguageTagError

from model.dataset.tables import (
    BYTE_ORDER_MARK,
    CELLS,
    ENTRY,
    GZIP,
    MAX_LINE,
    NO_ROW,
    NOT_UTF8,
    PAIR,
    PARTS,
    clean_header,
    is_separator_line,
    open_content,
    open_seekable,
    read_lines,
    read_parquet,
    read_quoted,
    read_spreadsheet,
    read_tabbed,
    read_word_list,
    refuse,
)
from store.errors import UnsupportedMedia

_ASKED = "pictures"  # column of a sheet of words that a gallery asks for
_BETWEEN_ANSWERS = re.compile("[,;\u060c\u061b\u3001\uff0c\uff1b]")  # commas and semicolons of several scripts
SHEET, UNANSWERED = "sheet", "unanswered"  # that format, and the kind of a row that is not filled in: no fault
_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"Rar!")
_IN_SPREADSHEETS = (b"xl/workbook", b"xl/worksheets", b"opendocument.spreadsheet")  # names in a zip: Excel, LibreOffice
_IN_DOCUMENTS = (b"word/", b"opendocument.text")  # Word, LibreOffice
_LIST = re.compile(rb"\[\s*(\{.*)?", re.DOTALL)  # the first line of a JSON list of objects
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_PARQUET = b"PAR1"
_OLD_EXCEL = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
SPREADSHEET = "spreadsheet"


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One row as it is in the file; `line` counts from 1 (rows for Parquet, annotations for COCO)."""

    line: int
    caption: object
    english: object = None
    picture: object = None
    split: object = None
    pivots: tuple[object, ...] = ()  # forms of the pivot, {"language": tag, "text": text}: as an object, from two cells


@dataclass(frozen=True, slots=True)
class RawEntry:
    """One entry of a dictionary as it is in the file; `line` counts from 1."""

    line: int
    word: object
    glosses: object
    pos: object
    forms: object


@dataclass(frozen=True, slots=True)
class RowFault:
    """One row that cannot be parsed."""

    line: int
    kind: str


Records = Iterator[RawRecord | RowFault]


def read_records(path: Path, *, language: str | None) -> tuple[str, Records]:
    """Return the format's name and its records; `language` chooses the language of XM3600, which holds many.

    Raises `UnsupportedMedia` and `DatasetInvalid`, also while records are taken: a large file is read piece by piece.
    """
    with open_content(path) as stream:
        head = stream.read(MAX_LINE + 1)
    name = _recognise(head)
    return name, _read_content(path, _READERS[name], language)


def read_entries(path: Path) -> Iterator[RawEntry | RowFault]:
    """Read a dictionary's entries, JSON in lines or rows of a sheet; raises `UnsupportedMedia` and `DatasetInvalid`."""
    with open_content(path) as stream:
        form = _recognise(stream.read(MAX_LINE + 1))
    if form not in ("jsonl", SPREADSHEET):
        refuse("wrong_columns", f"a dictionary is sent as JSON lines; write one entry in each: `{ENTRY}`", 1)
    with open_content(path) as stream:
        if form == SPREADSHEET:
            with open_seekable(stream) as source:
                yield from (
                    RawEntry(number, word, glosses, None, None) for number, word, glosses in read_word_list(source)
                )
            return
        for number, value in _read_objects(stream):
            if isinstance(value, str):
                yield RowFault(number, value)
            else:
                yield RawEntry(number, *(value.get(key) for key in ("word", "glosses", "pos", "forms")))


def _read_content(path: Path, reader: "Reader", language: str | None) -> Records:
    with open_content(path) as stream:
        yield from reader(stream, language)


def _recognise(head: bytes) -> str:
    if head.startswith(_ARCHIVES) or head[257:262] == b"ustar" or head.startswith(GZIP):
        if head.startswith(b"PK") and any(name in head for name in _IN_SPREADSHEETS):
            return SPREADSHEET
        if head.startswith(b"PK") and any(name in head for name in _IN_DOCUMENTS):
            raise UnsupportedMedia(
                "text documents are not read; put the pairs into a spreadsheet, below `caption` and `english`, and "
                "send that"
            )
        raise UnsupportedMedia("archives are not read; send the file itself, optionally with gzip")
    if head.startswith(_OLD_EXCEL):
        return SPREADSHEET
    if head.startswith(_UTF16):
        refuse("not_utf8", NOT_UTF8)
    if head.startswith(_PARQUET):
        return "parquet"
    lines = (line.strip(b" ") for line in head.removeprefix(BYTE_ORDER_MARK).splitlines() if line.strip())
    first = next((line for line in lines if not is_separator_line(line.decode("latin-1"))), None)
    if first is None:
        refuse("no_rows", NO_ROW)
    if first.startswith(b"{"):
        return _recognise_json(first, head)
    if _LIST.fullmatch(first):
        refuse(
            "malformed_json",
            f"a JSON list is not read: write one object in each line, without the brackets and "
            f"commas around them: `{PAIR}`",
            1,
        )
    columns = clean_header(re.split("[,;\t]", first.decode("utf-8", "replace")))
    if _ASKED in columns and "caption" in columns and "picture" not in columns:
        return SHEET
    cells = clean_header(first.decode("utf-8", "replace").split("\t"))
    if b"\t" in first and "caption" not in cells and len(cells) == 2:
        return "parallel"
    return "tsv" if b"\t" in first else "csv"


def _recognise_json(first: bytes, head: bytes) -> str:
    try:
        keys = set(json.loads(first))
    except (ValueError, RecursionError):  # a document over many lines, a cut one, or a faulty row
        return "coco" if b'"annotations"' in head or b'"images"' in head else "jsonl"
    return "coco" if "annotations" in keys else "xm3600" if "image/key" in keys else "jsonl"


def _read_objects(stream: BufferedReader) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield the object of each line; where there is none, the kind of that fault."""
    for number, line in read_lines(stream):
        value = None
        with suppress(ValueError, RecursionError):
            value = json.loads(line)
        yield number, value if isinstance(value, dict) else "malformed_json"


def _read_xm3600(stream: BufferedReader, language: str | None) -> Records:
    """Read one line a picture: `image/key` and, for each language, `{"caption": [...]}`.

    Its English was written by others about the same picture and translates nothing, so it is not taken as a pair.
    """
    for number, value in _read_objects(stream):
        if isinstance(value, str) or (key := value.get("image/key")) is None:
            yield RowFault(number, "malformed_json")
            continue
        if value.keys() & {"pivot", *CELLS}:
            refuse("wrong_columns", "an XM3600 file has no pivots; send JSON lines with `caption` and `pivot`", number)
        texts = [value[tag] for tag in value if isinstance(value[tag], dict) and _is_same_language(tag, language)]
        captions = texts[0].get("caption", []) if texts else []
        for caption in captions if isinstance(captions, list) else [captions]:
            yield RawRecord(number, caption, None, key, value.get("split"))


def _is_same_language(tag: str, language: str | None) -> bool:
    if language is None or tag == language:
        return tag == language
    try:
        return standardize_tag(tag) == language
    except LanguageTagError:
        return False


def _read_coco(stream: BufferedReader, language: str | None) -> Records:
    """Read `annotations: [{image_id, caption}]`.

    The picture is the name of the image's file without its suffix, which is the id under which the gallery has it;
    otherwise the image's id as text.
    """
    names: dict[object, str] = {}
    waiting: list[object] = []  # annotations that stand before the images
    named, number = False, 0
    for of, entry in read_coco_entries(stream):
        if of == IMAGES:
            named = True
            names.update(_read_file_name(entry))
        elif not named:
            waiting.append(entry)
        else:
            number += 1
            yield _make_coco_record(number, entry, names)
    for place, entry in enumerate(waiting, number + 1):
        yield _make_coco_record(place, entry, names)


def _make_coco_record(number: int, entry: object, names: Mapping[object, str]) -> RawRecord | RowFault:
    if not isinstance(entry, dict):
        return RowFault(number, "malformed_json")
    image = entry.get("image_id")
    return _make_record(number, {**entry, "picture": names.get(image, image) if type(image) in (int, str) else image})


def _read_file_name(image: object) -> dict[object, str]:
    """Return the name without folder and suffix of the image's file, by the image's id; empty where one is missing."""
    if not isinstance(image, dict):
        return {}
    id, file = image.get("id"), image.get("file_name")
    return {id: PurePosixPath(file).stem} if type(id) in (int, str) and isinstance(file, str) and file else {}


def _read_parallel(stream: BufferedReader, language: str | None) -> Records:
    for number, line in read_lines(stream):
        if number == 1 and is_separator_line(line):
            continue
        cells = line.split("\t")
        yield RawRecord(number, cells[1], cells[0]) if len(cells) == 2 else RowFault(number, "wrong_field_count")


def _read_table(rows: Iterable[tuple[int, Mapping[str, Any] | str]], *, may_ask: bool = False) -> Records:
    """Read rows of a table; it `may_ask` for words of a gallery, whose pictures were shown, and no more."""
    for line, row in rows:
        if isinstance(row, str):
            yield RowFault(line, row)
        elif may_ask and _ASKED in row and "picture" not in row:
            yield from _split_answers(line, row)
        else:
            yield _make_record(line, row)


def _read_sheet(stream: BufferedReader, language: str | None) -> Records:
    is_tabbed = b"\t" in stream.peek(MAX_LINE).partition(b"\n")[0]
    yield from _read_table(read_tabbed(stream) if is_tabbed else read_quoted(stream), may_ask=True)


def _read_spreadsheet(stream: BufferedReader, language: str | None) -> Records:
    with open_seekable(stream) as source:
        yield from _read_table(read_spreadsheet(source), may_ask=True)


def _split_answers(line: int, row: Mapping[str, str | None]) -> Records:
    """Yield a record for each answer to one word; commas may separate several."""
    answers = [text.strip() for text in _BETWEEN_ANSWERS.split(row.get("caption") or "")]
    pairs = [RawRecord(line, answer, row.get("english"), split=row.get("split")) for answer in answers if answer]
    yield from pairs if pairs and row.get("english") else [RowFault(line, UNANSWERED)]


def _make_record(line: int, row: Mapping[str, object]) -> RawRecord:
    pivots = row.get("pivot"), {part: row.get(f"pivot_{part}") for part in PARTS}
    return RawRecord(line, row.get("caption"), row.get("english"), row.get("picture"), row.get("split"), pivots)


Reader = Callable[[BufferedReader, str | None], Records]
_READERS: dict[str, Reader] = {
    "jsonl": lambda stream, _: _read_table(_read_objects(stream)),
    "xm3600": _read_xm3600,
    "coco": _read_coco,
    "parallel": _read_parallel,
    SHEET: _read_sheet,
    "tsv": lambda stream, _: _read_table(read_tabbed(stream)),
    "csv": lambda stream, _: _read_table(read_quoted(stream)),
    "parquet": lambda stream, _: _read_table(read_parquet(stream)),
    SPREADSHEET: _read_spreadsheet,
}


IMAGES, ANNOTATIONS = "images", "annotations"
MAX_DEPTH = 32  # of lists and objects in one another; the published documents have 5
MAX_VALUES = 100_000  # of one entry; the outline of an object may have some thousand numbers
_CHUNK = 1 << 16  # bytes
_STARTS, _ENDS = frozenset({"start_map", "start_array"}), frozenset({"end_map", "end_array"})
_NOT_WHOLE = 'the file is not a whole COCO captions document, {"images": [...], "annotations": [...]}; get it once more'


def read_coco_entries(stream: BufferedReader) -> Iterator[tuple[str, Any]]:
    """Yield the name of the list, `images` or `annotations`, and the entry, in the order of a COCO document.

    The list of images itself is one with the entry None, so that its place is known where it is empty.
    """
    depth, key, annotated = 0, "", False
    builder, values = ijson.ObjectBuilder(), 0
    for event, value in _read_events(stream):
        depth += (event in _STARTS) - (event in _ENDS)
        if depth > MAX_DEPTH:
            refuse("malformed_json", f"lists and objects stand in one another more than {MAX_DEPTH} deep")
        if depth == 1 and event == "map_key":
            key = value
        elif key == ANNOTATIONS and not annotated:
            if event != "start_array":
                refuse(
                    "wrong_columns",
                    'a COCO captions document holds a list: "annotations": [{"image_id": 1, "caption": "roter Apfel"}]',
                )
            annotated = True
        elif key == IMAGES and (depth, event) == (2, "start_array"):
            yield key, None
        elif key in (IMAGES, ANNOTATIONS) and depth > 1 and (depth, event) != (2, "start_array"):
            builder.event(event, value)
            values += 1
            if values > MAX_VALUES:
                refuse("line_too_long", f"an image or annotation may have at most {MAX_VALUES:,} values")
            if depth == 2:  # the entry is complete
                yield key, builder.value
                builder, values = ijson.ObjectBuilder(), 0
    if not annotated:
        refuse("malformed_json", _NOT_WHOLE)


def _read_events(stream: BufferedReader) -> Iterator[tuple[str, Any]]:
    if stream.peek(len(BYTE_ORDER_MARK)).startswith(BYTE_ORDER_MARK):
        stream.read(len(BYTE_ORDER_MARK))
    try:
        yield from ijson.basic_parse(stream, use_float=True, buf_size=_CHUNK)
    except (ijson.JSONError, UnicodeDecodeError) as error:
        if isinstance(error, UnicodeDecodeError) or "UTF8" in str(error):
            refuse("not_utf8", NOT_UTF8)
        refuse("malformed_json", _NOT_WHOLE)
