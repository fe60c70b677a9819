"""The suite's plot: AA and F of each method without and with TEIR beside the paper's."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from benchmarks.emoji36.plots import STYLE
from benchmarks.methods.published import XM3600
from benchmarks.methods.rows import PAIRS

_WITHOUT, _WITH = "#c8553d", "#5a9367"


def draw(results: dict[str, Any], stem: Path) -> None:
    """Write STEM-aa-f.png."""
    with plt.rc_context(STYLE):
        figure = _plot_suite(results)
        figure.savefig(stem.with_name(f"{stem.name}-aa-f.png"), metadata={"Software": None})
        plt.close(figure)


def _plot_suite(results: dict[str, Any]) -> Any:
    """Return left ours, right the paper's; above AA, below F."""
    pairs = [pair for pair in PAIRS if all(name in results["methods"] for name in pair)]
    ours = {
        name: tuple(results["methods"][name][metric]["seen"]["t2i"]["mean"] for metric in ("AA", "F"))
        for pair in pairs
        for name in pair
    }
    figure, grid = plt.subplots(2, 2, figsize=(13, 6.5), sharex=True, layout="constrained")
    for column, (title, held) in enumerate(
        {"Emoji-36, 1,000 pairs a language": ours, "the paper, XM3600": XM3600}.items()
    ):
        for row, metric in enumerate(("AA, %", "F, points")):
            _plot_bars(grid[row][column], pairs, {name: values[row] for name, values in held.items()})
            grid[row][column].set_ylabel(metric)
        grid[0][column].set_title(title)
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", frameon=False, ncols=2)
    return figure


def _plot_bars(axes: Axes, pairs: list[tuple[str, str]], held: dict[str, float]) -> None:
    for offset, colour, place, label in ((-0.2, _WITHOUT, 0, "without TEIR"), (0.2, _WITH, 1, "with TEIR")):
        values = [held.get(pair[place], np.nan) for pair in pairs]
        axes.bar(np.arange(len(pairs)) + offset, values, 0.4, color=colour, label=label)
    axes.set_xticks(range(len(pairs)), [plain for plain, _ in pairs], fontsize=8, rotation=35, ha="right")
