"""What each picture adds to AA and F, and the error of a sample of pictures that follows from it.

Languages ask for the same pictures, so what is asked of one succeeds and fails together.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Sums = dict[str, Any]  # metric -> {"found": what each picture adds, "asked": in how many queries}
FIRST = "first"  # in scores: of each query whether its picture came first, as bits in hexadecimal


def pack(ranks: NDArray[np.int64]) -> str:
    """Whether each of these ranks is the first."""
    return np.packbits(ranks == 0).tobytes().hex()


def sums(triangle: Sequence[Sequence[Any]], gallery: str, owners: Sequence[NDArray[np.int64]]) -> Sums:
    """Return sums of AA and F at R@1, text to picture, among the pictures of `gallery` that the queries ask for."""
    languages, pictures = len(owners), int(max(owner.max() for owner in owners)) + 1

    def found(after: int, language: int) -> NDArray[Any]:
        bits = np.frombuffer(bytes.fromhex(triangle[after][language][gallery][FIRST]), dtype=np.uint8)
        owner = owners[language]
        return np.bincount(owner, weights=np.unpackbits(bits)[: len(owner)], minlength=pictures)

    def best(language: int) -> int:
        """Return after which language it read best, but the last."""
        return max(range(language, languages - 1), key=lambda after: found(after, language).sum())

    asked = [np.bincount(owner, minlength=pictures) for owner in owners]
    last = [found(languages - 1, language) for language in range(languages)]
    earlier = range(languages - 1)
    parts = {
        "AA": (last, asked),
        "F": ([found(best(language), language) - last[language] for language in earlier], asked[:-1]),
    }
    return {
        metric: {"found": np.sum(of, axis=0).astype(int).tolist(), "asked": np.sum(queries, axis=0).tolist()}
        for metric, (of, queries) in parts.items()
        if queries
    }


def compute_mean(seeds: Sequence[Sums], metric: str, without: Sequence[Sums] = ()) -> tuple[float, float]:
    """Return the metric in points, the mean over seeds, with one standard error of the sample of pictures.

    With those `without`, seed by seed, it is the difference, paired by query. The error is that of a ratio estimator
    over t pictures (Cochran, Sampling Techniques, 1977): sqrt(t / (t - 1) sum (x - n mean)^2) / sum n, where a picture
    adds x in n queries.
    """
    adds = np.mean([each[metric]["found"] for each in seeds], axis=0)
    if without:
        adds = adds - np.mean([each[metric]["found"] for each in without], axis=0)
    asked = np.array(seeds[0][metric]["asked"])
    found = adds.sum() / asked.sum()
    spread = adds - found * asked
    count = np.count_nonzero(asked)
    return 100 * float(found), 100 * math.sqrt(count / (count - 1) * float(spread @ spread)) / int(asked.sum())
