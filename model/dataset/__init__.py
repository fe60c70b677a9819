"""A dataset of one language: usable rows, their split, and a report of every fault. Reads no format itself.

Nothing is dropped silently: each refused row is counted under a kind, with the first lines where it happened.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from model.dataset.dictionary import Choice, DictionaryReport, swap_entry
from model.dataset.formats import UNANSWERED, RowFault, read_entries, read_records
from model.dataset.rows import (
    EMPTY_PIVOT,
    PictureLookup,
    Pivot,
    Row,
    UnusableRow,
    describe_fault,
    drop_repeated,
    explain_left_out,
    explain_not_in_gallery,
    explain_too_many_faults,
    put_on_sides,
    read_row,
    split_rows,
    swap_sides,
)
from model.dataset.tables import NO_ROW, refuse
from model.languages import ENGLISH, is_in_script
from store.errors import (
    DatasetInvalid,
    DatasetLanguageMismatch,
    DatasetPictureNotFound,
    DatasetTooSmall,
    FieldError,
    NothingHeldOut,
    PivotNotServed,
    PivotTextEmpty,
    format_count,
)

MIN_ROWS = 64
MAX_ROWS = 1_000_000
MAX_FAULTY = 0.2  # share of rows
MAX_DUPLICATES = 0.5
MAX_WRONG_SCRIPT = 0.5
MIN_HELD_OUT = 2  # of one target alone no gain stands out from chance
_FIRST_LINES = 5  # line numbers in the report for each kind of fault, and for duplicates


@dataclass(frozen=True, slots=True)
class FaultCount:
    """How often one kind of fault occurred, and where first."""

    count: int
    first_lines: tuple[int, ...]


@dataclass(frozen=True)
class DatasetReport:
    """What to know before a training; `dump` gives its JSON form. Shares are fractions 0..1."""

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
    taught: int  # rows of both sides: all but those that the file itself holds out
    losses: tuple[str, ...]
    by_file: int = 0  # rows whose picture is named by its file instead of its id
    missing: int = 0  # rows whose picture the gallery lacks, where that is left out
    unanswered: int = 0  # words of a sheet that are not filled in; none of `rows`
    in_script: float | None = None  # share of captions in the language's script; set by `validate`
    dictionary: DictionaryReport | None = None  # what was chosen of its entries, which `rows` counts

    def dump(self) -> dict[str, Any]:
        """Return plain JSON values; a fault also says in words what is wrong with its rows, as its `reason`."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        for kind, fault in plain["faults"].items():
            fault["reason"] = describe_fault(kind)
        if self.dictionary is None:
            del plain["dictionary"]
        else:
            plain["dictionary"]["reasons"] = self.dictionary.reasons
            if self.usable < MIN_ROWS:  # it is refused, and refusals are short
                plain["dictionary"]["examples"] = []
        return plain


@dataclass(frozen=True)
class Dataset:
    """The usable rows in file order, and the report of all of them."""

    rows: tuple[Row, ...]
    report: DatasetReport


def read(
    path: Path,
    *,
    language: str | None = None,
    find_ids: Callable[[Iterable[str]], Mapping[str, str]] = lambda _: {},
    pivot: str | None = None,
    things: Path | None = None,
    swap: bool = False,
) -> Dataset:
    """Return every usable row of the file and the report; `language` selects rows of a file of many languages (XM3600).

    With `pivot` the file is a dictionary of `language`, whose glosses are in that one; `things` is the base's list of
    English words for what it knows the look of, if it has one. With `swap`, captions and the texts beside them, or
    words and glosses, change places first. `find_ids` returns the ids of pictures that are named otherwise: rows have
    these, so that one picture is on one side of the split. Raises `DatasetInvalid`, and `UnsupportedMedia`.
    """
    if language is not None and pivot is not None:
        return _read_dictionary(path, Choice(language, pivot, things), swap)
    name, source = read_records(path, language=language)
    lines, candidates, total = defaultdict[str, list[int]](list), list[Row](), 0
    for total, record in enumerate(source, 1):
        if total > MAX_ROWS:
            refuse("too_many_rows", f"a dataset may have at most {MAX_ROWS:,} rows; teach it in parts", record.line)
        try:
            candidates.append(swap_sides(read_row(record)) if swap else read_row(record))
        except UnusableRow as fault:
            lines[str(fault)].append(record.line)
    if total == 0:
        refuse("no_rows", NO_ROW if name != "xm3600" else "the file holds no caption of this language; look at the tag")
    unanswered = len(lines.pop(UNANSWERED, ()))
    renamed = find_ids(dict.fromkeys(row.picture for row in candidates if row.picture is not None))
    by_file = sum(row.picture in renamed for row in candidates)
    candidates, duplicates = drop_repeated(candidates, renamed)
    rows = split_rows(candidates, lines)
    report = DatasetReport(
        format=name,
        rows=total - unanswered,
        duplicates=len(duplicates),
        first_duplicates=tuple(duplicates[:_FIRST_LINES]),
        faults={kind: FaultCount(len(at), tuple(at[:_FIRST_LINES])) for kind, at in sorted(lines.items())},
        by_file=by_file,
        unanswered=unanswered,
        **count_usable(rows),
    )
    return Dataset(rows, report)


