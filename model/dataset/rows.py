"""Rows of a dataset: from what stands in the file to clean captions, each once, and on one side of the split.

A row that is not usable is known by the kind of its fault. Reads no file, and judges no dataset.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from model.dataset.formats import Record, RowFault
from model.languages import ENGLISH, canonicalize
from model.text import clean, clean_picture_id
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
    split: Split | None  # None until `split_rows` decides
    is_kept_out: bool = False  # held out by the file itself: only measures, and is never taught

    @property
    def content_key(self) -> tuple[str, Pivot | None, str | None]:
        """Return caption, pivot and picture: equal for rows that repeat each other."""
        return self.caption, self.pivot, self.picture

    @property
    def english(self) -> str | None:
        """Return the text of the pivot, where that is English."""
        return self.pivot.text if self.pivot is not None and self.pivot.language == ENGLISH else None

    def dump(self) -> dict[str, Any]:
        """Return the row as a line of JSON lines has it."""
        line: dict[str, Any] = {"caption": self.caption}
        if self.pivot is not None:
            line |= {"english": self.english} if self.english is not None else {"pivot": self.pivot._asdict()}
        line |= {} if self.picture is None else {"picture": self.picture}
        return line | ({"split": "val"} if self.is_kept_out else {})

    @property
    def group(self) -> str:
        """Return the name of what must not be on both sides of the split."""
        if self.picture is not None:
            return f"picture {self.picture}"
        assert self.pivot is not None
        language, text = self.pivot
        return f"english {text}" if language == ENGLISH else f"pivot {language} {text}"

    @property
    def digest(self) -> bytes:
        """Return a hash of `content_key`, 16 bytes."""
        language, text = self.pivot or ("", "")
        return blake2b("\0".join((self.caption, language, text, self.picture or "")).encode(), digest_size=16).digest()


def swap_sides(row: Row) -> Row:
    """Return the row with the text beside its caption as caption; itself where there is none."""
    if row.pivot is None:
        return row
    return replace(row, caption=row.pivot.text, pivot=Pivot(row.pivot.language, row.caption))


def write_rows(rows: Iterable[Row], path: Path) -> None:
    """Write rows as JSON lines."""
    with path.open("w", encoding="utf-8") as target:
        target.writelines(json.dumps(row.dump(), ensure_ascii=False) + "\n" for row in rows)


class UnusableRow(Exception):
    """A row that is not usable; the argument is the kind of fault."""


def read_row(record: Record | RowFault) -> Row:
    """Return the caption of a record; raises `UnusableRow`."""
    if isinstance(record, RowFault):
        raise UnusableRow(record.kind)
    if record.caption is None:
        raise UnusableRow("missing_caption")
    english = None if record.english in (None, "") else Pivot(ENGLISH, _read_text(record.english, "english_"))
    others = [value for value in record.pivots if not _is_absent(value)]
    if len(others) > 1:
        raise UnusableRow("pivot_invalid")  # an object and two cells as well
    other = _read_pivot(others[0]) if others else None
    if english is not None and other is not None:
        raise UnusableRow("english_and_pivot")  # a caption is pulled to one text
    picture = None if record.picture in (None, "") else _read_picture_id(record.picture)
    if english is None and other is None and picture is None:
        raise UnusableRow("missing_english_and_picture")
    caption = _read_text(record.caption, "")
    if record.split not in (None, "", "train", "val"):
        raise UnusableRow("split_invalid")
    return Row(record.line, caption, english or other, picture, cast(Split | None, record.split or None))


def _is_absent(value: object) -> bool:
    """Return whether this is how writers of rows with the same fields in each say that there is no pivot."""
    parts = value.values() if isinstance(value, dict) and value else [value]
    return all(part in (None, "") for part in parts)


def _read_pivot(value: object) -> Pivot:
    if not isinstance(value, dict) or not isinstance(tag := value.get("language"), str):
        raise UnusableRow("pivot_invalid")
    try:
        language = canonicalize(tag)
    except LanguageTagInvalid as error:
        raise UnusableRow("pivot_" + error.code) from error
    return Pivot(language, _read_text("" if value.get("text") is None else value["text"], "pivot_"))


def _read_picture_id(value: object) -> str:
    text = str(value) if type(value) is int else value  # COCO's ids, and what tables make of digits
    if not isinstance(text, str):
        raise UnusableRow("picture_id_invalid")
    try:
        return clean_picture_id(text)
    except InvalidInput as error:
        raise UnusableRow("picture_id_invalid") from error


def _read_text(value: object, prefix: str) -> str:
    if not isinstance(value, str):
        raise UnusableRow(prefix + "not_text")
    try:
        return clean(value)
    except InvalidInput as error:
        raise UnusableRow(prefix + error.code) from error


_FILE = re.compile(r"(.*[^/])\.[a-z][a-z0-9]{1,4}", re.IGNORECASE | re.DOTALL)  # `2019.08` and `bridge-1.2` are none

PictureLookup = Callable[[Sequence[str]], Collection[str]]


def strip_suffixes(names: Iterable[str]) -> dict[str, str]:
    """Map those names of pictures that end as files do to the names without their suffix."""
    return {name: found[1] for name in names if (found := _FILE.fullmatch(name))}


def find_ids_of_files(names: Iterable[str], find_known: PictureLookup) -> dict[str, str]:
    """Return the ids of pictures that are named by their files; `find_known` returns those that the gallery has.

    What is an id as it is written is no file's name, and stays.
    """
    files = strip_suffixes(names)
    known = find_known([*files, *files.values()]) if files else ()
    return {name: id for name, id in files.items() if name not in known and id in known}


def drop_repeated(candidates: Iterable[Row], renamed: Mapping[str, str]) -> tuple[list[Row], list[int]]:
    """Return the rows that say something new, with the ids of their pictures, and the lines of the others."""
    rows: list[Row] = []
    digests: set[bytes] = set()
    duplicates: list[int] = []
    for candidate in candidates:
        if id := renamed.get(candidate.picture or ""):
            candidate = replace(candidate, picture=id)
        if (digest := candidate.digest) in digests:
            duplicates.append(candidate.line)
        else:
            digests.add(digest)
            rows.append(candidate)
    return rows, duplicates


def split_rows(candidates: Sequence[Row], lines: dict[str, list[int]]) -> tuple[Row, ...]:
    """Return the rows with their side of the split: the file's first for a group, otherwise one by its hash.

    Few groups hold out more than a tenth, as long as half of the rows are left to learn from.
    """
    named: dict[str, Split] = {}
    rows = []
    for row in candidates:
        if row.split is not None and named.setdefault(row.group, row.split) != row.split:
            lines["split_conflict"].append(row.line)
        else:
            rows.append(row)
    free = {row.group for row in rows} - set(named)
    kept_out = {group for group, side in named.items() if side == "val"}
    held_out = kept_out | {group for group in free if _hash(group) % HELD_OUT == 0}
    if not held_out and len(free) > 1:  # so few that none fell into the tenth
        held_out = {min(free, key=_hash)}
    sizes = Counter(row.group for row in rows)
    spare = len(rows) // 2 - sum(sizes[group] for group in held_out)
    for group in sorted(free - held_out, key=_hash):
        if len(held_out) < ENOUGH_HELD_OUT and sizes[group] <= spare:
            held_out.add(group)
            spare -= sizes[group]
    return put_on_sides(rows, held_out, kept_out)


def put_on_sides(rows: Iterable[Row], held_out: Collection[str], kept_out: Collection[str]) -> tuple[Row, ...]:
    """Return the rows with the groups `held_out` on the side that measures; those `kept_out` are never taught."""
    return tuple(
        replace(row, split="val" if row.group in held_out else "train", is_kept_out=row.group in kept_out)
        for row in rows
    )


def _hash(group: str) -> int:
    return int.from_bytes(sha256(group.encode()).digest()[:8])
