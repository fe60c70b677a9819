"""How well retrieval works: R@K both ways, and AA, F, F_en, BWT over a chain of languages."""

from collections.abc import Sequence
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
    if len(texts) == 0:
        raise ValueError("nothing to evaluate")
    if not (np.isfinite(texts).all() and np.isfinite(pictures).all()):
        raise ValueError("the vectors must be finite")
    t2i = np.empty(len(texts), dtype=np.int64)
    for start in range(0, len(texts), _CHUNK):
        part = slice(start, start + _CHUNK)
        scores = texts[part] @ pictures.T  # (chunk, m)
        rows = np.arange(len(scores))
        target = scores[rows, owner[part]][:, None]
        earlier = np.arange(scores.shape[1])[None, :] < owner[part][:, None]
        t2i[part] = ((scores > target) | ((scores == target) & earlier)).sum(axis=1)
    return {"t2i": _at(t2i), "i2t": _at(_picture_ranks(texts, pictures, owner)), "pairs": len(texts)}


def _picture_ranks(
    texts: NDArray[np.float32], pictures: NDArray[np.float32], owner: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Rank of the best own text, for each picture that has one."""
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


def _at(ranks: NDArray[np.int64]) -> Recall:
    return {f"R@{k}": float((ranks < k).mean()) for k in KS}


# A chain of languages is scored by a lower triangle: a[i][j] is the score on the j-th language after the i-th.
Triangle = Sequence[Sequence[float]]


def average_accuracy(a: Triangle) -> float:
    """AA after the last language: mean score over all of them."""
    return float(np.mean(a[-1]))


def forgetting(a: Triangle) -> float:
    """F after the last language: mean over the earlier ones of best past score minus score now; 0.0 for only one."""
    return float(np.mean(_losses(a))) if len(a) > 1 else 0.0


def english_forgetting(a: Triangle) -> float:
    """F_en: the first language's own term of `forgetting`."""
    return _losses(a)[0] if len(a) > 1 else 0.0


def backward_transfer(a: Triangle) -> float:
    """BWT: mean over the earlier languages of score now minus score right after their own turn."""
    last = len(a) - 1
    return float(np.mean([a[last][j] - a[j][j] for j in range(last)])) if last else 0.0


def _losses(a: Triangle) -> list[float]:
    last = len(a) - 1
    return [max(a[k][j] for k in range(j, last)) - a[last][j] for j in range(last)]
