"""The benchmark's targets, and whether they are reached. Rows are compared on the seeds that both have."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.forgetting import english_forgetting
from model.evaluation import Triangle, compute_average_accuracy, compute_forgetting

MARKED = ("bn", "hi", "te", "th")  # words with combining marks, which CLIP's rule cuts
SERVED = "addressed-chain"  # the row that reads as the service does
Figure = tuple[str, str, str, bool]  # what, the target, the measurement, whether it is reached


def table(results: dict[str, Any]) -> str:
    """In Markdown; figures whose rows were not run are left out."""
    lines = ["Figures to reach, t2i R@1 on the seen styles, means over the seeds that all rows named have.", ""]
    lines += ["| figure | reach | measured | |", "|---|---|---|---|"]
    for figure, aim, measured, holds in reached(results):
        lines.append(f"| {figure} | {aim} | {measured} | {'yes' if holds else '**no**'} |")
    return "\n".join(lines)


def reached(results: dict[str, Any]) -> Iterator[Figure]:
    """Every figure that these results have the rows for."""
    methods = results["methods"]
    for baseline, best in (("cll-clip", "teir"), ("cll-clip-narrow", "teir"), ("cll-clip-narrow-fast", "teir-fast")):
        if _common(methods, baseline, best):
            yield from _teir(methods, baseline, best)
    for part in ("teir-init", "teir-reg"):
        if _common(methods, "cll-clip", part, "teir"):
            yield _between(methods, "cll-clip", part)
    if "addressed" in methods:
        yield _kept(methods)
        yield from _marked(results)
    for name, other in (("addressed", "auto"), (SERVED, "auto-chain")):
        for joint in ("joint", "joint-alike"):
            yield from _over(methods, name, joint, "≥ 0", lambda mean: mean >= 0)
        yield from _over(methods, name, other, "≤ 2", lambda mean: mean <= 2)


def _teir(methods: dict[str, Any], baseline: str, best: str) -> Iterator[Figure]:
    more = _difference(methods, best, baseline, compute_average_accuracy)
    less = _difference(methods, baseline, best, compute_forgetting)
    yield f"AA of `{best}` over `{baseline}`", "≥ +3", _written(more), float(np.mean(more)) >= 3
    yield f"F of `{best}` under `{baseline}`", "≥ 3", _written(less), float(np.mean(less)) >= 3


def _between(methods: dict[str, Any], baseline: str, part: str) -> Figure:
    names = (baseline, part, "teir")
    accuracy, lost = (_means(methods, names, metric) for metric in (compute_average_accuracy, compute_forgetting))
    said = f"{accuracy[1]:.1f}, {lost[1]:.1f}"
    holds = accuracy[0] <= accuracy[1] <= accuracy[2] and lost[2] <= lost[1] <= lost[0]
    return f"AA, F of `{part}`", f"between `{baseline}` and `teir`", said, holds


def _over(methods: dict[str, Any], name: str, other: str, aim: str, holds: Callable[[float], bool]) -> Iterator[Figure]:
    """By how much one row ends above another, if both were run."""
    if _common(methods, name, other):
        more = _difference(methods, name, other, compute_average_accuracy)
        yield f"AA of `{name}` over `{other}`", aim, _written(more), holds(float(np.mean(more)))


def _kept(methods: dict[str, Any]) -> Figure:
    lost, english = (_means(methods, ("addressed",), metric)[0] for metric in (compute_forgetting, english_forgetting))
    same = all(seed["bitwise_equal"] for seed in methods["addressed"]["seeds"].values())
    said = f"{lost:.1f}, {english:.1f}; vectors after the last language {'equal' if same else 'not equal'} to the bit"
    return "F, F_en of `addressed`", "0.0, 0.0", said, same and lost == english == 0


def _marked(results: dict[str, Any]) -> Iterator[Figure]:
    """Languages that CLIP's rule would cut at every mark, against the median of all."""
    seeds = results["methods"]["addressed"]["seeds"].values()
    learned = 100 * np.mean([_triangle(seed)[-1] for seed in seeds], axis=0)
    places = [results["languages"].index(tag) for tag in MARKED if tag in results["languages"]]
    if places:
        under = {results["languages"][place]: float(np.median(learned) - learned[place]) for place in places}
        said = ", ".join(f"{tag} {-value:+.1f}" for tag, value in under.items())
        yield "languages with marks against the median", "≥ −5", said, max(under.values()) <= 5


def _common(methods: dict[str, Any], *names: str) -> list[str]:
    """The seeds that all these rows have."""
    first, *others = (methods.get(name, {"seeds": {}})["seeds"] for name in names)
    return [seed for seed in first if all(seed in other for other in others)]


def _means(methods: dict[str, Any], names: Sequence[str], metric: Callable[[Triangle], float]) -> list[float]:
    """Of each row in per cent, over the seeds that all of them have."""
    common = _common(methods, *names)
    return [
        100 * float(np.mean([metric(_triangle(methods[name]["seeds"][seed])) for seed in common])) for name in names
    ]


def _difference(methods: dict[str, Any], one: str, other: str, metric: Callable[[Triangle], float]) -> list[float]:
    """Of each seed that both rows have, in points."""
    seeds, others = methods[one]["seeds"], methods[other]["seeds"]
    common = _common(methods, one, other)
    return [100 * (metric(_triangle(seeds[key])) - metric(_triangle(others[key]))) for key in common]


def _written(differences: Sequence[float]) -> str:
    each = f" ({', '.join(f'{value:+.1f}' for value in differences)})" if len(differences) > 1 else ""
    return f"{np.mean(differences):+.1f}{each}"


def _triangle(seed: dict[str, Any]) -> Triangle:
    triangle: Triangle = seed["seen"]["t2i"]["R@1"]
    return triangle
