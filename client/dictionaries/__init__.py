"""Reads dictionaries in their published formats, recognised by content, as a stream of entries. Sends nothing."""

import json
import re
from collections.abc import Callable
from gzip import GzipFile
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from . import lines, markup
from .indexed import find_beside, is_index, read_dict, read_stardict
from .lines import DictionaryError, Entries, WordEntry, check_count, open_content, read_lines, read_table

_HEAD = 1 << 16  # bytes
_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"Rar!", b"!<arch>")
_STARDICT = b"StarDict's dict ifo file"
_DOCUMENT = re.compile(rb'\s*\{\s*"annotations')  # CLDR's, over many lines or in one
_MAX_BYTES = 1 << 30  # of what is sent, unpacked; as much as a dataset may have
_SAMPLE = 20  # lines


def write_dictionary(file: Path, language: str, english: Path | None, target: BinaryIO | GzipFile) -> None:
    """Write the entries of a dictionary of the language as JSON lines, as the service reads them.

    `file` is that with the index where there are several; `english` has the English words or names where a format
    keeps each language in a file of its own, and is searched beside `file` if not given. Raises `DictionaryError`.
    """
    written = 0
    for count, entry in enumerate(_read_entries(file, language, english), 1):
        check_count(count, file.name)
        line = json.dumps(entry.build_object(), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        written += len(line)
        if written > _MAX_BYTES:
            raise DictionaryError(f"{file.name} is too large; teach it in parts.")
        target.write(line)
    if not written:
        raise DictionaryError(f"{file.name} has no entry.")


def _read_entries(file: Path, language: str, english: Path | None) -> Entries:
    """Return the entries in a format that is recognised by content; by name only what has no mark of its own."""
    with open_content(file) as stream:
        head = stream.read(_HEAD)
    if head.startswith(_ARCHIVES) or head[257:262] == b"ustar":
        raise DictionaryError(f"{file.name} is an archive, or a spreadsheet: unpack it, or save the table as CSV.")
    if head.startswith(_STARDICT):
        return read_stardict(file)
    if re.search(r"\.(dict|idx|syn)(\.gz|\.dz)?$", file.name, re.IGNORECASE):
        if (main := find_beside(file, ".ifo", ".index")) is None:
            raise DictionaryError(f"The .index or .ifo file of {file.name} must lie beside it.")
        return _read_entries(main, language, english)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"<"):
        return _read_xml(file, english)
    if _DOCUMENT.match(start):
        return _join_names(lines.read_names, file, english)
    if b"\0" in head:
        raise DictionaryError(f"{file.name} is no text in UTF-8, and no dictionary that is known.")
    return _read_lines_of(file, start, language)


def _read_xml(file: Path, english: Path | None) -> Entries:
    root = markup.read_root(file)
    if root in ("TEI", "TEI.2"):
        return markup.read_tei(file)
    if root == "ldml":
        return _join_names(markup.read_names, file, english)
    if root == "LexicalResource":
        return markup.read_lmf(file, _find_english(file, english))
    raise DictionaryError(f"{file.name} is XML, but neither TEI nor CLDR's annotations nor WordNet LMF.")


def _join_names(read: Callable[[Path], dict[str, str]], file: Path, english: Path | None) -> Entries:
    """Yield the name of each character in the language, with its English name as gloss."""
    known = read(_find_english(file, english))
    for character, name in read(file).items():
        if character in known:
            yield WordEntry(name, (known[character],))


def _find_english(file: Path, english: Path | None) -> Path:
    """Return the file of the same kind for English: as given, or where CLDR and Open Multilingual Wordnet have it."""
    above = file.resolve().parent.parent
    layouts = (
        file.with_name("en.xml"),
        above / "en" / file.name,
        file.with_name("omw-en.xml"),
        above / "omw-en" / "omw-en.xml",
    )
    found = english or next((path for path in layouts if path.is_file() and not path.samefile(file)), None)
    if found is None:
        raise DictionaryError(f"{file.name} has no English in it: give the same file of English with --english.")
    return found


def _read_lines_of(file: Path, start: bytes, language: str) -> Entries:
    with open_content(file) as stream:
        sample = [line for _, line in islice(read_lines(stream), _SAMPLE)]
    if is_index(sample) and (file.suffix == ".index" or find_beside(file, ".dict.dz", ".dict")):
        yield from read_dict(file)
        return
    with open_content(file) as stream:
        yield from lines.read_json_lines(stream, language) if start.startswith((b"{", b"[")) else read_table(stream)