def _read_dictionary(path: Path, choice: Choice, swap: bool) -> Dataset:
    lines, total = defaultdict[str, list[int]](list), 0
    for total, entry in enumerate(read_entries(path), 1):
        if total > MAX_ROWS:
            refuse("too_many_rows", f"at most {MAX_ROWS:,} entries are read; teach the dictionary in parts", entry.line)
        try:
            if isinstance(entry, RowFault):
                raise UnusableRow(entry.kind)
            for each in swap_entry(entry) if swap else (entry,):
                choice.add(each)
        except UnusableRow as fault:
            lines[str(fault)].append(entry.line)
    candidates, chosen = choice.take()
    rows = split_rows(candidates, lines)
    report = DatasetReport(
        format="dictionary",
        rows=total,
        duplicates=0,
        first_duplicates=(),
        faults={kind: FaultCount(len(at), tuple(at[:_FIRST_LINES])) for kind, at in sorted(lines.items())},
        dictionary=chosen,
        **count_usable(rows),
    )
    return Dataset(rows, report)


def validate(
    dataset: Dataset,
    language: str,
    find_known: PictureLookup,
    is_served: Callable[[str], bool] = ENGLISH.__eq__,
    *,
    to_train: bool = True,
    was_trained_on: bool = False,
    least: int = MIN_ROWS,
    some_ids: Callable[[], Sequence[str]] = tuple,
) -> DatasetReport:
    """Return the report, with the share of the script, of a dataset that may be used; refuse any other.

    To train on, or without `to_train` to measure by what is held out. Of one that `was_trained_on` before no gain is
    asked. It needs `least` rows; fewer than 64 are taught beside others. `find_known` returns those of some ids that
    the gallery has, `some_ids` a few of all; `is_served` says whether a pivot's language can be read.
    """
    report = dataset.report
    if EMPTY_PIVOT in report.faults:
        empty = report.faults[EMPTY_PIVOT]
        where = tuple(FieldError(f"line {line}", "empty_text") for line in empty.first_lines)
        raise PivotTextEmpty(
            f"{format_count(empty.count, 'row')} with a pivot without a text: write the text, or leave out the pivot",
            errors=where,
        )
    _check_counts(report)
    report = replace(report, in_script=_measure_script_share(dataset, language))
    if report.in_script is not None and report.in_script < 1 - MAX_WRONG_SCRIPT:
        raise DatasetLanguageMismatch(
            f"only {report.in_script:.0%} of the captions are in the script of {language}: "
            "look whether the tag is right, and whether texts in this language are under `caption`, not `english`",
            report=report.dump(),
        )
    if report.usable < max(1, least):
        advice = "" if was_trained_on else f": add {MIN_ROWS - report.usable} or more that say something new"
        if report.dictionary is not None and report.dictionary.left_out:
            advice += f". {explain_left_out(report.dictionary.left_out)}"
        raise DatasetTooSmall(
            f"{format_count(report.usable, 'usable row')}; at least {MIN_ROWS} are needed{advice}",
            report=report.dump(),
        )
    if not to_train and not report.val:
        raise NothingHeldOut("no row is held out: mark those to measure with `val` in the column `split`")
    of_one = len({row.picture or row.pivot for row in dataset.rows}) < MIN_HELD_OUT  # then they are on one side
    is_whole = to_train and report.usable >= MIN_ROWS
    if is_whole and not (report.train and report.val) and (was_trained_on or not of_one):
        way = "leave out the column `split`, and some rows are held out by themselves"
        _refuse_counts(report, f"rows of both splits, `train` and `val`, are needed: {way}")
    _check_pivots(dataset.rows, is_served)
    _check_pictures(dataset.rows, report, find_known, some_ids)
    if is_whole and not was_trained_on:
        _check_targets(dataset)
    return report


