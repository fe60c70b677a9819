"""Growth of tokenizers: merges learned over the pieces that a base makes of words, and their use. Knows no rows.

Merges apply in the order of their rank, within words. So a line of tokenizers, each with the merges of the one before
it and some more, has them in memory once.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from threading import Lock

from tokenizers import Tokenizer as Engine
from tokenizers import models, pre_tokenizers, trainers

_PRIVATE = 0xF0000  # first of 131,000 private-use characters
_NEVER = (math.inf, -1)
Merge = tuple[str, str]
Word = tuple[int, ...]  # the pieces of a word


def learn_merges(
    texts: Sequence[Sequence[Word]], names: Callable[[int], str], size: int, least: int = 2
) -> list[Merge]:
    """Learn at most `size` merges of texts whose words are in pieces, in rank order; deterministic.

    `names` gives the piece of an id. Only pairs that occur `least` times are merged.
    """
    used = sorted({number for words in texts for word in words for number in word})
    symbol = {number: chr(_PRIVATE + place) for place, number in enumerate(used)}  # one character a piece
    lines = (" ".join("".join(map(symbol.__getitem__, word)) for word in words) for words in texts)
    learner = Engine(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=len(used) + size, min_frequency=least, show_progress=False)
    learner.train_from_iterator(lines, trainer)
    piece = {symbol[number]: names(number) for number in used}
    return [
        ("".join(piece[c] for c in left), "".join(piece[c] for c in right))
        for left, right in json.loads(learner.to_str())["model"]["merges"]
    ]


def find_needed_merges(merges: Sequence[Merge], tokens: Iterable[str]) -> tuple[Merge, ...]:
    """Return those of `merges` that some token of `tokens` needs."""
    needed, chosen = set(tokens), list[Merge]()
    for left, right in reversed(merges):  # a token's parts were merged before it
        if left + right in needed:
            needed.update((left, right))
            chosen.append((left, right))
    return tuple(reversed(chosen))


class PieceMerges:
    """The merges of the longest tokenizer of a line of versions, in rank order; it only ever grows. Thread-safe.

    A shorter tokenizer of the line reads with the first `count` of them. New tokens have ids from `first` on. One whose
    string is a piece of the base, which `id_of` finds, is that piece.
    """

    def __init__(self, first: int, id_of: Callable[[str], int | None]) -> None:
        self.merges: list[Merge] = []
        self.names: list[str] = []
        self.origin: list[tuple[int, int]] = []  # of each new token, the two that its first merge joins
        self.sizes = [first]  # one more than the largest id, after so many merges
        self._first, self._id_of, self._new = first, id_of, dict[str, int]()
        self._ranks: dict[tuple[int, int], tuple[float, int]] = {}
        self._lock = Lock()

    def extend(self, count: int, more: Sequence[Merge]) -> "PieceMerges":
        """Return this line with `more` after its first `count` merges; a new one where others are there already."""
        with self._lock:
            there = self.merges[count : count + len(more)]
            if there != [*more[: len(there)]]:
                branch = PieceMerges(self._first, self._id_of)
                branch._append([*self.merges[:count], *more])
                return branch
            self._append(more[len(there) :])
            return self

    def find_id(self, token: str) -> int:
        """Return the id of a token; raises `KeyError` when nothing makes it."""
        number = self._new.get(token)
        if number is None and (number := self._id_of(token)) is None:
            raise KeyError(token)
        return number

    def merge_word(self, word: Word, count: int) -> Word:
        """Return the pieces of a word after the first `count` merges: of the lowest rank first, from the left."""
        ranks, pieces = self._ranks, list(word)
        while len(pieces) > 1:
            rank, place = min((ranks.get(pair, _NEVER)[0], at) for at, pair in enumerate(pairwise(pieces)))
            if rank >= count:
                break
            pieces[place : place + 2] = [ranks[pieces[place], pieces[place + 1]][1]]
        return tuple(pieces)

    def _append(self, merges: Iterable[Merge]) -> None:
        for left, right in merges:
            parts, token = (self.find_id(left), self.find_id(right)), left + right
            number = self._new.get(token)
            if number is None and (number := self._id_of(token)) is None:
                number = self._new[token] = self._first + len(self.names)
                self.names.append(token)
                self.origin.append(parts)
            self._ranks.setdefault(parts, (len(self.merges), number))
            self.merges.append((left, right))
            self.sizes.append(self._first + len(self.names))
