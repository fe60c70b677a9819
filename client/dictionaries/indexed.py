"""DICT and StarDict: a text, and beside it an index that says where each article begins and how long it is.

An index is held in memory, as one number for each article; the text is read once, from its beginning to its end.
Articles are made for the eye: what stands on which line is known by layout alone. The first line has the headword:
`adob /aˈðop/, form /…/ <n, masc> (pl: {adobs})`. Below, a sense begins with its equivalents, with or without a number;
what else stands there explains them in the language of the headword, or is an example or a reference.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

from .lines import (
    MAX_PIECE,
    Content,
    DictionaryError,
    Entries,
    WordEntry,
    check_count,
    decode,
    open_content,
    read_lines,
)

_DIGITS = {letter: n for n, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")}
_LINE = re.compile(r"[^\t]*\t([A-Za-z0-9+/]{1,10})\t([A-Za-z0-9+/]{1,10})(?:\t[^\t]*)?")
_OWN = ("00-database", "00database")  # articles about the dictionary itself
_LENGTH = 1 << 20  # above any length
_CHUNK = 1 << 16  # bytes
_MARKUPS = "ghx"  # kinds of StarDict's fields: Pango, HTML and XDXF; `m` is plain text
_MAX_FIELDS = 32
_MAX_WORD = 1 << 10  # bytes of a word of StarDict; its own limit is 255
_SOUND = re.compile(r"(?:^|(?<=\s))(//?)(?!\s)[^/]+\1(?=[\s,]|$)")
_GRAMMAR = re.compile(r"<([^<>]*)>")
_LABEL = re.compile(r"<[^<>]*>|\[[^\[\]]*\]|\{[^{}]*\}")
_PLURAL = re.compile(r"\(pl: \{([^{}]*)\}\)")
_INFLECTED = re.compile(r"^[^:;,]*\{[^{}]*\}:\s*")  # `Plural of {kidevu}: chin`
_SENSE = re.compile(r"\d{1,2}[.)](?:\s+|$)")
_EMPTY_SENSE = re.compile(r" \d{1,2}\.$")
_INNER_SENSES = re.compile(r" \d{1,2}\. (?=\S)")
_REFERENCE = re.compile(r"(?:see(?: also)?|synonyms?|antonyms?|notes?|cf\.?)\s*:", re.IGNORECASE)
_GENDERS = frozenset({"masc", "fem", "neut", "m", "f", "mf", "com", "sg", "pl", "sing", "plural"})
_BREAK = "\x00"


def is_index(lines: list[str]) -> bool:
    """Whether the lines are of the index of a DICT dictionary."""
    return bool(lines) and all(map(_LINE.fullmatch, lines))


def find_beside(path: Path, *suffixes: str) -> Path | None:
    """Return the file of the same dictionary that has one of the suffixes."""
    stem = re.sub(r"\.(index|ifo|idx|syn|dict)(\.gz|\.dz)?$", "", path.name, flags=re.IGNORECASE)
    return next((file for suffix in suffixes if (file := path.with_name(stem + suffix)).is_file()), None)


def read_dict(index: Path) -> Entries:
    """Yield the entries of a DICT dictionary, in the order of its text."""
    text = _find_text(index)
    places = set[int]()  # several words may lead to one article
    with open_content(index) as stream:
        for number, line in read_lines(stream):
            if not (match := _LINE.fullmatch(line)):
                raise DictionaryError(f"Line {number:,} of {index.name} is none of the index of a dictionary.")
            if not line.startswith(_OWN):
                places.add(_join_place(index.name, _parse_number(match[1]), _parse_number(match[2])))
                check_count(len(places), index.name)
    with open_content(text) as stream:
        for article in _read_articles(stream, sorted(places), text.name):
            yield parse_article(decode(article, f"An article of {text.name}"))


def read_stardict(info: Path) -> Entries:
    """Yield the entries of a StarDict dictionary, in the order of its text."""
    text, index, synonyms = _find_text(info), find_beside(info, ".idx", ".idx.gz"), find_beside(info, ".syn", ".syn.gz")
    if index is None:
        raise DictionaryError(f"The index of {info.name}, its .idx file, must lie beside it.")
    with open_content(info) as stream:
        options = dict(line.partition("=")[::2] for _, line in read_lines(stream))
    widths = (8 if options.get("idxoffsetbits", "").strip() == "64" else 4, 4)
    entries = [(_join_place(index.name, *place), word) for word, *place in _read_records(index, widths)]
    forms = dict[int, list[str]]()
    for word, number in _read_records(synonyms, (4,)) if synonyms else ():
        forms.setdefault(number, []).append(word)
    ordered = sorted(range(len(entries)), key=lambda number: entries[number][0])
    kinds = options.get("sametypesequence", "").strip()
    with open_content(text) as stream:
        articles = _read_articles(stream, (entries[number][0] for number in ordered), text.name)
        for number, article in zip(ordered, articles, strict=True):
            word, text_of = entries[number][1], _read_fields(article, kinds, text.name)
            entry = parse_article(text_of)
            if entry.word.casefold() != word.casefold():  # most articles do not repeat it
                entry = WordEntry(word, tuple(list_glosses(text_of)))
            if not word.startswith(_OWN):
                yield replace(entry, word=word, forms=(*entry.forms, *forms.get(number, ())))


def _find_text(file: Path) -> Path:
    if (text := find_beside(file, ".dict.dz", ".dict")) is None:
        raise DictionaryError(f"The text of {file.name}, its .dict.dz or .dict file, must lie beside it.")
    return text


def _parse_number(digits: str) -> int:
    number = 0
    for digit in digits:
        number = number * 64 + _DIGITS[digit]
    return number


def _join_place(name: str, offset: int, length: int) -> int:
    """Return offset and length as one number, which sorts by the offset."""
    if length > MAX_PIECE:
        raise DictionaryError(f"An article has more than {MAX_PIECE:,} bytes by {name}.")
    return offset * _LENGTH + length


def _read_articles(stream: Content, places: Iterable[int], name: str) -> Iterator[bytes]:
    """Yield the bytes at each of the sorted places; twice where two of them are equal."""
    position, before, article = 0, -1, b""
    for place in places:
        offset, length = divmod(place, _LENGTH)
        if place != before:
            if offset < position:
                raise DictionaryError(f"Articles of {name} overlap by its index: these files do not belong together.")
            while position < offset and (skipped := stream.read(min(_CHUNK, offset - position))):
                position += len(skipped)
            article = stream.read(length) if position == offset else b""
            position, before = position + len(article), place
            if len(article) < length:
                raise DictionaryError(f"{name} ends before its index does; get the dictionary once more.")
        yield article


def _read_records(file: Path, widths: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    """Yield each word of an index of StarDict with the numbers behind it, which have so many bytes each."""
    rest, count = b"", 0
    with open_content(file) as stream:
        while chunk := stream.read(_CHUNK):
            rest += chunk
            start = 0
            while 0 <= (end := rest.find(b"\0", start)) < len(rest) - sum(widths):
                numbers, at = [], end + 1
                for width in widths:
                    numbers.append(int.from_bytes(rest[at : at + width], "big"))
                    at += width
                yield decode(rest[start:end], f"A word of {file.name}"), *numbers
                start, count = at, count + 1
                check_count(count, file.name)
            rest = rest[start:]
            if len(rest) > _MAX_WORD:
                raise DictionaryError(f"{file.name} is no index of StarDict.")
    if rest:
        raise DictionaryError(f"{file.name} is not whole; get the dictionary once more.")


def _read_fields(article: bytes, kinds: str, name: str) -> str:
    """Return what an article of StarDict says, as lines; `kinds` of its fields stand in the article if not here."""
    lines = list[str]()
    for number in range(len(kinds) or _MAX_FIELDS):
        kind, article = (kinds[number], article) if kinds else (chr(article[0]), article[1:]) if article else ("", b"")
        is_last = number == len(kinds) - 1
        if kind.isupper() and not is_last:  # a sound, a picture: behind its length
            article = article[4 + int.from_bytes(article[:4], "big") :]
            continue
        field, _, article = (article, b"", b"") if is_last else article.partition(b"\0")
        if kind == "m" or kind in _MARKUPS:
            text = decode(field, f"An article of {name}")
            lines.append(text if kind == "m" else flatten(text, is_xdxf=kind == "x"))
        if not article:
            break
    return "\n".join(lines)


def parse_article(text: str) -> WordEntry:
    """Return the entry of an article whose first line is the headword."""
    head, _, body = text.strip().partition("\n")
    head, plurals = _PLURAL.sub("", head), _PLURAL.findall(head)
    found = (part.strip() for group in _GRAMMAR.findall(head) for part in group.split(","))
    pos = next((part for part in found if part and part not in _GENDERS), "")
    words = _LABEL.sub("", _SOUND.sub(_BREAK, head))
    # Commas separate headwords only where each has its sound: `夕飯 /…/, ゆうはん /…/`.
    forms = [_tidy(word) for word in re.split(rf"{_BREAK}\s*,", words)]
    return WordEntry(forms[0], tuple(list_glosses(body)), pos, (*filter(None, forms[1:]), *plurals))


def list_glosses(body: str) -> Iterator[str]:
    """Yield the equivalents of each sense of an article without its headword."""
    is_open = True
    for line in body.split("\n"):
        if sense := _SENSE.match(line):
            is_open, line = True, line[sense.end() :]
        if not is_open or _REFERENCE.match(line := " ".join(line.split())) or _is_in_brackets(line):
            continue
        is_example = line.startswith('"')
        line = _EMPTY_SENSE.sub("", _LABEL.sub("", _SOUND.sub("", _INFLECTED.sub("", line)))).strip()
        if line and not is_example:
            yield from filter(None, map(_tidy, _INNER_SENSES.split(_SENSE.sub("", line, count=1))))
        is_open = not line


def _is_in_brackets(line: str) -> bool:
    """Whether one pair of brackets holds the whole line, which then tells of grammar or use."""
    depth = 0
    for place, letter in enumerate(line):
        depth += (letter == "(") - (letter == ")")
        if depth <= 0:
            return place > 0 and place == len(line) - 1
    return False


def _tidy(text: str) -> str:
    return " ".join(text.replace(_BREAK, " ").split()).replace(" ,", ",").strip(" ,;")


_SENSES = frozenset({"li", "def"})
_BLOCKS = frozenset({"br", "p", "div", "ol", "ul", "dl", "dt", "dd", "tr", "td", "h1", "h2", "h3", "dtrn"}) | _SENSES
_ASIDE = frozenset({"k", "ex", "co", "abr", "abbr", "kref", "gr", "pos", "sup", "script", "style", "i", "em", "small"})
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)[^<>]*>")  # html.parser takes hours for a million of `<a "`
_SOUND_OF_XDXF = frozenset({"tr"})  # in HTML the row of a table


def flatten(markup: str, *, is_xdxf: bool) -> str:
    """Return the lines of an article in HTML or XDXF, each sense with a number, without labels and examples."""
    aside = _ASIDE | _SOUND_OF_XDXF if is_xdxf else _ASIDE
    parts, depth, end = list[str](), 0, 0  # how many open elements are no equivalents; end of the last tag
    for tag in _TAG.finditer(markup):
        parts += [] if depth else [markup[end : tag.start()]]
        end, name, is_end = tag.end(), tag[2].lower(), bool(tag[1])
        if name in _BLOCKS:
            parts.append("\n1. " if name in _SENSES and not is_end else "\n")
        if name in aside and not tag[0].endswith("/>"):
            depth = max(0, depth + (-1 if is_end else 1))
    parts += [] if depth else [markup[end:]]
    return unescape("".join(parts))
