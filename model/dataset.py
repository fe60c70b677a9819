"""A dataset of one language: usable rows, their split, and a report of every fault. Reads no format itself.

Nothing is dropped silently: each refused row is counted under a kind, with the first lines where it happened.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from model.dataset_file import refuse
from model.dataset_formats import records
from model.dataset_rows import EMPTY_PIVOT, Candidate, Faulty, Row, Split, usable
from model.errors import (
    DatasetInvalid,
    DatasetLanguageMismatch,
    DatasetPictureNotFound,
    DatasetTooSmall,
    FieldError,
    NothingHeldOut,
    PivotNotServed,
    PivotTextEmpty,
)
from model.languages import ENGLISH, in_script
from model.wording import are, counted

MIN_ROWS = 64
MAX_ROWS = 1_000_000
MAX_FAULTY = 0.2  # share of rows
MAX_DUPLICATES = 0.5
MAX_WRONG_SCRIPT = 0.5
HELD_OUT = 10  # one picture (or English text) in ten validates
ENOUGH_HELD_OUT = 5  # of which a small dataset holds out more than a tenth
MIN_HELD_OUT = 2  # of one target alone no gain can be told from chance
_FIRST_LINES = 5  # line numbers in the report for each kind of fault, and for duplicates


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
    pivots: dict[str, int]  # rows by the language of their other text
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


def read(path: Path, *, language: str | None = None) -> Dataset:
    """Every usable row of the file and the report; `language` selects the rows of a file of many languages (XM3600).

    Raises `DatasetInvalid` for a file that is no dataset (no row, wrong columns, not UTF-8, mixed line ends, a line of
    over 1 MB, a gzip stream that is damaged or grows too much) and `UnsupportedMedia` for an archive. Faulty rows raise
    only in `validate`.
    """
    name, source = records(path, language=language)
    lines: dict[str, list[int]] = defaultdict(list)
    candidates: list[Candidate] = []
    seen: set[bytes] = set()
    duplicates: list[int] = []
    total = 0
    for total, record in enumerate(source, 1):
        if total > MAX_ROWS:
            refuse("too_many_rows", f"a dataset may have at most {MAX_ROWS} rows", record.line)
        try:
            candidate = usable(record)
        except Faulty as fault:
            lines[str(fault)].append(record.line)
            continue
        digest = candidate.digest
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
        **usable_counts(rows),
    )
    return Dataset(rows, report)


def validate(
    dataset: Dataset,
    language: str,
    known_pictures: Callable[[Sequence[str]], Collection[str]],
    served: Callable[[str], bool] = ENGLISH.__eq__,
    *,
    to_train: bool = True,
    again: bool = False,
) -> DatasetReport:
    """The report with the share of the script, when the dataset may be used for training or, without `to_train`, to
    measure a language by its held-out part; `again` where it was trained on before, so that no gain is asked for.

    `known_pictures` returns those of some ids that the gallery has; `served` says whether texts of a pivot's language
    can be read.

    Raises, in this order, `DatasetInvalid`, `PivotTextEmpty`, `DatasetTooSmall`, `NothingHeldOut`,
    `DatasetLanguageMismatch` (those of datasets carry the report), `PivotNotServed`, `DatasetPictureNotFound`, and
    `DatasetTooSmall` where too little is held out.
    """
    report = dataset.report
    if EMPTY_PIVOT in report.faults:
        empty = report.faults[EMPTY_PIVOT]
        where = tuple(FieldError(f"line {line}", "empty_text") for line in empty.first_lines)
        raise PivotTextEmpty(f"{counted(empty.count, 'row')} with a pivot without a text", errors=where)
    _check_counts(report)
    if report.usable < MIN_ROWS:
        raise DatasetTooSmall(
            f"{counted(report.usable, 'usable row')}; at least {MIN_ROWS} are needed", report=report.as_dict()
        )
    if not to_train and not report.val:
        raise NothingHeldOut("no row is held out: mark those to measure with `val` in the column `split`")
    if to_train and not (report.train and report.val):
        _refuse_counts(report, "rows of both splits, `train` and `val`, are needed")
    report = replace(report, in_script=_script_share(dataset.rows, language))
    if report.in_script is not None and report.in_script < 1 - MAX_WRONG_SCRIPT:
        raise DatasetLanguageMismatch(
            f"only {report.in_script:.0%} of the captions are in the script of {language}", report=report.as_dict()
        )
    _check_pivots(dataset.rows, served)
    _check_pictures(dataset.rows, known_pictures)
    if to_train and not again:
        _check_targets(dataset)
    return report


def _check_counts(report: DatasetReport) -> None:
    faulty = sum(fault.count for fault in report.faults.values())
    if faulty > MAX_FAULTY * report.rows:
        kinds = ", ".join(f"{fault.count} {kind}" for kind, fault in report.faults.items())
        _refuse_counts(report, f"{faulty:,} of {counted(report.rows, 'row')} {are(faulty)} faulty: {kinds}")
    if report.duplicates > MAX_DUPLICATES * report.rows:
        repeated = tuple(FieldError(f"line {line}", "duplicate") for line in report.first_duplicates)
        _refuse_counts(report, f"{report.duplicates:,} of {counted(report.rows, 'row')} repeated", repeated)


def _check_targets(dataset: Dataset) -> None:
    rows = [row for row in dataset.rows if row.split == "val"]
    pictures = pictured(rows)
    targets = {row.picture if pictures else row.pivot for row in rows} - {None}
    if len(targets) < MIN_HELD_OUT:
        one = "one picture" if pictures else "one text"
        raise DatasetTooSmall(
            f"all held-out captions are of {one}; at least {MIN_HELD_OUT} are needed to tell what is gained: "
            "add rows of others, or mark more of them with `val` in the column `split`",
            report=dataset.report.as_dict(),
        )


def pictured(rows: Sequence[Row]) -> bool:
    """Whether these held-out rows are measured by their pictures: where at least half of them have one."""
    return 2 * sum(row.picture is not None for row in rows) >= len(rows)


def _split(candidates: list[Candidate], lines: dict[str, list[int]]) -> tuple[Row, ...]:
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


def usable_counts(rows: Sequence[Row]) -> dict[str, Any]:
    """The fields of a report that are about usable rows."""
    pictures = Counter(row.picture for row in rows if row.picture is not None)
    pivots = Counter(row.pivot.language for row in rows if row.pivot is not None)
    train = sum(row.split == "train" for row in rows)
    losses = [loss for loss, there in (("cross_lingual", pivots), ("cross_modal", pictures)) if there]
    return {
        "usable": len(rows),
        "with_english": pivots[ENGLISH],
        "pivots": dict(pivots.most_common()),
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


def _check_pivots(rows: Sequence[Row], served: Callable[[str], bool]) -> None:
    first_line: dict[str, int] = {}
    for row in rows:
        if row.pivot is not None:
            first_line.setdefault(row.pivot.language, row.line)
    unknown = [language for language in first_line if not served(language)]
    if unknown:
        raise PivotNotServed(
            f"captions are paired with texts in {', '.join(sorted(unknown)[:10])}, which is not served: teach it first",
            errors=tuple(FieldError(f"line {first_line[tag]}", "pivot_not_served") for tag in unknown[:10]),
        )


def _check_pictures(rows: Sequence[Row], known_pictures: Callable[[Sequence[str]], Collection[str]]) -> None:
    first_line: dict[str, int] = {}
    for row in rows:
        if row.picture is not None:
            first_line.setdefault(row.picture, row.line)
    known = set(known_pictures(list(first_line)))
    unknown = [picture for picture in first_line if picture not in known]
    if unknown:
        raise DatasetPictureNotFound(
            f"{counted(len(unknown), 'picture')} not in the gallery, first: {', '.join(unknown[:10])}",
            errors=tuple(FieldError(f"line {first_line[picture]}", "picture_not_found") for picture in unknown[:10]),
            count=len(unknown),
        )
