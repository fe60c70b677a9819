"""Byte-pair merges: CLIP's own and those that languages append. One BPE in memory serves a whole line of versions.

Along such a line each tokenizer has the merges of the one before it and some more, of later rank. Merges apply in the
order of their rank, so the longest makes of a text what a shorter one makes of it, with some pieces joined further. A
token of the longest, read by itself with the merges of the shorter, therefore gives exactly the shorter one's pieces.
"""

import gzip
import math
from collections.abc import Sequence
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from threading import Lock

from open_clip.tokenizer import bytes_to_unicode, default_bpe
from tokenizers import models

Merge = tuple[str, str]
SUFFIX = "</w>"  # marks a token that ends a word
CLIP_TOKENS = 49_408  # of CLIP itself; the last two are begin and end of text, larger ids belong to learned languages


@cache
def clip_merges() -> tuple[Merge, ...]:
    """CLIP's 48,894 merges in rank order, from the file that open_clip ships."""
    lines = gzip.decompress(Path(default_bpe()).read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    return tuple((left, right) for left, right in (line.split() for line in lines))


@cache
def clip_vocabulary() -> dict[str, int]:
    """CLIP's tokens and ids without the two specials, which no text may produce."""
    symbols = list(bytes_to_unicode().values())
    tokens = [*symbols, *(symbol + SUFFIX for symbol in symbols), *(a + b for a, b in clip_merges())]
    return {token: number for number, token in enumerate(tokens)}


def new_tokens(added: Sequence[Merge]) -> dict[str, Merge]:
    """The tokens that `added` has beyond CLIP's, in the order of their ids, with the first merge that made each."""
    clip, made_by = clip_vocabulary(), dict[str, Merge]()
    for merge in added:
        token = merge[0] + merge[1]
        if token not in clip:
            made_by.setdefault(token, merge)
    return made_by


def vocabulary(tokens: Sequence[str]) -> dict[str, int]:
    """CLIP's tokens and ids, and new `tokens` behind."""
    return {**clip_vocabulary(), **{token: CLIP_TOKENS + place for place, token in enumerate(tokens)}}


class BytePairs:
    """A BPE of CLIP's merges followed by `added`; never changes. Its `model` may be shared by any number of engines."""

    def __init__(self, added: tuple[Merge, ...]) -> None:
        self.count, self._added = len(added), added
        new = new_tokens(added)
        self._origin = tuple(new.values())
        self.size = CLIP_TOKENS + len(new)
        self.model = models.BPE(vocab=vocabulary([*new]), merges=[*clip_merges(), *added], end_of_word_suffix=SUFFIX)

    def parts(self, number: int) -> tuple[int, int]:
        """The two tokens that one above CLIP's was first merged from."""
        left, right = self._origin[number - CLIP_TOKENS]
        return self._id(left), self._id(right)

    def cut(self, number: int, count: int) -> tuple[int, ...]:
        """A token of this BPE read with only the first `count` appended merges, by plain BPE."""
        token = self.model.id_to_token(number) or ""
        pieces = [*token.removesuffix(SUFFIX)]
        pieces[-1] += SUFFIX if token.endswith(SUFFIX) else ""
        known = len(clip_merges()) + count
        while len(pieces) > 1:
            rank, place = min((self._ranks.get(pair, math.inf), at) for at, pair in enumerate(pairwise(pieces)))
            if rank >= known:
                break
            pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
        return tuple(self._id(piece) for piece in pieces)

    def _id(self, token: str) -> int:
        number: int = self.model.token_to_id(token)  # type: ignore[assignment]  # each part is a token itself
        return number

    @cached_property
    def _ranks(self) -> dict[Merge, int]:
        return {merge: rank for rank, merge in enumerate((*clip_merges(), *self._added))}


class SharedBPE:
    """The merges of the longest tokenizer of a line, and a BPE that is built of them at its first use. Thread-safe.

    A BPE never changes; a longer one replaces it, and the shorter one is freed when no reader uses it.
    """

    def __init__(self, added: tuple[Merge, ...] = ()) -> None:
        self._longest = added
        self._pairs: BytePairs | None = None
        self._lock = Lock()

    def holding(self, added: tuple[Merge, ...]) -> "SharedBPE":
        """This one, extended by `added` where that continues it; a new one where `added` branches off."""
        with self._lock:
            common = min(len(added), len(self._longest))
            if added[:common] != self._longest[:common]:
                return type(self)(added)
            if len(added) > common:
                self._longest = added
            return self

    def pairs(self, count: int) -> BytePairs:
        """The newest BPE; built again when it lacks some of the first `count` appended merges."""
        pairs = self._pairs
        if pairs is None or pairs.count < count:
            with self._lock:
                pairs = self._pairs
                if pairs is None or pairs.count < count:
                    pairs = self._pairs = BytePairs(self._longest)
        return pairs
