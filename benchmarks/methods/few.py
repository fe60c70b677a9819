"""Recall against the number of pairs, by the product's default settings, and what an adapter adds where there are few.

Eight languages of eight scripts, each taught on the base alone; their tests ask for the same scenes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.emoji36.plots import INK, STYLE
from benchmarks.methods.addressed import Adapter
from benchmarks.methods.gains import EIGHT, Held, Trial, pool_gain, read_trial
from model.evaluation import measure_gain

SIZES = (100, 200, 400, 1_000, 2_000, 9_600)
ADAPTED, SOME = (200, 1_000), ("de", "ar", "ru", "ko")  # pairs and languages that are taught with adapters, too
ADAPTERS = tuple(Adapter(kind, pace) for pace in (1 / 8, 1.0) for kind in ("mla", "lora"))
_KS = (1, 10)


def list_trials(settings: tuple[tuple[str, Any], ...], languages: Sequence[str] = EIGHT, seeds: int = 1) -> list[Trial]:
    """Return all of them, the smallest first."""
    return [
        Trial("scenes", tag, pairs, seed, settings, adapter)
        for seed in range(seeds)
        for pairs in SIZES
        for adapter in (None, *(ADAPTERS if pairs in ADAPTED else ()))
        for tag in languages
        if adapter is None or tag in SOME
    ]


def build_tables(held: Held, wanted: Sequence[Trial]) -> list[str]:
    """Return Markdown of the `wanted` trials that were measured: by pairs, and with adapters."""
    wanted = _list_done(held, wanted)
    return ["\n".join(_build_pairs(held, wanted)), "\n".join(_build_adapters(held, wanted))]


def draw(held: Held, wanted: Sequence[Trial], path: Path) -> None:
    """Plot R@1 and R@10 against the number of pairs: each language, and their mean."""
    wanted = _list_done(held, wanted)
    by_size = {pairs: _read_recalls(held, some) for pairs, some in _group_alone(wanted)}
    tags = [*dict.fromkeys(trial.language for trial in wanted)]
    with plt.rc_context({**STYLE, "figure.dpi": 120}):
        figure, axes = plt.subplots(figsize=(7, 4.4))
        for k, colour in ((10, "#4895ef"), (1, "#1d3557")):
            for tag in tags:
                axes.plot([*by_size], [found[k, tag] for found in by_size.values()], color=colour, lw=0.8, alpha=0.3)
            means = [np.mean([found[k, tag] for tag in tags]) for found in by_size.values()]
            axes.plot([*by_size], means, color=colour, linewidth=2.5, marker="o", label=f"R@{k}, mean of {len(tags)}")
        axes.set_xscale("log")
        axes.set_xticks([*by_size], [f"{pairs:,}" for pairs in by_size])
        axes.minorticks_off()
        axes.set_ylim(0, 100)
        axes.set_xlabel("pairs of a caption and its English")
        axes.set_ylabel("recall among 600 scenes, %", color=INK)
        axes.set_title(f"Few pairs, scenes of emoji: thin lines are {', '.join(tags)}", fontsize=11, loc="left")
        axes.legend(frameon=False)
        figure.savefig(path, metadata={"Software": None})
        plt.close(figure)


def _list_done(held: Held, wanted: Sequence[Trial]) -> list[Trial]:
    """Return the trials without sizes of which one was not measured yet."""
    done = {read_trial(each) for each in held}
    lacking = {(trial.pairs, trial.adapter) for trial in wanted if trial not in done}
    return [trial for trial in wanted if not lacking & {(trial.pairs, None), (trial.pairs, trial.adapter)}]


def _group_alone(wanted: Sequence[Trial]) -> Iterator[tuple[int, list[Trial]]]:
    for pairs in sorted({trial.pairs for trial in wanted}):
        yield pairs, [trial for trial in wanted if trial.pairs == pairs and trial.adapter is None]


def _read_recalls(held: Held, some: Sequence[Trial]) -> Mapping[tuple[int, str], float]:
    """Return R@K in per cent by K and language, over its seeds."""
    ranks: dict[str, list[int]] = {}
    for each in held:
        if read_trial(each) in some:
            ranks.setdefault(each["language"], []).extend(each["ranks"])
    return {(k, tag): 100 * float(np.mean(np.array(found) < k)) for tag, found in ranks.items() for k in _KS}


def _build_pairs(held: Held, wanted: Sequence[Trial]) -> Iterator[str]:
    tags = [*dict.fromkeys(trial.language for trial in wanted)]
    yield f"| pairs | steps | R@1, mean | R@10, mean | R@1: {' | '.join(tags)} |"
    yield "|---" * (4 + len(tags)) + "|"
    for pairs, some in _group_alone(wanted):
        found = _read_recalls(held, some)
        steps = next(each["steps"] for each in held if read_trial(each) in some)
        means = []
        for k in _KS:
            error = 100 * _measure_error(held, some, k)
            means.append(f"{np.mean([found[k, tag] for tag in tags]):.1f} ±{error:.1f}")
        cells = [f"{pairs:,}", f"{steps:,}", *means, *(f"{found[1, tag]:.1f}" for tag in tags)]
        yield f"| {' | '.join(cells)} |"


def _measure_error(held: Held, some: Sequence[Trial], k: int) -> float:
    """Return one standard error of the mean, of the sample of pictures: what they gain over finding none."""
    ranks, owner = (
        np.concatenate([each[key] for each in held if read_trial(each) in some]) for key in ("ranks", "owner")
    )
    return measure_gain(np.full_like(ranks, k), ranks, owner, (k,)).error


def _build_adapters(held: Held, wanted: Sequence[Trial]) -> Iterator[str]:
    yield "| pairs | beside the rows | R@1: rows alone → both | R@10 |"
    yield "|---|---|---|---|"
    kinds = dict.fromkeys((trial.pairs, trial.adapter) for trial in wanted if trial.adapter is not None)
    for pairs, adapter in sorted(kinds, key=lambda each: each[0]):
        both = [trial for trial in wanted if (trial.pairs, trial.adapter) == (pairs, adapter)]
        alone = [replace(trial, adapter=None) for trial in both]
        cells = []
        for k in _KS:
            found = pool_gain(held, alone, both, k)
            before, after, by, error = (100 * each for each in (found.before, found.after, found.mean, found.error))
            cells.append(f"{before:.1f} → {after:.1f}: {by:+.1f} ±{error:.1f}")
        yield f"| {pairs:,} | {adapter} | {cells[0]} | {cells[1]} |"
