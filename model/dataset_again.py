"""Datasets that are taught again, by a rebuild or on another base: without what is gone, and several as one."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from model.dataset import Dataset, FaultCount, usable_counts
from model.dataset_rows import Pivot, Row


def without(dataset: Dataset, pictures: Collection[str]) -> Dataset:
    """The dataset without these pictures: rows with a text in another language are kept for that, others left out."""
    rows = tuple(
        replace(row, picture=None) if row.picture in pictures else row
        for row in dataset.rows
        if row.pivot is not None or row.picture not in pictures
    )
    return Dataset(rows, replace(dataset.report, **usable_counts(rows)))


def joined(datasets: Sequence[Dataset]) -> Dataset:
    """All their rows as one dataset, each once; what one of them holds out is trained on from none.

    Of a picture, or of a text without one, all captions are on the same side. In the report, lines of faults are those
    of the first dataset that has some, and the format is the last one's.
    """
    if len(datasets) == 1:
        return datasets[0]
    every = [row for dataset in datasets for row in dataset.rows]
    held_out = {_described(row) for row in every if row.split == "val"}
    said = {(row.caption, row.pivot, row.picture): row for row in reversed(every)}
    rows = tuple(
        replace(row, split="val" if _described(row) in held_out else "train") for row in reversed(said.values())
    )
    reports = [dataset.report for dataset in datasets]
    faults: dict[str, FaultCount] = {}
    for kind, fault in (item for report in reports for item in report.faults.items()):
        earlier = faults.get(kind, FaultCount(0, fault.first_lines))
        faults[kind] = FaultCount(earlier.count + fault.count, earlier.first_lines)
    return Dataset(
        rows,
        replace(
            reports[-1],
            rows=sum(report.rows for report in reports),
            duplicates=sum(report.duplicates for report in reports),
            faults=faults,
            by_file=sum(report.by_file for report in reports),
            **usable_counts(rows),
        ),
    )


def _described(row: Row) -> str | Pivot | None:
    """What must not be on both sides of the split."""
    return row.pivot if row.picture is None else row.picture
