"""The benchmark's targets, and whether they are reached. Rows are compared on the seeds that both have."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.forgetting import measure_english_forgetting
from model.evaluation import Triangle, compute_average_accuracy, compute_forgetting

MARKED = ("bn", "hi", "te", "th")  # words with combining marks, which CLIP's rule cuts
SERVED = "addressed-chain"  # the row that reads as the service does
Figure = tuple[str, str, str, bool]  # what, the target, the measurement, whether it is reached


def build_table(results: dict[str, Any]) -> str:
    """Return Markdown; figures whose rows were not run are left out."""
    lines = ["Figures to reach, t2i R@1 on the seen styles, means over the seeds that all rows named have.", ""]
    lines += ["| figure | reach | measured | |", "|---|---|---|---|"]
    for figure, aim, measured, holds in list_figures(results):
        lines.append(f"| {figure} | {aim} | {measured} | {'yes' if holds else '**no**'} |")
    return "\n".join(lines)


def list_figures(results: dict[str, Any]) -> Iterator[Figure]:
    """Yield every figure that these results have the rows for."""
    methods = results["methods"]
    for baseline, best in (("cll-clip", "teir"), ("cll-clip-narrow", "teir"), ("cll-clip-narrow-fast", "teir-fast")):
        if _list_common_seeds(methods, baseline, best):
            yield from _list_teir_figures(methods, baseline, best)
    for part in ("teir-init", "teir-reg"):
        if _list_common_seeds(methods, "cll-clip", part, "teir"):
            yield _compare_with_span(methods, "cll-clip", part)
    if "addressed" in methods:
        yield _measure_kept(methods)
        yield from _list_marked(results)
    for name, other in (("addressed", "auto"), (SERVED, "auto-chain")):
        for joint in ("joint", "joint-alike"):
            yield from _list_leads(methods, name, joint, "≥ 0", lambda mean: mean >= 0)
        yield from _list_leads(methods, name, other, "≤ 2", lambda mean: mean <= 2)


def _list_teir_figures(methods: dict[str, Any], baseline: str, best: str) -> Iterator[Figure]:
    more = _list_differences(methods, best, baseline, compute_average_accuracy)
    less = _list_differences(methods, baseline, best, compute_forgetting)
    yield f"AA of `{best}` over `{baseline}`", "≥ +3", _format_figure(more), float(np.mean(more)) >= 3
    yield f"F of `{best}` under `{baseline}`", "≥ 3", _format_figure(less), float(np.mean(less)) >= 3


def _compare_with_span(methods: dict[str, Any], baseline: str, part: str) -> Figure:
    names = (baseline, part, "teir")
    accuracy, lost = (_list_means(methods, names, metric) for metric in (compute_average_accuracy, compute_forgetting))
    said = f"{accuracy[1]:.1f}, {lost[1]:.1f}"
    holds = accuracy[0] <= accuracy[1] <= accuracy[2] and lost[2] <= lost[1] <= lost[0]
    return f"AA, F of `{part}`", f"between `{baseline}` and `teir`", said, holds


def _list_leads(
    methods: dict[str, Any], name: str, other: str, aim: str, holds: Callable[[float], bool]
) -> Iterator[Figure]:
    """Yield by how much one row ends above another, if both were run."""
    if _list_common_seeds(methods, name, other):
        more = _list_differences(methods, name, other, compute_average_accuracy)
        yield f"AA of `{name}` over `{other}`", aim, _format_figure(more), holds(float(np.mean(more)))


def _measure_kept(methods: dict[str, Any]) -> Figure:
    lost, english = (
        _list_means(methods, ("addressed",), metric)[0] for metric in (compute_forgetting, measure_english_forgetting)
    )
    same = all(seed["bitwise_equal"] for seed in methods["addressed"]["seeds"].values())
    said = f"{lost:.1f}, {english:.1f}; vectors after the last language {'equal' if same else 'not equal'} to the bit"
    return "F, F_en of `addressed`", "0.0, 0.0", said, same and lost == english == 0


def _list_marked(results: dict[str, Any]) -> Iterator[Figure]:
    """Yield languages that CLIP's rule would cut at every mark, against the median of all."""
    seeds = results["methods"]["addressed"]["seeds"].values()
    learned = 100 * np.mean([_read_triangle(seed)[-1] for seed in seeds], axis=0)
    places = [results["languages"].index(tag) for tag in MARKED if tag in results["languages"]]
    if places:
        under = {results["languages"][place]: float(np.median(learned) - learned[place]) for place in places}
        said = ", ".join(f"{tag} {-value:+.1f}" for tag, value in under.items())
        yield "languages with marks against the median", "≥ −5", said, max(under.values()) <= 5


def _list_common_seeds(methods: dict[str, Any], *names: str) -> list[str]:
    """Return the seeds that all these rows have."""
    first, *others = (methods.get(name, {"seeds": {}})["seeds"] for name in names)
    return [seed for seed in first if all(seed in other for other in others)]


def _list_means(methods: dict[str, Any], names: Sequence[str], metric: Callable[[Triangle], float]) -> list[float]:
    """Return the mean of each row in per cent, over the seeds that all of them have."""
    common = _list_common_seeds(methods, *names)
    return [
        100 * float(np.mean([metric(_read_triangle(methods[name]["seeds"][seed])) for seed in common]))
        for name in names
    ]


def _list_differences(
    methods: dict[str, Any], one: str, other: str, metric: Callable[[Triangle], float]
) -> list[float]:
    """Return the difference in points of each seed that both rows have."""
    seeds, others = methods[one]["seeds"], methods[other]["seeds"]
    common = _list_common_seeds(methods, one, other)
    return [100 * (metric(_read_triangle(seeds[key])) - metric(_read_triangle(others[key]))) for key in common]


def _format_figure(differences: Sequence[float]) -> str:
    each = f" ({', '.join(f'{value:+.1f}' for value in differences)})" if len(differences) > 1 else ""
    return f"{np.mean(differences):+.1f}{each}"


def _read_triangle(seed: dict[str, Any]) -> Triangle:
    triangle: Triangle = seed["seen"]["t2i"]["R@1"]
    return triangle
