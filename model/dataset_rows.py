"""One row of a dataset: from what stands in the file to a clean caption, or to the kind of its fault. Reads no file."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, NamedTuple

from model.dataset_formats import Record, RowFault
from model.languages import ENGLISH, canonical
from model.text import clean, picture_id
from store.errors import InvalidInput, LanguageTagInvalid

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
    split: Split

    @property
    def said(self) -> tuple[str, Pivot | None, str | None]:
        """The same for rows that say the same."""
        return self.caption, self.pivot, self.picture

    @property
    def english(self) -> str | None:
        """The text of the pivot, where that is English."""
        return self.pivot.text if self.pivot is not None and self.pivot.language == ENGLISH else None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A usable caption whose side of the split is not decided."""

    line: int
    caption: str
    pivot: Pivot | None
    picture: str | None
    split: Split | None

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
        """The same for rows that say the same."""
        language, text = self.pivot or ("", "")
        return blake2b("\0".join((self.caption, language, text, self.picture or "")).encode(), digest_size=16).digest()


class Faulty(Exception):
    """A row is not usable; the argument is the kind of fault."""


def usable(record: Record | RowFault) -> Candidate:
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
    return Candidate(record.line, _text(record.caption, ""), english or other, picture, _side(record.split))


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
