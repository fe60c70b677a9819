"""Which English tokens a token of a new language stands for: two IBM models 1 that have to agree, over caption pairs.

P. F. Brown et al., "The mathematics of statistical machine translation", 1993; P. Liang, B. Taskar, D. Klein,
"Alignment by agreement", 2006. Counts alone; no weights of any model.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 8  # of expectation and maximisation
_MOST = 2_000_000  # pairs of tokens; beyond, only as many captions are counted as give so many
Tokens = NDArray[np.int64]
Shares = NDArray[np.float64]


def aligned(captions: Sequence[NDArray[np.int32]], english: Sequence[Sequence[int]]) -> tuple[Tokens, Tokens, Shares]:
    """Of all pairs of tokens that occur in a caption and its English text: both tokens, and their probability.

    That is p(English token | caption's token), which sums to 1 over each caption's token. All (m,), by the first token.
    The same input gives the same bits on every machine.
    """
    first, second, said_at, meant_at, seen = [], [], [], [], 0
    heard = read = 0  # tokens of captions and of English texts so far
    for said, meant in zip(captions, english, strict=True):
        first.append(np.tile(said, len(meant)))
        second.append(np.repeat(meant, len(said)))
        said_at.append(np.tile(np.arange(heard, heard + len(said)), len(meant)))
        meant_at.append(np.repeat(np.arange(read, read + len(meant)), len(said)))
        heard, read, seen = heard + len(said), read + len(meant), seen + len(said) * len(meant)
        if seen > _MOST:
            break
    if not seen:
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing, np.empty(0)
    tokens = np.stack([np.concatenate(first), np.concatenate(second)]).astype(np.int64)
    (said, meant), pair = np.unique(tokens, axis=1, return_inverse=True)
    by_said, by_meant = np.unique(said, return_inverse=True)[1], np.unique(meant, return_inverse=True)[1]
    own, other = np.concatenate(said_at), np.concatenate(meant_at)
    forth: Shares = np.ones(len(said))  # p(English token | caption's token), and the other way round:
    back = forth
    for _ in range(_ROUNDS):
        # an English token comes from one token of the caption, and that from one of the English: both at once, so that
        # a rare token does not take in what others leave unexplained
        weight = _shares(forth[pair], other) * _shares(back[pair], own)
        counts: Shares = np.bincount(pair, weight).astype(np.float64)
        forth, back = _shares(counts, by_said), _shares(counts, by_meant)
    return said, meant, forth


def _shares(weight: Shares, of: Tokens) -> Shares:
    """Each of the `weight` (n,) over the sum of all that have the same number in `of` (n,)."""
    shares: Shares = weight / np.bincount(of, weight)[of]
    return shares
