"""A dataset of one language: usable rows, their split, and a report of every fault. Reads no format itself.

Nothing is dropped silently: each refused row is counted under a kind, with the first lines where it happened.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, Literal

from model.dataset_file import refuse
from model.dataset_formats import Record, RowFault, records
from model.errors import (
    DatasetInvalid,
    DatasetLanguageMismatch,
    DatasetPictureNotFound,
    DatasetTooSmall,
    FieldError,
    InvalidInput,
)
from model.languages import in_script
from model.text import clean

MIN_ROWS = 64
MAX_ROWS = 1_000_000
MAX_FAULTY = 0.2  # share of rows
MAX_DUPLICATES = 0.5
MAX_WRONG_SCRIPT = 0.5
HELD_OUT = 10  # one picture (or English text) in ten validates
_FIRST_LINES = 5  # line numbers in the report for each kind of fault, and for duplicates
PICTURE_ID = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"

Split = Literal["train", "val"]


@dataclass(frozen=True, slots=True)
class Row:
    """One usable caption; at least one of `english` and `picture` is there. Texts are clean."""

    line: int
    caption: str
    english: str | None
    picture: str | None
    split: Split


@dataclass(frozen=True, slots=True)
class FaultCount:
    """How often one kind of fault occurred, and where first."""

    count: int
    first_lines: tuple[int, ...]


@dataclass(frozen=True)
class DatasetReport:
    """What to know before a training; `as_dict` is its JSON form. Shares are fractions 0..1."""

    format: str
    rows: int
    usable: int
    duplicates: int
    first_duplicates: tuple[int, ...]  # lines
    faults: dict[str, FaultCount]
    with_english: int
    with_picture: int
    pictures: int
    captions_per_picture: float
    train: int
    val: int
    losses: tuple[str, ...]
    in_script: float | None = None  # share of captions in the language's script; set by `validate`

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


@dataclass(frozen=True)
class Dataset:
    """The usable rows in file order, and the report of all of them."""

    rows: tuple[Row, ...]
    report: DatasetReport


@dataclass(frozen=True, slots=True)
class _Candidate:
    line: int
    caption: str
    english: str | None
    picture: str | None
    split: Split | None

    @property
    def group(self) -> str:
        """What must not be on both sides of the split."""
        return f"picture {self.picture}" if self.picture is not None else f"english {self.english}"


class _Faulty(Exception):
    """A row is not usable; the argument is the kind of fault."""


def read(path: Path, *, language: str | None = None) -> Dataset:
    """Every usable row of the file and the report; `language` selects the rows of a file of many languages (XM3600).

    Raises `DatasetInvalid` for a file that is no dataset (no row, wrong columns, not UTF-8, mixed line ends, a line of
    over 1 MB, a gzip stream that is damaged or grows too much) and `UnsupportedMedia` for an archive. Faulty rows raise
    only in `validate`.
    """
    name, source = records(path, language=language)
    lines: dict[str, list[int]] = defaultdict(list)
    candidates: list[_Candidate] = []
    seen: set[bytes] = set()
    duplicates: list[int] = []
    total = 0
    for total, record in enumerate(source, 1):
        if total > MAX_ROWS:
            refuse("too_many_rows", f"a dataset may have at most {MAX_ROWS} rows", record.line)
        try:
            candidate = _usable(record)
        except _Faulty as fault:
            lines[str(fault)].append(record.line)
            continue
        digest = _digest(candidate)
        if digest in seen:
            duplicates.append(record.line)
            continue
        seen.add(digest)
        candidates.append(candidate)
    if total == 0:
        refuse("no_rows", "the file holds no row" if name != "xm3600" else "the file holds no caption of this language")
    rows = _split(candidates, lines)
    report = DatasetReport(
        format=name,
        rows=total,
        duplicates=len(duplicates),
        first_duplicates=tuple(duplicates[:_FIRST_LINES]),
        faults={kind: FaultCount(len(at), tuple(at[:_FIRST_LINES])) for kind, at in sorted(lines.items())},
        **_usable_counts(rows),
    )
    return Dataset(rows, report)


def validate(
    dataset: Dataset, language: str, known_pictures: Callable[[Sequence[str]], Collection[str]]
) -> DatasetReport:
    """The report with the share of the script, when the dataset may be used for training.

    `known_pictures` returns those of some ids that the gallery has.

    Raises, in this order, `DatasetInvalid`, `DatasetTooSmall`, `DatasetLanguageMismatch` (these carry the report) and
    `DatasetPictureNotFound`.
    """
    report = dataset.report
    faulty = sum(fault.count for fault in report.faults.values())
    if faulty > MAX_FAULTY * report.rows:
        kinds = ", ".join(f"{fault.count} {kind}" for kind, fault in report.faults.items())
        _refuse_counts(report, f"{faulty} of {report.rows} rows are faulty: {kinds}")
    if report.duplicates > MAX_DUPLICATES * report.rows:
        repeated = tuple(FieldError(f"line {line}", "duplicate") for line in report.first_duplicates)
        _refuse_counts(report, f"{report.duplicates} of {report.rows} rows repeat another one", repeated)
    if report.usable < MIN_ROWS:
        raise DatasetTooSmall(f"{report.usable} usable rows; at least {MIN_ROWS} are needed", report=report.as_dict())
    if not report.train or not report.val:
        _refuse_counts(report, "rows of both splits, `train` and `val`, are needed")
    report = replace(report, in_script=_script_share(dataset.rows, language))
    if report.in_script is not None and report.in_script < 1 - MAX_WRONG_SCRIPT:
        raise DatasetLanguageMismatch(
            f"only {report.in_script:.0%} of the captions are in the script of {language}", report=report.as_dict()
        )
    _check_pictures(dataset.rows, known_pictures)
    return report


def without(dataset: Dataset, pictures: Collection[str]) -> Dataset:
    """The dataset without these pictures: rows with an English text are kept for that, others are left out."""
    rows = tuple(
        replace(row, picture=None) if row.picture in pictures else row
        for row in dataset.rows
        if row.english is not None or row.picture not in pictures
    )
    return Dataset(rows, replace(dataset.report, **_usable_counts(rows)))


def _usable(record: Record | RowFault) -> _Candidate:
    if isinstance(record, RowFault):
        raise _Faulty(record.kind)
    if record.caption is None:
        raise _Faulty("missing_caption")
    english = None if record.english in (None, "") else _text(record.english, "english_")
    picture = None if record.picture in (None, "") else _picture_id(record.picture)
    if english is None and picture is None:
        raise _Faulty("missing_english_and_picture")
    return _Candidate(record.line, _text(record.caption, ""), english, picture, _side(record.split))


def _picture_id(value: object) -> str:
    text = str(value) if type(value) is int else value  # COCO's ids, and what tables make of digits
    if not isinstance(text, str) or not re.fullmatch(PICTURE_ID, text):
        raise _Faulty("picture_id_invalid")
    return text


def _side(value: object) -> Split | None:
    if value is None or value == "":
        return None
    if value == "train":
        return "train"
    if value == "val":
        return "val"
    raise _Faulty("split_invalid")


def _text(value: object, prefix: str) -> str:
    if not isinstance(value, str):
        raise _Faulty(prefix + "not_text")
    try:
        return clean(value)
    except InvalidInput as error:
        raise _Faulty(prefix + error.code) from error


def _digest(row: _Candidate) -> bytes:
    return blake2b("\0".join((row.caption, row.english or "", row.picture or "")).encode(), digest_size=16).digest()


def _split(candidates: list[_Candidate], lines: dict[str, list[int]]) -> tuple[Row, ...]:
    """Rows with their side of the split: the first one that the file names for a group, otherwise one by its hash."""
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
    return tuple(
        Row(row.line, row.caption, row.english, row.picture, "val" if row.group in held_out else "train")
        for row in kept
    )


def _hash(group: str) -> int:
    return int.from_bytes(sha256(group.encode()).digest()[:8])


def _usable_counts(rows: Sequence[Row]) -> dict[str, Any]:
    pictures = Counter(row.picture for row in rows if row.picture is not None)
    with_english = sum(row.english is not None for row in rows)
    train = sum(row.split == "train" for row in rows)
    losses = [loss for loss, there in (("cross_lingual", with_english), ("cross_modal", pictures.total())) if there]
    return {
        "usable": len(rows),
        "with_english": with_english,
        "with_picture": pictures.total(),
        "pictures": len(pictures),
        "captions_per_picture": pictures.total() / len(pictures) if pictures else 0.0,
        "train": train,
        "val": len(rows) - train,
        "losses": tuple(losses),
    }


def _refuse_counts(report: DatasetReport, detail: str, more: tuple[FieldError, ...] = ()) -> None:
    faulty = tuple(
        FieldError(f"line {line}", kind) for kind, fault in report.faults.items() for line in fault.first_lines
    )
    raise DatasetInvalid(detail, errors=more + faulty, report=report.as_dict())


def _script_share(rows: Sequence[Row], language: str) -> float | None:
    judged = [verdict for row in rows if (verdict := in_script(row.caption, language)) is not None]
    return sum(judged) / len(judged) if judged else None


def _check_pictures(rows: Sequence[Row], known_pictures: Callable[[Sequence[str]], Collection[str]]) -> None:
    first_line: dict[str, int] = {}
    for row in rows:
        if row.picture is not None:
            first_line.setdefault(row.picture, row.line)
    known = set(known_pictures(list(first_line)))
    unknown = [picture for picture in first_line if picture not in known]
    if unknown:
        raise DatasetPictureNotFound(
            f"{len(unknown)} pictures are not in the gallery, first: {', '.join(unknown[:10])}",
            errors=tuple(FieldError(f"line {first_line[picture]}", "picture_not_found") for picture in unknown[:10]),
            count=len(unknown),
        )
