"""What a dry run found in a dataset, in sentences. Reads no file and sends no request."""

from collections.abc import Iterator, Mapping
from typing import Any

from ..wording import are, counted

FEW = 20  # held-out captions, of which a single one is 5 points
_FORMATS = {
    "jsonl": "JSON lines",
    "csv": "Table (CSV)",
    "tsv": "Table (tabs)",
    "parquet": "Parquet",
    "coco": "COCO captions",
    "xm3600": "XM3600",
    "parallel": "Parallel text",
}

_FAULTS = {
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
}


def describe_fault(code: str) -> str:
    """Return what rows with a fault of this kind are: "2 " + "without a caption"."""
    of_a_text = code.partition("_")[2]  # of the English, or of the pivot
    return _FAULTS.get(code) or _FAULTS.get(of_a_text) or code.replace("_", " ")


def summary(checked: Mapping[str, Any], file: str, assess: bool) -> Iterator[str]:
    """The lines about a file that was accepted: what is in it, what it is used for, and what is left out."""
    tag, report = checked["language"], checked["report"]
    form, rows, usable = report["format"], report["rows"], report["usable"]
    does, did = ("assess", "measured") if assess else ("teach", "taught")
    yield f"{file} can be used to {does} {_named(tag)}. This was a dry run: nothing was {did}."
    yield ""
    of = "" if usable == rows else f", of which {usable:,} can be used"
    yield f"{_FORMATS.get(form, form)}, {counted(rows, 'row')}{of}:"
    yield f"  {counted(usable, 'caption')}{_pairs(report)}"
    if count := report.get("by_file"):
        name = "names its picture by its file" if count == 1 else "name their pictures by their files"
        yield f"  {count:,} {name}: `a.jpg` is taken for the id `a`"
    held = f"{report['val']:,} held out"
    yield (
        f"  {held} and measured"
        if assess
        else f"  {report['train']:,} to learn from, {held} to measure what was learned"
    )
    if 0 < report["val"] < FEW:
        points = f"{100 / report['val']:.0f} points"
        yield f"  That is few to measure with: one caption more or less is {points}. More rows hold out more."
    if (share := report["in_script"]) is not None and share < 1:
        yield f"  {min(100 * share, 99.9):.1f} % in the script of this language; look whether the others belong here"
    yield from _left_out(report)
    if joined := checked.get("joined"):
        before = f"{counted(joined['rows'], 'caption')} of {counted(joined['datasets'], 'earlier dataset')}"
        both = "what this file has too counts once"
        yield f"{_named(tag)} is taught from {before} as well ({both}); `--replace` leaves them out."
    if replaced := checked.get("replaced"):
        before = f"{counted(replaced['rows'], 'caption')} of {counted(replaced['datasets'], 'earlier dataset')}"
        yield f"It replaces {before}: then only the captions of this file are taught and shown."


def _named(tag: str) -> str:
    import langcodes  # late: help needs no languages

    return f"{langcodes.Language.get(tag).display_name('en')} ({tag})"


def _pairs(report: Mapping[str, Any]) -> str:
    """With what the captions are paired."""
    pivots, usable = report["pivots"], report["usable"]
    parts = [(count, f"a text in {_named(tag)}") for tag, count in pivots.items()]
    if count := report["with_picture"]:
        parts.append((count, f"a picture of the gallery ({counted(report['pictures'], 'picture')} in all)"))
    told = [f"{'each' if count == usable else f'{count:,}'} with {what}" for count, what in parts]
    return "".join(f", {part}" for part in told)


def _left_out(report: Mapping[str, Any]) -> Iterator[str]:
    """Repetitions, and what is wrong in which lines."""
    if count := report.get("missing"):
        names = "names a picture that is" if count == 1 else "name pictures that are"
        yield f"{counted(count, 'row')} {names} not in the gallery, and count only if they have another text."
    if count := report["duplicates"]:
        does = "repeats an earlier one and counts" if count == 1 else "repeat earlier ones and count"
        yield f"{counted(count, 'row')} {does} once: {_lines(report['first_duplicates'], count)}."
    faults = report["faults"]
    if total := sum(fault["count"] for fault in faults.values()):
        yield f"{counted(total, 'row')} cannot be used and {are(total)} left out:"
        for kind, fault in faults.items():
            yield f"  {fault['count']:,} {describe_fault(kind)}: {_lines(fault['first_lines'], fault['count'])}"


def _lines(first: list[int], count: int) -> str:
    """Where the first of them are; `count` is how many there are in all."""
    shown = ", ".join(f"{line:,}" for line in first)
    return f"line{'s' if count > 1 else ''} {shown}{', …' if count > len(first) else ''}"