def _check_counts(report: DatasetReport) -> None:
    faults = {kind: fault.count for kind, fault in report.faults.items()}
    if sum(faults.values()) > MAX_FAULTY * report.rows:
        _refuse_counts(report, explain_too_many_faults(report.rows, MAX_FAULTY, faults, report.format))
    if report.duplicates > MAX_DUPLICATES * report.rows:
        repeated = tuple(FieldError(f"line {line}", "duplicate") for line in report.first_duplicates)
        many = f"{report.duplicates:,} of {format_count(report.rows, 'row')} repeat earlier ones"
        _refuse_counts(report, f"{many}, and at most {MAX_DUPLICATES:.0%} may: keep each row once", repeated)


def _check_targets(dataset: Dataset) -> None:
    held_out = [row for row in dataset.rows if row.split == "val"]
    rows = held_out or dataset.rows  # without any, all rows are of one
    pictures = has_mostly_pictures(rows)
    targets = {row.picture if pictures else row.pivot for row in rows} - {None}
    if len(targets) < MIN_HELD_OUT:
        captions = "held-out captions" if held_out else "captions"
        raise DatasetTooSmall(
            f"all {captions} are of one {'picture' if pictures else 'text'}; at least {MIN_HELD_OUT} are needed to "
            "tell what is gained: add rows of others, or mark more of them with `val` in the column `split`",
            report=dataset.report.dump(),
        )


def has_mostly_pictures(rows: Sequence[Row]) -> bool:
    """Return whether at least half of these held-out rows have a picture: then they are measured by pictures."""
    return 2 * sum(row.picture is not None for row in rows) >= len(rows)


