"""The report's plots. Computes nothing."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.emoji36.plots import INK, STYLE
from model.languages import names

_BLUE, _SKY, _PINK, _RED = "#1d3557", "#4895ef", "#e76fa2", "#c8553d"
_WAYS = {"addressed": ("language told", _BLUE), "auto": ("detected", _PINK), "shared": ("shared table", _SKY)}


def draw(found: dict[str, Any], stem: Path) -> list[Path]:
    """STEM-languages.png, STEM-pairs.png and STEM-chain.png, as far as there is something to show."""
    there = {
        "languages": (_languages, found["seen"]["languages"]),
        "pairs": (_pairs, found["few"]["pairs"]),
        "chain": (_chain, found["chain"] if found["chain"]["languages"] else None),
    }
    paths = []
    with plt.rc_context({**STYLE, "figure.dpi": 120}):
        for name, (plot, data) in there.items():
            if data:
                figure = plot(data)
                path = stem.with_name(f"{stem.name}-{name}.png")
                figure.savefig(path, metadata={"Software": None})
                plt.close(figure)
                paths.append(path)
    return paths


def _languages(languages: dict[str, Any]) -> Any:
    """Share of English of each language, with a standard error, the highest first."""
    shares = {tag: each["photographs"]["share"] for tag, each in languages.items() if each["photographs"]["share"]}
    order = sorted(shares, key=lambda tag: (-shares[tag]["value"], tag))
    figure, axes = plt.subplots(figsize=(max(4.0, 0.23 * len(order) + 1.5), 4.2))
    values, errors = ([shares[tag][what] for tag in order] for what in ("value", "error"))
    axes.errorbar(range(len(order)), values, yerr=errors, fmt="o", color=_BLUE, ecolor=_SKY, markersize=5, elinewidth=2)
    axes.axhline(100, color=INK, linewidth=0.8, linestyle=":")
    axes.axhline(88, color=_RED, linewidth=1, linestyle="--")
    axes.annotate("88: none was to be lower", (len(order) - 0.5, 88.2), color=_RED, fontsize=8, ha="right", va="bottom")
    axes.set_xticks(range(len(order)), [names(tag).name for tag in order], rotation=60, ha="right", fontsize=7)
    axes.set_xlim(-0.7, len(order) - 0.3)
    axes.set_ylabel("R@10, % of English's on the same pictures")
    axes.set_title("What each language reaches of English, taught from its captions alone", fontsize=11, loc="left")
    return figure


def _pairs(by_pairs: dict[str, Any]) -> Any:
    """R@10 against the number of pairs: each language, and their mean."""
    figure, axes = plt.subplots(figsize=(7, 4.4))
    sizes = [int(pairs) for pairs in by_pairs]
    for which, colour, label in (("taught", _BLUE, "captions that were taught"), ("new", _RED, "that were not taught")):
        tags = sorted({tag for part in by_pairs.values() for tag in part[which]})
        for tag in tags:
            line = [(int(pairs), _ten(part[which][tag])) for pairs, part in by_pairs.items() if tag in part[which]]
            axes.plot(*zip(*line, strict=True), color=colour, linewidth=0.8, alpha=0.3)
        means = [part["mean"][which]["R@10"]["value"] for part in by_pairs.values()]
        axes.plot(sizes, means, color=colour, linewidth=2.5, marker="o", label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(pairs) for pairs in sizes])
    axes.minorticks_off()
    axes.set_ylim(0, 80)
    axes.set_xlabel("pairs of a caption and its English")
    axes.set_ylabel("R@10 among the photographs, %")
    axes.set_title("Few pairs: thin lines are languages", fontsize=11, loc="left")
    axes.legend(frameon=False, loc="center right")
    return figure


def _chain(chain: dict[str, Any]) -> Any:
    """Mean R@10 of all languages so far after each one."""
    figure, axes = plt.subplots(figsize=(7, 4.4))
    languages = chain["languages"]
    for how, (label, colour) in _WAYS.items():
        means = [sum(row) / len(row) for row in chain[how]["photographs"]["triangle"]]
        axes.plot(range(len(means)), means, color=colour, linewidth=2.2, marker="o", markersize=4, label=label)
    _name(axes, languages)
    axes.set_title("One language after another", fontsize=11, loc="left")
    axes.legend(frameon=False, loc="lower left")
    return figure


def _name(axes: Axes, languages: list[str]) -> None:
    axes.set_xticks(range(len(languages)), languages)
    axes.set_ylim(0, 80)
    axes.set_xlabel("language just learned")
    axes.set_ylabel("mean R@10 of the languages so far, %")


def _ten(figures: dict[str, Any]) -> float:
    recall = figures["photographs"]["R@10"]
    return float("nan") if recall is None else float(recall["value"])
