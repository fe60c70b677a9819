"""From ranks to figures: R@K of one half, the share of English on the same pictures, and standard errors of both.

A picture is the unit of every sample: what is asked of it, in whatever languages, succeeds and fails together.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.emoji36.errors import Refused
from benchmarks.stamps.bench import GALLERIES, Asked
from benchmarks.stamps.cases import Case
from benchmarks.stamps.data import Half, choose_half
from model.evaluation import KS, measure_gain
from model.languages import ENGLISH

TEN = 10
Result = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """A number in per cent with one standard error, also in per cent; of each picture its `part` in the error."""

    value: float
    parts: Mapping[str, float]

    @property
    def error(self) -> float:
        """Of a sample of so many pictures: sqrt(n / (n - 1) times the sum of the squares of their parts)."""
        count = len(self.parts)
        return 100 * math.sqrt(count / (count - 1) * sum(part**2 for part in self.parts.values())) if count > 1 else 0.0

    def as_json(self) -> dict[str, float]:
        """Return rounded to a tenth."""
        return {"value": round(self.value, 1), "error": round(self.error, 1)}


def of_half(asked: Asked, half: Half, among: Collection[str] | None = None) -> Asked:
    """Return what was asked of the pictures of a half, and of these alone if some are given."""
    return {
        name: found for name, found in asked.items() if choose_half(name) == half and (among is None or name in among)
    }


def measure_recall(asked: Asked, gallery: str = "photographs", k: int = TEN) -> Figure | None:
    """Return R@K; None where nothing was asked."""
    if not asked:
        return None
    found = _find_hits(asked, gallery, k)
    mean = float(np.mean([*found.values()]))
    return Figure(100 * mean, {name: (hit - mean) / len(found) for name, hit in found.items()})


def share(asked: Asked, english: Asked, gallery: str = "photographs", k: int = TEN) -> Figure | None:
    """Return R@K over English's on the same pictures; None where English finds none of them."""
    return pool([asked], english, gallery, k)


def pool(asked: Iterable[Asked], english: Asked, gallery: str = "photographs", k: int = TEN) -> Figure | None:
    """Return several languages' share of English together: a ratio of two sums, with the error of such an estimator
    (Cochran, Sampling Techniques, 1977)."""
    ours, theirs = dict[str, float](), dict[str, float]()
    for each in asked:
        for name, hits in _find_hits(each, gallery, k).items():
            ours[name] = ours.get(name, 0.0) + hits
        for name, hits in _find_hits({name: english[name] for name in each}, gallery, k).items():
            theirs[name] = theirs.get(name, 0.0) + hits
    total = sum(theirs.values())
    if not total:
        return None
    ratio = sum(ours.values()) / total
    return Figure(100 * ratio, {name: (ours[name] - ratio * theirs[name]) / total for name in ours})


def compute_mean(figures: Iterable[Figure | None]) -> Figure | None:
    """Return the mean of several languages' figures; a picture that several were asked for counts once in the error."""
    there = [figure for figure in figures if figure is not None]
    if not there:
        return None
    parts: dict[str, float] = {}
    for figure in there:
        for name, part in figure.parts.items():
            parts[name] = parts.get(name, 0.0) + part / len(there)
    return Figure(sum(figure.value for figure in there) / len(there), parts)


def compare_recalls(
    before: Sequence[Asked], after: Sequence[Asked], k: int, gallery: str = "photographs"
) -> dict[str, float]:
    """Return R@K of the same captions before and after, of all languages together, and the gain with its error."""
    place = GALLERIES.index(gallery)
    asked = [
        (name, *ranks)
        for one, other in zip(before, after, strict=True)
        for name, found in other.items()
        for ranks in zip(one[name][place :: len(GALLERIES)], found[place :: len(GALLERIES)], strict=True)
    ]
    if not asked:
        return {}
    names, *sides = (np.array(each) for each in zip(*asked, strict=True))
    found = measure_gain(sides[0], sides[1], names, (k,))
    values = {"before": found.before, "after": found.after, "gain": found.mean, "error": found.error}
    return {name: round(100 * value, 1) for name, value in values.items()}


