"""Rows of a dataset: from what stands in the file to clean captions, each once, and on one side of the split.

A row that is not usable is known by the kind of its fault. Reads no file, and judges no dataset.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b, sha256
from typing import Literal, NamedTuple

from model.dataset.formats import Record, RowFault
from model.languages import ENGLISH, canonical
from model.text import clean, picture_id
from store.errors import InvalidInput, LanguageTagInvalid

HELD_OUT = 10  # one picture (or English text) in ten validates
ENOUGH_HELD_OUT = 5  # of which a small dataset holds out more than a tenth
EMPTY_PIVOT = "pivot_empty_text"  # the one fault for which the whole file is refused

Split = Literal["train", "val"]


class Pivot(NamedTuple):
    """The other side of a caption pair: a clean text, and the canonical tag of its language."""

    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """One usable caption; at least one of `pivot` and `picture` is there. Texts are clean."""

    line: int
    caption: str
    pivot: Pivot | None
    picture: str | None
    split: Split | None  # None until `split` decides

    @property
    def said(self) -> tuple[str, Pivot | None, str | None]:
        """Caption, pivot and picture: equal for rows that repeat each other."""
        return self.caption, self.pivot, self.picture

    @property
    def english(self) -> str | None:
        """The text of the pivot, where that is English."""
        return self.pivot.text if self.pivot is not None and self.pivot.language == ENGLISH else None

    @property
    def group(self) -> str:
        """What must not be on both sides of the split."""
        if self.picture is not None:
            return f"picture {self.picture}"
        assert self.pivot is not None
        language, text = self.pivot
        return f"english {text}" if language == ENGLISH else f"pivot {language} {text}"

    @property
    def digest(self) -> bytes:
        """A hash of 16 bytes, equal for rows that repeat each other."""
        language, text = self.pivot or ("", "")
        return blake2b("\0".join((self.caption, language, text, self.picture or "")).encode(), digest_size=16).digest()


class Faulty(Exception):
    """A row is not usable; the argument is the kind of fault."""


def usable(record: Record | RowFault) -> Row:
    """The caption of a record; raises `Faulty`."""
    if isinstance(record, RowFault):
        raise Faulty(record.kind)
    if record.caption is None:
        raise Faulty("missing_caption")
    english = None if record.english in (None, "") else Pivot(ENGLISH, _text(record.english, "english_"))
    others = [value for value in record.pivots if not _absent(value)]
    if len(others) > 1:
        raise Faulty("pivot_invalid")  # an object and two cells as well
    other = _pivot(others[0]) if others else None
    if english is not None and other is not None:
        raise Faulty("english_and_pivot")  # a caption is pulled to one text
    picture = None if record.picture in (None, "") else _picture_id(record.picture)
    if english is None and other is None and picture is None:
        raise Faulty("missing_english_and_picture")
    return Row(record.line, _text(record.caption, ""), english or other, picture, _side(record.split))


def _absent(value: object) -> bool:
    """Whether this is how writers of rows with the same fields in each say that there is no pivot."""
    said = value.values() if isinstance(value, dict) and value else [value]
    return all(part in (None, "") for part in said)


def _pivot(value: object) -> Pivot:
    if not isinstance(value, dict) or not isinstance(tag := value.get("language"), str):
        raise Faulty("pivot_invalid")
    try:
        language = canonical(tag)
    except LanguageTagInvalid as error:
        raise Faulty("pivot_" + error.code) from error
    return Pivot(language, _text("" if value.get("text") is None else value["text"], "pivot_"))


def _picture_id(value: object) -> str:
    text = str(value) if type(value) is int else value  # COCO's ids, and what tables make of digits
    if not isinstance(text, str):
        raise Faulty("picture_id_invalid")
    try:
        return picture_id(text)
    except InvalidInput as error:
        raise Faulty("picture_id_invalid") from error


def _side(value: object) -> Split | None:
    if value is None or value == "":
        return None
    if value == "train":
        return "train"
    if value == "val":
        return "val"
    raise Faulty("split_invalid")


def _text(value: object, prefix: str) -> str:
    if not isinstance(value, str):
        raise Faulty(prefix + "not_text")
    try:
        return clean(value)
    except InvalidInput as error:
        raise Faulty(prefix + error.code) from error


_FILE = re.compile(r"(.*[^/])\.[a-z][a-z0-9]{1,4}", re.IGNORECASE | re.DOTALL)  # `2019.08` and `bridge-1.2` are none

Known = Callable[[Sequence[str]], Collection[str]]


def without_suffix(names: Iterable[str]) -> dict[str, str]:
    """Those of some names of pictures that end as files do, each with what it is without its suffix."""
    return {name: found[1] for name in names if (found := _FILE.fullmatch(name))}


def ids_of_files(names: Iterable[str], known: Known) -> dict[str, str]:
    """The ids of those pictures that are named by their files; `known` returns those of some ids that the gallery has.

    What is an id as it is written is no file's name, and stays.
    """
    files = without_suffix(names)
    there = known([*files, *files.values()]) if files else ()
    return {name: id for name, id in files.items() if name not in there and id in there}


def once(candidates: Iterable[Row], renamed: Mapping[str, str]) -> tuple[list[Row], list[int]]:
    """Those that say something new, with the ids of their pictures, and the lines of the others."""
    kept: list[Row] = []
    seen: set[bytes] = set()
    duplicates: list[int] = []
    for candidate in candidates:
        if id := renamed.get(candidate.picture or ""):
            candidate = replace(candidate, picture=id)
        if (digest := candidate.digest) in seen:
            duplicates.append(candidate.line)
        else:
            seen.add(digest)
            kept.append(candidate)
    return kept, duplicates


def split(candidates: Sequence[Row], lines: dict[str, list[int]]) -> tuple[Row, ...]:
    """Rows with their side of the split: the first one that the file names for a group, otherwise one by its hash.

    Few groups hold out more than a tenth, as long as half of the rows are left to learn from.
    """
    named: dict[str, Split] = {}
    kept = []
    for row in candidates:
        if row.split is not None and named.setdefault(row.group, row.split) != row.split:
            lines["split_conflict"].append(row.line)
        else:
            kept.append(row)
    free = {row.group for row in kept} - set(named)
    held_out = {group for group, side in named.items() if side == "val"} | {g for g in free if _hash(g) % HELD_OUT == 0}
    if not held_out and len(free) > 1:  # so few that none fell into the tenth
        held_out = {min(free, key=_hash)}
    sizes = Counter(row.group for row in kept)
    spare = len(kept) // 2 - sum(sizes[group] for group in held_out)
    for group in sorted(free - held_out, key=_hash):
        if len(held_out) < ENOUGH_HELD_OUT and sizes[group] <= spare:
            held_out.add(group)
            spare -= sizes[group]
    return tuple(
        Row(row.line, row.caption, row.pivot, row.picture, "val" if row.group in held_out else "train") for row in kept
    )


def _hash(group: str) -> int:
    return int.from_bytes(sha256(group.encode()).digest()[:8])
