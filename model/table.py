"""Physical token-embedding rows, copy-on-write; how a tower reads them; views: which row a token has in a version."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from threading import Lock
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.lexicon import NO_WORDS, Lexicon, ReadText
from model.tokenizer import Tokenizer

_RESERVED = 1_000_000  # rows
NO_ROW = -1  # of a token that the tokenizer has, but no language ever trained


@dataclass(frozen=True)
class TokenRows:
    """Rows by token id: `ids` (n,) int64, ascending; `rows` (n, width) float32."""

    ids: NDArray[np.int64]
    rows: Tensor


class PhysicalRows:
    """All rows of a table as of one moment. `rows[numbers]` is (…, width) float32 for physical numbers (…) int64."""

    def __init__(self, base: Tensor, added: Tensor) -> None:
        self._base, self._added = base, added
        self.device, self.width = base.device, base.shape[1]

    def __getitem__(self, numbers: Tensor) -> Tensor:
        first = len(self._base)
        rows = self._base[numbers.clamp(max=first - 1)].float()
        if len(self._added):
            is_added = numbers >= first
            rows[is_added] = self._added[numbers[is_added] - first]
        return rows


class Table:
    """All rows of all opened versions, append-only: a row once written never changes.

    The first are the base's own, which may be halves and memory-mapped: they are neither copied nor changed. Readers
    take `rows` once and index it; an append either writes behind the rows they know or moves the added ones to a larger
    tensor, so neither disturbs the other.
    """

    def __init__(self, base: Tensor) -> None:
        self.rows = PhysicalRows(base, base.new_empty((0, base.shape[1]), dtype=torch.float32))
        self._base = base
        self._added = self.rows._added
        self._count = 0
        self._lock = Lock()

    def append(self, rows: Tensor) -> NDArray[np.int32]:
        """Write `rows` (n, width) behind the others; returns their physical numbers (n,)."""
        with self._lock:
            first, self._count = self._count, self._count + len(rows)
            if self._count > len(self._added):
                larger = self._allocate(max(self._count, len(self._added) + len(self._added) // 4))
                larger[:first] = self._added[:first]
                self._added = larger
                self.rows = PhysicalRows(self._base, larger)
            self._added[first : self._count] = rows
            return np.arange(first, self._count, dtype=np.int32) + np.int32(len(self._base))

    def _allocate(self, rows: int) -> Tensor:
        """Return a tensor of at least `rows` rows; in main memory of a million, since unwritten pages take no memory.

        So added rows hardly ever move to a larger one, when both would be in memory. NumPy allocates it, since torch
        fills new tensors in its deterministic mode.
        """
        if self._base.device.type != "cpu":
            return self._added.new_empty((rows, self._base.shape[1]))
        return torch.from_numpy(np.empty((max(rows, _RESERVED), self._base.shape[1]), dtype=np.float32))


@dataclass(frozen=True)
class Reading:
    """How a text tower reads the tokens of a text.

    `prefix` and `suffix` are the ids before and behind a text's own, of which so many are read that all fit into
    `context` places. `vocabulary` is the number of rows of the base's table: larger ids belong to learned languages. In
    a `causal` tower what stands behind a place has no influence on it. `pad` is the id that fills a text up to the
    context where the tower reads it; None where nothing behind a text is read, so that a text need not be filled up.
    Features are read off `at` the "end" of the suffix, or at the "last" place of the context.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    context: int
    vocabulary: int
    causal: bool = True
    pad: int | None = None
    at: Literal["end", "last"] = "end"

    @property
    def most_tokens(self) -> int:
        """Return how many tokens of a text are read."""
        return self.context - len(self.prefix) - len(self.suffix)

    @property
    def specials(self) -> tuple[int, ...]:
        """Return the ids that no text gives: prefix, suffix and a pad that is read. Nothing ever trains their rows."""
        return (*self.prefix, *self.suffix, *(() if self.pad is None else (self.pad,)))

    def measure_length(self, tokens: int) -> int:
        """Return the places that a sequence of so many tokens, with prefix and suffix, takes in the tower."""
        return tokens if self.pad is None else self.context

    def describe(self) -> dict[str, object]:
        """Return all of it, for a fingerprint."""
        return asdict(self)