def count_usable(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the fields of a report that are about usable rows."""
    pictures = Counter(row.picture for row in rows if row.picture is not None)
    pivots = Counter(row.pivot.language for row in rows if row.pivot is not None)
    train = sum(row.split == "train" for row in rows)
    losses = [loss for loss, present in (("cross_lingual", pivots), ("cross_modal", pictures)) if present]
    return {
        "usable": len(rows),
        "with_english": pivots[ENGLISH],
        "pivots": dict(pivots.most_common()),
        "with_picture": pictures.total(),
        "pictures": len(pictures),
        "captions_per_picture": pictures.total() / len(pictures) if pictures else 0.0,
        "train": train,
        "val": len(rows) - train,
        "taught": len(select_taught_rows(rows)),
        "losses": tuple(losses),
    }


def _refuse_counts(report: DatasetReport, detail: str, more: tuple[FieldError, ...] = ()) -> None:
    faulty = tuple(
        FieldError(f"line {line}", kind) for kind, fault in report.faults.items() for line in fault.first_lines
    )
    raise DatasetInvalid(detail, errors=more + faulty, report=report.dump())


def _measure_script_share(dataset: Dataset, language: str) -> float | None:
    if (dictionary := dataset.report.dictionary) is not None and dictionary.entries:  # no row is of another script
        return 1 - dictionary.left_out.get("script", 0) / dictionary.entries
    judged = [verdict for row in dataset.rows if (verdict := is_in_script(row.caption, language)) is not None]
    return sum(judged) / len(judged) if judged else None


def _check_pivots(rows: Sequence[Row], is_served: Callable[[str], bool]) -> None:
    first_line: dict[str, int] = {}
    for row in rows:
        if row.pivot is not None:
            first_line.setdefault(row.pivot.language, row.line)
    unknown = [language for language in first_line if not is_served(language)]
    if unknown:
        raise PivotNotServed(
            f"captions are paired with texts in {', '.join(sorted(unknown)[:10])}, which is not served: teach it first",
            errors=tuple(FieldError(f"line {first_line[tag]}", "pivot_not_served") for tag in unknown[:10]),
        )


def _check_pictures(
    rows: Sequence[Row], report: DatasetReport, find_known: PictureLookup, some_ids: Callable[[], Sequence[str]]
) -> None:
    named = dict.fromkeys(row.picture for row in rows if row.picture is not None)
    known = set(find_known(list(named)))
    missing = [picture for picture in named if picture not in known]
    if missing:
        gone = frozenset(missing)
        failing = [row.line for row in rows if row.picture in gone]
        lines = tuple(dict.fromkeys(failing))  # of XM3600, one has several captions
        fault = FaultCount(len(failing), lines[:_FIRST_LINES])
        counts = count_usable([row for row in rows if row.picture not in gone])
        raise DatasetPictureNotFound(
            explain_not_in_gallery(len(failing), report.rows, missing, some_ids()),
            errors=tuple(FieldError(f"line {line}", DatasetPictureNotFound.code) for line in lines[:10]),
            count=len(missing),
            report=replace(report, faults={**report.faults, DatasetPictureNotFound.code: fault}, **counts).dump(),
        )


def restrict(dataset: Dataset, pictures: Collection[str], pivots: Collection[str] | None = None) -> Dataset:
    """Return the dataset with these pictures alone and, if they are given, pivots in these languages alone.

    A row stays with what it still has, once; `missing` in the report counts those that named another picture.
    """

    def restrict_row(row: Row) -> Row:
        pivot = row.pivot if row.pivot is None or pivots is None or row.pivot.language in pivots else None
        return replace(row, picture=row.picture if row.picture in pictures else None, pivot=pivot)

    missing = sum(row.picture is not None and row.picture not in pictures for row in dataset.rows)
    rows = tuple(map(restrict_row, dataset.rows))
    if rows == dataset.rows:
        return dataset
    rows = _merge_repeated(row for row in rows if row.pivot is not None or row.picture is not None)
    return Dataset(rows, replace(dataset.report, missing=missing, **count_usable(rows)))


def join(datasets: Sequence[Dataset]) -> Dataset:
    """Return all their rows as one dataset, each once; what one of them holds out is trained on from none.

    In the report, lines of faults are those of the first dataset that has some, and the format is the last one's.
    """
    if len(datasets) == 1:
        return datasets[0]
    rows = _merge_repeated(row for dataset in datasets for row in dataset.rows)
    reports = [dataset.report for dataset in datasets]
    faults: dict[str, FaultCount] = {}
    for kind, fault in (item for report in reports for item in report.faults.items()):
        earlier = faults.get(kind, FaultCount(0, fault.first_lines))
        faults[kind] = FaultCount(earlier.count + fault.count, earlier.first_lines)
    counts = ("rows", "duplicates", "by_file", "missing", "unanswered")
    sums = {name: sum(getattr(report, name) for report in reports) for name in counts}
    return Dataset(rows, replace(reports[-1], faults=faults, **sums, **count_usable(rows)))


def _merge_repeated(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Return each row once; put all that describe one thing on one side of the split."""
    every = [*rows]
    held_out = {row.group for row in every if row.split == "val"}
    kept_out = {row.group for row in every if row.is_kept_out}
    return put_on_sides(reversed({row.content_key: row for row in reversed(every)}.values()), held_out, kept_out)


def select_taught_rows(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Return what the version that serves is taught: all but what a file itself holds out."""
    return tuple(row for row in rows if not row.is_kept_out)


def select_proof_rows(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Return the rows of `train`, without those that say what is held out: to find that would prove nothing.

    They have the caption of a held-out row, and no other text beside it. Where fewer than half would be left, captions
    repeat by nature, as in a catalogue, and stay; without pairs whose twin with (or without) a picture is held out.
    """
    to_learn, held_out = [row for row in rows if row.split == "train"], defaultdict[str, set[Pivot | None]](set)
    for caption, pivot in (row.folded_texts for row in rows if row.split == "val"):
        held_out[caption].add(pivot)

    def is_other(caption: str, pivot: Pivot | None) -> bool:
        beside = held_out.get(caption)
        return beside is None or (pivot is not None and not {pivot, None} & beside)

    others = [row for row in to_learn if is_other(*row.folded_texts)]
    if 2 * len(others) >= len(to_learn):
        return tuple(others)
    twins = {(row.folded_texts, row.picture is None) for row in rows if row.split == "val" and row.pivot}
    return tuple(row for row in to_learn if (row.folded_texts, row.picture is not None) not in twins)
