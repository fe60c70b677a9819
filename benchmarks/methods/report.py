"""The suite's tables, out of concluded results, into the page beside them, and its plots. Measures nothing."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import page
from benchmarks.methods import plots, sampled
from benchmarks.methods.published import XM3600
from benchmarks.methods.rows import ABLATIONS, BASELINE, PAIRS, PROPOSAL, SUITE


def write(path: Path) -> str:
    """Return tables into the .md beside the results, between its marks, and the plot; returns the tables.

    Beside NAME.json, what was run at full size is in NAME-full.json, with the languages in the reverse order in
    NAME-reverse.json, and what settings gain in gains.json.
    """
    results, full, reverse = (_load_results(path.with_stem(path.stem + more)) for more in ("", "-full", "-reverse"))
    tables = [list_rows(results), list_leads(results)]
    if full:
        tables += [["The two at full size:", "", *list_rows(full)[2:]], list_leads(full)]
    if reverse:
        tables.append(["The same with the languages in the reverse order:", "", *list_leads(reverse)[2:]])
    tables += [list_ablations(results), list_gains(_load_results(path.with_name("gains.json")).get("comparisons", []))]
    plots.draw(results, path.with_suffix(""))
    return page.place(path.with_suffix(".md"), "The suite of eight", ["\n".join(lines) for lines in tables if lines])


def _load_results(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def list_rows(results: dict[str, Any], names: Iterable[str] = SUITE) -> list[str]:
    """Return those of the rows that were run."""
    columns = ["row", "seeds", "AA", "F", "F_en", "just learned", "F / just learned", "AA, F i2t", "AA, F unseen style"]
    columns.append("paper: AA, F, just learned, F / just learned")
    said = "t2i R@1 in per cent on the seen styles after the last language, unless the column says otherwise; "
    said += "± is one standard error of the sample of pictures; F / just learned is the share of it that was lost."
    lines = [said, ""]
    lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name in (name for name in names if name in results["methods"]):
        row = results["methods"][name]
        sums = [each["by_picture"] for each in row["seeds"].values()]
        cells = [str(len(sums)), *(_format_lead(_read_sampled(sums, metric)) for metric in ("AA", "F"))]
        cells.append(f"{row['F_en']['seen']['t2i']['mean']:.1f}")
        learned = 100 * float(np.mean([seed_just_learned(seed) for seed in row["seeds"].values()]))
        cells += [f"{learned:.1f}", _format_part(_read_sampled(sums, "F")[0], learned)]
        for gallery, way in (("seen", "i2t"), ("unseen", "t2i")):
            cells.append(", ".join(f"{row[metric][gallery][way]['mean']:.1f}" for metric in ("AA", "F")))
        paper = XM3600.get(name)
        cells.append(f"{paper[0]}, {paper[1]}, {paper[2]}, {_format_part(paper[1], paper[2])}" if paper else "–")
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return lines


def list_ablations(results: dict[str, Any]) -> list[str]:
    """Return rows with one thing changed, between the two that they are made of."""
    if not results["methods"].keys() & ABLATIONS:
        return []
    said = "One thing changed in each: what TEIR is made of, one loss alone, another vocabulary, everything trained."
    return [said, "", *list_rows(results, (BASELINE, *ABLATIONS, PROPOSAL))[2:]]


def seed_just_learned(seed: dict[str, Any]) -> float:
    """Return the mean recall of the languages, each right after it was learned."""
    triangle = seed["seen"]["t2i"]["R@1"]
    return float(np.mean([row[-1] for row in triangle]))


def list_leads(results: dict[str, Any]) -> list[str]:
    """List by how much TEIR leads in AA and F, in both galleries, and right after learning."""
    pairs = [pair for pair in PAIRS if all(name in results["methods"] for name in pair)]
    if not pairs:
        return []
    lines = ["TEIR over without it, t2i R@1 in points, paired by query; just learned: with its part of AA.", ""]
    lines += [
        "| method | AA | F | just learned | AA unseen | F unseen | paper: AA, F, just learned | AA higher, F lower |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for plain, teir in pairs:
        differences = {
            (gallery, metric): _measure_difference(results, plain, teir, gallery, metric)
            for gallery in ("seen", "unseen")
            for metric in ("AA", "F")
        }
        cells = [_format_lead(difference, "+") for difference in differences.values()]
        learned = _measure_learned(results, plain, teir)
        cells.insert(2, f"{learned:+.1f}, {_format_part(learned, differences['seen', 'AA'][0])}")
        holds = all((mean > 0) == (metric == "AA") for (_, metric), (mean, _) in differences.items())
        paper = [XM3600[teir][k] - XM3600[plain][k] for k in range(3)] if plain in XM3600 else None
        said = f"{paper[0]:+.1f}, {paper[1]:+.1f}, {paper[2]:+.1f}" if paper else "–"
        lines.append(f"| `{plain}` | " + " | ".join(cells) + f" | {said} | {'yes' if holds else '**no**'} |")
    return lines


def _measure_learned(results: dict[str, Any], plain: str, teir: str) -> float:
    """Return points right after learning: the mean of the seeds that both have."""
    one, other = (results["methods"][name]["seeds"] for name in (plain, teir))
    return 100 * float(
        np.mean([seed_just_learned(other[key]) - seed_just_learned(one[key]) for key in one if key in other])
    )


def _measure_difference(
    results: dict[str, Any], plain: str, teir: str, gallery: str, metric: str
) -> tuple[float, float]:
    """Return the difference in points: the mean of the seeds that both have."""
    one, other = (results["methods"][name]["seeds"] for name in (plain, teir))
    both = [seed for seed in one if seed in other]
    sums = [[seeds[seed]["by_picture"] for seed in both] for seeds in (other, one)]
    return _read_sampled(sums[0], metric, gallery, sums[1])


def _read_sampled(
    seeds: list[dict[str, Any]], metric: str, gallery: str = "seen", without: list[dict[str, Any]] | None = None
) -> tuple[float, float]:
    return sampled.compute_mean([each[gallery] for each in seeds], metric, [each[gallery] for each in without or ()])


def _format_part(some: float, whole: float) -> str:
    return f"{100 * some / whole:.0f} %" if whole > 0 else "–"


def _format_lead(figure: tuple[float, float], sign: str = "") -> str:
    return f"{figure[0]:{sign}.1f} ±{figure[1]:.1f}"


def list_gains(held: list[dict[str, Any]]) -> list[str]:
    """Return a line for each comparison of settings."""
    if not held:
        return []
    lines = [
        "What settings gain over others, each language taught on the base alone, t2i in per cent and points, paired;",
        "± is one standard error of the sample of pictures.",
        "",
        "| data | pairs | languages, seeds | taught by | instead of | steps | R@1 | R@10 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in sorted(held, key=lambda each: (each["data"] != "scenes", each["pairs"] or np.inf)):
        pairs = f"{each['pairs']:,}" if each["pairs"] else "all"
        sides = (_describe_training(each[side]) for side in ("set", "against"))
        steps = " → ".join(f"{count:,.0f}" for count in each["steps"])
        recalls = (_format_lead((each[name]["gain"], each[name]["error"]), "+") for name in ("R@1", "R@10"))
        before = [f"{each[name]['before']:.1f}" for name in ("R@1", "R@10")]
        cells = [each["data"], pairs, f"{len(each['languages'])}, {each['seeds']}", *sides, steps]
        cells += [f"{one} {gain}" for one, gain in zip(before, recalls, strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _describe_training(settings: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items()) or "the default"
