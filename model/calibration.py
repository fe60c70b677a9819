"""From scores to chances: how a search tells with what chance a hit is what its text means. Fits nothing.

A score says little by itself: it differs by language, by base and by text. So scores are measured in standard
deviations of what the same text scores among a fixed sample of pictures (z). The chance of a hit is then the product of
two logistic curves: that what is meant is there at all, by the z of the first hit; and that it is this hit, by its odds
against the first hits beside it. `model.calibrating` fits them (decision 38).
"""

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

RIVALS = 10  # first hits, among which a hit is compared with the others
_NARROW = 1e-6  # least deviation
_LEAST = 1e-13  # weight of the rivals of a hit that has none
Floats = NDArray[np.float64]
_OTHERS = 1 - np.eye(RIVALS)


@dataclass(frozen=True)
class Curves:
    """The two curves. `sharpness`: how much weight a standard deviation gives one hit over another.

    The chance that it is this hit, with `odds` against its rivals: logistic of `trust` log(odds) + `lead`. That what is
    meant is there: logistic of `steepness` (z of the first hit - `threshold`). All but `lead` and `threshold` are
    above 0, so no hit has a higher chance than one before it.
    """

    sharpness: float
    trust: float
    lead: float
    steepness: float
    threshold: float

    def matches(self, first: Floats, z: Floats) -> Floats:
        """The chance (n,) of hits with these `z` (n,) in an answer whose first hits, at most `RIVALS`, have `first`.

        Hits come in order of their scores; the n may be any of the answer, such as those of a later page.
        """
        if not len(first):
            return np.zeros(len(z))
        weights = np.exp(self.sharpness * (first - first[0]))
        of_rivals = np.full(len(z), weights.sum())
        beside = _OTHERS[: len(first), : len(first)] @ weights  # what is left for the rivals of each of the first hits
        place = np.searchsorted(-first, -z)  # a hit is not its own rival
        own = np.flatnonzero(place < len(first))
        own = own[first[place[own]] == z[own]]
        of_rivals[own] = beside[place[own]]
        odds = self.sharpness * (z - first[0]) - np.log(np.maximum(of_rivals, _LEAST))
        there = _logistic(np.asarray(self.steepness * (first[0] - self.threshold)))
        found: Floats = there * _logistic(self.trust * odds + self.lead)
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
        mean = float(beside.mean())
        variance = float(beside @ beside) / len(beside) - mean * mean  # as `ordinary`, for one text
        z = (np.array([*first[:RIVALS], *scores]) - mean) / max(variance, _NARROW * _NARROW) ** 0.5
        count = len(z) - len(scores)
        chances: list[float] = self.curves.matches(z[:count], z[count:]).round(4).tolist()
        return chances

    def holds_at(self, change: int) -> bool:
        """Whether chances are right at this change of the gallery: it may have doubled since it was measured."""
        return change - self.change <= self.pictures

    def holds_among(self, pictures: int) -> bool:
        """Whether chances are right where only so many pictures may be hits: at least half of those measured."""
        return 2 * pictures >= self.pictures

    def as_dict(self) -> dict[str, Any]:
        """The curves as JSON."""
        return asdict(self.curves)

    @classmethod
    def of(cls, curves: dict[str, float], sample: bytes, pictures: int, change: int, dimension: int) -> Self:
        """From what `as_dict` and `stored` gave."""
        vectors = np.frombuffer(sample, dtype="<f2").astype(np.float32).reshape(-1, dimension)
        return cls(Curves(**curves), vectors, pictures, change)


def stored(sample: NDArray[np.float32]) -> bytes:
    """The sample as halves, as picture vectors are."""
    return sample.astype("<f2").tobytes()


def ordinary(queries: NDArray[np.float32], sample: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Mean (n,) and standard deviation (n,) of what each query (n, dimension) scores among the sample."""
    scores = (queries @ sample.T).astype(np.float64)
    return scores.mean(axis=1), np.maximum(scores.std(axis=1), _NARROW)


def finite(curves: Curves) -> bool:
    """Whether a fit gave curves that can be used."""
    return bool(np.isfinite(astuple(curves)).all())


def _logistic(x: Floats) -> Floats:
    curve: Floats = 1 / (1 + np.exp(-np.clip(x, -60, 60)))
    return curve