@dataclass(frozen=True)
class View:
    """A version opened for encoding: its tokenizer and, for each token id, the physical row it reads.

    `physical` (size,) int32, `NO_ROW` where nothing was trained. `trained` has, for each language between version 0 and
    this version, the token ids (n,) of its corpora.
    """

    version: int
    language: str | None
    tokenizer: Tokenizer
    reading: Reading
    physical: NDArray[np.int32] = field(repr=False)
    trained: Mapping[str, NDArray[np.int64]] = field(repr=False)
    ngrams: Mapping[str, int] = field(default_factory=dict, repr=False)  # for language identification
    lexicon: Lexicon = NO_WORDS  # of its language

    @staticmethod
    def create_for_base(tokenizer: Tokenizer, reading: Reading, ngrams: Mapping[str, int], version: int = 0) -> "View":
        """Return the base's own tokenizer and rows, which are this version."""
        return View(version, "en", tokenizer, reading, np.arange(reading.vocabulary, dtype=np.int32), {}, ngrams)

    def extend(
        self,
        version: int,
        language: str,
        tokenizer: Tokenizer,
        table: Table,
        added: TokenRows,
        ngrams: Mapping[str, int],
        lexicon: Lexicon = NO_WORDS,
    ) -> "View":
        """Return the view of a version on top of this one, which stays as it is; rows of a token are replaced."""
        physical = np.full(tokenizer.size, NO_ROW, dtype=np.int32)
        physical[: len(self.physical)] = self.physical
        physical[added.ids] = table.append(added.rows)
        own = np.union1d(self.trained.get(language, added.ids[:0]), added.ids)
        trained = {**self.trained, language: own}
        return View(version, language, tokenizer, self.reading, physical, trained, ngrams, lexicon)

    @cached_property
    def shared(self) -> "View":
        """Return this version as it reads texts of any language: by every row that it has, and by no lexicon."""
        return replace(self, lexicon=NO_WORDS)

    def read(self, text: str) -> ReadText:
        """Return a cleaned text in words that its language was taught; English ones that the base knows stay."""
        return self.lexicon.read(text, self.tokenizer.pieces.has_word) if self.lexicon.words else ReadText(text)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return token ids of cleaned texts without specials; a token without a row is cut into parts that have one."""
        return [
            ids
            if (self.physical[ids] != NO_ROW).all()
            else [part for number in ids for part in self.find_trained_parts(number, self.tokenizer)]
            for ids in self.tokenizer.encode([self.read(text).text for text in texts])
        ]

    def build_sequence(self, ids: Sequence[int]) -> tuple[NDArray[np.int32], bool]:
        """Return physical rows (length,) of a text within the base's prefix and suffix; and whether it was cut."""
        reading, most = self.reading, self.reading.most_tokens
        return self.physical[[*reading.prefix, *ids[:most], *reading.suffix]], len(ids) > most

    def count_frequency(self, ids: NDArray[np.int64], language: str) -> NDArray[np.int64]:
        """Return TEIR's f of each id: 2 for the base's rows, else 1, and 1 for each other language that trained it."""
        counts = np.where(ids < self.reading.vocabulary, 2, 1)
        for other, trained_ids in self.trained.items():
            if other != language:
                counts += np.isin(ids, trained_ids)
        return counts

    def find_trained_parts(self, number: int, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Return the token if it is trained, else its trained parts; `tokenizer` may continue this view's."""
        if number < len(self.physical) and self.physical[number] != NO_ROW:
            return (number,)
        left, right = tokenizer.get_parts(number)
        return self.find_trained_parts(left, tokenizer) + self.find_trained_parts(right, tokenizer)


def pad(
    sequences: Sequence[NDArray[np.int32]], reading: Reading, length: int | None = None, filler: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return row numbers stacked to (n, length) int64, and the place (n,) where each text is read off.

    Where the tower reads pads they are filled up to the context, with `filler` or else with the base's own pad row.
    Elsewhere each is filled up with its last number, to `length` or else to the longest.
    """
    last = torch.tensor([len(sequence) - 1 for sequence in sequences])
    if reading.pad is not None:
        length, filler = reading.context, reading.pad if filler is None else filler
    stacked = np.empty((len(sequences), length or int(last.max()) + 1), dtype=np.int64)
    for line, sequence in zip(stacked, sequences, strict=True):
        line[: len(sequence)] = sequence
        line[len(sequence) :] = sequence[-1] if filler is None else filler
    if reading.at == "last":
        last = torch.full_like(last, stacked.shape[1] - 1)
    return torch.from_numpy(stacked), last
