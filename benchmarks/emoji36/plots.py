"""The report's three plots. Computes nothing."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from benchmarks.emoji36.methods import order_rows
from model.evaluation import compute_average_accuracy

INK, GRID = "#1d2433", "#e3e6ec"
_COLOURS = {
    "zero-shot": "#8a93a6",
    "cll-clip": "#c8553d",
    "teir-init": "#e09f3e",
    "teir-reg": "#a7c957",
    "teir": "#5a9367",
    "teir-pieces": "#9c6644",
    "joint": "#8d5fa8",
    "joint-alike": "#c9a6e0",
    "shared": "#4895ef",
    "addressed": "#1d3557",
    "auto": "#e76fa2",
    "addressed-chain": "#2a9d8f",
}
_BARS = ("cll-clip", "teir", "shared", "joint", "addressed", "addressed-chain")
STYLE: Any = {
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": GRID,
    "axes.axisbelow": True,
    "figure.dpi": 110,
    "savefig.bbox": "tight",
}


def draw(results: dict[str, Any], stem: Path) -> list[Path]:
    """Return STEM-aa.png, STEM-matrix.png and STEM-languages.png."""
    with plt.rc_context(STYLE):
        figures = {
            "aa": _plot_over_languages(results),
            "matrix": _plot_matrices(results),
            "languages": _plot_languages(results),
        }
        paths = []
        for name, figure in figures.items():
            path = stem.with_name(f"{stem.name}-{name}.png")
            figure.savefig(path, metadata={"Software": None})
            plt.close(figure)
            paths.append(path)
    return paths


def _read_triangle(results: dict[str, Any], method: str) -> list[list[float]]:
    seeds = results["methods"][method]["seeds"].values()
    triangle: list[list[float]] = next(iter(seeds))["seen"]["t2i"]["R@1"]
    return triangle


def _plot_over_languages(results: dict[str, Any]) -> Any:
    """Return AA after each language, a line for each method; joint training is a dashed level."""
    languages = results["languages"]
    figure, axes = plt.subplots(figsize=(11, 5))
    for method in order_rows(results):
        if method not in _COLOURS:
            continue
        a, colour = _read_triangle(results, method), _COLOURS[method]
        if len(a) == len(a[-1]):
            values = [100 * compute_average_accuracy(a[: i + 1]) for i in range(len(a))]
            style = (0, (1, 2)) if method == "auto" else "solid"  # it coincides with `addressed`
            axes.plot(range(len(a)), values, color=colour, linewidth=2, linestyle=style, label=method)
        else:
            axes.axhline(100 * compute_average_accuracy(a), color=colour, linewidth=1.4, linestyle="--", label=method)
    axes.set_xticks(range(len(languages)), languages, fontsize=8)
    axes.set_ylim(0, 100)
    axes.set_ylabel("AA: mean t2i R@1 of the languages so far, %")
    axes.set_xlabel("language just learned (first seed)")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _plot_matrices(results: dict[str, Any]) -> Any:
    """Return a[i][j] as a heat map for what forgets and what does not."""
    shown = [name for name in ("cll-clip", "teir", "shared", "addressed") if name in results["methods"]]
    wide = max(1, len(shown))
    figure, row = plt.subplots(1, wide, figsize=(4.2 * wide + 0.6, 4.4), squeeze=False, layout="constrained")
    picture = None
    for place, (axes, method) in enumerate(zip(row[0], shown, strict=False)):
        a = _read_triangle(results, method)
        grid = np.full((len(a), len(a)), np.nan)
        for i, scores in enumerate(a):
            grid[i, : len(scores)] = 100 * np.array(scores)
        picture = axes.imshow(grid, vmin=0, vmax=100, cmap="magma")
        axes.set_title(method)
        _label(axes, results["languages"], first=place == 0)
    if picture is not None:
        figure.colorbar(picture, ax=row[0].tolist(), fraction=0.03, pad=0.01, label="t2i R@1, %")
    return figure


def _label(axes: Axes, languages: list[str], *, first: bool) -> None:
    axes.grid(visible=False)
    axes.set_xticks(range(len(languages)), languages, fontsize=6, rotation=90)
    axes.set_yticks(range(len(languages)), languages, fontsize=6)
    axes.set_xlabel("tested language")
    if first:
        axes.set_ylabel("after this language")


def _plot_languages(results: dict[str, Any]) -> Any:
    """Return final t2i R@1 of each language, a bar a method."""
    languages = results["languages"]
    shown = [name for name in _BARS if name in results["methods"]]
    figure, axes = plt.subplots(figsize=(13, 4.5))
    width = 0.8 / max(1, len(shown))
    for place, method in enumerate(shown):
        values = 100 * np.array(_read_triangle(results, method)[-1])
        offsets = np.arange(len(values)) + (place - (len(shown) - 1) / 2) * width
        axes.bar(offsets, values, width, color=_COLOURS[method], label=method)
    axes.set_xticks(range(len(languages)), languages, fontsize=8)
    axes.set_ylim(0, 100)
    axes.set_ylabel("t2i R@1 after the last language, %")
    axes.legend(frameon=False, ncols=len(shown), loc="upper center", bbox_to_anchor=(0.5, 1.12))
    return figure
