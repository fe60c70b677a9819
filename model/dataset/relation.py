"""Whether two columns of texts belong together row by row, found without knowing either language.

Where they do, rows that share parts of words on one side share some on the other, names and numbers stand on both, and
long texts stand beside long ones. Each of these is compared with what it is when the rows of one side are mixed.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from model.detection import list_ngrams

MOST = 256  # pairs that are looked at, one behind another
_NUMBER = re.compile(r"\d+")
_FEATURES = 2_048  # to which n-grams are hashed
_MIXED = 50  # orders that are drawn
_SHIFTS = (-5, -4, -3, -2, -1, 1, 2, 3, 4, 5)  # rows by which a column may have slipped
_LEAST = 4.0  # standard deviations over mixed rows: of 154 mixed files none had more than 3.3 (`benchmarks.doubts`)
_MORE = 1.05  # times as much, and one more, where a column has slipped

Floats = NDArray[np.float32]


def is_related(pairs: Sequence[tuple[str, str]]) -> bool:
    """Return whether the texts of each pair seem to belong together; of many, a stretch of the middle is looked at."""
    start = max(0, len(pairs) - MOST) // 2
    own, *slipped = measure_relation(pairs[start : start + MOST], _SHIFTS)
    return own >= _LEAST and own * _MORE + 1 >= max(slipped)


def measure_relation(pairs: Sequence[tuple[str, str]], shifts: Sequence[int] = ()) -> list[float]:
    """Measure how much more the pairs have in common than mixed ones, in standard deviations of these.

    Behind it stands the same for the second column slipped by each of the `shifts`.
    """
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    x, y = _weigh_ngrams(first), _weigh_ngrams(second)
    alike, kernel, other = x @ y.T, _center(x @ x.T), _center(y @ y.T)
    long, longer = (_rank([*map(len, texts)]) for texts in (first, second))
    places = np.arange(len(pairs))

    def compare(order: NDArray[np.int64]) -> list[float]:
        common = np.vdot(kernel, other[np.ix_(order, order)])
        return [float(common), float(alike[places, order].sum()), float(long @ longer[order])]

    draw = np.random.default_rng(0)
    mixed = np.array([compare(draw.permutation(places)) for _ in range(_MIXED)])
    asked = np.array([compare(np.roll(places, shift)) for shift in (0, *shifts)])
    spread = mixed.std(axis=0)
    deviations = np.where(spread > 0, (asked - mixed.mean(axis=0)) / np.maximum(spread, 1e-9), 0.0)
    return [float(each) for each in deviations.sum(axis=1) / np.sqrt(deviations.shape[1])]


def _weigh_ngrams(texts: Sequence[str]) -> Floats:
    """Return a unit vector for each text: its n-grams, those of few texts weighed more."""
    counts = np.zeros((len(texts), _FEATURES), dtype=np.float32)
    for row, text in enumerate(texts):
        grams = [*list_ngrams(unicodedata.normalize("NFD", text)), *_NUMBER.findall(text)]
        for gram, times in Counter(grams).items():
            counts[row, crc32(gram.encode()) % _FEATURES] += times
    weights = np.log(len(texts) / np.maximum((counts > 0).sum(axis=0), 1))
    vectors: Floats = np.log1p(counts) * weights.astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return vectors


def _center(kernel: Floats) -> Floats:
    np.fill_diagonal(kernel, 0.0)
    kernel -= kernel.mean(axis=0)
    kernel -= kernel.mean(axis=1, keepdims=True)
    return kernel


def _rank(lengths: Sequence[int]) -> Floats:
    """Return the ranks of lengths around 0; texts of one length have one rank."""
    _, place, count = np.unique(lengths, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(count) - (count + 1) / 2)[place].astype(np.float32)
    ranks -= ranks.mean()
    return ranks