def find_lowest(figures: Mapping[str, Figure | None]) -> tuple[str, Figure] | None:
    """Return the language with the smallest figure, and that."""
    there = [(figure.value, tag, figure) for tag, figure in figures.items() if figure is not None]
    return min(there, key=lambda each: each[:2])[1:] if there else None


def compare_with_english(asked: Asked, english: Asked) -> dict[str, Any]:
    """Return all figures of what was asked in a language, and English's on the same pictures."""
    same = {name: english[name] for name in asked}
    return {
        "captions": len(asked),
        **{
            gallery: {
                **{f"R@{k}": _to_json(measure_recall(asked, gallery, k)) for k in KS},
                "english R@10": _to_json(measure_recall(same, gallery)),
                "share": _to_json(share(asked, english, gallery)),
            }
            for gallery in GALLERIES
        },
    }


def format_line(case: Case, result: Result, english: Result, half: Half) -> str:
    """Return what a run prints of one case: R@10 among the photographs."""
    said = english["asked"]["english"]
    if case.row == "english":
        return f"english: {_format_short(measure_recall(of_half(said, half)))} on {half}"
    name = " ".join([case.row, case.language, *([f"from {case.pivot}"] if case.pivot != "en" else [])])
    name += f" with {case.adapter}" if case.adapter else ""
    line = f"{name}: {result['pairs']} pairs in {result['seconds']:.0f} s; R@10 on {half}"
    if case.row == "chain":
        parts = [f"{how} {_format_short(_compare(result, how, half))}" for how in ("shared", "addressed", "auto")]
        return f"{line}, mean of {len(case.chain) + 1} languages: {', '.join(parts)}"
    parts = []
    for which in (name for name in ("taught", "new", "translated", "both") if name in result["asked"]):
        mine = of_half(result["asked"][which], half)
        parts.append(f"{which} {_format_short(measure_recall(mine))}, {_format_short(share(mine, said))} of English")
    if "known" in result:
        mine = of_half(result["asked"]["new"], half, result["known"])
        parts.append(
            f"{len(mine)} of taught words alone {_format_short(measure_recall(mine))}, "
            f"{_format_short(share(mine, said))} of English"
        )
    return f"{line}: {'; '.join(parts)}"


def build_triangle(steps: Sequence[Result], how: str, half: Half, gallery: str = "photographs") -> list[list[float]]:
    """Return R@10 as fractions, a[i][j] of the j-th language after the i-th: English first, which the base reads.

    Raises `Refused` where a language has no captions in the half: no figure is no zero.
    """

    def measure(asked: Mapping[str, Asked], tag: str) -> float:
        figure = measure_recall(of_half(asked[tag], half), gallery)
        if figure is None:
            raise Refused(f"the chain: {tag} has no captions in the half {half}; leave the language out")
        return figure.value / 100

    return [[measure(step["asked"][how], tag) for tag in (ENGLISH, *step["chain"])] for step in steps]


def _compare(result: Result, how: str, half: Half) -> Figure | None:
    return compute_mean(measure_recall(of_half(asked, half)) for asked in result["asked"][how].values())


def _find_hits(asked: Asked, gallery: str, k: int) -> dict[str, float]:
    """Return whether each picture is among the first k, in the mean of the seeds."""
    ranks = {name: found[GALLERIES.index(gallery) :: len(GALLERIES)] for name, found in asked.items()}
    return {name: sum(rank < k for rank in found) / len(found) for name, found in ranks.items()}


def _to_json(figure: Figure | None) -> dict[str, float] | None:
    return None if figure is None else figure.as_json()


def _format_short(figure: Figure | None) -> str:
    return "–" if figure is None else f"{figure.value:.1f} ±{figure.error:.1f}"
