"""Articles of DICT and StarDict, which are made for the eye: what stands on which line is known by layout alone.

The first line has the headword: `adob /aˈðop/, form /…/ <n, masc> (pl: {adobs})`. Below, a sense begins with its
equivalents, with or without a number; what else stands there explains them in the language of the headword, or is an
example or a reference.
"""

import re
from collections.abc import Iterator
from html import unescape

from .content import Entry

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


def parse_article(text: str) -> Entry:
    """Return the entry of an article whose first line is the headword."""
    head, _, body = text.strip().partition("\n")
    head, plurals = _PLURAL.sub("", head), _PLURAL.findall(head)
    found = (part.strip() for group in _GRAMMAR.findall(head) for part in group.split(","))
    pos = next((part for part in found if part and part not in _GENDERS), "")
    words = _LABEL.sub("", _SOUND.sub(_BREAK, head))
    # Commas separate headwords only where each has its sound: `夕飯 /…/, ゆうはん /…/`.
    forms = [_tidy(word) for word in re.split(rf"{_BREAK}\s*,", words)]
    return Entry(forms[0], tuple(list_glosses(body)), pos, (*filter(None, forms[1:]), *plurals))


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
