"""From scores to chances: how a search tells with what chance a hit is what its text means. Fits nothing.

A score says little by itself: it differs by language, by base and by text. So scores are measured in standard
deviations of what the same text scores among a fixed sample of pictures (z). The chance of a hit is then the product of
two logistic curves: that what is meant is there at all, by the z of the first hit; and that it is this hit, by its odds
against the first hits beside it. Neither is ever sure. `model.calibrating` fits them (decision 38).
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cache
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

RIVALS = 10  # first hits, among which a hit is compared with the others
SCORES_LOW = 0.3  # chance that what is meant is there though it scores no better than what is not there
_NARROW = 1e-6  # least deviation
_LEAST = 1e-13  # weight of the rivals of a hit that has none
_FAR = 60.0  # log odds beyond which nothing changes
Floats = NDArray[np.float64]
Number = TypeVar("Number", float, Floats)


@dataclass(frozen=True)
class Curves:
    """The two curves. `sharpness`: how much weight a standard deviation gives one hit over another.

    The chance that it is this hit, with `odds` against its rivals: `most` times the logistic of `trust` log(odds) +
    `lead`; some captions say something else than their picture shows, whatever their odds. That what is meant is there:
    from `SCORES_LOW` to 1 by the logistic of `steepness` (z of the first hit - `threshold`). All but `lead` and
    `threshold` are above 0, so no hit has a higher chance than one before it.

    `usual` is the standard deviation that texts of the language have on average.
    """

    sharpness: float
    trust: float
    lead: float
    most: float
    steepness: float
    threshold: float
    usual: float

    def matches(self, first: Floats, z: Floats) -> Floats:
        """The chance (n,) of hits with these `z` (n,) in an answer whose first hits, at most `RIVALS`, have `first`.

        Hits come in order of their scores; the n may be any of the answer, such as those of a later page.
        """
        count = len(first)
        if not count:
            return np.zeros(len(z))
        weights = np.exp(self.sharpness * (first - first[0]))
        rivals = _beside(count) @ weights
        place = np.searchsorted(-first, -z)
        among_first = first[np.minimum(place, count - 1)] == z
        of_rivals = np.where(among_first, rivals[place], rivals[count])
        odds = self.sharpness * (z - first[0]) - np.log(np.maximum(of_rivals, _LEAST))
        sure = 1 / (1 + math.exp(min(-self.steepness * (float(first[0]) - self.threshold), _FAR)))
        there = SCORES_LOW + (1 - SCORES_LOW) * sure
        found: Floats = self.most * there / (1 + np.exp(np.minimum(-self.trust * odds - self.lead, _FAR)))
        return found


@dataclass(frozen=True)
class Calibration:
    """The curves of one language as one version reads it, and the sample (n, dimension) that z is measured with.

    It was measured among `pictures` pictures, at this `change` of the gallery.
    """

    curves: Curves
    sample: NDArray[np.float32]
    pictures: int
    change: int

    def matches(self, query: NDArray[np.float32], first: Sequence[float], scores: Sequence[float]) -> list[float]:
        """The chance of hits with these `scores` to the unit vector of a text; see `Curves.matches` for `first`."""
        beside = self.sample @ query
        mean = float(beside.sum()) / len(beside)
        variance = float(beside @ beside) / len(beside) - mean * mean  # as `ordinary`, for one text
        deviation = between(math.sqrt(max(variance, _NARROW * _NARROW)), self.curves.usual)
        z = (np.array([*first[:RIVALS], *scores]) - mean) / deviation
        count = len(z) - len(scores)
        chances: list[float] = self.curves.matches(z[:count], z[count:]).round(4).tolist()
        return chances

    def holds_at(self, change: int) -> bool:
        """Whether chances are right at this change of the gallery: it may have doubled since it was measured."""
        return change - self.change <= self.pictures

    def holds_among(self, pictures: int) -> bool:
        """Whether chances are right where only so many pictures may be hits: at least half of those measured."""
        return 2 * pictures >= self.pictures

    @classmethod
    def of(cls, curves: Curves, sample: bytes, pictures: int, change: int, dimension: int) -> Self:
        """With a sample as `stored` gave it."""
        vectors = np.frombuffer(sample, dtype="<f2").astype(np.float32).reshape(-1, dimension)
        return cls(curves, vectors, pictures, change)


def stored(sample: NDArray[np.float32]) -> bytes:
    """The sample as halves, as picture vectors are."""
    return sample.astype("<f2").tobytes()


def ordinary(queries: NDArray[np.float32], sample: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Mean (n,) and standard deviation (n,) of what each query (n, dimension) scores among the sample."""
    scores = (queries @ sample.T).astype(np.float64)
    return scores.mean(axis=1), np.maximum(scores.std(axis=1), _NARROW)


def between(own: Number, usual: float) -> Number:
    """The standard deviation that z is measured in: halfway from a text's own one to what is usual in its language.

    What a text scores among 512 pictures tells its own one only roughly.
    """
    return (own + usual) / 2


@cache
def _beside(count: int) -> Floats:
    """Which of so many first hits are rivals of each of them, of which none is its own, and of any other (last row)."""
    return np.vstack([1 - np.eye(count), np.ones(count)])


def finite(curves: Curves) -> bool:
    """Whether a fit gave curves that can be used."""
    return bool(np.isfinite(astuple(curves)).all())
