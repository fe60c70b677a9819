"""Measures of retrieval: R@K both ways, what one model gains over another, AA and F over a chain."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1024  # queries scored at a time
KS = (1, 5, 10)
Vectors = NDArray[np.float32]
Ints = NDArray[np.int64]
Recall = dict[str, float]  # "R@1", "R@5", "R@10" as fractions 0..1


class Recalls(TypedDict):
    """Text-to-picture and picture-to-text recall and the number of caption-picture pairs."""

    t2i: Recall
    i2t: Recall
    pairs: int


def measure_recalls(texts: Vectors, pictures: Vectors, owner: Ints) -> Recalls:
    """Return the recall of unit vectors `texts` (n, d) among all `pictures` (m, d); `owner` (n,) is their picture.

    Every text is a query over all pictures. Every picture that has a text is a query over all texts and counts as found
    at the rank of its best text. Ties go to the lower index.
    """
    t2i, i2t = compute_ranks(texts, pictures, owner), _compute_picture_ranks(texts, pictures, owner)
    return {"t2i": _compute_recall(t2i), "i2t": _compute_recall(i2t), "pairs": len(texts)}


def compute_ranks(texts: Vectors, pictures: Vectors, owner: Ints) -> Ints:
    """Return the rank (n,), from 0, of each text's own picture, `owner` (n,), among all; ties go to the lower index."""
    if len(texts) == 0:
        raise ValueError("nothing to evaluate")
    if not (np.isfinite(texts).all() and np.isfinite(pictures).all()):
        raise ValueError("the vectors must be finite")
    ranks = np.empty(len(texts), dtype=np.int64)
    for start in range(0, len(texts), _CHUNK):
        part = slice(start, start + _CHUNK)
        scores = texts[part] @ pictures.T  # (chunk, m)
        rows = np.arange(len(scores))
        target = scores[rows, owner[part]][:, None]
        earlier = np.arange(scores.shape[1])[None, :] < owner[part][:, None]
        ranks[part] = ((scores > target) | ((scores == target) & earlier)).sum(axis=1)
    return ranks


@dataclass(frozen=True)
class Gain:
    """The mean score of the same queries before and after, as fractions, and one standard error of their difference."""

    before: float
    after: float
    error: float

    @property
    def mean(self) -> float:
        """Return what was gained; below 0: lost."""
        return self.after - self.before

    @property
    def is_beyond_error(self) -> bool:
        """Return whether more than the error was gained. Where one query changed, both are equal but for rounding."""
        return self.mean > self.error and not math.isclose(self.mean, self.error, rel_tol=1e-9)


def measure_gain(before: Ints, after: Ints, owner: Ints, ks: Sequence[int]) -> Gain:
    """Measure the second model's gain on the same n queries, given both ranks (n,) and the `owner` of each.

    The score of a query is the share of `ks` within which its target ranks, so that the mean score is the mean of R@K
    over `ks`. Queries of one target (`owner`) succeed and fail together, so the error is that of a sample of t targets:
    with D the sum of (d - mean d) over the queries of a target, d the paired differences, it is sqrt(t / (t - 1) sum
    D^2) / n (Cochran, Sampling Techniques, 1977, ratio estimator). Where each target has as many queries, that is
    sqrt(sum (d_t - mean d)^2 / (t (t - 1))) of the means d_t by target. Of one target it is 1.
    """
    first, second = (np.mean([ranks < k for k in ks], axis=0) for ranks in (before, after))
    differences = second - first
    targets, of = np.unique(owner, return_inverse=True)
    sums, count = np.bincount(of, weights=differences - differences.mean()), len(targets)
    error = math.sqrt(count / (count - 1) * float(sums @ sums)) / len(of) if count > 1 else 1.0
    return Gain(float(first.mean()), float(second.mean()), error)


def _compute_picture_ranks(texts: Vectors, pictures: Vectors, owner: Ints) -> Ints:
    """Return the rank of the best own text, for each picture that has one."""
    queries = np.unique(owner)
    ranks = np.empty(len(queries), dtype=np.int64)
    for start in range(0, len(queries), _CHUNK):
        chosen = queries[start : start + _CHUNK]
        scores = pictures[chosen] @ texts.T  # (chunk, n)
        own = owner[None, :] == chosen[:, None]
        best = np.where(own, scores, -np.inf).argmax(axis=1)  # the first of equals: ties by index
        target = scores[np.arange(len(chosen)), best][:, None]
        earlier = np.arange(scores.shape[1])[None, :] < best[:, None]
        ranks[start : start + _CHUNK] = ((scores > target) | ((scores == target) & earlier)).sum(axis=1)
    return ranks


def _compute_recall(ranks: Ints) -> Recall:
    return {f"R@{k}": float((ranks < k).mean()) for k in KS}


# A chain of languages is scored by a lower triangle: a[i][j] is the score on the j-th language after the i-th.
Triangle = Sequence[Sequence[float]]


def compute_average_accuracy(a: Triangle) -> float:
    """Return AA after the last language: the mean score over all of them."""
    return float(np.mean(a[-1]))


def compute_forgetting(a: Triangle) -> float:
    """Return F after the last language: the mean over earlier ones of best past score minus score now."""
    last = len(a) - 1
    return float(np.mean([max(a[k][j] for k in range(j, last)) - a[last][j] for j in range(last)])) if last else 0.0
