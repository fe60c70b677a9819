"""From runs to results, tables and plots: AA, F, F_en and BWT, mean over seeds."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import page
from benchmarks.emoji36 import plots, tables
from benchmarks.forgetting import measure_backward_transfer, measure_english_forgetting
from model.evaluation import Triangle, compute_average_accuracy, compute_forgetting

GALLERIES, DIRECTIONS, KS = ("seen", "unseen", "singles"), ("t2i", "i2t"), ("R@1", "R@5", "R@10")
_COSTS = (
    "made",
    "commits",
    "table_std",
    "train_seconds",
    "rows_trained",
    "rows_total",
    "rows_held",
    "bytes_stored",
    "bytes_of_rows",
    "bitwise_equal",
    "confusion",
    "by_picture",
)
_METRICS: dict[str, Callable[[Triangle], float]] = {
    "AA": compute_average_accuracy,
    "F": compute_forgetting,
    "F_en": measure_english_forgetting,
    "BWT": measure_backward_transfer,
}


def seed_results(ledger: dict[str, Any]) -> dict[str, Any]:
    """Return one row of one seed: a triangle a[i][j] for each gallery, direction and k, and what it cost."""
    rows = ledger["triangle"]
    galleries = [name for name in GALLERIES if rows and all(name in scores for scores in rows[-1])]
    triangles: dict[str, Any] = {
        name: {
            way: {k: [[round(scores[name][way][k], 5) for scores in row] for row in rows] for k in KS}
            for way in DIRECTIONS
        }
        for name in galleries
    }
    return triangles | {key: ledger[key] for key in _COSTS if key in ledger}


def conclude(results: dict[str, Any]) -> None:
    """Add each method's metrics at R@1, in per cent: mean over its seeds, and the spread from least to most.

    And what the base reads of English: on the styles that are taught, and beside that in the other galleries.
    """
    for method in results["methods"].values():
        seeds = list(method["seeds"].values())
        for metric, measure in _METRICS.items():
            method[metric] = {
                name: {way: _compute_mean(seeds, name, way, metric, measure) for way in DIRECTIONS}
                for name in GALLERIES
                if all(name in seed for seed in seeds)
            }
    base = results["methods"].get("zero-shot")
    if base:
        seed = next(iter(base["seeds"].values()))
        read = {
            name: {way: {k: seed[name][way][k][0][0] for k in KS} for way in DIRECTIONS}
            for name in GALLERIES
            if name in seed
        }
        results["base"] = read.pop("seen") | read


def _compute_mean(
    seeds: Sequence[dict[str, Any]], gallery: str, way: str, metric: str, measure: Callable[[Triangle], float]
) -> dict[str, float] | None:
    triangles = [seed[gallery][way]["R@1"] for seed in seeds]
    if metric != "AA" and any(len(a) != len(a[-1]) for a in triangles):
        return None  # taught all at once: nothing could be forgotten
    values = [100 * measure(a) for a in triangles]
    return {"mean": round(float(np.mean(values)), 5), "spread": round(max(values) - min(values), 5)}


def write(path: Path) -> str:
    """Return tables into the .md beside the results, between its marks, and the plots; returns the tables."""
    results = json.loads(path.read_text(encoding="utf-8"))
    conclude(results)
    plots.draw(results, path.with_suffix(""))
    return page.place(path.with_suffix(".md"), "Emoji-36", tables.list_tables(results))
