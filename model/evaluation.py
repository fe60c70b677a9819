"""How well retrieval works: R@K both ways, what one model gains over another, and AA, F, F_en, BWT over a chain."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1024  # queries scored at a time
KS = (1, 5, 10)
Recall = dict[str, float]  # "R@1", "R@5", "R@10" as fractions 0..1


class Recalls(TypedDict):
    """Text-to-picture and picture-to-text recall and the number of caption-picture pairs."""

    t2i: Recall
    i2t: Recall
    pairs: int


def recalls(texts: NDArray[np.float32], pictures: NDArray[np.float32], owner: NDArray[np.int64]) -> Recalls:
    """Recall of unit vectors `texts` (n, d) among the whole gallery `pictures` (m, d); `owner` (n,) is their picture.

    Every text is a query over all pictures. Every picture that has a text is a query over all texts and counts as found
    at the rank of its best text. Ties go to the lower index.
    """
    t2i = ranks(texts, pictures, owner)
    return {"t2i": _at(t2i), "i2t": _at(_picture_ranks(texts, pictures, owner)), "pairs": len(texts)}


def ranks(texts: NDArray[np.float32], pictures: NDArray[np.float32], owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rank (n,), from 0, of each text's own picture among all pictures; arguments as in `recalls`."""
    if len(texts) == 0:
        raise ValueError("nothing to evaluate")
    if not (np.isfinite(texts).all() and np.isfinite(pictures).all()):
        raise ValueError("the vectors must be finite")
    found = np.empty(len(texts), dtype=np.int64)
    for start in range(0, len(texts), _CHUNK):
        part = slice(start, start + _CHUNK)
        scores = texts[part] @ pictures.T  # (chunk, m)
        rows = np.arange(len(scores))
        target = scores[rows, owner[part]][:, None]
        earlier = np.arange(scores.shape[1])[None, :] < owner[part][:, None]
        found[part] = ((scores > target) | ((scores == target) & earlier)).sum(axis=1)
    return found


@dataclass(frozen=True)
class Gain:
    """The mean score of the same queries before and after, as fractions, and one standard error of their difference."""

    before: float
    after: float
    error: float

    @property
    def mean(self) -> float:
        """What was gained; below 0: lost."""
        return self.after - self.before

    @property
    def enough(self) -> bool:
        """Whether more than the error was gained. Where one query alone changed both are equal, but for rounding."""
        return self.mean > self.error and not math.isclose(self.mean, self.error, rel_tol=1e-9)


def gain(before: NDArray[np.int64], after: NDArray[np.int64], owner: NDArray[np.int64], ks: Sequence[int]) -> Gain:
    """What the second model gains over the first on the same n queries, given both ranks (n,) and the `owner` of each.

    The score of a query is the share of `ks` within which its target ranks, so that the mean score is the mean of R@K
    over `ks`. Queries of one target (`owner`) succeed and fail together, so the error is that of a sample of t targets:
    with D the sum of (d - mean d) over the queries of a target, d the paired differences, it is
    sqrt(t / (t - 1) sum D^2) / n (Cochran, Sampling Techniques, 1977, ratio estimator). Where each target has as many
    queries, that is sqrt(sum (d_t - mean d)^2 / (t (t - 1))) of the means d_t by target. Of one target it is 1.
    """
    first, second = (np.mean([found < k for k in ks], axis=0) for found in (before, after))
    differences = second - first
    targets, of = np.unique(owner, return_inverse=True)
    sums, count = np.bincount(of, weights=differences - differences.mean()), len(targets)
    error = math.sqrt(count / (count - 1) * float(sums @ sums)) / len(of) if count > 1 else 1.0
    return Gain(float(first.mean()), float(second.mean()), error)


def _picture_ranks(
    texts: NDArray[np.float32], pictures: NDArray[np.float32], owner: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Rank of the best own text, for each picture that has one."""
    queries = np.unique(owner)
    found = np.empty(len(queries), dtype=np.int64)
    for start in range(0, len(queries), _CHUNK):
        chosen = queries[start : start + _CHUNK]
        scores = pictures[chosen] @ texts.T  # (chunk, n)
        own = owner[None, :] == chosen[:, None]
        best = np.where(own, scores, -np.inf).argmax(axis=1)  # the first of equals: ties by index
        target = scores[np.arange(len(chosen)), best][:, None]
        earlier = np.arange(scores.shape[1])[None, :] < best[:, None]
        found[start : start + _CHUNK] = ((scores > target) | ((scores == target) & earlier)).sum(axis=1)
    return found


def _at(found: NDArray[np.int64]) -> Recall:
    return {f"R@{k}": float((found < k).mean()) for k in KS}


# A chain of languages is scored by a lower triangle: a[i][j] is the score on the j-th language after the i-th.
Triangle = Sequence[Sequence[float]]


def average_accuracy(a: Triangle) -> float:
    """AA after the last language: mean score over all of them."""
    return float(np.mean(a[-1]))


def forgetting(a: Triangle) -> float:
    """F after the last language: mean over the earlier ones of best past score minus score now; 0.0 for only one."""
    last = len(a) - 1
    return float(np.mean([max(a[k][j] for k in range(j, last)) - a[last][j] for j in range(last)])) if last else 0.0
