"""Whether the time that refuses a key tells how much of it is right (row A9): `python -m benchmarks.key_timings`.

20,000 timings of keys with the right id: half have half of the secret right, half have none of it. Prints the p of
Mann and Whitney's test; there is no difference to see where it is above 0.01. By hand: a busy machine may spoil it.
"""

import hashlib
import math
import secrets
import sys
import time
from datetime import UTC, datetime
from random import Random

import numpy as np
from numpy.typing import NDArray

from store.keys import ApiKey

_TIMINGS = 20_000


def compute_p_value(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the two-sided p of Mann and Whitney's U test, by the normal distribution; ties have their mean rank."""
    both = np.concatenate([one, other])
    _, inverse, counts = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n, m = len(one), len(other)
    spread = math.sqrt(n * m / 12 * (n + m + 1 - (counts**3 - counts).sum() / ((n + m) * (n + m - 1))))
    z = (ranks[:n].sum() - n * (n + m + 1) / 2) / spread
    return math.erfc(abs(z) / math.sqrt(2))


def time_refusals(key: ApiKey, text: str, source: Random) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return nanoseconds of each refusal, in random order: of keys whose secret is half right, and of others."""
    start = len(f"pk_{key.id}_")
    half = start + (len(text) - start) // 2
    taken: tuple[list[int], list[int]] = ([], [])
    kinds = [source.randrange(2) for _ in range(_TIMINGS)]
    kept = [text[: half if kind == 0 else start] for kind in kinds]
    wrong = [each + secrets.token_urlsafe(64)[: len(text) - len(each)] for each in kept]  # made before, not between
    for kind, each in zip(kinds, wrong, strict=True):
        begun = time.perf_counter_ns()
        opened = key.is_opened_by(each)
        taken[kind].append(time.perf_counter_ns() - begun)
        assert not opened
    return np.array(taken[0], dtype=np.float64), np.array(taken[1], dtype=np.float64)


def main() -> None:
    """Print the medians and the p."""
    secret = secrets.token_urlsafe(32)
    id = secrets.token_hex(6)
    key = ApiKey(id, "search", "", datetime.now(UTC), None, None, None, hashlib.sha256(secret.encode()).digest())
    text = f"pk_{id}_{secret}"
    assert key.is_opened_by(text)
    half, none = time_refusals(key, text, Random(1))
    sys.stdout.write(
        f"{len(half):,} half right: median {np.median(half):.0f} ns; {len(none):,} wrong: {np.median(none):.0f} ns; "
        f"p = {compute_p_value(half, none):.3f}\n"
    )


if __name__ == "__main__":
    main()
