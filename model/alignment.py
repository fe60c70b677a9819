"""Which English tokens a token of a new language stands for: IBM model 1 over captions and their English texts.

P. F. Brown et al., "The mathematics of statistical machine translation", 1993. Counts alone; no weights of any model.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 8  # of expectation and maximisation
_MOST = 2_000_000  # pairs of tokens; beyond, only as many captions are counted as give so many
Tokens = NDArray[np.int64]


def aligned(
    captions: Sequence[NDArray[np.int32]], english: Sequence[Sequence[int]]
) -> tuple[Tokens, Tokens, NDArray[np.float64]]:
    """Of all pairs of tokens that occur in a caption and its English text: both tokens, and their probability.

    That is p(English token | caption's token), which sums to 1 over each caption's token. All (m,), by the first token.
    The same input gives the same bits on every machine.
    """
    first, second, place, seen, filled = [], [], [], 0, 0
    for said, meant in zip(captions, english, strict=True):
        first.append(np.tile(said, len(meant)))
        second.append(np.repeat(meant, len(said)))
        place.append(np.repeat(np.arange(filled, filled + len(meant)), len(said)))
        seen, filled = seen + len(said) * len(meant), filled + len(meant)
        if seen > _MOST:
            break
    if not seen:
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing, np.empty(0)
    tokens = np.stack([np.concatenate(first), np.concatenate(second)]).astype(np.int64)
    (said, meant), pair = np.unique(tokens, axis=1, return_inverse=True)
    places, by_token = np.concatenate(place), np.unique(said, return_inverse=True)[1]
    probability = np.ones(len(said))
    for _ in range(_ROUNDS):
        weight = probability[pair]
        weight /= np.bincount(places, weight)[places]  # each English token comes from one token of the caption
        counts = np.bincount(pair, weight)
        probability = counts / np.bincount(by_token, counts)[by_token]
    return said, meant, probability
