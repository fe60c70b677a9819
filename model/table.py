"""Physical token-embedding rows, copy-on-write, and views: which row a version reads for a token. Trains nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.base import BOT, EOT, VOCABULARY
from model.tokenizer import Tokenizer

_RESERVED = 1_000_000  # rows
NO_ROW = -1  # of a token that the tokenizer has, but no language ever trained


@dataclass(frozen=True)
class TokenRows:
    """Rows by token id: `ids` (n,) int64, ascending; `rows` (n, width) float32."""

    ids: NDArray[np.int64]
    rows: Tensor


class Table:
    """All rows of all opened versions, (count, width) float32, append-only: a row once written never changes.

    Readers take `rows` once and index it; an append either writes behind the rows they know or moves to a larger
    tensor, so neither disturbs the other.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self._count = len(rows)
        self._lock = Lock()

    def append(self, rows: Tensor) -> NDArray[np.int32]:
        """Write `rows` (n, width) behind the others; returns their physical numbers (n,)."""
        with self._lock:
            first, self._count = self._count, self._count + len(rows)
            if self._count > len(self.rows):
                grown = self._larger(max(self._count, len(self.rows) + len(self.rows) // 4))
                grown[:first] = self.rows[:first]
                self.rows = grown
            self.rows[first : self._count] = rows
            return np.arange(first, self._count, dtype=np.int32)

    def _larger(self, rows: int) -> Tensor:
        """A tensor of at least so many rows. In main memory of a million, since unwritten pages take no memory.

        So a table hardly ever moves to a larger one, when both would be in memory. NumPy allocates it, since torch
        fills new tensors in its deterministic mode.
        """
        if self.rows.device.type != "cpu":
            return self.rows.new_empty((rows, self.rows.shape[1]))
        return torch.from_numpy(np.empty((max(rows, _RESERVED), self.rows.shape[1]), dtype=np.float32))


@dataclass(frozen=True)
class View:
    """A version opened for encoding: its tokenizer and, for each token id, the physical row it reads.

    `physical` (size,) int32, `NO_ROW` where nothing was trained. `trained` has, for each language between version 0 and
    this version, the token ids (n,) of its corpora.
    """

    version: int
    language: str | None
    tokenizer: Tokenizer
    context_length: int
    physical: NDArray[np.int32] = field(repr=False)
    trained: Mapping[str, NDArray[np.int64]] = field(repr=False)
    ngrams: Mapping[str, int] = field(default_factory=dict, repr=False)  # for language identification

    @staticmethod
    def of_base(tokenizer: Tokenizer, context_length: int, ngrams: Mapping[str, int]) -> "View":
        """Version 0: CLIP's tokenizer and CLIP's rows."""
        physical = np.arange(VOCABULARY, dtype=np.int32)
        return View(0, "en", tokenizer, context_length, physical, {}, ngrams)

    def extend(
        self,
        version: int,
        language: str,
        tokenizer: Tokenizer,
        table: Table,
        added: TokenRows,
        ngrams: Mapping[str, int],
    ) -> "View":
        """The view of a version on top of this one, which stays as it is; rows of the same token are replaced."""
        physical = np.full(tokenizer.size, NO_ROW, dtype=np.int32)
        physical[: len(self.physical)] = self.physical
        physical[added.ids] = table.append(added.rows)
        own = np.union1d(self.trained.get(language, added.ids[:0]), added.ids)
        trained = {**self.trained, language: own}
        return View(version, language, tokenizer, self.context_length, physical, trained, ngrams)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of cleaned texts without specials; a token without a row is decomposed into parts that have one."""
        return [
            ids if (self.physical[ids] != NO_ROW).all() else [part for number in ids for part in self._trained(number)]
            for ids in self.tokenizer.encode(texts)
        ]

    def sequence(self, ids: Sequence[int]) -> tuple[NDArray[np.int32], bool]:
        """Physical rows (length,) of a text with begin and end of text, cut to the context; and whether it was cut."""
        most = self.context_length - 2
        return self.physical[[BOT, *ids[:most], EOT]], len(ids) > most

    def frequency(self, ids: NDArray[np.int64], language: str) -> NDArray[np.int64]:
        """TEIR's f of each id: 2 for CLIP's rows, 1 for others, plus one for each earlier language that trained it."""
        counts = np.where(ids < VOCABULARY, 2, 1)
        for other, held in self.trained.items():
            if other != language:
                counts += np.isin(ids, held)
        return counts

    def _trained(self, number: int) -> tuple[int, ...]:
        """A token, or the trained parts of one that nothing trained; CLIP's rows all count as trained."""
        if self.physical[number] != NO_ROW:
            return (number,)
        left, right = self.tokenizer.parts(number)
        return self._trained(left) + self._trained(right)


def pad(sequences: Sequence[NDArray[np.int32]], length: int | None = None) -> tuple[Tensor, Tensor]:
    """Stack row numbers to (n, length) int64, filled up with each text's last one, and the place of that (n,).

    `length` is that of the longest, unless given.
    """
    last = torch.tensor([len(sequence) - 1 for sequence in sequences])
    stacked = np.empty((len(sequences), length or int(last.max()) + 1), dtype=np.int64)
    for line, sequence in zip(stacked, sequences, strict=True):
        line[: len(sequence)] = sequence
        line[len(sequence) :] = sequence[-1]
    return torch.from_numpy(stacked), last
