"""The report's tables, in Markdown, out of concluded results. Measures nothing."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.emoji36 import published, reach
from benchmarks.emoji36.methods import ROWS, order_rows


def list_tables(results: dict[str, Any]) -> Iterator[str]:
    """Yield every table that these results have something for."""
    yield from (_build_main_table(results), reach.build_table(results), _build_language_table(results))
    yield from (_build_confusion_table(results), _build_cost_table(results))


def _build_main_table(results: dict[str, Any]) -> str:
    columns = [
        "method",
        "seeds",
        "AA",
        "F",
        "F_en",
        "just learned",
        "AA i2t",
        "F i2t",
        "AA unseen style",
        "AA singles",
        "paper: AA, F",
    ]
    lines = [
        "t2i R@1 in per cent on the seen styles after the last language, unless the column says otherwise;",
        "± is half of what lies between the seeds.",
        "",
    ]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for name in order_rows(results):
        method = results["methods"][name]
        cells = [f"`{name}`", str(len(method["seeds"]))]
        cells += [_format_cell(method, metric, "seen", "t2i") for metric in ("AA", "F", "F_en")]
        cells.append(_format_just_learned(method))
        cells += [
            *(_format_cell(method, metric, "seen", "i2t") for metric in ("AA", "F")),
            *(_format_cell(method, "AA", other, "t2i") for other in ("unseen", "singles")),
        ]
        cells.append(published.XM3600.get(name, "–"))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _format_cell(method: dict[str, Any], metric: str, gallery: str, way: str) -> str:
    value = method[metric].get(gallery, {}).get(way)
    if value is None:
        return "–"
    spread = f" ±{value['spread'] / 2:.1f}" if len(method["seeds"]) > 1 else ""
    return f"{value['mean']:.1f}{spread}"


def _format_just_learned(method: dict[str, Any]) -> str:
    diagonals = [seed["seen"]["t2i"]["R@1"] for seed in method["seeds"].values()]
    if any(len(a) != len(a[-1]) for a in diagonals):
        return "–"
    return f"{100 * np.mean([a[j][j] for a in diagonals for j in range(len(a))]):.1f}"


def _build_language_table(results: dict[str, Any]) -> str:
    names = order_rows(results)
    lines = ["t2i R@1 of each language after the last, first seed.", ""]
    lines += ["| language | " + " | ".join(f"`{name}`" for name in names) + " |", "|---|" + "---|" * len(names)]
    for j, language in enumerate(results["languages"]):
        cells = [f"{100 * _choose_first(results, name)['seen']['t2i']['R@1'][-1][j]:.1f}" for name in names]
        lines.append(f"| {language} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _build_cost_table(results: dict[str, Any]) -> str:
    """Leave out seconds, which depend on what else ran, and detected rows, which train nothing of their own."""
    lines = ["What a language leaves, first seed, mean over languages.", ""]
    lines += ["| method | rows trained | bytes stored / bytes of its rows |", "|---|---|---|"]
    for name in order_rows(results):
        seed = _choose_first(results, name)
        if seed.get("rows_trained") and ROWS[name].read != "detected":
            share = sum(seed["bytes_stored"]) / sum(seed["bytes_of_rows"])
            lines.append(f"| `{name}` | {np.mean(seed['rows_trained']):,.0f} | {share:.2f} |")
    return "\n".join(lines)


def _choose_first(results: dict[str, Any], name: str) -> dict[str, Any]:
    seed: dict[str, Any] = next(iter(results["methods"][name]["seeds"].values()))
    return seed


def _build_confusion_table(results: dict[str, Any]) -> str:
    """Return the language-ID confusion matrix of `auto`."""
    if "auto" not in results["methods"]:
        return ""
    lines = ["`auto`: what each language's test texts were taken for, % of them, first seed.", ""]
    lines += ["| language | right | unsure | taken for others |", "|---|---|---|---|"]
    confusion = _choose_first(results, "auto")["confusion"]
    for language, guesses in ((tag, confusion[tag]) for tag in results["languages"]):
        total = sum(guesses.values())
        others = {tag: count for tag, count in guesses.items() if tag not in (language, "unsure")}
        said = ", ".join(f"{tag} {100 * count / total:.1f}" for tag, count in others.items()) or "–"
        right, unsure = (100 * guesses.get(key, 0) / total for key in (language, "unsure"))
        lines.append(f"| {language} | {right:.1f} | {unsure:.1f} | {said} |")
    return "\n".join(lines)
