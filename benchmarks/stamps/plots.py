"""The report's plots. Computes nothing."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from benchmarks.emoji36.plots import INK, STYLE
from model.languages import find_names

_BLUE, _SKY, _RED = "#1d3557", "#4895ef", "#c8553d"


def draw(found: dict[str, Any], stem: Path) -> list[Path]:
    """Return STEM-languages.png, -pairs.png, -held-out.png and -freedict.png, as far as there is something to show."""
    there = {
        "languages": (_plot_languages, found["seen"]["languages"]),
        "pairs": (_plot_pairs, found["few"]["pairs"]),
        "held-out": (_plot_held_out, found if found["held_out"]["languages"] else None),
        "freedict": (_plot_freedict, found if found["freedict"]["languages"] else None),
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


def _plot_languages(languages: dict[str, Any]) -> Any:
    """Share of English of each language, with a standard error, the highest first."""
    shares = {tag: each["photographs"]["share"] for tag, each in languages.items() if each["photographs"]["share"]}
    order = sorted(shares, key=lambda tag: (-shares[tag]["value"], tag))
    figure, axes = plt.subplots(figsize=(max(4.0, 0.23 * len(order) + 1.5), 4.2))
    values, errors = ([shares[tag][what] for tag in order] for what in ("value", "error"))
    axes.errorbar(range(len(order)), values, yerr=errors, fmt="o", color=_BLUE, ecolor=_SKY, markersize=5, elinewidth=2)
    axes.axhline(100, color=INK, linewidth=0.8, linestyle=":")
    axes.axhline(88, color=_RED, linewidth=1, linestyle="--")
    axes.annotate("88: none was to be lower", (len(order) - 0.5, 88.2), color=_RED, fontsize=8, ha="right", va="bottom")
    axes.set_xticks(range(len(order)), [_name_language(tag) for tag in order], rotation=60, ha="right", fontsize=7)
    axes.set_xlim(-0.7, len(order) - 0.3)
    axes.set_ylabel("R@10, % of English's on the same pictures")
    axes.set_title("What each language reaches of English, taught from its captions alone", fontsize=11, loc="left")
    return figure


def _plot_pairs(by_pairs: dict[str, Any]) -> Any:
    """Return R@10 against the number of pairs: each language, and their mean."""
    figure, axes = plt.subplots(figsize=(7, 4.4))
    sizes = [int(pairs) for pairs in by_pairs]
    for which, colour, label in (("taught", _BLUE, "captions that were taught"), ("new", _RED, "that were not taught")):
        tags = sorted({tag for part in by_pairs.values() for tag in part[which]})
        for tag in tags:
            line = [(int(pairs), _read_ten(part[which][tag])) for pairs, part in by_pairs.items() if tag in part[which]]
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


def _plot_held_out(found: dict[str, Any]) -> Any:
    """Plot R@10 of captions that were not taught: as they are, with a list of words beside the pairs, and English's."""
    alone, more = found["held_out"]["languages"], found["dictionary"]["languages"]
    order = [tag for tag in alone if alone[tag]["photographs"]["R@10"]]
    figure, axes = plt.subplots(figsize=(max(7.5, 0.8 * len(order) + 1), 4.2))
    english = {tag: alone[tag]["photographs"]["english R@10"] for tag in order}
    recall = {tag: alone[tag]["photographs"]["R@10"] for tag in order}
    helped = {tag: more[tag]["photographs"]["R@10"] for tag in order if tag in more}
    bars = (("taught captions alone", _RED, recall), ("names of emoji beside them", _BLUE, helped))
    for place, (label, colour, figures) in enumerate((*bars, ("English", "#c9cfdb", english))):
        at = [order.index(tag) + (place - 1) * 0.27 for tag in figures]
        values, errors = ([each[what] for each in figures.values()] for what in ("value", "error"))
        axes.bar(at, values, 0.25, yerr=errors, color=colour, error_kw={"ecolor": INK, "elinewidth": 0.8}, label=label)
    axes.set_xticks(range(len(order)), [_name_language(tag) for tag in order], fontsize=8)
    axes.set_ylim(0, 90)
    axes.set_ylabel("R@10 among the photographs, %")
    axes.set_title("Captions that were not taught", fontsize=11, loc="left")
    axes.legend(frameon=False, ncols=3, fontsize=9, loc="upper left")
    return figure


def _plot_freedict(found: dict[str, Any]) -> Any:
    """Plot the share of English by the number of pairs of a dictionary, and of words that the photographs ask for."""
    figure, axes = plt.subplots(figsize=(7.5, 4.6))
    for tag, each in found["freedict"]["languages"].items():
        share = each["photographs"]["share"]
        axes.errorbar(each["pairs"], share["value"], share["error"], fmt="o", color=_BLUE, ecolor=_SKY, markersize=5)
        axes.annotate(tag, (each["pairs"], share["value"]), (5, 3), textcoords="offset points", fontsize=8, color=INK)
    asked = found["words_asked"]["words"]
    shares = [part["share"] for part in asked.values()]
    at, values, errors = [*map(int, asked)], [share["value"] for share in shares], [share["error"] for share in shares]
    axes.errorbar(at, values, errors, fmt="s-", color=_RED, markersize=7, label="words that the pictures ask for, mean")
    axes.plot([], [], "o", color=_BLUE, label="a whole dictionary, by language")
    axes.axhline(100, color=INK, linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_ylim(0, 105)
    axes.set_xlabel("pairs of a word and its English")
    axes.set_ylabel("R@10, % of English's on the same pictures")
    axes.set_title("Words alone: no caption and no picture was taught", fontsize=11, loc="left")
    axes.legend(frameon=False, loc="upper left")
    return figure


def _name_language(tag: str) -> str:
    name = find_names(tag).name
    return f"{name} ({tag})" if "-" in tag else name


def _read_ten(figures: dict[str, Any]) -> float:
    recall = figures["photographs"]["R@10"]
    return float("nan") if recall is None else float(recall["value"])
