"""The suite's tables, out of concluded results, into the page beside them, and its plots. Measures nothing."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import page
from benchmarks.methods import plots, sampled
from benchmarks.methods.published import XM3600
from benchmarks.methods.rows import ABLATIONS, BASELINE, PAIRS, PROPOSAL, SUITE

_LENGTHS = {0.0: "none", 0.25: "a quarter", 1.0: "full"}


def write(path: Path) -> str:
    """Tables into the .md beside the results, between its marks, and the plots; returns the tables.

    What was run at full size is read from NAME-full.json beside NAME.json.
    """
    results = json.loads(path.read_text(encoding="utf-8"))
    tables = [rows(results), leads(results), ablations(results), points(results), starts(results)]
    full = path.with_name(f"{path.stem}-full.json")
    if full.is_file():
        held = json.loads(full.read_text(encoding="utf-8"))
        tables[2:2] = [["The two at full size:", "", *rows(held)[2:]], leads(held)]
    plots.draw(results, path.with_suffix(""))
    return page.place(path.with_suffix(".md"), "The suite of eight", ["\n".join(lines) for lines in tables if lines])


def rows(results: dict[str, Any], names: Iterable[str] = SUITE) -> list[str]:
    """Those of the rows that were run."""
    head = "| row | seeds | AA | F | F_en | just learned | AA i2t | AA, F unseen style | paper: AA, F |"
    said = "t2i R@1 in per cent on the seen styles after the last language, unless the column says otherwise"
    lines = [f"{said}; ± is one standard error of the sample of pictures.", ""]
    lines += [head, "|---" * (head.count("|") - 1) + "|"]
    for name in (name for name in names if name in results["methods"]):
        row = results["methods"][name]
        sums = [each["by_picture"] for each in row["seeds"].values()]
        cells = [str(len(sums)), *(_said(_sampled(sums, metric)) for metric in ("AA", "F"))]
        cells.append(f"{row['F_en']['seen']['t2i']['mean']:.1f}")
        cells.append(f"{100 * np.mean([seed_just_learned(seed) for seed in row['seeds'].values()]):.1f}")
        cells.append(f"{row['AA']['seen']['i2t']['mean']:.1f}")
        cells.append(", ".join(f"{row[metric]['unseen']['t2i']['mean']:.1f}" for metric in ("AA", "F")))
        paper = XM3600.get(name)
        cells.append(f"{paper[0]}, {paper[1]}" if paper else "–")
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return lines


def ablations(results: dict[str, Any]) -> list[str]:
    """Rows with one thing changed, between the two that they are made of."""
    if not results["methods"].keys() & ABLATIONS:
        return []
    said = "One thing changed in each: what TEIR is made of, one loss alone, another vocabulary, everything trained."
    return [said, "", *rows(results, (BASELINE, *ABLATIONS, PROPOSAL))[2:]]


def seed_just_learned(seed: dict[str, Any]) -> float:
    """The mean recall of the languages, each right after it was learned."""
    triangle = seed["seen"]["t2i"]["R@1"]
    return float(np.mean([row[-1] for row in triangle]))


def leads(results: dict[str, Any]) -> list[str]:
    """TEIR over without it: AA is to be higher and F lower, in both galleries."""
    pairs = [pair for pair in PAIRS if all(name in results["methods"] for name in pair)]
    if not pairs:
        return []
    lines = ["TEIR over without it, t2i R@1 in points, paired by query.", ""]
    lines += [
        "| method | AA | F | AA unseen | F unseen | paper: AA, F | AA higher, F lower |",
        "|---|---|---|---|---|---|---|",
    ]
    for plain, teir in pairs:
        differences = {
            (gallery, metric): _difference(results, plain, teir, gallery, metric)
            for gallery in ("seen", "unseen")
            for metric in ("AA", "F")
        }
        cells = [_said(difference, "+") for difference in differences.values()]
        holds = all((mean > 0) == (metric == "AA") for (_, metric), (mean, _) in differences.items())
        paper = [XM3600[teir][k] - XM3600[plain][k] for k in range(2)] if plain in XM3600 else None
        said = f"{paper[0]:+.1f}, {paper[1]:+.1f}" if paper else "–"
        lines.append(f"| `{plain}` | " + " | ".join(cells) + f" | {said} | {'yes' if holds else '**no**'} |")
    return lines


def _difference(results: dict[str, Any], plain: str, teir: str, gallery: str, metric: str) -> tuple[float, float]:
    """In points, the mean of the seeds that both have."""
    one, other = (results["methods"][name]["seeds"] for name in (plain, teir))
    both = [seed for seed in one if seed in other]
    sums = [[seeds[seed]["by_picture"] for seed in both] for seeds in (other, one)]
    return _sampled(sums[0], metric, gallery, sums[1])


def _sampled(
    seeds: list[dict[str, Any]], metric: str, gallery: str = "seen", without: list[dict[str, Any]] | None = None
) -> tuple[float, float]:
    return sampled.mean([each[gallery] for each in seeds], metric, [each[gallery] for each in without or ()])


def _said(figure: tuple[float, float], sign: str = "") -> str:
    return f"{figure[0]:{sign}.1f} ±{figure[1]:.1f}"


def points(results: dict[str, Any]) -> list[str]:
    """Recall against pairs: the mean of the languages that have all lengths of a start."""
    held = results.get("curves", [])
    if not held:
        return []
    tags = [*dict.fromkeys(point["language"] for point in held)]
    lines = [
        f"t2i R@1 in per cent, seen / unseen style, each language taught on the base alone: {', '.join(tags)}.",
        "",
    ]
    lines += ["| pairs | length | start | steps | mean | " + " | ".join(tags) + " |", "|---" * (5 + len(tags)) + "|"]
    for (pairs, share, start), found in grouped(held):
        by_tag = {tag: [point for point in found if point["language"] == tag] for tag in tags}
        cells = [_recalls(of_tag) if of_tag else "–" for of_tag in by_tag.values()]
        several = len(found) != len(tags) and f"{_recalls(found)} ({len(found)} trainings)"
        mean = several or _recalls(found)
        lines.append(
            f"| {pairs:,} | {_LENGTHS[share]} | {start} | {found[0]['steps']} | {mean} | " + " | ".join(cells) + " |"
        )
    return lines


def starts(results: dict[str, Any]) -> list[str]:
    """What each aligned start gains over a plain one of the same length, and over a plain one of full length."""
    held = {
        (each["pairs"], each["share"], each["start"], each["language"], each["seed"]): each
        for each in results.get("curves", [])
    }
    lines = []
    kinds = {(*key[:3], other) for key in held for other in (key[1], 1.0) if key[1] and key[2] != "plain"}
    for pairs, share, start, other in sorted(kinds, key=lambda kind: (kind[:2], kind[3], kind[2])):
        keys = [key for key in held if key[:3] == (pairs, share, start)]
        both = [
            (held[key], held[(pairs, other, "plain", *key[3:])])
            for key in keys
            if (pairs, other, "plain", *key[3:]) in held
        ]
        if len(both) > 1:
            cells = [
                _gain([100 * (one[name]["t2i"] - two[name]["t2i"]) for one, two in both]) for name in ("seen", "unseen")
            ]
            length = _LENGTHS[share] + ("" if start == "aligned" else f", {start}")
            lines.append(f"| {pairs:,} | {length} | {_LENGTHS[other]} | {len(both)} | " + " | ".join(cells) + " |")
    head = ["Aligned over plain start, t2i R@1 in points, ± one standard error of the trainings' mean, paired.", ""]
    return (
        [
            *head,
            "| pairs | aligned, length | plain, length | trainings | seen | unseen |",
            "|---|---|---|---|---|---|",
            *lines,
        ]
        if lines
        else []
    )


def _gain(differences: list[float]) -> str:
    return f"{np.mean(differences):+.1f} ±{np.std(differences, ddof=1) / np.sqrt(len(differences)):.1f}"


def grouped(held: list[dict[str, Any]]) -> Iterator[tuple[tuple[int, float, str], list[dict[str, Any]]]]:
    """Points by pairs, share and start, in this order."""
    keys = sorted(
        {(point["pairs"], point["share"], point["start"]) for point in held},
        key=lambda key: (*key[:2], key[2] != "plain"),
    )
    for key in keys:
        yield key, [point for point in held if (point["pairs"], point["share"], point["start"]) == key]


def _recalls(found: list[dict[str, Any]]) -> str:
    return " / ".join(
        f"{100 * np.mean([point[gallery]['t2i'] for point in found]):.1f}" for gallery in ("seen", "unseen")
    )
