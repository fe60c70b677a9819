"""The tables of a run, put between two marks of the text that lies beside the figures."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks import page
from benchmarks.bases.bench import ARMS
from benchmarks.emoji36.lexicon import LANGUAGES
from model.languages import ENGLISH, find_names
from worker.gate import is_more_than

Languages = Mapping[str, Mapping[str, Any]]
Recall = Mapping[str, float]


def write(figures: Path) -> Path:
    """Put the tables of `figures` into the text of the same name; returns that."""
    text = figures.with_suffix(".md")
    page.place(text, "Bases", build_report(json.loads(figures.read_text(encoding="utf-8"))))
    return text


def build_report(results: Mapping[str, Any]) -> list[str]:
    """Return all tables and what is said before each, in Markdown."""
    languages: Languages = results["languages"]
    taught = [tag for tag in LANGUAGES if "taught" in languages.get(tag, {})]
    read = [tag for tag in taught if tag in results["reads"]]
    others = [tag for tag in taught if tag not in results["reads"]]
    ways = [(tag, arm, arms[arm]) for tag, arms in results["growth"].items() for arm in ARMS if arm in arms]
    gates = ("language", "version 0", "taught", "gain of the gate's score", "the gate")
    bases = ("language", "version 0", "taught onto this base", "taught onto the English base", "R@1, difference")
    growth = ("language", "way", "R@1", "R@10", "keyword, R@1", "new tokens", "tokens a caption", "too long")
    all_others = len(languages) - len(results["reads"])
    return [
        "Read by the base, and taught all the same:",
        _build_table(gates, [_build_gate(tag, languages[tag]) for tag in read]),
        f"Not read by the base ({len(others)} of {all_others} taught so far):",
        _build_table(bases, [*(_build_other(tag, languages[tag]) for tag in others), *_compute_means(others, results)]),
        "Each way to teach on a `tokenizer.json`:",
        _build_table(growth, [*(_describe_way(*way) for way in ways), *_compute_way_means(results["growth"])]),
    ]


def _build_gate(tag: str, found: Mapping[str, Any]) -> Sequence[str]:
    gain = found["gain"]
    said = f"{_format_points(gain['mean'])} ± {100 * gain['error']:.1f}"
    verdict = "refuses" if is_more_than(-gain["mean"], gain["error"]) else "serves"
    return _name(tag), _format_both(found["assessed"]["t2i"]), _format_both(found["taught"]["t2i"]), said, verdict


def _build_other(tag: str, found: Mapping[str, Any]) -> Sequence[str]:
    return _compare(_name(tag), found["assessed"]["t2i"], found["taught"]["t2i"], found["english_base"]["t2i"])


def _compare(name: str, before: Recall, here: Recall, there: Recall) -> Sequence[str]:
    return (
        name,
        _format_both(before),
        _format_both(here),
        _format_both(there),
        _format_points(here["R@1"] - there["R@1"]),
    )


def _compute_means(tags: Sequence[str], results: Mapping[str, Any]) -> Sequence[Sequence[str]]:
    """Return means of all, and as shares of what each of the two bases reads of English that it was not taught."""
    languages: Languages = results["languages"]

    def of(kind: str) -> dict[str, float]:
        figures = [languages[tag][kind]["t2i"] for tag in tags]
        return {k: mean(each[k] for each in figures) if figures else 0.0 for k in ("R@1", "R@10")}

    before, here, there = map(of, ("assessed", "taught", "english_base"))
    own = languages[ENGLISH]["assessed"]["t2i"], results["english_base_untaught"]
    said = [
        " / ".join(f"{100 * found[k] / english[k]:.0f} %" for k in found)
        for found, english in zip((here, there), own, strict=True)
    ]
    each = [languages[tag]["taught"]["t2i"]["R@1"] - languages[tag]["english_base"]["t2i"]["R@1"] for tag in tags]
    error = f" ± {100 * stdev(each) / math.sqrt(len(each)):.1f}" if len(each) > 1 else ""
    *row, difference = _compare(f"**mean of {len(tags)}**", before, here, there)
    return [
        (*row, difference + error),
        ("its share of each base's English", "", *said, ""),
    ]


def _describe_way(tag: str, arm: str, found: Mapping[str, Any]) -> Sequence[str]:
    shares = (found["t2i"]["R@1"], found["t2i"]["R@10"], found["keywords"]["R@1"])
    return (
        _name(tag), arm, *(f"{100 * share:.1f}" for share in shares), f"{found['new']:,}",
        f"{found['tokens']:.1f}", f"{100 * found['truncated']:.1f} %",
    )  # fmt: skip


def _compute_way_means(growth: Mapping[str, Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    """Yield the mean of each way that was taken in all of the languages."""
    for arm in ARMS:
        found = [arms[arm] for arms in growth.values() if arm in arms]
        if len(found) == len(growth) > 1:
            shares = [(each["t2i"]["R@1"], each["t2i"]["R@10"], each["keywords"]["R@1"]) for each in found]
            means = (f"{100 * mean(share):.1f}" for share in zip(*shares, strict=True))
            yield f"**mean of {len(found)}**", arm, *means, "", "", ""


def _build_table(head: Sequence[str], rows: Any) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def _name(tag: str) -> str:
    return f"{find_names(tag).name} ({tag})"


def _format_both(t2i: Mapping[str, float]) -> str:
    return f"{100 * t2i['R@1']:.1f} / {100 * t2i['R@10']:.1f}"


def _format_points(difference: float) -> str:
    return f"{100 * difference:+.1f}".replace("-", "−")
