"""Rows of a dataset: from what stands in the file to clean captions, each once, and on one side of the split.

A row that is not usable is known by the kind of its fault. Sentences say what is wrong, and what to do about it; they
never repeat what stands in a row, except ids of pictures. Reads no file, and judges no dataset.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from model.dataset.formats import RawRecord, RowFault
from model.dataset.tables import ENTRY, PAIR
from model.languages import ENGLISH, canonicalize
from model.text import clean, clean_picture_id, is_word
from store.errors import InvalidInput, LanguageTagInvalid, format_count

HELD_OUT = 10  # one picture (or English text) in ten validates
ENOUGH_HELD_OUT = 5  # of which a small dataset holds out more than a tenth
EMPTY_PIVOT = "pivot_empty_text"  # the one fault for which the whole file is refused

Split = Literal["train", "val"]
FAULTS = {
    "missing_caption": "without a caption",
    "missing_english_and_picture": "with neither another text nor a picture",
    "english_and_pivot": "with an English text and a pivot, of which a row may have one",
    "malformed_json": "not one JSON object in a line",
    "wrong_field_count": "with too few or too many cells",
    "quote_not_closed": "behind a quote that is not closed, or is followed by text",
    "pivot_invalid": "with a pivot that has no language and text",
    "picture_id_invalid": "with a picture whose id is not valid",
    "picture_not_found": "with a picture that is not in the gallery",
    "split_invalid": "with a split that is neither `train` nor `val`",
    "not_text": "with something else than a text",
    "empty_text": "with a text of no letter, number or symbol",
    "text_too_long": "with a text that is too long",
    "text_invalid_unicode": "with control characters or broken ones",
    "language_tag_invalid": "with a pivot in a language of no valid tag",
    "split_conflict": "of a picture or text that is in the other split already",
    "missing_word": "without a headword",
    "glosses_invalid": "with glosses that are no list of texts",
    "forms_invalid": "with forms that are no list of texts",
}
LEFT_OUT = {  # entries of a dictionary
    "no_gloss": "without an equivalent",
    "definition": "that are explained by a sentence and have no equivalent",
    "grammar": "of grammar: function words, affixes, forms of another word",
    "too_long": "with too long a headword",
    "script": "in another script than the language's",
    "common_gloss": "whose equivalents very many headwords have",
    "repeated": "that repeat others",
    "beyond_limit": "behind as many as can be taught",
}
_REMEDIES = {
    "missing_caption": "Fill the column `caption` of each row with the text in the new language",
    "missing_english_and_picture": "Give each caption its English text or the id of its picture",
    "english_and_pivot": "Leave out one of the two",
    "malformed_json": f"Write one pair in each line: `{PAIR}`",
    "wrong_field_count": 'Put texts with a comma or a semicolon in quotes: `"roter, reifer Apfel","ripe, red apple"`',
    "quote_not_closed": "Close the quote of the first of these lines; one that belongs to a text is written twice: "
    '`"der ""rote"" Apfel"`',
    "pivot_invalid": 'Name its language and its text: `"pivot": {"language": "de", "text": "roter Apfel"}`, '
    "or in a table the columns `pivot_language` and `pivot_text`",
    "picture_id_invalid": "Write ids as the gallery has them, such as `IMG_0001` or `2019/IMG_0001`",
    "split_invalid": "Write one of these, or leave out the column `split`: then some rows are held out by themselves",
    "not_text": 'Put every text in quotes, numbers as well: `{"caption": "5", "english": "five"}`',
    "empty_text": "Write words there, or take these rows out",
    "text_too_long": "Shorten each text to at most 1,000 characters",
    "text_invalid_unicode": "Save the file as UTF-8 again, or take these characters out",
    "language_tag_invalid": "Name languages by tags, such as `de` or `pt-BR`",
    "split_conflict": "Give all rows of one picture, or of one text, the same split",
    "missing_word": f"The headword stands under the key `word`: `{ENTRY}`",
    "glosses_invalid": f"Put what a headword means into a list of texts: `{ENTRY}`",
    "forms_invalid": 'Put other forms of a headword into a list of texts: `"forms": ["Äpfel"]`',
}
_IN_LINES = {  # what differs where each line is an object
    "missing_caption": f"The text in the new language stands under the key `caption`: `{PAIR}`",
    "missing_english_and_picture": f"Give each caption its English text, `{PAIR}`, or the id of its picture under the "
    "key `picture`",
}
_WITH_TABS = {
    "wrong_field_count": "Put one tab between two cells, and none into a text: each row has as many as the first"
}
_BY_FORMAT = {
    "jsonl": _IN_LINES,
    "dictionary": {"malformed_json": f"Write one entry in each line: `{ENTRY}`"},
    "tsv": _WITH_TABS,
    "parallel": _WITH_TABS,
    "coco": {"malformed_json": 'Each annotation is an object: `{"image_id": 1, "caption": "roter Apfel"}`'},
    "xm3600": {
        "malformed_json": 'Each line is an object: `{"image/key": "IMG_0001", "de": {"caption": ["roter Apfel"]}}`'
    },
}


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
    def is_word(self) -> bool:
        """Whether the row pairs single words."""
        return self.pivot is not None and is_word(self.pivot.text) and is_word(self.caption, self.pivot.text)

    @property
    def folded_texts(self) -> tuple[str, Pivot | None]:
        """Return caption and pivot without case: equal for rows that say the same to most tokenizers."""
        pivot = self.pivot and Pivot(self.pivot.language, self.pivot.text.casefold())
        return self.caption.casefold(), pivot

    @property
    def target(self) -> str:
        """Return the name of what the caption is of: its picture, or else the text beside it as it is written."""
        if self.picture is not None:
            return f"picture {self.picture}"
        assert self.pivot is not None
        language, text = self.pivot
        return f"english {text}" if language == ENGLISH else f"pivot {language} {text}"

    @property
    def group(self) -> str:
        """Return the name of what must not be on both sides of the split: of texts, in whichever case."""
        return self.target if self.picture is not None else self.target.casefold()

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
    with path.open("w", encoding="utf-8") as target:
        target.writelines(json.dumps(row.dump(), ensure_ascii=False) + "\n" for row in rows)


class UnusableRow(Exception):
    """A row that is not usable; the argument is the kind of fault."""


def read_row(record: RawRecord | RowFault) -> Row:
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
    # by the hashes of targets as they are written: whatever else the file has, the same are held out
    free = {row.group: _hash(row.target) for row in reversed(rows) if row.group not in named}
    kept_out = {group for group, side in named.items() if side == "val"}
    held_out = kept_out | {row.group for row in rows if row.group in free and _hash(row.target) % HELD_OUT == 0}
    if not held_out and len(free) > 1:  # so few that none fell into the tenth
        held_out = {min(free, key=free.__getitem__)}
    sizes = Counter(row.group for row in rows)
    spare = len(rows) // 2 - sum(sizes[group] for group in held_out)
    for group in sorted(free.keys() - held_out, key=free.__getitem__):
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


def _hash(target: str) -> int:
    return int.from_bytes(sha256(target.encode()).digest()[:8])


def describe_fault(kind: str) -> str:
    """Say what rows with a fault of this kind are: "2 " + "without a caption"."""
    of_a_text = kind.partition("_")[2]  # of the English, or of the pivot
    return FAULTS.get(kind) or FAULTS.get(of_a_text) or kind.replace("_", " ")


def suggest_remedy(kind: str, format: str) -> str:
    """Say what to do about faults of this kind in a file of this format: sentences without the last full stop."""
    own = _BY_FORMAT.get(format, {})
    return own.get(kind) or _REMEDIES.get(kind) or _REMEDIES.get(kind.partition("_")[2]) or "Look at these rows"


def explain_too_many_faults(rows: int, most: float, counts: Mapping[str, int], format: str) -> str:
    """Say why a dataset with so many faulty rows is refused, and what to do about the most frequent kind."""
    kinds = ", ".join(f"{count:,} {describe_fault(kind)}" for kind, count in counts.items())
    often = max(counts, key=lambda kind: counts[kind])
    faulty = sum(counts.values())
    return (
        f"{faulty:,} of {format_count(rows, 'row')} cannot be used, and at most {most:.0%} may be left out: {kinds}. "
        f"{suggest_remedy(often, format)}"
    )


def explain_left_out(counts: Mapping[str, int]) -> str:
    """Say which entries of a dictionary are not taken, and why."""
    return "Left out: " + ", ".join(f"{count:,} {LEFT_OUT[reason]}" for reason, count in counts.items())


def explain_not_in_gallery(failing: int, rows: int, pictures: Sequence[str], alike: Sequence[str]) -> str:
    """Say why a dataset is refused whose rows name these pictures; `alike` are some ids that the gallery has."""
    names = "names a picture that is" if failing == 1 else "name pictures that are"
    look = f"Ids there look like {', '.join(f'`{id}`' for id in alike)}: write them so. " if alike else ""
    return (
        f"{failing:,} of {format_count(rows, 'row')} {names} not in the gallery. {look}"
        f"{format_count(len(pictures), 'picture')} missing, first: {', '.join(pictures[:10])}"
    )
