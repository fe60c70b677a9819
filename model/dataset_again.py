"""Datasets that are taught again, beside a new one or by themselves: without what is gone, and several as one."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from model.dataset import Dataset, FaultCount, usable_counts
from model.dataset_rows import Pivot, Row


def left(dataset: Dataset, pictures: Collection[str], pivots: Collection[str] | None = None) -> Dataset:
    """What is left of the dataset with these pictures alone and, if they are given, pivots in these languages alone.

    A row is kept for what is left of it, once; `missing` in the report counts those that named another picture.
    """

    def of_row(row: Row) -> Row:
        pivot = row.pivot if row.pivot is None or pivots is None or row.pivot.language in pivots else None
        return replace(row, picture=row.picture if row.picture in pictures else None, pivot=pivot)

    missing = sum(row.picture is not None and row.picture not in pictures for row in dataset.rows)
    rows = tuple(map(of_row, dataset.rows))
    if rows == dataset.rows:
        return dataset
    rows = _each_once(row for row in rows if row.pivot is not None or row.picture is not None)
    return Dataset(rows, replace(dataset.report, missing=missing, **usable_counts(rows)))


def joined(datasets: Sequence[Dataset]) -> Dataset:
    """All their rows as one dataset, each once; what one of them holds out is trained on from none.

    Of a picture, or of a text without one, all captions are on the same side. In the report, lines of faults are those
    of the first dataset that has some, and the format is the last one's.
    """
    if len(datasets) == 1:
        return datasets[0]
    rows = _each_once(row for dataset in datasets for row in dataset.rows)
    reports = [dataset.report for dataset in datasets]
    faults: dict[str, FaultCount] = {}
    for kind, fault in (item for report in reports for item in report.faults.items()):
        earlier = faults.get(kind, FaultCount(0, fault.first_lines))
        faults[kind] = FaultCount(earlier.count + fault.count, earlier.first_lines)
    sums = {
        name: sum(getattr(report, name) for report in reports) for name in ("rows", "duplicates", "by_file", "missing")
    }
    return Dataset(rows, replace(reports[-1], faults=faults, **sums, **usable_counts(rows)))


def _each_once(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Rows that say the same count once; all that describe one thing are on one side of the split."""
    every = [*rows]
    held_out = {_described(row) for row in every if row.split == "val"}
    said = {row.said: row for row in reversed(every)}
    return tuple(
        replace(row, split="val" if _described(row) in held_out else "train") for row in reversed(said.values())
    )


def to_train(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows to learn from: those of `train`, but no pair that is held out beside a picture, or without one.

    One that is sent without a picture, and again with it, is of two groups, and only one of them may be held out.
    """
    held_out = {(row.caption, row.pivot, row.picture is None) for row in rows if row.split == "val" and row.pivot}
    return tuple(
        row
        for row in rows
        if row.split == "train" and (row.caption, row.pivot, row.picture is not None) not in held_out
    )


def _described(row: Row) -> str | Pivot | None:
    """What must not be on both sides of the split."""
    return row.pivot if row.picture is None else row.picture
